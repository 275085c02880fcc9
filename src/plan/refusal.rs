//! Why a command is refused.

use std::sync::Arc;
use std::time::Duration;

use crate::eval::caveats::ContextError;
use crate::revision::{Epoch, Revision, Token};
use crate::rules::Violation;
use crate::schema::admit::NotAdmitted;
use crate::schema::diagnostic::Diagnostic;
use crate::state::HeldLock;
use crate::tuple::RoleRef;

/// Why a command is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Tuples were written before any schema was.
    #[error("there is no schema yet; write one first")]
    NoSchema,
    /// The schema lacks what a field names.
    #[error("{field}: {problem}")]
    Named {
        /// The field: `options.actor`, `resource`.
        field: String,
        /// What is wrong with it.
        problem: Box<NotAdmitted>,
    },
    /// A field can't be what it is.
    #[error("{field} {problem}")]
    Malformed {
        /// The field.
        field: String,
        /// What is wrong, as the rest of a sentence.
        problem: String,
    },
    /// The type has no such lock.
    #[error("type {kind:?} has no lock {mode:?}{}", known_modes(.nearest.as_deref(), .known))]
    UnknownLockMode {
        /// The type.
        kind: String,
        /// The mode.
        mode: String,
        /// The nearest that it has.
        nearest: Option<String>,
        /// All that it has.
        known: Vec<String>,
    },
    /// A lock was to be placed without a reason.
    #[error("a lock needs a reason: whoever it stops will read it")]
    ReasonRequired,
    /// A time to live can't be what it is.
    #[error("ttl {0}")]
    TtlInvalid(&'static str),
    /// A lock of that id is held on another resource, in another mode, or exempts others.
    #[error("a lock {:?} is held already: {} on {}", .0.id, .0.mode, .0.resource)]
    LockExists(Arc<HeldLock>),
    /// No lock of that id is held.
    #[error("no lock {0:?} is held")]
    LockNotFound(String),
    /// There is such a role already.
    #[error("there is a role {0} already")]
    RoleExists(RoleRef),
    /// There is no such role.
    #[error("there is no role {role}{}", hint(.nearest.as_deref()))]
    RoleNotFound {
        /// The role.
        role: RoleRef,
        /// The nearest key or block.
        nearest: Option<String>,
    },
    /// A built-in role can't be changed so.
    #[error("{role} is built in and {problem}")]
    RoleBuiltin {
        /// The role.
        role: RoleRef,
        /// What it can't.
        problem: &'static str,
    },
    /// A new schema has a built-in role whose key a role made at run time has.
    #[error("the new schema builds in a role of the key of {role}, which was made at run time")]
    RoleKeyTaken {
        /// That role.
        role: RoleRef,
    },
    /// There is no such permission.
    #[error("there is no permission {permission:?}{}; expected type.permission, such as application.deploy", hint(.nearest.as_deref()))]
    UnknownPermission {
        /// The field that names it.
        field: String,
        /// What it names.
        permission: String,
        /// The nearest that there is.
        nearest: Option<String>,
    },
    /// A permission that roles can't include.
    #[error(
        "{permission} can't be included in a role: only a permission that says `any {roles}` can"
    )]
    NotIncludable {
        /// The field that names it.
        field: String,
        /// What it names.
        permission: String,
        /// The word of the `roles` block.
        roles: String,
    },
    /// It breaks one of the rules on writes.
    #[error("{0}")]
    Rule(#[from] Box<Violation>),
    /// The command names no tuple.
    #[error("the write names no tuple")]
    NothingToDo,
    /// A tuple does not fit the schema.
    #[error("{tuple}: {problem}")]
    NotAdmitted {
        /// The place of its update, from 0.
        update: usize,
        /// The tuple.
        tuple: String,
        /// What is wrong; [`NotAdmitted::field`] names the field of the tuple.
        problem: Box<NotAdmitted>,
    },
    /// The context of a tuple's caveat does not fit the caveat's parameters.
    #[error("{tuple}: the context of caveat {caveat:?} does not fit: {problem}")]
    CaveatContext {
        /// The place of its update, from 0.
        update: usize,
        /// The tuple, without its caveat.
        tuple: String,
        /// The caveat.
        caveat: String,
        /// Which parameter, and what is wrong with it.
        problem: ContextError,
    },
    /// A relation of run-time roles, which has calls of its own.
    #[error(
        "{relation:?} is generated: assignments of roles are written by AssignRole, UnassignRole \
         and ChangeRole"
    )]
    GeneratedRelation {
        /// The place of its update, from 0.
        update: usize,
        /// The relation.
        relation: String,
    },
    /// An imported tuple assigns a role that there is not.
    #[error("there is no role {role}")]
    UnknownAssignment {
        /// The place of its update, from 0.
        update: usize,
        /// The role.
        role: RoleRef,
    },
    /// A filter names what the schema does not have.
    #[error("{field}: {problem}")]
    Filter {
        /// `filter`, or `preconditions[3].filter`.
        field: String,
        /// What is wrong with it.
        problem: Box<NotAdmitted>,
    },
    /// Two updates name one tuple.
    #[error("updates {first} and {second} both name {tuple}")]
    DuplicateUpdate {
        /// The place of the earlier one, from 0.
        first: usize,
        /// The place of the later one.
        second: usize,
        /// The tuple, without caveat and expiry.
        tuple: String,
    },
    /// A tuple that was to be created stands already.
    #[error("{tuple} stands already")]
    TupleExists {
        /// The place of its update, from 0.
        update: usize,
        /// The tuple that stands.
        tuple: String,
    },
    /// A tuple that was to be deleted does not stand.
    #[error("{tuple} does not stand")]
    TupleNotFound {
        /// The place of its update, from 0.
        update: usize,
        /// The tuple.
        tuple: String,
    },
    /// A precondition does not hold.
    #[error("precondition {precondition}: {}", precondition_problem(.found.as_deref()))]
    PreconditionFailed {
        /// Its place, from 0.
        precondition: usize,
        /// A tuple that matches where none was to; `None` where one was to match and none does.
        found: Option<String>,
    },
    /// A filter that has to select something selects everything.
    #[error("{field} has no field set, and would match every tuple")]
    FilterEmpty {
        /// `filter`, or `preconditions[3].filter`.
        field: String,
    },
    /// More updates, or a longer text, than a write may have.
    #[error("{what} has {size}, and at most {limit} are allowed")]
    TooLarge {
        /// What is too large, as the request's field: `updates`, `options.reason`, `schema`.
        what: String,
        /// How large it is: a count or bytes.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// A revoke's filter matches more tuples than its limit.
    #[error("the filter matches more than {limit} tuples; nothing was revoked")]
    LimitExceeded {
        /// The limit that the command named.
        limit: u32,
    },
    /// The idempotency key was used for another request.
    #[error("idempotency key {key:?} was used for another request at revision {revision}")]
    KeyReused {
        /// The key.
        key: String,
        /// Where.
        revision: Revision,
    },
    /// The caller has as many idempotency keys as it may.
    #[error("{limit} idempotency keys of this caller are remembered already")]
    QuotaExceeded {
        /// The limit.
        limit: usize,
        /// When the oldest of them is forgotten.
        retry_after: Duration,
    },
    /// The schema is not valid.
    #[error("the schema is not valid: {}", first_message(.0))]
    SchemaInvalid(Vec<Diagnostic>),
    /// `if_revision` does not name the schema that stands.
    #[error("the schema was last written at {current}, not at {asked}")]
    SchemaChanged {
        /// What the command named.
        asked: Token,
        /// Where the schema was written last.
        current: Token,
    },
    /// `if_revision` is of another history.
    #[error("{asked} is of another history; this one is {epoch}")]
    EpochMismatch {
        /// What the command named.
        asked: Token,
        /// The epoch of this store.
        epoch: Epoch,
    },
    /// A template was to be loaded into a store that is no longer empty.
    #[error("the store is at revision {0} already; a template goes only into an empty one")]
    Begun(Token),
    /// What is stored does not fit the new schema.
    #[error("{count} {what} do not fit the new schema, such as {example}: {problem}")]
    SchemaWouldOrphan {
        /// Of what: `tuples`, `locks`, `roles`.
        what: &'static str,
        /// How many.
        count: u64,
        /// One of them.
        example: String,
        /// What is wrong with that one.
        problem: String,
    },
}

impl Refusal {
    /// The place of the update that it is about, where it is about one.
    pub fn update(&self) -> Option<usize> {
        match self {
            Self::NotAdmitted { update, .. }
            | Self::CaveatContext { update, .. }
            | Self::GeneratedRelation { update, .. }
            | Self::UnknownAssignment { update, .. }
            | Self::TupleExists { update, .. }
            | Self::TupleNotFound { update, .. } => Some(*update),
            _ => None,
        }
    }

    /// Says of the update that it stands at another place: where a batch was put together from
    /// several requests.
    pub(crate) fn move_update(&mut self, place: usize) {
        match self {
            Self::NotAdmitted { update, .. }
            | Self::CaveatContext { update, .. }
            | Self::GeneratedRelation { update, .. }
            | Self::UnknownAssignment { update, .. }
            | Self::TupleExists { update, .. }
            | Self::TupleNotFound { update, .. } => *update = place,
            _ => {}
        }
    }
}

impl Refusal {
    pub(super) fn malformed(field: &str, problem: impl Into<String>) -> Self {
        Self::Malformed {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn builtin(role: &RoleRef, problem: &'static str) -> Self {
        Self::RoleBuiltin {
            role: role.clone(),
            problem,
        }
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

fn known_modes(nearest: Option<&str>, known: &[String]) -> String {
    match (nearest, known) {
        (Some(_), _) => hint(nearest),
        (None, []) => "; it has none".to_owned(),
        (None, known) => format!("; it has {}", known.join(", ")),
    }
}

fn precondition_problem(found: Option<&str>) -> String {
    found.map_or_else(
        || "no tuple matches, and one has to".to_owned(),
        |tuple| format!("{tuple} matches, and none may"),
    )
}

fn first_message(diagnostics: &[Diagnostic]) -> String {
    diagnostics.first().map_or_else(String::new, |first| {
        format!("{}:{}: {}", first.line, first.column, first.message)
    })
}
