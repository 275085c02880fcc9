//! What is kept of an answer, and under what it is found.

use bytes::Bytes;
use quick_cache::Equivalent;
use std::hash::{Hash, Hasher};

use super::clock::Moment;
use crate::revision::Revision;

/// A question as it is compared: the credentials that it came with, and the encoded request
/// without what only says how to answer. Hashed whole and compared whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    credentials: Bytes,
    question: Bytes,
}

impl Key {
    /// The key of `question`, asked with `credentials` (empty: none). Who may ask is for the
    /// server to say, so that an answer to one caller is none to another.
    pub fn new(credentials: Bytes, question: Bytes) -> Self {
        Self {
            credentials,
            question,
        }
    }

    /// The encoded request.
    pub fn question(&self) -> &Bytes {
        &self.question
    }

    fn size(&self) -> usize {
        self.credentials.len() + self.question.len()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        AsKey(&self.credentials, &self.question).hash(state);
    }
}

/// A [`Key`] that is only looked for.
#[derive(Clone, Copy, Debug)]
pub struct AsKey<'a>(pub &'a [u8], pub &'a [u8]);

impl Hash for AsKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Key> for AsKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.credentials && self.1 == key.question
    }
}

/// When and under what an answer was asked for: taken before the request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The cache's generation then.
    pub generation: u64,
    /// The stream's link then.
    pub link: usize,
    /// The clocks then.
    pub at: Moment,
}

/// An answer that may be given again while nothing it rests on changes.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it was asked under.
    pub asked: Asked,
    /// What it was evaluated at.
    pub revision: Revision,
    /// When time alone may change it.
    pub end: Moment,
    /// The dependency keys that it rests on.
    pub keys: Box<[u64]>,
    /// The encoded response without revision, dependencies and `valid_for`.
    pub body: Bytes,
}

impl Entry {
    /// Bytes of memory that it takes under `key`, the map's share included.
    pub(super) fn weight(&self, key: &Key) -> u64 {
        /// Of the two allocations' headers, the slots of the map and its ghosts.
        const OVERHEAD: usize = 128;
        let held = key.size() + self.body.len() + self.keys.len() * size_of::<u64>();
        let fixed = size_of::<Key>() + size_of::<Self>() + OVERHEAD;
        u64::try_from(held + fixed).unwrap_or(u64::MAX)
    }
}
