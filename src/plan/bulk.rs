//! Writes of many tuples that come in parts: imports, and the parts of a revoke by filter.
//!
//! Each part is a command of its own, so that the writer takes others' writes in between.

use crate::rules::minimums;
use crate::state::{Change, State};
use crate::time::Timestamp;
use crate::tuple::Tuple;

use super::tuples::{Standing, is_deletion, one, shape};
use super::{Effect, Limits, Refusal, RevokePart, Update, at_most};

/// Grants all as one commit, as a trusted caller would. A tuple may come several times, and as it
/// stands already: files that were put together have both.
pub(super) fn import(
    state: &State,
    updates: &[Update],
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    at_most("tuples", updates.len(), limits.updates)?;
    let mut effect = Effect::default();
    let mut changes = Vec::with_capacity(updates.len());
    for (place, update) in updates.iter().enumerate() {
        shape(schema, place, update, limits)?;
        let standing = Standing::of(state, &update.tuple, now);
        one(place, update, standing, &mut changes, &mut effect)?;
    }
    minimums(state, schema, &changes)?;
    effect.changes.push(changes);
    Ok(effect)
}

/// Those of the part that still stand, as one commit. What matched when the revoke was judged,
/// matches still: a filter looks at nothing that can change.
pub(super) fn revoke_part(
    state: &State,
    part: &RevokePart,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let stands = |tuple: &Tuple| match Standing::of(state, tuple, now) {
        Standing::Holds(stored) => Some(Change::Revoked(stored)),
        Standing::Over(_) | Standing::Nothing => None,
    };
    let changes: Vec<_> = part.tuples.iter().filter_map(stands).collect();
    if !is_deletion(&part.filter) {
        minimums(state, schema, &changes)?;
    }
    Ok(Effect {
        revoked: part.before + changes.len() as u64,
        changes: vec![changes],
        ..Effect::default()
    })
}
