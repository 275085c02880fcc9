//! The frozen part of a segment: nodes and both directions of their tuples, in flat arrays.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::revision::Revision;
use crate::schema::TypeId;

use super::Restriction;
use super::group::{Granted, Head};

/// The nodes of a base: types, hashes and ids, and the way from an id to its node.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    pub kinds: Vec<TypeId>,
    pub hashes: Vec<u64>,
    /// The ids, one after the other, and where each ends.
    pub text: Vec<u8>,
    pub ends: Vec<u32>,
    table: HashTable<u32>,
}

/// One direction of the tuples of a base. A node's groups lie from `starts[node]` to
/// `starts[node + 1]`, a group's targets from the end of the group before it to its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub starts: Vec<u32>,
    pub heads: Vec<Head>,
    pub ends: Vec<u32>,
    pub targets: Vec<u32>,
    /// The revision of each target, forward only; the last that fits where it is larger.
    pub revisions: Vec<u32>,
    /// Targets with a restriction, by their place, ascending.
    pub restrictions: Vec<(u32, Arc<Restriction>)>,
}

impl Nodes {
    pub fn len(&self) -> u32 {
        u32::try_from(self.kinds.len()).unwrap_or(u32::MAX)
    }

    pub fn find(&self, hash: u64, kind: TypeId, id: &str) -> Option<u32> {
        let same = |local: &u32| self.kind(*local) == Some(kind) && self.id(*local) == Some(id);
        self.table.find(hash, same).copied()
    }

    pub fn kind(&self, local: u32) -> Option<TypeId> {
        self.kinds.get(local as usize).copied()
    }

    pub fn hash(&self, local: u32) -> Option<u64> {
        self.hashes.get(local as usize).copied()
    }

    pub fn id(&self, local: u32) -> Option<&str> {
        let end = *self.ends.get(local as usize)? as usize;
        let begin = match local.checked_sub(1) {
            Some(before) => *self.ends.get(before as usize)? as usize,
            None => 0,
        };
        std::str::from_utf8(self.text.get(begin..end)?).ok()
    }

    pub fn push(&mut self, kind: TypeId, hash: u64, id: &str) {
        let local = self.len();
        self.kinds.push(kind);
        self.hashes.push(hash);
        self.text.extend_from_slice(id.as_bytes());
        self.ends
            .push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        let hashes = &self.hashes;
        let hash_of = |local: &u32| hashes.get(*local as usize).copied().unwrap_or(0);
        self.table.insert_unique(hash, local, hash_of);
    }

    /// Makes room for so many more nodes, once.
    pub fn reserve(&mut self, more: usize) {
        let hashes = &self.hashes;
        self.table.reserve(more, |local| {
            hashes.get(*local as usize).copied().unwrap_or(0)
        });
        self.kinds.reserve_exact(more);
        self.hashes.reserve_exact(more);
        self.ends.reserve_exact(more);
    }
}

impl Side {
    /// Appends a group of the node that is being built; empty ones are left out.
    pub fn push_group<'a>(
        &mut self,
        head: Head,
        edges: impl Iterator<Item = Granted<'a>>,
        with_revisions: bool,
    ) {
        let before = self.targets.len();
        for granted in edges {
            if let Some(restriction) = granted.edge.restriction {
                let place = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
                self.restrictions
                    .push((place, Arc::new(restriction.clone())));
            }
            self.targets.push(granted.edge.node.0);
            if with_revisions {
                self.revisions
                    .push(u32::try_from(granted.revision.0).unwrap_or(u32::MAX));
            }
        }
        if self.targets.len() > before {
            self.heads.push(head);
            self.ends
                .push(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        }
    }

    /// Ends the node that is being built.
    pub fn end_node(&mut self) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.starts
            .push(u32::try_from(self.heads.len()).unwrap_or(u32::MAX));
    }

    pub fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.heads.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.targets.shrink_to_fit();
        self.revisions.shrink_to_fit();
        self.restrictions.shrink_to_fit();
    }

    /// The groups of a node: head, place of the first target, targets.
    pub fn groups(&self, local: u32) -> impl Iterator<Item = (Head, u32, &[u32])> {
        let at = |node: usize| self.starts.get(node).map_or(0, |place| *place as usize);
        let range = at(local as usize)..at((local as usize).saturating_add(1));
        range.filter_map(|place| {
            let (first, targets) = self.targets_of(place)?;
            Some((*self.heads.get(place)?, first, targets))
        })
    }

    /// The group of this head: place of the first target, targets.
    pub fn find(&self, local: u32, head: Head) -> Option<(u32, &[u32])> {
        let at = |node: usize| self.starts.get(node).map_or(0, |place| *place as usize);
        let range = at(local as usize)..at((local as usize).saturating_add(1));
        let heads = self.heads.get(range.clone())?;
        let place = heads.iter().position(|known| *known == head)?;
        self.targets_of(range.start + place)
    }

    fn targets_of(&self, group: usize) -> Option<(u32, &[u32])> {
        let end = *self.ends.get(group)?;
        let first = match group.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some((first, self.targets.get(first as usize..end as usize)?))
    }

    pub fn restriction(&self, place: usize) -> Option<&Restriction> {
        if self.restrictions.is_empty() {
            return None;
        }
        let place = u32::try_from(place).ok()?;
        let found = self
            .restrictions
            .binary_search_by_key(&place, |(at, _)| *at)
            .ok()?;
        self.restrictions
            .get(found)
            .map(|(_, restriction)| &**restriction)
    }

    pub fn revision(&self, place: usize) -> Revision {
        Revision(self.revisions.get(place).copied().unwrap_or(0).into())
    }
}
