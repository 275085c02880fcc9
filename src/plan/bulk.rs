//! Writes of many tuples that come in parts: imports, and the parts of a revoke by filter.
//!
//! Each part is a command of its own, so that the writer takes others' writes in between.

use std::sync::Arc;

use crate::rules::{Act, RoleView, Rules, Target, Touch, lock_def, minimums, role_of};
use crate::schema::Schema;
use crate::state::{Change, HeldLock, RoleRecord, State};
use crate::time::Timestamp;
use crate::tuple::{Subject, Tuple};

use super::tuples::{Standing, is_deletion, one, shape};
use super::{Effect, Limits, Refusal, RevokePart, Update, at_most};

/// The largest fencing token that an import may bring.
const LARGEST_TOKEN: u64 = u64::MAX / 2;

/// Grants all as one commit, as a trusted caller would: seals and minimums hold for it too, but
/// for the seals of `locks`, which came with the tuples. A tuple may come several times, and as it
/// stands already: files that were put together have both.
pub(super) fn import(
    state: &State,
    updates: &[Update],
    locks: &[Arc<str>],
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    at_most("tuples", updates.len(), limits.updates)?;
    let mut effect = Effect::default();
    let mut changes = Vec::with_capacity(updates.len());
    let mut touches = Vec::with_capacity(updates.len());
    for (place, update) in updates.iter().enumerate() {
        touches.push(match update.tuple.relation.contains('=') {
            true => assignment(state, schema, place, update)?,
            false => shape(schema, place, update, limits)?,
        });
        let standing = Standing::of(state, &update.tuple, now);
        one(place, update, standing, &mut changes, &mut effect)?;
    }
    if !state.locks.is_empty() {
        let others = state.without_locks(locks);
        Rules::new(&others, schema, None, &touches, now).seals(&[])?;
    }
    minimums(state, schema, &changes)?;
    effect.changes.push(changes);
    Ok(effect)
}

/// An assignment of a role, which no other write of tuples takes.
fn assignment<'a>(
    state: &State,
    schema: &Schema,
    place: usize,
    update: &'a Update,
) -> Result<Touch<'a>, Refusal> {
    let tuple = &update.tuple;
    let role = (schema.admit_assignment(tuple)).map_err(|problem| Refusal::NotAdmitted {
        update: place,
        tuple: tuple.name(),
        problem: Box::new(problem),
    })?;
    let known = schema.roles_named(role.block());
    match known.filter(|_| role_of(state, schema, &role).is_some()) {
        Some((roles, _)) => Ok(Touch {
            update: Some(place),
            act: Act::Grant,
            tuple,
            target: Target::Assignment(role, roles),
            found: false,
        }),
        None => Err(Refusal::UnknownAssignment {
            update: place,
            role,
        }),
    }
}

/// What an import begins with: roles as one commit, then each lock as one of its own, since
/// fencing tokens grow from commit to commit. What stands just so is left as it is.
pub(super) fn begin_import(
    state: &State,
    roles: &[RoleRecord],
    locks: &[HeldLock],
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let mut written = Vec::new();
    for (place, record) in roles.iter().enumerate() {
        role_fits(schema, place, record)?;
        let stands = role_of(state, schema, &record.role);
        let renamed = |stands: &RoleView| stands.builtin && stands.record.title != record.title;
        if stands.as_ref().is_some_and(renamed) {
            return Err(Refusal::builtin(&record.role, "can't be renamed"));
        }
        if stands.is_none_or(|stands| *stands.record != *record) {
            written.push(Change::RoleWritten(Arc::new(record.clone())));
        }
    }
    let mut changes = vec![written];
    changes.retain(|changes| !changes.is_empty());
    let mut base = state.fencing_base;
    let mut in_order: Vec<(usize, &HeldLock)> = locks.iter().enumerate().collect();
    in_order.sort_by_key(|(_, lock)| lock.fencing_token);
    for (place, lock) in in_order {
        lock_fits(schema, place, lock)?;
        let standing = state.locks.get(&lock.id);
        let same = |held: &HeldLock| {
            HeldLock {
                fencing_token: held.fencing_token,
                ..lock.clone()
            } == *held
        };
        let mut commit = Vec::new();
        match standing {
            Some(held) if held.is_held(now) && same(held) => continue,
            Some(held) if held.is_held(now) => return Err(Refusal::LockExists(Arc::clone(held))),
            Some(over) => commit.push(Change::LockExpired(Arc::clone(over))),
            None => {}
        }
        if !lock.is_held(now) {
            continue;
        }
        let revision = state.revision.0 + changes.len() as u64 + 1;
        // Never lower than where it comes from gave it, nor than what this store has given.
        let fencing_token = lock.fencing_token.max(base.saturating_add(revision));
        base = base.max(fencing_token.saturating_sub(revision));
        commit.push(Change::Locked(Arc::new(HeldLock {
            fencing_token,
            ..lock.clone()
        })));
        changes.push(commit);
    }
    Ok(Effect {
        changes,
        ..Effect::default()
    })
}

fn role_fits(schema: &Schema, place: usize, record: &RoleRecord) -> Result<(), Refusal> {
    let role = &record.role;
    let Some((roles, block)) = schema.roles_named(role.block()) else {
        return Err(Refusal::RoleNotFound {
            role: role.clone(),
            nearest: None,
        });
    };
    let owner = schema.names.type_name(block.owner);
    if record.owner.kind() != owner || record.owner.id() != role.owner_id() {
        let problem = format!("is not {owner}:{}, which owns {role}", role.owner_id());
        return Err(Refusal::malformed(
            &format!("roles[{place}].owner"),
            problem,
        ));
    }
    for (nth, name) in record.permissions.iter().enumerate() {
        if schema.includable_named(roles, name).is_none() {
            return Err(Refusal::NotIncludable {
                field: format!("roles[{place}].permissions[{nth}]"),
                permission: name.to_string(),
                roles: block.name.to_string(),
            });
        }
    }
    Ok(())
}

fn lock_fits(schema: &Schema, place: usize, lock: &HeldLock) -> Result<(), Refusal> {
    if lock.fencing_token > LARGEST_TOKEN {
        return Err(Refusal::malformed(
            &format!("locks[{place}].fencing_token"),
            format!("is larger than {LARGEST_TOKEN}: no token could grow behind it"),
        ));
    }
    let kind = lock.resource.kind();
    if lock_def(schema, kind, &lock.mode).is_none() {
        let locks = schema.type_named(kind).map(|kind| &kind.locks);
        let known = locks
            .into_iter()
            .flatten()
            .map(|lock| lock.name.to_string());
        return Err(Refusal::UnknownLockMode {
            kind: kind.to_owned(),
            mode: lock.mode.to_string(),
            nearest: None,
            known: known.collect(),
        });
    }
    for (nth, subject) in lock.exempt.iter().enumerate() {
        (schema.knows_subject("subject", subject)).map_err(|problem| Refusal::Named {
            field: format!("locks[{place}].exempt[{nth}]"),
            problem: Box::new(problem),
        })?;
    }
    Ok(())
}

/// Those of the part that still stand, as one commit. What matched when the revoke was judged,
/// matches still: a filter looks at nothing that can change. Rights were judged then; locks may
/// have been placed since.
pub(super) fn revoke_part(
    state: &State,
    part: &RevokePart,
    actor: Option<&Subject>,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let stands = |tuple: &Tuple| match Standing::of(state, tuple, now) {
        Standing::Holds(stored) => Some(stored),
        Standing::Over(_) | Standing::Nothing => None,
    };
    let standing: Vec<Tuple> = part.tuples.iter().filter_map(stands).collect();
    if !state.locks.is_empty() {
        let touches = standing.iter().filter_map(|t| Touch::revoked(schema, t));
        let touches: Vec<Touch<'_>> = touches.collect();
        Rules::new(state, schema, actor, &touches, now).seals(&[])?;
    }
    let changes: Vec<_> = standing.into_iter().map(Change::Revoked).collect();
    if !is_deletion(&part.filter) {
        minimums(state, schema, &changes)?;
    }
    Ok(Effect {
        revoked: part.before + changes.len() as u64,
        changes: vec![changes],
        ..Effect::default()
    })
}
