//! What writes of tuples change: grants and revokes by name, revokes by filter, expiry.

use std::collections::HashMap;

use crate::eval::caveats::check_context;
use crate::schema::Schema;
use crate::state::{Change, State};
use crate::time::Timestamp;
use crate::tuple::{Tuple, TupleFilter};

use super::{Effect, Limits, Operation, Precondition, Refusal, Update, at_most, json_bytes};

/// Grants and revokes as one commit.
pub(super) fn write(
    state: &State,
    updates: &[Update],
    preconditions: &[Precondition],
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    at_most("updates", updates.len(), limits.updates)?;
    at_most("preconditions", preconditions.len(), limits.preconditions)?;
    if updates.is_empty() && preconditions.is_empty() {
        return Err(Refusal::NothingToDo);
    }
    for (place, update) in updates.iter().enumerate() {
        shape(schema, place, update, limits)?;
    }
    distinct(updates)?;
    for (place, precondition) in preconditions.iter().enumerate() {
        judge(state, schema, place, precondition, now)?;
    }
    let mut effect = Effect::default();
    let mut changes = Vec::new();
    for (place, update) in updates.iter().enumerate() {
        let standing = Standing::of(state, &update.tuple, now);
        one(place, update, standing, &mut changes, &mut effect)?;
    }
    effect.changes.push(changes);
    Ok(effect)
}

/// All that match, in commits of at most as many changes as a write may have updates.
pub(super) fn revoke_matching(
    state: &State,
    filter: &TupleFilter,
    limit: u32,
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    known_filter(schema, "filter".to_owned(), filter)?;
    let most = match limit {
        0 => usize::MAX,
        _ => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let matching = state.select(filter).filter(|tuple| holds(tuple, now));
    let tuples: Vec<Tuple> = matching.take(most.saturating_add(1)).collect();
    if tuples.len() > most {
        return Err(Refusal::LimitExceeded { limit });
    }
    let revoked = tuples.len() as u64;
    let mut changes = Vec::with_capacity(tuples.len() / limits.updates.max(1) + 1);
    let mut rest = tuples.into_iter().map(Change::Revoked).peekable();
    while rest.peek().is_some() {
        changes.push(rest.by_ref().take(limits.updates.max(1)).collect());
    }
    Ok(Effect {
        changes,
        revoked,
        ..Effect::default()
    })
}

/// What is due, as much as fits in one commit.
pub(super) fn expire(state: &State, now: Timestamp, limits: &Limits) -> Effect {
    let locks = state.locks.due(now, limits.updates);
    let tuples = state.due(now, limits.updates - locks.len());
    let locks = locks.into_iter().map(Change::LockExpired);
    Effect {
        changes: vec![
            locks
                .chain(tuples.into_iter().map(Change::Expired))
                .collect(),
        ],
        ..Effect::default()
    }
}

/// What is stored under a tuple's name, by the clock of the plan.
pub(super) enum Standing {
    Nothing,
    /// Its time is over, but no commit has removed it yet: absent to whoever writes.
    Over(Tuple),
    Holds(Tuple),
}

impl Standing {
    pub(super) fn of(state: &State, tuple: &Tuple, now: Timestamp) -> Self {
        match state.find(tuple) {
            None => Self::Nothing,
            Some(stored) if holds(&stored, now) => Self::Holds(stored),
            Some(stored) => Self::Over(stored),
        }
    }
}

fn holds(tuple: &Tuple, now: Timestamp) -> bool {
    tuple.expires_at.is_none_or(|end| now < end)
}

/// What one update changes.
pub(super) fn one(
    place: usize,
    update: &Update,
    standing: Standing,
    changes: &mut Vec<Change>,
    effect: &mut Effect,
) -> Result<(), Refusal> {
    let tuple = &update.tuple;
    match (update.operation, standing) {
        (Operation::Create, Standing::Holds(stored)) => {
            return Err(Refusal::TupleExists {
                update: place,
                tuple: stored.to_string(),
            });
        }
        (Operation::Grant | Operation::Create, standing) => {
            effect.granted += 1;
            match standing {
                Standing::Holds(stored) if stored == *tuple => return Ok(()),
                Standing::Over(stored) => changes.push(Change::Expired(stored)),
                Standing::Holds(_) | Standing::Nothing => {}
            }
            changes.push(Change::Granted(tuple.clone()));
        }
        (Operation::Revoke | Operation::Delete, Standing::Holds(stored)) => {
            effect.revoked += 1;
            changes.push(Change::Revoked(stored));
        }
        (Operation::Delete, _) => {
            return Err(Refusal::TupleNotFound {
                update: place,
                tuple: name_of(tuple),
            });
        }
        (Operation::Revoke, _) => {}
    }
    Ok(())
}

/// Whether the schema has what the update names and, where it grants, takes it.
pub(super) fn shape(
    schema: &Schema,
    place: usize,
    update: &Update,
    limits: &Limits,
) -> Result<(), Refusal> {
    let tuple = &update.tuple;
    if tuple.relation.contains('=') {
        return Err(Refusal::GeneratedRelation {
            update: place,
            relation: tuple.relation.to_string(),
        });
    }
    let grants = matches!(update.operation, Operation::Grant | Operation::Create);
    let known = match grants {
        true => schema.admit(tuple).map(drop),
        false => schema.knows(tuple),
    };
    known.map_err(|problem| Refusal::NotAdmitted {
        update: place,
        tuple: name_of(tuple),
        problem: Box::new(problem),
    })?;
    match grants {
        true => context(schema, place, tuple, limits),
        false => Ok(()),
    }
}

/// Whether the parameters that the tuple fixes fit the caveat's.
fn context(schema: &Schema, place: usize, tuple: &Tuple, limits: &Limits) -> Result<(), Refusal> {
    let Some(caveat) = &tuple.caveat else {
        return Ok(());
    };
    let what = || format!("updates[{place}].tuple.caveat.context");
    at_most(&what(), json_bytes(&caveat.context), limits.context_bytes)?;
    let Some(def) = schema.caveat_named(&caveat.name) else {
        return Ok(());
    };
    check_context(def, &caveat.context).map_err(|problem| Refusal::CaveatContext {
        update: place,
        tuple: name_of(tuple),
        caveat: caveat.name.to_string(),
        problem,
    })
}

fn distinct(updates: &[Update]) -> Result<(), Refusal> {
    let mut places = HashMap::with_capacity(updates.len());
    for (second, update) in updates.iter().enumerate() {
        let tuple = &update.tuple;
        let name = (&tuple.resource, &tuple.relation, &tuple.subject);
        if let Some(first) = places.insert(name, second) {
            return Err(Refusal::DuplicateUpdate {
                first,
                second,
                tuple: name_of(tuple),
            });
        }
    }
    Ok(())
}

fn judge(
    state: &State,
    schema: &Schema,
    place: usize,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<(), Refusal> {
    let field = format!("preconditions[{place}].filter");
    known_filter(schema, field, &precondition.filter)?;
    let found = state
        .select(&precondition.filter)
        .find(|tuple| holds(tuple, now));
    match (precondition.must_match, found) {
        (true, None) => Err(Refusal::PreconditionFailed {
            precondition: place,
            found: None,
        }),
        (false, Some(tuple)) => Err(Refusal::PreconditionFailed {
            precondition: place,
            found: Some(tuple.to_string()),
        }),
        _ => Ok(()),
    }
}

fn known_filter(schema: &Schema, field: String, filter: &TupleFilter) -> Result<(), Refusal> {
    if filter.is_empty() {
        return Err(Refusal::FilterEmpty { field });
    }
    schema
        .knows_filter(filter)
        .map_err(|problem| Refusal::Filter {
            field,
            problem: Box::new(problem),
        })
}

/// The tuple without caveat and expiry, which its name does not depend on.
fn name_of(tuple: &Tuple) -> String {
    format!("{}#{}@{}", tuple.resource, tuple.relation, tuple.subject)
}
