//! Until when a cache may answer by itself.
//!
//! Hides how acknowledgements become an end. Of each the cache keeps when it was sent (less the
//! age of the head that the server read) and the head that came back. Since that head was read
//! after the sending, whoever has applied it has applied every commit before the sending; so what
//! is not applied is younger than the longest lease. No server clock enters, no pause, no order.

use std::collections::VecDeque;
use std::time::Duration;

use super::clock::Moment;
use crate::revision::Revision;

/// The longest lease that is believed: a server that says more is wrong.
const LONGEST: Duration = Duration::from_secs(30);
/// What is left of a lease for the way of an answer out of the process.
const MARGIN: Duration = Duration::from_millis(10);
/// Acknowledgements whose head is not applied; past it the newest one replaces the last.
const MOST_PENDING: usize = 64;

/// What a server answered to an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How long, from the sending; zero: not at all.
    pub lease: Duration,
    /// The newest revision.
    pub head: Revision,
    /// How long before the answer that revision was confirmed.
    pub head_age: Duration,
}

/// The lease of one generation.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// L, as the server's Hello has it.
    longest: Duration,
    /// The end that the latest acknowledgement gave.
    granted: Option<Moment>,
    /// Of the latest acknowledgement.
    latest: Option<Moment>,
    /// Heads that are not applied, with their s; both grow.
    pending: VecDeque<(Moment, Revision)>,
    /// F: the latest s whose head is applied.
    fresh: Option<Moment>,
}

impl Lease {
    /// A stream began whose server grants `longest` at most.
    pub fn begin(&mut self, longest: Duration) {
        self.longest = longest.min(LONGEST);
    }

    /// An acknowledgement that was sent at `sent` was answered.
    pub fn acknowledged(&mut self, sent: Moment, reply: Granted, applied: Revision) {
        let s = sent.minus(reply.head_age);
        if self.latest.is_none_or(|latest| latest.boot <= s.boot) {
            self.latest = Some(s);
            self.granted = Some(s.plus(slowed(reply.lease)));
        }
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_back();
        }
        self.pending.push_back((s, reply.head));
        self.applied(applied);
    }

    /// An acknowledgement was answered that does not count: another history, an error of the
    /// server's. What was granted before is over.
    pub fn refused(&mut self) {
        self.granted = None;
    }

    /// All commits up to `revision` are applied.
    pub fn applied(&mut self, revision: Revision) {
        self.pending.retain(|(s, head)| {
            let is_applied = *head <= revision;
            if is_applied && self.fresh.is_none_or(|fresh| fresh.boot <= s.boot) {
                self.fresh = Some(*s);
            }
            !is_applied
        });
    }

    /// When the right to answer ends: min(latest s + granted lease, F + 0.99 L - 10 ms), where the
    /// granted lease is less a hundredth, too.
    pub fn end(&self) -> Moment {
        let (Some(granted), Some(fresh)) = (self.granted, self.fresh) else {
            return Moment::PAST;
        };
        granted.earliest(fresh.plus(slowed(self.longest).saturating_sub(MARGIN)))
    }
}

/// What of a lease a clock that runs slower than the server's may count on. One that was shortened
/// by the cache's lag ends before the other bound, and would else have no margin at all.
fn slowed(lease: Duration) -> Duration {
    lease.min(LONGEST) / 100 * 99
}
