//! Where a list goes on: opaque text that pins revision, instant and what was asked for. Places in
//! lists are numbers of one process's index: no cursor outlives the process that gave it out.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::revision::{Epoch, Revision, Token};
use crate::time::Timestamp;
use crate::tuple::TupleFilter;

use super::EngineError;

/// Grows with every change of the form.
const VERSION: u8 = 2;

/// Tells this process from those before it.
static PROCESS: LazyLock<[u8; 4]> = LazyLock::new(|| {
    getrandom::u32()
        .unwrap_or_else(|_| std::process::id())
        .to_le_bytes()
});

/// A place in a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cursor {
    pub(super) token: Token,
    /// What has expired by then is not in the list.
    pub(super) instant: Timestamp,
    /// Behind this row, as its list names it.
    pub(super) after: [u8; 12],
}

impl Cursor {
    /// Reads what [`Cursor::text`] wrote for a request of the same hash.
    pub(super) fn parse(text: &str, request: u64) -> Result<Self, EngineError> {
        let malformed = |problem| EngineError::MalformedCursor { problem };
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.ok_or(malformed("is none that this server gave out"))?;
        let read = read(&bytes).ok_or(malformed("is none that this server gave out"))?;
        let (cursor, process, hash) = read;
        if process != *PROCESS {
            return Err(EngineError::CursorOutlived);
        }
        match hash == request {
            true => Ok(cursor),
            false => Err(malformed(
                "belongs to a request that asks for something else",
            )),
        }
    }

    /// The opaque text, good for requests of this hash.
    pub(super) fn text(&self, request: u64) -> String {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION);
        bytes.extend(*PROCESS);
        bytes.extend(self.token.revision.0.to_le_bytes());
        bytes.extend(self.token.epoch.0.to_le_bytes());
        bytes.extend(self.instant.seconds().to_le_bytes());
        bytes.extend(self.instant.nanos().to_le_bytes());
        bytes.extend(request.to_le_bytes());
        bytes.extend(self.after);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Of all fields of a filter.
pub(super) fn filter_hash(filter: &TupleFilter) -> u64 {
    // Cursors do not outlive the process that gave them out, so that any form will do.
    xxh3_64(format!("{filter:?}").as_bytes())
}

fn read(bytes: &[u8]) -> Option<(Cursor, [u8; 4], u64)> {
    let (version, bytes) = bytes.split_first()?;
    let (process, bytes) = bytes.split_first_chunk()?;
    let (revision, bytes) = bytes.split_first_chunk()?;
    let (epoch, bytes) = bytes.split_first_chunk()?;
    let (seconds, bytes) = bytes.split_first_chunk()?;
    let (nanos, bytes) = bytes.split_first_chunk()?;
    let (hash, after) = bytes.split_first_chunk()?;
    let cursor = Cursor {
        token: Token {
            revision: Revision(u64::from_le_bytes(*revision)),
            epoch: Epoch(u64::from_le_bytes(*epoch)),
        },
        instant: Timestamp::new(i64::from_le_bytes(*seconds), u32::from_le_bytes(*nanos))?,
        after: after.try_into().ok()?,
    };
    (*version == VERSION).then_some((cursor, *process, u64::from_le_bytes(*hash)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::revision::{Epoch, Revision};

    #[test]
    fn a_cursor_is_good_for_its_request_and_its_process() {
        let cursor = Cursor {
            token: Token {
                revision: Revision(7),
                epoch: Epoch(0xfd_4b2e),
            },
            instant: Timestamp::new(5, 6).unwrap(),
            after: *b"behind this.",
        };
        let text = cursor.text(3);
        assert_eq!(Cursor::parse(&text, 3), Ok(cursor));
        let other = Cursor::parse(&text, 4);
        assert!(matches!(other, Err(EngineError::MalformedCursor { .. })));
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        *bytes.get_mut(1).unwrap() ^= 1;
        let of_before = Cursor::parse(&URL_SAFE_NO_PAD.encode(bytes), 3);
        assert_eq!(of_before, Err(EngineError::CursorOutlived));
    }
}
