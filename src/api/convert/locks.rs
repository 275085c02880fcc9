//! Requests about locks, and their answers.

use std::time::Duration;

use super::changes::held_lock;
use super::writes::command;
use super::{Malformed, Problem, answers, consistency, each, values, write_options};
use crate::api::proto;
use crate::engine::Written;
use crate::plan::{Action, Command, LockWanted};
use crate::revision::{Consistency, Token};
use crate::state::HeldLock;
use crate::tuple::{Object, ObjectRef, Subject, SubjectRef};

/// A lock to place.
///
/// # Errors
/// Which field is malformed.
pub fn lock(from: proto::LockRequest) -> Result<Command, Malformed> {
    let proto::LockRequest {
        resource,
        mode,
        exempt,
        ttl,
        lock_id,
        options,
    } = from;
    let action = Action::Lock(LockWanted {
        resource: object("resource", &resource)?,
        mode: required("mode", mode, "a mode")?.into(),
        exempt: each("exempt", exempt, |text| subject("", &text))?,
        ttl: span(ttl)?,
        lock_id: (!lock_id.is_empty()).then(|| lock_id.into()),
    });
    Ok(command(action, write_options(options)?))
}

/// A lock to lift.
///
/// # Errors
/// Which field is malformed.
pub fn unlock(from: proto::UnlockRequest) -> Result<Command, Malformed> {
    let proto::UnlockRequest { lock_id, options } = from;
    let action = Action::Unlock {
        lock_id: required("lock_id", lock_id, "the id of a lock")?.into(),
    };
    Ok(command(action, write_options(options)?))
}

/// A lock to renew.
///
/// # Errors
/// Which field is malformed.
pub fn renew(from: proto::RenewLockRequest) -> Result<Command, Malformed> {
    let proto::RenewLockRequest {
        lock_id,
        ttl,
        options,
    } = from;
    let action = Action::RenewLock {
        lock_id: required("lock_id", lock_id, "the id of a lock")?.into(),
        ttl: span(ttl)?,
    };
    Ok(command(action, write_options(options)?))
}

/// Which locks to list: on what, inherited ones too, from which state.
///
/// # Errors
/// Which field is malformed.
pub fn list(
    from: proto::ListLocksRequest,
) -> Result<(Option<Object>, bool, Consistency), Malformed> {
    let proto::ListLocksRequest {
        resource,
        inherited,
        consistency: at,
    } = from;
    let resource = match resource.as_str() {
        "" if inherited => {
            let problem = Problem::Missing("the resource that they are inherited by");
            return Err(Malformed::at("resource", problem));
        }
        "" => None,
        text => Some(object("resource", text)?),
    };
    Ok((resource, inherited, consistency(at)?))
}

/// The lock that was placed.
pub fn locked(from: Written) -> proto::LockResponse {
    proto::LockResponse {
        lock: from.lock.as_deref().map(held_lock),
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// The lock that was lifted.
pub fn unlocked(from: Written) -> proto::UnlockResponse {
    proto::UnlockResponse {
        lock: from.lock.as_deref().map(held_lock),
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// The lock as it is now.
pub fn renewed(from: Written) -> proto::RenewLockResponse {
    proto::RenewLockResponse {
        lock: from.lock.as_deref().map(held_lock),
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// One lock of a list.
pub fn row(from: &HeldLock, token: Token) -> proto::ListLocksResponse {
    proto::ListLocksResponse {
        lock: Some(held_lock(from)),
        revision: token.to_string(),
    }
}

pub(super) fn object(field: &str, text: &str) -> Result<Object, Malformed> {
    ObjectRef::parse(text)
        .map(ObjectRef::to_object)
        .map_err(|problem| Malformed::at(field, Problem::Reference(problem)))
}

pub(super) fn subject(field: &str, text: &str) -> Result<Subject, Malformed> {
    SubjectRef::parse(text)
        .map(SubjectRef::to_subject)
        .map_err(|problem| Malformed::at(field, Problem::Reference(problem)))
}

pub(super) fn required(field: &str, text: String, what: &'static str) -> Result<String, Malformed> {
    match text.is_empty() {
        true => Err(Malformed::at(field, Problem::Missing(what))),
        false => Ok(text),
    }
}

fn span(from: Option<prost_types::Duration>) -> Result<Option<Duration>, Malformed> {
    from.map(values::duration).transpose().map_err(|_| {
        let problem = Problem::Ttl("is no duration of more than zero");
        Malformed::at("ttl", problem)
    })
}
