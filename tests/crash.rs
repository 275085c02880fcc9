//! The real process, killed with SIGKILL under load: every acknowledged write is there after the
//! next start, no write is there by half, revisions never run back.
//!
//! `PORTCULLIS_CRASHES` says how often (50 unless said). SIGKILL leaves the page cache alone; what
//! a power loss would leave is tested in `sync.rs`.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::{GrantRequest, ImportRequest, ReadTuplesRequest, Tuple};
use tonic::transport::{Channel, Endpoint};

const CLIENTS: usize = 64;
const SCHEMA: &str = "definition user {}\ndefinition doc { relation viewer: user }\n";
/// Every write grants this many tuples of one document: all of them stand or none.
const TUPLES_A_WRITE: usize = 3;

struct Server {
    child: Child,
    channel: Channel,
}

fn spawn(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["serve", "--data"])
        .arg(dir.join("data"))
        .arg("--schema")
        .arg(dir.join("schema.zed"))
        .arg("--listen")
        .arg(format!("unix:{}", dir.join("socket").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn start(dir: &Path) -> Server {
    let _ = std::fs::remove_file(dir.join("socket"));
    let mut child = spawn(dir);
    let endpoint = Endpoint::try_from(format!("unix:{}", dir.join("socket").display())).unwrap();
    let begun = Instant::now();
    loop {
        if let Ok(channel) = endpoint.connect().await
            && all_tuples(channel.clone()).await.is_ok()
        {
            return Server { child, channel };
        }
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
            panic!("the server ended with {status}: {said}");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the server did not answer"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All documents with the number of their viewers, and the revision that was read.
async fn all_tuples(channel: Channel) -> Result<(HashMap<String, usize>, u64), tonic::Status> {
    let mut client = GrantServiceClient::new(channel);
    let mut rows = client
        .read_tuples(ReadTuplesRequest::default())
        .await?
        .into_inner();
    let (mut documents, mut revision) = (HashMap::new(), 0);
    while let Some(row) = rows.message().await? {
        if let Some(number) = row.revision.split('@').next().and_then(|n| n.parse().ok()) {
            revision = number;
        }
        if let Some(tuple) = row.tuple {
            *documents.entry(tuple.resource).or_default() += 1;
        }
    }
    Ok((documents, revision))
}

fn write(document: &str) -> GrantRequest {
    let tuple = |user| Tuple {
        resource: document.to_owned(),
        relation: "viewer".to_owned(),
        subject: format!("user:{user}"),
        ..Tuple::default()
    };
    GrantRequest {
        tuples: (0..TUPLES_A_WRITE).map(tuple).collect(),
        options: None,
    }
}

/// Grants until the server is gone; notes each acknowledged document with its revision.
async fn load(channel: Channel, name: String, acknowledged: Arc<Mutex<HashMap<String, u64>>>) {
    let mut client = GrantServiceClient::new(channel);
    for turn in 0.. {
        let document = format!("doc:{name}-{turn}");
        let Ok(answer) = client.grant(write(&document)).await else {
            return;
        };
        let revision = answer.into_inner().revision;
        let number = revision.split('@').next().unwrap().parse().unwrap();
        acknowledged.lock().unwrap().insert(document, number);
    }
}

async fn crash(dir: &Path, round: usize, acknowledged: &Arc<Mutex<HashMap<String, u64>>>) {
    let mut server = start(dir).await;
    verify(server.channel.clone(), acknowledged).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let name = format!("{round}-{client}");
            tokio::spawn(load(server.channel.clone(), name, acknowledged.clone()))
        })
        .collect();
    // Not a power of anything, so that the kill meets every part of the commit path over time.
    let alive = Duration::from_micros(20_000 + (round as u64 * 7_919) % 150_000);
    tokio::time::sleep(alive).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    for client in clients {
        client.await.unwrap();
    }
}

async fn verify(channel: Channel, acknowledged: &Arc<Mutex<HashMap<String, u64>>>) {
    let (documents, revision) = all_tuples(channel).await.unwrap();
    let acknowledged = acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged
        .keys()
        .filter(|doc| !documents.contains_key(*doc))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let halves: HashSet<_> = documents
        .iter()
        .filter(|(_, n)| **n != TUPLES_A_WRITE)
        .collect();
    assert!(halves.is_empty(), "there by half: {halves:?}");
    let newest = acknowledged.values().max().copied().unwrap_or(0);
    assert!(
        documents.is_empty() || revision >= newest,
        "revision {revision} after {newest}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill() {
    let rounds = std::env::var("PORTCULLIS_CRASHES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(50);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("schema.zed"), SCHEMA).unwrap();
    let acknowledged = Arc::new(Mutex::new(HashMap::new()));
    for round in 0..rounds {
        crash(dir.path(), round, &acknowledged).await;
    }
    let mut server = start(dir.path()).await;
    verify(server.channel.clone(), &acknowledged).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let writes = acknowledged.lock().unwrap().len();
    assert!(writes > rounds, "only {writes} writes were acknowledged");
    println!("{rounds} kills, {writes} acknowledged writes, none lost");
}

/// The n-th tuple of the import, and the whole stream from there on.
fn imported(n: usize) -> Tuple {
    Tuple {
        resource: format!("doc:i{n}"),
        relation: "viewer".to_owned(),
        subject: "user:i".to_owned(),
        ..Tuple::default()
    }
}

/// Imports from `begin` on until the server is gone; how many tuples were acknowledged.
async fn import_until_killed(channel: Channel, begin: usize) -> usize {
    const SIZE: usize = 500;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for first in (begin..).step_by(SIZE) {
            let message = ImportRequest {
                tuples: (first..first + SIZE).map(imported).collect(),
                ..ImportRequest::default()
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut acknowledged = 0;
    if let Ok(answers) = GrantServiceClient::new(channel).import(stream).await {
        let mut answers = answers.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            acknowledged = usize::try_from(answer.position).unwrap();
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_behind_what_was_acknowledged_before_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("schema.zed"), SCHEMA).unwrap();
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut server = start(dir.path()).await;
        let importing = tokio::spawn(import_until_killed(server.channel.clone(), acknowledged));
        tokio::time::sleep(Duration::from_millis(150 + round * 37)).await;
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        acknowledged += importing.await.unwrap();
    }
    let mut server = start(dir.path()).await;
    let (documents, _) = all_tuples(server.channel.clone()).await.unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(acknowledged > 0, "nothing was acknowledged");
    // What was not acknowledged may stand, but only as a batch that follows on what was.
    assert!(
        documents.len() >= acknowledged,
        "{} of {acknowledged}",
        documents.len()
    );
    let missing = (0..documents.len()).find(|n| documents.get(&format!("doc:i{n}")) != Some(&1));
    assert_eq!(
        missing,
        None,
        "of {} with {acknowledged} acknowledged",
        documents.len()
    );
}
