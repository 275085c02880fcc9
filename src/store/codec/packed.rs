//! The body of a commit's record, written without a copy of what it says: most of what a store
//! writes are tuples, many at a time. The bytes are those of [`super::message`], which reads them.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};

use super::Writer;
use super::message as body;
use crate::state::{Change, Commit};
use crate::tuple::Tuple;

/// The numbers of the fields that are written here.
const RECORD_COMMIT: u32 = 4;
const COMMIT_CHANGES: u32 = 6;
const COMMIT_REMEMBERED: u32 = 7;
const TUPLE_CAVEAT: u32 = 4;
const TUPLE_EXPIRES_AT: u32 = 5;

/// Appends the record of a commit.
pub(super) fn append(writer: Writer, commit: &Commit, to: &mut Vec<u8>) {
    let record = body::Record {
        incarnation: writer.incarnation,
        sequence: writer.sequence,
        entry: None,
    };
    let front = body::Commit::front(commit);
    let remembered: Option<body::Remembered> = commit.remembered.as_ref().map(Into::into);
    let mut changes = Vec::with_capacity(commit.changes.len() * 96);
    for change in &commit.changes {
        append_change(change, &mut changes);
    }
    let back = remembered.as_ref();
    let back_length = back.map_or(0, |kept| message::encoded_len(COMMIT_REMEMBERED, kept));
    let length = front.encoded_len() + changes.len() + back_length;
    to.reserve(record.encoded_len() + length + 16);
    record.encode_raw(to);
    open(RECORD_COMMIT, length, to);
    front.encode_raw(to);
    to.extend_from_slice(&changes);
    if let Some(kept) = back {
        message::encode(COMMIT_REMEMBERED, kept, to);
    }
}

fn append_change(change: &Change, to: &mut Vec<u8>) {
    match change {
        Change::Granted(tuple) => append_tuple(1, tuple, to),
        Change::Revoked(tuple) => append_tuple(2, tuple, to),
        Change::Expired(tuple) => append_tuple(3, tuple, to),
        other => message::encode(COMMIT_CHANGES, &body::Change::from(other), to),
    }
}

/// A change of the kind with this number.
fn append_tuple(kind: u32, tuple: &Tuple, to: &mut Vec<u8>) {
    let Tuple {
        resource,
        relation,
        subject,
        caveat,
        expires_at,
    } = tuple;
    let caveat: Option<body::Caveat> = caveat.as_ref().map(Into::into);
    let expires_at: Option<body::Time> = expires_at.map(Into::into);
    let resource = [resource.kind(), ":", resource.id()];
    let (before, set) = subject.relation().map_or(("", ""), |set| ("#", set));
    let subject = [subject.kind(), ":", subject.id(), before, set];
    let caveat_length = (caveat.as_ref()).map_or(0, |it| message::encoded_len(TUPLE_CAVEAT, it));
    let time_length =
        (expires_at.as_ref()).map_or(0, |it| message::encoded_len(TUPLE_EXPIRES_AT, it));
    let length = text_length(&resource)
        + text_length(&[relation])
        + text_length(&subject)
        + caveat_length
        + time_length;
    open(
        COMMIT_CHANGES,
        key_len(kind) + encoded_len_varint(length as u64) + length,
        to,
    );
    open(kind, length, to);
    append_text(1, &resource, to);
    append_text(2, &[relation], to);
    append_text(3, &subject, to);
    if let Some(caveat) = &caveat {
        message::encode(TUPLE_CAVEAT, caveat, to);
    }
    if let Some(time) = &expires_at {
        message::encode(TUPLE_EXPIRES_AT, time, to);
    }
}

/// What an embedded message or text of this length begins with.
fn open(number: u32, length: usize, to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(length as u64, to);
}

/// The length of a text's field with a number below 16: none where it is empty.
fn text_length(parts: &[&str]) -> usize {
    match parts.iter().map(|part| part.len()).sum() {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    }
}

fn append_text(number: u32, parts: &[&str], to: &mut Vec<u8>) {
    let length = parts.iter().map(|part| part.len()).sum();
    if length == 0 {
        return;
    }
    open(number, length, to);
    for part in parts {
        to.extend_from_slice(part.as_bytes());
    }
}
