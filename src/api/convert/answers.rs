//! Answers of the engine as responses.

use super::{proto, to_tuple, values};
use crate::engine::{ListRow, Propagation, SchemaView, TupleRow, Written};
use crate::eval::{Answer, Decision};
use crate::revision::Token;
use crate::schema::diagnostic::Diagnostic;
use crate::schema::{Member, MemberKind, Schema, TypeDef};
use crate::state::HeldLock;
use crate::time::Timestamp;

/// The answer to a check; `at` is none where it is one of a batch, `now` gives the server's time.
pub fn check(
    from: Answer,
    at: Option<Token>,
    now: impl FnOnce() -> Timestamp,
) -> proto::CheckResponse {
    let Answer {
        decision,
        locks,
        missing_context,
        valid_until,
        dependencies,
        uncacheable,
        detail,
    } = from;
    let (decision, denial_reason) = match decision {
        Decision::Allowed => (proto::Decision::Allowed, proto::DenialReason::Unspecified),
        Decision::Conditional => (
            proto::Decision::Conditional,
            proto::DenialReason::Unspecified,
        ),
        Decision::Denied if locks.is_empty() => {
            (proto::Decision::Denied, proto::DenialReason::NoGrant)
        }
        Decision::Denied => (proto::Decision::Denied, proto::DenialReason::Locked),
    };
    proto::CheckResponse {
        decision: decision.into(),
        revision: at.map_or_else(String::new, |token| token.to_string()),
        denial_reason: denial_reason.into(),
        locks: locks.iter().map(|lock| lock_ref(lock)).collect(),
        missing_context: missing_context.iter().map(ToString::to_string).collect(),
        valid_until: valid_until.map(values::to_timestamp),
        dependencies,
        uncacheable,
        valid_for: valid_until.map(|until| values::to_duration(until.since(now()))),
        detail,
    }
}

/// A lock, as far as somebody who is denied needs to know it.
pub fn lock_ref(from: &HeldLock) -> proto::LockRef {
    let HeldLock {
        id,
        resource,
        mode,
        exempt: _,
        actor,
        reason,
        created_at: _,
        expires_at,
        fencing_token: _,
    } = from;
    proto::LockRef {
        lock_id: id.to_string(),
        mode: mode.to_string(),
        held_on: resource.to_string(),
        reason: reason.to_string(),
        expires_at: expires_at.map(values::to_timestamp),
        actor: actor.as_ref().map_or_else(String::new, ToString::to_string),
    }
}

/// One tuple of a list.
pub fn tuple_row(from: TupleRow, token: Token) -> proto::ReadTuplesResponse {
    let TupleRow {
        tuple,
        cursor,
        granted_at,
        granted_by,
    } = from;
    proto::ReadTuplesResponse {
        tuple: Some(to_tuple(&tuple)),
        cursor,
        revision: token.to_string(),
        granted_at: granted_at.map_or_else(String::new, |token| token.to_string()),
        granted_by: granted_by.unwrap_or_default(),
    }
}

/// One resource of a list; the first has the revision.
pub fn resource_row(from: ListRow, at: Option<Token>) -> proto::ListResourcesResponse {
    let ListRow {
        item,
        except: _,
        decision: given,
        missing_context,
        cursor,
    } = from;
    proto::ListResourcesResponse {
        resource: item,
        decision: decision(given).into(),
        missing_context: missing_context.iter().map(ToString::to_string).collect(),
        cursor: cursor.unwrap_or_default(),
        revision: at.map_or_else(String::new, |token| token.to_string()),
    }
}

/// One subject of a list; the first has the revision.
pub fn subject_row(from: ListRow, at: Option<Token>) -> proto::ListSubjectsResponse {
    let ListRow {
        item,
        except,
        decision: given,
        missing_context,
        cursor,
    } = from;
    proto::ListSubjectsResponse {
        subject: item,
        except,
        decision: decision(given).into(),
        missing_context: missing_context.iter().map(ToString::to_string).collect(),
        cursor: cursor.unwrap_or_default(),
        revision: at.map_or_else(String::new, |token| token.to_string()),
    }
}

/// A decision.
pub(super) fn decision(from: Decision) -> proto::Decision {
    match from {
        Decision::Allowed => proto::Decision::Allowed,
        Decision::Conditional => proto::Decision::Conditional,
        Decision::Denied => proto::Decision::Denied,
    }
}

/// Which caches have applied a write.
pub fn propagation(from: Propagation) -> proto::Propagation {
    let Propagation { complete, laggards } = from;
    proto::Propagation { complete, laggards }
}

/// A remark on a schema.
pub fn diagnostic(from: &Diagnostic) -> proto::Diagnostic {
    let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    proto::Diagnostic {
        message: from.message.clone(),
        line: number(from.line),
        column: number(from.column),
        code: from.code.to_owned(),
    }
}

/// The schema and what it defines.
pub fn schema(from: SchemaView) -> proto::ReadSchemaResponse {
    let SchemaView {
        schema,
        token,
        written_at,
    } = from;
    let schema = schema.as_deref();
    proto::ReadSchemaResponse {
        schema: schema.map_or_else(String::new, |schema| schema.text.to_string()),
        revision: token.to_string(),
        definitions: schema.map_or_else(Vec::new, definitions),
        schema_revision: written_at.to_string(),
    }
}

fn definitions(schema: &Schema) -> Vec<proto::Definition> {
    let types = schema.types.iter();
    types.map(|def| definition(schema, def)).collect()
}

fn definition(schema: &Schema, def: &TypeDef) -> proto::Definition {
    let members = || def.members.iter().map(|id| schema.member(*id));
    let is_relation = |member: &&Member| matches!(member.kind, MemberKind::Relation(_));
    let name = |member: &Member| member.name.to_string();
    let roles = schema.roles.iter().find(|roles| roles.owner == def.id);
    proto::Definition {
        name: def.name.to_string(),
        relations: members().filter(is_relation).map(name).collect(),
        permissions: members().filter(|m| !is_relation(m)).map(name).collect(),
        locks: def.locks.iter().map(|lock| lock.name.to_string()).collect(),
        documentation: def.doc.text.clone(),
        details: members().map(|member| detail(def, member)).collect(),
        roles: roles.map_or_else(String::new, |roles| roles.name.to_string()),
    }
}

pub(super) fn detail(def: &TypeDef, member: &Member) -> proto::AssignablePermission {
    proto::AssignablePermission {
        permission: format!("{}.{}", def.name, member.name),
        group: member.doc.group.clone().unwrap_or_default(),
        documentation: member.doc.text.clone(),
        sensitive: member.doc.sensitive,
    }
}

/// What a grant did.
pub fn granted(from: Written) -> proto::GrantResponse {
    proto::GrantResponse {
        revision: from.token.to_string(),
        granted: count(from.granted),
        propagation: from.propagation.map(propagation),
    }
}

/// What a revoke did.
pub fn revoked(from: Written) -> proto::RevokeResponse {
    proto::RevokeResponse {
        revision: from.token.to_string(),
        revoked: from.revoked,
        propagation: from.propagation.map(propagation),
    }
}

/// What a write of both did.
pub fn written(from: Written) -> proto::WriteResponse {
    proto::WriteResponse {
        revision: from.token.to_string(),
        granted: count(from.granted),
        revoked: count(from.revoked),
        propagation: from.propagation.map(propagation),
    }
}

/// What a new schema changed.
pub fn schema_written(from: Written) -> proto::WriteSchemaResponse {
    proto::WriteSchemaResponse {
        revision: from.token.to_string(),
        changes: from.changes,
        warnings: from.warnings.iter().map(diagnostic).collect(),
        propagation: from.propagation.map(propagation),
    }
}

/// A write has 10,000 updates at most.
fn count(of: u64) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
