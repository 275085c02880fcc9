//! The engine's errors, and those of requests that could not be understood.

use std::fmt;

use super::{Failure, INTERNAL_MESSAGE, Reason, reason};
use crate::api::convert::{Malformed, Problem};
use crate::engine::{EngineError, WriteOutcome};
use crate::eval::CheckError;
use crate::plan::Refusal;
use crate::schema::admit::NotAdmitted;
use crate::schema::diagnostic::{Diagnostic, Severity};

/// What of a request its errors speak of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'a> {
    /// Its tuples are `tuples[3]`.
    Tuples,
    /// Its tuples are `updates[3].tuple`.
    Updates,
    /// It is this schema.
    Schema(&'a str),
}

impl Shape<'_> {
    fn update(self, index: usize) -> String {
        match self {
            Self::Tuples => format!("tuples[{index}]"),
            Self::Updates | Self::Schema(_) => format!("updates[{index}]"),
        }
    }

    fn tuple(self, index: usize, field: impl fmt::Display) -> String {
        match self {
            Self::Tuples => format!("tuples[{index}].{field}"),
            Self::Updates | Self::Schema(_) => format!("updates[{index}].tuple.{field}"),
        }
    }

    /// A path of the core, which speaks of `updates`, as one of the request.
    fn path(self, path: &str) -> String {
        match (self, path.strip_prefix("updates")) {
            (Self::Tuples, Some(rest)) => format!("tuples{rest}"),
            _ => path.to_owned(),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        let reason = match &malformed.problem {
            Problem::Reference(_) => reason::MALFORMED_REFERENCE,
            Problem::Tuple(_) => reason::MALFORMED_TUPLE,
            Problem::Revision(_) => reason::MALFORMED_REVISION,
            Problem::TooLarge { .. } => reason::TOO_LARGE,
            Problem::FilterEmpty => reason::FILTER_EMPTY,
            Problem::Ttl(_) => reason::TTL_INVALID,
            Problem::Missing(_)
            | Problem::Enum { .. }
            | Problem::TooDeep { .. }
            | Problem::Contradictory(_)
            | Problem::Invalid(_) => reason::MALFORMED_REQUEST,
        };
        let failure = Self::new(reason, malformed.to_string()).at(malformed.field);
        match malformed.problem {
            Problem::TooLarge { size, limit, .. } => {
                failure.with("size", size).with("limit", limit)
            }
            _ => failure,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        write_failure(error, Shape::Updates)
    }
}

/// An error of a request of that shape.
pub(crate) fn write_failure(error: EngineError, shape: Shape<'_>) -> Failure {
    let message = error.to_string();
    let failure = |reason| Failure::new(reason, message.clone());
    match error {
        EngineError::Refused(refusal) => refused(refusal, shape),
        EngineError::Check(error) => check_failure(&error),
        EngineError::Filter(problem) => {
            let field = format!("filter.{}", problem.field());
            not_admitted(&problem, message).at(field)
        }
        EngineError::Internal(problem) => {
            tracing::error!(problem, "a request failed");
            Failure::new(reason::INTERNAL, INTERNAL_MESSAGE)
        }
        EngineError::NoSchema => failure(reason::NO_SCHEMA),
        EngineError::RevisionAhead { asked, newest } => failure(reason::REVISION_AHEAD)
            .with("asked", asked)
            .with("newest", newest),
        EngineError::RevisionTrimmed { asked, newest } => failure(reason::REVISION_TRIMMED)
            .with("asked", asked)
            .with("newest", newest),
        EngineError::EpochMismatch { asked, epoch } => failure(reason::EPOCH_MISMATCH)
            .with("asked", asked)
            .with("epoch", epoch),
        EngineError::CursorOutlived => failure(reason::REVISION_TRIMMED).at("cursor"),
        EngineError::MalformedCursor { .. } => failure(reason::MALFORMED_CURSOR).at("cursor"),
        EngineError::WatchedType { index, problem } => {
            not_admitted(&problem, message).at(format!("resource_types[{index}]"))
        }
        EngineError::TooManyWatchers { limit }
        | EngineError::TooManySnapshots { limit }
        | EngineError::TooManyStreams { limit } => failure(reason::OVERLOADED).with("limit", limit),
        EngineError::TooLarge { what, size, limit } => failure(reason::TOO_LARGE)
            .at(what)
            .with("size", size)
            .with("limit", limit),
        EngineError::StoreFailed { outcome, .. } => {
            failure(reason::STORE_FAILED).with_some("outcome", outcome.map(outcome_text))
        }
        EngineError::DeadlineExceeded { outcome } => {
            failure(reason::DEADLINE_EXCEEDED).with_some("outcome", outcome.map(outcome_text))
        }
        EngineError::ShuttingDown => failure(reason::SHUTTING_DOWN),
        EngineError::RevokedInPart {
            revoked,
            token,
            cause,
        } => {
            let words = format!("{revoked} tuples were revoked, up to revision {token}; then: ");
            (write_failure(*cause, shape).after(&words))
                .with("revoked", revoked)
                .with("revision", token)
        }
    }
}

fn outcome_text(outcome: WriteOutcome) -> &'static str {
    match outcome {
        WriteOutcome::Unknown => "unknown",
        WriteOutcome::NotWritten => "not_written",
    }
}

/// Why a question has no answer.
pub(crate) fn check_failure(error: &CheckError) -> Failure {
    let failure = |reason| Failure::new(reason, error.to_string());
    match error {
        CheckError::Listed { item, error: inner } => check_failure(inner)
            .saying(error.to_string())
            .with("item", item),
        CheckError::UnknownType {
            field,
            name,
            nearest,
        } => failure(reason::UNKNOWN_TYPE)
            .at(*field)
            .with("type", name)
            .with_some("nearest", nearest.as_ref()),
        CheckError::UnknownPermission {
            kind,
            name,
            nearest,
        } => failure(reason::UNKNOWN_PERMISSION)
            .at("permission")
            .with("type", kind)
            .with("permission", name)
            .with_some("nearest", nearest.as_ref()),
        CheckError::UnknownSubjectRelation {
            kind,
            name,
            nearest,
        } => failure(reason::UNKNOWN_RELATION)
            .at("subject")
            .with("type", kind)
            .with("relation", name)
            .with_some("nearest", nearest.as_ref()),
        CheckError::Context(problem) => failure(reason::CAVEAT_CONTEXT_INVALID)
            .at(format!("context.{}", problem.path))
            .with("parameter", &problem.path),
        CheckError::ContextualTuple { index, problem } => {
            let field = format!("contextual_tuples[{index}].{}", problem.field());
            not_admitted(problem, error.to_string()).at(field)
        }
        CheckError::TooManyExceptions { limit } => {
            failure(reason::TOO_COMPLEX).with("limit", limit)
        }
        CheckError::TooComplex { limit } | CheckError::SearchTooComplex { limit } => {
            failure(reason::TOO_COMPLEX).with("limit", limit)
        }
        CheckError::NegationCycle {
            resource,
            permission,
        } => failure(reason::NEGATION_CYCLE)
            .with("resource", resource)
            .with("permission", permission),
        CheckError::CaveatFailed { caveat, .. } => {
            failure(reason::CAVEAT_FAILED).with("caveat", caveat)
        }
    }
}

/// What clients are given as the reason of a refusal.
pub(crate) fn refusal_reason(refusal: &Refusal) -> &'static str {
    refused(refusal.clone(), Shape::Updates).reason.name
}

/// A tuple of a relation that is generated for roles.
fn of_relation(refusal: &Refusal, message: String, shape: Shape<'_>) -> Failure {
    let at = |update: &usize| shape.tuple(*update, "relation");
    match refusal {
        Refusal::GeneratedRelation { update, relation } => {
            let failure = Failure::new(reason::GENERATED_RELATION, message);
            failure.at(at(update)).with("relation", relation)
        }
        Refusal::UnknownAssignment { update, role } => {
            let failure = Failure::new(reason::ROLE_NOT_FOUND, message);
            failure.at(at(update)).with("role", role)
        }
        _ => Failure::new(reason::INTERNAL, INTERNAL_MESSAGE),
    }
}

fn refused(refusal: Refusal, shape: Shape<'_>) -> Failure {
    let message = refusal.to_string();
    let failure = |reason: Reason| Failure::new(reason, message.clone());
    match refusal {
        Refusal::NoSchema => failure(reason::NO_SCHEMA),
        Refusal::Named { field, problem } => not_admitted(&problem, message).at(field),
        Refusal::Malformed { field, .. } => failure(reason::MALFORMED_REQUEST).at(field),
        refusal @ (Refusal::UnknownLockMode { .. }
        | Refusal::ReasonRequired
        | Refusal::TtlInvalid(_)
        | Refusal::LockExists(_)
        | Refusal::LockNotFound(_)) => rules::of_lock(refusal, &message),
        refusal @ (Refusal::RoleExists(_)
        | Refusal::RoleNotFound { .. }
        | Refusal::RoleBuiltin { .. }
        | Refusal::RoleKeyTaken { .. }
        | Refusal::UnknownPermission { .. }
        | Refusal::NotIncludable { .. }) => rules::of_role(refusal, &message),
        Refusal::Rule(violation) => rules::violated(*violation, &message, shape),
        Refusal::NothingToDo => failure(reason::MALFORMED_REQUEST).at(shape.path("updates")),
        Refusal::NotAdmitted {
            update,
            tuple,
            problem,
        } => not_admitted(&problem, message)
            .at(shape.tuple(update, problem.field()))
            .with("tuple", tuple),
        Refusal::CaveatContext {
            update,
            tuple,
            caveat,
            problem,
        } => failure(reason::CAVEAT_CONTEXT_INVALID)
            .at(shape.tuple(update, format_args!("caveat.context.{}", problem.path)))
            .with("tuple", tuple)
            .with("caveat", caveat)
            .with("parameter", problem.path),
        refusal @ (Refusal::GeneratedRelation { .. } | Refusal::UnknownAssignment { .. }) => {
            of_relation(&refusal, message, shape)
        }
        Refusal::Filter { field, problem } => {
            let field = format!("{field}.{}", problem.field());
            not_admitted(&problem, message).at(field)
        }
        Refusal::DuplicateUpdate {
            first,
            second,
            tuple,
        } => failure(reason::DUPLICATE_UPDATE)
            .at(shape.update(second))
            .with("first", first)
            .with("second", second)
            .with("tuple", tuple),
        Refusal::TupleExists { update, tuple } => failure(reason::TUPLE_EXISTS)
            .at(shape.update(update))
            .with("tuple", tuple),
        Refusal::TupleNotFound { update, tuple } => failure(reason::TUPLE_NOT_FOUND)
            .at(shape.update(update))
            .with("tuple", tuple),
        Refusal::PreconditionFailed {
            precondition,
            found,
        } => failure(reason::PRECONDITION_FAILED)
            .at(format!("preconditions[{precondition}]"))
            .with("precondition", precondition)
            .with_some("found", found),
        Refusal::FilterEmpty { field } => failure(reason::FILTER_EMPTY).at(field),
        Refusal::TooLarge { what, size, limit } => failure(reason::TOO_LARGE)
            .at(shape.path(&what))
            .with("size", size)
            .with("limit", limit),
        Refusal::LimitExceeded { limit } => failure(reason::LIMIT_EXCEEDED)
            .at("limit")
            .with("limit", limit),
        Refusal::KeyReused { key, revision } => failure(reason::KEY_REUSED)
            .at("options.idempotency_key")
            .with("key", key)
            .with("revision", revision),
        Refusal::QuotaExceeded { limit, retry_after } => failure(reason::QUOTA_EXCEEDED)
            .with("limit", limit)
            .retry_after(retry_after),
        Refusal::SchemaInvalid(diagnostics) => schema_invalid(&diagnostics, message, shape),
        Refusal::SchemaChanged { asked, current } => failure(reason::SCHEMA_CHANGED)
            .at("if_revision")
            .with("asked", asked)
            .with("current", current),
        // Only `serve` loads templates; no request can meet this.
        Refusal::Begun(current) => failure(reason::SCHEMA_CHANGED).with("current", current),
        Refusal::EpochMismatch { asked, epoch } => failure(reason::EPOCH_MISMATCH)
            .at("if_revision")
            .with("asked", asked)
            .with("epoch", epoch),
        Refusal::SchemaWouldOrphan {
            what,
            count,
            example,
            problem: _,
        } => failure(reason::SCHEMA_WOULD_ORPHAN)
            .with("what", what)
            .with("count", count)
            .with("example", example),
    }
}

/// The message is all that a compiler would print, the metadata the place of the first error.
fn schema_invalid(diagnostics: &[Diagnostic], message: String, shape: Shape<'_>) -> Failure {
    let is_error = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error;
    let errors = || diagnostics.iter().filter(is_error);
    let message = match shape {
        Shape::Schema(text) => errors()
            .map(|error| error.render(text, "schema"))
            .collect::<Vec<_>>()
            .join("\n"),
        Shape::Tuples | Shape::Updates => message,
    };
    let failure = Failure::new(reason::SCHEMA_INVALID, message).at("schema");
    match errors().next() {
        None => failure,
        Some(first) => failure
            .with("line", first.line)
            .with("column", first.column)
            .with("code", first.code)
            .with_some("nearest", first.nearest.as_ref())
            .with("errors", errors().count()),
    }
}

fn not_admitted(problem: &NotAdmitted, message: String) -> Failure {
    let failure = |reason| Failure::new(reason, message);
    match problem {
        NotAdmitted::UnknownType { name, nearest, .. } => failure(reason::UNKNOWN_TYPE)
            .with("type", name)
            .with_some("nearest", nearest.as_ref()),
        NotAdmitted::UnknownRelation {
            kind,
            name,
            nearest,
            ..
        } => failure(reason::UNKNOWN_RELATION)
            .with("type", kind)
            .with("relation", name)
            .with_some("nearest", nearest.as_ref()),
        NotAdmitted::UnknownName { name, nearest, .. } => failure(reason::UNKNOWN_RELATION)
            .with("relation", name)
            .with_some("nearest", nearest.as_ref()),
        NotAdmitted::NotARelation { kind, name } => failure(reason::UNKNOWN_RELATION)
            .with("type", kind)
            .with("permission", name),
        NotAdmitted::UnknownCaveat { name, nearest } => failure(reason::UNKNOWN_CAVEAT)
            .with("caveat", name)
            .with_some("nearest", nearest.as_ref()),
        NotAdmitted::SubjectNotAllowed {
            relation, allowed, ..
        }
        | NotAdmitted::CaveatRequired {
            relation, allowed, ..
        }
        | NotAdmitted::CaveatNotAllowed {
            relation, allowed, ..
        }
        | NotAdmitted::ExpirationRequired {
            relation, allowed, ..
        }
        | NotAdmitted::ExpirationNotAllowed {
            relation, allowed, ..
        } => failure(reason::SUBJECT_NOT_ALLOWED)
            .with("relation", relation)
            .with("allowed", allowed),
    }
}

mod rules;

#[cfg(test)]
mod tests;
