//! What readers see: the newest state, and for a while the older ones.
//!
//! Kept are the last 64 states, and beyond them one a second for 60 seconds of the server's time:
//! but no more of them than memory is there for. A large commit and a merge leave the states before
//! them with copies of their own.

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Clock;
use crate::revision::Revision;
use crate::state::State;
use crate::time::Timestamp;

/// How many of the newest states are kept.
const RECENT: usize = 64;
/// How far apart the older ones are.
const APART: Duration = Duration::from_secs(1);
/// For how long these are kept.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// What old states may hold that the newest one does not, in bytes: this much, or the part of the
/// newest state's own that [`OLD_PART`] says.
const OLD_BYTES: u64 = 32 << 20;
const OLD_PART: u64 = 16;
/// The same once they are older than [`KEPT_FOR`].
const STALE_BYTES: u64 = 8 << 20;
/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many states may wait to be freed. A state that finds no place is freed by the writer
/// itself, which slows it to what freeing takes: memory stays bounded.
const GRAVES: usize = 256;

/// The states that readers can have. Written by the writer alone.
pub(crate) struct Published {
    newest: ArcSwap<State>,
    revision: watch::Sender<Revision>,
    history: Arc<Mutex<History>>,
    /// Where states go to be freed: dropping the last reference to a large one takes long.
    graves: mpsc::SyncSender<Arc<State>>,
}

/// The newest kept state that is not newer than a wanted one.
pub(crate) enum Found {
    /// It is that one, or commits must be applied to it to get there.
    From(Arc<State>),
    /// It is not kept any more.
    Trimmed,
}

impl Published {
    pub(crate) fn new(first: Arc<State>, clock: Clock) -> Self {
        let (graves, freed) = mpsc::sync_channel(GRAVES);
        let (revision, _) = watch::channel(first.revision);
        let history = Arc::new(Mutex::new(History::new(Arc::clone(&first))));
        let aged = Arc::clone(&history);
        // Where no thread can be had, the sender's states are freed by whoever sends them.
        drop(
            std::thread::Builder::new()
                .name("free".to_owned())
                .spawn(move || free(&freed, &aged, &clock)),
        );
        Self {
            newest: ArcSwap::from(first),
            revision,
            history,
            graves,
        }
    }

    /// The newest state.
    pub(crate) fn newest(&self) -> Arc<State> {
        self.newest.load_full()
    }

    /// The time of the newest state.
    pub(crate) fn time(&self) -> Timestamp {
        self.newest.load().time
    }

    /// Wakes whenever a revision becomes visible.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Makes the state visible: from when this returns, readers get it. The states between it
    /// and the one before can be had from the log.
    pub(crate) fn publish(&self, state: Arc<State>) {
        let revision = state.revision;
        let old = self.newest.swap(Arc::clone(&state));
        let mut gone = vec![old];
        (self.history.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .push(state, &mut gone);
        self.revision.send_replace(revision);
        for state in gone {
            // A failed send gives the state back, which frees it here.
            drop(self.graves.try_send(state));
        }
    }

    /// The nearest kept state at or before `revision`, which is not above the newest.
    pub(crate) fn before(&self, revision: Revision) -> Found {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.before(revision).map_or(Found::Trimmed, Found::From)
    }
}

/// Frees what it is sent, and now and then lets go of what has become old.
fn free(freed: &mpsc::Receiver<Arc<State>>, history: &Mutex<History>, clock: &Clock) {
    let mut looked = Instant::now();
    loop {
        match freed.recv_timeout(LOOK_EVERY) {
            Ok(state) => drop(state),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            let now = clock();
            let mut gone = Vec::new();
            (history.lock())
                .unwrap_or_else(PoisonError::into_inner)
                .age(now, &mut gone);
        }
    }
}

struct History {
    /// Oldest first, as is `seconds`, all of which are older than these.
    recent: VecDeque<Old>,
    seconds: VecDeque<Old>,
    /// The sum of what the old ones hold.
    bytes: u64,
}

/// A state that is kept, and what it holds that the next one does not.
struct Old {
    state: Arc<State>,
    bytes: u64,
}

impl History {
    fn new(first: Arc<State>) -> Self {
        let first = Old {
            state: first,
            bytes: 0,
        };
        Self {
            recent: VecDeque::from([first]),
            seconds: VecDeque::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, state: Arc<State>, gone: &mut Vec<Arc<State>>) {
        let now = state.time;
        if self
            .recent
            .back()
            .is_some_and(|last| last.state.revision == state.revision)
            && let Some(same) = self.recent.pop_back()
        {
            // The same contents in another shape, after a merge.
            gone.push(same.state);
        }
        if let Some(last) = self.recent.back_mut() {
            self.bytes -= last.bytes;
            last.bytes = last.state.index.bytes_not_in(&state.index);
            self.bytes += last.bytes;
        }
        let newest = Arc::clone(&state);
        self.recent.push_back(Old { state, bytes: 0 });
        if self.recent.len() > RECENT
            && let Some(old) = self.recent.pop_front()
        {
            self.thin(old, gone);
        }
        while let Some(old) = self.seconds.front()
            && now.since(old.state.time) > KEPT_FOR
        {
            self.forget_oldest(gone);
        }
        if self.bytes > OLD_BYTES {
            self.bound(OLD_BYTES.max(newest.index.bytes() / OLD_PART), gone);
        }
    }

    /// Lets go of what is old by the clock, where nothing is written that would.
    fn age(&mut self, now: Timestamp, gone: &mut Vec<Arc<State>>) {
        let is_old = |old: &Old| now.since(old.state.time) > KEPT_FOR;
        while self.seconds.front().is_some_and(is_old) {
            self.forget_oldest(gone);
        }
        while self.bytes > STALE_BYTES && self.recent.len() > 1 && self.oldest().is_some_and(is_old)
        {
            self.forget_oldest(gone);
        }
    }

    fn bound(&mut self, most: u64, gone: &mut Vec<Arc<State>>) {
        while self.bytes > most && self.recent.len() > 1 {
            self.forget_oldest(gone);
        }
    }

    fn oldest(&self) -> Option<&Old> {
        self.seconds.front().or_else(|| self.recent.front())
    }

    fn forget_oldest(&mut self, gone: &mut Vec<Arc<State>>) {
        let oldest = self.seconds.pop_front().or_else(|| self.recent.pop_front());
        if let Some(old) = oldest {
            self.bytes -= old.bytes;
            gone.push(old.state);
        }
    }

    /// Keeps `old` where the one kept before it is a second older; else lets go of it.
    fn thin(&mut self, old: Old, gone: &mut Vec<Arc<State>>) {
        match self.seconds.back_mut() {
            Some(before) if old.state.time.since(before.state.time) < APART => {
                // What the one before it shared with it alone is its own now.
                let next = self.recent.front().map(|next| &next.state.index);
                let bytes = next.map_or(0, |next| before.state.index.bytes_not_in(next));
                self.bytes = self.bytes + bytes - before.bytes - old.bytes;
                before.bytes = bytes;
                gone.push(old.state);
            }
            _ => self.seconds.push_back(old),
        }
    }

    fn before(&self, revision: Revision) -> Option<Arc<State>> {
        let mut newest_first = self.recent.iter().rev().chain(self.seconds.iter().rev());
        newest_first
            .find(|old| old.state.revision <= revision)
            .map(|old| Arc::clone(&old.state))
    }
}
