//! `WatchService`: changes and invalidations.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::Stream;
use futures_util::stream::unfold;
use tonic::{Request, Response, Status};

use self::frame::Frame;
use super::convert::changes::{self, View};
use super::convert::watches;
use super::proto;
use super::proto::encoded::watch_service_server as server;
use super::proto::watch_changes_response::Event;
use super::status::{Failure, reason};
use super::{CameFrom, deadline};
use crate::engine::{Changes, Engine, EngineError, LiveCommit, WatchEvent};
use crate::revision::Revision;

pub mod frame;

/// Streams of one engine.
pub struct Watches {
    engine: Engine,
}

impl Watches {
    /// The service of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Takes one acknowledgement.
    ///
    /// # Errors
    /// As the one map of errors has them.
    pub async fn answer(
        &self,
        ack: proto::AckChangesRequest,
    ) -> Result<proto::AckChangesResponse, Status> {
        let ack = watches::ack(ack).map_err(Failure::from)?;
        let answer = self.engine.acknowledge(ack.borrow()).await;
        let answer = answer.map_err(Failure::from)?;
        Ok(changes::acknowledged(answer))
    }
}

#[tonic::async_trait]
impl server::WatchService for Watches {
    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn watch_changes(
        &self,
        request: Request<proto::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let deadline = deadline(&request);
        let address = address(&request);
        let wanted = watches::changes(request.into_inner(), address).map_err(Failure::from)?;
        let (options, view) = wanted;
        let changes = self.engine.watch(options).map_err(Failure::from)?;
        let sending = Sending {
            engine: self.engine.clone(),
            changes,
            view,
            deadline,
            commits: VecDeque::new(),
            frames: VecDeque::new(),
        };
        Ok(Response::new(Box::pin(unfold(
            Some(sending),
            Sending::next,
        ))))
    }

    async fn ack_changes(
        &self,
        request: Request<proto::AckChangesRequest>,
    ) -> Result<Response<proto::AckChangesResponse>, Status> {
        Ok(Response::new(self.answer(request.into_inner()).await?))
    }

    async fn list_watchers(
        &self,
        request: Request<proto::ListWatchersRequest>,
    ) -> Result<Response<proto::ListWatchersResponse>, Status> {
        let proto::ListWatchersRequest {} = request.into_inner();
        let watchers = self.engine.watchers().into_iter();
        Ok(Response::new(proto::ListWatchersResponse {
            watchers: watchers.map(changes::watcher).collect(),
        }))
    }
}

/// Where a request comes from.
fn address<T>(request: &Request<T>) -> String {
    let address = request.extensions().get();
    let address = address.and_then(|CameFrom(address)| *address);
    address.map_or_else(|| "unix".to_owned(), |address| address.to_string())
}

/// A stream as its connection asks for more: it holds little that others don't hold, too.
struct Sending {
    engine: Engine,
    changes: Changes,
    view: View,
    deadline: Option<Instant>,
    commits: VecDeque<Arc<LiveCommit>>,
    /// What is to go out, and up to where all is sent with it.
    frames: VecDeque<(Frame, Option<Revision>)>,
}

type Item = Result<Frame, Status>;

impl Sending {
    /// The next message. After an error there is none.
    async fn next(state: Option<Self>) -> Option<(Item, Option<Self>)> {
        let mut sending = state?;
        match sending.frame().await {
            Ok(frame) => Some((Ok(frame), Some(sending))),
            Err(failure) => Some((Err(failure.into()), None)),
        }
    }

    async fn frame(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some((frame, sent)) = self.frames.pop_front() {
                if let Some(revision) = sent {
                    self.changes.sent(revision);
                }
                return Ok(frame);
            }
            match self.commits.pop_front() {
                Some(commit) => self.encode(&commit),
                None => self.fetch().await?,
            }
        }
    }

    fn encode(&mut self, commit: &LiveCommit) {
        let frames = changes::commit(commit, &self.view, &self.engine);
        let last = frames.len().saturating_sub(1);
        let revision = commit.position.revision;
        let frames = frames.iter().enumerate().map(|(index, bytes)| {
            let sent = (index == last).then_some(revision);
            (Frame(bytes.clone()), sent)
        });
        self.frames.extend(frames);
    }

    async fn fetch(&mut self) -> Result<(), Failure> {
        let event = match self.deadline {
            None => self.changes.next().await,
            Some(end) => {
                (tokio::time::timeout_at(end.into(), self.changes.next()).await).map_err(|_| {
                    let message = "the deadline passed; resume after the last revision that came";
                    Failure::new(reason::DEADLINE_EXCEEDED, message)
                })?
            }
        };
        let event = match event.map_err(ended)? {
            WatchEvent::Commits(commits) => {
                self.commits.extend(commits);
                return Ok(());
            }
            WatchEvent::Hello(hello) => Event::Hello(changes::hello(hello)),
            WatchEvent::Snapshot(piece) => {
                let chunks = changes::snapshot(piece).into_iter().map(Event::Snapshot);
                self.frames
                    .extend(chunks.map(|chunk| (Frame::of(chunk), None)));
                return Ok(());
            }
            WatchEvent::Heartbeat { token, at } => Event::Heartbeat(changes::heartbeat(token, at)),
            WatchEvent::Reset { cause, token } => Event::Reset(changes::reset(cause, token)),
        };
        self.frames.push_back((Frame::of(event), None));
        Ok(())
    }
}

/// A stream that ends with its server is to be taken up elsewhere.
fn ended(error: EngineError) -> Failure {
    match error {
        EngineError::ShuttingDown => {
            let message = "the server is shutting down; resume after the last revision that came, at another server or when this one is back";
            Failure::new(reason::SHUTTING_DOWN, message)
        }
        other => other.into(),
    }
}
