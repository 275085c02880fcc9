//! Revokes by filter that match much, and the end of a role that many hold: in parts, others' writes
//! in between, and what is said where a part fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::engine::{Engine, EngineError};
use portcullis::plan::{Action, Assignment, Command, LockWanted, Operation, RoleWanted};
use portcullis::revision::Consistency::Newest;
use portcullis::revision::Revision;
use portcullis::state::{Change, Commit};
use portcullis::store::memory::Fault;
use portcullis::store::{MemoryStore, Store};

use crate::world::{TestClock, command, did, filter, keyed, open, schema, store, stored};

/// More than the writer searches itself.
const MANY: u64 = 12_500;
/// What one part revokes.
const PART: u64 = 1_000;

async fn filled(log: &MemoryStore) -> Engine {
    let engine = open(log, &TestClock::at(100)).await;
    let grants: Vec<String> = (0..MANY)
        .map(|n| format!("+doc:{}#viewer@user:u{n}", n % 100))
        .collect();
    for part in grants.chunks(5_000) {
        did(
            &engine,
            &part.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
    }
    engine
}

fn revoke(text: &str, limit: u32) -> Command {
    command(Action::RevokeMatching {
        filter: filter(text),
        limit,
    })
}

fn commits(log: &MemoryStore, after: Revision) -> Vec<Commit> {
    let read = log.read(after, 1_000).unwrap();
    read.into_iter().map(|(commit, _)| commit).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_is_revoked_in_parts_and_others_write_in_between() {
    let log = store();
    let engine = filled(&log).await;
    let before = engine.status().token.revision;
    // Time enough for whoever waits on a busy machine.
    let stall = Fault::Stall(Duration::from_millis(50));
    log.faults().appends(vec![stall; 6]);
    // They end with the revoke, not with what is left: they may be many by then.
    let revoked = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn({
        let (engine, revoked) = (engine.clone(), Arc::clone(&revoked));
        async move {
            let mut kept = 0;
            while !revoked.load(Ordering::Acquire) {
                let one = format!("+doc:other#guest@user:o{kept}[expiration:2000-01-01T00:00:00Z]");
                did(&engine, &[&one]).await;
                kept += 1;
            }
            kept
        }
    });
    let written = engine.write(revoke("doc:#viewer", 0), None).await;
    revoked.store(true, Ordering::Release);
    let (written, kept) = (written.unwrap(), others.await.unwrap());
    assert_eq!(written.revoked, MANY);
    assert_eq!(stored(&engine, Newest).await.len(), kept);
    let commits = commits(&log, before);
    let sizes: Vec<usize> = commits.iter().map(|commit| commit.changes.len()).collect();
    assert!(sizes.iter().all(|size| *size as u64 <= PART), "{sizes:?}");
    let mine = |commit: &Commit| matches!(commit.changes[..], [Change::Revoked(_), ..]);
    let first = commits.iter().position(mine).unwrap();
    let last = commits.iter().rposition(mine).unwrap();
    let between = &commits[first..last];
    assert!(
        between.iter().any(|c| !mine(c)),
        "nobody came in between: {sizes:?}"
    );
    assert_eq!(commits[last].revision, written.token.revision);
}

#[tokio::test]
async fn the_limit_is_judged_before_anything_is_revoked() {
    let log = store();
    let engine = filled(&log).await;
    let before = engine.status().token;
    let refused = engine.write(revoke("doc:#viewer", 12_499), None).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("more than 12499 tuples; nothing was revoked"),
        "{said}"
    );
    let mut dry = revoke("doc:#viewer", 12_500);
    dry.options.dry_run = true;
    let would = engine.write(dry, None).await.unwrap();
    assert_eq!((would.revoked, would.token), (MANY, before));
    assert!(!would.unchanged);
    assert_eq!(engine.status().token, before);
    let none = engine
        .write(revoke("doc:nobody#viewer", 0), None)
        .await
        .unwrap();
    assert_eq!((none.revoked, engine.status().token), (0, before));
    // One resource is one commit.
    let one = engine.write(revoke("doc:7#viewer", 0), None).await.unwrap();
    assert_eq!(one.revoked, 125);
    assert_eq!(one.token.revision, before.revision.next());
}

/// A trusted caller too is held to them, however many match.
#[tokio::test]
async fn locks_and_minimums_are_judged_before_anything_is_revoked() {
    const GUARDED: &str = "use expiration
definition user {}
definition team { relation member: user | team#member }
definition doc {
    relation viewer: user | team#member | user:*
    relation guest: user with expiration
    relation owner: user min 1
    permission view = viewer + guest
    permission own = owner
    lock freeze { blocks view  seals  granted by own }
}";
    let log = store();
    let engine = filled(&log).await;
    engine.write(schema(GUARDED), None).await.unwrap();
    did(&engine, &["+doc:1#owner@user:ann"]).await;
    let before = engine.status().token;
    let refused = engine.write(revoke("doc:", 0), None).await.unwrap_err();
    assert!(refused.to_string().contains("doc:1#owner"), "{refused}");
    assert_eq!(engine.status().token, before);
    let unbounded = GUARDED.replace(" min 1", "");
    engine.write(schema(&unbounded), None).await.unwrap();
    let mut freeze = command(Action::Lock(LockWanted {
        resource: "doc:99".parse().unwrap(),
        mode: "freeze".into(),
        exempt: Vec::new(),
        ttl: None,
        lock_id: Some("f".into()),
    }));
    freeze.options.reason = "audit".into();
    let locked = engine.write(freeze, None).await.unwrap().token;
    let refused = engine.write(revoke("doc:#viewer", 0), None).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("sealed"), "{refused}");
    assert_eq!(engine.status().token, locked);
    let lifted = command(Action::Unlock {
        lock_id: "f".into(),
    });
    engine.write(lifted, None).await.unwrap();
    let kept = engine.write(revoke("doc:#viewer", 0), None).await.unwrap();
    assert_eq!(kept.revoked, MANY);
}

#[tokio::test]
async fn an_end_in_between_says_how_far_it_came() {
    let log = store();
    let engine = filled(&log).await;
    let before = engine.status().token.revision;
    log.faults()
        .appends([Fault::None, Fault::None, Fault::NotWritten]);
    let key = |command| keyed(command, "c", "k");
    let failed = engine.write(key(revoke("doc:#viewer", 0)), None).await;
    let error = failed.unwrap_err();
    let EngineError::RevokedInPart {
        revoked,
        token,
        cause,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*revoked, token.revision.0), (2 * PART, before.0 + 2));
    assert!(
        matches!(**cause, EngineError::StoreFailed { .. }),
        "{cause}"
    );
    assert!(
        error
            .to_string()
            .starts_with("2000 tuples were revoked, up to revision"),
        "{error}"
    );
    // A repeat does the rest, and a repeat of that nothing.
    let again = open(&log, &TestClock::at(200)).await;
    let rest = again
        .write(key(revoke("doc:#viewer", 0)), None)
        .await
        .unwrap();
    assert_eq!(rest.revoked, MANY - 2 * PART);
    let repeat = again
        .write(key(revoke("doc:#viewer", 0)), None)
        .await
        .unwrap();
    assert_eq!(repeat, rest);
    assert!(stored(&again, Newest).await.is_empty());
}

#[tokio::test]
async fn what_is_granted_anew_in_between_goes_once() {
    let log = store();
    let engine = filled(&log).await;
    let (revoked, ()) = tokio::join!(engine.write(revoke("doc:#viewer", 0), None), async {
        for n in 0..20 {
            let name = format!("doc:{n}#viewer@user:u{n}");
            did(&engine, &[&format!("-{name}")]).await;
            did(&engine, &[&format!("+{name}")]).await;
        }
    });
    revoked.unwrap();
    let left: HashSet<String> = stored(&engine, Newest).await.into_iter().collect();
    let mut from_log = HashSet::new();
    for commit in commits(&log, Revision(0)) {
        for change in commit.changes {
            let consistent = match &change {
                Change::Granted(tuple) => from_log.insert(tuple.to_string()),
                Change::Revoked(tuple) => from_log.remove(&tuple.to_string()),
                _ => true,
            };
            assert!(consistent, "{change:?} at {}", commit.revision);
        }
    }
    assert_eq!(left, from_log);
}

const ROLES: &str = "definition user {}
definition organization {
    relation owner: user
    permission own = owner
    permission work = owner + any role
    assigns role granted by own
    lock freeze { blocks work  seals }
}
roles role of organization { held by user  granted by own }";

/// A role that includes something and that so many hold, on 100 resources.
async fn staffed(log: &MemoryStore, holders: u64) -> Engine {
    let engine = Engine::open(Box::new(log.reopen()), TestClock::at(100).options()).unwrap();
    engine.write(schema(ROLES), None).await.unwrap();
    did(&engine, &["+organization:o#owner@user:ann"]).await;
    let made = command(Action::CreateRole(RoleWanted {
        owner: "organization:o".parse().unwrap(),
        key: "wide".into(),
        title: "".into(),
        permissions: vec!["organization.work".into()],
    }));
    engine.write(made, None).await.unwrap();
    let one = |n: u64| {
        let (who, on) = (format!("user:u{n}"), format!("organization:{}", n % 100));
        let role = "role:o/wide".parse().unwrap();
        Assignment::new(
            Operation::Grant,
            role,
            who.parse().unwrap(),
            on.parse().unwrap(),
        )
    };
    let assignments = (0..holders).map(one).collect();
    let given = command(Action::Assign { assignments });
    engine.write(given, None).await.unwrap();
    engine
}

fn end_of_role(key: &str) -> Command {
    let role = "role:o/wide".parse().unwrap();
    keyed(command(Action::DeleteRole { role }), "c", key)
}

#[tokio::test]
async fn a_role_that_many_hold_is_without_force_at_once_and_goes_in_parts() {
    let log = store();
    let holders = 2 * PART + 500;
    let engine = staffed(&log, holders).await;
    let before = engine.status().token.revision;
    let written = engine.write(end_of_role("k"), None).await.unwrap();
    assert_eq!(written.revoked, holders);
    let commits = commits(&log, before);
    let sizes: Vec<usize> = commits.iter().map(|commit| commit.changes.len()).collect();
    assert_eq!(sizes, [1_001, 1_000, 501], "its record first, and last");
    match &commits[0].changes[0] {
        Change::RoleWritten(role) => assert!(role.permissions.is_empty()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(commits[2].changes[500], Change::RoleDeleted(_)));
    assert_eq!(
        stored(&engine, Newest).await,
        ["organization:o#owner@user:ann"]
    );
    // A repeat answers, and takes nothing from a role of that name that is made anew.
    let repeat = engine.write(end_of_role("k"), None).await.unwrap();
    assert_eq!(repeat.token, written.token);
}

#[tokio::test]
async fn the_end_of_a_role_that_breaks_off_is_gone_on_with() {
    let log = store();
    let holders = 2 * PART + 500;
    let engine = staffed(&log, holders).await;
    log.faults().appends([Fault::None, Fault::NotWritten]);
    let error = engine.write(end_of_role("k"), None).await.unwrap_err();
    match &error {
        EngineError::RevokedInPart { revoked, .. } => assert_eq!(*revoked, PART),
        other => panic!("{other}"),
    }
    let again = Engine::open(Box::new(log.reopen()), TestClock::at(200).options()).unwrap();
    let mut dry = end_of_role("");
    dry.options.idempotency_key = None;
    dry.options.dry_run = true;
    let would = again.write(dry, None).await.unwrap();
    assert_eq!(would.revoked, holders - PART);
    // Who has no right ends nothing of it, part or whole.
    let mut eve = end_of_role("e");
    eve.options.actor = Some("user:eve".parse().unwrap());
    let said = again.write(eve, None).await.unwrap_err().to_string();
    assert!(
        said.contains("user:eve may not delete role:o/wide"),
        "{said}"
    );
    let rest = again.write(end_of_role("k"), None).await.unwrap();
    assert_eq!(rest.revoked, holders - PART);
    assert_eq!(
        stored(&again, Newest).await,
        ["organization:o#owner@user:ann"]
    );
}
