//! Messages as bytes, so that what a newer server or client says more is passed on unread.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::cache::Given;
use super::entry::Entry;
use crate::api::frames::{self, HEADER};
use crate::api::proto;
use crate::api::proto::consistency::Requirement;
use crate::revision::Token;

/// The fields of `CheckResponse` that say how it was answered, and not what.
const REVISION: u32 = 2;
const DEPENDENCIES: u32 = 7;
const VALID_FOR: u32 = 9;
/// `BatchCheckResponse.results` and `Result.response`.
const RESULTS: u32 = 1;
const RESPONSE: u32 = 1;

/// The message of a body that holds exactly one, and that not compressed.
pub(super) fn unframed(body: &Bytes) -> Option<Bytes> {
    let header: &[u8; HEADER] = body.first_chunk()?;
    let [compressed, length @ ..] = *header;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (compressed == 0 && body.len() == HEADER + length).then(|| body.slice(HEADER..))
}

/// A body of one message, which `write` appends.
pub(super) fn framed(room: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut body = frames::begun(room);
    write(&mut body);
    frames::ended(body)
}

/// A request with what is to be said besides: of a field that stands twice the last one counts.
pub(super) fn amended(request: &[u8], more: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(request.len() + more.encoded_len());
    bytes.put_slice(request);
    put(more, &mut bytes);
    bytes.freeze()
}

/// What a question is sent with: the keys are wanted, and perhaps a revision.
pub(super) fn with_keys(requirement: Option<Requirement>) -> proto::CheckRequest {
    proto::CheckRequest {
        with_dependencies: true,
        consistency: requirement.map(|requirement| proto::Consistency {
            requirement: Some(requirement),
        }),
        ..proto::CheckRequest::default()
    }
}

/// A response as it is kept.
pub(super) fn kept(response: &[u8]) -> Option<Bytes> {
    let mut kept = BytesMut::with_capacity(response.len());
    copy_without(&[REVISION, DEPENDENCIES, VALID_FOR], response, &mut kept)?;
    // A buffer of its own size: it stays for long.
    Some(Bytes::copy_from_slice(&kept))
}

/// A response to whoever did not ask for the keys.
pub(super) fn without_keys(response: &[u8]) -> Option<Bytes> {
    let mut rest = BytesMut::with_capacity(response.len());
    copy_without(&[DEPENDENCIES], response, &mut rest)?;
    Some(rest.freeze())
}

/// The same of a batch.
pub(super) fn batch_without_keys(response: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(response.len());
    within(RESULTS, response, &mut out, |result, out| {
        within(RESPONSE, result, out, |response, out| {
            copy_without(&[DEPENDENCIES], response, out)
        })
    })?;
    Some(out.freeze())
}

/// Copies a message, of whose field `tag` (one of messages) `inner` writes the contents.
fn within(
    tag: u32,
    message: &[u8],
    out: &mut BytesMut,
    mut inner: impl FnMut(&[u8], &mut BytesMut) -> Option<()>,
) -> Option<()> {
    each_field(message, |found, field, contents| {
        if found != tag {
            out.put_slice(field);
            return Some(());
        }
        let mut changed = BytesMut::with_capacity(contents.len());
        inner(contents, &mut changed)?;
        put_header(tag, changed.len(), out);
        out.put_slice(&changed);
        Some(())
    })
}

fn copy_without(tags: &[u32], message: &[u8], out: &mut BytesMut) -> Option<()> {
    each_field(message, |tag, field, _| {
        if !tags.contains(&tag) {
            out.put_slice(field);
        }
        Some(())
    })
}

/// Gives each field's tag, all its bytes, and (where it has a length) its contents. `None` where
/// the message is malformed.
fn each_field(message: &[u8], mut take: impl FnMut(u32, &[u8], &[u8]) -> Option<()>) -> Option<()> {
    let mut rest = message;
    while rest.has_remaining() {
        let field = rest;
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        let mut contents = rest;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).ok()?;
        let field = field.get(..field.len() - rest.len())?;
        prost::encoding::decode_varint(&mut contents).ok();
        let contents = contents.get(..contents.len().saturating_sub(rest.len()))?;
        take(tag, field, contents)?;
    }
    Some(())
}

/// A revision as text, in place: `1042@9f3ac1`.
pub(super) struct TokenText {
    digits: [u8; Self::MOST],
    begins: usize,
}

impl TokenText {
    /// The digits of two 64-bit numbers, decimal and hexadecimal, and what stands between them.
    const MOST: usize = 20 + 1 + 16;

    pub(super) fn of(token: Token) -> Self {
        let mut text = Self {
            digits: [0; Self::MOST],
            begins: Self::MOST,
        };
        let Token { revision, epoch } = token;
        text.put_number(epoch.0, 16, 6);
        text.put(b'@');
        text.put_number(revision.0, 10, 1);
        text
    }

    /// Before what stands already.
    fn put(&mut self, byte: u8) {
        self.begins = self.begins.saturating_sub(1);
        if let Some(place) = self.digits.get_mut(self.begins) {
            *place = byte;
        }
    }

    fn put_number(&mut self, mut number: u64, base: u64, fewest: usize) {
        let mut count = 0;
        while number > 0 || count < fewest {
            let digit = u8::try_from(number % base).unwrap_or(0);
            self.put(if digit < 10 {
                b'0' + digit
            } else {
                b'a' - 10 + digit
            });
            number /= base;
            count += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.begins..).unwrap_or_default()
    }
}

/// The length of what is given, and writing it: a kept answer with what it is given with.
pub(super) struct Answer<'a> {
    body: &'a Bytes,
    at: &'a [u8],
    /// Empty unless time or the caller wants it.
    more: proto::CheckResponse,
}

impl<'a> Answer<'a> {
    /// `at` is left out where the revision is the whole batch's.
    pub(super) fn new(
        entry: &'a Entry,
        given: &Given,
        at: Option<&'a TokenText>,
        with_keys: bool,
    ) -> Self {
        let keys = match with_keys {
            true => entry.keys.to_vec(),
            false => Vec::new(),
        };
        Self {
            body: &entry.body,
            at: at.map_or(&[], TokenText::as_bytes),
            more: proto::CheckResponse {
                valid_for: given.valid_for.and_then(|span| span.try_into().ok()),
                dependencies: keys,
                ..proto::CheckResponse::default()
            },
        }
    }

    pub(super) fn size(&self) -> usize {
        let at = match self.at.len() {
            0 => 0,
            length => 2 + length,
        };
        self.body.len() + at + self.more.encoded_len()
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(self.body);
        if !self.at.is_empty() {
            put_header(REVISION, self.at.len(), out);
            out.put_slice(self.at);
        }
        put(&self.more, out);
    }

    /// As `BatchCheckResponse.results`, at their end.
    pub(super) fn put_as_result(&self, out: &mut BytesMut) {
        let size = self.size();
        let outer = size + prost::encoding::encoded_len_varint(size as u64) + 1;
        put_header(RESULTS, outer, out);
        put_header(RESPONSE, size, out);
        self.put(out);
    }
}

fn put_header(tag: u32, length: usize, out: &mut BytesMut) {
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, out);
    put_varint(length, out);
}

fn put_varint(value: usize, out: &mut BytesMut) {
    prost::encoding::encode_varint(value as u64, out);
}

fn put(message: &impl Message, out: &mut BytesMut) {
    // A buffer that grows takes every message.
    let _ = message.encode(out);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn response() -> proto::CheckResponse {
        proto::CheckResponse {
            decision: 2,
            revision: "7@fd4b2e".to_owned(),
            denial_reason: 1,
            dependencies: vec![1, u64::MAX],
            valid_for: Some(prost_types::Duration {
                seconds: 5,
                nanos: 1,
            }),
            detail: "does not have it".to_owned(),
            ..proto::CheckResponse::default()
        }
    }

    /// A field that this version does not know.
    const UNKNOWN: &[u8] = &[0xfa, 0x01, 0x03, b'n', b'e', b'w'];

    #[test]
    fn what_is_kept_is_what_was_answered() {
        let mut bytes = response().encode_to_vec();
        bytes.extend_from_slice(UNKNOWN);
        let kept = kept(&bytes).unwrap();
        assert!(kept.ends_with(UNKNOWN));
        let read = proto::CheckResponse::decode(kept).unwrap();
        let expected = proto::CheckResponse {
            revision: String::new(),
            dependencies: Vec::new(),
            valid_for: None,
            ..response()
        };
        assert_eq!(read, expected);
        let rest = without_keys(&bytes).unwrap();
        assert!(rest.ends_with(UNKNOWN));
        let read = proto::CheckResponse::decode(rest).unwrap();
        assert_eq!(read.revision, "7@fd4b2e");
        assert!(read.dependencies.is_empty() && read.valid_for.is_some());
    }

    #[test]
    fn a_batch_loses_the_keys_alone() {
        use proto::batch_check_response::{Result, result::Outcome};
        let error = proto::ItemError {
            reason: "UNKNOWN_TYPE".to_owned(),
            message: "no".to_owned(),
        };
        let batch = |response| proto::BatchCheckResponse {
            results: [Outcome::Response(response), Outcome::Error(error.clone())]
                .map(|outcome| Result {
                    outcome: Some(outcome),
                })
                .into(),
            revision: "7@fd4b2e".to_owned(),
        };
        let bytes = batch_without_keys(&batch(response()).encode_to_vec()).unwrap();
        let read = proto::BatchCheckResponse::decode(bytes).unwrap();
        let expected = proto::CheckResponse {
            dependencies: Vec::new(),
            ..response()
        };
        assert_eq!(read, batch(expected));
    }

    #[test]
    fn malformed_messages_are_none() {
        for bytes in [&[0xff][..], &[0x0a, 9, 1], &[0x0b], &[0x08]] {
            assert_eq!(kept(bytes), None, "{bytes:?}");
            assert_eq!(batch_without_keys(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_revision_reads_as_everywhere() {
        use crate::revision::{Epoch, Revision};
        for revision in [0, 7, 1_042, u64::MAX] {
            for epoch in [1, 0x9f_3ac1, 0x1_0000_0000, u64::MAX] {
                let token = Token {
                    revision: Revision(revision),
                    epoch: Epoch(epoch),
                };
                let text = TokenText::of(token);
                assert_eq!(text.as_bytes(), token.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn one_message_a_body() {
        let body = framed(3, |out| out.put_slice(b"abc"));
        assert_eq!(unframed(&body).unwrap(), &b"abc"[..]);
        for other in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x01",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\0x",
        ] {
            assert_eq!(unframed(&Bytes::from_static(other)), None, "{other:?}");
        }
    }
}
