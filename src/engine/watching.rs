//! Streams of changes, acknowledgements, and what a write waits for.
//!
//! Hides where a stream's commits come from (memory, or the log where it is behind), and when
//! what a client knows is of no use any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::eval::dependencies::invalidated;
use crate::index::KEY_VERSION;
use crate::plan::Propagation;
use crate::revision::{Revision, Token};
use crate::schema::Schema;
use crate::state::{Change, State};
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleFilter};
use crate::watch::feed::{Listed, Registration};
use crate::watch::leases::Ack;
use crate::watch::live::LiveCommit;

use super::snapshots::Snapshot;
use super::states::blocking;
use super::{Engine, EngineError};

/// How long a stream waits for a revision that is above the log before it gives it up.
const AHEAD: Duration = Duration::from_secs(1);
/// The most commits that a stream takes from memory at a time.
const AT_ONCE: usize = 256;
/// The name by which leases from before a start are waited for.
const BEFORE_RESTART: &str = "(before restart)";

/// What a stream is to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// The revision that the client has applied; `None`: from now.
    pub after: Option<Token>,
    /// The chain that it knows `after` by.
    pub after_chain: Option<u64>,
    /// First the state, at one revision.
    pub snapshot: bool,
    /// The types whose tuples a snapshot has; all where it is empty. Each must exist.
    pub resource_types: Vec<Arc<str>>,
    /// The cache that will acknowledge; empty for none.
    pub watcher_id: String,
    /// Who calls; empty where callers are not told apart.
    pub caller: String,
    /// From where.
    pub address: String,
}

/// How a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest revision.
    pub token: Token,
    /// Its chain.
    pub chain: u64,
    /// The oldest that can be resumed after.
    pub oldest: Token,
    /// How long the stream is quiet at most.
    pub heartbeat: Duration,
    /// The longest lease.
    pub lease: Duration,
    /// Names the stream.
    pub session: String,
    /// Of the dependency keys.
    pub key_version: u32,
}

/// Why a stream begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// What follows `after` is no longer kept.
    Trimmed,
    /// `after` is above the log, and stays so.
    Ahead,
    /// `after` is of another store.
    Epoch,
    /// `after` is of another history of this store.
    History,
}

/// A part of the state at one revision.
#[derive(Clone, Debug)]
pub struct SnapshotPiece {
    /// The state, of which this is a part.
    pub state: Arc<State>,
    /// It is the first: what is not tuples goes with it.
    pub is_first: bool,
    /// No more follow.
    pub is_last: bool,
    /// Tuples that hold.
    pub tuples: Vec<Tuple>,
}

/// What a stream has to say next.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// First.
    Hello(Hello),
    /// Where one was asked for.
    Snapshot(SnapshotPiece),
    /// The next commits, in order.
    Commits(Vec<Arc<LiveCommit>>),
    /// There was nothing to say for a while.
    Heartbeat {
        /// Everything up to here was said.
        token: Token,
        /// The server's time.
        at: Timestamp,
    },
    /// What the client knows is of no use.
    Reset {
        /// Why.
        cause: ResetCause,
        /// It goes on from here.
        token: Token,
    },
}

/// What an acknowledgement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Counted from when the acknowledgement was sent; zero for none.
    pub lease: Duration,
    /// The newest revision.
    pub head: Token,
    /// How long ago it was confirmed with the log.
    pub head_age: Duration,
}

/// An open stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// The cache; empty for none.
    pub watcher_id: String,
    /// Names the stream.
    pub session: String,
    /// Who opened it.
    pub caller: String,
    /// From where.
    pub address: String,
    /// Sent up to here.
    pub sent: Token,
    /// Applied up to here, where the cache said so.
    pub acknowledged: Option<Token>,
    /// How old the oldest commit is that it lacks.
    pub lag: Duration,
    /// What is left of its lease.
    pub lease: Duration,
}

/// A stream of changes. Dropping it closes it.
pub struct Changes {
    engine: Engine,
    registration: Registration,
    options: WatchOptions,
    visible: watch::Receiver<Revision>,
    /// Of a cache: up to where it is to be told that it was sent all.
    beats: watch::Receiver<Revision>,
    /// The last of these that it was told.
    told: Revision,
    ending: watch::Receiver<bool>,
    stage: Stage,
    /// The last revision that was given out.
    at: Revision,
    said: Instant,
    /// How many commits are read from the log at a time.
    from_log: usize,
}

enum Stage {
    /// Nothing was said yet.
    Opening,
    /// `after` is to be looked at.
    Resuming(Token),
    Snapshot(Snapshot),
    Following,
}

impl Engine {
    /// Opens a stream of changes.
    ///
    /// # Errors
    /// Where a type is unknown, there are too many streams, or serving is ending.
    pub fn watch(&self, options: WatchOptions) -> Result<Changes, EngineError> {
        let feed = &self.inner.feed;
        let ending = feed.ending();
        if *ending.borrow() {
            return Err(EngineError::ShuttingDown);
        }
        self.knows_types(&options.resource_types)?;
        let WatchOptions {
            caller,
            watcher_id,
            address,
            ..
        } = options.clone();
        let registration = feed.register(caller, watcher_id, address);
        let registration = registration.ok_or_else(|| EngineError::TooManyWatchers {
            limit: feed.most_watchers(),
        })?;
        Ok(Changes {
            engine: self.clone(),
            registration,
            visible: feed.visible(),
            told: *feed.beats().borrow(),
            beats: feed.beats(),
            ending,
            stage: Stage::Opening,
            at: Revision(0),
            said: Instant::now(),
            from_log: 16,
            options,
        })
    }

    /// Enters what a cache has applied, and grants it a lease where it may have one.
    ///
    /// # Errors
    /// Where a first lease can't be noted in the store: none is granted then.
    pub async fn acknowledge(&self, ack: Ack<'_>) -> Result<Acknowledged, EngineError> {
        let inner = &self.inner;
        let (lease, head) = inner.feed.ack(&ack, || self.newest().revision);
        if !lease.is_zero() {
            // Before the first is given out: the next start has to know for how long.
            let longest = inner.feed.longest_lease();
            let store = Arc::clone(&inner.store);
            let note = || async { Ok(blocking(move || store.note_lease(longest)).await??) };
            let noted: Result<_, EngineError> = inner.lease_noted.get_or_try_init(note).await;
            noted?;
        }
        Ok(Acknowledged {
            lease,
            head: self.newest().token_of(head),
            // One node alone appends to its log: what it has is the newest.
            head_age: Duration::ZERO,
        })
    }

    /// The open streams, the oldest first.
    pub fn watchers(&self) -> Vec<Watcher> {
        let state = self.newest();
        let watcher = |listed: Listed| Watcher {
            watcher_id: listed.stream.watcher_id.clone(),
            session: listed.session.to_string(),
            caller: listed.stream.caller.clone(),
            address: listed.stream.address.clone(),
            sent: state.token_of(listed.sent),
            acknowledged: listed.acknowledged.map(|revision| state.token_of(revision)),
            lag: listed.lag,
            lease: listed.lease,
        };
        self.inner.feed.list().into_iter().map(watcher).collect()
    }

    /// How a revision of this store is named on the wire.
    pub fn token_of(&self, revision: Revision) -> Token {
        self.newest().token_of(revision)
    }

    /// The newest schema.
    pub(crate) fn newest_schema(&self) -> Option<Arc<Schema>> {
        self.newest().schema.clone()
    }

    /// The dependency keys that `changes` invalidate, each once; `None` where everything is.
    pub fn invalidated(&self, changes: &[Change]) -> Option<Vec<u64>> {
        invalidated(&self.newest().index, changes)
    }

    /// Ends all streams, so that clients resume elsewhere. Everything else goes on.
    pub fn end_watches(&self) {
        self.inner.feed.end();
    }

    /// Waits until no cache can answer from before `revision`, which is published; at most
    /// `wait`, and not past the deadline.
    pub(super) async fn propagated(
        &self,
        revision: Revision,
        wait: Duration,
        deadline: Option<Instant>,
    ) -> Propagation {
        let now = Instant::now();
        let end = now.checked_add(wait.min(MOST_WAIT)).unwrap_or(now);
        let until = deadline.map_or(end, |deadline| deadline.min(end));
        let mut laggards: Vec<String> = (self.inner.feed.barrier(revision, until).await)
            .iter()
            .map(ToString::to_string)
            .collect();
        let known = self.inner.leases_unknown_until;
        tokio::time::sleep_until(known.min(until).into()).await;
        if known > Instant::now() {
            laggards.push(BEFORE_RESTART.to_owned());
        }
        Propagation {
            complete: laggards.is_empty(),
            laggards,
        }
    }

    fn knows_types(&self, types: &[Arc<str>]) -> Result<(), EngineError> {
        let state = self.newest();
        let Some(schema) = state.schema.as_deref() else {
            return Ok(());
        };
        for (index, name) in types.iter().enumerate() {
            let known = schema.knows_filter(&of_type(name));
            known.map_err(|problem| EngineError::WatchedType { index, problem })?;
        }
        Ok(())
    }
}

/// Longer than any lease: a wait that is longer would only keep a request open.
const MOST_WAIT: Duration = Duration::from_secs(3_600);

fn of_type(name: &Arc<str>) -> TupleFilter {
    TupleFilter {
        resource_type: Some(Arc::clone(name)),
        ..TupleFilter::default()
    }
}

impl Changes {
    /// What was asked for.
    pub fn options(&self) -> &WatchOptions {
        &self.options
    }

    /// What comes next, as soon as it is there.
    ///
    /// # Errors
    /// The stream is over: serving ends, or the log can't be read.
    pub async fn next(&mut self) -> Result<WatchEvent, EngineError> {
        let event = match std::mem::replace(&mut self.stage, Stage::Following) {
            Stage::Opening => self.hello().await?,
            Stage::Resuming(after) => match self.resume(after).await? {
                Some(cause) => self.reset(cause),
                None => self.follow().await?,
            },
            Stage::Snapshot(snapshot) => WatchEvent::Snapshot(self.piece(snapshot).await?),
            Stage::Following => self.follow().await?,
        };
        self.said = Instant::now();
        Ok(event)
    }

    /// Everything up to this revision has left for the client.
    pub fn sent(&self, revision: Revision) {
        self.registration.sent(revision);
    }

    async fn hello(&mut self) -> Result<WatchEvent, EngineError> {
        let store = Arc::clone(&self.engine.inner.store);
        let oldest = blocking(move || store.oldest()).await??;
        let state = self.engine.newest();
        self.at = state.revision;
        self.sent(state.revision);
        let hello = Hello {
            token: state.token(),
            chain: state.chain,
            oldest: state.token_of(oldest),
            heartbeat: self.engine.inner.heartbeat,
            lease: self.engine.inner.feed.longest_lease(),
            session: self.registration.session.to_string(),
            key_version: KEY_VERSION,
        };
        self.stage = match self.options.after {
            Some(after) => Stage::Resuming(after),
            None if self.options.snapshot => Stage::Snapshot(self.snapshot(state)?),
            None => Stage::Following,
        };
        Ok(WatchEvent::Hello(hello))
    }

    /// Goes on after what the client has applied, or says why that can't be.
    async fn resume(&mut self, after: Token) -> Result<Option<ResetCause>, EngineError> {
        let newest = self.engine.newest();
        if after.epoch != newest.epoch {
            return Ok(Some(ResetCause::Epoch));
        }
        let ahead = Instant::now() + AHEAD;
        match self.engine.at_least(after, Some(ahead)).await {
            Ok(_) => {}
            Err(EngineError::RevisionAhead { .. }) => return Ok(Some(ResetCause::Ahead)),
            Err(error) => return Err(error),
        }
        let store = Arc::clone(&self.engine.inner.store);
        let found = blocking(move || store.position(after.revision)).await?;
        match found {
            Err(StoreError::Trimmed { .. }) => Ok(Some(ResetCause::Trimmed)),
            Err(error) => Err(error.into()),
            Ok(place)
                if self
                    .options
                    .after_chain
                    .is_some_and(|chain| chain != place.chain) =>
            {
                Ok(Some(ResetCause::History))
            }
            Ok(_) => {
                self.at = after.revision;
                self.sent(after.revision);
                Ok(None)
            }
        }
    }

    fn reset(&mut self, cause: ResetCause) -> WatchEvent {
        let state = self.engine.newest();
        self.at = state.revision;
        self.sent(state.revision);
        WatchEvent::Reset {
            cause,
            token: state.token(),
        }
    }

    fn snapshot(&self, state: Arc<State>) -> Result<Snapshot, EngineError> {
        let inner = &self.engine.inner;
        let turn = Arc::clone(&inner.snapshots).try_acquire_owned();
        let turn = turn.map_err(|_| EngineError::TooManySnapshots {
            limit: inner.most_snapshots,
        })?;
        let filters = self.options.resource_types.iter().map(of_type).collect();
        Ok(Snapshot::begin(
            state,
            filters,
            turn,
            inner.snapshot_patience,
        ))
    }

    async fn piece(&mut self, mut snapshot: Snapshot) -> Result<SnapshotPiece, EngineError> {
        if *self.ending.borrow() {
            return Err(EngineError::ShuttingDown);
        }
        let now = self.engine.now();
        let (mut snapshot, fetched) = blocking(move || {
            let fetched = snapshot.fetch(now);
            (snapshot, fetched)
        })
        .await?;
        let (state, tuples) = fetched.ok_or_else(|| EngineError::RevisionTrimmed {
            asked: self.engine.newest().token_of(self.at),
            newest: self.engine.newest().token(),
        })?;
        let piece = SnapshotPiece {
            state,
            is_first: snapshot.is_first,
            is_last: snapshot.is_over(),
            tuples,
        };
        if !piece.is_last {
            snapshot.is_first = false;
            self.stage = Stage::Snapshot(snapshot);
        }
        Ok(piece)
    }

    async fn follow(&mut self) -> Result<WatchEvent, EngineError> {
        loop {
            if *self.ending.borrow() {
                return Err(EngineError::ShuttingDown);
            }
            let visible = *self.visible.borrow_and_update();
            if visible > self.at {
                return self.catch_up(visible).await;
            }
            if self.is_awaited() {
                return Ok(self.heartbeat());
            }
            let quiet = self.said + self.engine.inner.heartbeat;
            let more = async {
                tokio::select! {
                    more = self.visible.changed() => more,
                    beat = self.beats.changed() => beat,
                    ending = self.ending.changed() => ending,
                }
            };
            match timeout_at(quiet.into(), more).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(EngineError::ShuttingDown),
                Err(_) => return Ok(self.heartbeat()),
            }
        }
    }

    /// Whether a write has begun to wait for a commit that this cache was sent before.
    fn is_awaited(&mut self) -> bool {
        let awaited = *self.beats.borrow_and_update();
        let is_due = self.told < awaited && awaited <= self.at;
        if is_due {
            self.told = awaited;
        }
        is_due && !self.options.watcher_id.is_empty()
    }

    fn heartbeat(&self) -> WatchEvent {
        WatchEvent::Heartbeat {
            token: self.engine.newest().token_of(self.at),
            at: self.engine.now(),
        }
    }

    /// The next commits: from memory, or from the log where they are no longer there.
    async fn catch_up(&mut self, visible: Revision) -> Result<WatchEvent, EngineError> {
        let commits = match self.engine.inner.feed.recent(self.at, AT_ONCE) {
            Some(commits) => commits,
            None => match self.read_log(visible).await? {
                Some(commits) => commits,
                None => return Ok(self.reset(ResetCause::Trimmed)),
            },
        };
        if let Some(last) = commits.last() {
            self.at = last.position.revision;
        }
        Ok(WatchEvent::Commits(commits))
    }

    /// What follows in the log up to `visible`, some of it; `None` where it was trimmed.
    async fn read_log(
        &mut self,
        visible: Revision,
    ) -> Result<Option<Vec<Arc<LiveCommit>>>, EngineError> {
        /// What one reading should weigh: a watcher that does not read holds it.
        const WEIGHT: usize = 1 << 20;
        let inner = &self.engine.inner;
        // Those that are far behind share what reading the log may cost everybody else.
        let turn = inner.log_readers.acquire().await;
        let _turn = turn.map_err(|_| EngineError::ShuttingDown)?;
        let left = usize::try_from(visible.0 - self.at.0).unwrap_or(usize::MAX);
        let (store, after, most) = (Arc::clone(&inner.store), self.at, self.from_log.min(left));
        let read = match blocking(move || store.read(after, most)).await? {
            Err(StoreError::Trimmed { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(read) if read.is_empty() => {
                let problem = "the log ends before what was published".to_owned();
                return Err(EngineError::Internal(problem));
            }
            Ok(read) => read,
        };
        let awaited = inner.feed.awaited();
        let live = read.into_iter().map(|(commit, position)| {
            // Those that it lags behind for are waiting for it to come to this.
            let ack_now = position.revision == awaited;
            Arc::new(LiveCommit::new(commit, position, ack_now))
        });
        let live: Vec<_> = live.collect();
        let weight: usize = live.iter().map(|commit| commit.weight()).sum();
        self.from_log = (WEIGHT * live.len() / weight.max(1)).clamp(1, AT_ONCE);
        Ok(Some(live))
    }
}
