//! The small persistent part of a segment: what has changed since its base was made.

use std::sync::Arc;

use imbl::OrdMap;
use smallvec::SmallVec;

use crate::revision::Revision;

use super::entries::Entries;
use super::group::Head;
use super::{NodeId, Restriction};

/// A tuple as it stands now, or that it was removed.
#[derive(Clone, Debug)]
pub(super) enum Put {
    Stands(Option<Arc<Restriction>>),
    Removed,
}

/// What has become of one tuple.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub put: Put,
    /// Which commit did it.
    pub revision: Revision,
    /// Which `apply` did it.
    pub sequence: u64,
}

/// The changed groups of one node in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeDelta(SmallVec<[(Head, Entries); 1]>);

/// The changed nodes of a segment in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Delta(OrdMap<u32, Arc<NodeDelta>>);

impl NodeDelta {
    pub fn entries(&self, head: Head) -> Option<&Entries> {
        let found = self.0.iter().find(|(known, _)| *known == head);
        found.map(|(_, entries)| entries)
    }

    pub fn groups(&self) -> impl Iterator<Item = &(Head, Entries)> {
        self.0.iter()
    }

    /// Says whether the entry is new.
    fn put(&mut self, head: Head, other: NodeId, entry: Entry) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == head) {
            Some((_, entries)) => entries.insert(other, entry),
            None => {
                self.0.push((head, Entries::unit(other, entry)));
                true
            }
        }
    }

    /// What `sequence` and those before it did not do.
    fn after(&self, sequence: u64) -> Self {
        let groups = self.0.iter().map(|(head, entries)| {
            let all = entries.after(None);
            let newer = all.filter(|(_, entry)| entry.sequence > sequence);
            let newer = newer.map(|(node, entry)| (node, entry.clone()));
            (*head, Entries::of(newer))
        });
        Self(groups.filter(|(_, entries)| !entries.is_empty()).collect())
    }
}

impl Delta {
    pub fn node(&self, local: u32) -> Option<&NodeDelta> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&local).map(|node| &**node)
    }

    /// Says whether the entry is new.
    pub fn put(&mut self, local: u32, head: Head, other: NodeId, entry: Entry) -> bool {
        let node = self.0.entry(local).or_default();
        Arc::make_mut(node).put(head, other, entry)
    }

    /// What came after `sequence`, and how many entries that are.
    pub fn after(&self, sequence: u64) -> (Self, u64) {
        let mut count = 0;
        let mut newer = OrdMap::new();
        for (local, node) in &self.0 {
            let left = node.after(sequence);
            let entries: usize = left.0.iter().map(|(_, entries)| entries.len()).sum();
            if entries > 0 {
                count += entries as u64;
                newer.insert(*local, Arc::new(left));
            }
        }
        (Self(newer), count)
    }
}
