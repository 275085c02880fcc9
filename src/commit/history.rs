//! What readers see: the newest state, and for a while the older ones.
//!
//! Kept are the last 64 states, and beyond them one a second for 60 seconds of the server's time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::revision::Revision;
use crate::state::State;
use crate::time::Timestamp;

/// How many of the newest states are kept.
const RECENT: usize = 64;
/// How far apart the older ones are.
const APART: Duration = Duration::from_secs(1);
/// For how long these are kept.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The states that readers can have. Written by the writer alone.
pub(crate) struct Published {
    newest: ArcSwap<State>,
    revision: watch::Sender<Revision>,
    history: Mutex<History>,
    /// Where states go to be freed: dropping the last reference to a large one takes long.
    graves: mpsc::Sender<Arc<State>>,
}

/// The newest kept state that is not newer than a wanted one.
pub(crate) enum Found {
    /// It is that one, or commits must be applied to it to get there.
    From(Arc<State>),
    /// It is not kept any more.
    Trimmed,
}

impl Published {
    pub(crate) fn new(first: Arc<State>) -> Self {
        let (graves, freed) = mpsc::channel();
        // Where no thread can be had, the sender's states are freed by whoever sends them.
        drop(
            std::thread::Builder::new()
                .name("free".to_owned())
                .spawn(move || freed.into_iter().for_each(drop)),
        );
        let (revision, _) = watch::channel(first.revision);
        Self {
            newest: ArcSwap::from(Arc::clone(&first)),
            revision,
            history: Mutex::new(History::new(first)),
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
            drop(self.graves.send(state));
        }
    }

    /// The nearest kept state at or before `revision`, which is not above the newest.
    pub(crate) fn before(&self, revision: Revision) -> Found {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.before(revision).map_or(Found::Trimmed, Found::From)
    }
}

struct History {
    /// Oldest first, as is `seconds`, all of which are older than these.
    recent: VecDeque<Arc<State>>,
    seconds: VecDeque<Arc<State>>,
}

impl History {
    fn new(first: Arc<State>) -> Self {
        Self {
            recent: VecDeque::from([first]),
            seconds: VecDeque::new(),
        }
    }

    fn push(&mut self, state: Arc<State>, gone: &mut Vec<Arc<State>>) {
        let now = state.time;
        if let Some(last) = self.recent.back_mut()
            && last.revision == state.revision
        {
            // The same contents in another shape, after a merge.
            gone.push(std::mem::replace(last, state));
            return;
        }
        self.recent.push_back(state);
        if self.recent.len() > RECENT {
            gone.extend(self.recent.pop_front().and_then(|old| self.thin(old)));
        }
        while self
            .seconds
            .front()
            .is_some_and(|old| now.since(old.time) > KEPT_FOR)
        {
            gone.extend(self.seconds.pop_front());
        }
    }

    /// Keeps `old` where the one kept before it is a second older; else gives it back.
    fn thin(&mut self, old: Arc<State>) -> Option<Arc<State>> {
        match self.seconds.back() {
            Some(before) if old.time.since(before.time) < APART => Some(old),
            _ => {
                self.seconds.push_back(old);
                None
            }
        }
    }

    fn before(&self, revision: Revision) -> Option<Arc<State>> {
        let mut newest_first = self.recent.iter().rev().chain(self.seconds.iter().rev());
        newest_first
            .find(|state| state.revision <= revision)
            .cloned()
    }
}
