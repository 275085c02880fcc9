//! A data directory that was damaged is refused by name, and left as it was found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::revision::Revision;
use portcullis::state::{Change, Commit};
use portcullis::store::{Appended, Position, SledStore, Store, StoreError};
use portcullis::time::Timestamp;

const LAST: u64 = 40;

/// In memory where there is such a place: hundreds of stores are opened here, each with its syncs.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Changes of every kind, so that a flipped bit in any of them is met.
fn commit(revision: u64) -> Commit {
    let tuple = format!("doc:d{revision}#viewer@user:{}", "u".repeat(200));
    let tuple = tuple.parse().unwrap();
    let schema = format!("definition schema{revision} {{}}");
    Commit {
        revision: Revision(revision),
        time: Timestamp::new(1_700_000_000, 0).unwrap(),
        actor: None,
        reason: format!("reason{revision}"),
        metadata: None,
        changes: vec![match revision % 4 {
            0 => Change::Granted(tuple),
            1 => Change::Revoked(tuple),
            2 => Change::Expired(tuple),
            _ => Change::Schema(schema.into()),
        }],
        remembered: None,
    }
}

fn append(store: &SledStore, revision: u64) -> Position {
    match store.append(store.head().unwrap(), &[commit(revision)]) {
        Appended::Durable(positions) => positions[0],
        other => panic!("{other:?}"),
    }
}

fn save(store: &SledStore, position: Position) {
    let time = Timestamp::new(1_700_000_000, 0).unwrap();
    let saved = store.checkpoint(position, time, &mut |out| out.write_all(&[7; 5_000]));
    saved.unwrap();
}

/// A store of 40 commits; with checkpoints at 10 and 20, and trimmed to `trim`.
fn build(path: &Path, trim: u64, close: bool) {
    let store = SledStore::open(path).unwrap();
    for revision in 1..=LAST {
        let position = append(&store, revision);
        if trim > 0 && [10, 20].contains(&revision) {
            save(&store, position);
        }
    }
    store.trim(Revision(trim)).unwrap();
    if close {
        store.close().unwrap();
    }
}

/// Every file but LOCK, with what it holds.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.append(&mut files(&path)),
            false if path.ends_with("LOCK") => {}
            false => {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Opens and reads all, as a start of the server does.
fn start(path: &Path) -> Result<Vec<Commit>, StoreError> {
    let store = SledStore::open(path)?;
    let loaded = store.load()?;
    let commits = loaded.commits.map(|item| item.map(|(commit, _)| commit));
    commits.collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn find(path: &Path, text: &str) -> usize {
    let bytes = fs::read(path).unwrap();
    let mut windows = bytes.windows(text.len());
    // What lies last is what counts: earlier copies are those that sled has rewritten.
    windows
        .rposition(|window| window == text.as_bytes())
        .unwrap()
}

/// Damages a store of either end and expects it to be refused with a text that has all `said`.
#[track_caller]
fn refused(trim: u64, damage: impl Fn(&Path), said: &[&str]) {
    for close in [true, false] {
        let directory = scratch();
        let path = directory.path().join("data");
        build(&path, trim, close);
        damage(&path);
        let before = files(&path);
        for _ in 0..2 {
            let error = match start(&path) {
                Ok(commits) => panic!("opened with {} commits (closed: {close})", commits.len()),
                Err(error) => error.to_string(),
            };
            assert!(said.iter().all(|said| error.contains(said)), "{error}");
            assert!(files(&path) == before, "files were changed; {error}");
        }
    }
}

#[test]
fn an_unharmed_store_opens() {
    for (trim, kept) in [(0, LAST), (10, LAST - 20), (20, LAST - 20)] {
        for close in [true, false] {
            let directory = scratch();
            build(directory.path(), trim, close);
            let commits = start(directory.path()).unwrap();
            let expected: Vec<_> = (LAST - kept + 1..=LAST).map(commit).collect();
            assert!(commits == expected);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_record_is_refused() {
    // Near the end, in the middle, near the start, and one of each kind of change.
    for text in [
        "reason40", "reason39", "reason38", "reason37", "reason20", "reason1", "schema39",
    ] {
        let damage = |path: &Path| {
            let db = path.join("log/db");
            flip(&db, find(&db, text));
        };
        refused(0, damage, &["log", "restore a backup"]);
    }
}

#[test]
fn a_log_that_was_cut_is_refused() {
    let cut = |keep: fn(u64) -> u64| {
        move |path: &Path| {
            let file = fs::OpenOptions::new().write(true).open(path.join("log/db"));
            let file = file.unwrap();
            file.set_len(keep(file.metadata().unwrap().len())).unwrap();
        }
    };
    for keep in [|len| len / 2, |_| 0, |_| 300, |len| len / 64] {
        refused(0, cut(keep), &["log", "restore a backup"]);
    }
}

#[test]
fn what_is_missing_is_named() {
    let remove = |name: &'static str| {
        move |path: &Path| match path.join(name) {
            path if path.is_dir() => fs::remove_dir_all(path).unwrap(),
            path => fs::remove_file(path).unwrap(),
        }
    };
    refused(0, remove("HEAD"), &["HEAD", "is missing beside a log"]);
    refused(
        0,
        remove("log"),
        &["log", "is missing", "revision 40 was acknowledged"],
    );
    refused(
        0,
        remove("log/db"),
        &["ends at revision 0", "revision 40 was acknowledged"],
    );
    refused(
        20,
        remove("checkpoints"),
        &["00020.checkpoint", "is damaged"],
    );
}

#[test]
fn a_damaged_head_is_refused() {
    let both = |path: &Path| {
        let head = path.join("HEAD");
        flip(&head, 30);
        flip(&head, 4_096 + 30);
    };
    refused(0, both, &["HEAD", "is damaged", "checksum"]);
    let short = |path: &Path| fs::write(path.join("HEAD"), b"PCHEAD").unwrap();
    refused(0, short, &["HEAD", "is damaged", "short"]);
    // After a clean end both slots are whole, so that one that is not was damaged.
    for slot in [0, 4_096] {
        let directory = scratch();
        build(directory.path(), 0, true);
        flip(&directory.path().join("HEAD"), slot + 30);
        let error = start(directory.path()).unwrap_err().to_string();
        assert!(error.contains("though the store was closed"), "{error}");
    }
}

#[test]
fn a_torn_slot_of_head_does_no_harm_after_an_unclean_end() {
    for slot in [0, 4_096] {
        let directory = scratch();
        build(directory.path(), 0, false);
        flip(&directory.path().join("HEAD"), slot + 30);
        assert_eq!(start(directory.path()).unwrap().len(), 40);
    }
}

#[test]
fn a_head_of_another_store_is_refused() {
    let other = scratch();
    build(other.path(), 0, true);
    let swap = |path: &Path| {
        fs::copy(other.path().join("HEAD"), path.join("HEAD")).unwrap();
    };
    refused(0, swap, &["HEAD beside it are of different histories"]);
}

#[test]
fn an_older_log_under_a_newer_head_is_refused() {
    let directory = scratch();
    let path = directory.path().join("data");
    let store = SledStore::open(&path).unwrap();
    append(&store, 1);
    store.close().unwrap();
    drop(store);
    let kept = files(&path);
    let store = SledStore::open(&path).unwrap();
    append(&store, 2);
    store.close().unwrap();
    drop(store);
    fs::remove_dir_all(path.join("log")).unwrap();
    fs::create_dir_all(path.join("log/blobs")).unwrap();
    for (path, bytes) in kept.iter().filter(|(path, _)| !path.ends_with("HEAD")) {
        fs::write(path, bytes).unwrap();
    }
    let error = start(&path).unwrap_err().to_string();
    assert!(
        error.contains("ends at revision 1, but revision 2"),
        "{error}"
    );
}

#[test]
fn a_damaged_checkpoint_is_refused_where_the_one_before_does_not_do() {
    let newest = |path: &Path| {
        let name = format!("checkpoints/{:020}.checkpoint", 20);
        flip(&path.join(name), 4_000);
    };
    refused(20, newest, &["00020.checkpoint", "is damaged", "digest"]);
    // Trimmed to the one before: that one and the log since are whole.
    let directory = scratch();
    build(directory.path(), 10, true);
    newest(directory.path());
    assert!(start(directory.path()).unwrap() == (11..=LAST).map(commit).collect::<Vec<_>>());
}

/// Whatever bit is flipped, the store is refused or whole, never older, and keeps its files.
#[track_caller]
fn flip_anywhere(path: &Path, file: &Path, count: usize, whole: &[Commit]) -> usize {
    let copy = path.with_extension("copy");
    let length = usize::try_from(fs::metadata(path.join(file)).unwrap().len()).unwrap();
    let mut refused = 0;
    for step in 0..count {
        for (file, bytes) in files(path) {
            let to = copy.join(file.strip_prefix(path).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
        flip(&copy.join(file), step * length / count);
        let before = files(&copy);
        match start(&copy) {
            Ok(commits) => assert!(commits == whole, "another history, step {step}"),
            Err(error) => {
                refused += 1;
                assert!(files(&copy) == before, "files were changed: {error}");
            }
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    refused
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_does_not_matter() {
    let directory = scratch();
    let path = directory.path().join("data");
    build(&path, 0, false);
    let whole: Vec<_> = (1..=LAST).map(commit).collect();
    // sled fills what it does not use yet with padding.
    let refused = flip_anywhere(&path, Path::new("log/db"), 60, &whole);
    assert!(refused > 0);
}

/// Several of sled's segments, a snapshot of its own beside them, records in many pieces.
#[test]
fn a_flipped_bit_anywhere_in_a_long_log_is_refused_or_does_not_matter() {
    let directory = scratch();
    let path = directory.path().join("data");
    let long = |revision| Commit {
        reason: format!("{revision}-").repeat(15_000),
        ..commit(revision)
    };
    for run in 0..4 {
        let store = SledStore::open(&path).unwrap();
        for revision in run * 10 + 1..=run * 10 + 10 {
            let appended = store.append(store.head().unwrap(), &[long(revision)]);
            assert!(matches!(appended, Appended::Durable(_)));
        }
        if run % 2 == 0 {
            store.close().unwrap();
        }
    }
    let whole: Vec<_> = (1..=LAST).map(long).collect();
    let refused = flip_anywhere(&path, Path::new("log/db"), 60, &whole);
    assert!(refused > 10, "{refused}");
    for file in files(&path.join("log")).into_keys() {
        let file = file.strip_prefix(&path).unwrap().to_owned();
        flip_anywhere(&path, &file, 8, &whole);
    }
}
