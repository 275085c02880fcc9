//! What a durable append costs on the disk below the temporary directory.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

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

criterion_group!(benches, append);
criterion_main!(benches);
