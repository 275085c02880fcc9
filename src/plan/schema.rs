//! What a new schema changes, and whether what is stored fits it.

use std::sync::Arc;

use crate::eval::caveats::check_context;
use crate::revision::Token;
use crate::schema::{Schema, changes_between};
use crate::state::{Change, HeldLock, RoleRecord, State};
use crate::time::Timestamp;
use crate::tuple::{RoleRef, Tuple, TupleFilter};

use super::{Effect, Limits, Refusal, at_most};

/// Replaces the schema.
pub(super) fn write(
    state: &State,
    text: &Arc<str>,
    if_revision: Option<Token>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    at_most("schema", text.len(), limits.schema_bytes)?;
    unchanged_since(state, if_revision)?;
    let compiled = Schema::compile(text, state.names()).map_err(Refusal::SchemaInvalid)?;
    orphans(state, &compiled.schema, now)?;
    roles_and_locks(state, &compiled.schema, now)?;
    let same = state.schema.as_ref().is_some_and(|old| *old.text == **text);
    let changes = match same {
        true => Vec::new(),
        false => vec![vec![Change::Schema(Arc::clone(text))]],
    };
    Ok(Effect {
        changes,
        schema_changes: changes_between(state.schema.as_deref(), &compiled.schema),
        warnings: compiled.warnings,
        ..Effect::default()
    })
}

fn unchanged_since(state: &State, if_revision: Option<Token>) -> Result<(), Refusal> {
    let Some(asked) = if_revision else {
        return Ok(());
    };
    if asked.epoch != state.epoch {
        return Err(Refusal::EpochMismatch {
            asked,
            epoch: state.epoch,
        });
    }
    if state.schema_revision > asked.revision {
        return Err(Refusal::SchemaChanged {
            asked,
            current: state.token_of(state.schema_revision),
        });
    }
    Ok(())
}

/// Refuses a schema that does not take what is stored: how many, and one of them.
fn orphans(state: &State, new: &Schema, now: Timestamp) -> Result<(), Refusal> {
    let mut count = 0_u64;
    let mut first = None;
    for filter in state.unfit_filters(new) {
        let live = state.select(&filter);
        let live = live.filter(|tuple| tuple.expires_at.is_none_or(|end| now < end));
        for tuple in live {
            if let Some(problem) = misfit(new, &tuple) {
                count += 1;
                first.get_or_insert((tuple, problem));
            }
        }
    }
    match first {
        None => Ok(()),
        Some((tuple, problem)) => Err(Refusal::SchemaWouldOrphan {
            what: "tuples",
            count,
            example: tuple.to_string(),
            problem,
        }),
    }
}

/// The same for roles and their assignments, and for locks.
fn roles_and_locks(state: &State, new: &Schema, now: Timestamp) -> Result<(), Refusal> {
    let records = || state.roles.iter();
    if let Some(taken) = records().find(|record| is_taken(state, new, record)) {
        let role = taken.role.clone();
        return Err(Refusal::RoleKeyTaken { role });
    }
    let misfits = records().filter_map(|record| {
        role_misfit(new, record).map(|problem| (record.role.to_string(), problem))
    });
    would_orphan("roles", misfits)?;
    let locks = state.locks.iter().filter(|lock| lock.is_held(now));
    let misfits = locks.filter_map(|lock| {
        let example = format!("{:?} ({} on {})", lock.id, lock.mode, lock.resource);
        lock_misfit(new, lock).map(|problem| (example, problem))
    });
    would_orphan("locks", misfits)?;
    would_orphan("tuples", homeless(state, new, now).into_iter())
}

fn would_orphan(
    what: &'static str,
    mut misfits: impl Iterator<Item = (String, String)>,
) -> Result<(), Refusal> {
    let Some((example, problem)) = misfits.next() else {
        return Ok(());
    };
    Err(Refusal::SchemaWouldOrphan {
        what,
        count: 1 + misfits.count() as u64,
        example,
        problem,
    })
}

fn has_builtin(schema: &Schema, role: &RoleRef) -> bool {
    let block = schema.roles_named(role.block());
    block.is_some_and(|(_, block)| block.builtins.iter().any(|one| *one.name == *role.key()))
}

/// Whether a role that was made at run time has the key of one that is built in now.
fn is_taken(state: &State, new: &Schema, record: &RoleRecord) -> bool {
    let before = state.schema.as_deref();
    has_builtin(new, &record.role) && !before.is_some_and(|old| has_builtin(old, &record.role))
}

fn role_misfit(new: &Schema, record: &RoleRecord) -> Option<String> {
    let Some((roles, block)) = new.roles_named(record.role.block()) else {
        return Some(format!(
            "the new schema has no `roles {}`",
            record.role.block()
        ));
    };
    let owner = new.names.type_name(block.owner);
    if owner != record.owner.kind() {
        return Some(format!("such roles belong to {owner} in the new schema"));
    }
    let lost = |name: &&Arc<str>| new.includable_named(roles, name).is_none();
    let lost = record.permissions.iter().find(lost)?;
    Some(format!(
        "it includes {lost}, which no role can in the new schema"
    ))
}

fn lock_misfit(new: &Schema, lock: &HeldLock) -> Option<String> {
    let (kind, mode) = (lock.resource.kind(), &lock.mode);
    if crate::rules::lock_def(new, kind, mode).is_none() {
        return Some(format!(
            "type {kind:?} has no lock {mode:?} in the new schema"
        ));
    }
    let problem = |subject| new.knows_subject("exempt", subject).err();
    lock.exempt
        .iter()
        .find_map(problem)
        .map(|problem| problem.to_string())
}

/// Assignments of built-in roles that the new schema builds in no longer, with no record of them.
fn homeless(state: &State, new: &Schema, now: Timestamp) -> Vec<(String, String)> {
    let old = state.schema.iter().flat_map(|schema| &schema.roles);
    let mut found = Vec::new();
    for block in old {
        let gone = |key: &str| match new.roles_named(&block.name) {
            Some((_, kept)) => !kept.builtins.iter().any(|one| *one.name == *key),
            None => false,
        };
        if !block.builtins.iter().any(|one| gone(&one.name)) {
            continue;
        }
        let filter = TupleFilter {
            relation: Some(format!("{}=", block.name).into()),
            ..TupleFilter::default()
        };
        for tuple in state
            .select(&filter)
            .filter(|tuple| super::tuples::holds(tuple, now))
        {
            let role = RoleRef::of_relation(&tuple.relation);
            let role = role.filter(|role| gone(role.key()));
            if role.is_some_and(|role| state.roles.get(role.as_str()).is_none()) {
                let problem = "the new schema builds in no such role".to_owned();
                found.push((tuple.to_string(), problem));
            }
        }
    }
    found
}

/// Why the schema does not take a stored tuple, where it does not.
fn misfit(new: &Schema, tuple: &Tuple) -> Option<String> {
    let admitted = match tuple.relation.contains('=') {
        true => new.admit_assignment(tuple).map(drop),
        false => new.admit(tuple).map(drop),
    };
    if let Err(problem) = admitted {
        return Some(problem.to_string());
    }
    let caveat = tuple.caveat.as_ref()?;
    let problem = check_context(new.caveat_named(&caveat.name)?, &caveat.context).err()?;
    let name = &caveat.name;
    Some(format!(
        "the context of caveat {name:?} does not fit: {problem}"
    ))
}
