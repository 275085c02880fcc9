//! What an index would say if a relation of one resource had a single tuple: a few nodes that are
//! looked at before the stored ones, instead of a new version of all that they lie in. A write of
//! many tuples is judged by one such index a tuple.

use std::sync::Arc;

use smallvec::SmallVec;

use super::delta::{Entry, NodeDelta, Put};
use super::group::{Head, NodeSide};
use super::{Edit, Index, NodeId, Op};

/// All that has changed of some nodes, as the delta would have it.
#[derive(Clone, Debug)]
pub(super) struct Instead {
    forward: (NodeId, NodeDelta),
    backward: SmallVec<[(NodeId, NodeDelta); 2]>,
}

impl Instead {
    pub fn forward<'a>(&'a self, node: NodeId, side: NodeSide<'a>) -> NodeSide<'a> {
        match self.forward.0 == node {
            true => NodeSide {
                delta: Some(&self.forward.1),
                ..side
            },
            false => side,
        }
    }

    pub fn backward<'a>(&'a self, node: NodeId, side: NodeSide<'a>) -> NodeSide<'a> {
        match self.backward.iter().find(|(known, _)| *known == node) {
            Some((_, delta)) => NodeSide {
                delta: Some(delta),
                ..side
            },
            None => side,
        }
    }
}

impl Index {
    /// The index in which a relation of the edit's resource has the tuple that it puts, and no
    /// other; `None` where the index knows one of the tuple's objects not at all.
    ///
    /// It answers questions, as long as they are about nodes: it is not to be scanned or changed.
    pub(crate) fn with_only(&self, edit: &Edit<'_>) -> Option<Self> {
        let Op::Put(restriction) = &edit.op else {
            return None;
        };
        let resource = self.node(edit.resource.0, edit.resource.1)?;
        let subject = self.node(edit.subject.0, edit.subject.1)?;
        let stored = self.forward(resource).delta.cloned();
        let mut instead = Instead {
            forward: (resource, stored.unwrap_or_default()),
            backward: SmallVec::new(),
        };
        for group in self.subject_groups(resource, edit.relation) {
            for edge in group.iter() {
                self.imagine(&mut instead, (group.head(), edge.node), edit, Put::Removed);
            }
        }
        let head = Head {
            relation: edit.relation,
            kind: edit.subject.0,
            set: edit.subject_relation,
        };
        let put = Put::Stands(restriction.clone());
        self.imagine(&mut instead, (head, subject), edit, put);
        Some(Self {
            instead: Some(Arc::new(instead)),
            ..self.clone()
        })
    }

    /// Whether it is what is imagined of another index, whose nodes are the same.
    pub(crate) fn shares_nodes(&self) -> bool {
        self.instead.is_some()
    }

    /// Notes what becomes of one tuple of the edit's resource, on both sides.
    fn imagine(
        &self,
        instead: &mut Instead,
        (head, subject): (Head, NodeId),
        edit: &Edit<'_>,
        put: Put,
    ) {
        let entry = Entry {
            put,
            revision: crate::revision::Revision::default(),
            sequence: self.sequence,
        };
        let resource = instead.forward.0;
        instead.forward.1.put(head, subject, entry.clone());
        let place = instead
            .backward
            .iter()
            .position(|(node, _)| *node == subject);
        let place = place.unwrap_or_else(|| {
            let stored = self.backward(subject).delta.cloned();
            instead.backward.push((subject, stored.unwrap_or_default()));
            instead.backward.len() - 1
        });
        let seen_from_there = Head {
            kind: edit.resource.0,
            ..head
        };
        if let Some((_, node)) = instead.backward.get_mut(place) {
            node.put(seen_from_there, resource, entry);
        }
    }
}
