//! Locks: placing and lifting them, what they seal, and the ways round that are none.

use std::time::Duration;

use portcullis::plan::{Action, Command, LockWanted, RevokePart};

use crate::tuples::{by, engine, outcome};
use crate::world::{command, filter, write};

const SCHEMA: &str = "definition user {}
definition group { relation member: user }
definition team {
    relation admin: user
    lock freeze { blocks admin  except admin  granted by admin }
}
definition application {
    relation team: team       granted by administer  revoked by administer
    relation admin: user      granted by administer
    permission administer = admin + team->admin
    permission deploy = administer
    lock freeze { blocks deploy  except administer  granted by administer  inherits team }
    lock audit { seals }
}
definition environment {
    relation application: application  granted by application->administer
    relation host: user
    relation guest: user               granted by application->administer + host
    permission administer = application->administer
    lock freeze {
        blocks guest
        except administer
        granted by administer
        inherits application
        seals
    }
}";

const WORLD: &[&str] = &[
    "+team:core#admin@user:tina",
    "+application:shop#team@team:core",
    "+application:shop#admin@user:ann",
    "+application:other#admin@user:ann",
    "+environment:prod#application@application:shop",
    "+environment:prod#host@user:gus",
    "+environment:prod#guest@user:gus",
    "+group:crew#member@user:gus",
];

fn lock(resource: &str, mode: &str, exempt: &[&str], ttl: Option<u64>, id: &str) -> Command {
    let mut command = command(Action::Lock(LockWanted {
        resource: resource.parse().unwrap(),
        mode: mode.into(),
        exempt: exempt.iter().map(|text| text.parse().unwrap()).collect(),
        ttl: ttl.map(Duration::from_secs),
        lock_id: (!id.is_empty()).then(|| id.into()),
    }));
    command.options.reason = "release".into();
    command
}

fn unlock(id: &str) -> Command {
    command(Action::Unlock { lock_id: id.into() })
}

fn renew(id: &str, ttl: Option<u64>) -> Command {
    command(Action::RenewLock {
        lock_id: id.into(),
        ttl: ttl.map(Duration::from_secs),
    })
}

fn silent(mut command: Command) -> Command {
    command.options.reason = " ".into();
    command
}

/// Commands one after the other: who, what, and what is in the outcome.
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

#[tokio::test]
async fn who_places_and_lifts() {
    let shop = "application:shop";
    check(vec![
        ("user:gus", lock(shop, "freeze", &[], None, "a"), "user:gus may not lock application:shop with freeze: `lock freeze (granted by)` needs `administer`"),
        ("user:ann", lock(shop, "freezer", &[], None, "a"), "type \"application\" has no lock \"freezer\"; did you mean \"freeze\"?"),
        ("user:ann", silent(lock(shop, "freeze", &[], None, "a")), "a lock needs a reason"),
        ("user:ann", lock(shop, "freeze", &[], Some(0), "a"), "ttl is zero"),
        ("user:ann", lock(shop, "freeze", &["grup:x"], None, "a"), "did you mean \"group\"?"),
        ("user:ann", lock(shop, "freeze", &[], Some(60), "a"), "a #3 until 1970-01-01T00:17:40Z"),
        // The same again is the same lock, whatever its end; another one of that id is refused.
        ("user:ann", lock(shop, "freeze", &[], Some(90), "a"), "a #3 until 1970-01-01T00:17:40Z"),
        ("user:ann", lock(shop, "freeze", &["user:gus"], None, "a"), "a lock \"a\" is held already: freeze on application:shop"),
        ("user:ann", lock("application:other", "freeze", &[], None, "a"), "is held already"),
        ("user:ann", lock(shop, "freeze", &[], None, ""), "lock-4 #4 until ever"),
        // Nobody but trusted callers where nothing is said.
        ("user:ann", lock(shop, "audit", &[], None, "b"), "so that only trusted callers"),
        ("", lock(shop, "audit", &[], None, "b"), "b #5"),
        ("user:gus", renew("a", None), "user:gus may not renew the lock \"a\" (freeze on application:shop)"),
        ("user:ann", renew("a", Some(5)), "a #3 until 1970-01-01T00:16:45Z"),
        ("user:ann", renew("a", None), "a #3 until ever"),
        ("user:ann", renew("x", None), "no lock \"x\" is held"),
        ("user:gus", unlock("a"), "may not lift"),
        ("user:ann", unlock("a"), "a #3"),
        ("user:ann", unlock("a"), "no lock \"a\" is held"),
        ("user:ann", unlock("b"), "may not lift"),
    ]).await;
}

#[tokio::test]
async fn a_seal_is_passed_by_name_only() {
    let guest = || write(&["+environment:prod#guest@user:new"]);
    check(vec![
        ("user:gus", guest(), "1/0"),
        ("user:gus", write(&["-environment:prod#guest@user:new"]), "0/1"),
        ("user:ann", lock("application:shop", "freeze", &["group:crew#member"], None, "a"), "a #5"),
        // Held on what is above, and it seals what is below: by its own definition.
        ("", guest(), "environment:prod is sealed: freeze \"a\" is held on application:shop (release); a write has to name an actor"),
        ("user:ann", guest(), "1/0"),
        ("user:gus", write(&["-environment:prod#guest@user:new"]), "0/1"),
        ("user:ann", unlock("a"), "a #5"),
        ("user:ann", lock("application:shop", "freeze", &[], None, "b"), "b #"),
        ("user:gus", guest(), "environment:prod is sealed"),
        // What does not seal here is not sealed.
        ("", write(&["+application:shop#admin@user:bea"]), "1/0"),
        // Brought under the lock by the write itself, and created there.
        ("", write(&["+environment:new#application@application:shop"]), "environment:new is sealed"),
        ("user:ann", write(&["+environment:new#application@application:shop"]), "1/0"),
        // A deletion is a write.
        ("", command(Action::RevokeMatching { filter: filter("environment:prod"), limit: 0 }), "is sealed"),
        // Rights come first.
        ("user:eve", guest(), "may not grant"),
        // A seal without `except` lets nobody pass but the exempt.
        ("", lock("application:other", "audit", &["user:ann"], None, "c"), "c #"),
        ("user:ann", write(&["+application:other#admin@user:bea"]), "1/0"),
        ("user:bea", write(&["+application:other#admin@user:cid"]), "it lets nobody pass"),
    ]).await;
}

#[tokio::test]
async fn a_lock_is_not_gone_round() {
    let unhang = || write(&["-application:shop#team@team:core"]);
    check(vec![
        ("user:tina", lock("team:core", "freeze", &[], None, "a"), "a #3"),
        // Ann has the right, and can't lift the lock that arrives by this tuple.
        ("user:ann", unhang(), "application:shop#team@team:core can't be taken away while a lock arrives by it: freeze \"a\" is held on team:core (release); it may be lifted by whoever has `admin`"),
        // One that does not stand brings no lock.
        ("", write(&["+application:other#team@team:none"]), "1/0"),
        ("user:ann", write(&["-application:other#team@team:none"]), "0/1"),
        ("", unhang(), "0/1"),
        ("", write(&["+application:shop#team@team:core"]), "1/0"),
        ("user:tina", unhang(), "0/1"),
    ]).await;
}

/// A lock that is placed while a large revoke by filter goes on holds for the parts that follow.
#[tokio::test]
async fn each_part_of_a_revoke_meets_the_locks_of_its_time() {
    let part = |tuple: &str| {
        command(Action::RevokePart(RevokePart {
            filter: filter("environment:"),
            limit: 0,
            tuples: vec![tuple.parse().unwrap()],
            before: 0,
            last: true,
        }))
    };
    let guest = || part("environment:prod#guest@user:gus");
    let unhang = || part("application:shop#team@team:core");
    check(vec![
        (
            "user:tina",
            lock("team:core", "freeze", &[], None, "a"),
            "a #3",
        ),
        (
            "user:gus",
            guest(),
            "environment:prod is sealed: freeze \"a\" is held on team:core",
        ),
        ("", guest(), "a write has to name an actor"),
        // One that is gone meanwhile is not judged.
        ("user:gus", part("environment:prod#guest@user:new"), "0/0"),
        ("user:ann", guest(), "0/1"),
        (
            "user:ann",
            unhang(),
            "can't be taken away while a lock arrives by it",
        ),
        ("", unhang(), "0/1"),
    ])
    .await;
}
