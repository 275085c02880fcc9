//! What an empty store begins with: a schema, roles and tuples for it, as one commit.

use std::sync::Arc;

use crate::revision::Revision;
use crate::state::{Change, Commit, State};
use crate::time::Timestamp;
use crate::tuple::Tuple;

use super::{
    Assignment, Effect, Limits, Operation, Refusal, RoleWanted, Update, WriteOptions, roles,
    schema, tuples,
};

/// All of it or nothing. Among the updates may be assignments of the roles, which no other write
/// of tuples takes.
pub(super) fn begin(
    state: &State,
    text: &Arc<str>,
    wanted: &[RoleWanted],
    updates: &[Update],
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    if state.revision != Revision(0) {
        return Err(Refusal::Begun(state.token()));
    }
    let mut effect = schema::write(state, text, None, now, limits)?;
    let mut state = state.with_schema(text).map_err(Refusal::SchemaInvalid)?;
    let options = WriteOptions::default();
    for role in wanted {
        let made = roles::create(&state, role, &options, now)?;
        take(&mut state, &mut effect, &made, now);
    }
    let (assigned, plain): (Vec<&Update>, Vec<&Update>) =
        (updates.iter()).partition(|update| update.tuple.relation.contains('='));
    if !assigned.is_empty() {
        let assignments: Result<Vec<_>, _> = (assigned.iter())
            .map(|update| assignment(&state, &update.tuple))
            .collect();
        let given = roles::assign(&state, &assignments?, &options, now)?;
        take(&mut state, &mut effect, &given, now);
    }
    if !plain.is_empty() {
        let unlimited = Limits {
            updates: usize::MAX,
            ..limits.clone()
        };
        let plain: Vec<Update> = plain.into_iter().cloned().collect();
        let granted = tuples::write(&state, &plain, &[], None, now, &unlimited)?;
        take(&mut state, &mut effect, &granted, now);
    }
    effect.changes = vec![effect.changes.concat()];
    Ok(effect)
}

/// Adds a part to the whole, and to the state that what comes after it is judged on.
fn take(state: &mut State, effect: &mut Effect, part: &Effect, now: Timestamp) {
    let changes: Vec<Change> = part.changes.concat();
    let commit = Commit {
        revision: state.revision.next(),
        time: now.max(state.time),
        actor: None,
        reason: String::new(),
        metadata: None,
        changes: changes.clone(),
        remembered: None,
    };
    if let Ok(next) = state.apply(&commit) {
        *state = next;
    }
    effect.granted += part.granted;
    effect.changes.push(changes);
}

/// The tuple as the assignment that it is.
fn assignment(state: &State, tuple: &Tuple) -> Result<Assignment, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let role = schema.admit_assignment(tuple);
    let role = role.map_err(|problem| Refusal::NotAdmitted {
        update: 0,
        tuple: tuple.to_string(),
        problem: Box::new(problem),
    })?;
    Ok(Assignment {
        operation: Operation::Grant,
        role,
        subject: tuple.subject.clone(),
        resource: tuple.resource.clone(),
        expires_at: tuple.expires_at,
        ends_with: None,
    })
}
