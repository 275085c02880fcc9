//! A watcher sees exactly the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::engine::{
    Audience, Changes, Engine, EngineError, EngineOptions, WatchEvent, WatchOptions,
};
use portcullis::plan::{Action, Operation, Update};
use portcullis::revision::Consistency;

use crate::world::{SCHEMA, TestClock, command, did, open, open_with, store, stored, write};
use crate::{after, commits, next, opened, token, told};

/// What a watcher that went through the whole log has seen: revisions and what changed.
async fn seen_until(changes: &mut Changes, last: u64, seen: &mut Vec<(u64, Vec<String>)>) {
    while seen.last().is_none_or(|(revision, _)| *revision < last) {
        for commit in commits(changes).await {
            let told = told(std::slice::from_ref(&commit));
            seen.push((commit.position.revision.0, told));
        }
    }
}

fn is_whole(seen: &[(u64, Vec<String>)], from: u64) {
    for (index, (revision, _)) in seen.iter().enumerate() {
        assert_eq!(*revision, from + index as u64);
    }
}

/// Draws numbers that look random, the same in each run.
fn drawn(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// 64 writers; watchers that stay, that resume at random places, and one that comes at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_comes_once_and_in_order() {
    const WRITERS: u64 = 64;
    const WRITES: u64 = 60;
    let store = store();
    let engine = open(&store, &TestClock::at(0)).await;
    let first = engine.status().token.revision.0;
    let last = first + WRITERS * WRITES;
    let restless = |seed: u64| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let (mut state, mut seen) = (seed, Vec::new());
            while seen.last().is_none_or(|(revision, _)| *revision < last) {
                let from = seen.last().map_or(first, |(revision, _)| *revision);
                let (mut changes, _) = opened(&engine, after(from)).await;
                let until = (from + 1 + drawn(&mut state) % 900).min(last);
                seen_until(&mut changes, until, &mut seen).await;
                if drawn(&mut state).is_multiple_of(3) {
                    tokio::time::sleep(Duration::from_millis(drawn(&mut state) % 20)).await;
                }
            }
            seen
        })
    };
    let watchers: Vec<_> = (1..=8).map(|seed| restless(seed * 7_919)).collect();
    let writers = (0..WRITERS).map(|writer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 0..WRITES {
                did(&engine, &[&format!("+doc:{writer}-{number}#viewer@user:u")]).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let (mut late, _) = opened(&engine, after(first)).await;
    let mut log = Vec::new();
    seen_until(&mut late, last, &mut log).await;
    is_whole(&log, first + 1);
    let once: BTreeSet<_> = log.iter().map(|(_, told)| told).collect();
    assert_eq!(once.len() as u64, WRITERS * WRITES);
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), log);
    }
}

/// It costs nobody anything, and finds everything when it reads at last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_never_reads_misses_nothing() {
    const WRITES: u64 = 100_000;
    let store = store();
    let engine = open(&store, &TestClock::at(0)).await;
    let first = engine.status().token.revision.0;
    let (mut idle, _) = opened(&engine, WatchOptions::default()).await;
    let writers = (0..100).map(|writer: u64| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 0..WRITES / 100 {
                let sign = if number % 2 == 0 { '+' } else { '-' };
                did(&engine, &[&format!("{sign}doc:{writer}#viewer@user:u")]).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(engine.watchers()[0].sent, token(first));
    let mut expected = first;
    while expected < first + WRITES {
        for commit in commits(&mut idle).await {
            expected += 1;
            assert_eq!(commit.position.revision.0, expected);
        }
    }
}

/// At any moment the snapshot and what follows it make what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_and_what_follows_is_the_state() {
    let store = store();
    let engine = open(&store, &TestClock::at(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (engine, stop) = (engine.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut state = 77;
            while !stop.load(Ordering::Relaxed) {
                let doc = drawn(&mut state) % 700;
                let sign = ["+", "-"][usize::from(drawn(&mut state).is_multiple_of(3))];
                let kind = ["doc", "team"][usize::from(doc.is_multiple_of(5))];
                let relation = if kind == "doc" { "viewer" } else { "member" };
                did(&engine, &[&format!("{sign}{kind}:{doc}#{relation}@user:u")]).await;
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    for types in [vec![], vec!["team"], vec!["team", "doc"]] {
        let options = WatchOptions {
            snapshot: true,
            resource_types: types.iter().map(|kind| Arc::from(*kind)).collect(),
            ..WatchOptions::default()
        };
        let (mut changes, _) = opened(&engine, options).await;
        let mut tuples = BTreeSet::new();
        let mut at = loop {
            let WatchEvent::Snapshot(piece) = next(&mut changes).await else {
                panic!("a snapshot comes first");
            };
            for tuple in piece.tuples {
                assert!(tuples.insert(tuple.to_string()), "{tuple} twice");
            }
            if piece.is_last {
                break piece.state.revision.0;
            }
        };
        let until = engine.status().token.revision.0 + 50;
        while at < until {
            for commit in commits(&mut changes).await {
                at += 1;
                assert_eq!(commit.position.revision.0, at);
                for line in told(std::slice::from_ref(&commit)) {
                    let (sign, tuple) = line.split_at(1);
                    if !types.is_empty() && !types.iter().any(|kind| tuple.starts_with(kind)) {
                        continue;
                    }
                    match sign {
                        "+" => tuples.insert(tuple.to_owned()),
                        _ => tuples.remove(tuple),
                    };
                }
            }
        }
        let mut stored = stored(&engine, Consistency::Exactly(token(at))).await;
        stored.retain(|tuple| types.is_empty() || types.iter().any(|kind| tuple.starts_with(kind)));
        assert_eq!(tuples.into_iter().collect::<Vec<_>>(), stored);
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
}

#[tokio::test]
async fn what_expires_arrives_as_a_change() {
    let clock = TestClock::at(0);
    let store = store();
    let engine = open(&store, &clock).await;
    let (mut changes, _) = opened(&engine, WatchOptions::default()).await;
    let mut guest: portcullis::tuple::Tuple = "doc:1#guest@user:u".parse().unwrap();
    guest.expires_at = Some(crate::world::at(10));
    let update = Update {
        operation: Operation::Grant,
        tuple: guest,
    };
    let grant = Action::Write {
        updates: vec![update],
        preconditions: Vec::new(),
    };
    engine.write(command(grant), None).await.unwrap();
    assert!(told(&commits(&mut changes).await)[0].starts_with("+doc:1#guest@user:u"));
    clock.set(10);
    let expired = told(&commits(&mut changes).await);
    assert!(
        expired[0].starts_with("expired doc:1#guest@user:u"),
        "{expired:?}"
    );
}

#[tokio::test]
async fn an_idle_stream_gives_a_sign_of_life() {
    let options = EngineOptions {
        heartbeat: Duration::from_millis(5),
        ..TestClock::at(0).options()
    };
    let engine = open_with(Box::new(store()), options).await;
    let (mut changes, _) = opened(&engine, WatchOptions::default()).await;
    for _ in 0..3 {
        match next(&mut changes).await {
            WatchEvent::Heartbeat { token, .. } => assert_eq!(token, engine.status().token),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn streams_are_bounded_and_leave_when_they_are_dropped() {
    let options = EngineOptions {
        watchers: 2,
        ..TestClock::at(0).options()
    };
    let engine = open_with(Box::new(store()), options).await;
    let watch = || engine.watch(WatchOptions::default());
    let (first, second) = (watch().unwrap(), watch().unwrap());
    let refused = watch().err();
    assert_eq!(refused, Some(EngineError::TooManyWatchers { limit: 2 }));
    assert_eq!(engine.watchers().len(), 2);
    drop(first);
    assert_eq!(engine.watchers().len(), 1);
    assert!(watch().is_ok());
    drop(second);
    assert!(engine.watchers().is_empty());
}

/// A state that is held costs memory: few are, and none for a reader that has stopped.
#[tokio::test]
async fn snapshots_are_bounded_and_end_where_nobody_reads_them() {
    let options = EngineOptions {
        snapshots: 1,
        snapshot_patience: Duration::from_millis(1),
        ..TestClock::at(0).options()
    };
    let engine = open_with(Box::new(store()), options.clone()).await;
    for doc in 0..300 {
        did(&engine, &[&format!("+doc:{doc}#viewer@user:u")]).await;
    }
    let snapshot = || WatchOptions {
        snapshot: true,
        ..WatchOptions::default()
    };
    let mut first = engine.watch(snapshot()).unwrap();
    assert!(matches!(next(&mut first).await, WatchEvent::Hello(_)));
    // In time its place is free again, though it stays open.
    let begun = std::time::Instant::now();
    let _second = loop {
        let mut second = engine.watch(snapshot()).unwrap();
        match second.next().await {
            Ok(_) => break second,
            Err(error) => assert_eq!(error, EngineError::TooManySnapshots { limit: 1 }),
        }
        assert!(begun.elapsed() < crate::SOON, "it is held for ever");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let lost = first.next().await.err();
    assert!(
        matches!(lost, Some(EngineError::RevisionTrimmed { .. })),
        "{lost:?}"
    );
    // With patience one is refused while the other is read, to its end.
    let patient = EngineOptions {
        snapshot_patience: crate::SOON * 100,
        ..options
    };
    let engine = open_with(Box::new(store()), patient).await;
    for doc in 0..300 {
        did(&engine, &[&format!("+doc:{doc}#viewer@user:u")]).await;
    }
    let (mut first, _) = opened(&engine, snapshot()).await;
    let refused = engine.watch(snapshot()).unwrap().next().await.err();
    assert_eq!(refused, Some(EngineError::TooManySnapshots { limit: 1 }));
    let mut seen = 0;
    loop {
        let WatchEvent::Snapshot(piece) = next(&mut first).await else {
            panic!("a snapshot comes first");
        };
        seen += piece.tuples.len();
        if piece.is_last {
            break;
        }
    }
    assert_eq!(seen, 300);
    opened(&engine, snapshot()).await;
}

#[tokio::test]
async fn an_unknown_type_is_no_filter() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let options = WatchOptions {
        resource_types: vec!["doc".into(), "dco".into()],
        ..WatchOptions::default()
    };
    let error = engine.watch(options).err().unwrap();
    assert!(
        matches!(error, EngineError::WatchedType { index: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("dco"), "{error}");
}

#[tokio::test]
async fn streams_end_when_serving_does() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let (mut waiting, _) = opened(&engine, WatchOptions::default()).await;
    let waits = tokio::spawn(async move { waiting.next().await.err() });
    let (mut behind, _) = opened(&engine, after(0)).await;
    engine.end_watches();
    assert_eq!(waits.await.unwrap(), Some(EngineError::ShuttingDown));
    assert_eq!(behind.next().await.err(), Some(EngineError::ShuttingDown));
    assert_eq!(
        engine.watch(after(0)).err(),
        Some(EngineError::ShuttingDown)
    );
    // Everything else goes on.
    did(&engine, &["+doc:1#viewer@user:u"]).await;
}

#[tokio::test]
async fn a_commit_is_encoded_once_for_each_kind_of_watcher() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let (mut one, _) = opened(&engine, WatchOptions::default()).await;
    let (mut other, _) = opened(&engine, WatchOptions::default()).await;
    did(&engine, &["+doc:1#viewer@user:u"]).await;
    let (one, other) = (commits(&mut one).await, commits(&mut other).await);
    let made = one[0].encoded(Audience::Plain, |_| vec![vec![1].into()]);
    let again = other[0].encoded(Audience::Plain, |_| panic!("made a second time"));
    assert!(Arc::ptr_eq(&made, &again));
    let keys = other[0].encoded(Audience::Keys, |_| vec![vec![2].into()]);
    assert_ne!(made, keys);
}

/// A watcher behind the writer by more than memory holds reads the log, and then lives on.
#[tokio::test]
async fn far_behind_it_reads_the_log_until_it_has_caught_up() {
    let engine: Engine = open(&store(), &TestClock::at(0)).await;
    let updates: Vec<String> = (0..9_000)
        .map(|n| format!("+doc:{n}#viewer@user:u"))
        .collect();
    for piece in updates.chunks(3) {
        let piece: Vec<&str> = piece.iter().map(String::as_str).collect();
        engine.write(write(&piece), None).await.unwrap();
    }
    let (mut changes, _) = opened(&engine, after(0)).await;
    let mut seen = Vec::new();
    seen_until(&mut changes, 3_001, &mut seen).await;
    is_whole(&seen, 1);
    assert_eq!(seen[0].1, ["schema"]);
    assert!(SCHEMA.contains("definition doc"));
    did(&engine, &["-doc:1#viewer@user:u"]).await;
    assert_eq!(told(&commits(&mut changes).await), ["-doc:1#viewer@user:u"]);
}
