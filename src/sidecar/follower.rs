//! What the stream of changes does to a cache.
//!
//! Hides when a history goes on and when it is another: by epoch, version of the keys, chain and
//! Reset. Commits count in their order and without a gap; whatever else comes is a reason to
//! connect anew, after what was applied.

use std::sync::Arc;
use std::time::Duration;

use super::cache::Cache;
use super::generation::Generation;
use crate::api::proto;
use crate::revision::{Epoch, Revision, Token};

/// How far a cache has come, and of what history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    at: Token,
    /// Of the commit `at`; zero where it is not known.
    chain: u64,
    key_version: u32,
}

/// What a new stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Names the stream to the follower.
    pub stream: u64,
    /// What was applied already; `None`: nothing.
    pub after: Option<Token>,
    /// The chain of that commit; zero where it is not known.
    pub after_chain: u64,
}

/// What an event of the stream was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The stream began: acknowledge under this session.
    Began {
        /// Names the stream in acknowledgements.
        session: String,
        /// The longest lease.
        lease: Duration,
        /// How often something comes at least.
        heartbeat: Duration,
    },
    /// A commit was applied.
    Applied {
        /// Whether a write waits for it: acknowledge at once.
        ack_now: bool,
    },
    /// All that was sent is applied: acknowledge at once, a write may wait for it.
    Beat,
    /// All was forgotten.
    Forgotten,
    /// Nothing that has to be acted on.
    Nothing,
}

/// Why a stream can't be followed any further; another one is to be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A commit is missing, or came twice.
    #[error("commit {found} came after {applied}")]
    Gap {
        /// How far the cache has come.
        applied: Revision,
        /// What came.
        found: Revision,
    },
    /// An event is of another history than the Hello.
    #[error("an event of epoch {found} came in a stream of another one")]
    Foreign {
        /// What came.
        found: Epoch,
    },
    /// What is no revision, or an event that can't stand there.
    #[error("the server sent {0}")]
    Malformed(&'static str),
    /// It was opened before the newest one.
    #[error("the stream was replaced by a newer one")]
    Replaced,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Hello has to come.
    Opened(Option<Position>),
    /// Hello was of another epoch than `after`, so that a Reset has to come.
    Foreign,
    /// Commits come; one of them may be there in part.
    Following { part: Option<(Revision, bool)> },
    /// Nothing more is taken.
    Ended,
}

/// Applies one stream after another to a cache, one at a time.
#[derive(Debug)]
pub struct Follower {
    cache: Arc<Cache>,
    generation: Arc<Generation>,
    position: Option<Position>,
    hello: Option<Position>,
    longest: Duration,
    stream: u64,
    phase: Phase,
}

impl Follower {
    /// One for a cache that nothing else writes to.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self {
            generation: cache.generation(),
            cache,
            position: None,
            hello: None,
            longest: Duration::ZERO,
            stream: 0,
            phase: Phase::Ended,
        }
    }

    /// Begins a new stream; events of the ones before it are refused from now on.
    pub fn open(&mut self) -> Opening {
        self.stream += 1;
        self.phase = Phase::Opened(self.position);
        Opening {
            stream: self.stream,
            after: self.position.map(|position| position.at),
            after_chain: self.position.map_or(0, |position| position.chain),
        }
    }

    /// The generation that events go to.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Applies an event of `stream`.
    ///
    /// # Errors
    /// Why the stream has to be opened anew; nothing more of it is taken.
    pub fn take(
        &mut self,
        stream: u64,
        event: proto::WatchChangesResponse,
    ) -> Result<Step, Broken> {
        use proto::watch_changes_response::Event;
        if stream != self.stream {
            return Err(Broken::Replaced);
        }
        let step = match event.event {
            Some(Event::Hello(hello)) => self.hello(hello),
            Some(Event::Commit(commit)) => self.commit(&commit),
            Some(Event::Heartbeat(beat)) => self.heartbeat(&beat),
            Some(Event::Reset(reset)) => self.reset(&reset),
            Some(Event::Snapshot(_)) => Err(Broken::Malformed("a snapshot that nobody asked for")),
            // One of a newer server, which no cache has to know.
            None => Ok(Step::Nothing),
        };
        if step.is_err() {
            self.phase = Phase::Ended;
        }
        step
    }

    fn hello(&mut self, hello: proto::Hello) -> Result<Step, Broken> {
        let proto::Hello {
            revision,
            oldest: _,
            heartbeat_interval,
            lease,
            chain,
            session,
            key_version,
        } = hello;
        let Phase::Opened(after) = self.phase else {
            return Err(Broken::Malformed("a second Hello"));
        };
        let newest = Position {
            at: token(&revision)?,
            chain,
            key_version,
        };
        self.hello = Some(newest);
        self.longest = span(lease);
        self.phase = Phase::Following { part: None };
        match after {
            Some(old) if old.at.epoch != newest.at.epoch => {
                self.begin(newest, newest.at.revision);
                self.phase = Phase::Foreign;
            }
            Some(old) => self.go_on(old, newest),
            None => self.begin(newest, newest.at.revision),
        }
        self.generation.begin_lease(self.longest);
        Ok(Step::Began {
            session,
            lease: self.longest,
            heartbeat: span(heartbeat_interval),
        })
    }

    /// The stream goes on after `old`, of the same epoch.
    fn go_on(&mut self, old: Position, newest: Position) {
        let same_keys = old.key_version == newest.key_version;
        if !same_keys || !self.generation.resume(old.at.revision) {
            let old = Position {
                key_version: newest.key_version,
                ..old
            };
            self.begin(old, newest.at.revision);
        }
    }

    fn begin(&mut self, at: Position, floor: Revision) {
        self.generation = self.cache.begin(at.at, floor);
        self.generation.begin_lease(self.longest);
        self.position = Some(at);
    }

    fn reset(&mut self, reset: &proto::Reset) -> Result<Step, Broken> {
        let (Some(hello), Phase::Foreign | Phase::Following { part: None }) =
            (self.hello, self.phase)
        else {
            return Err(Broken::Malformed("a Reset before Hello or within a commit"));
        };
        let at = token(&reset.revision)?;
        if at.epoch != hello.at.epoch {
            return Err(Broken::Foreign { found: at.epoch });
        }
        // The chain of any other commit than Hello's comes with the next one.
        let chain = match at == hello.at {
            true => hello.chain,
            false => 0,
        };
        let position = Position {
            at,
            chain,
            key_version: hello.key_version,
        };
        self.begin(position, at.revision);
        self.phase = Phase::Following { part: None };
        Ok(Step::Forgotten)
    }

    fn commit(&mut self, commit: &proto::Commit) -> Result<Step, Broken> {
        let (Phase::Following { part }, Some(position)) = (self.phase, self.position) else {
            return Err(Broken::Malformed("a commit before Hello or Reset"));
        };
        let found = self.own(&commit.revision)?;
        let applied = position.at.revision;
        if found != applied.next() {
            return Err(Broken::Gap { applied, found });
        }
        // Early is harmless: what a slot says of a commit that is not applied only costs a hit.
        (self.generation).invalidate(commit.invalidations.iter().copied(), found);
        if commit.invalidate_all {
            self.generation.raise_floor(found);
        }
        let ack_now = commit.ack_now || part.is_some_and(|(_, ack_now)| ack_now);
        if commit.more {
            self.phase = Phase::Following {
                part: Some((found, ack_now)),
            };
            return Ok(Step::Nothing);
        }
        self.phase = Phase::Following { part: None };
        self.position = Some(Position {
            at: Token {
                revision: found,
                ..position.at
            },
            chain: commit.chain,
            ..position
        });
        self.generation.publish(found);
        Ok(Step::Applied { ack_now })
    }

    fn heartbeat(&mut self, beat: &proto::Heartbeat) -> Result<Step, Broken> {
        let (Phase::Following { .. }, Some(position)) = (self.phase, self.position) else {
            return Err(Broken::Malformed("a heartbeat before Hello or Reset"));
        };
        let (found, applied) = (self.own(&beat.revision)?, position.at.revision);
        match found > applied {
            true => Err(Broken::Gap { applied, found }),
            false => Ok(Step::Beat),
        }
    }

    /// A revision of the history that is followed.
    fn own(&self, text: &str) -> Result<Revision, Broken> {
        let found = token(text)?;
        match self.generation.epoch() == Some(found.epoch) {
            true => Ok(found.revision),
            false => Err(Broken::Foreign { found: found.epoch }),
        }
    }
}

fn token(text: &str) -> Result<Token, Broken> {
    text.parse()
        .map_err(|_| Broken::Malformed("what is no revision"))
}

/// What is no span is none.
fn span(from: Option<prost_types::Duration>) -> Duration {
    from.and_then(|span| Duration::try_from(span).ok())
        .unwrap_or_default()
}
