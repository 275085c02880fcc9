//! A large store over its life: `cargo bench --bench scale`.
//!
//! Imports the world of `src/workload.rs` (`PORTCULLIS_WORLD` percent of it, 1,200 unless said: 10
//! million tuples with ids of 16 bytes) into a server process over gRPC, and prints tuples a
//! second and memory, also after a minute without writes; revokes 1.4 million of them by filter
//! while another client grants, and prints how long its grants waited; ends the server, starts it
//! anew, and prints how long the first answer took and what memory it needs at rest. `-- --test` is
//! one quick round on a small world.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::api::proto;
use portcullis::workload::{self, World};
use proto::check_service_client::CheckServiceClient;
use proto::grant_service_client::GrantServiceClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// After so long old states are let go.
const REST: Duration = Duration::from_secs(70);

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let percent = std::env::var("PORTCULLIS_WORLD")
        .ok()
        .and_then(|n| n.parse().ok());
    let percent = percent.unwrap_or(if test { 2 } else { 1_200 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(percent, test));
}

async fn run(percent: u64, test: bool) {
    let dir = tempfile::tempdir_in(std::env::var("PORTCULLIS_BENCH_DIR").unwrap_or(".".to_owned()));
    let dir = dir.unwrap();
    let world = World::new(percent).with_digits(12);
    let mut server = Server::start(dir.path()).await;
    let (count, took) = import(&world, server.channel.clone()).await;
    let rate = count as f64 / took.as_secs_f64();
    println!("import: {count} tuples in {took:.1?}, {rate:.0} a second, durable");
    server.tell_memory("after the import", count);
    if !test {
        tokio::time::sleep(REST).await;
        server.tell_memory("at rest after the import", count);
    }
    let revoked = revoke(server.channel.clone()).await;
    server.tell_memory("after the revoke", count - revoked);
    let begun = Instant::now();
    server.stop();
    println!("end, with a checkpoint: {:.1?}", begun.elapsed());
    let begun = Instant::now();
    let again = Server::start(dir.path()).await;
    ask(&world, again.channel.clone()).await;
    println!("start to first answer: {:.2?}", begun.elapsed());
    again.tell_memory("at rest after the start", count - revoked);
}

async fn import(world: &World, channel: Channel) -> (u64, Duration) {
    const MESSAGE: usize = 1_000;
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let begun = Instant::now();
    let world = world.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let mut tuples = world
            .tuples()
            .map(|(resource, relation, subject)| proto::Tuple {
                resource,
                relation: relation.to_owned(),
                subject,
                ..proto::Tuple::default()
            });
        let mut schema = workload::SCHEMA.to_owned();
        loop {
            let message = proto::ImportRequest {
                tuples: tuples.by_ref().take(MESSAGE).collect(),
                schema: std::mem::take(&mut schema),
                ..proto::ImportRequest::default()
            };
            if message.tuples.is_empty() || sender.blocking_send(message).is_err() {
                return;
            }
        }
    });
    let mut service = GrantServiceClient::new(channel);
    let mut answers = (service.import(ReceiverStream::new(receiver)).await)
        .unwrap()
        .into_inner();
    let mut position = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        position = answer.position;
    }
    sending.await.unwrap();
    (position, begun.elapsed())
}

/// Takes every document out of its folder while one client grants, one tuple after the other.
async fn revoke(channel: Channel) -> u64 {
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let mut granter = GrantServiceClient::new(channel.clone());
    let granting = tokio::spawn(async move {
        let mut waits = Vec::new();
        while stopped.try_recv().is_err() {
            let count = waits.len();
            let tuple = proto::Tuple {
                resource: format!("folder:{count:012}"),
                relation: "viewer".to_owned(),
                subject: format!("user:new{count}"),
                ..proto::Tuple::default()
            };
            let request = proto::GrantRequest {
                tuples: vec![tuple],
                options: None,
            };
            let begun = Instant::now();
            granter.grant(request).await.unwrap();
            waits.push(begun.elapsed());
        }
        waits.sort();
        waits
    });
    let filter = proto::TupleFilter {
        resource_type: "document".to_owned(),
        relation: "folder".to_owned(),
        ..proto::TupleFilter::default()
    };
    let request = proto::RevokeRequest {
        filter: Some(filter),
        ..proto::RevokeRequest::default()
    };
    let begun = Instant::now();
    let answer = GrantServiceClient::new(channel)
        .revoke(request)
        .await
        .unwrap();
    let (revoked, took) = (answer.into_inner().revoked, begun.elapsed());
    stop.send(()).unwrap();
    let waits = granting.await.unwrap();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    println!(
        "revoke by filter: {revoked} tuples in {took:.1?}; meanwhile {} grants, p50 {:.1?}, p99 {:.1?}, the longest {:.1?}",
        waits.len(),
        at(50),
        at(99),
        at(100)
    );
    revoked
}

async fn ask(world: &World, channel: Channel) {
    let (subject, permission, resource) = world.questions("direct", 1).remove(0);
    let request = proto::CheckRequest {
        subject,
        permission: permission.to_owned(),
        resource,
        ..proto::CheckRequest::default()
    };
    let mut asker = CheckServiceClient::new(channel);
    while let Err(status) = asker.check(request.clone()).await {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server process that ends with this value.
struct Server {
    child: Child,
    channel: Channel,
}

impl Server {
    async fn start(dir: &Path) -> Self {
        let socket = dir.join("socket");
        let _ = std::fs::remove_file(&socket);
        #[expect(clippy::zombie_processes, reason = "waited for when it is dropped")]
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["serve", "--template", "none", "--log", "warn", "--data"])
            .arg(dir.join("data"))
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display())).unwrap();
        loop {
            if let Ok(channel) = endpoint.connect().await {
                let server = Self { child, channel };
                server.until_ready().await;
                return server;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// It listens before it has loaded its data.
    async fn until_ready(&self) {
        let mut grants = GrantServiceClient::new(self.channel.clone());
        loop {
            match grants.export(proto::ExportRequest::default()).await {
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn tell_memory(&self, when: &str, tuples: u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kilobytes = |key: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
        };
        let each = |kilobytes: f64| kilobytes * 1_024.0 / tuples as f64;
        let (now, most) = (kilobytes("VmRSS:"), kilobytes("VmHWM:"));
        println!(
            "memory {when}: {:.0} MB, {:.0} bytes a tuple; at most so far {:.0} MB, {:.0}",
            now / 1_024.0,
            each(now),
            most / 1_024.0,
            each(most)
        );
    }

    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill").arg(pid).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
