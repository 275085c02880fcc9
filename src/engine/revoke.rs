//! Revokes by filter that match much, and the end of roles that very many hold: judged whole on one
//! state, then done part by part, so that neither the search nor the commits hold up other writes.

use std::sync::Arc;
use std::time::Instant;

use crate::index::ScanPosition;
use crate::plan::{self, Action, Command, Judged, RevokePart, Written};
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleFilter};

use super::export::piece;
use super::states::blocking;
use super::{Engine, EngineError};

/// So many changes are planned, appended and applied in some milliseconds; they are long to the
/// writer, which takes what others write in between.
const PART: usize = 1_000;
/// Fewer tuples than this are searched by the writer itself.
const SMALL: u64 = 10_000;

impl Engine {
    /// Revokes all that match. Where that is much, what was granted after the call began may stay.
    pub(super) async fn revoke_matching(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Written, EngineError> {
        let state = self.newest();
        if state.tuple_count() <= SMALL {
            return self.submit(command, deadline).await;
        }
        let Action::RevokeMatching { filter, limit } = command.action.clone() else {
            return self.submit(command, deadline).await;
        };
        let now = self.now();
        let matching = match self.judged(&state, &command, now).await? {
            // Nothing matches, or it was done before under its key, or it is a dry run. What it
            // was judged on is durable.
            Judged::Done(answer) => return Ok(answer),
            Judged::Changes(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        if matching <= PART && is_anchored(&filter) {
            return self.submit(command, deadline).await;
        }
        let parts = Parts {
            left: matching,
            state,
            filter: filter.clone(),
            now,
            after: None,
        };
        self.revoke_in_parts(&command, limit, parts, deadline).await
    }

    /// Judges a command beside the writer.
    pub(super) async fn judged(
        &self,
        state: &Arc<State>,
        command: &Command,
        now: Timestamp,
    ) -> Result<Judged, EngineError> {
        let (state, command) = (Arc::clone(state), command.clone());
        let limits = self.inner.limits.clone();
        let judged = blocking(move || plan::judge(&state, &command, now, &limits));
        judged.await?.map_err(EngineError::Refused)
    }

    async fn revoke_in_parts(
        &self,
        command: &Command,
        limit: u32,
        mut parts: Parts,
        deadline: Option<Instant>,
    ) -> Result<Written, EngineError> {
        let mut done: Option<Written> = None;
        loop {
            let (tuples, rest) = blocking(move || parts.next()).await?;
            parts = rest;
            let last = parts.left == 0;
            let part = RevokePart {
                filter: parts.filter.clone(),
                limit,
                tuples,
                before: done.as_ref().map_or(0, |written| written.revoked),
                last,
            };
            let part = Command {
                action: Action::RevokePart(part),
                ..command.clone()
            };
            let written = self.submit(part, deadline).await;
            match (written, done) {
                (Ok(written), _) if last => return Ok(written),
                (Ok(written), _) => done = Some(written),
                (Err(cause), done) => return Err(in_part(done, cause)),
            }
        }
    }
}

impl Engine {
    /// Deletes a role. Where very many hold it, each part takes all that it includes and some of its
    /// assignments, and it goes with the last of them: its key is taken until then, so that no new
    /// role gives force to what is still assigned. An edit in between counts until the next part.
    pub(super) async fn delete_role(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Written, EngineError> {
        let state = self.newest();
        let Action::DeleteRole { role } = &command.action else {
            return self.submit(command, deadline).await;
        };
        if state.tuple_count() <= PART as u64 {
            return self.submit(command, deadline).await;
        }
        let mut left = match self.judged(&state, &command, self.now()).await? {
            // It was done before under its key, or is a dry run.
            Judged::Done(answer) => return Ok(answer),
            Judged::Changes(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        let part = Command {
            action: Action::EmptyRole {
                role: role.clone(),
                most: PART,
            },
            ..command.clone()
        };
        let mut before: Option<Written> = None;
        loop {
            let last = left <= PART;
            let next = if last { &command } else { &part };
            let written = self.submit(next.clone(), deadline).await;
            let revoked = before.as_ref().map_or(0, |before| before.revoked);
            let mut written = written.map_err(|cause| in_part(before, cause))?;
            written.revoked += revoked;
            if last {
                return Ok(written);
            }
            left -= PART;
            before = Some(written);
        }
    }
}

/// What is said where a later part is refused.
fn in_part(done: Option<Written>, cause: EngineError) -> EngineError {
    match done {
        Some(before) if before.revoked > 0 => EngineError::RevokedInPart {
            revoked: before.revoked,
            token: before.token,
            cause: Box::new(cause),
        },
        _ => cause,
    }
}

/// Whether the search begins at one node.
fn is_anchored(filter: &TupleFilter) -> bool {
    let resource = filter.resource_type.is_some() && filter.resource_id.is_some();
    resource || (filter.subject_type.is_some() && filter.subject_id.is_some())
}

/// What is left of a search: by its filter in the state in which it was judged.
struct Parts {
    state: Arc<State>,
    filter: TupleFilter,
    now: Timestamp,
    after: Option<ScanPosition>,
    left: usize,
}

impl Parts {
    fn next(mut self) -> (Vec<Tuple>, Self) {
        let after = self.after.take();
        let (tuples, last) = piece(&self.state, &self.filter, self.now, after, PART);
        self.after = last;
        self.left = match tuples.is_empty() {
            true => 0,
            false => self.left.saturating_sub(tuples.len()),
        };
        (tuples, self)
    }
}
