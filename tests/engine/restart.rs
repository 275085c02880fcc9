//! Restarts of an engine that merges its index, writes checkpoints and trims its log as it runs.

use std::path::Path;
use std::time::Duration;

use portcullis::engine::{Engine, EngineError, EngineOptions, Keeping, Written};
use portcullis::plan::Command;
use portcullis::revision::Consistency::{Exactly, Newest};
use portcullis::revision::{Revision, Token};
use portcullis::store::{MemoryStore, SledStore, Store, StoreError};

use crate::world::{
    SCHEMA, TestClock, did, keyed, open_with, refused, schema, store, stored, write,
};

const KEEPING: Keeping = Keeping {
    checkpoint_every: 20,
    checkpoint_at_end: 1_000,
    commits: 30,
    age: None,
};
/// So many turns of a [`turn`], each two commits.
const TURNS: i64 = 60;

fn options(clock: &TestClock) -> EngineOptions {
    EngineOptions {
        keeping: KEEPING,
        ..clock.options()
    }
}

/// A keyed write and one that is not, and time goes on, so that something expires now and then.
fn keyed_turn(n: i64) -> Command {
    let guest = format!(
        "+doc:{n}#guest@user:g[expiration:1970-01-01T00:00:{:02}Z]",
        n % 60
    );
    let viewer = format!("+doc:{}#viewer@team:{n}#member", n % 7);
    keyed(write(&[&guest, &viewer]), "c", &n.to_string())
}

async fn turn(engine: &Engine, clock: &TestClock, n: i64) -> Written {
    clock.set(n / 2);
    let answer = engine.write(keyed_turn(n), None).await.unwrap();
    did(
        engine,
        &[&format!("-doc:{}#viewer@team:{}#member", n % 5, n / 2)],
    )
    .await;
    if n % 20 == 7 {
        // Names that come and go keep their numbers.
        let more = format!("{SCHEMA}\ndefinition extra{n} {{ relation r{n}: user }}");
        engine.write(schema(&more), None).await.unwrap();
    }
    answer
}

/// What a restart must keep.
async fn picture(engine: &Engine) -> (Token, Vec<String>, String, Token) {
    let view = engine.schema(Newest, None).await.unwrap();
    (
        view.token,
        stored(engine, Newest).await,
        view.schema.unwrap().text.to_string(),
        view.written_at,
    )
}

async fn oldest(store: &dyn Store) -> Revision {
    // Checkpoints are made beside the writer.
    for _ in 0..500 {
        if store.oldest().unwrap() > Revision(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.oldest().unwrap()
}

/// An engine from the same log is the same, repeats get their answers, and it goes on.
async fn check_restarted(
    again: &Engine,
    before: &(Token, Vec<String>, String, Token),
    answers: &[Written],
) {
    assert_eq!(&picture(again).await, before);
    for (n, answer) in (0..).zip(answers) {
        let repeat = again.write(keyed_turn(n), None).await.unwrap();
        assert_eq!(&repeat, answer, "key {n}");
        let other = keyed(write(&["+doc:1#viewer@user:x"]), "c", &n.to_string());
        let reused = again.write(other, None).await.unwrap_err();
        assert!(reused.to_string().contains("another request"), "{reused}");
    }
    assert_eq!(&picture(again).await, before, "a repeat changed something");
    let gone = Exactly(Token {
        revision: Revision(3),
        ..before.0
    });
    let trimmed = again.schema(gone, None).await.unwrap_err();
    assert!(
        matches!(trimmed, EngineError::RevisionTrimmed { .. }),
        "{trimmed}"
    );
    let next = did(again, &["+doc:next#viewer@user:u"]).await;
    assert_eq!(next.token.revision, before.0.revision.next());
}

async fn filled(engine: &Engine, clock: &TestClock) -> Vec<Written> {
    let mut answers = Vec::new();
    for n in 0..TURNS {
        answers.push(turn(engine, clock, n).await);
    }
    // What is due goes within the next looks at the clock.
    tokio::time::sleep(Duration::from_millis(200)).await;
    answers
}

#[tokio::test]
async fn checkpoints_trim_the_log_and_restarts_are_the_same() {
    let (clock, log) = (TestClock::at(0), store());
    let engine = open_with(Box::new(log.reopen()), options(&clock)).await;
    let answers = filled(&engine, &clock).await;
    let before = picture(&engine).await;
    let oldest = oldest(&log).await;
    assert!(
        oldest > Revision(0) && oldest.0 + KEEPING.commits <= before.0.revision.0,
        "{oldest}"
    );
    assert!(log.load().unwrap().checkpoint.is_some());
    engine.close().await.unwrap();
    let again = open_with(Box::new(log.reopen()), options(&clock)).await;
    check_restarted(&again, &before, &answers).await;
}

#[tokio::test]
async fn what_is_too_old_goes_although_it_is_among_the_newest() {
    let (clock, log) = (TestClock::at(0), store());
    let mut options = options(&clock);
    options.keeping.commits = 1_000;
    options.keeping.age = Some(Duration::from_secs(10));
    let engine = open_with(Box::new(log.reopen()), options).await;
    filled(&engine, &clock).await;
    let oldest = oldest(&log).await;
    let first = log.read(oldest, 1).unwrap().remove(0).0;
    let checkpoint = log.load().unwrap().checkpoint.unwrap();
    let age = checkpoint.time.since(first.time);
    assert!(age <= Duration::from_secs(10), "{oldest}: {age:?}");
    assert!(
        age >= Duration::from_secs(8),
        "{oldest}: {age:?}: too much went"
    );
}

/// The threads of the engine before may still be letting go of it.
fn reopened(path: &Path) -> SledStore {
    for _ in 0..500 {
        match SledStore::open(path) {
            Err(StoreError::InUse { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays in use", path.display());
}

/// Until the last checkpoint, which is made beside the writer, has been made and tidied up after.
async fn at_rest(data: &Path) {
    let files = || {
        let entries = std::fs::read_dir(data.join("checkpoints")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (mut last, mut quiet) = (files(), 0);
    while quiet < 40 || last.len() != 2 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let now = files();
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

#[tokio::test]
async fn so_does_the_store_on_disk_after_an_end_and_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (data, crashed) = (dir.path().join("data"), dir.path().join("crashed"));
    let clock = TestClock::at(0);
    let sled = || Box::new(reopened(&data));
    let engine = open_with(sled(), options(&clock)).await;
    let answers = filled(&engine, &clock).await;
    let before = picture(&engine).await;
    at_rest(&data).await;
    // As a killed process leaves it.
    copy(&data, &crashed);
    engine.close().await.unwrap();
    drop(engine);
    {
        let closed = reopened(&data);
        assert!(closed.oldest().unwrap() > Revision(0), "it was not trimmed");
        assert!(closed.load().unwrap().checkpoint.is_some());
        closed.close().unwrap();
    }
    for path in [&data, &crashed] {
        let store = Box::new(reopened(path));
        let again = open_with(store, options(&clock)).await;
        check_restarted(&again, &before, &answers).await;
        again.close().await.unwrap();
    }
    // The checkpoint before the newest carries a start too.
    let mut files: Vec<_> = std::fs::read_dir(crashed.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    std::fs::write(files.pop().unwrap(), "damaged").unwrap();
    let store = Box::new(reopened(&crashed));
    let again = open_with(store, options(&clock)).await;
    assert_eq!(again.status().token.revision, before.0.revision.next());
}

/// 40,000 tuples in the delta are more than are left unmerged.
#[tokio::test]
async fn an_index_that_merges_while_it_is_written_loses_nothing() {
    let (clock, log) = (TestClock::at(0), MemoryStore::default());
    let engine = open_with(Box::new(log.reopen()), options(&clock)).await;
    let mut expected = Vec::new();
    for turn in 0..8 {
        let tuples: Vec<String> = (0..5_000)
            .map(|n| format!("doc:{turn}-{n}#viewer@user:u{}", n % 97))
            .collect();
        let grants: Vec<String> = tuples.iter().map(|tuple| format!("+{tuple}")).collect();
        did(
            &engine,
            &grants.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
        expected.extend(tuples);
    }
    // Revoked, granted anew and replaced while segments merge.
    for n in 0..40 {
        let (gone, kept) = (format!("-{}", expected[0]), format!("+{}", expected[1 + n]));
        did(&engine, &[&gone, &kept]).await;
        expected.remove(0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    expected.sort();
    assert_eq!(stored(&engine, Newest).await, expected);
    let exists = refused(&engine, &[&format!("!{}", expected[100])]).await;
    assert!(exists.to_string().contains("stands already"), "{exists}");
    engine.close().await.unwrap();
    let again = open_with(Box::new(log.reopen()), options(&clock)).await;
    assert_eq!(stored(&again, Newest).await, expected);
}
