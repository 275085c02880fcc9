//! What clients call: Check and `BatchCheck` from the cache, health of our own, and all else
//! passed through as bytes, methods that are not known here included.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service;

use super::answers::{Answers, CHECK};
use super::batches::BATCH_CHECK;
use super::question::{Batch, Question};
use super::wire;
use crate::api::status::{Failure, reason};
use crate::server::whole::{Whole, answered};
use crate::server::{Peer, Serve, grpc_timeout};

const HEALTH: &str = "/grpc.health.v1.Health/";

/// The service of one sidecar. Cloned for every request: one count.
#[derive(Clone, Debug)]
pub(super) struct Front(Arc<Within>);

#[derive(Debug)]
struct Within {
    answers: Arc<Answers>,
    health: HealthServer<HealthService>,
    max_message_bytes: usize,
}

impl Front {
    pub(super) fn new(
        answers: Arc<Answers>,
        health: HealthReporter,
        max_message_bytes: usize,
    ) -> Self {
        Self(Arc::new(Within {
            answers,
            health: HealthServer::new(HealthService::from_health_reporter(health)),
            max_message_bytes,
        }))
    }
}

impl Serve for Front {
    type Answer = Answering;

    fn serve(&self, request: Request<Body>, _: Peer) -> Answering {
        let path = request.uri().path();
        let asked = match path {
            CHECK => Some(Asked::Check),
            BATCH_CHECK => Some(Asked::BatchCheck),
            _ => None,
        };
        if path.starts_with(HEALTH) {
            let answer = self.0.health.clone().call(request);
            return Answering::Apart(Box::pin(async move {
                let Ok(response) = answer.await;
                response
            }));
        }
        let front = Arc::clone(&self.0);
        if let Some(asked) = asked {
            let (parts, body) = request.into_parts();
            return Answering::Reading(Some(Reading {
                front,
                asked,
                parts,
                body,
                first: Bytes::new(),
                rest: BytesMut::new(),
            }));
        }
        Answering::Apart(Box::pin(async move {
            front.answers.counters.passed.add();
            let deadline = deadline(request.headers());
            front.answers.upstream.pass(request, deadline).await
        }))
    }
}

/// An answer on its way. One from the cache is given as soon as the question is whole, without a
/// future of its own.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box is what it saves"
)]
pub(super) enum Answering {
    Reading(Option<Reading>),
    Apart(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Future for Answering {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<Body>> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Apart(answer) => return answer.as_mut().poll(context),
                Self::Reading(reading) => {
                    let Some(begun) = reading else {
                        return Poll::Pending;
                    };
                    let whole = ready!(begun.poll_whole(context));
                    let Some(read) = reading.take() else {
                        return Poll::Pending;
                    };
                    match whole.map(|()| read.hit()) {
                        Err(status) => return Poll::Ready(status.into_http()),
                        Ok(Ok(response)) => return Poll::Ready(response),
                        Ok(Err(missed)) => *this = Self::Apart(missed),
                    }
                }
            }
        }
    }
}

/// Which of the two methods that the cache answers.
#[derive(Clone, Copy)]
enum Asked {
    Check,
    BatchCheck,
}

/// A question that is coming in.
pub(super) struct Reading {
    front: Arc<Within>,
    asked: Asked,
    parts: Parts,
    body: Body,
    /// The first piece of the body, mostly all of it; all, once there is a second.
    first: Bytes,
    rest: BytesMut,
}

type Missed = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Reading {
    /// Takes what has come of the body, up to its end.
    fn poll_whole(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        while !self.body.is_end_stream() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame {
                None => break,
                Some(Err(status)) => return Poll::Ready(Err(status)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(data)?;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, data: Bytes) -> Result<(), Status> {
        let most = self.front.max_message_bytes;
        if self.first.len().max(self.rest.len()) + data.len() > most {
            let message = format!(
                "the request has more than {most} bytes; that is the sidecar's --max-message"
            );
            return Err(Failure::new(reason::TOO_LARGE, message).into());
        }
        if self.first.is_empty() {
            self.first = data;
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&data);
        Ok(())
    }

    /// Answers from the cache, or gives what is to be done where it can't.
    fn hit(self) -> Result<Response<Body>, Missed> {
        let Self {
            front,
            asked,
            parts,
            body: _,
            first,
            rest,
        } = self;
        let body = match rest.is_empty() {
            true => first,
            false => rest.freeze(),
        };
        let message = wire::unframed(&body);
        let found = message.and_then(|message| match asked {
            Asked::Check => check(&front.answers, &message, &parts.headers),
            Asked::BatchCheck => batch_check(&front.answers, message, &parts.headers),
        });
        let missed = match found {
            Some(Ok(body)) => return Ok(answered(body)),
            Some(Err(missed)) => Some(missed),
            None => None,
        };
        Err(Box::pin(async move {
            elsewhere(&front.answers, parts, body, missed).await
        }))
    }
}

/// An answer from the cache; `None` where only the server can answer.
fn check(
    answers: &Arc<Answers>,
    message: &Bytes,
    headers: &HeaderMap,
) -> Option<Result<Bytes, Miss>> {
    let question = Question::read(message, headers)?;
    let hit = answers.hit(&question);
    Some(hit.ok_or(Miss::Check(question)))
}

/// As [`check`].
fn batch_check(
    answers: &Arc<Answers>,
    message: Bytes,
    headers: &HeaderMap,
) -> Option<Result<Bytes, Miss>> {
    let batch = Batch::read(&message, headers)?;
    let hit = answers.batch_hit(&batch);
    Some(hit.ok_or(Miss::BatchCheck(batch, message)))
}

/// What the cache could answer and does not.
enum Miss {
    Check(Question),
    BatchCheck(Batch, Bytes),
}

/// Has the server answer; `None` where it alone can.
async fn elsewhere(
    answers: &Arc<Answers>,
    parts: Parts,
    body: Bytes,
    missed: Option<Miss>,
) -> Response<Body> {
    let deadline = deadline(&parts.headers);
    let result = match missed {
        Some(Miss::Check(question)) => answers.miss(&question, &parts.headers, deadline).await,
        Some(Miss::BatchCheck(batch, message)) => {
            let headers = &parts.headers;
            (answers.batch_miss(&batch, &message, headers, deadline)).await
        }
        None => {
            answers.counters.bypassed.add();
            let request = Request::from_parts(parts, Body::new(Whole::request(body)));
            return answers.upstream.pass(request, deadline).await;
        }
    };
    match result {
        Ok(body) => answered(body),
        Err(status) => status.into_http(),
    }
}

fn deadline(headers: &HeaderMap) -> Option<Instant> {
    grpc_timeout(headers).and_then(|span: Duration| Instant::now().checked_add(span))
}
