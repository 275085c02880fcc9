//! Counting on paths where nothing may be waited for.
//!
//! Hides that a counter has a few cells, each on a cache line of its own, and that a thread adds
//! to one and the same of them: an addition is one relaxed atomic that hardly anybody else wants.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// More cells cost memory, fewer make threads meet.
const CELLS: usize = 16;

/// Only grows.
#[derive(Default)]
pub struct Counter([Line; CELLS]);

#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU64);

thread_local! {
    /// The cell of this thread; `CELLS` until it was chosen.
    static CELL: Cell<usize> = const { Cell::new(CELLS) };
}

impl Counter {
    /// One more. Gives how many this thread's cell had before, which tells every n-th apart.
    pub fn add(&self) -> u64 {
        self.add_many(1)
    }

    /// So many more; as [`Counter::add`].
    pub fn add_many(&self, count: u64) -> u64 {
        self.own().fetch_add(count, Ordering::Relaxed)
    }

    /// How many there are. What is added meanwhile may or may not be among them.
    pub fn get(&self) -> u64 {
        let cells = self.0.iter();
        cells.map(|Line(cell)| cell.load(Ordering::Relaxed)).sum()
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder by the length")]
    fn own(&self) -> &AtomicU64 {
        &self.0[cell() % CELLS].0
    }
}

/// How long something took each time, by bounds from 0.1 ms to 10 s.
#[derive(Debug, Default)]
pub struct Spans {
    counts: [Counter; BOUNDS.len() + 1],
    nanos: Counter,
}

/// In seconds.
const BOUNDS: [f64; 11] = [
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
];

impl Spans {
    /// One more.
    pub fn add(&self, span: Duration) {
        let place = BOUNDS.partition_point(|bound| *bound < span.as_secs_f64());
        if let Some(count) = self.counts.get(place) {
            count.add();
        }
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.add_many(nanos);
    }

    /// How many were within each bound and beyond the one before, in seconds; and their sum.
    pub fn get(&self) -> (Vec<(f64, u64)>, Duration) {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(Counter::get);
        (
            bounds.zip(counts).collect(),
            Duration::from_nanos(self.nanos.get()),
        )
    }
}

fn cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    CELL.with(|own| {
        if own.get() == CELLS {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % CELLS);
        }
        own.get()
    })
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nothing_is_lost_among_threads() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..CELLS * 2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        counter.add();
                    }
                });
            }
        });
        counter.add_many(5);
        assert_eq!(counter.get(), CELLS as u64 * 2_000 + 5);
    }

    #[test]
    fn spans_are_within_their_bounds() {
        let spans = Spans::default();
        for micros in [50, 100, 101, 20_000_000] {
            spans.add(Duration::from_micros(micros));
        }
        let (counts, sum) = spans.get();
        let some: Vec<_> = (counts.into_iter())
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(some, [(0.0001, 2), (0.0003, 1), (f64::INFINITY, 1)]);
        assert_eq!(sum, Duration::from_micros(20_000_251));
    }

    #[test]
    fn a_thread_learns_of_each_of_its_own() {
        let counter = Counter::default();
        let seen: Vec<u64> = (0..4).map(|_| counter.add()).collect();
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}
