//! The small persistent part of a segment: what has changed since its base was made.
//!
//! Single changes go into a persistent map. A large commit makes a sorted run of its own instead:
//! a version of the map that shares nothing with the one before costs ten times as much an entry.
//! Wherever a node stands newest, there stands all that has changed of it.

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
pub(super) struct Delta {
    /// What changed last.
    recent: OrdMap<u32, Arc<NodeDelta>>,
    /// What large commits changed before it, the oldest first.
    runs: SmallVec<[Arc<Run>; 4]>,
    touched: Touched,
}

/// Which nodes may be among the changed ones: most of those that a check meets are not, and need
/// no search.
#[derive(Clone, Debug, Default)]
struct Touched(Option<Arc<[u64; Self::WORDS]>>);

impl Touched {
    /// 2 KiB: a commit copies it.
    const WORDS: usize = 256;

    fn place(local: u32) -> (usize, u64) {
        let place = local as usize % (Self::WORDS * 64);
        (place / 64, 1 << (place % 64))
    }

    fn may_have(&self, local: u32) -> bool {
        let (word, bit) = Self::place(local);
        let words = self.0.as_deref();
        words.is_some_and(|words| words.get(word).is_some_and(|word| word & bit != 0))
    }

    fn add(&mut self, local: u32) {
        if self.may_have(local) {
            return;
        }
        let (word, bit) = Self::place(local);
        let words = self.0.get_or_insert_with(|| Arc::new([0; Self::WORDS]));
        if let Some(word) = Arc::make_mut(words).get_mut(word) {
            *word |= bit;
        }
    }
}

/// Changed nodes in order, which do not change any more.
#[derive(Clone, Debug, Default)]
struct Run {
    locals: Vec<u32>,
    nodes: Vec<NodeDelta>,
    /// What it takes in memory, roughly.
    bytes: u64,
}

/// A change of one tuple, seen from the node `local`.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub local: u32,
    pub head: Head,
    pub other: NodeId,
    pub entry: Entry,
}

/// A run is merged with the one before it where that has fewer than so many times its nodes: a
/// look-up passes few runs, and a node is copied few times.
pub(super) const APART: u32 = 4;
/// So many nodes are better off in a run than in the map.
pub(super) const MANY: usize = 256;

impl NodeDelta {
    pub fn entries(&self, head: Head) -> Option<&Entries> {
        let found = self.0.iter().find(|(known, _)| *known == head);
        found.map(|(_, entries)| entries)
    }

    pub fn groups(&self) -> impl Iterator<Item = &(Head, Entries)> {
        self.0.iter()
    }

    /// Says whether the entry is new.
    pub fn put(&mut self, head: Head, other: NodeId, entry: Entry) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == head) {
            Some((_, entries)) => entries.insert(other, entry),
            None => {
                self.0.push((head, Entries::unit(other, entry)));
                true
            }
        }
    }

    /// What it takes in memory, in bytes, roughly.
    fn bytes(&self) -> usize {
        let groups = self.0.iter().map(|(_, entries)| entries.bytes());
        let spilled = if self.0.spilled() {
            self.0.capacity()
        } else {
            0
        };
        size_of::<Self>() + spilled * size_of::<(Head, Entries)>() + groups.sum::<usize>()
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

impl Run {
    fn find(&self, local: u32) -> Option<&NodeDelta> {
        let place = self.locals.binary_search(&local).ok()?;
        self.nodes.get(place)
    }

    fn push(&mut self, local: u32, node: NodeDelta) {
        self.bytes += node.bytes() as u64 + 4;
        self.locals.push(local);
        self.nodes.push(node);
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &NodeDelta)> {
        self.locals.iter().copied().zip(&self.nodes)
    }

    /// Both as one; a node that is in both is as `newer` has it.
    fn under(&self, newer: Self) -> Self {
        let mut both = Self {
            locals: Vec::with_capacity(self.locals.len() + newer.locals.len()),
            nodes: Vec::with_capacity(self.locals.len() + newer.locals.len()),
            bytes: 0,
        };
        let mut older = self.iter().peekable();
        for (local, node) in newer.locals.into_iter().zip(newer.nodes) {
            while let Some((before, old)) = older.next_if(|(before, _)| *before < local) {
                both.push(before, old.clone());
            }
            older.next_if(|(same, _)| *same == local);
            both.push(local, node);
        }
        for (local, old) in older {
            both.push(local, old.clone());
        }
        both.nodes.shrink_to_fit();
        both
    }
}

impl Delta {
    pub fn node(&self, local: u32) -> Option<&NodeDelta> {
        if !self.touched.may_have(local) {
            return None;
        }
        let recent = self.recent.get(&local).map(|node| &**node);
        recent.or_else(|| in_runs(&self.runs, local))
    }

    /// Says whether the entry is new.
    pub fn put(&mut self, local: u32, head: Head, other: NodeId, entry: Entry) -> bool {
        self.touched.add(local);
        let Self { recent, runs, .. } = self;
        let before = || Arc::new(in_runs(runs, local).cloned().unwrap_or_default());
        let node = recent.entry(local).or_insert_with(before);
        Arc::make_mut(node).put(head, other, entry)
    }

    /// Takes in the changes of a large commit, sorted by node; says how many entries are new.
    pub fn put_all(&mut self, changes: Vec<Changed>) -> u64 {
        let mut run = Run::default();
        let mut new = 0;
        let mut changes = changes.into_iter().peekable();
        while let Some(Changed { local, .. }) = changes.peek() {
            let local = *local;
            let mut node = self.node(local).cloned().unwrap_or_default();
            while let Some(change) = changes.next_if(|change| change.local == local) {
                new += u64::from(node.put(change.head, change.other, change.entry));
            }
            self.touched.add(local);
            run.push(local, node);
        }
        self.freeze();
        self.push_run(run);
        new
    }

    /// All that changed, by node.
    pub fn nodes(&self) -> Vec<(u32, &NodeDelta)> {
        let recent = self.recent.iter().map(|(local, node)| (*local, &**node));
        let runs = self.runs.iter().rev().flat_map(|run| run.iter());
        let mut nodes: Vec<_> = recent.chain(runs).collect();
        // Stable: the newest place of a node stays the first.
        nodes.sort_by_key(|(local, _)| *local);
        nodes.dedup_by_key(|(local, _)| *local);
        nodes
    }

    /// What came after `sequence`, and how many entries that are.
    pub fn after(&self, sequence: u64) -> (Self, u64) {
        let mut count = 0;
        let mut newer = Run::default();
        for (local, node) in self.nodes() {
            let left = node.after(sequence);
            let entries: usize = left.0.iter().map(|(_, entries)| entries.len()).sum();
            if entries > 0 {
                count += entries as u64;
                newer.push(local, left);
            }
        }
        (Self::of(newer), count)
    }

    pub fn has_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// What of it nothing else holds where another delta took its place, in bytes, roughly.
    pub fn bytes_not_in(&self, newer: &Self) -> u64 {
        let kept = |run: &&Arc<Run>| !newer.runs.iter().any(|other| Arc::ptr_eq(run, other));
        self.runs.iter().filter(kept).map(|run| run.bytes).sum()
    }

    fn of(run: Run) -> Self {
        let mut delta = Self::default();
        for local in &run.locals {
            delta.touched.add(*local);
        }
        match run.locals.len() {
            0..MANY => {
                let nodes = run.locals.into_iter().zip(run.nodes);
                delta.recent = nodes.map(|(local, node)| (local, Arc::new(node))).collect();
            }
            _ => delta.runs.push(Arc::new(run)),
        }
        delta
    }

    /// Makes a run of what changed last, so that another can follow it.
    fn freeze(&mut self) {
        let recent = std::mem::take(&mut self.recent);
        let mut run = Run::default();
        for (local, node) in recent {
            run.push(local, Arc::unwrap_or_clone(node));
        }
        self.push_run(run);
    }

    fn push_run(&mut self, mut run: Run) {
        if run.locals.is_empty() {
            return;
        }
        while let Some(before) = self.runs.last()
            && before.locals.len() < run.locals.len() * APART as usize
        {
            run = before.under(run);
            self.runs.pop();
        }
        self.runs.push(Arc::new(run));
    }
}

fn in_runs(runs: &[Arc<Run>], local: u32) -> Option<&NodeDelta> {
    runs.iter().rev().find_map(|run| run.find(local))
}
