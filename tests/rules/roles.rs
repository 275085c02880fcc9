//! Roles: who makes, edits and assigns them.

use portcullis::plan::{Action, Assignment, Command, Operation, RoleEdit, RoleWanted};

use crate::tuples::{by, engine, outcome};
use crate::world::{command, filter, keyed, write};

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

/// What an owner says of its built-in role counts where the role does: elsewhere whoever assigns
/// it needs what any other role needs, else each owner could write to every resource.
#[tokio::test]
async fn a_built_in_role_is_not_put_on_what_is_somebody_elses() {
    let admin = "role:evil/admin";
    check(vec![
        ("", write(&["+organization:evil#owner@user:eve"]), "1/0"),
        (
            "user:eve",
            assign(admin, "user:eve", "organization:evil"),
            "1/0",
        ),
        (
            "user:eve",
            assign(admin, "user:eve", SHOP),
            "`assigns role (granted by)` needs `administer` on application:shop",
        ),
        // Nor on what nobody has made yet, which would no longer be new then.
        (
            "user:eve",
            assign(admin, "user:eve", "application:next"),
            "`assigns role (granted by)` needs `administer` on application:next",
        ),
        // Who may assign there may put a role there that is without force, as any other one.
        ("", write(&["+organization:evil#owner@user:olga"]), "1/0"),
        ("user:olga", assign(admin, "user:eve", SHOP), "1/0"),
        ("user:eve", unassign(admin, "user:eve", SHOP), "0/1"),
        // Below the owner its rule is enough.
        (
            "",
            write(&["+application:mine#organization@organization:evil"]),
            "1/0",
        ),
        (
            "user:eve",
            assign(admin, "user:two", "application:mine"),
            "1/0",
        ),
        // After a move it is somebody else's again.
        (
            "",
            write(&[
                "+application:mine#organization@organization:acme",
                "-application:mine#organization@organization:evil",
            ]),
            "1/1",
        ),
        (
            "user:eve",
            assign(admin, "user:three", "application:mine"),
            "needs `administer`",
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_a_request_names_is_told_as_it_is_meant() {
    check(vec![
        // Only what a role can include is suggested.
        (
            "user:olga",
            create(ACME, "w", &["application.plan"]),
            "there is no permission \"application.plan\"; did you mean \"application.de",
        ),
        (
            "user:olga",
            create(ACME, "w", &["application.delet"]),
            "did you mean \"application.delete\"?",
        ),
        (
            "user:olga",
            edit("role:acme/member", None, &[], &["application.plan"]),
            "there is no permission \"application.plan\"; did you mean \"application.de",
        ),
        (
            "user:olga",
            create("organization:a@b", "w", &[]),
            "owner has an '@' in its id",
        ),
        // An owner's id may have what separates it from the key.
        ("", write(&["+organization:a/b:c=d#owner@user:olga"]), "1/0"),
        (
            "user:olga",
            create("organization:a/b:c=d", "w", &["organization.read"]),
            "role:a/b:c=d/w",
        ),
        (
            "user:olga",
            assign("role:a/b:c=d/w", "user:x", "organization:a/b:c=d"),
            "1/0",
        ),
        ("user:olga", delete("role:a/b:c=d/w"), "0/1"),
    ])
    .await;
}

const FOLDERS: &str = "definition user {}
definition folder {
    relation parent: folder
    relation owner: user
    permission edit = owner + parent->edit + any role
    permission lend = owner + any role
    assigns role granted by edit capped inherits parent
}
roles role of folder { held by user  granted by edit capped }";

/// A role that is assigned on a folder holds on the folders below it too: so has whoever gives it.
#[tokio::test]
async fn a_cap_counts_below_too() {
    let engine = engine(FOLDERS).await;
    outcome(&engine, write(&["+folder:a#owner@user:ann"])).await;
    let steps = [
        (
            create("folder:a", "editor", &["folder.edit"]),
            "folder.edit",
        ),
        (assign("role:a/editor", "user:bob", "folder:a"), "1/0"),
        (
            create("folder:a", "lender", &["folder.lend"]),
            "`capped` needs `folder.lend`",
        ),
    ];
    for (command, expected) in steps {
        let outcome = outcome(&engine, by("user:ann", command)).await;
        assert!(
            outcome.contains(expected),
            "{outcome}\n  expected {expected}"
        );
    }
    let made = create("folder:a", "lender", &["folder.lend"]);
    outcome(&engine, made).await;
    let lent = assign("role:a/lender", "user:bob", "folder:a");
    let outcome = outcome(&engine, by("user:ann", lent)).await;
    assert!(
        outcome.contains("`capped` needs `folder.lend`"),
        "{outcome}"
    );
}

/// What was so before is said to be, also to a repeat under a key.
#[tokio::test]
async fn what_changes_nothing_says_so() {
    let engine = engine(SCHEMA).await;
    outcome(&engine, write(WORLD)).await;
    let member = "role:acme/member";
    let commands = [
        (edit(member, None, &["organization.invite"], &[]), false),
        (edit(member, None, &["organization.invite"], &[]), true),
        (edit(member, None, &[], &["organization.fire"]), true),
        (unassign(member, "user:x", ACME), true),
        (assign(member, "user:x", ACME), false),
        (assign(member, "user:x", ACME), true),
        (unassign(member, "user:x", ACME), false),
    ];
    for (place, (command, unchanged)) in commands.into_iter().enumerate() {
        let mut said = Vec::new();
        for _ in 0..2 {
            let command = keyed(command.clone(), "", &format!("key {place}"));
            let mut written = engine.write(command, None).await.unwrap();
            assert_eq!(written.unchanged, unchanged, "step {place}");
            written.propagation = None;
            said.push(written);
        }
        assert_eq!(said[0], said[1], "step {place}: a repeat says the same");
    }
}

const LOCKED: &str = "definition user {}
definition organization {
    relation owner: user
    permission own = owner
    permission act = owner + any role
    assigns role granted by own capped
    lock freeze { blocks act }
}
roles role of organization { held by user  granted by own capped }";

/// Nobody gives what a lock keeps from them, for as long as it does.
#[tokio::test]
async fn a_cap_counts_locks() {
    let engine = engine(LOCKED).await;
    outcome(&engine, write(&["+organization:acme#owner@user:ann"])).await;
    let act = || create(ACME, "act", &["organization.act"]);
    let give = || assign("role:acme/act", "user:bob", ACME);
    let mut lock = command(Action::Lock(portcullis::plan::LockWanted {
        resource: ACME.parse().unwrap(),
        mode: "freeze".into(),
        exempt: Vec::new(),
        ttl: None,
        lock_id: Some("l".into()),
    }));
    lock.options.reason = "r".into();
    let steps = [
        ("", lock, "l #"),
        ("user:ann", act(), "`capped` needs `organization.act`"),
        ("user:ann", create(ACME, "none", &[]), "role:acme/none"),
        ("", act(), "role:acme/act"),
        ("user:ann", give(), "`capped` needs `organization.act`"),
        (
            "",
            command(Action::Unlock {
                lock_id: "l".into(),
            }),
            "l #",
        ),
        ("user:ann", give(), "1/0"),
    ];
    for (place, (actor, command, expected)) in steps.into_iter().enumerate() {
        let outcome = outcome(&engine, by(actor, command)).await;
        assert!(outcome.contains(expected), "step {place}: {outcome}");
    }
}
