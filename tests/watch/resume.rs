//! Where a stream can go on, and where what its client knows is of no use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis::engine::{Engine, ResetCause, WatchEvent, WatchOptions};
use portcullis::revision::{Epoch, Revision, Token};
use portcullis::store::{MemoryStore, SledStore, Store, StoreError};

use crate::world::{TestClock, did, open, open_with, store};
use crate::{after, commits, next, opened, token};

async fn grown(store: &MemoryStore, name: &str, writes: u64) -> Engine {
    let engine = open(store, &TestClock::at(0)).await;
    write_on(&engine, name, writes).await;
    engine
}

async fn write_on(engine: &Engine, name: &str, writes: u64) {
    for number in 0..writes {
        did(engine, &[&format!("+doc:{name}{number}#viewer@user:u")]).await;
    }
}

/// The newest revision and its chain.
async fn newest(engine: &Engine) -> (Token, u64) {
    let mut changes = engine.watch(WatchOptions::default()).unwrap();
    match next(&mut changes).await {
        WatchEvent::Hello(hello) => (hello.token, hello.chain),
        other => panic!("{other:?}"),
    }
}

/// Opens the directory as soon as whoever had it open has let go of it.
async fn open_directory(path: &Path) -> Engine {
    let store = loop {
        match SledStore::open(path) {
            Ok(store) => break store,
            Err(StoreError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    open_with(Box::new(store), TestClock::at(0).options()).await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn known((after, chain): (Token, u64)) -> WatchOptions {
    WatchOptions {
        after: Some(after),
        after_chain: Some(chain),
        ..WatchOptions::default()
    }
}

/// The first event behind Hello: `Ok` with its revision where the stream goes on.
async fn goes_on(engine: &Engine, options: WatchOptions) -> Result<u64, (ResetCause, u64)> {
    let (mut changes, _) = opened(engine, options).await;
    let outcome = match next(&mut changes).await {
        WatchEvent::Commits(commits) => Ok(commits[0].position.revision.0),
        WatchEvent::Reset { cause, token } => Err((cause, token.revision.0)),
        other => panic!("{other:?}"),
    };
    if let Err((_, revision)) = outcome {
        // And it goes on from there.
        did(engine, &["+doc:later#viewer@user:u"]).await;
        did(engine, &["-doc:later#viewer@user:u"]).await;
        assert_eq!(
            commits(&mut changes).await[0].position.revision.0,
            revision + 1
        );
    }
    outcome
}

#[tokio::test]
async fn a_revision_that_is_ahead_or_of_another_store_begins_anew() {
    let engine = grown(&store(), "a", 4).await;
    let foreign = Token {
        revision: Revision(2),
        epoch: Epoch(0x77_7777),
    };
    let foreign = WatchOptions {
        after: Some(foreign),
        ..WatchOptions::default()
    };
    assert_eq!(goes_on(&engine, foreign).await, Err((ResetCause::Epoch, 5)));
    assert_eq!(
        goes_on(&engine, after(900)).await,
        Err((ResetCause::Ahead, 7))
    );
    assert_eq!(goes_on(&engine, after(4)).await, Ok(5));
}

/// The end of a log is lost, as with a copy of the directory from before, and its revisions are
/// given out again.
#[tokio::test]
async fn another_history_of_the_same_epoch_is_found_by_its_chain() {
    let directory = tempfile::tempdir().unwrap();
    let (lost, kept) = (directory.path().join("lost"), directory.path().join("kept"));
    let engine = open_directory(&lost).await;
    write_on(&engine, "a", 3).await;
    let common = newest(&engine).await;
    engine.close().await.unwrap();
    drop(engine);
    copy(&lost, &kept);
    let engine = open_directory(&lost).await;
    write_on(&engine, "lost", 3).await;
    let middle = newest(&engine).await;
    write_on(&engine, "gone", 3).await;
    let end = newest(&engine).await;
    engine.close().await.unwrap();
    let engine = open_directory(&kept).await;
    write_on(&engine, "anew", 6).await;
    assert_eq!(newest(&engine).await.0, end.0);
    assert_ne!(newest(&engine).await.1, end.1);
    let (common_at, head) = (common.0.revision.0, end.0.revision.0);
    assert_eq!(goes_on(&engine, known(common)).await, Ok(common_at + 1));
    let reset = |revision| Err((ResetCause::History, revision));
    assert_eq!(goes_on(&engine, known(end)).await, reset(head));
    assert_eq!(goes_on(&engine, known(middle)).await, reset(head + 2));
    // Without a chain nobody can tell.
    let (after, _) = middle;
    let untold = WatchOptions {
        after: Some(after),
        ..WatchOptions::default()
    };
    assert_eq!(goes_on(&engine, untold).await, Ok(after.revision.0 + 1));
}

#[tokio::test]
async fn the_chain_of_the_beginning_is_known_too() {
    let store = store();
    let engine = Engine::open(Box::new(store.reopen()), TestClock::at(0).options()).unwrap();
    let mut changes = engine.watch(WatchOptions::default()).unwrap();
    let WatchEvent::Hello(hello) = next(&mut changes).await else {
        panic!("no hello");
    };
    assert_eq!(hello.token, token(0));
    did_schema(&engine).await;
    assert_eq!(
        goes_on(&engine, known((token(0), hello.chain))).await,
        Ok(1)
    );
    let other = goes_on(&engine, known((token(0), !hello.chain))).await;
    assert_eq!(other, Err((ResetCause::History, 1)));
}

async fn did_schema(engine: &Engine) {
    let schema = crate::world::schema(crate::world::SCHEMA);
    engine.write(schema, None).await.unwrap();
}

async fn trimmed_by(store: Box<dyn Store>) {
    let mut options = TestClock::at(0).options();
    options.keeping.checkpoint_every = 50;
    options.keeping.commits = 5;
    let engine = open_with(store, options).await;
    let oldest = loop {
        did(&engine, &["+doc:1#viewer@user:u"]).await;
        did(&engine, &["-doc:1#viewer@user:u"]).await;
        let mut changes = engine.watch(WatchOptions::default()).unwrap();
        match next(&mut changes).await {
            WatchEvent::Hello(hello) if hello.oldest.revision.0 > 3 => break hello.oldest,
            WatchEvent::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let head = engine.status().token.revision.0;
    let at = |token| WatchOptions {
        after: Some(token),
        ..WatchOptions::default()
    };
    let first = engine.token_of(Revision(1));
    let reset = goes_on(&engine, at(first)).await;
    assert_eq!(reset, Err((ResetCause::Trimmed, head)));
    assert_eq!(
        goes_on(&engine, at(oldest)).await,
        Ok(oldest.revision.0 + 1)
    );
}

#[tokio::test]
async fn a_revision_that_is_trimmed_begins_anew() {
    trimmed_by(Box::new(store())).await;
    let directory = tempfile::tempdir().unwrap();
    trimmed_by(Box::new(SledStore::open(directory.path()).unwrap())).await;
}

#[tokio::test]
async fn it_goes_on_after_a_restart_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open_directory(directory.path()).await;
    write_on(&engine, "a", 9).await;
    let (at, chain) = newest(&engine).await;
    engine.close().await.unwrap();
    drop(engine);
    let engine = open_directory(directory.path()).await;
    did(&engine, &["-doc:a1#viewer@user:u"]).await;
    let next = at.revision.0 + 1;
    assert_eq!(goes_on(&engine, known((at, chain))).await, Ok(next));
    let other = goes_on(&engine, known((at, chain ^ 1))).await;
    assert_eq!(other, Err((ResetCause::History, next)));
}
