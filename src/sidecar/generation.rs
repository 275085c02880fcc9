//! One history as a cache follows it: which revision changed which keys last, how far it has
//! come, and until when it may answer.
//!
//! Hides the order in which these are written and read. Everything here only grows, so that
//! whoever still holds an old generation harms nobody; a new epoch, history or version of the
//! keys is a new generation.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Moment;
use super::entry::{Asked, Entry};
use super::lease::{Granted, Lease};
use crate::revision::{Epoch, Revision, Token};

/// How often a stream may be resumed before the cache begins anew.
const MOST_LINKS: usize = 1_024;
/// The end of a link that has not ended.
const OPEN: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct Generation {
    /// Of all in this process, none twice.
    number: u64,
    /// `None` before the first Hello.
    epoch: Option<Epoch>,
    /// For a key's slot, the newest revision that changed a key of that slot.
    slots: Box<[AtomicU64]>,
    /// What was evaluated before this is not known to be unchanged.
    floor: AtomicU64,
    /// Every commit up to this is in the slots.
    applied: AtomicU64,
    /// For each link (one stream from its Hello to its end) what it was resumed after. An answer
    /// from beyond may be of a tail that its server lost.
    ends: Box<[AtomicU64]>,
    link: AtomicUsize,
    lease: Mutex<Lease>,
    /// `lease.end()`, by both clocks.
    end: [AtomicU64; 2],
}

impl Generation {
    /// The one before the first Hello, which answers nothing.
    pub(super) fn unknown(number: u64) -> Self {
        Self::build(number, None, Revision(0), Revision(0), 1)
    }

    /// A new one that has come to `applied` and knows nothing of what was before `floor`.
    pub(super) fn new(number: u64, at: Token, floor: Revision, slots: usize) -> Self {
        Self::build(number, Some(at.epoch), at.revision, floor, slots)
    }

    fn build(
        number: u64,
        epoch: Option<Epoch>,
        applied: Revision,
        floor: Revision,
        slots: usize,
    ) -> Self {
        let cells = |count: usize, value: u64| (0..count).map(|_| AtomicU64::new(value)).collect();
        Self {
            number,
            epoch,
            slots: cells(slots.next_power_of_two(), 0),
            floor: AtomicU64::new(floor.0),
            applied: AtomicU64::new(applied.0),
            ends: cells(MOST_LINKS, OPEN),
            link: AtomicUsize::new(0),
            lease: Mutex::new(Lease::default()),
            end: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// Of all in this process, none twice.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The history's epoch; `None` before the first Hello.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Every commit up to this is in the slots.
    pub fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    /// What an answer is stamped with that is asked for now.
    pub fn ask(&self, at: Moment) -> Asked {
        Asked {
            generation: self.number,
            link: self.link.load(Ordering::Acquire),
            at,
        }
    }

    // What the stream writes. `applied` comes last, so that whoever reads it sees the rest.

    /// The keys that commit `revision` changed.
    pub fn invalidate(&self, keys: impl IntoIterator<Item = u64>, revision: Revision) {
        for key in keys {
            self.slot(key).fetch_max(revision.0, Ordering::Relaxed);
        }
    }

    /// All that was evaluated before `revision` may have changed.
    pub fn raise_floor(&self, revision: Revision) {
        self.floor.fetch_max(revision.0, Ordering::Relaxed);
    }

    /// All of the commits up to `revision` is in slots and floor.
    pub fn publish(&self, revision: Revision) {
        self.applied.fetch_max(revision.0, Ordering::Release);
        let mut lease = self.lease();
        lease.applied(self.applied());
        self.store_end(&lease);
    }

    /// The stream goes on over a new link, after `revision`; `false` where there can be no more.
    pub fn resume(&self, revision: Revision) -> bool {
        let link = self.link.load(Ordering::Acquire);
        let Some(end) = self.ends.get(link) else {
            return false;
        };
        if link + 1 == self.ends.len() {
            return false;
        }
        end.store(revision.0, Ordering::Release);
        self.link.store(link + 1, Ordering::Release);
        true
    }

    // The lease.

    /// A stream began whose server grants `longest` at most.
    pub fn begin_lease(&self, longest: Duration) {
        let mut lease = self.lease();
        lease.begin(longest);
        self.store_end(&lease);
    }

    /// An acknowledgement that was sent at `sent` was answered; `None` where it does not count.
    pub fn acknowledged(&self, sent: Moment, reply: Option<Granted>) {
        let mut lease = self.lease();
        match reply {
            Some(reply) => lease.acknowledged(sent, reply, self.applied()),
            None => lease.refused(),
        }
        self.store_end(&lease);
    }

    /// When the right to answer ends.
    pub fn end(&self) -> Moment {
        let [boot, wall] = &self.end;
        Moment {
            boot: boot.load(Ordering::Acquire),
            wall: wall.load(Ordering::Acquire),
        }
    }

    fn store_end(&self, lease: &Lease) {
        let end = lease.end();
        for (cell, value) in self.end.iter().zip([end.boot, end.wall]) {
            cell.store(value, Ordering::Release);
        }
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What a hit reads.

    /// Whether nothing that was applied changed what `entry` rests on. Read after `applied`.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        let revision = entry.revision.0;
        let end = self.ends.get(entry.asked.link);
        entry.asked.generation == self.number
            && revision >= self.floor.load(Ordering::Relaxed)
            && end.is_some_and(|end| revision <= end.load(Ordering::Acquire))
            && (entry.keys.iter()).all(|key| self.slot(*key).load(Ordering::Relaxed) <= revision)
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the mask is the length, a power of two, less one"
    )]
    fn slot(&self, key: u64) -> &AtomicU64 {
        &self.slots[key as usize & (self.slots.len() - 1)]
    }
}
