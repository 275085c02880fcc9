//! Records: how a commit becomes bytes, and what proves that they are still those.
//!
//! Hides the format. A record is a header of 24 bytes (little-endian) and a protobuf body:
//!
//! ```text
//!  0  u16  version of the format it was written in
//!  2  u16  the oldest reader that understands it
//!  4  u32  length of the body
//!  8  u64  checksum: XXH3 of all other bytes
//! 16  u64  chain of the record before it
//! 24       body
//! ```
//!
//! Its own chain is XXH3, under another seed, of the whole. A later format may add fields to the
//! body; what an old reader must not overlook raises the oldest reader. The header stays.

mod body;
mod message;
mod packed;

use prost::Message;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use self::body::Unreadable;
use super::{Position, StoreError};
use crate::revision::{Epoch, Revision};
use crate::state::{Change, Commit};
use crate::time::Timestamp;

/// The newest format that this program reads. It writes the oldest that says what is to be said,
/// so that the program before it reads all that it can understand.
pub const FORMAT: u16 = 2;
/// Without locks, roles and their assignments.
const FIRST_FORMAT: u16 = 1;

const HEADER: usize = 24;
const CHECKSUM_SEED: u64 = 0x706f_7274_6375_6c01;
const CHAIN_SEED: u64 = 0x706f_7274_6375_6c02;

/// Who wrote a record: so that it recognises its own after it did not hear what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    /// Drawn anew whenever a store is opened.
    pub incarnation: u64,
    /// Counts the records of the incarnation.
    pub sequence: u64,
}

/// What a record says.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// The first record of a log, at revision 0.
    Genesis {
        /// Names the history.
        epoch: Epoch,
        /// Goes into dependency keys.
        seed: u64,
    },
    /// What changed; each continues the chain of the one before it.
    Commit(Commit),
    /// Beside the chain: a state that was kept whole.
    Checkpoint(Kept),
    /// Beside the chain: the commits up to this position are no longer kept.
    Start(Position),
}

/// A checkpoint, as the log names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The last commit that it holds.
    pub position: Position,
    /// The time of that commit.
    pub time: Timestamp,
    /// The length of its file, in bytes.
    pub length: u64,
    /// XXH3-128 of its file.
    pub digest: u128,
}

/// A record that has been read and found whole.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Who wrote it.
    pub writer: Writer,
    /// What it says.
    pub entry: Entry,
    /// The chain that it continues.
    pub previous: u64,
    /// Its revision and its own chain.
    pub position: Position,
}

/// A record as bytes, and its position.
pub fn encode(previous: u64, writer: Writer, entry: &Entry) -> (Vec<u8>, Position) {
    let format = match entry {
        Entry::Commit(commit) => format_of(commit),
        _ => FIRST_FORMAT,
    };
    let body = message::Record {
        incarnation: writer.incarnation,
        sequence: writer.sequence,
        entry: Some(entry.into()),
    };
    let mut bytes = vec![0; HEADER];
    body.encode_raw(&mut bytes);
    sealed(previous, entry.revision(), bytes, format)
}

/// The record of a commit as bytes, and where the log stands after it.
pub fn encode_commit(previous: u64, writer: Writer, commit: &Commit) -> (Vec<u8>, Position) {
    let mut bytes = vec![0; HEADER];
    packed::append(writer, commit, &mut bytes);
    sealed(previous, commit.revision, bytes, format_of(commit))
}

/// The oldest format that has all that a commit says.
fn format_of(commit: &Commit) -> u16 {
    let newer = |change: &Change| match change {
        Change::Granted(tuple) | Change::Revoked(tuple) | Change::Expired(tuple) => {
            tuple.relation.contains('=')
        }
        Change::Schema(_) => false,
        Change::Locked(_)
        | Change::Unlocked(_)
        | Change::LockExpired(_)
        | Change::RoleWritten(_)
        | Change::RoleDeleted(_) => true,
    };
    match commit.changes.iter().any(newer) {
        true => FORMAT,
        false => FIRST_FORMAT,
    }
}

/// Fills in the header before a body.
fn sealed(
    previous: u64,
    revision: Revision,
    mut bytes: Vec<u8>,
    format: u16,
) -> (Vec<u8>, Position) {
    let length = bytes.len().saturating_sub(HEADER);
    let header = Header {
        version: format,
        oldest_reader: format,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        previous,
    };
    header.seal(&mut bytes);
    let chain = chain(&bytes);
    (bytes, Position { revision, chain })
}

/// Reads the record that stands at `revision`.
///
/// # Errors
/// [`StoreError::RecordDamaged`] or [`StoreError::NewerReader`].
pub fn decode(revision: Revision, bytes: &[u8]) -> Result<Record, StoreError> {
    let damaged = |problem: &str| StoreError::RecordDamaged {
        revision,
        problem: problem.to_owned(),
    };
    let newer = |needs: u16| StoreError::NewerReader {
        revision,
        needs: needs.into(),
        reads: FORMAT.into(),
    };
    let (header, rest) = Header::open(bytes).map_err(damaged)?;
    if header.oldest_reader > FORMAT {
        return Err(newer(header.oldest_reader));
    }
    let body = message::Record::decode(rest).map_err(|error| damaged(&error.to_string()))?;
    let entry = match body.entry.map(Entry::try_from) {
        Some(Ok(entry)) => entry,
        Some(Err(Unreadable::Damaged(problem))) => return Err(damaged(&problem)),
        // A kind of entry or change that this reader has no name for.
        None | Some(Err(Unreadable::Newer)) => return Err(newer(header.version.max(FORMAT + 1))),
    };
    if entry.revision() != revision {
        let problem = format!("it says that it is revision {}", entry.revision());
        return Err(damaged(&problem));
    }
    Ok(Record {
        writer: Writer {
            incarnation: body.incarnation,
            sequence: body.sequence,
        },
        entry,
        previous: header.previous,
        position: Position {
            revision,
            chain: chain(bytes),
        },
    })
}

/// Reads the commit at the revision after `before`, which it must continue.
///
/// # Errors
/// As [`decode`], and [`StoreError::ChainBroken`].
pub fn decode_next(before: Position, bytes: &[u8]) -> Result<(Commit, Position), StoreError> {
    let revision = before.revision.next();
    let record = decode(revision, bytes)?;
    match record.entry {
        Entry::Commit(commit) if record.previous == before.chain => Ok((commit, record.position)),
        _ => Err(StoreError::ChainBroken(revision)),
    }
}

/// The chain that a record continues; `None` where it is not whole.
pub fn previous(bytes: &[u8]) -> Option<u64> {
    Header::open(bytes).ok().map(|(header, _)| header.previous)
}

impl Entry {
    fn revision(&self) -> Revision {
        match self {
            Self::Genesis { .. } => Revision(0),
            Self::Commit(commit) => commit.revision,
            Self::Checkpoint(kept) => kept.position.revision,
            Self::Start(position) => position.revision,
        }
    }
}

fn chain(record: &[u8]) -> u64 {
    xxh3_64_with_seed(record, CHAIN_SEED)
}

struct Header {
    version: u16,
    oldest_reader: u16,
    length: u32,
    previous: u64,
}

impl Header {
    fn seal(&self, record: &mut [u8]) {
        let mut fixed = Vec::with_capacity(HEADER);
        fixed.extend(self.version.to_le_bytes());
        fixed.extend(self.oldest_reader.to_le_bytes());
        fixed.extend(self.length.to_le_bytes());
        let mut tail = self.previous.to_le_bytes().to_vec();
        let (_, body) = record.split_at(HEADER);
        fixed.extend(checksum(&fixed, &tail, body).to_le_bytes());
        fixed.append(&mut tail);
        record
            .iter_mut()
            .zip(fixed)
            .for_each(|(to, from)| *to = from);
    }

    fn open(record: &[u8]) -> Result<(Self, &[u8]), &'static str> {
        let (header, body) = record
            .split_first_chunk::<HEADER>()
            .ok_or("it is shorter than a header")?;
        let (front, rest) = header.split_at(8);
        let (sum, tail) = rest.split_at(8);
        if checksum(front, tail, body) != little(sum) {
            return Err("its checksum does not match");
        }
        let front = little(front);
        let header = Self {
            version: (front & 0xffff) as u16,
            oldest_reader: (front >> 16 & 0xffff) as u16,
            length: (front >> 32) as u32,
            previous: little(tail),
        };
        match usize::try_from(header.length) == Ok(body.len()) {
            true => Ok((header, body)),
            false => Err("it is not as long as it says"),
        }
    }
}

fn checksum(front: &[u8], tail: &[u8], body: &[u8]) -> u64 {
    let mut hash = Xxh3::with_seed(CHECKSUM_SEED);
    for part in [front, tail, body] {
        hash.update(part);
    }
    hash.digest()
}

fn little(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::state::{HeldLock, RoleRecord};
    use crate::tuple::{CaveatRef, Tuple};

    /// Chain and length of one record: where these change, old logs are no longer read.
    const GOLDEN: (u64, usize) = (13_882_088_821_196_202_518, 86);

    const WRITER: Writer = Writer {
        incarnation: 7,
        sequence: 9,
    };

    fn commit(changes: Vec<Change>) -> Commit {
        Commit {
            revision: Revision(5),
            time: Timestamp::new(1, 2).unwrap(),
            actor: None,
            reason: String::new(),
            metadata: None,
            changes,
            remembered: None,
        }
    }

    /// A record of `body` that is whole, whatever it says.
    fn forged(version: u16, oldest_reader: u16, body: &[u8]) -> Vec<u8> {
        let mut record = vec![0; HEADER];
        record.extend(body);
        let header = Header {
            version,
            oldest_reader,
            length: u32::try_from(body.len()).unwrap(),
            previous: 3,
        };
        header.seal(&mut record);
        record
    }

    fn entries() -> Vec<Entry> {
        let tuple = |text: &str| text.parse().unwrap();
        let position = Position {
            revision: Revision(5),
            chain: u64::MAX,
        };
        let empty = CaveatRef {
            name: "only".into(),
            context: Arc::default(),
        };
        let mut caveated: Tuple = tuple("doc:a#viewer@user:*");
        caveated.caveat = Some(empty);
        let lock = Arc::new(HeldLock {
            id: "l1".into(),
            resource: "doc:a".parse().unwrap(),
            mode: "freeze".into(),
            exempt: vec!["team:x#member".parse().unwrap(), "user:*".parse().unwrap()],
            actor: Some("user:b".parse().unwrap()),
            reason: "a release".into(),
            created_at: Timestamp::new(7, 0).unwrap(),
            expires_at: Timestamp::new(8, 9),
            fencing_token: u64::MAX,
        });
        let role = RoleRecord {
            role: "role:acme/deployer".parse().unwrap(),
            owner: "organization:acme".parse().unwrap(),
            title: "Deployer".into(),
            permissions: vec!["application.deploy".into(), "application.view".into()],
        };
        let kept = Kept {
            position,
            time: Timestamp::new(-5, 999_999_999).unwrap(),
            length: 1 << 40,
            digest: u128::MAX - 1,
        };
        vec![
            Entry::Genesis {
                epoch: Epoch(0x9f_3ac1),
                seed: u64::MAX,
            },
            Entry::Commit(commit(vec![])),
            Entry::Commit(commit(vec![
                Change::Granted(caveated),
                Change::Revoked(tuple(
                    "doc:a#viewer@team:x#member[expiration:2030-01-31T12:00:00Z]",
                )),
                Change::Expired(tuple(
                    "doc:a#roles=org/k@user:b[c:{\"a\":[0.1,{\"b\":null}]}]",
                )),
                Change::Schema("".into()),
            ])),
            Entry::Commit(commit(vec![
                Change::Locked(Arc::clone(&lock)),
                Change::Unlocked(Arc::clone(&lock)),
                Change::LockExpired(lock),
                Change::RoleWritten(Arc::new(role)),
                Change::RoleDeleted("role:acme/x/deployer".parse().unwrap()),
            ])),
            Entry::Checkpoint(kept),
            Entry::Start(position),
        ]
    }

    #[test]
    fn what_was_written_is_read() {
        for entry in entries() {
            let (bytes, position) = encode(42, WRITER, &entry);
            let read = decode(position.revision, &bytes).unwrap();
            let expected = Record {
                writer: WRITER,
                entry,
                previous: 42,
                position,
            };
            assert_eq!(read, expected);
            assert_eq!(previous(&bytes), Some(42));
            if let Entry::Commit(commit) = &expected.entry {
                assert_eq!(encode_commit(42, WRITER, commit), (bytes, position));
            }
        }
    }

    #[test]
    fn the_format_does_not_change_by_accident() {
        let tuple = "doc:a#viewer@user:b[c:{\"n\":1}]".parse().unwrap();
        let entry = Entry::Commit(commit(vec![Change::Granted(tuple)]));
        let (bytes, position) = encode(42, WRITER, &entry);
        assert_eq!((position.chain, bytes.len()), GOLDEN);
    }

    #[test]
    fn only_what_the_first_format_lacks_asks_for_a_newer_reader() {
        for entry in entries() {
            let (bytes, _) = encode(42, WRITER, &entry);
            let version = u16::from(bytes[0]);
            let has_role = format!("{entry:?}").contains("roles=");
            let has_lock = format!("{entry:?}").contains("HeldLock");
            let wanted = if has_role || has_lock { 2 } else { 1 };
            assert_eq!(version, wanted, "{entry:?}");
            assert_eq!(bytes[0], bytes[2], "its oldest reader is its version");
        }
    }

    #[test]
    fn any_flipped_bit_is_found_in_every_kind_of_record() {
        for entry in entries() {
            let (bytes, position) = encode(42, WRITER, &entry);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let error = decode(position.revision, &flipped).unwrap_err();
                assert!(matches!(error, StoreError::RecordDamaged { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_record_that_does_not_continue_is_refused() {
        let before = |revision, chain| Position {
            revision: Revision(revision),
            chain,
        };
        let (bytes, position) = encode(42, WRITER, &Entry::Commit(commit(vec![])));
        assert_eq!(decode_next(before(4, 42), &bytes).unwrap().1, position);
        let error = decode_next(before(4, 43), &bytes).unwrap_err();
        assert!(matches!(error, StoreError::ChainBroken(Revision(5))));
        let error = decode_next(before(5, 42), &bytes).unwrap_err().to_string();
        assert!(error.contains("it says that it is revision 5"), "{error}");
    }

    #[test]
    fn what_a_newer_program_wrote_is_said_to_be_that() {
        let change = |bytes: &[u8]| {
            let body = message::Record {
                entry: Some((&Entry::Commit(commit(vec![]))).into()),
                ..message::Record::default()
            };
            let mut record = body.encode_to_vec();
            // Field 6 of the commit, which is the last field of the record: one more change.
            let at = commit_at(&record);
            let length = record.len() - 1 - at;
            record[at] = u8::try_from(length + 2 + bytes.len()).unwrap();
            record.extend([0x32, u8::try_from(bytes.len()).unwrap()]);
            record.extend(bytes);
            record
        };
        let commit = change(&[0x22, 0]);
        assert!(decode(Revision(5), &forged(1, 1, &commit)).is_ok());
        let table = [
            (
                "a change of another kind",
                forged(2, 1, &change(&[0x7a, 0])),
                3,
            ),
            ("an entry of another kind", forged(3, 1, &[0x7a, 0]), 3),
            ("a version that must be known", forged(9, 8, &commit), 8),
        ];
        for (what, record, wanted) in table {
            let error = decode(Revision(5), &record).unwrap_err();
            let StoreError::NewerReader {
                needs, reads: 2, ..
            } = error
            else {
                panic!("{what}: {error}");
            };
            assert_eq!(needs, wanted, "{what}");
        }
        // A newer version that says that this one may read it.
        assert!(decode(Revision(5), &forged(9, 1, &commit)).is_ok());
    }

    /// Where the length of the commit stands in the bytes of a record of nothing else.
    fn commit_at(record: &[u8]) -> usize {
        1 + record.iter().position(|byte| *byte == 0x22).unwrap()
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(Revision(5), &bytes).is_err());
        }

        #[test]
        fn no_body_makes_it_panic(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            reader in 0_u16..3,
        ) {
            let _ = decode(Revision(5), &forged(1, reader, &body));
        }

        #[test]
        fn no_damaged_body_makes_it_panic(
            which in 0_usize..5,
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let (bytes, position) = encode(42, WRITER, &entries()[which]);
            let mut body = bytes[HEADER..].to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            let _ = decode(position.revision, &forged(1, 1, &body));
        }
    }
}
