//! The frozen part of a segment: nodes and both directions of their tuples, in flat arrays.

use std::ops::Range;
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
    pub text: String,
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
        let same = |local: &u32| {
            self.hash(*local) == Some(hash)
                && self.kind(*local) == Some(kind)
                && self.id(*local) == Some(id)
        };
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
        self.text.get(begin..end)
    }

    /// Appends a node; its place.
    pub fn push(&mut self, kind: TypeId, hash: u64, id: &str) -> u32 {
        let local = self.len();
        self.kinds.push(kind);
        self.hashes.push(hash);
        self.text.push_str(id);
        self.ends
            .push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        let hashes = &self.hashes;
        let hash_of = |local: &u32| hashes.get(*local as usize).copied().unwrap_or(0);
        self.table.insert_unique(hash, local, hash_of);
        local
    }

    /// Appends other nodes in their order.
    pub fn extend(&mut self, others: &Self) {
        for local in 0..others.len() {
            if let Some(((kind, hash), id)) =
                (others.kind(local).zip(others.hash(local))).zip(others.id(local))
            {
                self.push(kind, hash, id);
            }
        }
    }

    /// These, and `others` behind them.
    pub fn followed_by(&self, others: &Self) -> Self {
        let mut all = self.clone();
        all.reserve(others.kinds.len(), others.text.len());
        all.extend(others);
        all
    }

    /// The bytes of its arrays.
    pub fn bytes(&self) -> usize {
        let fixed =
            self.kinds.capacity() * 2 + self.hashes.capacity() * 8 + self.ends.capacity() * 4;
        fixed + self.text.capacity() + self.table.allocation_size()
    }

    /// Makes room for so many more nodes with ids of so many bytes, once.
    pub fn reserve(&mut self, more: usize, text: usize) {
        self.text.reserve_exact(text);
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

    /// Appends the nodes `from..to` of a side that has revisions where this one has, as they are;
    /// those that it lacks are empty.
    pub fn copy_nodes(&mut self, other: &Self, from: u32, to: u32) {
        let count = u32::try_from(other.starts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let (first, last) = (from.min(count), to.min(count));
        let start = |node: u32| other.starts.get(node as usize).copied().unwrap_or(0);
        let groups = start(first) as usize..start(last) as usize;
        let end = |group: usize| match group.checked_sub(1) {
            Some(before) => other.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let targets = end(groups.start)..end(groups.end);
        let group_shift = offset(self.heads.len(), groups.start);
        let target_shift = offset(self.targets.len(), targets.start as usize);
        let moved = |places: &[u32], by: u32| -> Vec<u32> {
            places.iter().map(|place| place.wrapping_add(by)).collect()
        };
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        let starts = other.starts.get(first as usize + 1..=last as usize);
        (self.starts).extend(moved(starts.unwrap_or_default(), group_shift));
        let ends = other.ends.get(groups.clone()).unwrap_or_default();
        self.ends.extend(moved(ends, target_shift));
        let heads = other.heads.get(groups).unwrap_or_default();
        self.heads.extend_from_slice(heads);
        self.copy_targets(other, targets, target_shift);
        for _ in last.max(from)..to {
            self.end_node();
        }
    }

    fn copy_targets(&mut self, other: &Self, targets: std::ops::Range<u32>, shift: u32) {
        let place = |at: u32| other.restrictions.partition_point(|(place, _)| *place < at);
        let restrictions = place(targets.start)..place(targets.end);
        for (at, restriction) in other.restrictions.get(restrictions).unwrap_or_default() {
            let moved = (at.wrapping_add(shift), Arc::clone(restriction));
            self.restrictions.push(moved);
        }
        let targets = targets.start as usize..targets.end as usize;
        let revisions = other.revisions.get(targets.clone()).unwrap_or_default();
        self.revisions.extend_from_slice(revisions);
        (self.targets).extend_from_slice(other.targets.get(targets).unwrap_or_default());
    }

    /// Makes room for about as much as another side holds, and more.
    pub fn reserve_like(&mut self, other: &Self, more: usize) {
        self.starts.reserve_exact(other.starts.len() + more);
        self.heads.reserve_exact(other.heads.len() + more);
        self.ends.reserve_exact(other.ends.len() + more);
        self.targets.reserve_exact(other.targets.len() + more);
        if !other.revisions.is_empty() {
            self.revisions.reserve_exact(other.revisions.len() + more);
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

    /// The bytes of its arrays.
    pub fn bytes(&self) -> usize {
        let numbers = [&self.starts, &self.ends, &self.targets, &self.revisions];
        let numbers: usize = numbers.iter().map(|list| list.capacity() * 4).sum();
        numbers + self.heads.capacity() * size_of::<Head>() + self.restrictions.capacity() * 16
    }

    pub fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.heads.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.targets.shrink_to_fit();
        self.revisions.shrink_to_fit();
        self.restrictions.shrink_to_fit();
    }

    /// Where the groups of a node lie.
    pub fn groups(&self, local: u32) -> Range<usize> {
        let at = |node: usize| self.starts.get(node).map_or(0, |place| *place as usize);
        at(local as usize)..at((local as usize).saturating_add(1))
    }

    pub fn head(&self, group: usize) -> Option<Head> {
        self.heads.get(group).copied()
    }

    /// The group of this head: place of the first target, targets.
    pub fn find(&self, local: u32, head: Head) -> Option<(u32, &[u32])> {
        let groups = self.groups(local);
        let heads = self.heads.get(groups.clone())?;
        let place = heads.iter().position(|known| *known == head)?;
        self.targets_of(groups.start + place)
    }

    /// Place of the first target, targets.
    pub fn targets_of(&self, group: usize) -> Option<(u32, &[u32])> {
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

/// What is to be added to places behind `from`, where they move to `to`.
fn offset(to: usize, from: usize) -> u32 {
    let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    number(to).wrapping_sub(number(from))
}
