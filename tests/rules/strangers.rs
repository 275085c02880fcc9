//! Who has no right learns nothing: every call that writes says to a stranger what it would say if
//! less stood, or more.

use std::time::Duration;

use portcullis::engine::{Engine, EngineError};
use portcullis::plan::{
    Action, Assignment, Command, LockWanted, Operation, Refusal, RoleEdit, RoleWanted,
};
use portcullis::rules::Violation;
use portcullis::tuple::TupleFilter;

use crate::tuples::{by, engine, outcome};
use crate::world::{command, filter, keyed, write};

const SCHEMA: &str = "use expiration
definition user {}
definition team { relation member: user }
definition organization {
    relation owner: user | team#member     min 1  granted by own
    relation member: user | user:*         granted by administer
    relation banned: user                  granted by administer
    relation lead: user                    granted by administer  requires belong
    relation note: user
    permission own = owner
    permission administer = owner + role admin
    permission belong = administer + member - banned
    permission act = administer + any role
    assigns role granted by administer capped
    lock freeze { blocks act  except own  granted by own  seals }
}
roles role of organization {
    held by user
    granted by own capped
    builtin admin includes * granted by own min 1
    builtin member
}
definition application {
    relation organization: organization    granted by organization->administer
    relation reader: user                  granted by organization->administer
    permission read = reader + any role
    assigns role granted by organization->administer inherits organization
}";

/// In both worlds somebody owns what is there.
const LESS: &[&str] = &[
    "+organization:acme#owner@user:olga",
    "+application:shop#organization@organization:acme",
    "+organization:other#owner@user:eve",
];

/// What only the second has.
const MORE: &[&str] = &[
    "+organization:acme#member@user:bob",
    "+organization:acme#member@user:*",
    "+organization:acme#banned@user:eve",
    "+organization:acme#lead@user:olga",
    "+organization:acme#note@user:bob",
    "+application:shop#reader@user:bob",
];

fn create(key: &str) -> Command {
    command(Action::CreateRole(RoleWanted {
        owner: "organization:acme".parse().unwrap(),
        key: key.into(),
        title: "".into(),
        permissions: vec!["organization.act".into()],
    }))
}

fn edit(key: &str, title: Option<&str>, allow: &[&str]) -> Command {
    command(Action::UpdateRole(RoleEdit {
        role: format!("role:acme/{key}").parse().unwrap(),
        title: title.map(Into::into),
        allow: allow.iter().map(|name| (*name).into()).collect(),
        disallow: Vec::new(),
    }))
}

fn delete(key: &str) -> Command {
    let role = format!("role:acme/{key}").parse().unwrap();
    command(Action::DeleteRole { role })
}

fn assign(operation: Operation, key: &str, subject: &str, resource: &str) -> Assignment {
    let role = format!("role:acme/{key}").parse().unwrap();
    let (subject, resource) = (subject.parse().unwrap(), resource.parse().unwrap());
    Assignment::new(operation, role, subject, resource)
}

fn assigned(assignments: Vec<Assignment>) -> Command {
    command(Action::Assign { assignments })
}

fn lock(resource: &str, id: Option<&str>, reason: &str) -> Command {
    let mut command = command(Action::Lock(LockWanted {
        resource: resource.parse().unwrap(),
        mode: "freeze".into(),
        exempt: Vec::new(),
        ttl: Some(Duration::from_secs(60)),
        lock_id: id.map(Into::into),
    }));
    command.options.reason = reason.into();
    command
}

fn matching(filter: TupleFilter, limit: u32) -> Command {
    command(Action::RevokeMatching { filter, limit })
}

fn of(text: &str, subject: &str) -> TupleFilter {
    let (kind, id) = subject.split_once(':').unwrap();
    TupleFilter {
        subject_type: Some(kind.into()),
        subject_id: (!id.is_empty()).then(|| id.into()),
        ..filter(text)
    }
}

/// Of no single resource.
fn unnamed(kind: &str, relation: &str, prefix: &str) -> TupleFilter {
    TupleFilter {
        resource_type: Some(kind.into()),
        resource_id_prefix: (!prefix.is_empty()).then(|| prefix.into()),
        relation: Some(relation.into()),
        ..TupleFilter::default()
    }
}

/// A world with roles, assignments and a lock beside its tuples, or without.
async fn world(more: bool) -> Engine {
    let engine = engine(SCHEMA).await;
    outcome(&engine, write(LESS)).await;
    if more {
        let give = |key, who| assign(Operation::Grant, key, who, "organization:acme");
        let everything = [
            create("ops"),
            assigned(vec![give("ops", "user:bob"), give("admin", "user:ann")]),
            write(MORE),
            lock("organization:acme", Some("taken"), "r"),
        ];
        for command in everything {
            let said = outcome(&engine, command).await;
            assert!(!said.contains("not"), "{said}");
        }
    }
    engine
}

/// What a stranger hears, without who has the right: that is for callers that may read.
async fn heard(engine: &Engine, command: Command) -> String {
    match engine.write(command, None).await {
        Err(EngineError::Refused(Refusal::Rule(broken))) => match *broken {
            Violation::Denied(mut denied) => {
                if let Some(needed) = &mut denied.needed {
                    needed.holders.clear();
                }
                format!("denied: {denied}")
            }
            denied @ Violation::FilterDenied { .. } => format!("denied: {denied}"),
            other => format!("{other}"),
        },
        other => format!("{:?}", other.map(|written| written.revoked)),
    }
}

/// What a stranger may try, by what it would be told if rights were judged later.
fn attempts() -> Vec<(&'static str, Command)> {
    [tuples(), filters(), locks_and_roles()].concat()
}

fn tuples() -> Vec<(&'static str, Command)> {
    vec![
        (
            "what stands",
            write(&["+organization:acme#member@user:bob"]),
        ),
        (
            "TUPLE_EXISTS",
            write(&["!organization:acme#member@user:bob"]),
        ),
        (
            "TUPLE_NOT_FOUND",
            write(&["/organization:acme#member@user:bob"]),
        ),
        (
            "revoked or not",
            write(&["-organization:acme#member@user:bob"]),
        ),
        ("nobody may", write(&["-organization:acme#note@user:bob"])),
        (
            "MINIMUM_VIOLATED",
            write(&["-organization:acme#owner@user:olga"]),
        ),
        (
            "REQUIREMENT_NOT_MET",
            write(&["+organization:acme#lead@user:bob"]),
        ),
        (
            "its own ban",
            write(&["/organization:acme#banned@user:eve"]),
        ),
        (
            "PRECONDITION_FAILED",
            write(&[
                "?organization:acme#member",
                "+organization:acme#member@user:x",
            ]),
        ),
        (
            "PRECONDITION_FAILED",
            write(&[
                "?!organization:acme#member",
                "+organization:acme#member@user:x",
            ]),
        ),
        (
            "a parent",
            write(&["/application:shop#organization@organization:acme"]),
        ),
        (
            "one right of two",
            write(&[
                "+organization:other#member@user:x",
                "!organization:acme#member@user:bob",
            ]),
        ),
    ]
}

fn filters() -> Vec<(&'static str, Command)> {
    let acme = "organization:acme";
    let member = "organization:acme#member";
    let named = |relation: &str| TupleFilter {
        relation: Some(relation.into()),
        ..filter(acme)
    };
    vec![
        (
            "what no resource is named of",
            matching(unnamed("application", "reader", ""), 0),
        ),
        (
            "what begins so",
            matching(unnamed("organization", "member", "acm"), 0),
        ),
        (
            "what all of a relation are",
            matching(unnamed("organization", "lead", ""), 1),
        ),
        ("nothing matches", matching(filter(member), 0)),
        ("LIMIT_EXCEEDED", matching(filter(member), 1)),
        ("nothing matches", matching(filter(acme), 0)),
        ("nothing matches", matching(of(member, "user:bob"), 0)),
        ("nothing matches", matching(of(member, "user:*"), 0)),
        ("nothing matches", matching(of(acme, "user:bob"), 0)),
        (
            "nothing matches",
            matching(of("application:shop#reader", "user:bob"), 0),
        ),
        ("nothing matches", matching(filter("application:shop"), 0)),
        (
            "nothing matches",
            matching(of("organization:acme#banned", "user:eve"), 0),
        ),
        ("nobody may", matching(filter("organization:acme#note"), 0)),
        ("nothing matches", matching(named("role=acme/ops"), 0)),
        ("nothing matches", matching(named("role=acme/admin"), 0)),
        ("nothing matches", matching(named("role="), 0)),
        (
            "nothing matches",
            matching(
                TupleFilter {
                    resource_type: None,
                    relation: Some("member".into()),
                    ..filter(acme)
                },
                0,
            ),
        ),
    ]
}

fn locks_and_roles() -> Vec<(&'static str, Command)> {
    let acme = "organization:acme";
    let give = |key, who| assign(Operation::Grant, key, who, acme);
    let take = |key, who| assign(Operation::Revoke, key, who, acme);
    let mut moved = vec![
        assign(Operation::Delete, "ops", "user:bob", acme),
        give("member", "user:bob"),
    ];
    moved[1].ends_with = Some(moved[0].role.clone());
    vec![
        ("LOCK_EXISTS", lock(acme, Some("taken"), "why not")),
        ("REASON_REQUIRED", lock(acme, None, "")),
        ("ROLE_EXISTS", create("ops")),
        ("ROLE_EXISTS", create("admin")),
        ("ROLE_NOT_FOUND", edit("ops", Some("x"), &[])),
        ("ROLE_BUILTIN", edit("admin", Some("x"), &[])),
        ("it has that", edit("ops", None, &["organization.act"])),
        ("ROLE_NOT_FOUND", delete("ops")),
        ("ROLE_BUILTIN", delete("member")),
        ("ROLE_NOT_FOUND", assigned(vec![give("ops", "user:x")])),
        ("it has that", assigned(vec![give("ops", "user:bob")])),
        ("not assigned", assigned(vec![take("ops", "user:bob")])),
        (
            "MINIMUM_VIOLATED",
            assigned(vec![take("admin", "user:ann")]),
        ),
        (
            "TUPLE_NOT_FOUND",
            assigned(vec![assign(Operation::Delete, "ops", "user:bob", acme)]),
        ),
        ("TUPLE_NOT_FOUND", assigned(moved)),
        (
            "ROLE_NOT_FOUND",
            assigned(vec![assign(
                Operation::Grant,
                "ops",
                "user:x",
                "application:shop",
            )]),
        ),
    ]
}

#[tokio::test]
async fn a_stranger_hears_the_same_whatever_stands() {
    let (less, more) = (world(false).await, world(true).await);
    for (place, (about, attempt)) in attempts().into_iter().enumerate() {
        let mut dry = attempt.clone();
        dry.options.dry_run = true;
        let key = format!("key {place}");
        let ways = [attempt.clone(), dry, keyed(attempt, "caller", &key)];
        for command in ways {
            let command = by("user:eve", command);
            let there = heard(&more, command.clone()).await;
            assert!(there.starts_with("denied: "), "{place}, {about}: {there}");
            // A refusal is not remembered: the repeat is judged anew.
            assert_eq!(
                heard(&more, command.clone()).await,
                there,
                "{place}, {about}"
            );
            assert_eq!(heard(&less, command).await, there, "{place}, {about}");
        }
    }
}

/// Whom something there is the business of, is told that there was nothing; and what is one's own
/// may be given up, be it there or not.
#[tokio::test]
async fn nothing_matches_for_whom_something_could() {
    let own_role = TupleFilter {
        relation: Some("role=acme/ops".into()),
        ..of("organization:acme", "user:eve")
    };
    let cases = [
        ("user:olga", matching(filter("organization:acme#member"), 0)),
        ("user:olga", matching(of("organization:acme", "user:x"), 0)),
        ("user:olga", matching(filter("application:shop#reader"), 0)),
        (
            "user:eve",
            matching(of("organization:acme#member", "user:eve"), 0),
        ),
        ("user:eve", matching(of("organization:acme", "user:eve"), 0)),
        ("user:eve", matching(own_role, 0)),
        ("", matching(filter("organization:acme#note"), 0)),
    ];
    let engine = world(false).await;
    for (place, (actor, command)) in cases.into_iter().enumerate() {
        assert_eq!(outcome(&engine, by(actor, command)).await, "0/0", "{place}");
    }
    // As they are where there is something: all of it is judged.
    let engine = world(true).await;
    let hers = write(&["+organization:acme#member@user:eve"]);
    assert_eq!(outcome(&engine, by("user:olga", hers)).await, "1/0");
    let mine = matching(of("organization:acme#member", "user:eve"), 0);
    let sealed = outcome(&engine, by("user:eve", mine.clone())).await;
    assert!(sealed.contains("is sealed"), "{sealed}");
}

/// A filter that reaches further than a right says where the right ends, and names no tuple.
#[tokio::test]
async fn a_filter_names_nobody_to_whom_has_no_right() {
    let engine = engine(SCHEMA).await;
    outcome(&engine, write(LESS)).await;
    let admin = assign(Operation::Grant, "admin", "user:ann", "organization:acme");
    outcome(&engine, assigned(vec![admin])).await;
    let all = matching(filter("organization:acme"), 0);
    assert_eq!(
        outcome(&engine, by("user:ann", all)).await,
        "user:ann may not revoke tuples of organization:acme#owner: `owner (granted by)` needs \
         `own` on organization:acme; user:olga has that"
    );
    let kind = TupleFilter {
        resource_id: None,
        ..filter("organization:acme#owner")
    };
    let said = outcome(&engine, by("user:tim", matching(kind, 0))).await;
    assert!(
        said.starts_with("user:tim may not revoke by this filter: "),
        "{said}"
    );
}
