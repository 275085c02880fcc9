//! What every store does: the same checks for the one in memory and the one on sled.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis::revision::{Epoch, Revision};
use portcullis::state::{Change, Commit, Remembered};
use portcullis::store::memory::Fault;
use portcullis::store::{Appended, Loaded, MemoryStore, Position, SledStore, Store, StoreError};
use portcullis::time::Timestamp;

fn time(revision: u64) -> Timestamp {
    Timestamp::new(1_700_000_000 + i64::try_from(revision).unwrap(), 7).unwrap()
}

/// A commit with something of everything.
fn commit(revision: u64) -> Commit {
    let tuple = |text: &str| text.parse().unwrap();
    let metadata = serde_json::json!({"ticket": "OPS-1", "weight": 0.1, "n": [1, null, true]});
    let restricted = "doc:a#viewer@user:*[only:{\"max\":0.30000000000000004}]\
                      [expiration:2030-01-31T12:00:00.5Z]";
    Commit {
        revision: Revision(revision),
        time: time(revision),
        actor: Some("team:core#member".parse().unwrap()),
        reason: format!("because of {revision}"),
        metadata: Some(Arc::new(metadata.as_object().unwrap().clone())),
        changes: vec![
            Change::Schema("definition user {}".into()),
            Change::Granted(tuple(restricted)),
            Change::Revoked(tuple("doc:b#roles=scope/key@team:x#member")),
            Change::Expired(tuple("doc:c:d#viewer@user:ü")),
        ],
        remembered: Some(Remembered {
            caller: "ci".into(),
            key: "k".into(),
            request_hash: u64::MAX,
            granted: 1,
            revoked: revision,
        }),
    }
}

fn commits(from: u64, to: u64) -> Vec<Commit> {
    (from..=to).map(commit).collect()
}

#[track_caller]
fn durable(appended: Appended) -> Position {
    match appended {
        Appended::Durable(positions) => *positions.last().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Appends commits up to `to` in batches of three.
#[track_caller]
fn fill(store: &dyn Store, to: u64) -> Position {
    let mut end = store.head().unwrap();
    while end.revision.0 < to {
        let last = (end.revision.0 + 3).min(to);
        end = durable(store.append(end, &commits(end.revision.0 + 1, last)));
    }
    end
}

fn loaded(store: &dyn Store) -> (Loaded, Vec<(Commit, Position)>) {
    let mut loaded = store.load().unwrap();
    let commits = std::mem::replace(&mut loaded.commits, Box::new(std::iter::empty()));
    let commits = commits.collect::<Result<_, _>>().unwrap();
    (loaded, commits)
}

fn save(store: &dyn Store, position: Position) {
    let text = format!("state at {}", position.revision);
    let at = time(position.revision.0);
    let saved = store.checkpoint(position, at, &mut |out| out.write_all(text.as_bytes()));
    saved.unwrap();
}

type Reopen<'a> = &'a dyn Fn(Box<dyn Store>) -> Box<dyn Store>;

/// Runs a law on each store, on sled with and without a clean end: it gets an open store, and how
/// to open it again.
fn check(law: impl Fn(Box<dyn Store>, Reopen<'_>)) {
    let memory = MemoryStore::new(Epoch(0x9f_3ac1), 1);
    let kept = memory.reopen();
    law(Box::new(memory), &|_| Box::new(kept.reopen()));
    for close in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let open = || Box::new(SledStore::open(directory.path()).unwrap()) as Box<dyn Store>;
        law(open(), &|store| {
            if close {
                store.close().unwrap();
            }
            drop(store);
            open()
        });
    }
}

#[test]
fn a_new_store_is_fresh_once() {
    check(|store, reopen| {
        let (first, commits) = loaded(&*store);
        assert!(first.fresh && commits.is_empty() && first.checkpoint.is_none());
        assert_eq!(first.position.revision, Revision(0));
        assert!(first.epoch.0 >= 1 << 23);
        let store = reopen(store);
        let (again, _) = loaded(&*store);
        assert!(!again.fresh);
        let all = |found: &Loaded| (found.epoch, found.seed, found.position);
        assert_eq!(all(&again), all(&first));
    });
}

#[test]
fn what_was_appended_is_loaded_and_read() {
    check(|store, reopen| {
        let end = fill(&*store, 10);
        let store = reopen(store);
        let (found, log) = loaded(&*store);
        assert_eq!(found.position, end);
        let plain: Vec<_> = log.iter().map(|(commit, _)| commit.clone()).collect();
        assert_eq!(plain, commits(1, 10));
        assert_eq!(log.last().unwrap().1, end);
        assert_eq!(store.read(Revision(3), 4).unwrap(), log[3..7]);
        assert_eq!(store.read(Revision(0), usize::MAX).unwrap(), log);
        for (after, limit) in [(10, 5), (99, 5), (3, 0), (u64::MAX, 5)] {
            assert_eq!(store.read(Revision(after), limit).unwrap(), []);
        }
        assert_eq!(fill(&*store, 12).revision, Revision(12));
    });
}

#[test]
fn an_append_elsewhere_is_a_conflict() {
    check(|store, _| {
        let start = store.head().unwrap();
        let end = fill(&*store, 3);
        let chain = end.chain ^ 1;
        let foreign = Position { chain, ..end };
        for (after, from) in [(start, 1), (foreign, 4)] {
            let appended = store.append(after, &commits(from, from));
            assert!(matches!(appended, Appended::Conflict(at) if at == end));
        }
        for batch in [commits(3, 3), commits(5, 5), vec![commit(4), commit(6)]] {
            let appended = store.append(end, &batch);
            let refused = Appended::NotWritten(StoreError::Misnumbered {
                expected: Revision(0),
                found: Revision(0),
            });
            let kind = |appended: &Appended| format!("{appended:?}")[..22].to_owned();
            assert_eq!(kind(&appended), kind(&refused));
        }
        assert!(matches!(store.append(end, &[]), Appended::Durable(none) if none.is_empty()));
        assert_eq!(store.head().unwrap(), end);
        fill(&*store, 4);
    });
}

#[test]
fn other_commits_make_another_chain() {
    check(|store, _| {
        let other = MemoryStore::new(Epoch(0x80_0000), 2);
        assert_ne!(fill(&other, 3).chain, fill(&*store, 3).chain);
    });
}

#[test]
fn a_checkpoint_stands_for_what_it_holds() {
    check(|store, reopen| {
        save(&*store, fill(&*store, 5));
        let middle = fill(&*store, 8);
        save(&*store, middle);
        let end = fill(&*store, 10);
        let store = reopen(store);
        let (found, log) = loaded(&*store);
        let mut checkpoint = found.checkpoint.unwrap();
        assert_eq!((checkpoint.position, checkpoint.time), (middle, time(8)));
        let text = std::io::read_to_string(&mut checkpoint.reader).unwrap();
        assert_eq!(text, "state at 8");
        assert_eq!((log.len(), log[1].1, found.position), (2, end, end));
        assert_eq!(store.read(Revision(0), 99).unwrap().len(), 10);
    });
}

#[test]
fn a_trim_keeps_what_no_checkpoint_holds() {
    check(|store, reopen| {
        fill(&*store, 5);
        store.trim(Revision(5)).unwrap();
        assert_eq!(store.oldest().unwrap(), Revision(0));
        save(&*store, fill(&*store, 8));
        fill(&*store, 10);
        store.trim(Revision(6)).unwrap();
        assert_eq!(store.oldest().unwrap(), Revision(6));
        store.trim(Revision(3)).unwrap();
        let store = reopen(store);
        store.trim(Revision(10)).unwrap();
        assert_eq!(store.oldest().unwrap(), Revision(8));
        let gone = store.read(Revision(7), 1).unwrap_err().to_string();
        assert!(
            gone.contains("after revision 7") && gone.contains("is 8"),
            "{gone}"
        );
        assert_eq!(store.read(Revision(8), 9).unwrap().len(), 2);
        let store = reopen(store);
        let (found, log) = loaded(&*store);
        assert_eq!(found.checkpoint.unwrap().position.revision.0, 8);
        assert_eq!(log.len(), 2);
        save(&*store, fill(&*store, 11));
        store.trim(Revision(11)).unwrap();
        let store = reopen(store);
        assert_eq!(loaded(&*store).1, []);
        assert_eq!(fill(&*store, 12).revision, Revision(12));
    });
}

#[test]
fn a_lease_is_remembered() {
    check(|store, reopen| {
        for seconds in [3, 30, 5] {
            store.note_lease(Duration::from_secs(seconds)).unwrap();
        }
        let store = reopen(store);
        let longest = store.load().unwrap().longest_lease;
        assert_eq!(longest, Duration::from_secs(30));
    });
}

#[test]
fn a_closed_store_takes_no_more() {
    check(|store, reopen| {
        let end = fill(&*store, 2);
        store.close().unwrap();
        let appended = store.append(end, &commits(3, 3));
        assert!(matches!(
            appended,
            Appended::NotWritten(StoreError::Stopped(_))
        ));
        store.close().unwrap();
        assert_eq!(reopen(store).head().unwrap(), end);
    });
}

#[test]
fn faults_say_what_became_of_a_batch_and_stop_the_store() {
    let written = |fault| -> (Appended, u64) {
        let store = MemoryStore::default();
        let end = fill(&store, 3);
        store.faults().appends([fault]);
        let first = store.append(end, &commits(4, 5));
        let second = store.append(end, &commits(4, 5));
        let stopped = matches!(second, Appended::NotWritten(StoreError::Stopped(_)));
        assert_eq!(stopped, !matches!(first, Appended::Durable(_)));
        assert_eq!(stopped, store.head().is_err());
        (first, store.reopen().head().unwrap().revision.0)
    };
    assert!(matches!(
        written(Fault::NotWritten),
        (Appended::NotWritten(_), 3)
    ));
    assert!(matches!(written(Fault::Torn), (Appended::Unknown(_), 3)));
    assert!(matches!(
        written(Fault::WrittenUnknown),
        (Appended::Unknown(_), 5)
    ));
    let short = Duration::from_millis(1);
    assert!(matches!(
        written(Fault::Stall(short)),
        (Appended::Durable(_), 5)
    ));
}

#[test]
fn faults_hit_reading_and_checkpoints() {
    let store = MemoryStore::default();
    let head = store.head().unwrap();
    store.faults().fail_load(true);
    assert!(store.load().is_err() && store.read(Revision(0), 1).is_err());
    store.faults().fail_load(false);
    assert!(store.load().is_ok());
    store.faults().fail_checkpoint(true);
    assert!(store.checkpoint(head, time(0), &mut |_| Ok(())).is_err());
}

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_commit_of_ten_thousand_updates_needs_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let tuple = |n: u64| format!("document:{n:0>900}#viewer@user:{n}");
    let grant = |n| Change::Granted(tuple(n).parse().unwrap());
    let mut big = commit(1);
    big.changes = (0..10_000).map(grant).collect();
    big.changes.push(Change::Schema("x".repeat(1 << 20).into()));
    let batch = std::slice::from_ref(&big);
    let end = durable(store.append(store.head().unwrap(), batch));
    fill(&store, 3);
    assert_eq!(store.read(end.revision, 9).unwrap().len(), 2);
    store.close().unwrap();
    drop(store);
    assert_eq!(files_in(&directory.path().join("log/blobs")), 0);
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!(loaded(&store).1[0].0, big);
}

#[test]
fn old_checkpoint_files_are_swept_but_for_the_previous() {
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    for revision in 1..=5 {
        save(&store, fill(&store, revision));
    }
    assert_eq!(files_in(&directory.path().join("checkpoints")), 2);
}

#[test]
fn a_directory_that_can_not_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let file = directory.path().join("HEAD");
    let held = format!("is open in another process (pid {})", std::process::id());
    let table = [
        (directory.path().to_owned(), &*held),
        (file.clone(), "is not a directory"),
        (file.join("below"), "is not a directory"),
    ];
    for (path, problem) in table {
        let error = SledStore::open(&path).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
    drop(store);
    SledStore::open(directory.path()).unwrap();
}
