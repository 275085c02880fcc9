//! How old commits are, by stamps that were taken before they were published.

use std::collections::VecDeque;
use std::time::Duration;

use crate::revision::Revision;
use crate::time::BootTime;

/// The most stamps that are kept, one a batch of commits: far more than syncs in a longest lease.
const MOST: usize = 1 << 16;

/// How far somebody is behind: the age of the oldest commit that they lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lag {
    /// This long; zero where they lack nothing.
    Exactly(Duration),
    /// At least this long: the commit's stamp is no longer kept, or was never known.
    AtLeast(Duration),
}

/// The stamps of the newest commits.
#[derive(Debug)]
pub(super) struct Ages {
    /// The last revision of a batch and its stamp, oldest first.
    stamps: VecDeque<(Revision, BootTime)>,
    /// Of commits up to this one no stamp is kept.
    unknown: Revision,
    /// They are at least as old as this.
    before: BootTime,
}

impl Ages {
    pub(super) fn new(head: Revision, now: BootTime) -> Self {
        Self {
            stamps: VecDeque::new(),
            unknown: head,
            before: now,
        }
    }

    /// Commits up to `last` have this stamp. Those that are `longest` older need none any more.
    pub(super) fn push(&mut self, last: Revision, stamp: BootTime, longest: Duration) {
        self.stamps.push_back((last, stamp));
        while let Some((revision, old)) = self.stamps.front().copied() {
            if stamp.since(old) < longest && self.stamps.len() <= MOST {
                return;
            }
            self.stamps.pop_front();
            (self.unknown, self.before) = (revision, old);
        }
    }

    pub(super) fn lag(&self, revision: Revision, now: BootTime) -> Lag {
        if revision < self.unknown {
            return Lag::AtLeast(now.since(self.before));
        }
        let lacked = (self.stamps).partition_point(|(last, _)| *last <= revision);
        let stamp = self.stamps.get(lacked);
        Lag::Exactly(stamp.map_or(Duration::ZERO, |(_, stamp)| now.since(*stamp)))
    }
}
