//! Real processes, stopped and continued past the lease, killed and started again.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::api::proto::Decision;
use proto::grant_service_client::GrantServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::faults::{until_back, watch_for_stale};
use crate::proto;
use crate::{PATIENCE, check, connect, eventually, question, waiting, wire};

/// The default.
const LEASE: Duration = Duration::from_secs(3);
const TUPLE: &str = "doc:1#viewer@user:a";

struct Process(Child);

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Pair {
    folder: TempDir,
    server: Process,
    sidecar: Process,
    there: Channel,
    here: Channel,
}

fn socket(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let uri = format!("unix:{}", path.display());
    (path, uri)
}

fn serve(folder: &Path) -> Process {
    let schema = folder.join("schema.zed");
    std::fs::write(&schema, crate::SCHEMA).unwrap();
    let (socket, uri) = socket(folder, "server");
    let _ = std::fs::remove_file(socket);
    let data = folder.join("data");
    Process::start(&[
        "serve",
        "--data",
        data.to_str().unwrap(),
        "--schema",
        schema.to_str().unwrap(),
        "--listen",
        &uri,
    ])
}

async fn write(channel: &Channel, wait: Option<Duration>) -> Option<proto::RevokeResponse> {
    let request = proto::RevokeRequest {
        tuples: vec![wire(TUPLE)],
        options: waiting(wait),
        ..proto::RevokeRequest::default()
    };
    let mut client = GrantServiceClient::new(channel.clone());
    Some(client.revoke(request).await.ok()?.into_inner())
}

async fn until_allowed(channel: &Channel) {
    eventually(async || {
        let said = check(channel, question("user:a", "doc:1")).await.ok()?;
        (said.decision() == Decision::Allowed).then_some(())
    })
    .await;
}

impl Pair {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(folder.path());
        let (upstream, listen) = (
            socket(folder.path(), "server").1,
            socket(folder.path(), "sidecar").1,
        );
        let sidecar = Process::start(&["sidecar", "--upstream", &upstream, "--listen", &listen]);
        let there = connect(&upstream).await;
        let here = connect(&listen).await;
        let pair = Self {
            folder,
            server,
            sidecar,
            there,
            here,
        };
        pair.grant().await;
        pair
    }

    /// Grants, and waits until the sidecar has a lease and says so.
    async fn grant(&self) {
        eventually(async || {
            let request = proto::GrantRequest {
                tuples: vec![wire(TUPLE)],
                options: waiting(Some(Duration::ZERO)),
            };
            let mut client = GrantServiceClient::new(self.there.clone());
            client.grant(request).await.ok()
        })
        .await;
        until_allowed(&self.here).await;
        let mut watchers = proto::watch_service_client::WatchServiceClient::new(self.there.clone());
        eventually(async || {
            let listed = watchers
                .list_watchers(proto::ListWatchersRequest {})
                .await
                .ok()?;
            let mut listed = listed.into_inner().watchers.into_iter();
            listed
                .any(|one| one.lease.is_some_and(|lease| lease.seconds > 0))
                .then_some(())
        })
        .await;
        until_allowed(&self.here).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_stopped_and_continued() {
    let pair = Pair::new().await;
    write(&pair.there, None).await.unwrap();
    let revoked = Instant::now();
    pair.server.signal("-STOP");
    watch_for_stale(&pair.here, revoked, LEASE, LEASE + Duration::from_secs(2)).await;
    pair.server.signal("-CONT");
    until_back(&pair.here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecar_is_stopped_and_continued_past_its_lease() {
    let pair = Pair::new().await;
    pair.sidecar.signal("-STOP");
    let revoked = write(&pair.there, Some(PATIENCE)).await.unwrap();
    assert!(revoked.propagation.unwrap().complete);
    // Questions that it finds when it wakes up were sent after `complete`.
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let here = pair.here.clone();
            tokio::spawn(async move { check(&here, question("user:a", "doc:1")).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    pair.sidecar.signal("-CONT");
    for one in asked {
        if let Ok(said) = one.await.unwrap() {
            assert_eq!(said.decision(), Decision::Denied);
        }
    }
    until_back(&pair.here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_comes_back() {
    let mut pair = Pair::new().await;
    drop(std::mem::replace(
        &mut pair.server,
        serve(pair.folder.path()),
    ));
    // It comes back on a socket of its own, and has forgotten who has a lease.
    let revoked = eventually(async || write(&pair.there, Some(PATIENCE)).await).await;
    assert!(revoked.propagation.unwrap().complete);
    let said = check(&pair.here, question("user:a", "doc:1")).await;
    assert!(said.is_ok_and(|said| said.decision() == Decision::Denied));
    pair.grant().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_allow_after_a_revoke_that_waited_under_load() {
    let pair = Pair::new().await;
    let begun = Instant::now();
    for turn in 0.. {
        if begun.elapsed() > Duration::from_secs(3) && turn > 3 {
            break;
        }
        let (done, stop) = tokio::sync::watch::channel(None::<Instant>);
        let askers: Vec<_> = (0..8)
            .map(|_| {
                let (here, stop) = (pair.here.clone(), stop.clone());
                tokio::spawn(async move {
                    loop {
                        let complete = *stop.borrow();
                        let said = check(&here, question("user:a", "doc:1")).await;
                        if let (Some(_), Ok(said)) = (complete, said) {
                            assert_eq!(said.decision(), Decision::Denied);
                            return;
                        }
                    }
                })
            })
            .collect();
        let revoked = write(&pair.there, Some(PATIENCE)).await.unwrap();
        assert!(revoked.propagation.unwrap().complete);
        done.send_replace(Some(Instant::now()));
        for asker in askers {
            asker.await.unwrap();
        }
        pair.grant().await;
    }
}
