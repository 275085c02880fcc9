//! Answers of many messages that come encoded, many of them to a frame.
//!
//! Hides how such a stream lies in a body. tonic would encode each message by itself, on the task
//! of the connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::unary::read;
use super::whole::{response, success};

/// Reads the one message of `body`, of at most so many bytes, and streams what is made of it.
pub(super) async fn streamed<Q, S, F>(
    body: Body,
    most: usize,
    answer: impl FnOnce(Q) -> F,
) -> Response<Body>
where
    Q: Message + Default,
    S: Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
    F: Future<Output = Result<S, Status>>,
{
    // What is streamed takes longer than others on this connection are to wait.
    tokio::task::yield_now().await;
    let answered = match read(body, most).await {
        Ok(question) => answer(question).await,
        Err(status) => Err(status),
    };
    match answered {
        Ok(stream) => response(Many {
            stream: Some(stream),
        }),
        Err(status) => status.into_http(),
    }
}

/// A body of encoded messages, with the trailers of how it ended.
struct Many<S> {
    /// `None` once it has ended.
    stream: Option<S>,
}

impl<S> http_body::Body for Many<S>
where
    S: Stream<Item = Result<Bytes, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let trailers = match ready!(Pin::new(stream).poll_next(context)) {
            Some(Ok(messages)) => return Poll::Ready(Some(Ok(Frame::data(messages)))),
            Some(Err(status)) => failure(&status),
            None => success(),
        };
        self.stream = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }
}

fn failure(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Something that it says can't stand in a header.
        trailers.clear();
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}
