//! Locks: placing and lifting them, what they seal, and the ways round that are none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis::engine::{Engine, EngineOptions};
use portcullis::eval::{Decision, Question};
use portcullis::plan::{Action, Command, LockWanted, RevokePart};
use portcullis::revision::Consistency::{AtLeast, Newest};
use portcullis::revision::Token;
use portcullis::tuple::{Context, ObjectRef, SubjectRef};

use crate::oracle::Dice;
use crate::tuples::{by, engine, outcome};
use crate::world::{TestClock, at, command, filter, schema, store, write};

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
        // All users pass; all groups are others.
        ("user:ann", unlock("b"), "b #"),
        ("", unlock("c"), "c #"),
        ("", lock("application:other", "audit", &["user:*"], None, "d"), "d #"),
        ("user:bea", write(&["+application:other#admin@user:cid"]), "1/0"),
        ("", lock("application:other", "audit", &["group:*"], None, "e"), "e #"),
        ("user:bea", write(&["-application:other#admin@user:cid"]), "it lets nobody pass"),
        // Brought under it by two tuples of one write, of which the lock sits behind the second.
        ("user:tina", lock("team:core", "freeze", &[], None, "f"), "f #"),
        ("", write(&["+environment:x#application@application:y", "+application:y#team@team:core"]), "environment:x is sealed: freeze \"f\" is held on team:core"),
        // And by one, behind what stood before.
        ("", write(&["+application:y#team@team:core"]), "1/0"),
        ("", write(&["+environment:x#application@application:y"]), "environment:x is sealed"),
        ("", write(&["+environment:x#application@application:z"]), "1/0"),
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

/// What no tuple names is told apart all the same: by the locks that sit on it, and by whether it is
/// the actor itself.
#[tokio::test]
async fn what_only_locks_name_is_judged_as_itself() {
    let engine = engine(
        "definition user {
            relation friend: user    granted by me
            permission me = self
            lock mute { blocks me }
            lock note { blocks friend }
        }",
    )
    .await;
    let friend = |who: &str| write(&[&format!("+user:{who}#friend@user:x")]);
    let both = || write(&["+user:ann#friend@user:x", "+user:bob#friend@user:x"]);
    let steps = [
        ("", lock("user:ann", "note", &[], None, "a"), "a #"),
        ("", lock("user:bob", "note", &[], None, "b"), "b #"),
        ("user:ann", both(), "user:ann may not grant user:bob#friend"),
        ("user:bob", both(), "user:bob may not grant user:ann#friend"),
        ("user:ann", friend("ann"), "1/0"),
        ("", lock("user:bob", "mute", &[], None, "c"), "c #"),
        ("user:bob", friend("bob"), "user:bob may not grant"),
        ("", unlock("c"), "c #"),
        ("user:bob", friend("bob"), "1/0"),
    ];
    for (place, (actor, command, expected)) in steps.into_iter().enumerate() {
        let outcome = outcome(&engine, by(actor, command)).await;
        assert!(outcome.contains(expected), "step {place}: {outcome}");
    }
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

const FOLDERS: &str = "definition user {}
definition folder {
    relation parent: folder
    relation viewer: user
    lock freeze { blocks viewer  inherits parent }
    lock hush { blocks viewer }
}";

/// What is held on a folder by the model: its own locks, and freezes from wherever it leads to.
fn held(
    parents: &BTreeSet<(usize, usize)>,
    locks: &BTreeMap<String, (usize, bool)>,
    folder: usize,
) -> BTreeSet<String> {
    let mut above = BTreeSet::from([folder]);
    loop {
        let more = parents.iter().filter(|(child, _)| above.contains(child));
        let more: Vec<usize> = more.map(|(_, parent)| *parent).collect();
        let before = above.len();
        above.extend(more);
        if above.len() == before {
            break;
        }
    }
    let arrives =
        |(on, inherited): (usize, bool)| on == folder || (inherited && above.contains(&on));
    let held = locks.iter().filter(|(_, lock)| arrives(**lock));
    held.map(|(id, _)| id.clone()).collect()
}

/// Over random moves, cycles among them, and random locks: a child has all freezes of its parents,
/// and just those that the model says.
#[tokio::test]
async fn a_child_inherits_all_locks_of_its_parents() {
    const COUNT: usize = 6;
    let engine = engine(FOLDERS).await;
    let dice = &mut Dice(5);
    let (mut parents, mut locks) = (BTreeSet::new(), BTreeMap::new());
    let mut inherited = 0;
    for step in 0..120 {
        let folder = dice.below(COUNT);
        match dice.below(4) {
            0 | 1 => {
                let edge = (folder, dice.below(COUNT));
                let sign = if parents.remove(&edge) { "-" } else { "+" };
                if sign == "+" {
                    parents.insert(edge);
                }
                let (child, parent) = edge;
                let tuple = format!("{sign}folder:{child}#parent@folder:{parent}");
                outcome(&engine, write(&[&tuple])).await;
            }
            2 => {
                let freeze = !dice.once_in(3);
                let mode = if freeze { "freeze" } else { "hush" };
                let id = format!("l{step}");
                outcome(
                    &engine,
                    lock(&format!("folder:{folder}"), mode, &[], None, &id),
                )
                .await;
                locks.insert(id, (folder, freeze));
            }
            _ => {
                if let Some((id, _)) = locks.pop_first() {
                    outcome(&engine, unlock(&id)).await;
                }
            }
        }
        let mut all: Vec<BTreeSet<String>> = Vec::new();
        for folder in 0..COUNT {
            let resource = format!("folder:{folder}").parse().unwrap();
            let listed = engine.list_locks(Some(&resource), true, Newest, None);
            let (found, _) = listed.await.unwrap();
            let found: BTreeSet<String> = found.iter().map(|lock| lock.id.to_string()).collect();
            assert_eq!(
                found,
                held(&parents, &locks, folder),
                "step {step}, folder {folder}"
            );
            all.push(found);
        }
        for (child, parent) in &parents {
            let freezes = all[*parent].iter().filter(|id| locks[*id].1);
            for id in freezes {
                assert!(
                    all[*child].contains(id),
                    "step {step}: {child} under {parent} lacks {id}"
                );
                inherited += 1;
            }
        }
    }
    assert!(inherited > 100, "{inherited}");
}

/// A lock ends at its instant, whether or not the commit that removes it has come; and that is a
/// commit of its own.
#[tokio::test]
async fn a_timed_lock_ends_exactly() {
    let clock = TestClock::at(1_000);
    let options = EngineOptions {
        // No commit removes what is over: time alone ends it.
        expiry_poll: Duration::from_secs(3_600),
        ..clock.options()
    };
    let engine = Engine::open(Box::new(store()), options).unwrap();
    engine.write(schema(FOLDERS), None).await.unwrap();
    outcome(&engine, write(&["+folder:a#viewer@user:ann"])).await;
    let placed = engine.write(lock("folder:a", "freeze", &[], Some(10), "l"), None);
    assert_eq!(
        placed.await.unwrap().lock.unwrap().expires_at,
        Some(at(1_010))
    );
    for (now, locked) in [(1_009, true), (1_010, false)] {
        clock.set(now);
        assert_eq!(is_locked(&engine).await, locked, "at {now}");
    }
    // One of the same id may be placed again at that instant, and ends the other by its commit.
    let renewed = engine.write(renew("l", Some(5)), None).await.unwrap_err();
    assert!(
        renewed.to_string().contains("no lock \"l\" is held"),
        "{renewed}"
    );
    engine
        .write(lock("folder:a", "freeze", &[], None, "l"), None)
        .await
        .unwrap();
    assert!(is_locked(&engine).await);
    engine.write(unlock("l"), None).await.unwrap();

    let polled = Engine::open(Box::new(store()), clock.options()).unwrap();
    polled.write(schema(FOLDERS), None).await.unwrap();
    let placed = polled.write(lock("folder:a", "freeze", &[], Some(10), "l"), None);
    let placed = placed.await.unwrap().token;
    clock.set(1_020);
    let next = Token {
        revision: placed.revision.next(),
        ..placed
    };
    let resource = "folder:a".parse().unwrap();
    let listed = polled.list_locks(Some(&resource), false, AtLeast(next), None);
    let (found, token) = listed.await.unwrap();
    assert!(found.is_empty() && token == next);
}

async fn is_locked(engine: &Engine) -> bool {
    let question = Question {
        subject: SubjectRef::parse("user:ann").unwrap(),
        permission: "viewer",
        resource: ObjectRef::parse("folder:a").unwrap(),
        context: &Context::new(),
        contextual: &[],
        with_dependencies: false,
    };
    let (answer, _) = engine.check(&question, Newest, None).await.unwrap();
    answer.decision == Decision::Denied
}
