//! Changes as lines for people, and as fields of JSON for programs.

use serde_json::{Map, Value, json};

use crate::api::convert;
use crate::api::proto;
use crate::api::proto::change::Change;

/// One change.
pub(super) struct Told {
    /// `granted`, `revoked`, …
    pub(super) what: &'static str,
    /// What it happened to.
    pub(super) text: String,
    pub(super) fields: Map<String, Value>,
}

/// What a change says.
///
/// # Errors
/// Where the server sent what is no tuple.
pub(super) fn tell(change: proto::Change) -> anyhow::Result<Told> {
    Ok(match change.change {
        Some(Change::Granted(of)) => tuple("granted", of)?,
        Some(Change::Revoked(of)) => tuple("revoked", of)?,
        Some(Change::Expired(of)) => tuple("expired", of)?,
        Some(Change::Locked(of)) => lock("locked", &of),
        Some(Change::Unlocked(of)) => lock("unlocked", &of),
        Some(Change::LockExpired(of)) => lock("lock_expired", &of),
        Some(Change::Schema(text)) => {
            let lines = text.lines().count();
            told(
                "schema",
                format!("({lines} lines)"),
                json!({ "schema": text }),
            )
        }
        Some(Change::RoleWritten(of)) => {
            let permissions = of.permissions.join(" ");
            let text = format!("{} of {}: {permissions}", of.role, of.owner);
            let fields = json!({
                "role": of.role,
                "owner": of.owner,
                "title": of.title,
                "permissions": of.permissions,
                "builtin": of.builtin,
            });
            told("role_written", text, fields)
        }
        Some(Change::RoleDeleted(role)) => {
            told("role_deleted", role.clone(), json!({ "role": role }))
        }
        None => told("unknown", String::new(), json!({})),
    })
}

fn told(what: &'static str, text: String, fields: Value) -> Told {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Told { what, text, fields }
}

fn tuple(what: &'static str, of: proto::Tuple) -> anyhow::Result<Told> {
    let tuple = convert::tuple(of)?;
    let fields = json!({
        "tuple": tuple.to_string(),
        "resource": tuple.resource.to_string(),
        "relation": &*tuple.relation,
        "subject": tuple.subject.to_string(),
    });
    Ok(told(what, tuple.to_string(), fields))
}

fn lock(what: &'static str, of: &proto::HeldLock) -> Told {
    let text = format!("{} {} ({})", of.resource, of.mode, of.lock_id);
    let fields = json!({
        "lock_id": of.lock_id,
        "resource": of.resource,
        "mode": of.mode,
        "exempt": of.exempt,
        "fencing_token": of.fencing_token,
    });
    told(what, text, fields)
}
