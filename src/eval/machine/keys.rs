//! The dependency keys that an evaluation rests on.

use crate::index::{NodeId, object_hash};
use crate::schema::RelId;
use crate::tuple::ObjectRef;

use super::super::dependencies::subjects_key;
use super::{Machine, Rest, Unknown, number};

impl<'a> Machine<'a> {
    pub(super) fn subjects_key(&self, node: NodeId, relation: RelId) -> u64 {
        let index = self.ground.index;
        // All assignments of one block on a resource are the subjects of one relation.
        let hash = match index.site(node) {
            Some(site) => object_hash(index.seed(), site.resource.kind(), site.resource.id()),
            None => self.hash(node),
        };
        subjects_key(index, hash, relation)
    }

    pub(super) fn hash(&self, node: NodeId) -> u64 {
        let index = self.ground.index;
        match self.unknown(node) {
            Some(object) => object.map_or(0, |object| {
                object_hash(index.seed(), object.kind(), object.id())
            }),
            None => index.hash_of(node),
        }
    }

    fn unknown(&self, node: NodeId) -> Option<Unknown<'a>> {
        self.unknown.get((u32::MAX - node.0) as usize).copied()
    }

    pub(super) fn is_unknown(&self, node: NodeId) -> bool {
        self.unknown(node).is_some()
    }

    /// What an object is called that the index does not know.
    pub(super) fn unknown_name(&self, node: NodeId) -> Option<ObjectRef<'a>> {
        self.unknown(node).flatten()
    }

    /// The keys that the value of the root rests on, sorted, each once.
    pub(in crate::eval) fn dependencies(&self) -> Vec<u64> {
        let mut keys = Vec::new();
        let mut seen = vec![false; self.goals.len()];
        let mut absent = vec![false; self.closures.len()];
        let mut open = vec![0_u32];
        if let Some(rests) = &self.denial {
            // That a denial is one of locks rests on all that was evaluated.
            open.extend(1..number(self.goals.len()));
            for rest in rests {
                self.take_rest(*rest, &mut open, &mut absent, &mut keys);
            }
        }
        while let Some(place) = open.pop() {
            let Some(entry) = self.goals.get(place) else {
                continue;
            };
            match seen.get_mut(place as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            for rest in &entry.rests_on {
                self.take_rest(*rest, &mut open, &mut absent, &mut keys);
            }
        }
        for (closure, _) in self
            .closures
            .iter()
            .zip(absent)
            .filter(|(_, absent)| *absent)
        {
            closure.keys(self.ground, self.who, |node| self.hash(node), &mut keys);
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn take_rest(&self, rest: Rest, open: &mut Vec<u32>, absent: &mut [bool], keys: &mut Vec<u64>) {
        match rest {
            Rest::Key(key) => keys.push(key),
            Rest::Goal(goal) => open.push(goal),
            Rest::Absent(at) => {
                if let Some(at) = absent.get_mut(at as usize) {
                    *at = true;
                }
            }
            Rest::Fact(at, fact) => {
                if let Some(closure) = self.closures.get(at as usize) {
                    closure.proof(self.ground, fact, |node| self.hash(node), keys);
                }
            }
        }
    }
}
