//! Stored tuples, as a list of them shows them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::ScanPosition;
use crate::revision::{Revision, Token};
use crate::state::State;
use crate::store::Store;
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleFilter};

use super::EngineError;
use super::cursor::{Cursor, filter_hash};
use super::states::blocking;

/// A stored tuple.
#[derive(Clone, Debug, PartialEq)]
pub struct TupleRow {
    /// The tuple.
    pub tuple: Tuple,
    /// Continues behind this row, at the same revision and instant.
    pub cursor: String,
    /// The revision that granted it, where it is still known.
    pub granted_at: Option<Token>,
    /// That commit's actor, where the log still has it.
    pub granted_by: Option<String>,
}

/// The rows that a filter selects at one revision, fetched piece by piece.
pub struct TupleRows {
    state: Arc<State>,
    store: Arc<dyn Store>,
    filter: Arc<TupleFilter>,
    filter_hash: u64,
    instant: Timestamp,
    after: Option<ScanPosition>,
    left: usize,
    /// By the revisions of the last pieces: a bulk of tuples comes from few commits.
    actors: HashMap<Revision, Option<String>>,
}

impl TupleRows {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<dyn Store>,
        filter: TupleFilter,
        instant: Timestamp,
        after: Option<ScanPosition>,
        limit: u32,
    ) -> Self {
        Self {
            state,
            store,
            filter_hash: filter_hash(&filter),
            filter: Arc::new(filter),
            instant,
            after,
            left: match limit {
                0 => usize::MAX,
                _ => usize::try_from(limit).unwrap_or(usize::MAX),
            },
            actors: HashMap::new(),
        }
    }

    /// The revision of all rows.
    pub fn token(&self) -> Token {
        self.state.token()
    }

    /// The next rows in their one order: at least one and at most `most`; none at the end.
    ///
    /// # Errors
    /// Where the work was cut off.
    pub async fn next(&mut self, most: usize) -> Result<Vec<TupleRow>, EngineError> {
        let most = most.max(1).min(self.left);
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut piece = Piece {
            state: Arc::clone(&self.state),
            store: Arc::clone(&self.store),
            filter: Arc::clone(&self.filter),
            filter_hash: self.filter_hash,
            instant: self.instant,
            after: self.after.take(),
            actors: std::mem::take(&mut self.actors),
        };
        let (piece, rows) = blocking(move || {
            let rows = piece.rows(most);
            (piece, rows)
        })
        .await?;
        self.after = piece.after;
        self.actors = piece.actors;
        self.left = match rows.is_empty() {
            true => 0,
            false => self.left - rows.len(),
        };
        Ok(rows)
    }
}

/// What fetching needs, on a thread that may block.
struct Piece {
    state: Arc<State>,
    store: Arc<dyn Store>,
    filter: Arc<TupleFilter>,
    filter_hash: u64,
    instant: Timestamp,
    after: Option<ScanPosition>,
    actors: HashMap<Revision, Option<String>>,
}

impl Piece {
    fn rows(&mut self, most: usize) -> Vec<TupleRow> {
        /// So many actors are remembered from piece to piece.
        const ACTORS: usize = 1_024;
        if self.actors.len() > ACTORS {
            self.actors.clear();
        }
        let state = Arc::clone(&self.state);
        let filter = Arc::clone(&self.filter);
        let instant = self.instant;
        let after = self.after.take();
        let stored = state.rows(&filter, after.as_ref());
        let live = stored.filter(|stored| {
            let end = stored.restriction().and_then(|r| r.expires_at);
            end.is_none_or(|end| instant < end)
        });
        let mut rows = Vec::new();
        for stored in live.take(most) {
            let granted_at = stored.granted_at();
            let granted_by = granted_at.and_then(|revision| self.actor_of(revision));
            let cursor = Cursor {
                token: state.token(),
                instant,
                after: stored.position().to_bytes(),
            };
            rows.push(TupleRow {
                tuple: stored.to_tuple(),
                cursor: cursor.text(self.filter_hash),
                granted_at: granted_at.map(|revision| state.token_of(revision)),
                granted_by,
            });
            self.after = Some(stored.position());
        }
        rows
    }

    fn actor_of(&mut self, revision: Revision) -> Option<String> {
        let store = &self.store;
        let found = self.actors.entry(revision).or_insert_with(|| {
            let before = Revision(revision.0.checked_sub(1)?);
            let commits = store.read(before, 1).ok()?;
            let (commit, _) = commits.into_iter().next()?;
            commit.actor.map(|actor| actor.to_string())
        });
        found.clone()
    }
}
