//! The server behind the sidecar: calls as bytes, in both directions.
//!
//! Hides the connections, and how it is told apart whether the server answered with an error or
//! nobody did. Stream and acknowledgements have a connection of their own, which no flood of
//! calls keeps waiting.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Extensions, Status};
use tower::{Service as _, ServiceExt as _};

use super::counters::Counters;
use crate::api::status::{self, Failure, reason};

/// How long a connection may take to stand, and a call to be answered while none does.
const CONNECT: Duration = Duration::from_secs(1);
/// After how long without a word the other end is asked whether it is there, and how long it may
/// take to say so. More than lies between two acknowledgements of a cache that nobody asks.
const KEEPALIVE: Duration = Duration::from_millis(2_500);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// The most bytes of an answer: a batch with all its keys is larger than what clients send.
const MOST_ANSWER: usize = 64 << 20;
/// So that a stream of commits is not held up by its window.
const WINDOW: u32 = 1 << 20;

/// Where a server is: `http://HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug)]
pub struct Address {
    text: Arc<str>,
    endpoint: Endpoint,
}

/// A text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no server; expected http://HOST:PORT or unix:PATH (there is no TLS yet)")]
pub struct MalformedAddress(String);

impl FromStr for Address {
    type Err = MalformedAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedAddress(text.to_owned());
        let known = ["http://", "unix:"].iter().any(|s| text.starts_with(s));
        let endpoint = (known
            .then(|| Endpoint::from_shared(text.to_owned()).ok())
            .flatten())
        .ok_or_else(malformed)?;
        Ok(Self {
            text: text.into(),
            endpoint: endpoint
                .connect_timeout(CONNECT)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(4 * WINDOW),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    address: Address,
    calls: Channel,
    link: Channel,
    /// Whether the stream stands, which says whether the server can be reached.
    up: watch::Sender<bool>,
    counters: Arc<Counters>,
}

impl Upstream {
    /// Connects when the first call is made.
    pub(super) fn new(address: Address, counters: Arc<Counters>) -> Self {
        Self {
            calls: address.endpoint.connect_lazy(),
            link: address.endpoint.connect_lazy(),
            address,
            up: watch::Sender::new(false),
            counters,
        }
    }

    /// Where it is.
    pub(super) fn name(&self) -> &Address {
        &self.address
    }

    /// The connection of the stream.
    pub(super) fn link(&self) -> Channel {
        self.link.clone()
    }

    /// Says whether the stream stands.
    pub(super) fn set_up(&self, up: bool) {
        self.up
            .send_if_modified(|was| std::mem::replace(was, up) != up);
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    pub(super) fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Makes a unary call and gives the message that came back.
    pub(super) async fn ask(
        &self,
        path: &'static str,
        metadata: HeaderMap,
        message: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        let request = tonic::Request::from_parts(
            MetadataMap::from_headers(metadata),
            Extensions::default(),
            message,
        );
        let mut client =
            tonic::client::Grpc::new(self.calls.clone()).max_decoding_message_size(MOST_ANSWER);
        let path = PathAndQuery::from_static(path);
        let answer = async {
            client.ready().await.map_err(tonic_error)?;
            client.unary(request, path, Raw).await
        };
        let answer = tokio::time::timeout(self.patience(deadline), answer).await;
        match answer.unwrap_or_else(|_| Err(self.late(deadline))) {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) if is_ours(&status) => Err(self.unreached(&status)),
            Err(status) => Err(status),
        }
    }

    /// Passes a call on as it is, and its answer back.
    pub(super) async fn pass(
        &self,
        request: Request<Body>,
        deadline: Option<Instant>,
    ) -> Response<Body> {
        let mut calls = self.calls.clone();
        let answer = async { calls.ready().await?.call(request).await };
        match tokio::time::timeout(self.patience(deadline), answer).await {
            Ok(Ok(response)) => response.map(|inner| Body::new(Relayed(inner))),
            Ok(Err(error)) => self
                .unreached(&Status::from_error(error.into()))
                .into_http(),
            Err(_) => self.late(deadline).into_http(),
        }
    }

    /// How long to wait for an answer to begin.
    fn patience(&self, deadline: Option<Instant>) -> Duration {
        /// Streams, and writes that wait for caches, take their time; a connection that is dead
        /// is found out by its keepalive.
        const FOREVER: Duration = Duration::from_secs(3_600);
        let longest = match self.is_up() {
            true => FOREVER,
            false => CONNECT,
        };
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(longest, |left| left.min(longest))
    }

    fn late(&self, deadline: Option<Instant>) -> Status {
        match deadline.is_some_and(|end| end <= Instant::now()) {
            true => status::deadline_exceeded(),
            false => self.unreached(&Status::unavailable("it does not answer")),
        }
    }

    fn unreached(&self, cause: &Status) -> Status {
        if cause.code() == Code::Cancelled && cause.message() == "Timeout expired" {
            return status::deadline_exceeded();
        }
        self.counters.unreachable.add();
        let cause = innermost(cause);
        let message = format!(
            "the sidecar can't reach the server at {}: {cause}; it answers nothing by itself \
             without a lease that runs",
            self.address
        );
        (Failure::new(reason::UPSTREAM_UNREACHABLE, message).with("upstream", &self.address)).into()
    }
}

fn tonic_error(error: tonic::transport::Error) -> Status {
    Status::from_error(error.into())
}

/// Whether a status was made here, of an error on the way, and did not come from the server.
fn is_ours(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// What went wrong at the bottom: "Connection refused" rather than "transport error".
fn innermost(status: &Status) -> String {
    let Some(mut error) = std::error::Error::source(status) else {
        return status.message().to_owned();
    };
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// An answer on its way through. Where the connection breaks, the client gets a status.
struct Relayed(Body);

impl http_body::Body for Relayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.0).poll_frame(context);
        polled.map(|frame| match frame {
            Some(Err(cause)) => {
                self.0 = Body::empty();
                let message = format!("the connection to the server broke: {}", innermost(&cause));
                let status = Status::from(Failure::new(reason::UPSTREAM_UNREACHABLE, message));
                let mut trailers = HeaderMap::new();
                let added = status.add_header(&mut trailers);
                Some(added.map(|()| Frame::trailers(trailers)))
            }
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
