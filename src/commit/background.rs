//! Work behind the writer's back: checkpoints, and merges of the index.
//!
//! Each kind runs at most once at a time, on a thread of its own, from an immutable state; what
//! comes of it returns to the writer as a message. Neither ever holds a write up. All merges run on
//! one thread: bases that many have made lie scattered over the heaps that the system's allocator
//! keeps for each, none of which is ever small again.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc as mpsc_std};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use crate::index::{Index, Merged};
use crate::revision::Revision;
use crate::state::{Commit, State};
use crate::store::{Position, Store, StoreError};
use crate::time::Timestamp;

use super::Message;

/// When checkpoints are made, and how much of the log stays behind them. In commits, but for the
/// age; ten changes of a commit count as one more, since each is read at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// So many after a checkpoint comes the next.
    pub checkpoint_every: u64,
    /// With fewer than this after the last checkpoint an end makes none.
    pub checkpoint_at_end: u64,
    /// The newest that stay in the log, whatever a checkpoint holds: for old states, for watchers
    /// that are behind, and so that a start can also go from the checkpoint before the newest.
    pub commits: u64,
    /// Older ones go even so, where an age is given. Counted back from the checkpoint's last commit.
    pub age: Option<Duration>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            checkpoint_every: 200_000,
            checkpoint_at_end: 10_000,
            commits: 200_000,
            age: None,
        }
    }
}

/// What was done.
pub(crate) enum Finished {
    /// A segment of the index was merged; `None` where that failed.
    Merge(Option<Box<Merged>>),
    /// A checkpoint was tried; it holds this many of the commits that were counted.
    Checkpoint {
        covered: u64,
        at: Revision,
        result: Result<(), StoreError>,
    },
}

/// What a commit counts for on the way to the next checkpoint.
pub(crate) fn weight(commit: &Commit) -> u64 {
    1 + commit.changes.len() as u64 / 10
}

pub(crate) struct Background {
    store: Arc<dyn Store>,
    outbox: mpsc::WeakSender<Message>,
    keeping: Keeping,
    since_checkpoint: u64,
    /// What follows it stays in the log even behind the next one, should that be damaged one day.
    last_checkpoint: Option<Revision>,
    /// After a failed one it waits for as many commits again.
    next_checkpoint: u64,
    checkpoint: Option<JoinHandle<()>>,
    /// The segment that is being merged.
    merging: Option<usize>,
    /// To the thread that merges, once there was something to merge.
    merger: Option<mpsc_std::Sender<(Index, usize)>>,
}

impl Background {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        outbox: mpsc::WeakSender<Message>,
        keeping: Keeping,
        since_checkpoint: u64,
        last_checkpoint: Option<Revision>,
    ) -> Self {
        Self {
            store,
            outbox,
            keeping,
            since_checkpoint,
            last_checkpoint,
            next_checkpoint: keeping.checkpoint_every,
            checkpoint: None,
            merging: None,
            merger: None,
        }
    }

    /// Commits of this weight were published.
    pub(crate) fn committed(&mut self, weight: u64) {
        self.since_checkpoint += weight;
    }

    /// Starts what is due.
    pub(crate) fn look_after(&mut self, state: &Arc<State>) {
        if self.since_checkpoint >= self.next_checkpoint && self.checkpoint.is_none() {
            self.start_checkpoint(Arc::clone(state));
        }
        if self.merging.is_none()
            && let Some(segment) = state.index.wants_merge()
        {
            self.start_merge(state.index.clone(), segment);
        }
    }

    /// Starts what can be done as long as nothing is written. Not beside a checkpoint, for which what
    /// was merged stands in memory as it was before, too. Says whether there was something.
    pub(crate) fn tidy(&mut self, state: &State) -> bool {
        let segment = self.is_idle().then(|| state.index.may_merge()).flatten();
        if let Some(segment) = segment {
            self.start_merge(state.index.clone(), segment);
        }
        segment.is_some()
    }

    /// Whether [`Background::tidy`] has something to do.
    pub(crate) fn is_untidy(&self, state: &State) -> bool {
        self.is_idle() && state.index.may_merge().is_some()
    }

    fn is_idle(&self) -> bool {
        self.merging.is_none() && self.checkpoint.is_none()
    }

    /// Whether writes have outrun the merge that is under way.
    pub(crate) fn is_behind(&self, state: &State) -> bool {
        self.merging.is_some() && state.index.is_behind()
    }

    /// Merges one segment here and now where writes have outrun the merging beside them: they wait
    /// for it, and readers do not. The state it gives back has the same contents in another shape.
    pub(crate) fn catch_up(&self, state: &State) -> Option<State> {
        let segment = state.index.must_merge(self.merging)?;
        let mut state = state.clone();
        state.index = state.index.install(state.index.merge_segment(segment));
        Some(state)
    }

    /// Takes in what was done. The state it gives back has the same contents in another shape.
    pub(crate) fn install(&mut self, state: &State, finished: Finished) -> Option<State> {
        match finished {
            Finished::Merge(merged) => {
                self.merging = None;
                let mut state = state.clone();
                state.index = state.index.install(*merged?);
                Some(state)
            }
            Finished::Checkpoint {
                covered,
                at,
                result,
            } => {
                self.checkpoint = None;
                match result {
                    Ok(()) => {
                        self.last_checkpoint = Some(at);
                        self.since_checkpoint -= covered.min(self.since_checkpoint);
                        self.next_checkpoint = self.keeping.checkpoint_every;
                    }
                    Err(problem) => {
                        warn!(%problem, "a checkpoint failed; the log goes on without it");
                        self.next_checkpoint =
                            self.since_checkpoint + self.keeping.checkpoint_every;
                    }
                }
                None
            }
        }
    }

    /// Waits for what runs, and makes a last checkpoint where it saves the next start much.
    pub(crate) fn end(&mut self, state: &State) -> Result<(), StoreError> {
        if let Some(running) = self.checkpoint.take() {
            // One that panicked is one that failed.
            drop(running.join());
        }
        match self.since_checkpoint >= self.keeping.checkpoint_at_end {
            true => checkpoint(
                &*self.store,
                state.clone(),
                self.keeping,
                (self.last_checkpoint, self.since_checkpoint),
            ),
            false => Ok(()),
        }
    }

    fn start_merge(&mut self, index: Index, segment: usize) {
        if self.merger.is_none() {
            let outbox = self.outbox.clone();
            let (merger, jobs) = mpsc_std::channel();
            let thread = thread::Builder::new().name("merge".to_owned());
            match thread.spawn(move || merge_all(&jobs, &outbox)) {
                Ok(_) => self.merger = Some(merger),
                Err(problem) => warn!(%problem, "no thread to merge the index"),
            }
        }
        let sent = (self.merger.as_ref()).is_some_and(|to| to.send((index, segment)).is_ok());
        match sent {
            true => self.merging = Some(segment),
            // Another one may be had the next time.
            false => self.merger = None,
        }
    }

    fn start_checkpoint(&mut self, state: Arc<State>) {
        let (store, outbox) = (Arc::clone(&self.store), self.outbox.clone());
        let (covered, keeping) = (self.since_checkpoint, self.keeping);
        let (at, last) = (state.revision, self.last_checkpoint);
        let work = move || {
            let state = Arc::unwrap_or_clone(state);
            let result = checkpoint(&*store, state, keeping, (last, covered));
            if let Some(outbox) = outbox.upgrade() {
                let finished = Finished::Checkpoint {
                    covered,
                    at,
                    result,
                };
                // A closed inbox needs no news.
                drop(outbox.blocking_send(Message::Finished(finished)));
            }
        };
        let thread = thread::Builder::new().name("checkpoint".to_owned());
        match thread.spawn(work) {
            Ok(running) => self.checkpoint = Some(running),
            Err(problem) => {
                warn!(%problem, "no thread for a checkpoint");
                self.next_checkpoint = self.since_checkpoint + self.keeping.checkpoint_every;
            }
        }
    }
}

/// Merges what it is sent, until nobody sends any more.
fn merge_all(jobs: &mpsc_std::Receiver<(Index, usize)>, outbox: &mpsc::WeakSender<Message>) {
    for (index, segment) in jobs {
        let merge = || index.merge_segment(segment);
        // One that panicked must not end all merging without a word.
        let merged = catch_unwind(AssertUnwindSafe(merge)).ok().map(Box::new);
        drop(index);
        if let Some(outbox) = outbox.upgrade() {
            // A closed inbox needs no news.
            drop(outbox.blocking_send(Message::Finished(Finished::Merge(merged))));
        }
    }
}

/// Writes the state whole, and lets go of the commits behind it that need not stay. `last` is where
/// the checkpoint before it stands, and what the commits since count for.
fn checkpoint(
    store: &dyn Store,
    state: State,
    keeping: Keeping,
    (last, since): (Option<Revision>, u64),
) -> Result<(), StoreError> {
    let position = Position {
        revision: state.revision,
        chain: state.chain,
    };
    let (end, time) = (position.revision, state.time);
    let mut state = Some(state);
    let mut write = |out: &mut dyn Write| match state.take() {
        Some(state) => state.write_to(out),
        None => Err(io::Error::other("it was written before")),
    };
    store.checkpoint(position, time, &mut write)?;
    let most = last.unwrap_or(end);
    let by_count = match last {
        // The commits since the last one are as much as is to be kept, however few they are.
        Some(last) if since >= keeping.commits => last,
        _ => Revision(end.0.saturating_sub(keeping.commits)),
    };
    let trimmed = match keeping.age {
        None => store.trim(by_count.min(most)),
        Some(age) => last_older(store, (end, time), age)
            .and_then(|by_age| store.trim(by_age.max(by_count).min(most))),
    };
    if let Err(problem) = trimmed {
        // The checkpoint stands all the same, and the next one trims what this one did not.
        warn!(%problem, "old commits could not be removed from the log");
    }
    Ok(())
}

/// The last commit that is older than `age`, where the log still has it; else what it starts after.
/// Times never run back, so that halving finds it.
fn last_older(
    store: &dyn Store,
    (end, now): (Revision, Timestamp),
    age: Duration,
) -> Result<Revision, StoreError> {
    let (mut before, mut end) = (store.oldest()?.0, end.0 + 1);
    while before + 1 < end {
        let middle = before + (end - before) / 2;
        let commits = store.read(Revision(middle - 1), 1)?;
        match commits.first() {
            Some((commit, _)) if now.since(commit.time) > age => before = middle,
            _ => end = middle,
        }
    }
    Ok(Revision(before))
}
