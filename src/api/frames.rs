//! Messages as they lie in the body of an answer, encoded where they are made.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;
use tonic::Status;

use super::proto::batch_check_response;
use super::status::{Failure, reason};
use crate::revision::Token;

/// A flag and a length stand before each message.
pub(crate) const HEADER: usize = 5;
/// About what a row of a list takes.
const ROW: usize = 48;

/// One message.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut body = BytesMut::with_capacity(HEADER + message.encoded_len());
    append(message, &mut body);
    body.freeze()
}

/// Rows of a list, one behind the other.
pub(super) fn rows<M: Message>(messages: impl ExactSizeIterator<Item = M>) -> Bytes {
    let mut body = BytesMut::with_capacity(messages.len() * ROW);
    for message in messages {
        append(&message, &mut body);
    }
    body.freeze()
}

/// A `BatchCheckResponse`, result by result.
pub(super) struct BatchResponse(BytesMut);

impl BatchResponse {
    const RESULTS: u32 = 1;
    const REVISION: u32 = 2;

    /// With room for so many results.
    pub(super) fn of(results: usize) -> Self {
        Self(begun(results * ROW))
    }

    pub(super) fn push(&mut self, result: &batch_check_response::Result) {
        prost::encoding::message::encode(Self::RESULTS, result, &mut self.0);
    }

    /// The whole of it, as a body has it.
    pub(super) fn end(self, at: Token) -> Bytes {
        let Self(mut body) = self;
        prost::encoding::string::encode(Self::REVISION, &at.to_string(), &mut body);
        ended(body)
    }
}

/// A body of one message, which is to be appended.
pub(crate) fn begun(room: usize) -> BytesMut {
    let mut body = BytesMut::with_capacity(HEADER + room);
    body.put_bytes(0, HEADER);
    body
}

/// A body that was begun, with its message.
pub(crate) fn ended(mut body: BytesMut) -> Bytes {
    let length = u32::try_from(body.len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
    if let Some(place) = body.get_mut(1..HEADER) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    body.freeze()
}

/// A message of a body.
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub(crate) fn decoded<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| malformed(error.to_string()))
}

/// What is no message.
pub(crate) fn malformed(problem: impl Into<String>) -> Status {
    Failure::new(reason::MALFORMED_REQUEST, problem).into()
}

fn append(message: &impl Message, to: &mut BytesMut) {
    let length = message.encoded_len();
    to.reserve(HEADER + length);
    to.put_u8(0);
    to.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(to);
}
