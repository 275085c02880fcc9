//! The one writer: takes what waits, plans it, appends it with one sync, publishes, answers.
//!
//! Hides the queue, the batches, and what happens when the store fails. Nobody else changes the
//! state or appends to the log. Small commands share a batch; a long one is one by itself, and lets
//! those go first that came meanwhile: whoever writes little waits for one long command at most.
//! Where merges of the index are behind, long commands wait for them, too.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, warn};

use crate::counter::{Counter, Spans};
use crate::plan::{self, Action, Command, Limits, Refusal, WriteOptions, Written};
use crate::revision::Revision;
use crate::state::{Commit, State};
use crate::store::{Appended, Position, Store, StoreError};
use crate::time::Timestamp;
use crate::watch::feed::Feed;
use crate::watch::live::LiveCommit;

pub(crate) mod background;
pub(crate) mod history;

pub use self::background::Keeping;
use self::background::{Background, Finished};
use self::history::Published;

/// Tells the time. The engine never lets it run back.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of the operating system.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::new(0, 0)
            .unwrap_or_default()
            .plus(since.unwrap_or_default())
    })
}

/// The most commands that share one sync.
const BATCH: usize = 1_024;
/// From so many changes on a command is long.
const LONG: usize = 1_000;
/// How long the removal of what has expired waits for company.
const EXPIRY_APART: Duration = Duration::from_millis(50);

/// After so long without a commit what is left of large ones is tidied up.
const REST: Duration = Duration::from_millis(250);
/// From one merge at leisure to the next: the memory that the last one let go of is given back
/// meanwhile.
const LEISURE: Duration = Duration::from_millis(150);

/// What became of a write that has no other answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It may stand or not: read before trying again, or repeat it under its idempotency key.
    Unknown,
    /// It does not stand, and may be tried again.
    NotWritten,
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// It is refused; nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// The store failed, now or before: this process takes no more writes.
    #[error("the store failed ({problem}); this process takes no more writes")]
    StoreFailed {
        /// What became of this one.
        outcome: WriteOutcome,
        /// What the store said.
        problem: String,
    },
    /// The deadline passed first.
    #[error("the deadline passed before the write was answered")]
    DeadlineExceeded {
        /// What became of it.
        outcome: WriteOutcome,
    },
    /// A commit of its own plan could not be applied: a defect of this program. Nothing was
    /// changed.
    #[error("internal error: {0}")]
    Internal(String),
    /// The writer is closing; the write was not written.
    #[error("the server is shutting down")]
    ShuttingDown,
}

type Answer = Result<Written, WriteError>;

/// What a writer counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Commits that became durable.
    pub commits: Counter,
    /// How long the log took for each batch of them.
    pub appends: Spans,
}

/// A command, and who waits for its answer: nobody for those that the writer makes itself.
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) deadline: Option<Instant>,
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}

pub(crate) enum Message {
    Write(Box<Job>),
    /// Work behind the writer's back is done.
    Finished(Finished),
    /// No more writes: answer what waits, and end.
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// Why no writes are taken any more, where none are. Once broken it stays so.
pub(crate) struct Latch(watch::Sender<Option<Arc<str>>>);

/// Breaks the latch unless it is disarmed: whatever ends the dangerous part, a panic too.
struct Armed<'a>(Option<&'a Latch>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Why no writes are taken.
    pub(crate) fn problem(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Tells when writes stop being taken.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.subscribe()
    }

    fn arm(&self) -> Armed<'_> {
        Armed(Some(self))
    }

    fn break_for(&self, problem: &str) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert_with(|| problem.into());
            first
        });
    }
}

impl Counts {
    fn durable(&self, commits: usize, took: Duration) {
        self.commits
            .add_many(u64::try_from(commits).unwrap_or(u64::MAX));
        self.appends.add(took);
    }
}

impl Armed<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if let Some(latch) = self.0 {
            latch.break_for("an append was interrupted");
        }
    }
}

/// What the writer starts with.
pub(crate) struct Setup {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: Arc<State>,
    pub(crate) published: Arc<Published>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) latch: Arc<Latch>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// How often it looks whether something has expired, at most.
    pub(crate) expiry_poll: Duration,
    /// When checkpoints are made, and what stays of the log.
    pub(crate) keeping: Keeping,
    /// The weight of the commits that were read after the newest checkpoint.
    pub(crate) since_checkpoint: u64,
    /// Where the newest checkpoint stands.
    pub(crate) last_checkpoint: Option<Revision>,
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// The other end of `inbox`, weak: the writer ends when all others have let go of theirs.
    pub(crate) outbox: mpsc::WeakSender<Message>,
}

/// Starts the writer on a thread of its own.
///
/// # Errors
/// Where no thread can be had.
pub(crate) fn start(setup: Setup) -> std::io::Result<()> {
    // The writer blocks on its store, and waits for messages or time: a runtime of its own for
    // the waiting, so that it hangs from nobody else's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let writer = Writer::new(setup);
    thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || writer.run(&runtime))
        .map(drop)
}

struct Writer {
    store: Arc<dyn Store>,
    state: Arc<State>,
    published: Arc<Published>,
    feed: Arc<Feed>,
    latch: Arc<Latch>,
    counts: Arc<Counts>,
    clock: Clock,
    limits: Limits,
    expiry_poll: Duration,
    inbox: mpsc::Receiver<Message>,
    /// Long commands that came in, in their order.
    long: VecDeque<Job>,
    background: Background,
    last_expiry: Option<Instant>,
    last_commit: Instant,
    last_tidied: Option<Instant>,
    closing: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// What a batch will have done once it is durable.
struct Batch {
    state: State,
    commits: Vec<Commit>,
    answers: Vec<Planned>,
    /// The revisions that a write of the batch waits for.
    awaited: BTreeSet<Revision>,
}

/// An answer that waits for the sync of its batch.
struct Planned {
    to: Option<oneshot::Sender<Answer>>,
    answer: Answer,
    /// Whether it says that something stands that commits of the batch make: its own commits,
    /// or those of the write that it repeats or finds done.
    rests_on_batch: bool,
}

impl Writer {
    fn new(setup: Setup) -> Self {
        Self {
            background: Background::new(
                Arc::clone(&setup.store),
                setup.outbox,
                setup.keeping,
                setup.since_checkpoint,
                setup.last_checkpoint,
            ),
            store: setup.store,
            state: setup.state,
            published: setup.published,
            feed: setup.feed,
            latch: setup.latch,
            counts: setup.counts,
            clock: setup.clock,
            limits: setup.limits,
            expiry_poll: setup.expiry_poll,
            inbox: setup.inbox,
            long: VecDeque::new(),
            last_expiry: None,
            last_commit: Instant::now(),
            last_tidied: None,
            closing: None,
        }
    }

    fn run(mut self, runtime: &tokio::runtime::Runtime) {
        self.background.look_after(&self.state);
        while let Some(jobs) = self.take(runtime) {
            self.commit(jobs);
            if !self.holds_long()
                && let Some(job) = self.long.pop_front()
            {
                self.commit(vec![job]);
            }
            if let Some(state) = self.background.catch_up(&self.state) {
                self.reshape(state);
            }
            self.background.look_after(&self.state);
            if self.until_leisure().is_zero() && self.background.tidy(&self.state) {
                self.last_tidied = Some(Instant::now());
            }
        }
        self.end();
    }

    /// The commit path: take, plan, append, publish, answer.
    fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        if let Some(problem) = self.latch.problem() {
            return refuse_all(jobs, &problem);
        }
        let batch = self.plan(jobs);
        if batch.commits.is_empty() {
            return answer_all(batch.answers);
        }
        let latch = Arc::clone(&self.latch);
        let armed = latch.arm();
        let begun = Instant::now();
        match self.store.append(self.position(), &batch.commits) {
            Appended::Durable(positions) => {
                self.counts.durable(positions.len(), begun.elapsed());
                let answers = self.publish(batch, &positions);
                armed.disarm();
                answer_all(answers);
            }
            Appended::Unknown(error) => {
                self.fail(batch.answers, WriteOutcome::Unknown, &error.to_string());
            }
            Appended::NotWritten(error) => {
                self.fail(batch.answers, WriteOutcome::NotWritten, &error.to_string());
            }
            Appended::Conflict(end) => {
                let problem = format!("the log ends at revision {}, not here", end.revision);
                self.fail(batch.answers, WriteOutcome::NotWritten, &problem);
            }
        }
    }

    /// Waits for commands, or until something expires; `None` once the writer is to end. Gives the
    /// small ones.
    fn take(&mut self, runtime: &tokio::runtime::Runtime) -> Option<Vec<Job>> {
        let mut jobs = Vec::new();
        if self.closing.is_none() && (self.long.is_empty() || self.holds_long()) {
            let wait = [self.until_expiry(), self.until_rest()];
            let wait = wait.into_iter().flatten().min();
            let inbox = &mut self.inbox;
            let first = runtime.block_on(async {
                match wait {
                    Some(wait) => tokio::time::timeout(wait, inbox.recv()).await.ok(),
                    None => Some(inbox.recv().await),
                }
            });
            match first {
                Some(None) => return None,
                Some(Some(message)) => self.sort(message, &mut jobs),
                None => {}
            }
        }
        while jobs.len() + self.long.len() < BATCH
            && let Ok(message) = self.inbox.try_recv()
        {
            self.sort(message, &mut jobs);
        }
        if jobs.is_empty() && self.long.is_empty() && self.closing.is_some() {
            return None;
        }
        if self.until_expiry().is_some_and(|wait| wait.is_zero()) {
            self.last_expiry = Some(Instant::now());
            jobs.push(Job::expire());
        }
        Some(jobs)
    }

    fn sort(&mut self, message: Message, jobs: &mut Vec<Job>) {
        match message {
            Message::Write(job) if job.command.action.size() >= LONG => self.long.push_back(*job),
            Message::Write(job) => jobs.push(*job),
            Message::Finished(finished) => self.install(finished),
            Message::Close(answer) => {
                self.inbox.close();
                self.closing = Some(answer);
            }
        }
    }

    /// Whether long commands have to wait for a merge that is under way, as small ones don't; not
    /// where so many wait that there is no room for more.
    fn holds_long(&self) -> bool {
        let room = self.closing.is_none() && self.long.len() < BATCH;
        room && self.background.is_behind(&self.state)
    }

    /// Work that was done aside comes back; the contents stay what they are.
    fn install(&mut self, finished: Finished) {
        if let Some(state) = self.background.install(&self.state, finished) {
            self.reshape(state);
        }
    }

    /// Publishes the same contents in another shape.
    fn reshape(&mut self, state: State) {
        self.state = Arc::new(state);
        self.published.publish(Arc::clone(&self.state));
    }

    /// Plans each against the state that the ones before it produce.
    fn plan(&self, jobs: Vec<Job>) -> Batch {
        let mut batch = Batch {
            state: State::clone(&self.state),
            commits: Vec::new(),
            answers: Vec::with_capacity(jobs.len()),
            awaited: BTreeSet::new(),
        };
        let now = (self.clock)().max(self.state.time);
        for job in jobs {
            let answer = match job.is_over() {
                true => Err(WriteError::DeadlineExceeded {
                    outcome: WriteOutcome::NotWritten,
                }),
                false => batch.add(&job.command, now, &self.limits),
            };
            if job.command.options.wait_for_watchers.is_some()
                && !job.command.options.dry_run
                && let Ok(written) = &answer
            {
                batch.awaited.insert(written.token.revision);
            }
            if let Err(WriteError::Refused(reason)) = &answer {
                debug!(caller = %job.command.caller, %reason, "a write is refused");
            }
            batch.answers.push(Planned {
                to: job.answer,
                rests_on_batch: !job.command.options.dry_run
                    && (answer.as_ref())
                        .is_ok_and(|written| written.token.revision > self.state.revision),
                answer,
            });
        }
        batch
    }

    /// Makes a durable batch visible: to the table of leases, so that the age of what readers see
    /// is known, then to readers, then to watchers. Gives back its answers.
    fn publish(&mut self, batch: Batch, positions: &[Position]) -> Vec<Planned> {
        let Batch {
            mut state,
            commits,
            answers,
            awaited,
        } = batch;
        if let Some(last) = positions.last() {
            state.chain = last.chain;
            self.feed.committed(last.revision);
        }
        self.last_commit = Instant::now();
        let weight = commits.iter().map(background::weight).sum();
        self.background.committed(weight);
        self.state = Arc::new(state);
        self.published.publish(Arc::clone(&self.state));
        let live = commits
            .into_iter()
            .zip(positions)
            .map(|(commit, position)| {
                let ack_now = awaited.contains(&position.revision);
                Arc::new(LiveCommit::new(commit, *position, ack_now))
            });
        self.feed.publish(live.collect());
        answers
    }

    fn fail(&self, answers: Vec<Planned>, outcome: WriteOutcome, problem: &str) {
        error!(
            problem,
            "the store failed: this process takes no more writes"
        );
        self.latch.break_for(problem);
        let failed = answers.into_iter().map(|planned| Planned {
            answer: Err(WriteError::StoreFailed {
                outcome: match planned.rests_on_batch {
                    true => outcome,
                    false => WriteOutcome::NotWritten,
                },
                problem: problem.to_owned(),
            }),
            ..planned
        });
        answer_all(failed.collect());
    }

    fn position(&self) -> Position {
        Position {
            revision: self.state.revision,
            chain: self.state.chain,
        }
    }

    /// How long until the next tuple or lock is to be removed; `None` where none ever is.
    fn until_expiry(&self) -> Option<Duration> {
        if self.latch.problem().is_some() {
            return None;
        }
        let due = self.state.next_expiry()?;
        let by_clock = due.since((self.clock)().max(self.state.time));
        let apart = self.last_expiry.map_or(Duration::ZERO, |last| {
            EXPIRY_APART.saturating_sub(last.elapsed())
        });
        Some(by_clock.min(self.expiry_poll).max(apart))
    }

    /// How long until nothing was written for a while, where there is something to tidy then.
    fn until_rest(&self) -> Option<Duration> {
        let untidy = self.background.is_untidy(&self.state);
        untidy.then_some(self.until_leisure())
    }

    /// How long until it may be tidied.
    fn until_leisure(&self) -> Duration {
        let left = REST.saturating_sub(self.last_commit.elapsed());
        let apart = self.last_tidied.map_or(Duration::ZERO, |last| {
            LEISURE.saturating_sub(last.elapsed())
        });
        left.max(apart)
    }

    fn end(mut self) {
        let checkpointed = self.background.end(&self.state);
        if let Err(problem) = checkpointed {
            warn!(%problem, "no checkpoint at the end: the next start reads more of the log");
        }
        let closed = self.store.close();
        self.latch.break_for("it was closed");
        if let Some(answer) = self.closing.take() {
            drop(answer.send(closed));
        }
    }
}

impl Drop for Writer {
    /// However it ends, by a panic too, nobody goes on believing that writes are taken.
    fn drop(&mut self) {
        self.latch.break_for("the writer ended");
    }
}

impl Batch {
    /// Plans a command and applies its commits, or leaves the batch as it was.
    fn add(&mut self, command: &Command, now: Timestamp, limits: &Limits) -> Answer {
        let planned = plan::plan(&self.state, command, now, limits).map_err(WriteError::Refused)?;
        let mut state = self.state.clone();
        for commit in &planned.commits {
            state = state
                .apply(commit)
                .map_err(|problem| WriteError::Internal(problem.to_string()))?;
        }
        self.state = state;
        self.commits.extend(planned.commits);
        Ok(planned.answer)
    }
}

impl Job {
    fn expire() -> Self {
        Self {
            command: Command {
                action: Action::Expire,
                options: WriteOptions::default(),
                caller: "".into(),
            },
            deadline: None,
            answer: None,
        }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|end| end <= Instant::now())
    }
}

fn answer_all(answers: Vec<Planned>) {
    for planned in answers {
        if let Some(to) = planned.to {
            // Whoever asked may have gone away.
            drop(to.send(planned.answer));
        }
    }
}

fn refuse_all(jobs: Vec<Job>, problem: &str) {
    let answers = jobs.into_iter().map(|job| Planned {
        to: job.answer,
        answer: Err(WriteError::StoreFailed {
            outcome: WriteOutcome::NotWritten,
            problem: problem.to_owned(),
        }),
        rests_on_batch: false,
    });
    answer_all(answers.collect());
}
