//! What writes of tuples change: grants and revokes by name, revokes by filter, expiry.

use hashbrown::HashMap;

use crate::eval::caveats::check_context;
use crate::rules::{Act, Rules, Target, Touch, minimums};
use crate::schema::Schema;
use crate::state::{Change, State};
use crate::time::Timestamp;
use crate::tuple::{Subject, Tuple, TupleFilter};

use super::{Effect, Limits, Operation, Precondition, Refusal, Update, at_most, json_bytes};

/// Grants and revokes as one commit.
pub(super) fn write(
    state: &State,
    updates: &[Update],
    preconditions: &[Precondition],
    actor: Option<&Subject>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    at_most("updates", updates.len(), limits.updates)?;
    at_most("preconditions", preconditions.len(), limits.preconditions)?;
    if updates.is_empty() && preconditions.is_empty() {
        return Err(Refusal::NothingToDo);
    }
    known_actor(schema, actor)?;
    let mut touches = Vec::with_capacity(updates.len());
    for (place, update) in updates.iter().enumerate() {
        touches.push(shape(schema, place, update, limits)?);
    }
    distinct(updates)?;
    for (place, precondition) in preconditions.iter().enumerate() {
        let field = format!("preconditions[{place}].filter");
        known_filter(schema, field, &precondition.filter)?;
    }
    let rules = Rules::new(state, schema, actor, &touches, now);
    rules.rights()?;
    rules.seals(&[])?;
    for (place, precondition) in preconditions.iter().enumerate() {
        judge(state, place, precondition, now)?;
    }
    let mut effect = Effect::default();
    let mut changes = Vec::new();
    for (place, update) in updates.iter().enumerate() {
        let standing = Standing::of(state, &update.tuple, now);
        one(place, update, standing, &mut changes, &mut effect)?;
    }
    rules.requirements(&changes)?;
    minimums(state, schema, &changes)?;
    effect.changes.push(changes);
    Ok(effect)
}

/// Whether the schema has the actor's type: none of another type can ever have a right.
pub(super) fn known_actor(schema: &Schema, actor: Option<&Subject>) -> Result<(), Refusal> {
    let Some(actor) = actor else {
        return Ok(());
    };
    schema
        .knows_subject("actor", actor)
        .map_err(|problem| Refusal::Named {
            field: "options.actor".to_owned(),
            problem: Box::new(problem),
        })
}

/// All that match, in commits of at most as many changes as a write may have updates.
pub(super) fn revoke_matching(
    state: &State,
    filter: &TupleFilter,
    limit: u32,
    actor: Option<&Subject>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    known_actor(schema, actor)?;
    known_filter(schema, "filter".to_owned(), filter)?;
    let most = most(limit);
    let matching = state.select(filter).filter(|tuple| holds(tuple, now));
    let tuples: Vec<Tuple> = matching.take(most.saturating_add(1)).collect();
    may_revoke(state, schema, (filter, &tuples), actor, now)?;
    if tuples.len() > most {
        return Err(Refusal::LimitExceeded { limit });
    }
    let revoked = tuples.len() as u64;
    let mut changes = Vec::with_capacity(tuples.len() / limits.updates.max(1) + 1);
    let mut rest = tuples.into_iter().map(Change::Revoked).peekable();
    while rest.peek().is_some() {
        changes.push(rest.by_ref().take(limits.updates.max(1)).collect());
    }
    if !is_deletion(filter) && schema.has_minimums() {
        let all: Vec<Change> = changes.concat();
        minimums(state, schema, &all)?;
    }
    Ok(Effect {
        changes,
        revoked,
        ..Effect::default()
    })
}

/// How many match, where nothing but their number can stand against their end: a trusted caller
/// asks, no lock is held, and no `min` counts. Nothing is made of them, however many they are.
pub(super) fn count_matching(
    state: &State,
    filter: &TupleFilter,
    limit: u32,
    actor: Option<&Subject>,
    now: Timestamp,
) -> Result<Option<u64>, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    if actor.is_some() || !state.locks.is_empty() || schema.has_minimums() {
        return Ok(None);
    }
    known_filter(schema, "filter".to_owned(), filter)?;
    let (most, live) = (most(limit), state.live_rows(filter, None, now));
    let count = live.take(most.saturating_add(1)).count();
    match count <= most {
        true => Ok(Some(count as u64)),
        false => Err(Refusal::LimitExceeded { limit }),
    }
}

/// How many a limit lets through; 0 is none.
fn most(limit: u32) -> usize {
    match limit {
        0 => usize::MAX,
        _ => usize::try_from(limit).unwrap_or(usize::MAX),
    }
}

/// Whether a filter selects all tuples of one resource, and nothing else: the resource is deleted,
/// with the last of its owners.
pub(super) fn is_deletion(filter: &TupleFilter) -> bool {
    let named = TupleFilter {
        resource_type: filter.resource_type.clone(),
        resource_id: filter.resource_id.clone(),
        ..TupleFilter::default()
    };
    *filter == named && filter.resource_type.is_some() && filter.resource_id.is_some()
}

/// Judges each tuple that a filter selects; where none is, or one may not be taken, first whether
/// the actor has any business there.
fn may_revoke(
    state: &State,
    schema: &Schema,
    (filter, tuples): (&TupleFilter, &[Tuple]),
    actor: Option<&Subject>,
    now: Timestamp,
) -> Result<(), Refusal> {
    if actor.is_none() && state.locks.is_empty() {
        return Ok(());
    }
    let touches = tuples
        .iter()
        .filter_map(|tuple| Touch::revoked(schema, tuple));
    let touches: Vec<Touch<'_>> = touches.collect();
    let rules = Rules::new(state, schema, actor, &touches, now);
    let mut rights = rules.rights();
    if rights.is_err() || tuples.is_empty() {
        rules.may_revoke_some(filter)?;
        rights = rules.same_whatever_stands(filter, rights);
    }
    rights?;
    rules.seals(&[])?;
    Ok(())
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

pub(super) fn holds(tuple: &Tuple, now: Timestamp) -> bool {
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
                tuple: tuple.name(),
            });
        }
        (Operation::Revoke, _) => {}
    }
    Ok(())
}

/// Whether the schema has what the update names and, where it grants, takes it.
pub(super) fn shape<'a>(
    schema: &Schema,
    place: usize,
    update: &'a Update,
    limits: &Limits,
) -> Result<Touch<'a>, Refusal> {
    let tuple = &update.tuple;
    if tuple.relation.contains('=') {
        return Err(Refusal::GeneratedRelation {
            update: place,
            relation: tuple.relation.to_string(),
        });
    }
    let grants = matches!(update.operation, Operation::Grant | Operation::Create);
    let known = match grants {
        true => schema.admit(tuple).map(|admitted| admitted.member),
        false => schema.knows(tuple),
    };
    let member = known.map_err(|problem| Refusal::NotAdmitted {
        update: place,
        tuple: tuple.name(),
        problem: Box::new(problem),
    })?;
    if grants {
        context(schema, place, tuple, limits)?;
    }
    Ok(Touch {
        update: Some(place),
        act: if grants { Act::Grant } else { Act::Revoke },
        tuple,
        target: Target::Relation(member),
        found: false,
    })
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
        tuple: tuple.name(),
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
                tuple: tuple.name(),
            });
        }
    }
    Ok(())
}

fn judge(
    state: &State,
    place: usize,
    precondition: &Precondition,
    now: Timestamp,
) -> Result<(), Refusal> {
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
