//! Roles: who makes, edits and assigns them.

use portcullis::plan::{Action, Assignment, Command, Operation, RoleEdit, RoleWanted};

use crate::tuples::{by, engine, outcome};
use crate::world::{command, filter, write};

const SCHEMA: &str = "use expiration
definition user {}
definition team { relation member: user }
definition organization {
    relation owner: user    granted by own
    relation chief: user    granted by own
    permission own = owner
    permission administer = owner + chief
    permission invite = owner + any role
    permission fire = owner + any role
    permission read = owner + chief + any role
    assigns role granted by administer capped
}
roles role of organization {
    held by user | team#member
    granted by administer capped
    builtin admin includes * granted by own min 1
    builtin member includes organization.read
}
definition application {
    relation organization: organization   granted by organization->administer
    permission administer = organization->administer
    permission deploy = organization->own + any role
    /** Gone for good. @sensitive */
    permission delete = organization->own + any role
    permission plain = organization->own
    assigns role granted by administer capped inherits organization
}";

const WORLD: &[&str] = &[
    "+organization:acme#owner@user:olga",
    "+organization:acme#chief@user:carl",
    "+application:shop#organization@organization:acme",
    "+team:core#member@user:tim",
];

fn names(names: &[&str]) -> Vec<std::sync::Arc<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

fn create(owner: &str, key: &str, permissions: &[&str]) -> Command {
    command(Action::CreateRole(RoleWanted {
        owner: owner.parse().unwrap(),
        key: key.into(),
        title: "".into(),
        permissions: names(permissions),
    }))
}

fn edit(role: &str, title: Option<&str>, allow: &[&str], disallow: &[&str]) -> Command {
    command(Action::UpdateRole(RoleEdit {
        role: role.parse().unwrap(),
        title: title.map(Into::into),
        allow: names(allow),
        disallow: names(disallow),
    }))
}

fn delete(role: &str) -> Command {
    let role = role.parse().unwrap();
    command(Action::DeleteRole { role })
}

fn one(operation: Operation, role: &str, subject: &str, resource: &str) -> Assignment {
    let (role, subject) = (role.parse().unwrap(), subject.parse().unwrap());
    Assignment::new(operation, role, subject, resource.parse().unwrap())
}

fn assign(role: &str, subject: &str, resource: &str) -> Command {
    let assignments = vec![one(Operation::Grant, role, subject, resource)];
    command(Action::Assign { assignments })
}

fn unassign(role: &str, subject: &str, resource: &str) -> Command {
    let assignments = vec![one(Operation::Revoke, role, subject, resource)];
    command(Action::Assign { assignments })
}

fn change(from: &str, to: &str, subject: &str, resource: &str) -> Command {
    let take = one(Operation::Delete, from, subject, resource);
    let mut give = one(Operation::Grant, to, subject, resource);
    give.ends_with = Some(take.role.clone());
    let assignments = vec![take, give];
    command(Action::Assign { assignments })
}

async fn check(steps: Vec<(&str, Command, &str)>) {
    let engine = engine(SCHEMA).await;
    outcome(&engine, write(WORLD)).await;
    for (place, (actor, command, expected)) in steps.into_iter().enumerate() {
        let outcome = outcome(&engine, by(actor, command)).await;
        assert!(
            outcome.contains(expected),
            "step {place} by {actor:?}: {outcome}\n  expected {expected}"
        );
    }
}

const ACME: &str = "organization:acme";
const SHOP: &str = "application:shop";

#[tokio::test]
async fn who_makes_and_edits_roles() {
    let reader = "role:acme/reader";
    check(vec![
        ("user:eve", create(ACME, "x", &[]), "user:eve may not create role:acme/x: `roles role (granted by)` needs `administer` on organization:acme; user:carl and user:olga have that"),
        ("user:carl", create(ACME, "reader", &["organization.read"]), "role:acme/reader \"reader\" organization.read"),
        ("user:carl", create(ACME, "reader", &[]), "there is a role role:acme/reader already"),
        ("user:carl", create(ACME, "admin", &[]), "there is a role role:acme/admin already"),
        // Nobody hands out what they do not have; of a type below, on what hangs there.
        ("user:carl", create(ACME, "y", &["organization.fire"]), "`capped` needs `organization.fire` on organization:acme"),
        ("user:carl", create(ACME, "y", &["application.deploy"]), "`capped` needs `application.deploy`"),
        ("user:olga", create(ACME, "y", &["application.deploy", "organization.fire"]), "application.deploy organization.fire"),
        ("", create(ACME, "z", &["application.delete"]), "application.delete"),
        ("user:olga", create(ACME, "a/b", &[]), "key"),
        ("user:olga", create(ACME, "w", &["application.deplyo"]), "did you mean \"application.deploy\"?"),
        ("user:olga", create(ACME, "w", &["application.plain"]), "application.plain can't be included in a role: only a permission that says `any role` can"),
        ("user:olga", create("application:shop", "w", &[]), "owns no roles"),
        ("user:carl", edit(reader, Some("Reads"), &[], &[]), "\"Reads\" organization.read"),
        ("user:carl", edit(reader, None, &["organization.invite"], &[]), "`capped` needs `organization.invite`"),
        ("user:olga", edit(reader, None, &["organization.invite"], &["organization.read"]), "\"Reads\" organization.invite"),
        // Taking away is not capped.
        ("user:carl", edit(reader, None, &[], &["organization.invite"]), "\"Reads\" "),
        ("user:olga", edit(reader, None, &["organization.read"], &["organization.read"]), "which `allow` names"),
        ("user:carl", edit("role:acme/readr", Some("x"), &[], &[]), "there is no role role:acme/readr; did you mean \"reader\"?"),
        ("user:carl", edit("rule:acme/reader", Some("x"), &[], &[]), "did you mean \"role\"?"),
        // Built-in ones.
        ("user:olga", edit("role:acme/admin", Some("x"), &[], &[]), "role:acme/admin is built in and can't be renamed"),
        ("user:olga", edit("role:acme/admin", None, &[], &["organization.fire"]), "includes everything, and always will"),
        ("user:olga", delete("role:acme/member"), "can't be deleted"),
        ("user:olga", edit("role:acme/member", None, &["organization.invite"], &[]), "\"member\" organization.invite organization.read"),
        ("user:carl", edit("role:acme/member", None, &[], &["organization.read"]), "\"member\" organization.invite"),
        ("user:eve", delete(reader), "may not delete"),
        ("user:carl", delete(reader), "0/0"),
        ("user:carl", delete(reader), "there is no role"),
    ]).await;
}

#[tokio::test]
async fn who_assigns_roles() {
    let (admin, member, ops) = ("role:acme/admin", "role:acme/member", "role:acme/ops");
    check(vec![
        ("user:olga", create(ACME, "ops", &["application.deploy"]), "ops"),
        ("user:eve", assign(member, "user:new", ACME), "user:eve may not assign role:acme/member on organization:acme to user:new: `assigns role (granted by)` needs `administer`"),
        ("user:carl", assign(member, "user:new", ACME), "1/0"),
        ("user:carl", assign(member, "user:new", ACME), "1/0"),
        ("user:carl", assign(ops, "user:new", SHOP), "`capped` needs `application.deploy` on application:shop"),
        ("user:carl", assign(ops, "user:new", ACME), "`capped` needs `application.deploy`"),
        ("user:olga", assign(ops, "user:new", SHOP), "1/0"),
        ("user:olga", assign(ops, "team:core#member", SHOP), "1/0"),
        ("user:olga", assign(ops, "team:core", SHOP), "takes no subject like team; it takes user | team#member"),
        ("user:olga", assign("role:acme/opz", "user:x", SHOP), "there is no role role:acme/opz; did you mean \"ops\"?"),
        ("user:olga", assign(member, "user:x", "team:core"), "has no relation"),
        // A built-in role's own rule, judged on the owner, replaces the other and its cap.
        ("user:carl", assign(admin, "user:new", ACME), "`builtin admin (granted by)` needs `own` on organization:acme"),
        ("user:olga", assign(admin, "user:new", ACME), "1/0"),
        ("user:olga", unassign(admin, "user:new", ACME), "`min 1`"),
        ("user:new", unassign(admin, "user:new", ACME), "`min 1`"),
        ("user:olga", change(admin, member, "user:new", ACME), "`min 1`"),
        ("user:olga", assign(admin, "user:two", ACME), "1/0"),
        ("user:new", unassign(admin, "user:new", ACME), "0/1"),
        // What is one's own may be given up, what is somebody else's not.
        ("user:two", unassign(member, "user:new", ACME), "may not unassign"),
        ("user:new", unassign(member, "user:new", ACME), "0/1"),
        // One commit, and both rights.
        ("user:olga", change(member, ops, "user:new", ACME), "does not stand"),
        ("user:carl", assign(member, "user:new", ACME), "1/0"),
        ("user:carl", change(member, ops, "user:new", ACME), "`capped` needs"),
        ("user:olga", change(member, ops, "user:new", ACME), "1/1"),
        // By filter each assignment needs its right.
            (
                "user:tim",
                command(Action::RevokeMatching {
                    filter: filter("application:shop"),
                    limit: 0,
                }),
                "user:tim may not",
            ),
            (
                "user:carl",
                command(Action::RevokeMatching {
                    filter: filter("organization:acme"),
                    limit: 0,
                }),
                "user:carl may not",
            ),
            // No way round through the tuples.
        ("", write(&["+application:shop#role=acme/ops@user:eve"]), "AssignRole"),
        ("", write(&["-application:shop#role=acme/ops@user:new"]), "UnassignRole"),
        // A role goes with every assignment.
        ("user:carl", delete(ops), "0/3"),
        ("user:olga", create(ACME, "ops", &[]), "ops"),
        ("user:olga", unassign(ops, "user:new", ACME), "0/0"),
    ]).await;
}
