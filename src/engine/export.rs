//! Exports: everything that is needed to make the same state again, at one revision.

use std::sync::Arc;
use std::time::Instant;

use crate::index::ScanPosition;
use crate::revision::{Consistency, Token};
use crate::schema::Schema;
use crate::state::{HeldLock, RoleRecord, State};
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleFilter};

use super::states::blocking;
use super::{Engine, EngineError};

/// A state on its way out, fetched piece by piece.
pub struct Export {
    state: Arc<State>,
    schema: Arc<Schema>,
    filter: Arc<TupleFilter>,
    instant: Timestamp,
    after: Option<ScanPosition>,
    over: bool,
}

impl Engine {
    /// Begins an export of what `filter` selects.
    ///
    /// # Errors
    /// Where the state can't be had, or the filter names what the schema does not have.
    pub async fn export(
        &self,
        filter: TupleFilter,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<Export, EngineError> {
        let state = self.state_at(at, deadline).await?;
        let schema = state.schema.clone().ok_or(EngineError::NoSchema)?;
        schema.knows_filter(&filter).map_err(EngineError::Filter)?;
        Ok(Export {
            state,
            schema,
            filter: Arc::new(filter),
            instant: self.now(),
            after: None,
            over: false,
        })
    }
}

impl Export {
    /// The revision of all that comes.
    pub fn token(&self) -> Token {
        self.state.token()
    }

    /// The schema's text.
    pub fn schema(&self) -> &str {
        &self.schema.text
    }

    /// All roles that were made or edited, and the schema that they are of.
    pub fn roles(&self) -> (impl Iterator<Item = &Arc<RoleRecord>>, &Schema) {
        (self.state.roles.iter(), &self.schema)
    }

    /// All locks that are held.
    pub fn locks(&self) -> impl Iterator<Item = &Arc<HeldLock>> {
        let held = |lock: &&Arc<HeldLock>| lock.is_held(self.instant);
        self.state.locks.iter().filter(held)
    }

    /// How many tuples will come, where all are wanted: those whose time is over are counted too.
    pub fn total(&self) -> Option<u64> {
        self.filter.is_empty().then(|| self.state.tuple_count())
    }

    /// The next tuples that hold, at most `most`; none at the end.
    ///
    /// # Errors
    /// Where the work was cut off.
    pub async fn next(&mut self, most: usize) -> Result<Vec<Tuple>, EngineError> {
        if self.over {
            return Ok(Vec::new());
        }
        let (state, filter) = (Arc::clone(&self.state), Arc::clone(&self.filter));
        let (instant, after) = (self.instant, self.after.take());
        let piece = blocking(move || piece(&state, &filter, instant, after, most));
        let (tuples, after) = piece.await?;
        self.over = tuples.is_empty();
        self.after = after;
        Ok(tuples)
    }
}

/// At most so many of the live tuples behind `after`, and where the last of them stands.
pub(super) fn piece(
    state: &State,
    filter: &TupleFilter,
    instant: Timestamp,
    after: Option<ScanPosition>,
    most: usize,
) -> (Vec<Tuple>, Option<ScanPosition>) {
    let live = state.live_rows(filter, after.as_ref(), instant);
    let (mut tuples, mut last) = (Vec::with_capacity(most.min(1_024)), after);
    for stored in live.take(most) {
        tuples.push(stored.to_tuple());
        last = Some(stored.position());
    }
    (tuples, last)
}
