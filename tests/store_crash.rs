//! A process that appends is killed at random moments, again and again on one directory: what it
//! acknowledged is there, and nothing in part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis::revision::Revision;
use portcullis::state::{Change, Commit};
use portcullis::store::{Appended, Position, SledStore, Store};
use portcullis::time::Timestamp;

const DIRECTORY: &str = "PORTCULLIS_TEST_CRASH_DIRECTORY";

fn commit(revision: u64) -> Commit {
    let count = if revision.is_multiple_of(50) {
        1_000
    } else {
        1
    };
    let tuple = |n| format!("doc:r{revision}n{n}#viewer@user:someone");
    let grant = |n| Change::Granted(tuple(n).parse().unwrap());
    Commit {
        revision: Revision(revision),
        time: Timestamp::new(1_700_000_000, 0).unwrap(),
        actor: None,
        reason: String::new(),
        metadata: None,
        changes: (0..count).map(grant).collect(),
        remembered: None,
    }
}

/// The process that is killed: appends, checkpoints and trims without end.
#[test]
#[ignore = "started by the other test"]
fn appender() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = SledStore::open(Path::new(&directory)).unwrap();
    let mut end = store.head().unwrap();
    loop {
        let first = end.revision.0 + 1;
        let batch: Vec<_> = (first..first + 1 + first % 3).map(commit).collect();
        let appended = store.append(end, &batch);
        let Appended::Durable(positions) = appended else {
            return failed(&store, end, &appended);
        };
        end = *positions.last().unwrap();
        println!("ack {}", end.revision);
        if end.revision.0.is_multiple_of(40) {
            let write = &mut |out: &mut dyn Write| out.write_all(&vec![1; 100_000]);
            store.checkpoint(end, commit(1).time, write).unwrap();
            store.trim(Revision(end.revision.0 - 20)).unwrap();
        }
    }
}

/// Says how an append failed, and that the next one says that nothing is written any more.
fn failed(store: &SledStore, end: Position, first: &Appended) {
    let second = store.append(end, &[commit(end.revision.0 + 1)]);
    let closed = store.close();
    println!("failed {first:?}; {second:?}; {closed:?}");
}

/// Lets it run for a while, from its start or from its first acknowledgement, kills it, and says
/// what it acknowledged last.
fn killed(directory: &Path, from_start: bool, after: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "appender", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (sender, acks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = out.lines().map_while(Result::ok);
        let mut found = lines.filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
        found.all(|revision: u64| sender.send(revision).is_ok());
    });
    let mut last = 0;
    if !from_start {
        last = acks.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    acks.iter().last().unwrap_or(last)
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let rounds = std::env::var("PORTCULLIS_TEST_KILLS");
    let rounds: u64 = rounds.map_or(20, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut grown) = (0, 0);
    for round in 0..rounds {
        let millis = round * 7_919 % 200;
        let acked = killed(
            directory.path(),
            round % 4 == 0,
            Duration::from_millis(millis),
        );
        grown += u64::from(acked > acknowledged);
        acknowledged = acknowledged.max(acked);
        let store = SledStore::open(directory.path()).unwrap();
        let loaded = store.load().unwrap();
        let from = loaded.checkpoint.map_or(0, |kept| kept.position.revision.0);
        let found: Vec<_> = loaded.commits.map(|item| item.unwrap().0).collect();
        let head = loaded.position.revision.0;
        assert!(
            head >= acknowledged,
            "{head} of {acknowledged}, round {round}"
        );
        let expected: Vec<_> = (from + 1..=head).map(commit).collect();
        assert!(found == expected, "other commits, round {round}");
    }
    assert!(
        grown >= rounds / 2,
        "only {grown} of {rounds} runs appended at all"
    );
}

/// No file may grow beyond a megabyte: to the store, a disk that is full.
#[test]
fn a_full_disk_stops_the_store_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 2048; exec \"$0\" --ignored --exact appender --nocapture")
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (mut acknowledged, mut said) = (0, String::new());
    for line in out.lines().map_while(Result::ok) {
        match line.strip_prefix("ack ") {
            Some(revision) => acknowledged = revision.parse().unwrap(),
            None if line.starts_with("failed") => said = line,
            None => {}
        }
    }
    child.wait().unwrap();
    assert!(said.starts_with("failed Unknown("), "{said}");
    assert!(said.contains("FileTooLarge"), "{said}");
    assert!(said.contains("NotWritten(Stopped("), "{said}");
    let store = SledStore::open(directory.path()).unwrap();
    let head = store.head().unwrap().revision.0;
    assert!(head >= acknowledged, "{head} of {acknowledged}");
    assert!(store.load().unwrap().commits.all(|item| item.is_ok()));
}
