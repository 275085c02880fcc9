//! Calls of one message each way, by the shortest way from body to body.
//!
//! Hides how a message lies in a body. tonic's own way to the same end copies the message into a
//! buffer of 8 KiB and puts six boxes around it and its answer, which costs as much as the check.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::whole::answered;
use crate::api::frames::{HEADER, decoded, framed, malformed};
use crate::api::status::{Failure, reason};

/// Whether nothing is said about the messages that needs tonic.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let encoding = headers.get("grpc-encoding");
    encoding.is_none_or(|encoding| encoding == "identity")
}

/// Reads the one message of `body`, of at most so many bytes, and sends what is made of it.
pub(super) async fn unary<Q, A, F>(
    body: Body,
    most: usize,
    answer: impl FnOnce(Q) -> F,
) -> Response<Body>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let answer = |message| async {
        let answer = answer(decoded(message)?).await?;
        Ok(framed(&answer))
    };
    encoded(body, most, answer).await
}

/// The same where the message is read, and the body of the answer written, by `answer`.
pub(super) async fn encoded<F>(
    body: Body,
    most: usize,
    answer: impl FnOnce(Bytes) -> F,
) -> Response<Body>
where
    F: Future<Output = Result<Bytes, Status>>,
{
    let result = match message(body, most).await {
        Ok(message) => answer(message).await,
        Err(status) => Err(status),
    };
    match result {
        Ok(answer) => answered(answer),
        Err(status) => status.into_http(),
    }
}

/// The one message of `body`, of at most so many bytes.
pub(super) async fn read<Q: Message + Default>(body: Body, most: usize) -> Result<Q, Status> {
    decoded(message(body, most).await?)
}

/// The first message of a body, which is read to its end. One that comes in one piece, as most
/// do, is not copied.
async fn message(mut body: Body, most: usize) -> Result<Bytes, Status> {
    let mut pieces = BytesMut::new();
    let mut message = None;
    while let Some(frame) = next(&mut body).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if message.is_some() {
            continue;
        }
        if pieces.is_empty() && is_whole(&data, most)? {
            message = Some(data);
            continue;
        }
        pieces.extend_from_slice(&data);
        if is_whole(&pieces, most)? {
            message = Some(pieces.split().freeze());
        }
    }
    match message {
        Some(framed) => Ok(framed.slice(HEADER..length(&framed))),
        None if pieces.is_empty() => Err(malformed("the request has no message")),
        None => Err(malformed("the request ends within its message")),
    }
}

async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
    if body.is_end_stream() {
        return None;
    }
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// Whether a message stands at the beginning of `bytes`, and all of it.
fn is_whole(bytes: &[u8], most: usize) -> Result<bool, Status> {
    let compressed = bytes.first().copied().unwrap_or(0);
    if compressed != 0 {
        return Err(malformed(format!(
            "the message has the flag {compressed}, and no grpc-encoding says what that means"
        )));
    }
    let (end, limit) = (length(bytes), most.saturating_add(HEADER));
    if end > limit {
        let size = end - HEADER;
        let message = format!("the request has {size} bytes, and at most {most} are taken");
        return Err(Failure::new(reason::TOO_LARGE, message).into());
    }
    Ok(bytes.len() >= end)
}

/// Where the message at the beginning of `bytes` ends, as far as its own length is there.
fn length(bytes: &[u8]) -> usize {
    let length = bytes.get(1..HEADER).and_then(|length| length.first_chunk());
    let length = length.map_or(0, |length| u32::from_be_bytes(*length));
    HEADER.saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
}
