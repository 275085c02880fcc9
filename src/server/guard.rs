//! The layer around all services: deadlines, panics, and the one form of errors.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::{Layer, Service};

use crate::api::Deadline;
use crate::api::status::{self, complete};

/// The most by which the engine's deadline is earlier than the caller's, so that what it says
/// about the deadline (how far it came, what became of a write) still arrives.
const MOST_MARGIN: Duration = Duration::from_millis(10);

/// Puts a [`Guarded`] around a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard;

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner }
    }
}

/// A service whose answers always come in time, and as section 10 of the design has them.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

pin_project! {
    /// An answer on its way, no later than its deadline; a panic on the way is an answer too.
    /// Every request goes through here: nothing is boxed but the timer of a deadline.
    pub struct Answer<F> {
        #[pin]
        called: Called<F>,
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

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // tonic's services are always ready; were one not, `call` would answer with its error.
        let _ = self.inner.poll_ready(context);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = timeout(request.headers());
        let deadline = span.and_then(|span| Instant::now().checked_add(span));
        if let (Some(span), Some(deadline)) = (span, deadline) {
            let margin = MOST_MARGIN.min(span / 10);
            let earlier = deadline.checked_sub(margin).unwrap_or(deadline);
            request.extensions_mut().insert(Deadline(earlier));
        }
        let path = request.uri().path_and_query().cloned();
        let called = match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(future) => Called::Runs { future },
            Err(panic) => Called::Panicked { panic: Some(panic) },
        };
        Answer {
            called,
            timer: deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into()))),
            path,
        }
    }
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    E: Into<tonic::codegen::StdError>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = match this.called.project() {
            CalledNow::Runs { future } => {
                catch_unwind(AssertUnwindSafe(|| future.poll(context))).unwrap_or_else(failed)
            }
            CalledNow::Panicked { panic } => panic.take().map_or(Poll::Pending, failed),
        };
        let timer = this.timer.as_mut();
        let mut response = match polled {
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(error)) => Status::from_error(error.into()).into_http(),
            Poll::Pending => match timer.map(|timer| timer.as_mut().poll(context)) {
                Some(Poll::Ready(())) => status::deadline_exceeded().into_http(),
                _ => return Poll::Pending,
            },
        };
        let path = this.path.take();
        complete(response.headers_mut(), named(path.as_ref()));
        Poll::Ready(Ok(
            response.map(|inner| Body::new(GuardedBody { inner, path }))
        ))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is handed to whoever takes a panic by value"
)]
fn failed<E>(panic: Panic) -> Poll<Result<Response<Body>, E>> {
    Poll::Ready(Ok(internal(&*panic).into_http()))
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

    async fn panics(_: Request<Body>) -> Result<Response<Body>, Infallible> {
        panic!("a fault to find")
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let mut service = Guard.layer(tower::service_fn(panics));
        let answer = service.call(Request::new(Body::empty())).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.details().is_empty());
    }

    #[tokio::test]
    async fn what_takes_too_long_is_answered_at_its_deadline() {
        let slow = |_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>();
        let mut service = Guard.layer(tower::service_fn(slow));
        let mut request = Request::new(Body::empty());
        request
            .headers_mut()
            .insert("grpc-timeout", "20m".parse().unwrap());
        let answer = service.call(request).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(!status.details().is_empty());
    }
}
