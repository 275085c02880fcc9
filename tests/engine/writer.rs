//! The laws of the one writer, on a store that stalls and fails.

use std::time::{Duration, Instant};

use portcullis::engine::{Engine, EngineError, WriteOutcome};
use portcullis::revision::Consistency::{Full, Newest};
use portcullis::store::memory::Fault;
use portcullis::store::{MemoryStore, Store};
use tokio::time::{sleep, timeout};

use crate::world::{SCHEMA, TestClock, did, keyed, open, refused, schema, store, stored, write};

const STALL: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_millis(100);

async fn stalled() -> (MemoryStore, Engine) {
    let store = store();
    let engine = open(&store, &TestClock::at(0)).await;
    did(&engine, &["+doc:0#viewer@user:u"]).await;
    store.faults().appends([Fault::Stall(STALL)]);
    (store, engine)
}

/// The write, on its way to the writer when this returns.
fn sent(engine: &Engine, parts: &[&str]) -> tokio::task::JoinHandle<Result<u64, EngineError>> {
    let (engine, command) = (engine.clone(), write(parts));
    tokio::spawn(async move {
        let written = engine.write(command, None).await?;
        Ok(written.token.revision.0)
    })
}

#[tokio::test]
async fn nothing_is_answered_or_seen_before_its_sync() {
    let (_store, engine) = stalled().await;
    let mut grant = sent(&engine, &["+doc:1#viewer@user:u"]);
    assert!(
        timeout(SOON, &mut grant).await.is_err(),
        "answered before the sync"
    );
    assert_eq!(
        stored(&engine, Newest).await,
        ["doc:0#viewer@user:u"],
        "seen before the sync"
    );
    assert_eq!(grant.await.unwrap(), Ok(3));
    assert_eq!(stored(&engine, Newest).await.len(), 2);
}

#[tokio::test]
async fn what_was_planned_on_a_batch_waits_for_its_sync() {
    let (store, engine) = stalled().await;
    // While the first append stalls, these become one batch, which stalls too.
    let first = sent(&engine, &["+doc:1#viewer@user:u"]);
    sleep(SOON).await;
    store.faults().appends([Fault::Stall(STALL)]);
    let grant = sent(&engine, &["+doc:2#viewer@user:u"]);
    sleep(Duration::from_millis(10)).await;
    let refused = sent(&engine, &["!doc:2#viewer@user:u"]);
    let unchanged = sent(&engine, &["+doc:2#viewer@user:u"]);
    let mut dry = write(&["/doc:2#viewer@user:u"]);
    dry.options.dry_run = true;
    let dry = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.write(dry, None).await })
    };
    assert_eq!(first.await.unwrap(), Ok(3));
    let published = Instant::now();
    let refused = refused.await.unwrap();
    assert!(
        published.elapsed() > STALL / 2,
        "a refusal was answered before the sync"
    );
    assert!(refused.unwrap_err().to_string().contains("stands already"));
    assert_eq!(unchanged.await.unwrap(), Ok(4));
    assert_eq!(dry.await.unwrap().unwrap().revoked, 1);
    assert_eq!(
        grant.await.unwrap(),
        Ok(4),
        "one batch, one commit: the others changed nothing"
    );
}

/// The outcome of a write in the failed append, of one that was refused there, and of a later one.
async fn check_failure(fault: Fault, expected: WriteOutcome) {
    let (store, engine) = stalled().await;
    store.faults().appends([fault]);
    let first = sent(&engine, &["+doc:1#viewer@user:u"]);
    sleep(SOON).await;
    let failed = sent(&engine, &["+doc:2#viewer@user:u"]);
    sleep(Duration::from_millis(10)).await;
    let planned_on_it = sent(&engine, &["!doc:2#viewer@user:u"]);
    assert_eq!(first.await.unwrap(), Ok(3));
    let outcome = |error: EngineError| match error {
        EngineError::StoreFailed { outcome, .. } => outcome,
        other => panic!("{other}"),
    };
    assert_eq!(
        outcome(failed.await.unwrap().unwrap_err()),
        Some(expected),
        "{fault:?}"
    );
    let planned_on_it = outcome(planned_on_it.await.unwrap().unwrap_err());
    assert_eq!(planned_on_it, Some(WriteOutcome::NotWritten), "{fault:?}");
    let later = outcome(refused(&engine, &["+doc:3#viewer@user:u"]).await);
    assert_eq!(later, Some(WriteOutcome::NotWritten), "{fault:?}");
    assert!(!engine.status().writable);
    assert!(engine.watch_writable().borrow().is_some());
    assert_eq!(
        stored(&engine, Newest).await.len(),
        2,
        "reads go on as of the last sync"
    );
    drop(engine.close().await);
    let again = open(&store, &TestClock::at(0)).await;
    let expected = 2 + usize::from(fault == Fault::WrittenUnknown);
    assert_eq!(stored(&again, Full).await.len(), expected, "{fault:?}");
}

#[tokio::test]
async fn a_failed_append_ends_all_writing() {
    check_failure(Fault::NotWritten, WriteOutcome::NotWritten).await;
    check_failure(Fault::WrittenUnknown, WriteOutcome::Unknown).await;
    check_failure(Fault::Torn, WriteOutcome::Unknown).await;
}

/// Whoever asks again, or for what the failed append would have made, must not be told that
/// nothing stands.
#[tokio::test]
async fn what_rests_on_a_failed_append_is_as_unknown_as_that() {
    let (store, engine) = stalled().await;
    store.faults().appends([Fault::WrittenUnknown]);
    let first = sent(&engine, &["+doc:1#viewer@user:u"]);
    sleep(SOON).await;
    let send = |command| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.write(command, None).await })
    };
    let grant = || write(&["+doc:2#viewer@user:u"]);
    let mut dry = grant();
    dry.options.dry_run = true;
    let mut answers = Vec::new();
    for command in [
        keyed(grant(), "c", "k"),
        keyed(grant(), "c", "k"),
        grant(),
        dry,
    ] {
        answers.push(send(command));
        sleep(Duration::from_millis(10)).await;
    }
    first.await.unwrap().unwrap();
    let mut outcomes = Vec::new();
    for answer in answers {
        match answer.await.unwrap().unwrap_err() {
            EngineError::StoreFailed { outcome, .. } => outcomes.push(outcome.unwrap()),
            other => panic!("{other}"),
        }
    }
    let unknown = WriteOutcome::Unknown;
    assert_eq!(
        outcomes,
        [unknown, unknown, unknown, WriteOutcome::NotWritten],
        "the first, its repeat, one that found it done, a dry run"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_one_order() {
    let store = store();
    let engine = open(&store, &TestClock::at(0)).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let engine = engine.clone();
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for n in 0..20 {
                // Every writer also races for one tuple a round; exactly one creates it.
                let own = format!("+doc:{writer}#viewer@user:u{n}");
                let raced = format!("!doc:raced#viewer@user:u{n}");
                revisions.push(did(&engine, &[&own]).await.token.revision.0);
                let won = engine.write(write(&[&raced]), None).await;
                revisions.extend(won.map(|written| written.token.revision.0));
            }
            assert!(revisions.is_sorted());
            revisions
        });
    }
    let mut all: Vec<u64> = writers.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    let expected: Vec<u64> = (2..2 + 64 * 20 + 20).collect();
    assert_eq!(all, expected, "each write its own revision, without a gap");
    let kept = stored(&engine, Newest).await;
    assert_eq!(kept.len(), 64 * 20 + 20);
    engine.close().await.unwrap();
    assert_eq!(
        stored(&open(&store, &TestClock::at(0)).await, Newest).await,
        kept
    );
}

#[tokio::test]
async fn what_has_expired_goes_with_a_commit_of_its_own() {
    let clock = TestClock::at(100);
    let store = store();
    let engine = open(&store, &clock).await;
    did(
        &engine,
        &[
            "+doc:1#guest@user:a[expiration:1970-01-01T00:03:20Z]",
            "+doc:1#guest@user:b[expiration:1970-01-01T00:05:00Z]",
        ],
    )
    .await;
    sleep(SOON).await;
    assert_eq!(engine.status().token.revision.0, 2, "nothing is due yet");
    clock.set(200);
    sleep(SOON).await;
    assert_eq!(
        (engine.status().token.revision.0, engine.status().tuples),
        (3, 1)
    );
    let (commit, _) = store
        .read(portcullis::revision::Revision(2), 1)
        .unwrap()
        .remove(0);
    assert_eq!(commit.time, crate::world::at(200));
    assert_eq!(
        format!("{:?}", commit.changes).matches("Expired").count(),
        1
    );
    // The clock may run back; the server's time does not.
    clock.set(50);
    assert_eq!(engine.now(), crate::world::at(200));
    did(&engine, &["+doc:2#viewer@user:a"]).await;
    let (commit, _) = store
        .read(portcullis::revision::Revision(3), 1)
        .unwrap()
        .remove(0);
    assert_eq!(commit.time, crate::world::at(200));
}

#[tokio::test]
async fn deadlines_and_the_end_say_what_became_of_a_write() {
    let (_store, engine) = stalled().await;
    let deadline = Some(Instant::now() + SOON);
    let late = engine
        .write(write(&["+doc:1#viewer@user:u"]), deadline)
        .await;
    let unknown = Some(WriteOutcome::Unknown);
    assert_eq!(
        late,
        Err(EngineError::DeadlineExceeded { outcome: unknown })
    );
    engine.close().await.unwrap();
    assert_eq!(
        stored(&engine, Newest).await.len(),
        2,
        "it was written all the same"
    );
    assert_eq!(
        refused(&engine, &["+doc:2#viewer@user:u"]).await,
        EngineError::ShuttingDown
    );
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_closing_writer_answers_what_waits() {
    let (_store, engine) = stalled().await;
    let waiting: Vec<_> = (1..5)
        .map(|n| sent(&engine, &[&format!("+doc:{n}#viewer@user:u")]))
        .collect();
    sleep(SOON).await;
    engine.close().await.unwrap();
    for write in waiting {
        assert!(write.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn without_watchers_every_write_has_reached_them() {
    let store = store();
    let engine = open(&store, &TestClock::at(0)).await;
    let waiting = || {
        let mut command = write(&["+doc:1#viewer@user:u"]);
        command.options.wait_for_watchers = Some(Duration::from_millis(1));
        keyed(command, "c", "k")
    };
    let written = engine.write(waiting(), None).await.unwrap();
    assert!(written.propagation.unwrap().complete);
    engine.close().await.unwrap();
    // A run that granted leases leaves some that the next one does not know.
    store.note_lease(Duration::from_secs(30)).unwrap();
    let engine = open(&store, &TestClock::at(0)).await;
    let propagation = engine
        .write(waiting(), None)
        .await
        .unwrap()
        .propagation
        .unwrap();
    assert!(!propagation.complete);
    assert_eq!(propagation.laggards, ["(before restart)"]);
    assert_eq!(
        engine
            .write(schema(SCHEMA), None)
            .await
            .unwrap()
            .propagation,
        None
    );
}

/// Who writes little waits for one long write at most, however many came before.
#[tokio::test]
async fn a_small_write_waits_for_one_long_write() {
    let (store, engine) = stalled().await;
    let many = |first: usize| -> Vec<String> {
        let numbers = first * 1_000..(first + 1) * 1_000;
        numbers
            .map(|n| format!("+doc:{n}#viewer@user:u{n}"))
            .collect()
    };
    let long = [1, 2, 3, 4].map(|first| {
        let texts = many(first);
        sent(
            &engine,
            &texts.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    });
    let small = sent(
        &engine,
        &["+doc:1#guest@user:u[expiration:2000-01-01T00:00:00Z]"],
    );
    store.faults().appends(vec![Fault::Stall(SOON); 4]);
    let mut revisions = Vec::new();
    for long in long {
        revisions.push(long.await.unwrap().unwrap());
    }
    assert!(revisions.is_sorted(), "{revisions:?}");
    let small = small.await.unwrap().unwrap();
    assert!(small <= 4, "it was revision {small}, beside {revisions:?}");
}
