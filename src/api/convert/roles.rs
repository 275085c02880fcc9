//! Requests about roles, and their answers.

use std::sync::Arc;

use super::locks::{object, required, subject};
use super::writes::command;
use super::{Malformed, Problem, answers, changes, consistency, values, write_options};
use crate::api::proto;
use crate::engine::{RolesHeld, Written};
use crate::plan::{Action, Assignment, Command, Operation, RoleEdit, RoleWanted};
use crate::revision::Consistency;
use crate::rules::RoleView;
use crate::tuple::{Object, RoleRef};

/// A role to make.
///
/// # Errors
/// Which field is malformed.
pub fn create(from: proto::CreateRoleRequest) -> Result<Command, Malformed> {
    let proto::CreateRoleRequest {
        owner,
        key,
        title,
        permissions,
        options,
    } = from;
    let action = Action::CreateRole(RoleWanted {
        owner: object("owner", &owner)?,
        key: required("key", key, "a key")?.into(),
        title: title.into(),
        permissions: names(permissions),
    });
    Ok(command(action, write_options(options)?))
}

/// What to change of a role.
///
/// # Errors
/// Which field is malformed; a request that changes nothing is.
pub fn update(from: proto::UpdateRoleRequest) -> Result<Command, Malformed> {
    let proto::UpdateRoleRequest {
        role,
        title,
        allow,
        disallow,
        options,
    } = from;
    if title.is_none() && allow.is_empty() && disallow.is_empty() {
        let problem = Problem::Missing("a title, allow or disallow");
        return Err(Malformed::at("title", problem));
    }
    if title.as_ref().is_some_and(String::is_empty) {
        let problem = Problem::Invalid("is empty; leave it out to keep the title");
        return Err(Malformed::at("title", problem));
    }
    let action = Action::UpdateRole(RoleEdit {
        role: reference("role", &role)?,
        title: title.map(Into::into),
        allow: names(allow),
        disallow: names(disallow),
    });
    Ok(command(action, write_options(options)?))
}

/// A role to delete.
///
/// # Errors
/// Which field is malformed.
pub fn delete(from: proto::DeleteRoleRequest) -> Result<Command, Malformed> {
    let proto::DeleteRoleRequest { role, options } = from;
    let role = reference("role", &role)?;
    Ok(command(
        Action::DeleteRole { role },
        write_options(options)?,
    ))
}

/// Whose roles to list, from which state.
///
/// # Errors
/// Which field is malformed.
pub fn list(from: proto::ListRolesRequest) -> Result<(Object, Consistency), Malformed> {
    let proto::ListRolesRequest {
        owner,
        consistency: at,
    } = from;
    Ok((object("owner", &owner)?, consistency(at)?))
}

/// A role to give.
///
/// # Errors
/// Which field is malformed.
pub fn assign(from: proto::AssignRoleRequest) -> Result<Command, Malformed> {
    let proto::AssignRoleRequest {
        role,
        subject: to,
        resource,
        expires_at,
        options,
    } = from;
    let expires_at = expires_at.map(values::timestamp).transpose();
    let mut assignment = Assignment::new(
        Operation::Grant,
        reference("role", &role)?,
        subject("subject", &to)?,
        object("resource", &resource)?,
    );
    assignment.expires_at = expires_at.map_err(|malformed| malformed.within("expires_at"))?;
    assigning(vec![assignment], options)
}

/// A role to take.
///
/// # Errors
/// Which field is malformed.
pub fn unassign(from: proto::UnassignRoleRequest) -> Result<Command, Malformed> {
    let proto::UnassignRoleRequest {
        role,
        subject: of,
        resource,
        options,
    } = from;
    let assignment = Assignment::new(
        Operation::Revoke,
        reference("role", &role)?,
        subject("subject", &of)?,
        object("resource", &resource)?,
    );
    assigning(vec![assignment], options)
}

/// A role to take and another one to give.
///
/// # Errors
/// Which field is malformed; two equal roles are.
pub fn change(from: proto::ChangeRoleRequest) -> Result<Command, Malformed> {
    let proto::ChangeRoleRequest {
        subject: of,
        resource,
        from_role,
        to_role,
        options,
    } = from;
    let (taken, given) = (
        reference("from_role", &from_role)?,
        reference("to_role", &to_role)?,
    );
    if taken == given {
        let problem = Problem::Invalid("is the same as from_role");
        return Err(Malformed::at("to_role", problem));
    }
    let (of, resource) = (subject("subject", &of)?, object("resource", &resource)?);
    let take = Assignment::new(
        Operation::Delete,
        taken.clone(),
        of.clone(),
        resource.clone(),
    );
    let mut give = Assignment::new(Operation::Grant, given, of, resource);
    give.ends_with = Some(taken);
    assigning(vec![take, give], options)
}

fn assigning(
    assignments: Vec<Assignment>,
    options: Option<proto::WriteOptions>,
) -> Result<Command, Malformed> {
    Ok(command(
        Action::Assign { assignments },
        write_options(options)?,
    ))
}

/// The role that was made.
pub fn created(from: Written) -> proto::CreateRoleResponse {
    proto::CreateRoleResponse {
        role: from.role.as_ref().map(role),
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
        warnings: from.warnings.iter().map(answers::diagnostic).collect(),
    }
}

/// The role as it is now.
pub fn updated(from: Written) -> proto::UpdateRoleResponse {
    proto::UpdateRoleResponse {
        unchanged: from.unchanged,
        role: from.role.as_ref().map(role),
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
        warnings: from.warnings.iter().map(answers::diagnostic).collect(),
    }
}

/// Where a role was deleted.
pub fn deleted(from: Written) -> proto::DeleteRoleResponse {
    proto::DeleteRoleResponse {
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// Where a role was given.
pub fn assigned(from: Written) -> proto::AssignRoleResponse {
    proto::AssignRoleResponse {
        unchanged: from.unchanged,
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// Where a role was taken.
pub fn unassigned(from: Written) -> proto::UnassignRoleResponse {
    proto::UnassignRoleResponse {
        unchanged: from.unchanged,
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// Where roles were exchanged.
pub fn changed(from: Written) -> proto::ChangeRoleResponse {
    proto::ChangeRoleResponse {
        unchanged: from.unchanged,
        revision: from.token.to_string(),
        propagation: from.propagation.map(answers::propagation),
    }
}

/// The roles of an owner, and the rows of a matrix.
pub fn listed(from: &RolesHeld) -> proto::ListRolesResponse {
    let RolesHeld {
        roles,
        assignable,
        schema,
        token,
    } = from;
    let rows = assignable.iter().filter_map(|id| {
        let member = schema.member(*id);
        Some(answers::detail(schema.type_def(member.owner)?, member))
    });
    proto::ListRolesResponse {
        roles: roles.iter().map(role).collect(),
        assignable_permissions: rows.collect(),
        revision: token.to_string(),
    }
}

fn role(from: &RoleView) -> proto::Role {
    let RoleView { record, builtin } = from;
    proto::Role {
        builtin: *builtin,
        ..changes::role(record, None)
    }
}

fn reference(field: &str, text: &str) -> Result<RoleRef, Malformed> {
    text.parse()
        .map_err(|problem| Malformed::at(field, Problem::Reference(problem)))
}

fn names(from: Vec<String>) -> Vec<Arc<str>> {
    from.into_iter().map(Into::into).collect()
}
