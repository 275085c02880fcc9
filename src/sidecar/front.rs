//! What clients call: Check and `BatchCheck` from the cache, health of our own, and all else
//! passed through as bytes, methods that are not known here included.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
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
use crate::server::grpc_timeout;

const HEALTH: &str = "/grpc.health.v1.Health/";

/// The service of one sidecar.
#[derive(Clone, Debug)]
pub(super) struct Front {
    answers: Answers,
    health: HealthServer<HealthService>,
    max_message_bytes: usize,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Front {
    pub(super) fn new(answers: Answers, health: HealthReporter, max_message_bytes: usize) -> Self {
        Self {
            answers,
            health: HealthServer::new(HealthService::from_health_reporter(health)),
            max_message_bytes,
        }
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        if path.starts_with(HEALTH) {
            return Box::pin(self.health.call(request));
        }
        let (answers, most) = (self.answers.clone(), self.max_message_bytes);
        let is_known = path == CHECK || path == BATCH_CHECK;
        Box::pin(async move {
            let deadline = deadline(request.headers());
            let response = match is_known {
                true => question(&answers, request, most, deadline).await,
                false => {
                    answers.counters.passed.add();
                    answers.upstream.pass(request, deadline).await
                }
            };
            Ok(response)
        })
    }
}

fn deadline(headers: &HeaderMap) -> Option<Instant> {
    grpc_timeout(headers).and_then(|span: Duration| Instant::now().checked_add(span))
}

/// Answers Check or `BatchCheck`.
async fn question(
    answers: &Answers,
    request: Request<Body>,
    most: usize,
    deadline: Option<Instant>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match super::answers::within(deadline, whole(body, most)).await {
        Ok(Ok(body)) => body,
        Ok(Err(status)) | Err(status) => return status.into_http(),
    };
    let answered = match parts.uri.path() {
        CHECK => check(answers, &parts, &body, deadline).await,
        _ => batch_check(answers, &parts, &body, deadline).await,
    };
    match answered {
        Some(Ok(body)) => answer(body),
        Some(Err(status)) => status.into_http(),
        None => {
            answers.counters.bypassed.add();
            let request = Request::from_parts(parts, Body::new(Whole::request(body)));
            answers.upstream.pass(request, deadline).await
        }
    }
}

/// `None` where only the server can answer.
async fn check(
    answers: &Answers,
    parts: &Parts,
    body: &Bytes,
    deadline: Option<Instant>,
) -> Option<Result<Bytes, Status>> {
    let question = Question::read(&wire::unframed(body)?, &parts.headers)?;
    if let Some(body) = answers.hit(&question) {
        return Some(Ok(body));
    }
    Some(answers.miss(&question, &parts.headers, deadline).await)
}

async fn batch_check(
    answers: &Answers,
    parts: &Parts,
    body: &Bytes,
    deadline: Option<Instant>,
) -> Option<Result<Bytes, Status>> {
    let message = wire::unframed(body)?;
    let batch = Batch::read(&message, &parts.headers)?;
    if let Some(body) = answers.batch_hit(&batch) {
        return Some(Ok(body));
    }
    let headers = &parts.headers;
    Some(
        answers
            .batch_miss(&batch, &message, headers, deadline)
            .await,
    )
}

/// All of a request's body.
async fn whole(mut body: Body, most: usize) -> Result<Bytes, Status> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next(&mut body).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > most {
            let message = format!(
                "the request has more than {most} bytes; that is the sidecar's --max-message"
            );
            return Err(Failure::new(reason::TOO_LARGE, message).into());
        }
        match first.is_empty() {
            true => first = data,
            false => rest.extend_from_slice(&data),
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(first.len() + rest.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&rest);
    Ok(all.freeze())
}

async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
    if body.is_end_stream() {
        return None;
    }
    std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

fn answer(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Whole::response(body)));
    let grpc = HeaderValue::from_static("application/grpc");
    (response.headers_mut()).insert(http::header::CONTENT_TYPE, grpc);
    response
}

/// A body that is there at once, and the trailers of an answer.
struct Whole {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    fn request(data: Bytes) -> Self {
        Self {
            data: Some(data),
            trailers: None,
        }
    }

    fn response(data: Bytes) -> Self {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self {
            data: Some(data),
            trailers: Some(trailers),
        }
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let size = self.data.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(size).unwrap_or(u64::MAX))
    }
}
