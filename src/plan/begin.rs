//! What an empty store begins with: a schema, roles and tuples for it, as one commit.

use std::sync::Arc;

use crate::revision::Revision;
use crate::state::{Change, Commit, RoleRecord, State};
use crate::time::Timestamp;

use super::tuples::{Standing, one};
use super::{Effect, Limits, Refusal, Update, schema, tuples};

/// All of it or nothing. Among the updates may be assignments of the roles, which no other write
/// of tuples takes.
pub(super) fn begin(
    state: &State,
    text: &Arc<str>,
    roles: &[RoleRecord],
    updates: &[Update],
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    if state.revision != Revision(0) {
        return Err(Refusal::Begun(state.token()));
    }
    let mut effect = schema::write(state, text, None, now, limits)?;
    let unlimited = Limits {
        updates: usize::MAX,
        ..limits.clone()
    };
    let empty = state.with_schema(text).map_err(Refusal::SchemaInvalid)?;
    let roles = roles
        .iter()
        .map(|role| Change::RoleWritten(Arc::new(role.clone())));
    let mut held: Vec<Change> = roles.collect();
    let mut plain = Vec::new();
    for (place, update) in updates.iter().enumerate() {
        if update.tuple.relation.contains('=') {
            assignment(&empty, place, update)?;
            one(place, update, Standing::Nothing, &mut held, &mut effect)?;
        } else {
            plain.push(update.clone());
        }
    }
    let with_roles = imagined(&empty, &held, now);
    if !plain.is_empty() {
        let granted = tuples::write(&with_roles, &plain, &[], None, now, &unlimited)?;
        effect.granted += granted.granted;
        held.extend(granted.changes.into_iter().flatten());
    }
    effect.changes.push(held);
    effect.changes = vec![effect.changes.concat()];
    Ok(effect)
}

fn assignment(state: &State, place: usize, update: &Update) -> Result<(), Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let admitted = schema.admit_assignment(&update.tuple);
    admitted.map(drop).map_err(|problem| Refusal::NotAdmitted {
        update: place,
        tuple: update.tuple.to_string(),
        problem: Box::new(problem),
    })
}

/// The state with these changes, to judge the rest on.
fn imagined(state: &State, changes: &[Change], now: Timestamp) -> State {
    let commit = Commit {
        revision: state.revision.next(),
        time: now.max(state.time),
        actor: None,
        reason: String::new(),
        metadata: None,
        changes: changes.to_vec(),
        remembered: None,
    };
    state.apply(&commit).unwrap_or_else(|_| state.clone())
}
