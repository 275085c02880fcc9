//! Lock, Unlock, RenewLock.

use std::sync::Arc;
use std::time::Duration;

use crate::rules::{Rules, lock_def};
use crate::schema::admit::nearest;
use crate::schema::{LockDef, Schema};
use crate::state::{Change, HeldLock, State};
use crate::time::Timestamp;
use crate::tuple::{Object, Subject, is_id};

use super::tuples::known_actor;
use super::{Effect, LockWanted, Refusal, WriteOptions};

/// The most subjects that one lock may exempt.
const EXEMPT: usize = 1_000;

/// Places a lock, or finds that it is placed already.
pub(super) fn lock(
    state: &State,
    wanted: &LockWanted,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    known_actor(schema, options.actor.as_ref())?;
    let def = mode(schema, &wanted.resource, &wanted.mode)?;
    let exempt = exempt(schema, &wanted.exempt)?;
    let expires_at = end(wanted.ttl, now)?;
    if (wanted.lock_id.as_ref()).is_some_and(|id| !is_id(id)) {
        return Err(Refusal::malformed(
            "lock_id",
            "has at most 1,024 bytes, without spaces, control characters and '#'",
        ));
    }
    let rules = Rules::new(state, schema, options.actor.as_ref(), &[], now);
    let deed = format!("lock {} with {}", wanted.resource, wanted.mode);
    rules.may_lock(&deed, &wanted.resource, &wanted.mode, def)?;
    if options.reason.trim().is_empty() {
        return Err(Refusal::ReasonRequired);
    }

    let fencing_token = state.fencing_token(state.revision.next());
    let id = wanted.lock_id.clone();
    let id = id.unwrap_or_else(|| made_id(state, fencing_token));
    let mut changes = Vec::new();
    match state.locks.get(&id) {
        Some(held) if held.is_held(now) => {
            let same = held.resource == wanted.resource
                && held.mode == wanted.mode
                && held.exempt == exempt;
            return match same {
                true => Ok(Effect::of_lock(Vec::new(), held)),
                false => Err(Refusal::LockExists(Arc::clone(held))),
            };
        }
        Some(over) => changes.push(Change::LockExpired(Arc::clone(over))),
        None => {}
    }
    let lock = Arc::new(HeldLock {
        id,
        resource: wanted.resource.clone(),
        mode: Arc::clone(&wanted.mode),
        exempt,
        actor: options.actor.clone(),
        reason: options.reason.as_str().into(),
        created_at: now.max(state.time),
        expires_at,
        fencing_token,
    });
    changes.push(Change::Locked(Arc::clone(&lock)));
    Ok(Effect::of_lock(changes, &lock))
}

/// Lifts a lock.
pub(super) fn unlock(
    state: &State,
    id: &Arc<str>,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let lock = held(state, id, options, now, "lift")?;
    Ok(Effect::of_lock(
        vec![Change::Unlocked(Arc::clone(&lock))],
        &lock,
    ))
}

/// Gives a lock a new end, counted from now.
pub(super) fn renew(
    state: &State,
    id: &Arc<str>,
    ttl: Option<Duration>,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let expires_at = end(ttl, now)?;
    let lock = held(state, id, options, now, "renew")?;
    let renewed = Arc::new(HeldLock {
        expires_at,
        ..HeldLock::clone(&lock)
    });
    let changes = match renewed == lock {
        true => Vec::new(),
        false => vec![Change::Locked(Arc::clone(&renewed))],
    };
    Ok(Effect::of_lock(changes, &renewed))
}

/// The lock of this id, which the actor may lift.
fn held(
    state: &State,
    id: &Arc<str>,
    options: &WriteOptions,
    now: Timestamp,
    verb: &str,
) -> Result<Arc<HeldLock>, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let actor = options.actor.as_ref();
    known_actor(schema, actor)?;
    let lock = state.locks.get(id).filter(|lock| lock.is_held(now));
    let lock = lock.ok_or_else(|| Refusal::LockNotFound(id.to_string()))?;
    let rules = Rules::new(state, schema, actor, &[], now);
    let deed = format!(
        "{verb} the lock {id:?} ({} on {})",
        lock.mode, lock.resource
    );
    let def = mode(schema, &lock.resource, &lock.mode)?;
    rules.may_lock(&deed, &lock.resource, &lock.mode, def)?;
    Ok(Arc::clone(lock))
}

fn mode<'s>(schema: &'s Schema, resource: &Object, mode: &str) -> Result<&'s LockDef, Refusal> {
    schema
        .knows_object("resource", resource)
        .map_err(|problem| {
            let problem = Box::new(problem);
            Refusal::Named {
                field: "resource".to_owned(),
                problem,
            }
        })?;
    lock_def(schema, resource.kind(), mode).ok_or_else(|| {
        let locks = schema.type_named(resource.kind()).map(|kind| &kind.locks);
        let known = || locks.into_iter().flatten().map(|lock| &*lock.name);
        Refusal::UnknownLockMode {
            kind: resource.kind().to_owned(),
            mode: mode.to_owned(),
            nearest: nearest(mode, known()),
            known: known().map(str::to_owned).collect(),
        }
    })
}

/// Sorted, each once.
fn exempt(schema: &Schema, subjects: &[Subject]) -> Result<Vec<Subject>, Refusal> {
    super::at_most("exempt", subjects.len(), EXEMPT)?;
    for (place, subject) in subjects.iter().enumerate() {
        schema
            .knows_subject("subject", subject)
            .map_err(|problem| {
                let problem = Box::new(problem);
                Refusal::Named {
                    field: format!("exempt[{place}]"),
                    problem,
                }
            })?;
    }
    let mut exempt = subjects.to_vec();
    exempt.sort();
    exempt.dedup();
    Ok(exempt)
}

fn end(ttl: Option<Duration>, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    /// A thousand years: what is longer is meant to have no end.
    const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);
    match ttl {
        None => Ok(None),
        Some(ttl) if ttl.is_zero() => {
            Err(Refusal::TtlInvalid("is zero: the lock would never hold"))
        }
        Some(ttl) if ttl > LONGEST => Err(Refusal::TtlInvalid(
            "is longer than a thousand years; leave it out for a lock without an end",
        )),
        Some(ttl) => Ok(Some(now.plus(ttl))),
    }
}

/// An id that no lock has: the token grows with every commit, over restores too.
fn made_id(state: &State, fencing_token: u64) -> Arc<str> {
    let mut id = format!("lock-{fencing_token}");
    while state.locks.get(&id).is_some() {
        id.push('x');
    }
    id.into()
}
