//! What a durable append costs on the disk below the temporary directory: alone, while a checkpoint
//! of 400 MB is written beside it and the one before the last is removed, while old commits are, and,
//! to tell what is the disk's own, while another process writes as much: `cargo bench --bench store`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout
)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portcullis::revision::Revision;
use portcullis::state::{Change, Commit};
use portcullis::store::{Appended, SledStore, Store};
use portcullis::time::Timestamp;

fn commit(revision: u64) -> Commit {
    let tuple = format!("environment:e{revision}#guest@user:u{revision}");
    Commit {
        revision: Revision(revision),
        time: Timestamp::new(1_700_000_000, 0).unwrap(),
        actor: Some("user:root".parse().unwrap()),
        reason: "on call".to_owned(),
        metadata: None,
        changes: vec![Change::Granted(tuple.parse().unwrap())],
        remembered: None,
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable append");
    for count in [1, 64] {
        let directory = tempfile::tempdir().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let mut end = store.head().unwrap();
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("batch of {count}"), |bencher| {
            bencher.iter(|| {
                let next = end.revision.0 + 1;
                let batch: Vec<_> = (next..next + count).map(commit).collect();
                let Appended::Durable(positions) = store.append(end, &batch) else {
                    panic!("not durable");
                };
                end = positions[positions.len() - 1];
            });
        });
    }
    group.finish();
}

/// Appends of single commits, alone and beside whatever else goes on.
fn beside_a_checkpoint(_: &mut Criterion) {
    let test = std::env::args().any(|argument| argument == "--test");
    let (megabytes, old) = if test { (4_u32, 1_000) } else { (400, 200_000) };
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    fill(&store, old);
    let begun = Instant::now();
    println!(
        "appends alone: {}",
        told(waits(&store, || begun.elapsed() > SPAN))
    );
    for number in 1..=3 {
        beside(
            &store,
            &format!("checkpoint {number} of {megabytes} MB"),
            || {
                checkpoint(&store, megabytes);
            },
        );
    }
    let up_to = Revision(old);
    beside(&store, &format!("a trim of {old} commits"), || {
        store.trim(up_to).unwrap();
    });
    // The same bytes by somebody else: at once, and in pieces that are synced as ours are.
    let file = directory.path().join("other");
    let pieces = u32::to_string(&(megabytes * 4));
    let whole = ["bs=1M", &format!("count={megabytes}"), "conv=fdatasync"];
    let synced = ["bs=256k", &format!("count={pieces}"), "oflag=dsync"];
    for arguments in [whole, synced] {
        let said = arguments.join(" ");
        beside(&store, &format!("dd {said}"), || {
            let mut other = Command::new("dd");
            other
                .arg("if=/dev/zero")
                .arg(format!("of={}", file.display()));
            other.args(arguments).stderr(Stdio::null());
            assert!(other.status().unwrap().success());
        });
    }
}

fn fill(store: &SledStore, commits: u64) {
    while store.head().unwrap().revision.0 < commits {
        let end = store.head().unwrap();
        let next = end.revision.0 + 1;
        let batch: Vec<_> = (next..next + 500).map(commit).collect();
        assert!(matches!(store.append(end, &batch), Appended::Durable(_)));
    }
}

fn checkpoint(store: &SledStore, megabytes: u32) {
    let (at, time) = (store.head().unwrap(), Timestamp::new(1_700_000_000, 0));
    let mut bytes = vec![0_u8; 1 << 20];
    let written = store.checkpoint(at, time.unwrap(), &mut |out| {
        for number in 0..megabytes {
            bytes.fill(number as u8);
            out.write_all(&bytes)?;
        }
        Ok(())
    });
    written.unwrap();
}

/// Appends until `other`, which runs beside them, is done.
fn beside(store: &SledStore, name: &str, other: impl FnOnce() + Send) {
    let over = AtomicBool::new(false);
    let (beside, took) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let begun = Instant::now();
            other();
            over.store(true, Ordering::Relaxed);
            begun.elapsed()
        });
        let waits = waits(store, || over.load(Ordering::Relaxed));
        (waits, other.join().unwrap())
    });
    println!("beside {name} in {took:.1?}: {}", told(beside));
}

const SPAN: Duration = Duration::from_secs(1);

fn waits(store: &SledStore, over: impl Fn() -> bool) -> Vec<Duration> {
    let mut waits = Vec::new();
    while !over() {
        let end = store.head().unwrap();
        let next = commit(end.revision.0 + 1);
        let asked = Instant::now();
        let Appended::Durable(_) = store.append(end, &[next]) else {
            panic!("not durable");
        };
        waits.push(asked.elapsed());
    }
    waits
}

fn told(mut waits: Vec<Duration>) -> String {
    waits.sort();
    let at = |part: usize| waits[(waits.len() - 1) * part / 1_000];
    let (half, most, all) = (at(500), at(990), at(1_000));
    let count = waits.len();
    format!("{count} appends, p50 {half:.2?}, p99 {most:.2?}, the longest {all:.2?}")
}

criterion_group!(benches, append, beside_a_checkpoint);
criterion_main!(benches);
