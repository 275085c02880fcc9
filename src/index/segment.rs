//! A 64th of the index: the nodes whose hash falls into it, with all tuples on either side of
//! them.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use smallvec::SmallVec;

use crate::schema::TypeId;

use super::NodeId;
use super::base::{Nodes, Side};
use super::delta::{Delta, Entry};
use super::group::{Head, NodeSide};

/// A frozen base under a small delta.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    base: Arc<Base>,
    /// Nodes that the base lacks, and the way to them by hash.
    added: Vector<Added>,
    added_by_hash: OrdMap<u64, SmallVec<[u32; 1]>>,
    forward: Delta,
    backward: Delta,
    pending: u64,
}

/// What does not change until the next merge.
#[derive(Debug, Default)]
pub(super) struct Base {
    pub nodes: Nodes,
    pub forward: Side,
    pub backward: Side,
}

#[derive(Clone, Debug)]
struct Added {
    kind: TypeId,
    hash: u64,
    id: Arc<str>,
}

/// A new base for one segment, and what it was made of.
#[derive(Debug)]
pub struct Merged {
    pub(super) segment: usize,
    base: Base,
    sequence: u64,
}

impl Segment {
    pub fn from_base(base: Base) -> Self {
        Self {
            base: Arc::new(base),
            ..Self::default()
        }
    }

    pub fn base(&self) -> &Base {
        &self.base
    }

    pub fn node_count(&self) -> u32 {
        let added = u32::try_from(self.added.len()).unwrap_or(u32::MAX);
        self.base.nodes.len().saturating_add(added)
    }

    /// Entries of the delta, nodes included.
    pub fn pending(&self) -> u64 {
        self.pending + self.added.len() as u64
    }

    pub fn find_node(&self, hash: u64, kind: TypeId, id: &str) -> Option<u32> {
        self.base.nodes.find(hash, kind, id).or_else(|| {
            let same = |local: &&u32| {
                self.added(**local)
                    .is_some_and(|node| node.kind == kind && *node.id == *id)
            };
            self.added_by_hash.get(&hash)?.iter().find(same).copied()
        })
    }

    pub fn add_node(&mut self, hash: u64, kind: TypeId, id: &str) -> u32 {
        let local = self.node_count();
        let id = id.into();
        self.added.push_back(Added { kind, hash, id });
        self.added_by_hash.entry(hash).or_default().push(local);
        local
    }

    pub fn kind_of(&self, local: u32) -> Option<TypeId> {
        let base = self.base.nodes.kind(local);
        base.or_else(|| self.added(local).map(|node| node.kind))
    }

    pub fn hash_of(&self, local: u32) -> Option<u64> {
        let base = self.base.nodes.hash(local);
        base.or_else(|| self.added(local).map(|node| node.hash))
    }

    pub fn id_of(&self, local: u32) -> Option<&str> {
        let base = self.base.nodes.id(local);
        base.or_else(|| self.added(local).map(|node| &*node.id))
    }

    fn added(&self, local: u32) -> Option<&Added> {
        let place = local.checked_sub(self.base.nodes.len())?;
        self.added.get(place as usize)
    }

    pub fn forward(&self, local: u32) -> NodeSide<'_> {
        NodeSide {
            side: &self.base.forward,
            local,
            delta: self.forward.node(local),
        }
    }

    pub fn backward(&self, local: u32) -> NodeSide<'_> {
        NodeSide {
            side: &self.base.backward,
            local,
            delta: self.backward.node(local),
        }
    }

    pub fn put_forward(&mut self, local: u32, head: Head, other: NodeId, entry: Entry) {
        self.pending += u64::from(self.forward.put(local, head, other, entry));
    }

    pub fn put_backward(&mut self, local: u32, head: Head, other: NodeId, entry: Entry) {
        self.pending += u64::from(self.backward.put(local, head, other, entry));
    }

    /// Base and delta as one new base.
    pub fn merge(&self, segment: usize, sequence: u64) -> Merged {
        Merged {
            segment,
            base: self.merged(),
            sequence,
        }
    }

    pub fn merged(&self) -> Base {
        let mut nodes = self.base.nodes.clone();
        nodes.reserve(self.added.len());
        for node in &self.added {
            nodes.push(node.kind, node.hash, &node.id);
        }
        nodes.text.shrink_to_fit();
        let mut base = Base {
            nodes,
            forward: Side::default(),
            backward: Side::default(),
        };
        for local in 0..base.nodes.len() {
            for group in self.forward(local).groups(None) {
                base.forward
                    .push_group(group.head(), group.granted(None), true);
            }
            base.forward.end_node();
            for group in self.backward(local).groups(None) {
                base.backward
                    .push_group(group.head(), group.granted(None), false);
            }
            base.backward.end_node();
        }
        base.forward.shrink();
        base.backward.shrink();
        base
    }

    /// The new base under what landed since it was begun.
    pub fn rebase(&self, merged: Merged) -> Self {
        let taken = merged
            .base
            .nodes
            .len()
            .saturating_sub(self.base.nodes.len());
        let added = self.added.skip(taken as usize);
        let mut next = Self::from_base(merged.base);
        for node in &added {
            next.add_node(node.hash, node.kind, &node.id);
        }
        let (forward, forward_count) = self.forward.after(merged.sequence);
        let (backward, backward_count) = self.backward.after(merged.sequence);
        (next.forward, next.backward) = (forward, backward);
        next.pending = forward_count + backward_count;
        next
    }
}
