//! Where a list of tuples goes on: opaque text that pins revision, instant and filter.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::index::ScanPosition;
use crate::revision::{Epoch, Revision, Token};
use crate::time::Timestamp;
use crate::tuple::TupleFilter;

use super::EngineError;

/// Grows with every change of the form.
const VERSION: u8 = 1;

/// A place in a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cursor {
    pub(super) token: Token,
    /// What has expired by then is not in the list.
    pub(super) instant: Timestamp,
    /// Behind this row.
    pub(super) after: ScanPosition,
}

impl Cursor {
    /// Reads what [`Cursor::text`] wrote for the same filter.
    pub(super) fn parse(text: &str, filter: &TupleFilter) -> Result<Self, EngineError> {
        let malformed = |problem| EngineError::MalformedCursor { problem };
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.ok_or(malformed("is none that this server gave out"))?;
        let (cursor, hash) = read(&bytes).ok_or(malformed("is none that this server gave out"))?;
        match hash == filter_hash(filter) {
            true => Ok(cursor),
            false => Err(malformed("belongs to a request with another filter")),
        }
    }

    /// The opaque text. `filter_hash` is [`filter_hash`]'s.
    pub(super) fn text(&self, filter_hash: u64) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.token.revision.0.to_le_bytes());
        bytes.extend(self.token.epoch.0.to_le_bytes());
        bytes.extend(self.instant.seconds().to_le_bytes());
        bytes.extend(self.instant.nanos().to_le_bytes());
        bytes.extend(filter_hash.to_le_bytes());
        bytes.extend(self.after.to_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Of all fields of a filter.
pub(super) fn filter_hash(filter: &TupleFilter) -> u64 {
    // Cursors do not outlive the process that gave them out, so that any form will do.
    xxh3_64(format!("{filter:?}").as_bytes())
}

fn read(bytes: &[u8]) -> Option<(Cursor, u64)> {
    let (version, bytes) = bytes.split_first()?;
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
        after: ScanPosition::from_bytes(after.try_into().ok()?),
    };
    (*version == VERSION).then_some((cursor, u64::from_le_bytes(*hash)))
}
