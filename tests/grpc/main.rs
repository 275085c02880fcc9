//! The server over real sockets, on ports that the system chooses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may end by a panic"
)]

use std::pin::Pin;
use std::time::Duration;

use portcullis::engine::{Engine, EngineOptions};
use portcullis::server::{self, ListenAddress, Listener, ServeError, ServeOptions};
use portcullis::store::memory::MemoryStore;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

mod bulk;
mod locks;
mod raw;
mod roles;
mod services;
mod serving;
mod streams;

/// A server of an empty store; it ends when this is dropped.
struct Served {
    address: ListenAddress,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn new() -> Self {
        Self::on("127.0.0.1:0", ServeOptions::default()).await
    }

    async fn on(address: &str, options: ServeOptions) -> Self {
        let serve = |listeners, shutdown| server::serve(engine(), listeners, options, shutdown);
        Self::start(address, serve).await
    }

    /// Serves as `serve` does, which is given the listener and what ends it.
    async fn start<F>(
        address: &str,
        serve: impl FnOnce(Vec<Listener>, Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), ServeError>> + Send + 'static,
    {
        let address: ListenAddress = address.parse().unwrap();
        let listener = address.bind().await.unwrap();
        let address = listener.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = Box::pin(async {
            let _ = stopped.await;
        });
        Self {
            address,
            stop: Some(stop),
            task: tokio::spawn(serve(vec![listener], shutdown)),
        }
    }

    async fn connect(&self) -> Channel {
        let uri = match &self.address {
            ListenAddress::Tcp(address) => format!("http://{address}"),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        let endpoint = Endpoint::from_shared(uri).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn stop(mut self) -> Result<(), ServeError> {
        drop(self.stop.take());
        self.task.await.unwrap()
    }
}

fn engine() -> Engine {
    let store = Box::new(MemoryStore::default());
    Engine::open(store, EngineOptions::default()).unwrap()
}

/// The reason of an error, and the field at fault.
fn reason_of(status: &Status) -> (String, Option<String>) {
    let details = status.get_error_details();
    let info = details.error_info().map(|info| {
        assert_eq!(info.domain, "portcullis");
        info.reason.clone()
    });
    let field = details.bad_request().map(|bad| &bad.field_violations[0]);
    let reason = info.unwrap_or_else(|| format!("no ErrorInfo in {status:?}"));
    (reason, field.map(|violation| violation.field.clone()))
}

const SOON: Duration = Duration::from_secs(10);
