//! Two clocks at once: one that runs on while the machine sleeps and can't be set, and the wall.
//!
//! Hides that neither alone is to be trusted. A span is over as soon as one of both says so: a
//! wall clock that is set back does not lengthen it, nor does a virtual machine whose boot clock
//! stood still.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One look at both clocks, in nanoseconds; also an end, one by each clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Since the machine started, sleep included.
    pub boot: u64,
    /// Since 1970, as far as the machine knows.
    pub wall: u64,
}

impl Moment {
    /// The end of what is over.
    pub const PAST: Self = Self { boot: 0, wall: 0 };
    /// The end of what does not end.
    pub const NEVER: Self = Self {
        boot: u64::MAX,
        wall: u64::MAX,
    };

    /// `span` later, by both.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let span = nanos(span);
        Self {
            boot: self.boot.saturating_add(span),
            wall: self.wall.saturating_add(span),
        }
    }

    /// `span` earlier, by both.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let span = nanos(span);
        Self {
            boot: self.boot.saturating_sub(span),
            wall: self.wall.saturating_sub(span),
        }
    }

    /// Whether `end` is still ahead, by both.
    pub fn is_before(self, end: Self) -> bool {
        self.boot < end.boot && self.wall < end.wall
    }

    /// How long it is until `end`, by the clock that says less.
    pub fn until(self, end: Self) -> Duration {
        let boot = end.boot.saturating_sub(self.boot);
        let wall = end.wall.saturating_sub(self.wall);
        Duration::from_nanos(boot.min(wall))
    }

    /// The end that comes first, clock by clock.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        Self {
            boot: self.boot.min(other.boot),
            wall: self.wall.min(other.wall),
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads both clocks.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// The machine's.
    pub fn system() -> Self {
        Self::of(|| {
            use rustix::time::ClockId;
            Moment {
                boot: read(BOOT),
                wall: read(ClockId::Realtime),
            }
        })
    }

    /// One of a test.
    pub fn of(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Now.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(target_os = "linux")]
const BOOT: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// Elsewhere the monotonic clock is the one that counts sleep.
#[cfg(not(target_os = "linux"))]
const BOOT: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

fn read(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    // Before 1970 is as good as 1970: whatever was measured from there is over.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_says_less_decides() {
        let check = |now: (u64, u64), end: (u64, u64), left: u64| {
            let moment = |(boot, wall)| Moment { boot, wall };
            let (now, end) = (moment(now), moment(end));
            assert_eq!(
                now.until(end),
                Duration::from_nanos(left),
                "{now:?} {end:?}"
            );
            assert_eq!(now.is_before(end), left > 0, "{now:?} {end:?}");
        };
        check((5, 5), (9, 9), 4);
        check((5, 5), (9, 7), 2);
        check((5, 5), (6, 9), 1);
        check((5, 5), (5, 9), 0);
        check((5, 9), (9, 9), 0);
        check((5, 5), (0, 0), 0);
    }

    #[test]
    fn the_machine_has_both() {
        let clock = Clock::system();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.boot > 0 && first.boot <= second.boot);
        assert!(first.wall > 1_500_000_000_000_000_000);
    }
}
