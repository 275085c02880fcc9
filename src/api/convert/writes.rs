//! Requests that write as commands.

use std::sync::Arc;

use super::{Malformed, Problem, each, filters, precondition, token, tuple, update, write_options};
use crate::api::proto;
use crate::plan::{Action, Command, Operation, Update, WriteOptions};

/// Tuples to grant.
///
/// # Errors
/// Which field is malformed.
pub fn grant(from: proto::GrantRequest) -> Result<Command, Malformed> {
    let proto::GrantRequest { tuples, options } = from;
    let updates = each("tuples", tuples, |from| {
        Ok(Update {
            operation: Operation::Grant,
            tuple: tuple(from)?,
        })
    })?;
    Ok(command(updates_only(updates), write_options(options)?))
}

/// Tuples to revoke, named one by one or by a filter.
///
/// # Errors
/// Which field is malformed; neither and both of the two are.
pub fn revoke(from: proto::RevokeRequest) -> Result<Command, Malformed> {
    let proto::RevokeRequest {
        tuples,
        filter,
        limit,
        options,
    } = from;
    let action = match filter {
        Some(_) if !tuples.is_empty() => {
            return Err(Malformed::at("filter", Problem::Contradictory("tuples")));
        }
        Some(filter) => Action::RevokeMatching {
            filter: filters::selective(filter)?,
            limit,
        },
        None if tuples.is_empty() => {
            return Err(Malformed::at(
                "tuples",
                Problem::Missing("tuples or filter"),
            ));
        }
        None if limit != 0 => {
            return Err(Malformed::at("limit", Problem::Contradictory("tuples")));
        }
        None => updates_only(each("tuples", tuples, revocation)?),
    };
    Ok(command(action, write_options(options)?))
}

fn revocation(from: proto::Tuple) -> Result<Update, Malformed> {
    Ok(Update {
        operation: Operation::Revoke,
        tuple: tuple(unrestricted(from))?,
    })
}

/// The tuple without what is not looked at when it is revoked.
pub(super) fn unrestricted(from: proto::Tuple) -> proto::Tuple {
    proto::Tuple {
        caveat: None,
        expires_at: None,
        ..from
    }
}

/// Grants and revokes as one.
///
/// # Errors
/// Which field is malformed.
pub fn write(from: proto::WriteRequest) -> Result<Command, Malformed> {
    let proto::WriteRequest {
        updates,
        preconditions,
        options,
    } = from;
    let action = Action::Write {
        updates: each("updates", updates, update)?,
        preconditions: each("preconditions", preconditions, precondition)?,
    };
    Ok(command(action, write_options(options)?))
}

/// A new schema.
///
/// # Errors
/// Which field is malformed.
pub fn schema(from: proto::WriteSchemaRequest) -> Result<Command, Malformed> {
    let proto::WriteSchemaRequest {
        schema,
        options,
        if_revision,
    } = from;
    // A field that was forgotten must not take all types away.
    if schema.trim().is_empty() {
        return Err(Malformed::at("schema", Problem::Missing("a schema")));
    }
    let if_revision = match if_revision.as_str() {
        "" => None,
        text => Some(token("if_revision", text)?),
    };
    let action = Action::WriteSchema {
        text: schema.into(),
        if_revision,
    };
    Ok(command(action, write_options(options)?))
}

fn updates_only(updates: Vec<Update>) -> Action {
    Action::Write {
        updates,
        preconditions: Vec::new(),
    }
}

/// Callers are not told apart before they have names.
pub(super) fn command(action: Action, options: WriteOptions) -> Command {
    Command {
        action,
        options,
        caller: Arc::default(),
    }
}
