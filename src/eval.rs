//! Answers questions from one state: the evaluator, its caveats and its dependency keys.

use std::sync::{Arc, LazyLock};

use crate::index::Index;
use crate::schema::Schema;
use crate::state::{HeldLock, Locks, Roles, State};
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef, SubjectRef, Tuple};

mod candidates;
pub mod caveats;
mod check;
mod climb;
mod closure;
pub mod dependencies;
mod expansion;
mod explain;
mod judge;
mod list_permissions;
mod list_resources;
mod list_subjects;
mod lists;
mod locks;
mod machine;
mod reach;
mod roles;
mod value;

pub use check::{Prepared, check, check_prepared, prepare};
pub use explain::{Explanation, Node, Operator, Suggestion, explain};
pub(crate) use judge::{Judge, Judged, judge};
pub use list_permissions::{PermissionEntry, list_permissions};
pub use list_resources::{ResourceList, ResourcesQuestion};
pub use list_subjects::{SubjectList, SubjectsQuestion};
pub use lists::{Place as ListPlace, Row, Step};
pub(crate) use locks::held_on;
pub(crate) use roles::roles_count;

/// What questions are answered from: a schema, and what is stored under it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The schema.
    pub schema: &'a Schema,
    /// The tuples.
    pub index: &'a Index,
    /// The locks.
    pub locks: &'a Locks,
    /// The roles made or edited at run time.
    pub roles: &'a Roles,
}

impl<'a> Facts<'a> {
    /// All that a state holds; `None` before a schema was written.
    pub fn of(state: &'a State) -> Option<Self> {
        Some(Self {
            schema: state.schema.as_deref()?,
            index: &state.index,
            locks: &state.locks,
            roles: &state.roles,
        })
    }

    /// Tuples alone: no lock is held, and no role was made or edited.
    pub fn of_tuples(schema: &'a Schema, index: &'a Index) -> Self {
        static NONE: LazyLock<(Locks, Roles)> = LazyLock::new(Default::default);
        Self {
            schema,
            index,
            locks: &NONE.0,
            roles: &NONE.1,
        }
    }
}

/// What a check may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tuple reads.
    pub work: u64,
    /// Dependency keys before an answer is uncacheable.
    pub dependencies: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            work: 1_000_000,
            dependencies: 256,
        }
    }
}

/// May this subject do this to that resource?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who.
    pub subject: SubjectRef<'a>,
    /// The name of a permission or relation of the resource's type.
    pub permission: &'a str,
    /// On what.
    pub resource: ObjectRef<'a>,
    /// Parameters of caveats.
    pub context: &'a Context,
    /// Hold for this question alone.
    pub contextual: &'a [Tuple],
    /// Whether [`Answer::dependencies`] is wanted.
    pub with_dependencies: bool,
}

/// What the tuples say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// They don't grant it.
    Denied,
    /// They do where a caveat holds whose parameters are missing.
    Conditional,
    /// They grant it.
    Allowed,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether.
    pub decision: Decision,
    /// Where it is denied and would not be without locks: every lock in the way, by their ids.
    pub locks: Vec<Arc<HeldLock>>,
    /// The parameters that a conditional answer lacks, sorted.
    pub missing_context: Vec<Arc<str>>,
    /// No later than the first instant at which time alone can change the answer.
    pub valid_until: Option<Timestamp>,
    /// The keys whose invalidation may change the answer, sorted; empty unless asked for.
    pub dependencies: Vec<u64>,
    /// Whether no cache may keep it: too many keys, contextual tuples.
    pub uncacheable: bool,
    /// A denial or condition in a sentence, for a person.
    pub detail: String,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// No such type. `field` is `subject` or `resource`.
    #[error("the schema has no type {name:?}{}", hint(.nearest.as_deref()))]
    UnknownType {
        /// Which field of the question names it.
        field: &'static str,
        /// The name.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The resource's type has no such permission or relation.
    #[error("type {kind:?} has no permission or relation {name:?}{}", hint(.nearest.as_deref()))]
    UnknownPermission {
        /// The type.
        kind: String,
        /// The name.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The subject's type has no such relation.
    #[error("type {kind:?} has no relation or permission {name:?}{}", hint(.nearest.as_deref()))]
    UnknownSubjectRelation {
        /// The type.
        kind: String,
        /// The name.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A value of the context does not fit its parameter's type.
    #[error("{0}")]
    Context(caveats::ContextError),
    /// A contextual tuple does not fit the schema.
    #[error("contextual tuple {index}: {problem}")]
    ContextualTuple {
        /// Its place in the request, from 0.
        index: usize,
        /// What is wrong with it.
        problem: crate::schema::admit::NotAdmitted,
    },
    /// More tuple reads than the limit.
    #[error("the check needs more than {limit} tuple reads")]
    TooComplex {
        /// The limit.
        limit: u64,
    },
    /// Finding out what a list may have to name takes more steps than the limit.
    #[error("the search for what to list needs more than {limit} tuple reads")]
    SearchTooComplex {
        /// The limit.
        limit: u64,
    },
    /// The exceptions of a wildcard are too many for one row.
    #[error("the exceptions of the wildcard have more than {limit} bytes")]
    TooManyExceptions {
        /// The limit.
        limit: usize,
    },
    /// What keeps one row of a list from being judged.
    #[error("{item}: {error}")]
    Listed {
        /// The row.
        item: String,
        /// The error.
        error: Box<CheckError>,
    },
    /// The tuples make a permission depend on its own negation.
    #[error("{resource}#{permission} depends on its own negation through the tuples")]
    NegationCycle {
        /// An object on the cycle.
        resource: String,
        /// A permission on the cycle.
        permission: String,
    },
    /// A caveat could not be resolved, and no other branch decides.
    #[error("caveat {caveat:?} failed: {problem}")]
    CaveatFailed {
        /// The caveat's name.
        caveat: String,
        /// Why.
        problem: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}
