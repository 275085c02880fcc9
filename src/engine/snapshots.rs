//! States that are being sent whole, a piece at a time.
//!
//! Hides what keeps them from costing memory without end: a state that is held keeps what it does
//! not share with newer ones. So few are held at a time, and none whose reader has stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::index::ScanPosition;
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleFilter};

/// How many rows are fetched at a time.
const ROWS: usize = 256;

/// A state on its way to one reader.
pub(super) struct Snapshot {
    held: Arc<Mutex<Option<Held>>>,
    /// The filters that are left; the last is at work.
    filters: Vec<TupleFilter>,
    after: Option<ScanPosition>,
    pub(super) is_first: bool,
}

struct Held {
    state: Arc<State>,
    /// When the reader came last.
    read: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Snapshot {
    /// All tuples of `state` that one of `filters` selects, or all of them where there is none.
    /// Whoever reads none of it for `patience` finds nothing any more.
    pub(super) fn begin(
        state: Arc<State>,
        mut filters: Vec<TupleFilter>,
        turn: OwnedSemaphorePermit,
        patience: Duration,
    ) -> Self {
        filters.reverse();
        if filters.is_empty() {
            filters.push(TupleFilter::default());
        }
        let held = Arc::new(Mutex::new(Some(Held {
            state,
            read: Instant::now(),
            _turn: turn,
        })));
        tokio::spawn(let_go(Arc::downgrade(&held), patience));
        Self {
            held,
            filters,
            after: None,
            is_first: true,
        }
    }

    /// Whether all of it was fetched.
    pub(super) fn is_over(&self) -> bool {
        self.filters.is_empty()
    }

    /// The next tuples that hold, and the state that they are of; `None` where it is no longer held.
    pub(super) fn fetch(&mut self, now: Timestamp) -> Option<(Arc<State>, Vec<Tuple>)> {
        let state = lock(&self.held).as_mut().map(|held| {
            held.read = Instant::now();
            Arc::clone(&held.state)
        })?;
        let mut tuples = Vec::new();
        while let Some(filter) = self.filters.last() {
            let mut seen = 0;
            for row in state.rows(filter, self.after.take().as_ref()).take(ROWS) {
                seen += 1;
                self.after = Some(row.position());
                let end = row.restriction().and_then(|r| r.expires_at);
                if end.is_none_or(|end| now < end) {
                    tuples.push(row.to_tuple());
                }
            }
            if seen == ROWS {
                break;
            }
            self.filters.pop();
            self.after = None;
        }
        Some((state, tuples))
    }
}

/// Lets go of a state that nobody has read of for `patience`.
async fn let_go(held: Weak<Mutex<Option<Held>>>, patience: Duration) {
    let mut look = Instant::now() + patience;
    loop {
        tokio::time::sleep_until(look).await;
        let Some(held) = held.upgrade() else { return };
        let mut held = lock(&held);
        match held.as_ref().map(|held| held.read + patience) {
            Some(end) if Instant::now() < end => look = end,
            _ => {
                *held = None;
                return;
            }
        }
    }
}

fn lock(held: &Mutex<Option<Held>>) -> MutexGuard<'_, Option<Held>> {
    // What is done under it doesn't panic half-way.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
