//! Idempotency keys: a repeat gets the first answer, another request under the key is refused.

use std::fmt::Write;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::revision::Token;
use crate::rules::{RoleView, role_of};
use crate::schema::Schema;
use crate::state::{HeldLock, Remembered, RoleRecord, State};
use crate::time::Timestamp;
use crate::tuple::{RoleRef, TupleFilter};

use super::{
    Action, Command, Effect, Limits, LockWanted, Operation, Refusal, RevokePart, Written, roles,
};

/// The answer of the write that this one repeats, where it repeats one.
pub(super) fn repeat(
    state: &State,
    command: &Command,
    hash: u64,
    now: Timestamp,
) -> Result<Option<Written>, Refusal> {
    let Some(key) = key_of(command) else {
        return Ok(None);
    };
    let Some(kept) = state.remembered.find(&command.caller, key, now) else {
        return Ok(None);
    };
    if kept.request_hash != hash {
        return Err(Refusal::KeyReused {
            key: key.to_string(),
            revision: kept.revision,
        });
    }
    Ok(Some(Written {
        token: Token {
            revision: kept.revision,
            epoch: state.epoch,
        },
        granted: kept.granted,
        revoked: kept.revoked,
        unchanged: kept.unchanged,
        changes: kept.changes.to_vec(),
        warnings: warnings_again(state, command),
        lock: kept.lock.clone().or_else(|| standing_lock(state, command)),
        role: match &kept.role {
            Some(record) => Some(RoleView {
                record: Arc::clone(record),
                builtin: is_builtin(state, record),
            }),
            None => standing_role(state, command),
        },
        propagation: None,
    }))
}

/// The lock of a request that had nothing to change, so that no commit holds it.
fn standing_lock(state: &State, command: &Command) -> Option<Arc<HeldLock>> {
    let id = match &command.action {
        Action::Lock(wanted) => wanted.lock_id.as_ref()?,
        Action::RenewLock { lock_id, .. } => lock_id,
        _ => return None,
    };
    state.locks.get(id).cloned()
}

/// The same of a role.
fn standing_role(state: &State, command: &Command) -> Option<RoleView> {
    match &command.action {
        Action::UpdateRole(edit) => role_of(state, state.schema.as_deref()?, &edit.role),
        _ => None,
    }
}

/// The key that the write's commit keeps, where it has one.
pub(super) fn to_remember(
    state: &State,
    command: &Command,
    hash: u64,
    effect: &Effect,
    now: Timestamp,
    limits: &Limits,
) -> Result<Option<Remembered>, Refusal> {
    let Some(key) = key_of(command) else {
        return Ok(None);
    };
    if state.remembered.count(&command.caller) >= limits.keys_a_caller {
        let kept = state.remembered.without_over(now);
        if kept.count(&command.caller) >= limits.keys_a_caller {
            let end = kept.oldest_end(&command.caller).unwrap_or(now);
            return Err(Refusal::QuotaExceeded {
                limit: limits.keys_a_caller,
                retry_after: end.since(now),
            });
        }
    }
    Ok(Some(Remembered {
        caller: command.caller.clone(),
        key: key.clone(),
        request_hash: hash,
        granted: effect.granted,
        revoked: effect.revoked,
    }))
}

/// A dry run neither keeps a key nor is answered by one, nor does a part with more to come.
fn key_of(command: &Command) -> Option<&Arc<str>> {
    let key = command.options.idempotency_key.as_ref();
    let goes_on = match &command.action {
        Action::RevokePart(part) => !part.last,
        Action::EmptyRole { .. } => true,
        _ => false,
    };
    key.filter(|_| !command.options.dry_run && !goes_on)
}

/// Warnings follow from the text alone, so that they need not be kept.
fn warnings_again(state: &State, command: &Command) -> Vec<crate::schema::diagnostic::Diagnostic> {
    let given = |block: Option<&str>, given| match (state.schema.as_deref(), block) {
        (Some(schema), Some(block)) => roles::warnings_again(schema, block, given),
        _ => Vec::new(),
    };
    match &command.action {
        Action::CreateRole(wanted) => {
            let schema = state.schema.as_deref();
            let block = schema.and_then(|schema| roles::block_of(schema, &wanted.owner).ok());
            given(block.map(|(_, block)| &*block.name), &wanted.permissions)
        }
        Action::UpdateRole(edit) => given(Some(edit.role.block()), &edit.allow),
        Action::WriteSchema { text, .. } => Schema::compile(text, &crate::schema::Names::default())
            .map_or_else(|_| Vec::new(), |compiled| compiled.warnings),
        _ => Vec::new(),
    }
}

fn is_builtin(state: &State, record: &RoleRecord) -> bool {
    let schema = state.schema.as_deref();
    let block = schema.and_then(|schema| schema.roles_named(record.role.block()));
    block.is_some_and(|(_, block)| {
        let mut builtins = block.builtins.iter();
        builtins.any(|one| *one.name == *record.role.key())
    })
}

/// The same for equal requests in every version and on every node: of a text that says all but
/// the key and the wait..
pub(super) fn request_hash(command: &Command) -> u64 {
    if key_of(command).is_none() {
        return 0;
    }
    let mut text = String::new();
    let options = &command.options;
    let actor = options.actor.as_ref().map(ToString::to_string);
    part(&mut text, actor.as_deref().unwrap_or_default());
    part(&mut text, &options.reason);
    match &options.metadata {
        Some(map) => part(
            &mut text,
            &sorted(&serde_json::Value::Object((**map).clone())),
        ),
        None => part(&mut text, ""),
    }
    action_text(&mut text, &command.action);
    xxh3_64(text.as_bytes())
}

fn action_text(text: &mut String, action: &Action) {
    match action {
        Action::Write {
            updates,
            preconditions,
        } => {
            part(text, "write");
            for update in updates {
                part(text, operation_name(update.operation));
                tuple_text(text, &update.tuple);
            }
            for precondition in preconditions {
                part(
                    text,
                    if precondition.must_match {
                        "must"
                    } else {
                        "must not"
                    },
                );
                filter_text(text, &precondition.filter);
            }
        }
        // Imports have no keys: they are repeated tuple by tuple.
        Action::ImportBegin { .. } => part(text, "import begin"),
        Action::Import { updates, .. } => {
            part(text, "import");
            for update in updates.iter() {
                tuple_text(text, &update.tuple);
            }
        }
        Action::RevokeMatching { filter, limit }
        | Action::RevokePart(RevokePart { filter, limit, .. }) => {
            part(text, "revoke matching");
            part(text, &limit.to_string());
            filter_text(text, filter);
        }
        Action::WriteSchema {
            text: schema,
            if_revision,
        } => {
            part(text, "schema");
            part(
                text,
                &if_revision
                    .map(|token| token.to_string())
                    .unwrap_or_default(),
            );
            part(text, schema);
        }
        Action::Begin {
            text: schema,
            roles,
            updates,
        } => {
            part(text, "begin");
            part(text, schema);
            for role in roles {
                part(text, &role.owner.to_string());
                part(text, &role.key);
                part(text, &role.title);
                part(text, &role.permissions.join(" "));
            }
            for update in updates {
                part(text, operation_name(update.operation));
                tuple_text(text, &update.tuple);
            }
        }
        Action::Lock(wanted) => lock_text(text, wanted),
        Action::Unlock { lock_id } => {
            part(text, "unlock");
            part(text, lock_id);
        }
        Action::RenewLock { lock_id, ttl } => {
            part(text, "renew lock");
            part(text, lock_id);
            part(text, &format!("{ttl:?}"));
        }
        Action::CreateRole(_)
        | Action::UpdateRole(_)
        | Action::DeleteRole { .. }
        | Action::EmptyRole { .. }
        | Action::Assign { .. } => role_text(text, action),
        Action::Expire => part(text, "expire"),
    }
}

fn role_text(text: &mut String, action: &Action) {
    match action {
        Action::CreateRole(wanted) => {
            part(text, "create role");
            part(text, &wanted.owner.to_string());
            part(text, &wanted.key);
            part(text, &wanted.title);
            names_text(text, &wanted.permissions);
        }
        Action::UpdateRole(edit) => {
            part(text, "update role");
            part(text, edit.role.as_str());
            part(text, &format!("{:?}", edit.title));
            names_text(text, &edit.allow);
            names_text(text, &edit.disallow);
        }
        Action::EmptyRole { role, .. } | Action::DeleteRole { role } => {
            part(text, "delete role");
            part(text, role.as_str());
        }
        Action::Assign { assignments } => {
            part(text, "assign");
            for one in assignments {
                part(text, operation_name(one.operation));
                part(text, one.role.as_str());
                part(text, &one.subject.to_string());
                part(text, &one.resource.to_string());
                part(
                    text,
                    &one.expires_at
                        .map_or_else(String::new, |end| end.to_string()),
                );
                part(text, one.ends_with.as_ref().map_or("", RoleRef::as_str));
            }
        }
        _ => {}
    }
}

fn lock_text(text: &mut String, wanted: &LockWanted) {
    let LockWanted {
        resource,
        mode,
        exempt,
        ttl,
        lock_id,
    } = wanted;
    part(text, "lock");
    part(text, &resource.to_string());
    part(text, mode);
    part(text, &exempt.len().to_string());
    for subject in exempt {
        part(text, &subject.to_string());
    }
    part(text, &format!("{ttl:?}"));
    part(text, &format!("{lock_id:?}"));
}

fn names_text(text: &mut String, names: &[Arc<str>]) {
    part(text, &names.len().to_string());
    for name in names {
        part(text, name);
    }
}

fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Grant => "grant",
        Operation::Create => "create",
        Operation::Revoke => "revoke",
        Operation::Delete => "delete",
    }
}

fn tuple_text(text: &mut String, tuple: &crate::tuple::Tuple) {
    part(text, &tuple.resource.to_string());
    part(text, &tuple.relation);
    part(text, &tuple.subject.to_string());
    if let Some(caveat) = &tuple.caveat {
        part(text, &caveat.name);
        part(
            text,
            &sorted(&serde_json::Value::Object((*caveat.context).clone())),
        );
    }
    if let Some(end) = tuple.expires_at {
        part(text, &end.to_string());
    }
    part(text, "");
}

fn filter_text(text: &mut String, filter: &TupleFilter) {
    let TupleFilter {
        resource_type,
        resource_id,
        resource_id_prefix,
        relation,
        subject_type,
        subject_id,
        subject_relation,
    } = filter;
    let fields = [
        resource_type,
        resource_id,
        resource_id_prefix,
        relation,
        subject_type,
        subject_id,
    ];
    for field in fields {
        part(text, field.as_deref().map_or("-", |value| value));
        part(text, if field.is_some() { "set" } else { "" });
    }
    let relation = subject_relation.as_ref().map(|value| value.as_deref());
    part(text, &format!("{relation:?}"));
}

/// JSON with the keys of every object in order, whatever order they came in.
fn sorted(value: &serde_json::Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

/// Appends one part, its length first, so that no two lists of parts give one text.
fn part(text: &mut String, value: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "{}:{value}", value.len());
}
