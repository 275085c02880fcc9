//! What a durable append costs on the disk below the temporary directory, alone and while a
//! checkpoint of 400 MB is written beside it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout
)]

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

/// Appends of single commits, without and with a checkpoint that is being written.
fn beside_a_checkpoint(_: &mut Criterion) {
    let test = std::env::args().any(|argument| argument == "--test");
    let megabytes: u32 = if test { 4 } else { 400 };
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let alone = waits(&store, |begun| begun.elapsed() > SPAN);
    let (at, time) = (store.head().unwrap(), Timestamp::new(1_700_000_000, 0));
    let over = AtomicBool::new(false);
    let (beside, took) = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let begun = Instant::now();
            let mut bytes = vec![0_u8; 1 << 20];
            let written = store.checkpoint(at, time.unwrap(), &mut |out| {
                for number in 0..megabytes {
                    bytes.fill(number as u8);
                    out.write_all(&bytes)?;
                }
                Ok(())
            });
            written.unwrap();
            over.store(true, Ordering::Relaxed);
            begun.elapsed()
        });
        let waits = waits(&store, |_| over.load(Ordering::Relaxed));
        (waits, writing.join().unwrap())
    });
    println!("appends alone:                {}", told(alone));
    println!("beside {megabytes} MB in {took:.1?}: {}", told(beside));
}

const SPAN: Duration = Duration::from_secs(1);

fn waits(store: &SledStore, over: impl Fn(Instant) -> bool) -> Vec<Duration> {
    let begun = Instant::now();
    let mut waits = Vec::new();
    while !over(begun) {
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
