//! A commit on its way to watchers: one copy for all of them, encoded at most once for each kind.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::state::{Change, Commit};
use crate::store::Position;

/// Who is told of a commit in the same words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// The changes, without what they invalidate.
    Plain,
    /// The changes and what they invalidate.
    Cache,
    /// What the changes invalidate, without the changes.
    Keys,
}

/// A published commit. What it looks like on the wire is none of this module's business: it only
/// keeps the bytes that the first watcher of a kind made.
#[derive(Debug)]
pub struct LiveCommit {
    /// The commit.
    pub commit: Commit,
    /// Its place in the history.
    pub position: Position,
    /// A write waits for it to be applied.
    pub ack_now: bool,
    encoded: [OnceLock<Arc<[Bytes]>>; 3],
}

impl LiveCommit {
    pub(crate) fn new(commit: Commit, position: Position, ack_now: bool) -> Self {
        Self {
            commit,
            position,
            ack_now,
            encoded: Default::default(),
        }
    }

    /// Its messages for an audience, as the first caller's `encode` made them.
    pub fn encoded(
        &self,
        audience: Audience,
        encode: impl FnOnce(&Self) -> Vec<Bytes>,
    ) -> Arc<[Bytes]> {
        let [plain, cache, keys] = &self.encoded;
        let slot = match audience {
            Audience::Plain => plain,
            Audience::Cache => cache,
            Audience::Keys => keys,
        };
        Arc::clone(slot.get_or_init(|| encode(self).into()))
    }

    /// Roughly how many bytes it holds, not counting what it was encoded as.
    pub(crate) fn weight(&self) -> usize {
        /// A change with ids of usual length, and what goes with a commit.
        const CHANGE: usize = 256;
        const COMMIT: usize = 1_024;
        let of = |change: &Change| match change {
            Change::Schema(text) => text.len(),
            _ => CHANGE,
        };
        let changes = self.commit.changes.iter().map(of).sum::<usize>();
        COMMIT + self.commit.reason.len() + changes
    }
}
