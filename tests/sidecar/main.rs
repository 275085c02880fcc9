//! Sidecars over real sockets, before a real server or one that does what a test wants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may end by a panic"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis::api::proto;
use portcullis::engine::{Engine, EngineOptions};
use portcullis::server::{self, ListenAddress, ServeOptions};
use portcullis::sidecar::counters::Counters;
use portcullis::sidecar::{Sidecar, SidecarOptions};
use portcullis::store::memory::MemoryStore;
use proto::check_service_client::CheckServiceClient;
use proto::grant_service_client::GrantServiceClient;
use proto::schema_service_client::SchemaServiceClient;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

mod answers;
mod fake;
mod faults;
mod law;
mod law_at_work;
mod metrics;
#[path = "../oracle/mod.rs"]
mod oracle;
mod passing;
mod processes;

/// How long anything may take that has to come about by itself.
const PATIENCE: Duration = Duration::from_secs(60);

const SCHEMA: &str = "
caveat at_work(hour int) { hour > 8 }
definition user {}
definition team { relation member: user }
definition doc {
    relation viewer: user | team#member | user with at_work | user with expiration
    permission view = viewer
}
";

/// A server in this process; it ends when this is dropped.
struct Server {
    engine: Engine,
    uri: String,
    channel: Channel,
    _stop: oneshot::Sender<()>,
}

impl Server {
    async fn new(options: EngineOptions) -> Self {
        let engine = Engine::open(Box::new(MemoryStore::default()), options).unwrap();
        let address: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let listener = address.bind().await.unwrap();
        let uri = format!("http://{}", listener.address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let (own, serving) = (engine.clone(), ServeOptions::default());
        tokio::spawn(async move {
            let ended = async { drop(stopped.await) };
            server::serve(own, vec![listener], serving, ended).await
        });
        let channel = connect(&uri).await;
        Self {
            engine,
            uri,
            channel,
            _stop: stop,
        }
    }

    /// One with [`SCHEMA`], whose leases are of some milliseconds.
    async fn with_schema(lease: u64) -> Self {
        let server = Self::new(EngineOptions {
            lease: Duration::from_millis(lease),
            ..EngineOptions::default()
        })
        .await;
        server.write_schema(SCHEMA).await;
        server
    }

    async fn write_schema(&self, schema: &str) {
        let request = proto::WriteSchemaRequest {
            schema: schema.to_owned(),
            ..proto::WriteSchemaRequest::default()
        };
        let mut client = SchemaServiceClient::new(self.channel.clone());
        client.write_schema(request).await.unwrap();
    }

    async fn grant(&self, tuple: &str) -> proto::GrantResponse {
        grant(&self.channel, tuple, None).await
    }

    async fn revoke(&self, tuple: &str, wait: Option<Duration>) -> proto::RevokeResponse {
        let request = proto::RevokeRequest {
            tuples: vec![wire(tuple)],
            options: waiting(wait),
            ..proto::RevokeRequest::default()
        };
        let mut client = GrantServiceClient::new(self.channel.clone());
        client.revoke(request).await.unwrap().into_inner()
    }
}

async fn grant(channel: &Channel, tuple: &str, wait: Option<Duration>) -> proto::GrantResponse {
    let request = proto::GrantRequest {
        tuples: vec![wire(tuple)],
        options: waiting(wait),
    };
    let mut client = GrantServiceClient::new(channel.clone());
    client.grant(request).await.unwrap().into_inner()
}

fn waiting(wait: Option<Duration>) -> Option<proto::WriteOptions> {
    wait.map(|wait| proto::WriteOptions {
        wait_for_watchers: Some(wait.try_into().unwrap()),
        ..proto::WriteOptions::default()
    })
}

fn wire(tuple: &str) -> proto::Tuple {
    portcullis::api::convert::to_tuple(&tuple.parse().unwrap())
}

async fn connect(uri: &str) -> Channel {
    let endpoint = Endpoint::from_shared(uri.to_owned()).unwrap();
    eventually(async || endpoint.connect().await.ok()).await
}

/// Asks again and again until there is something.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A sidecar in this process, over a unix socket; it ends when this is dropped.
struct Beside {
    counters: Arc<Counters>,
    channel: Channel,
    socket: PathBuf,
    _stop: oneshot::Sender<()>,
    _folder: TempDir,
}

impl Beside {
    async fn new(upstream: &str) -> Self {
        Self::with(options(upstream)).await
    }

    async fn with(options: SidecarOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sidecar");
        let address = ListenAddress::Unix(socket.clone());
        let listener = address.bind().await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let sidecar = Sidecar::start(options);
        let counters = sidecar.counters();
        tokio::spawn(sidecar.serve(vec![listener], async { drop(stopped.await) }));
        let channel = connect(&format!("unix:{}", socket.display())).await;
        Self {
            counters,
            channel,
            socket,
            _stop: stop,
            _folder: folder,
        }
    }

    /// One that has a lease.
    async fn leased(upstream: &str) -> Self {
        let beside = Self::new(upstream).await;
        beside.until_leased().await;
        beside
    }

    async fn until_leased(&self) {
        let leases = self.counters.leases.get();
        eventually(async || (self.counters.leases.get() > leases).then_some(())).await;
    }

    async fn check(&self, request: proto::CheckRequest) -> Result<proto::CheckResponse, Status> {
        check(&self.channel, request).await
    }

    /// The revision up to which its stream has come, as its answers name it.
    async fn until_applied(&self, revision: &str) {
        let number = |text: &str| text.split('@').next().unwrap().parse::<u64>().unwrap();
        let probe = question("user:nobody", "doc:nothing");
        eventually(async || {
            let before = self.counters.hits.get();
            let said = self.check(probe.clone()).await.ok()?;
            let is_hit = self.counters.hits.get() > before;
            (is_hit && number(&said.revision) >= number(revision)).then_some(())
        })
        .await;
    }
}

fn options(upstream: &str) -> SidecarOptions {
    SidecarOptions::new(upstream.parse().unwrap(), "test")
}

async fn check(
    channel: &Channel,
    request: proto::CheckRequest,
) -> Result<proto::CheckResponse, Status> {
    let mut client = CheckServiceClient::new(channel.clone());
    client.check(request).await.map(tonic::Response::into_inner)
}

fn question(subject: &str, resource: &str) -> proto::CheckRequest {
    proto::CheckRequest {
        subject: subject.to_owned(),
        permission: "view".to_owned(),
        resource: resource.to_owned(),
        ..proto::CheckRequest::default()
    }
}

fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().map(|info| info.reason.clone());
    (status.code(), info.unwrap_or_default())
}
