#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

use super::*;
use crate::eval::caveats::ContextError;
use crate::revision::Token;

/// Reason, field (`-` for none) and metadata as `key=value`, sorted.
fn check(failure: Failure, expected: &str) {
    let status = Status::from(failure);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let field = details
        .bad_request()
        .map_or("-", |bad| &bad.field_violations[0].field);
    let mut pairs: Vec<_> = info.metadata.iter().collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!(" {k}={v}")).collect();
    assert_eq!(
        format!("{} {field}{}", info.reason, pairs.concat()),
        expected
    );
    assert!(!status.message().is_empty());
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

#[test]
fn engine_errors() {
    let (asked, newest) = (token("9@abc"), token("7@abc"));
    let store = |outcome| EngineError::StoreFailed {
        outcome,
        problem: text("no space left"),
    };
    let late = |outcome| EngineError::DeadlineExceeded { outcome };
    let cases = [
        (EngineError::NoSchema, "NO_SCHEMA -"),
        (
            EngineError::RevisionAhead { asked, newest },
            "REVISION_AHEAD - asked=9@000abc newest=7@000abc",
        ),
        (
            EngineError::RevisionTrimmed { asked, newest },
            "REVISION_TRIMMED - asked=9@000abc newest=7@000abc",
        ),
        (
            EngineError::EpochMismatch {
                asked,
                epoch: token("1@def").epoch,
            },
            "EPOCH_MISMATCH - asked=9@000abc epoch=000def",
        ),
        (EngineError::CursorOutlived, "REVISION_TRIMMED cursor"),
        (
            EngineError::MalformedCursor { problem: "is old" },
            "MALFORMED_CURSOR cursor",
        ),
        (
            EngineError::TooLarge {
                what: "items",
                size: 3,
                limit: 2,
            },
            "TOO_LARGE items limit=2 size=3",
        ),
        (store(None), "STORE_FAILED -"),
        (
            store(Some(WriteOutcome::Unknown)),
            "STORE_FAILED - outcome=unknown",
        ),
        (
            late(Some(WriteOutcome::NotWritten)),
            "DEADLINE_EXCEEDED - outcome=not_written",
        ),
        (EngineError::ShuttingDown, "SHUTTING_DOWN -"),
    ];
    for (error, expected) in cases {
        check(Failure::from(error), expected);
    }
}

#[test]
fn check_errors() {
    let nearest = Some(text("near"));
    let cases = [
        (
            CheckError::UnknownType {
                field: "subject",
                name: text("usr"),
                nearest: nearest.clone(),
            },
            "UNKNOWN_TYPE subject nearest=near type=usr",
        ),
        (
            CheckError::UnknownPermission {
                kind: text("a"),
                name: text("b"),
                nearest: None,
            },
            "UNKNOWN_PERMISSION permission permission=b type=a",
        ),
        (
            CheckError::UnknownSubjectRelation {
                kind: text("a"),
                name: text("b"),
                nearest,
            },
            "UNKNOWN_RELATION subject nearest=near relation=b type=a",
        ),
        (
            CheckError::ContextualTuple {
                index: 2,
                problem: NotAdmitted::UnknownCaveat {
                    name: text("c"),
                    nearest: None,
                },
            },
            "UNKNOWN_CAVEAT contextual_tuples[2].caveat caveat=c",
        ),
        (CheckError::TooComplex { limit: 5 }, "TOO_COMPLEX - limit=5"),
        (
            CheckError::NegationCycle {
                resource: text("a:1"),
                permission: text("p"),
            },
            "NEGATION_CYCLE - permission=p resource=a:1",
        ),
        (
            CheckError::CaveatFailed {
                caveat: text("c"),
                problem: text("1/0"),
            },
            "CAVEAT_FAILED - caveat=c",
        ),
        (
            CheckError::Context(ContextError {
                path: text("networks[2]"),
                problem: text("is no address"),
            }),
            "CAVEAT_CONTEXT_INVALID context.networks[2] parameter=networks[2]",
        ),
    ];
    for (error, expected) in cases {
        check(check_failure(&error), expected);
    }
}

#[test]
fn refusals_name_the_field_as_the_request_has_it() {
    let not_admitted = || Refusal::NotAdmitted {
        update: 3,
        tuple: text("t"),
        problem: Box::new(NotAdmitted::UnknownType {
            field: "subject",
            name: text("usr"),
            nearest: None,
        }),
    };
    let exists = || Refusal::TupleExists {
        update: 1,
        tuple: text("t"),
    };
    let large = || Refusal::TooLarge {
        what: text("updates"),
        size: 3,
        limit: 2,
    };
    let cases = [
        (
            not_admitted(),
            Shape::Updates,
            "UNKNOWN_TYPE updates[3].tuple.subject tuple=t type=usr",
        ),
        (
            not_admitted(),
            Shape::Tuples,
            "UNKNOWN_TYPE tuples[3].subject tuple=t type=usr",
        ),
        (exists(), Shape::Updates, "TUPLE_EXISTS updates[1] tuple=t"),
        (exists(), Shape::Tuples, "TUPLE_EXISTS tuples[1] tuple=t"),
        (large(), Shape::Tuples, "TOO_LARGE tuples limit=2 size=3"),
        (large(), Shape::Updates, "TOO_LARGE updates limit=2 size=3"),
        (
            Refusal::NothingToDo,
            Shape::Tuples,
            "MALFORMED_REQUEST tuples",
        ),
        (
            Refusal::PreconditionFailed {
                precondition: 4,
                found: None,
            },
            Shape::Updates,
            "PRECONDITION_FAILED preconditions[4] precondition=4",
        ),
    ];
    for (refusal, shape, expected) in cases {
        check(
            write_failure(EngineError::Refused(refusal), shape),
            expected,
        );
    }
}

#[test]
fn a_full_quota_says_when_to_come_back() {
    let refusal = Refusal::QuotaExceeded {
        limit: 1,
        retry_after: Duration::from_secs(60),
    };
    let status = Status::from(Failure::from(EngineError::Refused(refusal)));
    let retry = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(60)));
}

#[test]
fn an_invalid_schema_is_shown_as_a_compiler_would() {
    let schema = "definition a {\n  relation b: usr\n}\n";
    let error = Diagnostic {
        nearest: Some(text("user")),
        ..Diagnostic::new(
            Severity::Error,
            schema,
            29..32,
            "unknown-type",
            "no type usr",
        )
    };
    let refusal = || EngineError::Refused(Refusal::SchemaInvalid(vec![error.clone()]));
    let failure = write_failure(refusal(), Shape::Schema(schema));
    assert!(failure.message().contains("  relation b: usr"));
    assert!(failure.message().contains("^^^"));
    check(
        failure,
        "SCHEMA_INVALID schema code=unknown-type column=15 errors=1 line=2 nearest=user",
    );
}
