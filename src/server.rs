//! Listeners, layers, health, reflection, and how serving ends.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::gate::Gate;
use self::health::Health;
use crate::engine::{Engine, EngineError};

mod connections;

mod gate;

mod guard;

mod health;

mod listen;

mod routes;

mod streamed;

mod unary;

pub(crate) mod whole;

pub(crate) use connections::{Connections, Peer, Serve};
pub(crate) use guard::timeout as grpc_timeout;
pub use listen::{
    DEFAULT_ADDRESS, ListenAddress, ListenError, Listener, MalformedAddress, NotOpen, SocketFile,
    may_listen,
};

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The most bytes of one message that comes in.
    pub max_message_bytes: usize,
    /// How long requests that are under way may take to end once serving is to end.
    pub drain: Duration,
}

impl Default for ServeOptions {
    /// 4 MiB, 30 s.
    fn default() -> Self {
        Self {
            max_message_bytes: 4 * 1_024 * 1_024,
            drain: Duration::from_secs(30),
        }
    }
}

/// Why serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors of the services do not fit together.
    #[error("reflection can't be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The engine did not close cleanly.
    #[error("the engine did not close cleanly: {0}")]
    Close(EngineError),
}

/// Serves `engine` on all `listeners` until `shutdown` is there; then takes no more connections,
/// lets what is under way end, and closes the engine.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    engine: Engine,
    listeners: Vec<Listener>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut serving = Serving::new(options).await?;
    serving.open(&engine).await?;
    serving.listen(listeners);
    serving.until(shutdown, &engine).await;
    tracing::info!("serving ends: waiting for the requests that are under way");
    engine.end_watches();
    serving.end().await;
    engine.close().await.map_err(ServeError::Close)
}

/// As [`serve`], from before the engine stands: until `opening` hands it over, health says
/// NOT_SERVING and the services that they are starting. `None` ends serving: there is no engine,
/// and whoever tried to open it knows why.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve_opening(
    opening: impl Future<Output = Option<Engine>>,
    listeners: Vec<Listener>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut shutdown = pin!(shutdown);
    let mut serving = Serving::new(options).await?;
    serving.listen(listeners);
    let engine = tokio::select! {
        engine = opening => engine,
        () = &mut shutdown => None,
    };
    let Some(engine) = engine else {
        serving.end().await;
        return Ok(());
    };
    serving.open(&engine).await?;
    serving.until(shutdown, &engine).await;
    tracing::info!("serving ends: waiting for the requests that are under way");
    engine.end_watches();
    serving.end().await;
    engine.close().await.map_err(ServeError::Close)
}

/// A service whose answers always come in time and in one form, a panic's too.
pub(crate) fn guarded<S>(service: S) -> guard::Guarded<S> {
    guard::Guarded::new(service)
}

/// A server from its first listener to its last request.
struct Serving {
    options: ServeOptions,
    health: Health,
    gate: Gate,
    connections: Connections,
}

impl Serving {
    async fn new(options: ServeOptions) -> Result<Self, ServeError> {
        let health = Health::starting().await;
        Ok(Self {
            options,
            gate: Gate::new(routes::early(&health)?),
            health,
            connections: Connections::new(),
        })
    }

    fn listen(&mut self, listeners: Vec<Listener>) {
        self.connections
            .listen(listeners, &guarded(self.gate.clone()));
    }

    async fn open(&self, engine: &Engine) -> Result<(), ServeError> {
        self.gate
            .open(routes::Services::new(engine, &self.options, &self.health)?);
        self.health.report(engine).await;
        Ok(())
    }

    async fn until(&self, shutdown: impl Future<Output = ()>, engine: &Engine) {
        tokio::select! {
            () = shutdown => {}
            () = self.health.follow(engine) => {}
        }
    }

    async fn end(self) {
        self.health.stopping().await;
        self.connections.end(self.options.drain).await;
    }
}

/// Ends with the first SIGTERM or SIGINT; the second one ends the process at once.
///
/// # Errors
/// Where the process can't listen to signals.
pub fn signals() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(130);
        });
    })
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}
