//! What the rules on writes ask of a state beside its values: states that a write would make, and
//! who and what stands around a resource.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::{State, stored};
use crate::index::{Index, NodeId};
use crate::schema::RelId;
use crate::tuple::{Object, Subject, SubjectRef, Tuple, TupleFilter};

impl State {
    /// The state after granting (`true`) or revoking tuples that its schema takes.
    pub(crate) fn with_tuples<'t>(&self, writes: impl Iterator<Item = (&'t Tuple, bool)>) -> Self {
        // It fails for tuples that no schema of this history takes; `plan` refuses these before.
        let index = stored::written(&self.index, writes, self.revision.next());
        Self {
            index: index.unwrap_or_else(|_| self.index.clone()),
            ..self.clone()
        }
    }

    /// The state in which the tuple's relation holds it and nothing else on its resource; `None`
    /// where it is so already. With `as_given` it has its caveat and expiry, else neither. It is
    /// good for questions alone: no tuples are selected of it.
    pub(crate) fn with_only(&self, tuple: &Tuple, as_given: bool) -> Option<Self> {
        let plain;
        let alone = match as_given || tuple.is_plain() {
            true => tuple,
            false => {
                plain = Tuple {
                    caveat: None,
                    expires_at: None,
                    ..tuple.clone()
                };
                &plain
            }
        };
        if self.stands_alone(alone) {
            return None;
        }
        let index = stored::with_only(&self.index, alone);
        Some(Self {
            index: index.unwrap_or_else(|| self.only_stored(alone)),
            ..self.clone()
        })
    }

    /// The same index for a tuple that names what is new to it.
    fn only_stored(&self, alone: &Tuple) -> Index {
        let filter = relation_of(alone);
        let stored: Vec<Tuple> = self.select(&filter).collect();
        let gone = stored.iter().map(|tuple| (tuple, false));
        let writes = gone.chain([(alone, true)]);
        let index = stored::written(&self.index, writes, self.revision.next());
        index.unwrap_or_else(|_| self.index.clone())
    }

    /// Whether a relation of a resource has just this tuple.
    fn stands_alone(&self, tuple: &Tuple) -> bool {
        let kind = self.names.type_id(tuple.resource.kind());
        let node = kind.and_then(|kind| self.index.node(kind, tuple.resource.id()));
        let (Some(node), Some(relation)) = (node, self.names.rel_id(&tuple.relation)) else {
            return false;
        };
        let groups = self.index.subject_groups(node, relation);
        let mut edges = groups.flat_map(|group| group.iter());
        let (first, second) = (edges.next(), edges.next());
        let maybe = |node| self.index.id_of(node) == tuple.subject.id();
        let only = first.filter(|_| second.is_none());
        only.is_some_and(|edge| maybe(edge.node)) && self.find(tuple).as_ref() == Some(tuple)
    }

    /// How many direct tuples without caveat and expiry a relation of a resource has; at most
    /// `most` are counted.
    pub(crate) fn count_direct(&self, resource: &Object, relation: &Arc<str>, most: usize) -> u64 {
        let filter = TupleFilter {
            resource_type: Some(resource.kind().into()),
            resource_id: Some(resource.id().into()),
            relation: Some(Arc::clone(relation)),
            subject_relation: Some(None),
            ..TupleFilter::default()
        };
        let counted = self.select(&filter).filter(Tuple::is_plain);
        counted.take(most).count() as u64
    }

    /// Objects of a type that stand somewhere in the tuples of a resource, or of what its tuples
    /// lead to, the nearest first; at most `most` tuples are followed.
    pub(crate) fn subjects_around(
        &self,
        resource: &Object,
        kind: &str,
        most: usize,
    ) -> Vec<Subject> {
        let (Some(resource_kind), Some(kind)) = (
            self.names.type_id(resource.kind()),
            self.names.type_id(kind),
        ) else {
            return Vec::new();
        };
        let first = self.index.node(resource_kind, resource.id());
        let mut open: VecDeque<NodeId> = first.into_iter().collect();
        let mut seen: HashSet<NodeId> = open.iter().copied().collect();
        let (mut found, mut followed) = (Vec::new(), 0);
        while let Some(node) = open.pop_front() {
            for group in self.index.all_subject_groups(node) {
                for edge in group.iter() {
                    followed += 1;
                    if followed > most {
                        return found;
                    }
                    if !seen.insert(edge.node) {
                        continue;
                    }
                    open.push_back(edge.node);
                    let id = self.index.id_of(edge.node);
                    if group.kind == kind && group.subject_relation == RelId::NONE && id != "*" {
                        let name = self.names.type_name(kind);
                        found.push(SubjectRef::known(name, id, None).to_subject());
                    }
                }
            }
        }
        found
    }
}

fn relation_of(tuple: &Tuple) -> TupleFilter {
    TupleFilter {
        resource_type: Some(tuple.resource.kind().into()),
        resource_id: Some(tuple.resource.id().into()),
        relation: Some(Arc::clone(&tuple.relation)),
        ..TupleFilter::default()
    }
}
