//! How often a cache acknowledges.
//!
//! Hides what safety does not depend on: a lease ends by itself however rarely it is renewed, and a
//! write that waits has its commit acknowledged at once. So a cache that is in use keeps its lease
//! as long as it can be, for the day that the server goes away; one that is not only keeps it from
//! running out, with room for an acknowledgement that fails and the one that repeats it.

use std::time::Duration;

use crate::revision::Revision;

/// How often a cache looks at least and at most whether it is to acknowledge.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What has come to a cache: questions, and the commits that it has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// How many questions.
    pub asked: u64,
    /// Every commit up to this.
    pub applied: Revision,
}

/// When to acknowledge under leases of some length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    look: Duration,
    reserve: Duration,
}

impl Rhythm {
    /// That of `lease`, the longest that the server grants.
    pub fn of(lease: Duration) -> Self {
        let look = (lease / 6).clamp(LOOK.0, LOOK.1);
        Self {
            look,
            reserve: (lease / 3).max(look * 2),
        }
    }

    /// How long after an acknowledgement was sent, and after each look, to look whether one is due.
    pub fn look(&self) -> Duration {
        self.look
    }

    /// Whether one is due: the cache was used since the `last` one, or its lease has but `left`.
    pub fn is_due(&self, last: Use, now: Use, left: Duration) -> bool {
        last != now || left <= self.reserve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_in_time_whatever_its_length() {
        let check = |lease_ms: u64, looks: u32| {
            let (lease, at) = (Duration::from_millis(lease_ms), Rhythm::of);
            let idle = Use {
                asked: 7,
                applied: Revision(3),
            };
            let left = |looks: u32| (lease / 100 * 99).saturating_sub(at(lease).look() * looks);
            let due = (1..=100).find(|looks| at(lease).is_due(idle, idle, left(*looks)));
            assert_eq!(due, Some(looks), "{lease:?}");
        };
        check(3_000, 4);
        check(30_000, 20);
        check(1_000, 4);
        check(300, 4);
        check(100, 1);
        check(0, 1);
    }
}
