//! Listeners, layers, health, reflection, and how serving ends.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::{Layer as _, Service};

use self::gate::Gate;
use self::health::Health;
use crate::engine::{Engine, EngineError};

mod gate;

mod guard;

mod health;

mod listen;

mod routes;

pub(crate) use guard::timeout as grpc_timeout;
pub use listen::{
    DEFAULT_ADDRESS, ListenAddress, ListenError, Listener, MalformedAddress, NotOpen, SocketFile,
    may_listen,
};

/// The most bytes of a request's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1_024;
/// The most requests that one connection has open at a time.
const MAX_STREAMS: u32 = 1_024;
/// How much of one request, and of all of a connection, is taken before it was looked at.
const STREAM_WINDOW: u32 = 1_024 * 1_024;
const CONNECTION_WINDOW: u32 = 4 * 1_024 * 1_024;
/// How long a connection is quiet before its other end is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait after a connection could not be accepted: the files of the process may have
/// run out, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Listeners and their connections, whatever the service, from the first to the last request.
pub(crate) struct Connections {
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            stop: watch::Sender::new(false),
            servers: JoinSet::new(),
        }
    }

    /// Serves `service` to whoever connects.
    pub(crate) fn listen<S: Serve>(&mut self, listeners: Vec<Listener>, service: &S)
    where
        S::Future: Send,
    {
        for listener in listeners {
            let stopping = self.stop.subscribe();
            self.servers
                .spawn(listen(listener, service.clone(), stopping));
        }
    }

    /// Takes no more connections, and gives what is under way `span` to end.
    pub(crate) async fn end(mut self, span: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.servers.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(span, all).await;
        if ended.is_err() {
            tracing::warn!(?span, "some requests did not end in time and are cut off");
        }
    }
}

/// What can be served: answers each request, and never fails but by a status.
pub(crate) trait Serve:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static
{
}

impl<S> Serve for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static
{
}

/// A service whose answers always come in time and in one form, a panic's too.
pub(crate) fn guarded<S>(service: S) -> guard::Guarded<S> {
    guard::Guard.layer(service)
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

async fn listen<S: Serve>(listener: Listener, service: S, stopping: watch::Receiver<bool>)
where
    S::Future: Send,
{
    match listener {
        Listener::Tcp(listener) => {
            let incoming = TcpListenerStream::new(listener).map(undelayed);
            serve_connections(incoming, service, stopping).await;
        }
        Listener::Unix(listener, _file) => {
            serve_connections(UnixListenerStream::new(listener), service, stopping).await;
        }
    }
}

fn undelayed(accepted: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = accepted?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn serve_connections<IO, S: Serve>(
    incoming: impl Stream<Item = io::Result<IO>>,
    service: S,
    mut stopping: watch::Receiver<bool>,
) where
    S::Future: Send,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let stopped = async move {
        // An error says that the sender is gone, which is an end as well.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let served = server()
        .serve_with_incoming_shutdown(service, incoming.then(paused), stopped)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "a listener ended");
    }
}

async fn paused<IO>(accepted: io::Result<IO>) -> io::Result<IO> {
    if let Err(error) = &accepted {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    accepted
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
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
