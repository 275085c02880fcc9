//! What a step of a story writes: each kind of write as it stands in a file, and as a command.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::Problem;
use crate::plan::{Action, Assignment, LockWanted, Operation, RoleEdit, RoleWanted, Update};
use crate::time::span;
use crate::tuple::{Object, Subject, Tuple, TupleFilter};

/// What to do, and that in a few words.
pub(super) type Deed = (Action, String);

type Parsed<T> = Result<T, Problem>;

/// Which tuples; what is left out matches everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Matching {
    resource: Option<String>,
    resource_type: Option<String>,
    relation: Option<String>,
    subject: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are those of the request"
)]
pub(super) struct Lock {
    resource: String,
    mode: String,
    lock_id: Option<String>,
    #[serde(default)]
    exempt: Vec<String>,
    ttl: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renew {
    lock_id: String,
    ttl: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateRole {
    owner: String,
    key: String,
    title: Option<String>,
    #[serde(default)]
    permissions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateRole {
    role: String,
    title: Option<String>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    disallow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Assign {
    role: String,
    subject: String,
    resource: String,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRole {
    subject: String,
    resource: String,
    from: String,
    to: String,
}

pub(super) fn updates(grant: &[Spanned<String>], revoke: &[Spanned<String>]) -> Parsed<Deed> {
    let mut updates = Vec::new();
    let mut words = Vec::new();
    for (list, operation, word) in [
        (grant, Operation::Grant, "grants"),
        (revoke, Operation::Revoke, "revokes"),
    ] {
        for text in list {
            let tuple: Tuple = parsed(text)?;
            updates.push(Update { operation, tuple });
        }
        if let Some(first) = list.first() {
            let more = if list.len() > 1 { ", …" } else { "" };
            words.push(format!("{word} {}{more}", first.value));
        }
    }
    let action = Action::Write {
        updates,
        preconditions: Vec::new(),
    };
    Ok((action, words.join(" and ")))
}

pub(super) fn revoke_matching(matching: &Spanned<Matching>) -> Parsed<Deed> {
    let place = matching.defined;
    let matching = &matching.value;
    let mut filter = TupleFilter {
        resource_type: matching.resource_type.as_deref().map(Into::into),
        relation: matching.relation.as_deref().map(Into::into),
        ..TupleFilter::default()
    };
    let mut words = Vec::new();
    words.extend(matching.resource_type.iter().cloned());
    if let Some(resource) = &matching.resource {
        let object: Object = at(resource, place)?;
        filter.resource_type = Some(object.kind().into());
        filter.resource_id = Some(object.id().into());
        words.push(resource.clone());
    }
    words.extend(matching.relation.iter().map(|name| format!("#{name}")));
    if let Some(text) = &matching.subject {
        let subject: Subject = at(text, place)?;
        filter.subject_type = Some(subject.kind().into());
        filter.subject_id = Some(subject.id().into());
        filter.subject_relation = Some(subject.relation().map(Into::into));
        words.push(format!("@{text}"));
    }
    let words = format!("revokes all that match {}", words.concat());
    Ok((Action::RevokeMatching { filter, limit: 0 }, words))
}

pub(super) fn lock(lock: &Spanned<Lock>) -> Parsed<Deed> {
    let (place, lock) = (lock.defined, &lock.value);
    let words = format!("locks {} ({})", lock.resource, lock.mode);
    let exempt = lock.exempt.iter().map(|subject| at(subject, place));
    let action = Action::Lock(LockWanted {
        resource: at(&lock.resource, place)?,
        mode: lock.mode.as_str().into(),
        exempt: exempt.collect::<Parsed<_>>()?,
        ttl: ttl(lock.ttl.as_ref(), place)?,
        lock_id: lock.lock_id.as_deref().map(Into::into),
    });
    Ok((action, words))
}

pub(super) fn unlock(lock: &Spanned<String>) -> Deed {
    let lock_id: Arc<str> = lock.value.as_str().into();
    let words = format!("lifts the lock {lock_id}");
    (Action::Unlock { lock_id }, words)
}

pub(super) fn renew(lock: &Spanned<Renew>) -> Parsed<Deed> {
    let (place, lock) = (lock.defined, &lock.value);
    let words = format!("renews the lock {}", lock.lock_id);
    let action = Action::RenewLock {
        lock_id: lock.lock_id.as_str().into(),
        ttl: ttl(lock.ttl.as_ref(), place)?,
    };
    Ok((action, words))
}

pub(super) fn create_role(role: &Spanned<CreateRole>) -> Parsed<Deed> {
    let (place, role) = (role.defined, &role.value);
    let words = format!("creates the role {} of {}", role.key, role.owner);
    let action = Action::CreateRole(RoleWanted {
        owner: at(&role.owner, place)?,
        key: role.key.as_str().into(),
        title: role.title.as_deref().unwrap_or_default().into(),
        permissions: names(&role.permissions),
    });
    Ok((action, words))
}

pub(super) fn update_role(role: &Spanned<UpdateRole>) -> Parsed<Deed> {
    let (place, role) = (role.defined, &role.value);
    let words = format!("changes {}", role.role);
    let action = Action::UpdateRole(RoleEdit {
        role: at(&role.role, place)?,
        title: role.title.as_deref().map(Into::into),
        allow: names(&role.allow),
        disallow: names(&role.disallow),
    });
    Ok((action, words))
}

pub(super) fn delete_role(role: &Spanned<String>) -> Parsed<Deed> {
    let words = format!("deletes {}", role.value);
    Ok((
        Action::DeleteRole {
            role: parsed(role)?,
        },
        words,
    ))
}

pub(super) fn assign(assign: &Spanned<Assign>) -> Parsed<Deed> {
    let Assign {
        role,
        subject,
        resource,
        expires_at,
    } = &assign.value;
    let words = format!("assigns {role} to {subject} on {resource}");
    let end = expires_at.as_ref().map(|end| at(end, assign.defined));
    let given = Assignment {
        expires_at: end.transpose()?,
        ..assignment(Operation::Grant, (role, subject, resource), assign.defined)?
    };
    Ok((assigned(vec![given]), words))
}

pub(super) fn unassign(assign: &Spanned<Assign>) -> Parsed<Deed> {
    let Assign {
        role,
        subject,
        resource,
        expires_at,
    } = &assign.value;
    if expires_at.is_some() {
        let message = "`expires_at` is of `assign`; what is taken away ends at once";
        return Err(Problem::at_location(assign.defined, message));
    }
    let words = format!("takes {role} from {subject} on {resource}");
    let taken = assignment(Operation::Revoke, (role, subject, resource), assign.defined)?;
    Ok((assigned(vec![taken]), words))
}

pub(super) fn change_role(change: &Spanned<ChangeRole>) -> Parsed<Deed> {
    let place = change.defined;
    let ChangeRole {
        subject,
        resource,
        from,
        to,
    } = &change.value;
    let words = format!("changes {subject} on {resource} from {from} to {to}");
    let taken = assignment(Operation::Delete, (from, subject, resource), place)?;
    let given = Assignment {
        ends_with: Some(taken.role.clone()),
        ..assignment(Operation::Grant, (to, subject, resource), place)?
    };
    Ok((assigned(vec![taken, given]), words))
}

fn assignment(
    operation: Operation,
    (role, subject, resource): (&str, &str, &str),
    place: Location,
) -> Parsed<Assignment> {
    let (role, subject) = (at(role, place)?, at(subject, place)?);
    Ok(Assignment::new(
        operation,
        role,
        subject,
        at(resource, place)?,
    ))
}

fn assigned(assignments: Vec<Assignment>) -> Action {
    Action::Assign { assignments }
}

fn names(list: &[String]) -> Vec<Arc<str>> {
    list.iter().map(|name| name.as_str().into()).collect()
}

fn ttl(text: Option<&String>, place: Location) -> Parsed<Option<Duration>> {
    let ttl = text.map(|text| span(text).map_err(|bad| Problem::at_location(place, bad)));
    ttl.transpose()
}

pub(super) fn parsed<T>(text: &Spanned<String>) -> Parsed<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    at(&text.value, text.defined)
}

fn at<T>(text: &str, place: Location) -> Parsed<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parsed = text.parse();
    parsed.map_err(|bad: T::Err| Problem::at_location(place, bad.to_string()))
}
