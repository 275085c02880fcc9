//! Lists of resources and of subjects, as streams of rows.
//!
//! Hides where a list is worked at. It goes on in turns, each on a thread that may block and each
//! from the place where the last one ended: a turn is over when it has had its time, or when its
//! reader does not keep up, so that neither many lists nor slow readers hold threads or old
//! states. A state that is no longer kept ends the list. Rows are packed where they are found, on
//! that thread: whoever sends them has nothing left to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::eval::{
    self, CheckError, Decision, Facts, ListPlace, ResourceList, ResourcesQuestion, Row, Step,
    SubjectList, SubjectsQuestion,
};
use crate::revision::{Consistency, Token};
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Context, Object, Subject};

use super::cursor::Cursor;
use super::states::blocking;
use super::streams::StreamTurn;
use super::{Engine, EngineError, within};

/// So many rows travel together at most: a reader is woken for each chunk of them.
const CHUNK: usize = 512;
/// Every so manyth row has a cursor, and the last.
const A_CURSOR_EVERY: u64 = 100;
/// For so long a turn goes on at most.
const TURN: Duration = Duration::from_secs(1);
/// For so long a turn waits for its reader.
const PATIENCE: Duration = Duration::from_millis(100);
/// Rows that are there are not held back for longer while others are looked for.
const AT_ONCE: Duration = Duration::from_millis(5);

/// What is to be listed.
#[derive(Clone, Debug, PartialEq)]
pub enum ListQuestion {
    /// The resources on which a subject has a permission.
    Resources {
        /// Who.
        subject: Subject,
        /// The name of a permission or relation of `kind`.
        permission: String,
        /// The type of the resources.
        kind: String,
        /// Only what lies below it.
        within: Option<Object>,
    },
    /// The subjects that have a permission on a resource.
    Subjects {
        /// On what.
        resource: Object,
        /// The name of a permission or relation of its type.
        permission: String,
        /// The type of the subjects.
        kind: String,
        /// The relation of the subject sets that are looked for.
        relation: Option<String>,
    },
}

/// A row of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListRow {
    /// The resource or subject.
    pub item: String,
    /// Of a wildcard: who does not have it.
    pub except: Vec<String>,
    /// Allowed or conditional.
    pub decision: Decision,
    /// What a conditional row lacks.
    pub missing_context: Vec<Arc<str>>,
    /// Continues behind this row, at the same revision and instant.
    pub cursor: Option<String>,
}

/// A request for a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListRequest {
    /// What is to be listed.
    pub question: ListQuestion,
    /// Parameters of caveats.
    pub context: Context,
    /// Of which state.
    pub at: Consistency,
    /// At most so many rows; 0: all.
    pub limit: u32,
    /// Goes on behind this place.
    pub cursor: Option<String>,
}

impl ListRequest {
    /// All rows of the newest state, without parameters of caveats.
    pub fn of(question: ListQuestion) -> Self {
        Self {
            question,
            context: Context::new(),
            at: Consistency::Newest,
            limit: 0,
            cursor: None,
        }
    }
}

/// Makes what travels of some rows; the first of a list come with the list's revision.
pub type Pack<T> = fn(Vec<ListRow>, Option<Token>) -> T;

/// The rows of a list as they are found, some at a time, each time packed as a `T`.
#[derive(Debug)]
pub struct ListRows<T = Vec<ListRow>> {
    token: Token,
    chunks: mpsc::Receiver<Result<T, EngineError>>,
    _turn: StreamTurn,
}

impl<T> ListRows<T> {
    /// The revision of all rows.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Some more rows in their one order; `None` at the end, which nothing but the end or an
    /// error is.
    pub async fn next(&mut self) -> Option<Result<T, EngineError>> {
        self.chunks.recv().await
    }

    /// As [`ListRows::next`], for streams.
    pub fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<T, EngineError>>> {
        self.chunks.poll_recv(context)
    }
}

/// What all turns of one list share.
struct Job<T> {
    question: ListQuestion,
    context: Context,
    hash: u64,
    instant: Timestamp,
    limits: eval::Limits,
    limit: u64,
    deadline: Option<Instant>,
    pack: Pack<T>,
    chunks: mpsc::Sender<Result<T, EngineError>>,
}

/// Where a list has got to.
struct Progress<T> {
    after: Option<ListPlace>,
    /// Rows made so far.
    made: u64,
    /// Rows that wait for their cursors: the last of them does not know whether it is the last.
    ready: Vec<(ListRow, ListPlace)>,
    /// Rows that the reader has not taken yet.
    unsent: Option<T>,
    ended: bool,
    /// Why it ended early: what was found before is sent first.
    failed: Option<EngineError>,
}

impl Engine {
    /// Lists what `request` asks for. A cursor continues at its own revision and instant. Where
    /// that state is no longer kept and `at` asks for another one, the list goes on behind the
    /// cursor at that one's revision, which its token names.
    ///
    /// # Errors
    /// Where the state can't be had, a name is unknown, the cursor is of another request, or as
    /// many streams are open as may be.
    pub async fn list(
        &self,
        request: ListRequest,
        deadline: Option<Instant>,
    ) -> Result<ListRows, EngineError> {
        self.list_packed(request, |rows, _| rows, deadline).await
    }

    /// The same, its rows packed by `pack` on the thread that finds them.
    ///
    /// # Errors
    /// See [`Engine::list`].
    pub async fn list_packed<T: Send + 'static>(
        &self,
        request: ListRequest,
        pack: Pack<T>,
        deadline: Option<Instant>,
    ) -> Result<ListRows<T>, EngineError> {
        let ListRequest {
            question,
            context,
            at,
            limit,
            cursor,
        } = request;
        let turn = self.stream_turn()?;
        // Cursors do not outlive the process that gave them out, so that any form will do.
        let hash = xxh3_64(format!("{question:?} {context:?}").as_bytes());
        let cursor = cursor.map(|text| Cursor::parse(&text, hash)).transpose()?;
        let (state, instant) = self.begin(at, cursor.as_ref(), deadline).await?;
        let after = cursor.map(|cursor| ListPlace::from_bytes(cursor.after));
        if after.is_some_and(|after| !after.is_of(&state.index)) {
            let problem = "is none that this server gave out";
            return Err(EngineError::MalformedCursor { problem });
        }
        let (sender, chunks) = mpsc::channel(1);
        let job = Job {
            question,
            context,
            hash,
            instant,
            limits: self.inner.checks,
            limit: match limit {
                0 => u64::MAX,
                limit => u64::from(limit),
            },
            deadline,
            pack,
            chunks: sender,
        };
        let facts = Facts::of(&state).ok_or(EngineError::NoSchema)?;
        // What is wrong with the request is said before the stream begins.
        job.list(facts, None).map_err(EngineError::Check)?;
        let token = state.token();
        let progress = Progress {
            after,
            made: 0,
            ready: Vec::new(),
            unsent: None,
            ended: false,
            failed: None,
        };
        tokio::spawn(run(self.clone(), Arc::new(job), state, progress));
        Ok(ListRows {
            token,
            chunks,
            _turn: turn,
        })
    }

    async fn begin(
        &self,
        at: Consistency,
        cursor: Option<&Cursor>,
        deadline: Option<Instant>,
    ) -> Result<(Arc<State>, Timestamp), EngineError> {
        let Some(cursor) = cursor else {
            let state = self.state_at(at, deadline).await?;
            return Ok((state, self.now()));
        };
        let pinned = self.state_at(Consistency::Exactly(cursor.token), deadline);
        match pinned.await {
            Err(EngineError::RevisionTrimmed { .. }) if at != Consistency::Newest => {
                let state = self.state_at(at, deadline).await?;
                Ok((state, self.now()))
            }
            pinned => Ok((pinned?, cursor.instant)),
        }
    }
}

/// Works at a list turn by turn; whoever reads it hears of the end by the channel's.
async fn run<T: Send + 'static>(
    engine: Engine,
    job: Arc<Job<T>>,
    state: Arc<State>,
    progress: Progress<T>,
) {
    let ended = turns(&engine, &job, state, progress).await;
    if let Err(error) = ended
        && within(job.deadline, job.chunks.send(Err(error.clone())))
            .await
            .is_none()
    {
        // A reader that does not read by its own deadline knows of it.
        let _ = job.chunks.try_send(Err(error));
    }
}

async fn turns<T: Send + 'static>(
    engine: &Engine,
    job: &Arc<Job<T>>,
    state: Arc<State>,
    mut progress: Progress<T>,
) -> Result<(), EngineError> {
    let token = state.token();
    let mut state = Some(state);
    loop {
        progress = turn(engine, job, token, state.take(), progress).await?;
        if let Some(rows) = progress.unsent.take() {
            // While the reader is slow, nothing is held but what it will get.
            let sent = within(job.deadline, job.chunks.send(Ok(rows))).await;
            sent.ok_or(EngineError::DeadlineExceeded { outcome: None })?
                .map_err(|_| EngineError::ShuttingDown)?;
        }
        if progress.ended {
            return progress.failed.map_or(Ok(()), Err);
        }
    }
}

async fn turn<T: Send + 'static>(
    engine: &Engine,
    job: &Arc<Job<T>>,
    token: Token,
    state: Option<Arc<State>>,
    progress: Progress<T>,
) -> Result<Progress<T>, EngineError> {
    let late = || EngineError::DeadlineExceeded { outcome: None };
    let permit = within(job.deadline, engine.inner.list_turns.acquire()).await;
    let _permit = permit
        .ok_or_else(late)?
        .map_err(|_| EngineError::ShuttingDown)?;
    let state = match state {
        Some(state) => state,
        None => {
            engine
                .state_at(Consistency::Exactly(token), job.deadline)
                .await?
        }
    };
    let (job, runtime) = (Arc::clone(job), Handle::current());
    blocking(move || job.turn(&state, progress, &runtime)).await?
}

impl<T> Job<T> {
    fn list<'a>(
        &'a self,
        facts: Facts<'a>,
        after: Option<ListPlace>,
    ) -> Result<List<'a>, CheckError> {
        let (now, limits, context) = (self.instant, &self.limits, &self.context);
        match &self.question {
            ListQuestion::Resources {
                subject,
                permission,
                kind,
                within,
            } => {
                let question = ResourcesQuestion {
                    subject: subject.as_ref(),
                    permission,
                    kind,
                    context,
                    within: within.as_ref().map(Object::as_ref),
                };
                ResourceList::new(facts, question, now, limits, after)
                    .map(|list| List::Resources(Box::new(list)))
            }
            ListQuestion::Subjects {
                resource,
                permission,
                kind,
                relation,
            } => {
                let question = SubjectsQuestion {
                    resource: resource.as_ref(),
                    permission,
                    kind,
                    relation: relation.as_deref(),
                    context,
                };
                SubjectList::new(facts, question, now, limits, after)
                    .map(|list| List::Subjects(Box::new(list)))
            }
        }
    }

    /// Goes on until the end, or until the turn is over.
    fn turn(
        &self,
        state: &State,
        mut progress: Progress<T>,
        runtime: &Handle,
    ) -> Result<Progress<T>, EngineError> {
        let facts = Facts::of(state).ok_or(EngineError::NoSchema)?;
        let begun = Instant::now();
        let mut sent = begun;
        let list = self.list(facts, progress.after);
        let mut list = list.map_err(EngineError::Check)?;
        loop {
            let step = match progress.made < self.limit {
                true => list.step(),
                false => Ok(Step::End),
            };
            let step = step.unwrap_or_else(|error| {
                progress.failed = Some(EngineError::Check(error));
                Step::End
            });
            let moved = step != Step::Busy;
            progress.ended = step == Step::End || self.chunks.is_closed();
            if let Step::Row(row) = step {
                progress.take(row, list.place());
            }
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| deadline <= now) && !progress.ended {
                progress.failed = Some(EngineError::DeadlineExceeded { outcome: None });
                progress.ended = true;
            }
            let flush = progress.ended || now.duration_since(sent) >= AT_ONCE;
            let ready = progress.ready.len();
            if (flush && ready > 0) || ready > CHUNK {
                sent = now;
                let count = if flush { ready } else { CHUNK };
                let rows = self.rows(state.token(), &mut progress, count);
                progress.unsent = self.send(rows, runtime);
            }
            let over = moved && now.duration_since(begun) >= TURN;
            if progress.ended || over || progress.unsent.is_some() {
                progress.after = list.place().or(progress.after);
                return Ok(progress);
            }
        }
    }

    /// Sends rows; gives them back where the reader does not take them in time.
    fn send(&self, rows: T, runtime: &Handle) -> Option<T> {
        let room = async { tokio::time::timeout(PATIENCE, self.chunks.reserve()).await };
        match runtime.block_on(room) {
            Ok(Ok(room)) => {
                room.send(Ok(rows));
                None
            }
            _ => Some(rows),
        }
    }

    /// The first `count` rows that are ready, with their cursors.
    fn rows(&self, token: Token, progress: &mut Progress<T>, count: usize) -> T {
        let first = progress.made - progress.ready.len() as u64 + 1;
        // What is sent before the next row is known may be the last one.
        let last = (count == progress.ready.len()).then_some(progress.made);
        let rows = (first..).zip(progress.ready.drain(..count));
        let rows = rows.map(|(number, (mut row, place))| {
            if number % A_CURSOR_EVERY == 0 || Some(number) == last {
                let cursor = Cursor {
                    token,
                    instant: self.instant,
                    after: place.to_bytes(),
                };
                row.cursor = Some(cursor.text(self.hash));
            }
            row
        });
        (self.pack)(rows.collect(), (first == 1).then_some(token))
    }
}

impl<T> Progress<T> {
    fn take(&mut self, row: Row, place: Option<ListPlace>) {
        let Row {
            item,
            except,
            decision,
            missing_context,
        } = row;
        let row = ListRow {
            item,
            except,
            decision,
            missing_context,
            cursor: None,
        };
        if let Some(place) = place {
            self.made += 1;
            self.ready.push((row, place));
        }
    }
}

/// Either list.
enum List<'a> {
    Resources(Box<ResourceList<'a>>),
    Subjects(Box<SubjectList<'a>>),
}

impl List<'_> {
    fn step(&mut self) -> Result<Step, CheckError> {
        match self {
            Self::Resources(list) => list.step(),
            Self::Subjects(list) => list.step(),
        }
    }

    fn place(&self) -> Option<ListPlace> {
        match self {
            Self::Resources(list) => list.place(),
            Self::Subjects(list) => list.place(),
        }
    }
}
