//! The layer around all services: deadlines, panics, and the one form of errors.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::{Peer, Serve};
use crate::api::Deadline;
use crate::api::status::{self, complete};

/// The most by which the engine's deadline is earlier than the caller's, so that what it says
/// about the deadline (how far it came, what became of a write) still arrives.
const MOST_MARGIN: Duration = Duration::from_millis(10);

/// A service whose answers always come in time, and as section 10 of the design has them.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

pin_project! {
    /// An answer on its way, no later than its deadline; a panic on the way is an answer too.
    /// Every request goes through here: nothing is boxed but the timer of what has to wait.
    pub struct Answer<F> {
        #[pin]
        called: Called<F>,
        deadline: Option<Instant>,
        timer: Option<Pin<Box<Sleep>>>,
        path: Option<PathAndQuery>,
    }
}

pin_project! {
    #[project = CalledNow]
    enum Called<F> {
        Runs { #[pin] future: F },
        Panicked { panic: Option<Panic> },
    }
}

type Panic = Box<dyn Any + Send>;

impl<S: Serve> Serve for Guarded<S> {
    type Answer = Answer<S::Answer>;

    fn serve(&self, mut request: Request<Body>, peer: Peer) -> Self::Answer {
        let span = timeout(request.headers());
        let deadline = span.and_then(|span| Instant::now().checked_add(span));
        if let (Some(span), Some(deadline)) = (span, deadline) {
            let margin = MOST_MARGIN.min(span / 10);
            let earlier = deadline.checked_sub(margin).unwrap_or(deadline);
            request.extensions_mut().insert(Deadline(earlier));
        }
        let path = request.uri().path_and_query().cloned();
        let called = match catch_unwind(AssertUnwindSafe(|| self.inner.serve(request, peer))) {
            Ok(future) => Called::Runs { future },
            Err(panic) => Called::Panicked { panic: Some(panic) },
        };
        Answer {
            called,
            deadline,
            timer: None,
            path,
        }
    }
}

impl<F: Future<Output = Response<Body>>> Future for Answer<F> {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<Body>> {
        let this = self.project();
        let polled = match this.called.project() {
            CalledNow::Runs { future } => {
                catch_unwind(AssertUnwindSafe(|| future.poll(context))).unwrap_or_else(failed)
            }
            CalledNow::Panicked { panic } => panic.take().map_or(Poll::Pending, failed),
        };
        let mut response = match polled {
            Poll::Ready(response) => response,
            Poll::Pending => {
                let Some(deadline) = *this.deadline else {
                    return Poll::Pending;
                };
                let sleep = || Box::pin(tokio::time::sleep_until(deadline.into()));
                let timer = this.timer.get_or_insert_with(sleep);
                ready!(timer.as_mut().poll(context));
                status::deadline_exceeded().into_http()
            }
        };
        let path = this.path.take();
        complete(response.headers_mut(), named(path.as_ref()));
        Poll::Ready(response.map(|inner| Body::new(GuardedBody { inner, path })))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is handed to whoever takes a panic by value"
)]
fn failed(panic: Panic) -> Poll<Response<Body>> {
    Poll::Ready(internal(&*panic).into_http())
}

fn named(path: Option<&PathAndQuery>) -> &str {
    path.map_or("", PathAndQuery::path)
}

/// The client learns that it was no fault of its own, and the log what it was.
fn internal(panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or_default(), "a request failed");
    status::internal()
}

/// Completes the trailers of an answer that fails after it began.
struct GuardedBody {
    inner: Body,
    path: Option<PathAndQuery>,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let inner = Pin::new(&mut self.inner);
        let polled = catch_unwind(AssertUnwindSafe(|| inner.poll_frame(context)));
        match polled {
            Ok(frame) => frame.map_ok(|frame| completed(frame, named(self.path.as_ref()))),
            Err(panic) => {
                self.inner = Body::empty();
                let mut trailers = HeaderMap::new();
                let added = internal(&*panic).add_header(&mut trailers);
                Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn completed(frame: Frame<Bytes>, path: &str) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            complete(&mut trailers, path);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// `grpc-timeout`: at most eight digits and a unit. What is none is no deadline, as in tonic.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    #[test]
    fn timeouts_are_read() {
        let cases = [
            ("1H", Some(Duration::from_secs(3_600))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("20m", Some(Duration::from_millis(20))),
            ("3n", Some(Duration::from_nanos(3))),
            ("", None),
            ("m", None),
            ("123456789m", None),
            ("-1m", None),
            ("5x", None),
        ];
        for (text, expected) in cases {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]);
            assert_eq!(timeout(&headers), expected, "{text}");
        }
    }

    type Boxed = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

    #[derive(Clone)]
    struct Served(fn() -> Boxed);

    impl Serve for Served {
        type Answer = Boxed;

        fn serve(&self, _: Request<Body>, _: Peer) -> Boxed {
            (self.0)()
        }
    }

    async fn answer(served: Served, timeout: Option<&'static str>) -> Status {
        let mut request = Request::new(Body::empty());
        if let Some(timeout) = timeout {
            let timeout = http::HeaderValue::from_static(timeout);
            request.headers_mut().insert("grpc-timeout", timeout);
        }
        let answer = Guarded::new(served).serve(request, None).await;
        Status::from_header_map(answer.headers()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let later = Served(|| Box::pin(async { panic!("a fault to find") }));
        let at_once = Served(|| panic!("a fault to find"));
        for served in [later, at_once] {
            let status = answer(served, None).await;
            assert_eq!(status.code(), tonic::Code::Internal);
            assert!(!status.details().is_empty());
        }
    }

    #[tokio::test]
    async fn what_takes_too_long_is_answered_at_its_deadline() {
        let slow = Served(|| Box::pin(std::future::pending()));
        let status = answer(slow, Some("20m")).await;
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(!status.details().is_empty());
    }
}
