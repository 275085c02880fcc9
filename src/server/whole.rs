//! Bodies that are there at once, and what an answer has beside its body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use tonic::body::Body;

/// A body that is there at once. It does not tell its size: hyper would put that into a header.
pub(crate) struct Whole {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// The body of a request.
    pub(crate) fn request(data: Bytes) -> Self {
        Self {
            data: Some(data),
            trailers: None,
        }
    }

    /// The body of an answer, with the trailers of success.
    fn answer(data: Bytes) -> Self {
        Self {
            data: Some(data),
            trailers: Some(success()),
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
}

/// An answer that is there at once.
pub(crate) fn answered(body: Bytes) -> Response<Body> {
    response(Whole::answer(body))
}

/// An answer with this body.
pub(super) fn response<B>(body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut response = Response::new(Body::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    (response.headers_mut()).insert(http::header::CONTENT_TYPE, grpc);
    response
}

/// The trailers of an answer that is whole.
pub(super) fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}
