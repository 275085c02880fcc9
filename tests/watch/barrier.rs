//! Writes that wait for caches: complete, laggards, and what was before a start.

use std::time::Duration;

use portcullis::engine::{Ack, Engine, Propagation, WatchEvent, WatchOptions};
use portcullis::revision::Token;
use portcullis::store::Store as _;
use tokio::task::JoinHandle;

use crate::world::{keyed, open_with, schema, store, write};
use crate::{BootClock, SOON, cache, commits, next, opened, token};

const LONG: Duration = SOON;

async fn ack(engine: &Engine, watcher_id: &str, session: &str, applied: Token) -> u64 {
    let ack = Ack {
        caller: "",
        watcher_id,
        session: Some(session),
        applied,
    };
    let lease = engine.acknowledge(ack).await.unwrap().lease;
    u64::try_from(lease.as_millis()).unwrap()
}

fn waiting(parts: &[&str], wait: Duration) -> portcullis::plan::Command {
    let mut command = write(parts);
    command.options.wait_for_watchers = Some(wait);
    command
}

async fn did(engine: &Engine, command: portcullis::plan::Command) -> Propagation {
    let written = engine.write(command, None).await.unwrap();
    written.propagation.expect("it waited")
}

fn sent(engine: &Engine, command: portcullis::plan::Command) -> JoinHandle<Propagation> {
    let engine = engine.clone();
    tokio::spawn(async move { did(&engine, command).await })
}

fn complete() -> Propagation {
    Propagation {
        complete: true,
        laggards: Vec::new(),
    }
}

fn lagging(ids: &[&str]) -> Propagation {
    Propagation {
        complete: false,
        laggards: ids.iter().map(ToString::to_string).collect(),
    }
}

async fn engine(clock: &BootClock) -> Engine {
    open_with(Box::new(store()), clock.options()).await
}

#[tokio::test]
async fn a_write_waits_for_each_cache_and_asks_it_to_hurry() {
    let engine = engine(&BootClock::default()).await;
    let (mut changes, session) = opened(&engine, cache("a")).await;
    assert_eq!(ack(&engine, "a", &session, token(1)).await, 3_000);
    let write = sent(&engine, waiting(&["+doc:1#viewer@user:u"], LONG));
    let came = commits(&mut changes).await;
    assert!(came[0].ack_now);
    assert!(!write.is_finished());
    let listed = &engine.watchers()[0];
    assert_eq!(listed.acknowledged, Some(token(1)));
    ack(&engine, "a", &session, token(2)).await;
    assert_eq!(write.await.unwrap(), complete());
}

#[tokio::test]
async fn who_has_not_acknowledged_in_time_is_named() {
    let clock = BootClock::default();
    let engine = engine(&clock).await;
    let (_a, a) = opened(&engine, cache("a")).await;
    let (_b, b) = opened(&engine, cache("b")).await;
    let (_c, _) = opened(&engine, cache("never acknowledged")).await;
    ack(&engine, "a", &a, token(1)).await;
    ack(&engine, "b", &b, token(1)).await;
    let short = Duration::from_millis(20);
    let propagation = did(&engine, waiting(&["+doc:1#viewer@user:u"], short)).await;
    assert_eq!(propagation, lagging(&["a", "b"]));
    ack(&engine, "a", &a, token(2)).await;
    // Nothing changes now; it waits all the same, as does a repeat.
    let unchanged = || waiting(&["+doc:1#viewer@user:u"], short);
    assert_eq!(did(&engine, unchanged()).await, lagging(&["b"]));
    let keyed = || keyed(waiting(&["+doc:2#viewer@user:u"], short), "c", "k");
    assert_eq!(did(&engine, keyed()).await, lagging(&["a", "b"]));
    ack(&engine, "a", &a, token(3)).await;
    assert_eq!(did(&engine, keyed()).await, lagging(&["b"]));
    ack(&engine, "b", &b, token(3)).await;
    assert_eq!(did(&engine, keyed()).await, complete());
    assert_eq!(did(&engine, unchanged()).await, complete());
}

#[tokio::test]
async fn a_cache_that_died_is_waited_for_as_long_as_its_lease() {
    let clock = BootClock::default();
    let engine = engine(&clock).await;
    let (changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    drop(changes);
    let short = Duration::from_millis(20);
    let propagation = did(&engine, waiting(&["+doc:1#viewer@user:u"], short)).await;
    assert_eq!(propagation, lagging(&["a"]));
    clock.set(2_999);
    let propagation = did(&engine, waiting(&["-doc:1#viewer@user:u"], short)).await;
    assert_eq!(propagation, lagging(&["a"]));
    clock.set(3_000);
    let propagation = did(&engine, waiting(&["+doc:1#viewer@user:u"], short)).await;
    assert_eq!(propagation, complete());
}

/// It would answer from before the write that was told to be everywhere.
#[tokio::test]
async fn a_lapsed_cache_that_comes_back_behind_a_write_gets_no_lease() {
    let clock = BootClock::default();
    let engine = engine(&clock).await;
    let (_changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    clock.set(3_000);
    assert_eq!(
        did(&engine, waiting(&["+doc:1#viewer@user:u"], LONG)).await,
        complete()
    );
    assert_eq!(ack(&engine, "a", &session, token(1)).await, 0);
    assert_eq!(ack(&engine, "a", &session, token(2)).await, 3_000);
}

#[tokio::test]
async fn a_write_that_only_judges_waits_for_nobody() {
    let engine = engine(&BootClock::default()).await;
    let (_changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    let mut command = waiting(&["+doc:1#viewer@user:u"], LONG);
    command.options.dry_run = true;
    let written = engine.write(command, None).await.unwrap();
    assert_eq!(written.propagation, None);
}

#[tokio::test]
async fn a_new_schema_and_a_revoke_by_filter_wait_too() {
    let engine = engine(&BootClock::default()).await;
    let (_changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    let mut command = schema(&format!("{}\n// changed", crate::world::SCHEMA));
    command.options.wait_for_watchers = Some(Duration::from_millis(10));
    assert_eq!(did(&engine, command).await, lagging(&["a"]));
    let filter = crate::world::filter("doc:#viewer");
    let mut command =
        crate::world::command(portcullis::plan::Action::RevokeMatching { filter, limit: 0 });
    command.options.wait_for_watchers = Some(Duration::from_millis(10));
    assert_eq!(did(&engine, command).await, lagging(&["a"]));
}

/// The server has forgotten its leases; the store has not forgotten how long they are.
#[tokio::test]
async fn after_a_start_nothing_is_complete_before_all_older_leases_are_over() {
    let disk = store();
    let clock = BootClock::default();
    let mut options = clock.options();
    options.lease = Duration::from_millis(400);
    let first = open_with(Box::new(disk.reopen()), options.clone()).await;
    assert_eq!(disk.load().unwrap().longest_lease, Duration::ZERO);
    let (_changes, session) = opened(&first, cache("a")).await;
    let lease = ack(&first, "a", &session, token(1)).await;
    assert_eq!(lease, 400);
    assert_eq!(
        disk.load().unwrap().longest_lease,
        Duration::from_millis(400)
    );
    first.close().await.unwrap();
    let again = open_with(Box::new(disk.reopen()), options).await;
    // A session of before is a stranger.
    assert_eq!(ack(&again, "a", &session, token(1)).await, 0);
    let propagation = did(&again, waiting(&["+doc:1#viewer@user:u"], Duration::ZERO)).await;
    assert_eq!(propagation, lagging(&["(before restart)"]));
    let propagation = did(&again, waiting(&["-doc:1#viewer@user:u"], LONG)).await;
    assert_eq!(propagation, complete());
}

#[tokio::test]
async fn the_deadline_ends_a_wait_before_it_would_be_too_late_to_say_so() {
    let engine = engine(&BootClock::default()).await;
    let (_changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    let deadline = std::time::Instant::now() + Duration::from_millis(300);
    let command = waiting(&["+doc:1#viewer@user:u"], LONG);
    let written = engine.write(command, Some(deadline)).await.unwrap();
    assert_eq!(written.propagation, Some(lagging(&["a"])));
}

/// A cache that reads from the log is asked to hurry for the newest write that waits.
#[tokio::test]
async fn who_is_behind_is_asked_to_hurry_too() {
    let engine = engine(&BootClock::default()).await;
    let (_changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    did(&engine, waiting(&["+doc:1#viewer@user:u"], Duration::ZERO)).await;
    let mut options = cache("a");
    options.after = Some(token(0));
    let (mut behind, _) = opened(&engine, options).await;
    let mut came = commits(&mut behind).await;
    if came.len() < 2 {
        came.extend(commits(&mut behind).await);
    }
    let asked: Vec<bool> = came.iter().map(|commit| commit.ack_now).collect();
    assert_eq!(asked, [false, true]);
}

/// A commit that nobody waited for is acknowledged at a cache's next turn; a write that finds it
/// standing, and waits, does not wait for that turn.
#[tokio::test]
async fn a_write_that_changes_nothing_has_caches_hurry_too() {
    let mut options = BootClock::default().options();
    options.heartbeat = SOON * 100;
    let engine = open_with(Box::new(store()), options).await;
    let (mut plain, _) = opened(&engine, WatchOptions::default()).await;
    let (mut changes, session) = opened(&engine, cache("a")).await;
    ack(&engine, "a", &session, token(1)).await;
    let unheard = write(&["+doc:1#viewer@user:u"]);
    engine.write(unheard, None).await.unwrap();
    assert!(!commits(&mut changes).await[0].ack_now);
    let write = sent(&engine, waiting(&["+doc:1#viewer@user:u"], LONG));
    match next(&mut changes).await {
        WatchEvent::Heartbeat { token: at, .. } => assert_eq!(at, token(2)),
        other => panic!("{other:?}"),
    }
    assert!(!write.is_finished());
    ack(&engine, "a", &session, token(2)).await;
    assert_eq!(write.await.unwrap(), complete());
    // Once is enough, and whoever holds no lease is not told at all.
    let short = Duration::from_millis(1);
    assert_eq!(
        did(&engine, waiting(&["+doc:1#viewer@user:u"], short)).await,
        complete()
    );
    engine
        .write(crate::world::write(&["-doc:1#viewer@user:u"]), None)
        .await
        .unwrap();
    assert_eq!(commits(&mut changes).await[0].position.revision.0, 3);
    let told = commits(&mut plain).await.len();
    assert!(told >= 1);
}
