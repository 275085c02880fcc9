//! All that a service sees: ask, write, read, close.
//!
//! Hides where states come from: which one answers a question, how old ones are found again, and
//! that there is one writer behind a queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout_at;

use crate::commit::history::Published;
use crate::commit::{self, Job, Latch, Message, Setup};
use crate::eval;
use crate::index::ScanPosition;
use crate::plan::{Action, Command};
use crate::revision::{Consistency, Token};
use crate::schema::Schema;
use crate::state::State;
use crate::state::checkpoint::Origin;
use crate::store::{Loaded, Store};
use crate::time::Timestamp;
use crate::tuple::TupleFilter;
use crate::watch::feed::Feed;
use crate::watch::leases::Leases;
use crate::watch::{BootClock, boot_clock};

mod checks;
mod counts;
mod cursor;
mod error;
mod export;
mod held;
mod import;
mod lists;
mod questions;
mod revoke;
mod rows;
mod schema;
mod snapshots;
mod states;
mod streams;
mod watching;

pub use self::checks::Batch;
pub use self::counts::Counts;
pub use self::error::{EngineError, OpenError};
pub use self::export::Export;
pub use self::held::RolesHeld;
pub use self::import::{Import, ImportError};
pub use self::lists::{ListQuestion, ListRequest, ListRow, ListRows, Pack};
pub use self::rows::{TupleRow, TupleRows};
pub use self::streams::StreamTurn;
pub use self::watching::{
    Acknowledged, Changes, Hello, ResetCause, SnapshotPiece, WatchEvent, WatchOptions, Watcher,
};
pub use crate::commit::{Clock, Keeping, WriteOutcome, system_clock};
pub use crate::plan::{Limits, Propagation, Written};
pub use crate::watch::leases::Ack;
pub use crate::watch::live::{Audience, LiveCommit};

/// What an [`Engine`] is opened with.
#[derive(Clone)]
pub struct EngineOptions {
    /// Tells the time.
    pub clock: Clock,
    /// How large a write may be.
    pub limits: Limits,
    /// How much one check may read and name.
    pub checks: eval::Limits,
    /// The most questions of one batch.
    pub batch_items: usize,
    /// How many commands may wait for the writer.
    pub queue: usize,
    /// How long a read waits for a revision at most, whatever its deadline.
    pub longest_wait: Duration,
    /// How often the writer looks at the clock while something is to expire.
    pub expiry_poll: Duration,
    /// When checkpoints are made, and how much of the log stays behind them.
    pub keeping: Keeping,
    /// Tells how long ago something was, for leases.
    pub boot_clock: BootClock,
    /// The longest lease that a cache is granted.
    pub lease: Duration,
    /// The most streams of changes that are open at the same time.
    pub watchers: usize,
    /// How long a stream of changes is quiet at most.
    pub heartbeat: Duration,
    /// The most states that are sent whole at the same time.
    pub snapshots: usize,
    /// How long one is kept of which nothing is read.
    pub snapshot_patience: Duration,
    /// The most lists, reads of tuples, exports and imports that are open at the same time.
    pub streams: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            clock: system_clock(),
            limits: Limits::default(),
            checks: eval::Limits::default(),
            batch_items: 10_000,
            queue: 4_096,
            longest_wait: Duration::from_secs(30),
            expiry_poll: Duration::from_secs(1),
            keeping: Keeping::default(),
            boot_clock: boot_clock(),
            lease: Duration::from_secs(3),
            watchers: 10_000,
            heartbeat: Duration::from_secs(10),
            snapshots: 8,
            snapshot_patience: Duration::from_secs(60),
            streams: 1_000,
        }
    }
}

/// One node's state and its writer. Clones share both; with the last one gone the writer ends as
/// by [`Engine::close`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    published: Arc<Published>,
    latch: Arc<Latch>,
    to_writer: mpsc::Sender<Message>,
    clock: Clock,
    limits: Limits,
    checks: eval::Limits,
    /// One permit for each check that may take long at the same time.
    long_checks: Semaphore,
    /// One permit for each list that is worked at.
    list_turns: Semaphore,
    batch_items: usize,
    longest_wait: Duration,
    fresh: bool,
    /// Until then leases from before this start may run that nobody here knows.
    leases_unknown_until: Instant,
    feed: Arc<Feed>,
    /// Set once the store knows how long leases are.
    lease_noted: OnceCell<()>,
    /// One permit for each stream that reads the log at the same time.
    log_readers: Semaphore,
    heartbeat: Duration,
    /// One permit for each state that is sent whole.
    snapshots: Arc<Semaphore>,
    most_snapshots: usize,
    snapshot_patience: Duration,
    /// One permit for each stream of answers, watchers apart.
    streams: Arc<Semaphore>,
    most_streams: usize,
    counts: Counts,
}

/// The schema at one revision.
#[derive(Clone, Debug)]
pub struct SchemaView {
    /// The schema; `None` before one was written.
    pub schema: Option<Arc<Schema>>,
    /// The revision that was read.
    pub token: Token,
    /// The revision that wrote the schema; revision 0 before one was.
    pub written_at: Token,
}

/// How an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The newest revision.
    pub token: Token,
    /// How many tuples stand, expired ones that are not yet removed included.
    pub tuples: u64,
    /// Whether a schema was written.
    pub has_schema: bool,
    /// Whether writes are taken: not after the store failed, nor while closing.
    pub writable: bool,
}

impl Engine {
    /// Loads the store's newest state and starts the writer. Blocks while the log is read.
    ///
    /// # Errors
    /// Where the store can't be read or holds what this version does not understand.
    pub fn open(store: Box<dyn Store>, options: EngineOptions) -> Result<Self, OpenError> {
        let store: Arc<dyn Store> = store.into();
        let loaded = store.load()?;
        let fresh = loaded.fresh;
        let leases_unknown_until = Instant::now() + loaded.longest_lease;
        let last_checkpoint = loaded
            .checkpoint
            .as_ref()
            .map(|kept| kept.position.revision);
        let (state, since_checkpoint) = replay(loaded)?;
        let state = Arc::new(state);
        let published = Arc::new(Published::new(
            Arc::clone(&state),
            Arc::clone(&options.clock),
        ));
        let latch = Arc::new(Latch::new());
        let counts = Counts::default();
        let feed = start_feed(&state, &options).map_err(OpenError::Thread)?;
        let (to_writer, inbox) = mpsc::channel(options.queue.max(1));
        commit::start(Setup {
            store: Arc::clone(&store),
            state,
            published: Arc::clone(&published),
            feed: Arc::clone(&feed),
            latch: Arc::clone(&latch),
            counts: Arc::clone(&counts.writer),
            clock: Arc::clone(&options.clock),
            limits: options.limits.clone(),
            expiry_poll: options.expiry_poll,
            keeping: options.keeping,
            since_checkpoint,
            last_checkpoint,
            inbox,
            outbox: to_writer.downgrade(),
        })
        .map_err(OpenError::Thread)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                published,
                latch,
                to_writer,
                clock: options.clock,
                limits: options.limits,
                checks: options.checks,
                long_checks: Semaphore::new(processors()),
                list_turns: Semaphore::new(processors().max(2)),
                batch_items: options.batch_items,
                longest_wait: options.longest_wait,
                fresh,
                leases_unknown_until,
                feed,
                lease_noted: OnceCell::new(),
                log_readers: Semaphore::new(processors()),
                heartbeat: options.heartbeat,
                snapshots: Arc::new(Semaphore::new(options.snapshots)),
                most_snapshots: options.snapshots,
                snapshot_patience: options.snapshot_patience,
                streams: Arc::new(Semaphore::new(options.streams)),
                most_streams: options.streams,
                counts,
            }),
        })
    }

    /// Has the writer plan and append a command, and answers when it is durable.
    ///
    /// # Errors
    /// See [`EngineError`]: a refusal, or what became of the write.
    pub async fn write(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Written, EngineError> {
        let options = &command.options;
        let wait = options.wait_for_watchers.filter(|_| !options.dry_run);
        let written = match command.action {
            Action::RevokeMatching { .. } => self.revoke_matching(command, deadline).await,
            Action::DeleteRole { .. } => self.delete_role(command, deadline).await,
            Action::WriteSchema { .. } => self.write_schema(command, deadline).await,
            _ => self.submit(command, deadline).await,
        };
        self.inner.counts.write(&written);
        let mut written = written?;
        written.propagation = match wait {
            Some(wait) => {
                let revision = written.token.revision;
                Some(self.propagated(revision, wait, deadline).await)
            }
            None => None,
        };
        Ok(written)
    }

    /// Hands one command to the writer, and waits for its answer.
    async fn submit(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Written, EngineError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Job {
            command,
            deadline,
            answer: Some(answer),
        });
        let late = |outcome| EngineError::DeadlineExceeded {
            outcome: Some(outcome),
        };
        within(deadline, self.inner.to_writer.send(Message::Write(job)))
            .await
            .ok_or(late(WriteOutcome::NotWritten))?
            .map_err(|_| EngineError::ShuttingDown)?;
        let answered = within(deadline, answered)
            .await
            .ok_or(late(WriteOutcome::Unknown))?;
        Ok(answered.map_err(|_| self.unanswered())??)
    }

    /// The tuples that `filter` selects, at most `limit` of them (0: all). A cursor continues at
    /// its own revision and instant, whatever `at` says.
    ///
    /// # Errors
    /// Where the state can't be had or the cursor is not of this filter.
    pub async fn read_tuples(
        &self,
        filter: TupleFilter,
        at: Consistency,
        limit: u32,
        cursor: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<TupleRows, EngineError> {
        let hash = cursor::filter_hash(&filter);
        let cursor = cursor.map(|text| cursor::Cursor::parse(text, hash));
        let cursor = cursor.transpose()?;
        let at = match &cursor {
            Some(cursor) => Consistency::Exactly(cursor.token),
            None => at,
        };
        let state = self.state_at(at, deadline).await?;
        let schema = state.schema.as_deref().ok_or(EngineError::NoSchema)?;
        schema.knows_filter(&filter).map_err(EngineError::Filter)?;
        let instant = cursor.as_ref().map_or_else(|| self.now(), |c| c.instant);
        let after = cursor.map(|cursor| ScanPosition::from_bytes(cursor.after));
        let store = Arc::clone(&self.inner.store);
        Ok(TupleRows::new(state, store, filter, instant, after, limit))
    }

    /// The schema.
    ///
    /// # Errors
    /// Where the state can't be had.
    pub async fn schema(
        &self,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<SchemaView, EngineError> {
        let state = self.state_at(at, deadline).await?;
        Ok(SchemaView {
            schema: state.schema.clone(),
            token: state.token(),
            written_at: state.token_of(state.schema_revision),
        })
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        let state = self.newest();
        Status {
            token: state.token(),
            tuples: state.tuple_count(),
            has_schema: state.schema.is_some(),
            writable: self.inner.latch.problem().is_none(),
        }
    }

    /// What it has counted.
    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    /// Why writes are no longer taken, once they are not: for health. `None` until then.
    pub fn watch_writable(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.inner.latch.subscribe()
    }

    /// Whether the store was made by this very opening, so that a template may go into it.
    pub fn is_fresh(&self) -> bool {
        self.inner.fresh
    }

    /// The server's time: max(clock, the last commit's time).
    pub fn now(&self) -> Timestamp {
        (self.inner.clock)().max(self.inner.published.time())
    }

    /// Takes no more writes, answers those that wait, and closes the store.
    ///
    /// # Errors
    /// Where the store can't be closed cleanly; what was acknowledged is durable all the same.
    pub async fn close(&self) -> Result<(), EngineError> {
        self.end_watches();
        let (answer, answered) = oneshot::channel();
        if (self.inner.to_writer.send(Message::Close(answer)).await).is_err() {
            // Somebody else closed it.
            return Ok(());
        }
        match answered.await {
            Ok(closed) => Ok(closed?),
            Err(_) => Ok(()),
        }
    }

    fn newest(&self) -> Arc<State> {
        self.inner.published.newest()
    }

    /// Does what takes long: as much at a time as there are processors, nothing on a thread that
    /// others wait for.
    async fn at_length<T>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce() -> T,
    ) -> Result<T, EngineError> {
        let late = EngineError::DeadlineExceeded { outcome: None };
        let turn = within(deadline, self.inner.long_checks.acquire()).await;
        if deadline.is_some_and(|end| end <= Instant::now()) {
            return Err(late);
        }
        let Some(Ok(_turn)) = turn else {
            return Err(late);
        };
        Ok(match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
            _ => work(),
        })
    }

    /// The writer is gone without an answer: it ended, or broke in the middle of an append.
    fn unanswered(&self) -> EngineError {
        match self.inner.latch.problem() {
            Some(problem) => EngineError::StoreFailed {
                outcome: Some(WriteOutcome::Unknown),
                problem: problem.to_string(),
            },
            None => EngineError::ShuttingDown,
        }
    }
}

/// The feed of what will follow `state`, without any stream or lease.
fn start_feed(state: &State, options: &EngineOptions) -> std::io::Result<Arc<Feed>> {
    let clock = Arc::clone(&options.boot_clock);
    // Without randomness the process's own number still differs from run to run.
    let incarnation = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let (epoch, head) = (state.epoch, state.revision);
    let leases = Leases::new(epoch, incarnation, options.lease, head, clock());
    Feed::start(leases, head, options.watchers, clock)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The state that a store holds, and the weight of the commits after its checkpoint.
fn replay(loaded: Loaded) -> Result<(State, u64), OpenError> {
    let mut state = match loaded.checkpoint {
        None => State::empty(loaded.epoch, loaded.seed, loaded.position.chain),
        Some(mut checkpoint) => {
            let origin = Origin {
                epoch: loaded.epoch,
                seed: loaded.seed,
                revision: checkpoint.position.revision,
                time: checkpoint.time,
                chain: checkpoint.position.chain,
            };
            State::read_from(&mut *checkpoint.reader, origin).map_err(OpenError::Checkpoint)?
        }
    };
    let mut count = 0;
    for item in loaded.commits {
        let (commit, position) = item?;
        state = state.apply(&commit)?;
        state.chain = position.chain;
        state = state.merged_where_due();
        count += commit::background::weight(&commit);
    }
    Ok((state, count))
}

/// What the future gives, or `None` where the deadline passes first.
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}
