//! Why a command is refused.

use std::time::Duration;

use crate::eval::caveats::ContextError;
use crate::revision::{Epoch, Revision, Token};
use crate::rules::Violation;
use crate::schema::admit::NotAdmitted;
use crate::schema::diagnostic::Diagnostic;

/// Why a command is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Tuples were written before any schema was.
    #[error("there is no schema yet; write one first")]
    NoSchema,
    /// The schema lacks the actor's type.
    #[error("options.actor: {0}")]
    Actor(Box<NotAdmitted>),
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
    #[error("{relation:?} is generated; use AssignRole and UnassignRole")]
    GeneratedRelation {
        /// The place of its update, from 0.
        update: usize,
        /// The relation.
        relation: String,
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
    /// Stored tuples do not fit the new schema.
    #[error("{count} tuples do not fit the new schema, such as {example}: {problem}")]
    SchemaWouldOrphan {
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
            | Self::TupleExists { update, .. }
            | Self::TupleNotFound { update, .. } => *update = place,
            _ => {}
        }
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
