//! Which state answers a request: the newest, one that is at least so new, or an old one.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout_at;

use crate::commit::history::Found;
use crate::revision::{Consistency, Revision, Token};
use crate::state::State;
use crate::store::{Store, StoreError};

use super::{Engine, EngineError};

impl Engine {
    /// The state that a request with this consistency is answered from.
    pub(super) async fn state_at(
        &self,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<Arc<State>, EngineError> {
        match at {
            Consistency::Newest => Ok(self.newest()),
            Consistency::AtLeast(token) => self.at_least(token, deadline).await,
            Consistency::Exactly(token) => self.exactly(token, deadline).await,
            Consistency::Full => {
                let store = Arc::clone(&self.inner.store);
                let head = blocking(move || store.head()).await??;
                let token = self.newest().token_of(head.revision);
                self.at_least(token, deadline).await
            }
        }
    }

    pub(super) async fn at_least(
        &self,
        asked: Token,
        deadline: Option<Instant>,
    ) -> Result<Arc<State>, EngineError> {
        let state = self.newest();
        if asked.epoch != state.epoch {
            return Err(EngineError::EpochMismatch {
                asked,
                epoch: state.epoch,
            });
        }
        if state.revision >= asked.revision {
            return Ok(state);
        }
        let longest = Instant::now() + self.inner.longest_wait;
        let until = deadline.map_or(longest, |deadline| deadline.min(longest));
        let mut visible = self.inner.published.subscribe();
        let wait = visible.wait_for(|revision| *revision >= asked.revision);
        let came = timeout_at(until.into(), wait).await;
        let newest = self.newest();
        match came {
            Ok(Ok(_)) => Ok(newest),
            _ => Err(EngineError::RevisionAhead {
                asked,
                newest: newest.token(),
            }),
        }
    }

    async fn exactly(
        &self,
        asked: Token,
        deadline: Option<Instant>,
    ) -> Result<Arc<State>, EngineError> {
        let newest = self.at_least(asked, deadline).await?;
        if newest.revision == asked.revision {
            return Ok(newest);
        }
        let trimmed = || EngineError::RevisionTrimmed {
            asked,
            newest: newest.token(),
        };
        let Found::From(from) = self.inner.published.before(asked.revision) else {
            return Err(trimmed());
        };
        if from.revision == asked.revision {
            return Ok(from);
        }
        let store = Arc::clone(&self.inner.store);
        let rebuilt = blocking(move || rebuild(&*store, &from, asked.revision)).await?;
        match rebuilt {
            Err(Rebuild::Store(StoreError::Trimmed { .. })) => Err(trimmed()),
            Err(Rebuild::Store(error)) => Err(error.into()),
            Err(Rebuild::Apply(problem)) => Err(EngineError::Internal(problem)),
            Ok(state) => Ok(Arc::new(state)),
        }
    }
}

enum Rebuild {
    Store(StoreError),
    Apply(String),
}

/// Applies the commits between a kept state and the wanted one.
fn rebuild(store: &dyn Store, from: &State, wanted: Revision) -> Result<State, Rebuild> {
    const AT_ONCE: u64 = 1_000;
    let mut state = from.clone();
    while state.revision < wanted {
        let missing = (wanted.0 - state.revision.0).min(AT_ONCE);
        let limit = usize::try_from(missing).unwrap_or(usize::MAX);
        let commits = store.read(state.revision, limit).map_err(Rebuild::Store)?;
        if commits.is_empty() {
            return Err(Rebuild::Apply("the log ends before its head".to_owned()));
        }
        for (commit, position) in &commits {
            let next = state.apply(commit);
            state = next.map_err(|problem| Rebuild::Apply(problem.to_string()))?;
            state.chain = position.chain;
        }
    }
    Ok(state)
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| EngineError::Internal(error.to_string()))
}
