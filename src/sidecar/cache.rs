//! The cache: answers by question, and the one rule by which an answer may be given.
//!
//! Hides the order of the reads that the rule rests on. [`Cache::look`] takes generation, end of
//! the lease and revision, in this order; [`Look::judge`] reads floor and slots after them; the
//! clock comes last. However long a reader is kept from running in between, what it gives was
//! good by a lease that still runs at its last look at the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Map;

use super::clock::Moment;
use super::entry::{AsKey, Entry, Key};
use super::generation::Generation;
use crate::revision::{Revision, Token};

/// How large a cache may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of memory, the table of slots included.
    pub bytes: usize,
    /// Slots of the table, 8 bytes each; a power of two.
    pub slots: usize,
}

impl Default for Size {
    /// 64 MiB, 2^20 slots.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            slots: 1 << 20,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Cache {
    current: ArcSwap<Generation>,
    entries: Map<Key, Arc<Entry>, Weight>,
    slots: usize,
    numbers: AtomicU64,
}

/// Weighs by bytes.
#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Key, Arc<Entry>> for Weight {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        entry.weight(key)
    }
}

impl Cache {
    /// An empty one that has heard of no server.
    pub fn new(size: Size) -> Self {
        /// So that a cache whose table takes all keeps some answers.
        const FEWEST_BYTES: usize = 1 << 20;
        /// What an answer takes, about.
        const USUAL: usize = 512;
        let slots = size.slots.next_power_of_two();
        let bytes = (size.bytes.saturating_sub(slots * size_of::<u64>())).max(FEWEST_BYTES);
        let weight = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self {
            current: ArcSwap::from_pointee(Generation::unknown(0)),
            entries: Map::with_weighter(bytes / USUAL, weight, Weight),
            slots,
            numbers: AtomicU64::new(1),
        }
    }

    /// The generation that answers are of.
    pub fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Forgets everything: from now on answers are of a history that has come to `at`, and those
    /// from before `floor` are not kept.
    pub fn begin(&self, at: Token, floor: Revision) -> Arc<Generation> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let generation = Arc::new(Generation::new(number, at, floor, self.slots));
        self.current.store(Arc::clone(&generation));
        self.entries.clear();
        generation
    }

    /// Keeps an answer. Whether it may be given is asked when it is to be given.
    pub fn keep(&self, key: Key, entry: Arc<Entry>) {
        self.entries.insert(key, entry);
    }

    /// How many answers are kept, and how many bytes they take.
    pub fn kept(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.weight())
    }

    /// Begins to answer.
    pub fn look(&self) -> Look {
        let generation = self.current.load();
        let end = generation.end();
        let applied = generation.applied();
        Look {
            generation,
            end,
            applied,
        }
    }

    /// The answer that is kept for a question, whether or not it may be given.
    pub fn find(&self, key: AsKey<'_>) -> Option<Arc<Entry>> {
        self.entries.get(&key)
    }
}

/// Generation, end of the lease and revision at one moment, read in this order.
#[derive(Debug)]
pub struct Look {
    generation: Guard<Arc<Generation>>,
    end: Moment,
    applied: Revision,
}

/// A caller at the moment it came, for whom a reply is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    generation: u64,
    /// What it must at least be answered at.
    need: Revision,
}

impl Arrival {
    /// What it must at least be answered at: what was applied when it came, and what it wants.
    pub fn need(&self) -> Revision {
        self.need
    }

    /// Whether it came to this generation, whose revisions its need is one of.
    pub fn is_of(&self, generation: &Generation) -> bool {
        self.generation == generation.number()
    }
}

/// Why an answer may not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stale {
    /// Something that it rests on has changed, or may have.
    Changed,
    /// The caller wants a newer revision.
    Behind,
    /// Its time is over.
    Over,
    /// The lease does not run.
    Unleased,
}

/// An answer that may be given once the clock was read.
#[derive(Clone, Copy, Debug)]
#[must_use = "the clock comes last"]
pub struct Sound {
    revision: Revision,
    entry_end: Moment,
    lease_end: Moment,
}

/// What an answer that may be given is given with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The revision that it names.
    pub revision: Revision,
    /// How long time alone does not change it; `None`: it never does.
    pub valid_for: Option<Duration>,
}

impl Look {
    /// Every commit up to this is in the slots.
    pub fn applied(&self) -> Revision {
        self.applied
    }

    /// The generation that was found.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// A caller that wants `least` at least, and comes now.
    pub fn arrival(&self, least: Revision) -> Arrival {
        Arrival {
            generation: self.generation.number(),
            need: self.applied.max(least),
        }
    }

    /// Whether a reply from upstream may go to a caller, whoever asked for it: by the rule of all
    /// answers, and not from before the caller came.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge_reply(&self, entry: &Entry, caller: &Arrival) -> Result<Sound, Stale> {
        if !caller.is_of(&self.generation) {
            return Err(Stale::Changed);
        }
        let sound = self.judge(entry, caller.need)?;
        match entry.revision < caller.need {
            true => Err(Stale::Behind),
            false => Ok(sound),
        }
    }

    /// Whether `entry` is good at a revision of `least` or newer. Reads floor and slots.
    ///
    /// # Errors
    /// Why it is not.
    pub fn judge(&self, entry: &Entry, least: Revision) -> Result<Sound, Stale> {
        if !self.generation.holds(entry) {
            return Err(Stale::Changed);
        }
        let revision = entry.revision.max(self.applied);
        if revision < least {
            return Err(Stale::Behind);
        }
        Ok(Sound {
            revision,
            entry_end: entry.end,
            lease_end: self.end,
        })
    }
}

impl Sound {
    /// Answers, if the lease and the answer's own time still run at `now`, which is read after
    /// all else.
    ///
    /// # Errors
    /// Which of them does not.
    pub fn at(self, now: Moment) -> Result<Given, Stale> {
        if !now.is_before(self.lease_end) {
            return Err(Stale::Unleased);
        }
        if !now.is_before(self.entry_end) {
            return Err(Stale::Over);
        }
        let is_timed = self.entry_end != Moment::NEVER;
        Ok(Given {
            revision: self.revision,
            valid_for: is_timed.then(|| now.until(self.entry_end)),
        })
    }
}
