//! Watching, measured: commit to receipt, what idle caches cost, and what a write pays to wait.
//!
//! `cargo bench --bench watch` starts the server as a process of its own, in memory. Watchers and
//! writers share this process and its processors with it, so that each figure holds the clients'
//! work too, but for CPU and memory, which are the server's alone. `-- --short` takes a few
//! seconds, `-- receipt`, `-- barrier` and `-- idle` are parts; `-- --unread 1000000` writes so many
//! commits, on disk, past a watcher that never reads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs
)]

use std::collections::HashMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::api::proto;
use portcullis::sidecar::cache::Size;
use portcullis::sidecar::{Sidecar, SidecarOptions};
use proto::grant_service_client::GrantServiceClient;
use proto::schema_service_client::SchemaServiceClient;
use proto::watch_changes_response::Event;
use proto::watch_service_client::WatchServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// Clock ticks a second in /proc/PID/stat, as Linux has it for user space.
const TICKS: f64 = 100.0;
const SCHEMA: &str = "definition user {}\ndefinition doc { relation viewer: user }";

/// Of the part with a watcher that never reads.
const WRITERS: u64 = 200;

struct Plan {
    span: Duration,
    watchers: usize,
    commits_a_second: u64,
    idle: usize,
    caches: usize,
    waits: usize,
}

fn main() {
    let short = std::env::args().any(|word| word == "--short" || word == "--test");
    let plan = match short {
        true => Plan {
            span: Duration::from_secs(3),
            watchers: 100,
            commits_a_second: 1_000,
            idle: 1_000,
            caches: 10,
            waits: 100,
        },
        false => Plan {
            span: Duration::from_secs(20),
            watchers: 100,
            commits_a_second: 1_000,
            idle: 1_000,
            caches: 10,
            waits: 1_000,
        },
    };
    let parts = ["receipt", "barrier", "idle"];
    let named = std::env::args().any(|word| parts.contains(&word.as_str()));
    let wanted = |part: &str| !named || std::env::args().any(|word| word == part);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut words = std::env::args()
        .skip_while(|word| word != "--unread")
        .skip(1);
    if let Some(count) = words.next() {
        return runtime.block_on(unread(count.parse().unwrap()));
    }
    runtime.block_on(async {
        if wanted("receipt") {
            receipt(&plan).await;
        }
        if wanted("barrier") {
            barrier(&plan).await;
        }
        if wanted("idle") {
            idle(&plan).await;
        }
    });
}

/// Commits a second and the server's memory, first with nobody watching, then with a watcher that
/// opens its stream and reads no more.
async fn unread(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&["--data", dir.path().to_str().unwrap()]).await;
    let tell = |what: &str, done: u64, begun: Instant| {
        let rate = done as f64 / begun.elapsed().as_secs_f64();
        let memory = server.memory() / 1_024.0;
        println!("{what:>20}: {rate:.0} commits a second, {memory:.0} MiB");
    };
    let begun = Instant::now();
    write(&server, count / 10).await;
    tell("nobody watches", count / 10, begun);
    let mut watches = WatchServiceClient::new(server.connect().await);
    let request = proto::WatchChangesRequest::default();
    let mut stream = watches.watch_changes(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    for part in 1..=10 {
        let begun = Instant::now();
        write(&server, count / 10).await;
        tell(&format!("{} unread", count / 10 * part), count / 10, begun);
    }
    let number = |token: &str| -> u64 { token.split('@').next().unwrap().parse().unwrap() };
    // The schema is the first commit.
    let newest = 1 + count / 10 / WRITERS * WRITERS * 11;
    let (mut last, begun, mut read) = (None, Instant::now(), 0);
    while last != Some(newest) {
        match stream.message().await.unwrap().unwrap().event {
            Some(Event::Commit(commit)) => {
                let found = number(&commit.revision);
                assert!(last.is_none_or(|last| found == last + 1));
                (last, read) = (Some(found), read + 1);
            }
            // The log does not go back so far any more.
            Some(Event::Reset(reset)) => {
                println!("{:>20}: goes on at {}", "reset", reset.revision);
                last = Some(number(&reset.revision));
            }
            _ => {}
        }
    }
    tell("caught up", read, begun);
}

/// So many commits, each of one tuple, that leave as many tuples as there were.
async fn write(server: &Server, count: u64) {
    let writers = (0..WRITERS).map(|writer| {
        let mut grants = GrantServiceClient::new(server.channel.clone());
        tokio::spawn(async move {
            for turn in 0..count / WRITERS {
                let proto::GrantRequest { tuples, .. } = grant(writer, "", None);
                match turn % 2 {
                    0 => drop(grants.grant(grant(writer, "", None)).await.unwrap()),
                    _ => {
                        let request = proto::RevokeRequest {
                            tuples,
                            ..proto::RevokeRequest::default()
                        };
                        drop(grants.revoke(request).await.unwrap());
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// From when a write is answered, and from when it was asked for, until each watcher has it.
async fn receipt(plan: &Plan) {
    let server = Server::start().await;
    let begun = Instant::now();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut watchers = Vec::new();
    for _ in 0..plan.watchers {
        watchers.push(follow(&server, sender.clone(), begun).await);
    }
    drop(sender);
    let before = server.cpu();
    let every = Duration::from_secs(1) / u32::try_from(plan.commits_a_second).unwrap();
    let count = plan.commits_a_second * plan.span.as_secs();
    let mut writes = Vec::new();
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let started = Instant::now();
    for number in 0..count {
        clock.tick().await;
        let mut grants = GrantServiceClient::new(server.channel.clone());
        writes.push(tokio::spawn(async move {
            let asked = begun.elapsed();
            let request = grant(number, &asked.as_nanos().to_string(), None);
            grants.grant(request).await.unwrap();
            (asked, begun.elapsed())
        }));
    }
    let mut answered = HashMap::new();
    for write in writes {
        let (asked, answer) = write.await.unwrap();
        answered.insert(asked, answer);
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    let expected = usize::try_from(count).unwrap() * plan.watchers;
    let mut received = Vec::with_capacity(expected);
    while received.len() < expected {
        received.push(receiver.recv().await.unwrap());
    }
    let cpu = (server.cpu() - before) / started.elapsed().as_secs_f64() * 100.0;
    println!(
        "{} watchers, {rate:.0} commits a second, server CPU {cpu:.0} % of a core",
        plan.watchers
    );
    let spans = answered
        .iter()
        .map(|(asked, answer)| answer.saturating_sub(*asked));
    line("write asked to answered", spans);
    let spans = received
        .iter()
        .map(|(asked, came)| came.saturating_sub(*asked));
    line("write asked to received", spans);
    let spans = (received.iter()).map(|(asked, came)| came.saturating_sub(answered[asked]));
    line("write answered to received", spans);
    watchers.iter().for_each(JoinHandle::abort);
}

async fn follow(
    server: &Server,
    sender: mpsc::UnboundedSender<(Duration, Duration)>,
    begun: Instant,
) -> JoinHandle<()> {
    let mut watches = WatchServiceClient::new(server.connect().await);
    let request = proto::WatchChangesRequest {
        invalidations_only: true,
        ..proto::WatchChangesRequest::default()
    };
    let mut stream = watches.watch_changes(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    tokio::spawn(async move {
        while let Ok(Some(message)) = stream.message().await {
            let Some(Event::Commit(commit)) = message.event else {
                continue;
            };
            let asked = commit.reason.parse().unwrap();
            let _ = sender.send((Duration::from_nanos(asked), begun.elapsed()));
        }
    })
}

/// A write that waits for caches, beside one that does not.
async fn barrier(plan: &Plan) {
    let server = Server::start().await;
    let mut caches = Vec::new();
    for number in 0..plan.caches {
        caches.push(cache(&server, &format!("cache-{number}")).await);
    }
    let mut grants = GrantServiceClient::new(server.channel.clone());
    println!("{} caches that acknowledge at once", plan.caches);
    for (what, wait) in [("without waiting", None), ("waiting for them", Some(10))] {
        let mut spans = Vec::new();
        for number in 0..plan.waits {
            let asked = Instant::now();
            // One that stood would be no commit, and nothing for a cache to hurry for.
            let number = number as u64 + wait.map_or(0, |_| 1_000_000);
            let request = grant(number, "", wait);
            let answer = grants.grant(request).await.unwrap().into_inner();
            assert!(answer.propagation.is_none_or(|told| told.complete));
            spans.push(asked.elapsed());
        }
        line(what, spans.into_iter());
    }
    drop(caches);
}

/// Sidecars that hold a lease and have nothing to do.
async fn idle(plan: &Plan) {
    let server = Server::start().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = server.memory();
    let mut caches = Vec::new();
    for number in 0..plan.idle {
        caches.push(cache(&server, &format!("cache-{number}")).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let granted = || -> u64 { caches.iter().map(|one| one.counters().leases.get()).sum() };
    let (cpu, acks, begun) = (server.cpu(), granted(), Instant::now());
    tokio::time::sleep(plan.span).await;
    let span = begun.elapsed().as_secs_f64();
    let cpu = (server.cpu() - cpu) / span * 100.0;
    let rate = (granted() - acks) as f64 / span;
    let held = caches
        .iter()
        .filter(|one| !one.readings().lease_left().is_zero());
    assert_eq!(held.count(), plan.idle, "a lease has run out");
    let memory = (server.memory() - before) / 1_024.0;
    println!(
        "{} idle sidecars, {rate:.0} acknowledgements a second: \
         server CPU {cpu:.1} % of a core, {memory:.0} MiB",
        plan.idle
    );
    drop(caches);
}

/// A sidecar, as it is but for the size of its cache, which follows the server and has a lease.
async fn cache(server: &Server, watcher_id: &str) -> Sidecar {
    let mut options = SidecarOptions::new(server.uri.parse().unwrap(), watcher_id);
    options.size = Size {
        bytes: 1 << 20,
        slots: 1 << 10,
    };
    let sidecar = Sidecar::start(options);
    while sidecar.readings().lease_left().is_zero() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    sidecar
}

fn grant(number: u64, reason: &str, wait: Option<i64>) -> proto::GrantRequest {
    proto::GrantRequest {
        tuples: vec![proto::Tuple {
            resource: format!("doc:{number}"),
            relation: "viewer".to_owned(),
            subject: "user:u".to_owned(),
            ..proto::Tuple::default()
        }],
        options: Some(proto::WriteOptions {
            reason: reason.to_owned(),
            wait_for_watchers: wait.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..proto::WriteOptions::default()
        }),
    }
}

fn line(what: &str, spans: impl Iterator<Item = Duration>) {
    let mut spans: Vec<Duration> = spans.collect();
    spans.sort_unstable();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:>26}: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

struct Server {
    child: Child,
    uri: String,
    channel: Channel,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(&["--memory"]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["serve", "--template", "none"])
            .args(flags)
            .arg("--listen")
            .args([&address.to_string(), "--log", "warn"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let uri = format!("http://{address}");
        let endpoint = Endpoint::from_shared(uri.clone()).unwrap();
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let mut schemas = SchemaServiceClient::new(channel.clone());
        let request = proto::WriteSchemaRequest {
            schema: SCHEMA.to_owned(),
            ..proto::WriteSchemaRequest::default()
        };
        while schemas.write_schema(request.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            child,
            uri,
            channel,
        }
    }

    async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.uri.clone()).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Seconds of CPU that it has used.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / TICKS
    }

    /// KiB of memory that it holds.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
