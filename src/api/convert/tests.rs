#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use tonic::Status;
use tonic_types::StatusExt as _;

use super::*;
use crate::api::status::Failure;

fn wire(resource: &str, relation: &str, subject: &str) -> proto::Tuple {
    proto::Tuple {
        resource: resource.to_owned(),
        relation: relation.to_owned(),
        subject: subject.to_owned(),
        ..proto::Tuple::default()
    }
}

fn good() -> proto::Tuple {
    wire("environment:prod", "guest", "user:bob")
}

fn caveated(name: &str) -> proto::Tuple {
    let caveat = proto::Caveat {
        name: name.to_owned(),
        context: None,
    };
    proto::Tuple {
        caveat: Some(caveat),
        ..good()
    }
}

/// What a client sees of the error: reason and field.
fn check<T: fmt::Debug>(result: Result<T, Malformed>, reason: &str, field: &str) {
    let status = Status::from(Failure::from(result.unwrap_err()));
    let details = status.get_error_details();
    let seen_field = &details.bad_request().unwrap().field_violations[0].field;
    assert_eq!(seen_field, field, "{status:?}");
    assert_eq!(details.error_info().unwrap().reason, reason, "{status:?}");
}

#[test]
fn tuples_survive_the_way_there_and_back() {
    let full = proto::Tuple {
        caveat: Some(proto::Caveat {
            name: "within/hours".to_owned(),
            context: Some(prost_types::Struct {
                fields: [("a".to_owned(), true.into())].into(),
            }),
        }),
        expires_at: Some(prost_types::Timestamp {
            seconds: 5,
            nanos: 7,
        }),
        ..wire("folder:a", "viewer", "team:x#member")
    };
    for from in [good(), full, wire("a:1", "r", "user:*")] {
        assert_eq!(to_tuple(&tuple(from.clone()).unwrap()), from);
    }
}

#[test]
fn malformed_tuples_name_their_field() {
    let late = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let cases = [
        (
            wire("prod", "guest", "user:bob"),
            "MALFORMED_TUPLE",
            "resource",
        ),
        (
            wire("environment:*", "guest", "user:bob"),
            "MALFORMED_TUPLE",
            "resource",
        ),
        (wire("a:1", "", "user:bob"), "MALFORMED_TUPLE", "relation"),
        (
            wire("a:1", "x y", "user:bob"),
            "MALFORMED_TUPLE",
            "relation",
        ),
        (wire("a:1", "r", "user:"), "MALFORMED_TUPLE", "subject"),
        (caveated(""), "MALFORMED_REQUEST", "caveat.name"),
        (caveated("a b"), "MALFORMED_REQUEST", "caveat.name"),
        (
            proto::Tuple {
                expires_at: Some(late),
                ..good()
            },
            "MALFORMED_REQUEST",
            "expires_at",
        ),
    ];
    for (from, reason, field) in cases {
        check(tuple(from.clone()), reason, field);
        let tuples = vec![good(), from];
        let request = proto::GrantRequest {
            tuples,
            options: None,
        };
        check(
            writes::grant(request),
            reason,
            &format!("tuples[1].{field}"),
        );
    }
}

#[test]
fn malformed_updates_name_their_field() {
    let grant = proto::update::Operation::Grant.into();
    let cases = [
        (0, Some(good()), "MALFORMED_REQUEST", "updates[0].operation"),
        (9, Some(good()), "MALFORMED_REQUEST", "updates[0].operation"),
        (grant, None, "MALFORMED_REQUEST", "updates[0].tuple"),
        (
            grant,
            Some(wire("a:1", "r", "bob")),
            "MALFORMED_TUPLE",
            "updates[0].tuple.subject",
        ),
    ];
    for (operation, tuple, reason, field) in cases {
        let request = proto::WriteRequest {
            updates: vec![proto::Update { operation, tuple }],
            ..proto::WriteRequest::default()
        };
        check(writes::write(request), reason, field);
    }
}

#[test]
fn a_revocation_does_not_look_at_caveats() {
    let request = proto::RevokeRequest {
        tuples: vec![caveated("")],
        ..proto::RevokeRequest::default()
    };
    assert!(writes::revoke(request).is_ok());
    let update = proto::Update {
        operation: proto::update::Operation::Delete.into(),
        tuple: Some(caveated("")),
    };
    assert!(super::update(update).unwrap().tuple.caveat.is_none());
}

#[test]
fn what_to_revoke_is_said_once() {
    let filter = || {
        Some(proto::TupleFilter {
            relation: "guest".to_owned(),
            ..proto::TupleFilter::default()
        })
    };
    let empty = Some(proto::TupleFilter::default());
    let cases = [
        (vec![], None, 0, "MALFORMED_REQUEST", "tuples"),
        (vec![good()], filter(), 0, "MALFORMED_REQUEST", "filter"),
        (vec![good()], None, 3, "MALFORMED_REQUEST", "limit"),
        (vec![], empty, 0, "FILTER_EMPTY", "filter"),
    ];
    for (tuples, filter, limit, reason, field) in cases {
        let request = proto::RevokeRequest {
            tuples,
            filter,
            limit,
            options: None,
        };
        check(writes::revoke(request), reason, field);
    }
}

#[test]
fn preconditions_expect_something() {
    let some = Some(proto::TupleFilter {
        resource: "a:1".to_owned(),
        ..proto::TupleFilter::default()
    });
    let cases = [
        (some, 0, "MALFORMED_REQUEST", "expectation"),
        (None, 1, "FILTER_EMPTY", "filter"),
    ];
    for (filter, expectation, reason, field) in cases {
        let from = proto::Precondition {
            filter,
            expectation,
        };
        check(precondition(from), reason, field);
    }
}

#[test]
fn consistency_is_read() {
    use proto::consistency::Requirement::{AtLeast, Exactly, Full};
    let read = |requirement| consistency(Some(proto::Consistency { requirement }));
    let token = "7@9f3ac1".parse().unwrap();
    assert_eq!(read(None), Ok(Consistency::Newest));
    assert_eq!(read(Some(Full(true))), Ok(Consistency::Full));
    let at_least = read(Some(AtLeast("7@9f3ac1".to_owned())));
    assert_eq!(at_least, Ok(Consistency::AtLeast(token)));
    let cases = [
        (Full(false), "MALFORMED_REQUEST", "consistency.full"),
        (
            AtLeast("7".to_owned()),
            "MALFORMED_REVISION",
            "consistency.at_least",
        ),
        (
            Exactly(String::new()),
            "MALFORMED_REVISION",
            "consistency.exactly",
        ),
    ];
    for (requirement, reason, field) in cases {
        check(read(Some(requirement)), reason, field);
    }
}

#[test]
fn options_are_read() {
    let set = |options| write_options(Some(options));
    let base = proto::WriteOptions::default;
    let negative = prost_types::Duration {
        seconds: -1,
        nanos: 0,
    };
    let cases = [
        (
            proto::WriteOptions {
                actor: "alice".to_owned(),
                ..base()
            },
            "MALFORMED_REFERENCE",
            "options.actor",
        ),
        (
            proto::WriteOptions {
                actor: "user:*".to_owned(),
                ..base()
            },
            "MALFORMED_REQUEST",
            "options.actor",
        ),
        (
            proto::WriteOptions {
                wait_for_watchers: Some(negative),
                ..base()
            },
            "MALFORMED_REQUEST",
            "options.wait_for_watchers",
        ),
    ];
    for (options, reason, field) in cases {
        check(set(options), reason, field);
    }
    assert_eq!(set(base()).unwrap(), WriteOptions::default());
}

#[test]
fn a_reference_stands_for_its_parts() {
    let filter = |resource: &str, subject: &str| {
        let from = proto::TupleFilter {
            resource: resource.to_owned(),
            subject: subject.to_owned(),
            ..proto::TupleFilter::default()
        };
        filters::filter(from).unwrap()
    };
    let named = |kind: &str, relation: &str, subject: &str| {
        tuple(wire(&format!("{kind}:1"), relation, subject)).unwrap()
    };
    let cases = [
        ("a:1", "", named("a", "r", "user:bob"), true),
        ("a:1", "", named("b", "r", "user:bob"), false),
        ("", "user:bob", named("a", "r", "user:bob"), true),
        ("", "team:x", named("a", "r", "team:x#member"), false),
        ("", "team:x#member", named("a", "r", "team:x#member"), true),
        ("", "user:*", named("a", "r", "user:*"), true),
        ("", "user:*", named("a", "r", "user:bob"), false),
    ];
    for (resource, subject, tuple, matches) in cases {
        let filter = filter(resource, subject);
        assert_eq!(
            filter.matches(&tuple),
            matches,
            "{resource} {subject} {tuple}"
        );
    }
}

#[test]
fn filters_do_not_contradict_themselves() {
    let base = proto::TupleFilter::default;
    let text = |text: &str| text.to_owned();
    let cases = [
        (
            proto::TupleFilter {
                resource: text("a:1"),
                resource_type: text("b"),
                ..base()
            },
            "MALFORMED_REQUEST",
            "resource",
        ),
        (
            proto::TupleFilter {
                subject: text("a:1"),
                subject_relation: Some(text("")),
                ..base()
            },
            "MALFORMED_REQUEST",
            "subject",
        ),
        (
            proto::TupleFilter {
                resource: text("prod"),
                ..base()
            },
            "MALFORMED_REFERENCE",
            "resource",
        ),
    ];
    for (from, reason, field) in cases {
        check(filters::filter(from), reason, field);
    }
}

#[test]
fn questions_name_their_malformed_field() {
    let request = |subject: &str, permission: &str, resource: &str| proto::CheckRequest {
        subject: subject.to_owned(),
        permission: permission.to_owned(),
        resource: resource.to_owned(),
        ..proto::CheckRequest::default()
    };
    let cases = [
        (
            request("bob", "deploy", "a:1"),
            "MALFORMED_REFERENCE",
            "subject",
        ),
        (
            request("user:bob", "", "a:1"),
            "MALFORMED_REQUEST",
            "permission",
        ),
        (
            request("user:bob", "a b", "a:1"),
            "MALFORMED_REQUEST",
            "permission",
        ),
        (
            request("user:bob", "deploy", "a"),
            "MALFORMED_REFERENCE",
            "resource",
        ),
    ];
    for (request, reason, field) in cases {
        let (asked, _) = questions::check(request).unwrap();
        check(asked.question(), reason, field);
    }
    let many = proto::CheckRequest {
        contextual_tuples: vec![good(); 101],
        ..request("user:bob", "deploy", "a:1")
    };
    check(questions::check(many), "TOO_LARGE", "contextual_tuples");
    let bad = proto::CheckRequest {
        contextual_tuples: vec![good(), wire("a:1", "r", "bob")],
        ..request("user:bob", "deploy", "a:1")
    };
    let field = "contextual_tuples[1].subject";
    check(questions::check(bad), "MALFORMED_TUPLE", field);
}
