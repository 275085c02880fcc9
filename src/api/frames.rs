//! Messages as they lie in the body of an answer, encoded where they are made.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;

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

fn append(message: &impl Message, to: &mut BytesMut) {
    let length = message.encoded_len();
    to.reserve(HEADER + length);
    to.put_u8(0);
    to.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(to);
}
