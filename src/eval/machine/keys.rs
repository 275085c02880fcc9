//! The dependency keys that an evaluation rests on.

use crate::index::NodeId;
use crate::schema::RelId;

use super::super::dependencies::{membership_key, subjects_key};
use super::{Machine, NO_RESOURCE, NO_SUBJECT, Rest};

impl Machine<'_> {
    pub(super) fn subjects_key(&self, node: NodeId, relation: RelId) -> u64 {
        subjects_key(self.ground.index, self.hash(node), relation)
    }

    pub(super) fn hash(&self, node: NodeId) -> u64 {
        match node {
            NO_RESOURCE => self.unknown[0],
            NO_SUBJECT => self.unknown[1],
            _ => self.ground.index.hash_of(node),
        }
    }

    /// The keys that the value of the root rests on, sorted, each once.
    pub(in crate::eval) fn dependencies(&self) -> Vec<u64> {
        let mut keys = Vec::new();
        let mut seen = vec![false; self.entries.len()];
        let mut absent = vec![false; self.closures.len()];
        let mut open = vec![0_u32];
        while let Some(place) = open.pop() {
            let Some(entry) = self.entries.get(place as usize) else {
                continue;
            };
            match seen.get_mut(place as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            for rest in &entry.rests_on {
                match *rest {
                    Rest::Key(key) => keys.push(key),
                    Rest::Goal(goal) => open.push(goal),
                    Rest::Absent(at) => {
                        if let Some(at) = absent.get_mut(at as usize) {
                            *at = true;
                        }
                    }
                    Rest::Fact(at, fact) => {
                        if let Some(closure) = self.closures.get(at as usize) {
                            closure.proof(self.ground, fact, |node| self.hash(node), &mut keys);
                        }
                    }
                }
            }
        }
        for (closure, _) in self
            .closures
            .iter()
            .zip(absent)
            .filter(|(_, absent)| *absent)
        {
            closure.keys(self.ground, |node| self.hash(node), &mut keys);
            if self.who.relation == RelId::NONE && !self.who.is_wildcard {
                keys.push(membership_key(self.who.wildcard_hash));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
