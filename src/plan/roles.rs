//! What writes of roles change: making, editing, deleting, assigning them.

use std::sync::Arc;

use crate::rules::{Act, RoleView, Rules, Target, Touch, minimums, role_of};
use crate::schema::admit::nearest;
use crate::schema::diagnostic::{Diagnostic, Severity};
use crate::schema::{RolesDef, RolesId, Schema};
use crate::state::{Change, RoleRecord, State};
use crate::time::Timestamp;
use crate::tuple::{Object, ObjectRef, RoleRef, Subject, Tuple, TupleFilter};

use super::tuples::{Standing, holds, known_actor, one};
use super::{Assignment, Effect, Operation, Refusal, RoleEdit, RoleWanted, Update, WriteOptions};

/// The most bytes of a title.
const TITLE: usize = 1_024;

/// Makes a role.
pub(super) fn create(
    state: &State,
    wanted: &RoleWanted,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    known_actor(schema, options.actor.as_ref())?;
    let (roles, block) = block_of(schema, &wanted.owner)?;
    if wanted.owner.id().contains('@') {
        let problem =
            "has an '@' in its id: the tuple of an assignment of its role could not be read";
        return Err(Refusal::malformed("owner", problem));
    }
    let role = RoleRef::new(&block.name, wanted.owner.id(), &wanted.key)
        .map_err(|problem| Refusal::malformed("key", problem.to_string()))?;
    super::at_most("title", wanted.title.len(), TITLE)?;
    let permissions = includable(schema, roles, "permissions", &wanted.permissions)?;
    let rules = Rules::new(state, schema, options.actor.as_ref(), &[], now);
    rules.may_edit_role(&format!("create {role}"), &role, roles, &permissions)?;
    rules.seals(std::slice::from_ref(&wanted.owner))?;
    if role_of(state, schema, &role).is_some() {
        return Err(Refusal::RoleExists(role));
    }
    let title = match wanted.title.is_empty() {
        true => Arc::clone(&wanted.key),
        false => Arc::clone(&wanted.title),
    };
    let warnings = sensitive(schema, roles, &permissions);
    let record = RoleRecord {
        role,
        owner: wanted.owner.clone(),
        title,
        permissions,
    };
    Ok(written(record, false, warnings))
}

/// Renames a role; allows and disallows permissions.
pub(super) fn update(
    state: &State,
    edit: &RoleEdit,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    known_actor(schema, options.actor.as_ref())?;
    let (role, roles, block) = known_block(schema, &edit.role)?;
    super::at_most("title", edit.title.as_ref().map_or(0, |t| t.len()), TITLE)?;
    let allow = includable(schema, roles, "allow", &edit.allow)?;
    let disallow = known_permissions(schema, roles, "disallow", &edit.disallow)?;
    if let Some(both) = allow.iter().find(|one| disallow.contains(one)) {
        let problem = format!("names {both} too, which `allow` names");
        return Err(Refusal::malformed("disallow", problem));
    }
    let rules = Rules::new(state, schema, options.actor.as_ref(), &[], now);
    rules.may_edit_role(&format!("edit {role}"), role, roles, &allow)?;
    let owner = owner(schema, block, role);
    rules.seals(std::slice::from_ref(&owner))?;
    let before = existing(state, schema, role)?;
    if before.builtin && edit.title.is_some() {
        return Err(Refusal::builtin(role, "can't be renamed"));
    }
    let changes_permissions = !(allow.is_empty() && disallow.is_empty());
    if changes_permissions && before.builtin && includes_all(block, role) {
        return Err(Refusal::builtin(
            role,
            "includes everything, and always will",
        ));
    }
    let mut record = RoleRecord::clone(&before.record);
    if let Some(title) = edit.title.as_ref().filter(|title| !title.is_empty()) {
        record.title = Arc::clone(title);
    }
    record.permissions.retain(|one| !disallow.contains(one));
    record.permissions.extend(allow.iter().cloned());
    record.permissions.sort();
    record.permissions.dedup();
    let warnings = sensitive(schema, roles, &allow);
    match record == *before.record {
        true => Ok(Effect {
            role: Some(before),
            warnings,
            ..Effect::default()
        }),
        false => Ok(written(record, before.builtin, warnings)),
    }
}

/// Deletes a role with every assignment of it.
pub(super) fn delete(
    state: &State,
    role: &RoleRef,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let (_, assignments) = deletable(state, role, usize::MAX, options, now)?;
    let mut effect = taken(assignments, now);
    effect.changes.push(vec![Change::RoleDeleted(role.clone())]);
    effect.changes = vec![effect.changes.concat()];
    Ok(effect)
}

/// Begins to delete a role, or goes on: it includes nothing, and some of its assignments go.
pub(super) fn empty(
    state: &State,
    role: &RoleRef,
    most: usize,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let (record, assignments) = deletable(state, role, most, options, now)?;
    let mut effect = taken(assignments, now);
    if !record.permissions.is_empty() {
        let without_force = RoleRecord {
            permissions: Vec::new(),
            ..RoleRecord::clone(&record)
        };
        let written = vec![Change::RoleWritten(Arc::new(without_force))];
        effect.changes.insert(0, written);
    }
    effect.changes = vec![effect.changes.concat()];
    Ok(effect)
}

/// A role that may be deleted, and the first of its assignments.
fn deletable(
    state: &State,
    role: &RoleRef,
    most: usize,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<(Arc<RoleRecord>, Vec<Tuple>), Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let actor = options.actor.as_ref();
    known_actor(schema, actor)?;
    let (role, roles, block) = known_block(schema, role)?;
    let rules = Rules::new(state, schema, actor, &[], now);
    rules.may_edit_role(&format!("delete {role}"), role, roles, &[])?;
    let filter = TupleFilter {
        relation: Some(role.relation().into()),
        ..TupleFilter::default()
    };
    let assignments: Vec<Tuple> = state.select(&filter).take(most).collect();
    let touches: Vec<Touch<'_>> = (assignments.iter())
        .filter_map(|tuple| Touch::revoked(schema, tuple))
        .collect();
    let rules = Rules::new(state, schema, actor, &touches, now);
    rules.seals(&[owner(schema, block, role)])?;
    let found = existing(state, schema, role)?;
    match found.builtin {
        true => Err(Refusal::builtin(role, "can't be deleted")),
        false => Ok((found.record, assignments)),
    }
}

/// What becomes of assignments whose role goes.
fn taken(assignments: Vec<Tuple>, now: Timestamp) -> Effect {
    let revoked = assignments.iter().filter(|tuple| holds(tuple, now)).count() as u64;
    let gone = assignments
        .into_iter()
        .map(|tuple| match holds(&tuple, now) {
            true => Change::Revoked(tuple),
            false => Change::Expired(tuple),
        });
    Effect {
        changes: vec![gone.collect()],
        revoked,
        ..Effect::default()
    }
}

/// Gives and takes roles as one commit, each an upsert or a removal, whether it stands or not.
pub(super) fn assign(
    state: &State,
    assignments: &[Assignment],
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Effect, Refusal> {
    let schema = state.schema.as_deref().ok_or(Refusal::NoSchema)?;
    let actor = options.actor.as_ref();
    known_actor(schema, actor)?;
    let mut updates = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        updates.push(update_of(state, schema, assignment, now)?);
    }
    let mut touches = Vec::with_capacity(updates.len());
    for (update, assignment) in updates.iter().zip(assignments) {
        touches.push(touch(schema, update, assignment)?);
    }
    let rules = Rules::new(state, schema, actor, &touches, now);
    rules.rights()?;
    rules.seals(&[])?;
    let mut effect = Effect::default();
    let mut changes = Vec::new();
    for (update, assignment) in updates.iter().zip(assignments) {
        existing(state, schema, &assignment.role)?;
        let standing = Standing::of(state, &update.tuple, now);
        one(0, update, standing, &mut changes, &mut effect)?;
    }
    minimums(state, schema, &changes)?;
    effect.changes.push(changes);
    Ok(effect)
}

/// The tuple of an assignment. A role that is changed for another ends when the first would have.
fn update_of(
    state: &State,
    schema: &Schema,
    assignment: &Assignment,
    now: Timestamp,
) -> Result<Update, Refusal> {
    known_block(schema, &assignment.role)?;
    let tuple = |role: &RoleRef| {
        let relation = role.relation();
        Tuple::new(
            assignment.resource.as_ref(),
            &relation,
            assignment.subject.as_ref(),
        )
        .map_err(|problem| Refusal::malformed("role", problem.to_string()))
    };
    let mut wanted = tuple(&assignment.role)?;
    wanted.expires_at = assignment.expires_at;
    if let Some(from) = &assignment.ends_with {
        let old = state.find(&tuple(from)?).filter(|old| holds(old, now));
        wanted.expires_at = old.and_then(|old| old.expires_at);
    }
    Ok(Update {
        operation: assignment.operation,
        tuple: wanted,
    })
}

fn touch<'a>(
    schema: &Schema,
    update: &'a Update,
    assignment: &Assignment,
) -> Result<Touch<'a>, Refusal> {
    let act = match update.operation {
        Operation::Grant | Operation::Create => Act::Grant,
        Operation::Revoke | Operation::Delete => Act::Revoke,
    };
    let mut named = update.tuple.clone();
    if act == Act::Revoke {
        named.expires_at = None;
    }
    let role = schema
        .admit_assignment(&named)
        .map_err(|problem| Refusal::Named {
            field: match problem.field() {
                "relation" => "role".to_owned(),
                other => other.to_owned(),
            },
            problem: Box::new(problem),
        })?;
    let (roles, _) = schema
        .roles_named(role.block())
        .ok_or_else(|| Refusal::RoleNotFound {
            role: assignment.role.clone(),
            nearest: None,
        })?;
    Ok(Touch {
        update: None,
        act,
        tuple: &update.tuple,
        target: Target::Assignment(role, roles),
        found: false,
    })
}

fn written(record: RoleRecord, builtin: bool, warnings: Vec<Diagnostic>) -> Effect {
    let record = Arc::new(record);
    Effect {
        changes: vec![vec![Change::RoleWritten(Arc::clone(&record))]],
        role: Some(RoleView { record, builtin }),
        warnings,
        ..Effect::default()
    }
}

/// The `roles` block whose roles an object owns.
pub(crate) fn block_of<'s>(
    schema: &'s Schema,
    owner: &Object,
) -> Result<(RolesId, &'s RolesDef), Refusal> {
    let kind = schema.knows_object("owner", owner).map_err(|problem| {
        match schema.roles_named(owner.kind()) {
            // `role:acme/qa`, where its owner and its key belong apart.
            Some((_, block)) => {
                let kind = schema.names.type_name(block.owner);
                let problem = format!("is a role; expected whose it is, such as {kind}:acme");
                Refusal::malformed("owner", problem)
            }
            None => Refusal::Named {
                field: "owner".to_owned(),
                problem: Box::new(problem),
            },
        }
    })?;
    let block = schema.roles.iter().find(|block| block.owner == kind);
    block
        .and_then(|block| schema.roles_named(&block.name))
        .ok_or_else(|| {
            let problem = format!("is of type {}, which owns no roles", owner.kind());
            Refusal::malformed("owner", problem)
        })
}

fn known_block<'s, 'r>(
    schema: &'s Schema,
    role: &'r RoleRef,
) -> Result<(&'r RoleRef, RolesId, &'s RolesDef), Refusal> {
    match schema.roles_named(role.block()) {
        Some((id, block)) => Ok((role, id, block)),
        None => Err(Refusal::RoleNotFound {
            role: role.clone(),
            nearest: nearest(role.block(), schema.roles.iter().map(|block| &*block.name)),
        }),
    }
}

fn existing(state: &State, schema: &Schema, role: &RoleRef) -> Result<RoleView, Refusal> {
    role_of(state, schema, role).ok_or_else(|| {
        let block = schema.roles_named(role.block()).map(|(_, block)| block);
        let builtins = block.iter().flat_map(|block| &block.builtins);
        let made = state.roles.owned(role.block(), role.owner_id());
        let known = builtins
            .map(|one| &*one.name)
            .chain(made.map(|one| one.role.key()));
        Refusal::RoleNotFound {
            role: role.clone(),
            nearest: nearest(role.key(), known),
        }
    })
}

fn owner(schema: &Schema, block: &RolesDef, role: &RoleRef) -> Object {
    ObjectRef::known(schema.names.type_name(block.owner), role.owner_id()).to_object()
}

fn includes_all(block: &RolesDef, role: &RoleRef) -> bool {
    let mut builtins = block.builtins.iter();
    builtins.any(|one| *one.name == *role.key() && one.includes.is_none())
}

/// What is unknown may be meant for one of those that roles can include.
fn known_permissions(
    schema: &Schema,
    roles: RolesId,
    field: &str,
    names: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Refusal> {
    for (place, name) in names.iter().enumerate() {
        if schema.member_named(name).is_none() {
            let known = schema.includable(roles).into_iter();
            let known: Vec<String> = known.map(|id| schema.full_name(id)).collect();
            return Err(Refusal::UnknownPermission {
                field: format!("{field}[{place}]"),
                permission: name.to_string(),
                nearest: nearest(name, known.iter().map(String::as_str)),
            });
        }
    }
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    Ok(names)
}

fn includable(
    schema: &Schema,
    roles: RolesId,
    field: &str,
    names: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Refusal> {
    let known = known_permissions(schema, roles, field, names)?;
    for (place, name) in names.iter().enumerate() {
        if schema.includable_named(roles, name).is_none() {
            return Err(Refusal::NotIncludable {
                field: format!("{field}[{place}]"),
                permission: name.to_string(),
                roles: schema
                    .roles
                    .get(usize::from(roles.0))
                    .map_or("", |b| &b.name)
                    .to_owned(),
            });
        }
    }
    Ok(known)
}

/// A warning for each sensitive permission that is given.
pub(super) fn sensitive(schema: &Schema, roles: RolesId, given: &[Arc<str>]) -> Vec<Diagnostic> {
    let given = given.iter().filter_map(|name| {
        let member = schema.member(schema.includable_named(roles, name)?);
        let message = format!("{name} is sensitive: whoever holds this role has it from now on");
        let warning =
            |message| Diagnostic::new(Severity::Warning, "", 0..0, "sensitive-permission", message);
        member.doc.sensitive.then(|| warning(message))
    });
    given.collect()
}

/// The warnings of a request that is repeated.
pub(super) fn warnings_again(schema: &Schema, block: &str, given: &[Arc<str>]) -> Vec<Diagnostic> {
    let roles = schema.roles_named(block);
    roles.map_or_else(Vec::new, |(roles, _)| sensitive(schema, roles, given))
}

/// A subject of a role and where: one change of a [`super::Action::Assign`].
impl Assignment {
    /// One assignment or its end.
    pub fn new(operation: Operation, role: RoleRef, subject: Subject, resource: Object) -> Self {
        Self {
            operation,
            role,
            subject,
            resource,
            expires_at: None,
            ends_with: None,
        }
    }
}
