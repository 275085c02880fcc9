//! How work beside appends gives way to them.
//!
//! Hides the rhythm: whoever writes much works piece by piece, and after each rests for as long as
//! it has worked, while others append. So the disk has nothing of it to do most of the time that a
//! log's sync comes along, and never more than a piece. Where nobody appends, nobody is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest rest: on a disk that is slower than this, all is slow.
const LONGEST: Duration = Duration::from_millis(50);

/// Work that gives way.
pub(super) struct Pace<'a> {
    /// Grows with each append.
    appends: &'a AtomicU64,
    seen: u64,
    since: Instant,
}

impl<'a> Pace<'a> {
    /// Work that begins now, beside what is counted by `appends`.
    pub(super) fn new(appends: &'a AtomicU64) -> Self {
        Self {
            appends,
            seen: appends.load(Ordering::Relaxed),
            since: Instant::now(),
        }
    }

    /// A piece is done: rests where there were appends beside it.
    pub(super) fn rest(&mut self) {
        let appends = self.appends.load(Ordering::Relaxed);
        if appends != self.seen {
            sleep(self.since.elapsed().min(LONGEST));
        }
        self.seen = appends;
        self.since = Instant::now();
    }
}
