//! Listeners and their connections: HTTP/2 by hyper.
//!
//! Hides on which task a request is answered. To wake one, often on another core, costs more than
//! most checks do. So the requests that came in with one read are begun by the task of their
//! connection, one after the other, and what they answer goes out with one write. A request that
//! has to wait goes on in a task of its own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::Listener;

/// The most bytes of a request's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1_024;
/// The most requests that one connection has open at a time.
const MAX_STREAMS: u32 = 1_024;
/// How much of one request, and of all of a connection, is taken before it was looked at.
const STREAM_WINDOW: u32 = 1_024 * 1_024;
const CONNECTION_WINDOW: u32 = 4 * 1_024 * 1_024;
/// How much of one answer waits in the connection for a slow reader: readers that have stopped may be
/// many.
const SEND_BUFFER: usize = 64 * 1_024;
/// How long a connection is quiet before its other end is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait after a connection could not be accepted: the files of the process may have
/// run out, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So many requests are begun before what they answered is sent.
const AT_ONCE: usize = 32;

/// The other end of a connection; `None` over a Unix socket.
pub(crate) type Peer = Option<SocketAddr>;

/// What can be served: answers each request, and never fails but by a status.
///
/// The first poll of an answer is on the task of its connection, where all others of the
/// connection wait: what takes long begins by yielding.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    /// An answer on its way.
    type Answer: Future<Output = Response<Body>> + Send + 'static;

    /// Answers a request from the other end of a connection.
    fn serve(&self, request: Request<Body>, peer: Peer) -> Self::Answer;
}

/// Listeners and their connections, whatever the service, from the first to the last request.
pub(crate) struct Connections {
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            stop: watch::Sender::new(false),
            listeners: JoinSet::new(),
        }
    }

    /// Serves `service` to whoever connects.
    pub(crate) fn listen<S: Serve>(&mut self, listeners: Vec<Listener>, service: &S) {
        for listener in listeners {
            let stopping = self.stop.subscribe();
            self.listeners
                .spawn(listen(listener, service.clone(), stopping));
        }
    }

    /// Takes no more connections, and gives what is under way `span` to end.
    pub(crate) async fn end(mut self, span: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.listeners.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(span, all).await;
        if ended.is_err() {
            tracing::warn!(?span, "some requests did not end in time and are cut off");
        }
    }
}

async fn listen<S: Serve>(listener: Listener, service: S, mut stopping: watch::Receiver<bool>) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stopping) => break,
            Some(_) = open.join_next() => continue,
            accepted = accept(&listener) => accepted,
        };
        let (service, stopping) = (service.clone(), stopping.clone());
        match accepted {
            Ok(Accepted::Tcp(io, peer)) => {
                open.spawn(connection(io, Some(peer), service, stopping));
            }
            Ok(Accepted::Unix(io)) => {
                open.spawn(connection(io, None, service, stopping));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The socket is closed before what is open has ended: nobody connects in vain.
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Ends when serving is to end, or when whoever could say so is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match listener {
        Listener::Tcp(listener) => accept_tcp(listener).await,
        Listener::Unix(listener, _file) => accept_unix(listener).await,
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<Accepted> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(Accepted::Tcp(stream, peer))
}

async fn accept_unix(listener: &UnixListener) -> io::Result<Accepted> {
    let (stream, _) = listener.accept().await?;
    Ok(Accepted::Unix(stream))
}

/// Serves one connection until the other end closes it, or what is under way when serving is to
/// end has ended.
async fn connection<IO, S>(io: IO, peer: Peer, service: S, mut stopping: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Serve,
{
    let came = Came::default();
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = service.serve(request.map(Body::new), peer);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut served = pin!(http2(came.clone()).serve_connection(TokioIo::new(io), answer));
    let mut stopped = pin!(stopped(&mut stopping));
    let mut stops = false;
    let ended = poll_fn(|context| {
        if !stops && stopped.as_mut().poll(context).is_ready() {
            stops = true;
            served.as_mut().graceful_shutdown();
        }
        loop {
            let polled = served.as_mut().poll(context);
            let begun = came.begin();
            if polled.is_ready() || !begun {
                return polled;
            }
        }
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn http2(came: Came) -> Builder<Came> {
    let mut builder = Builder::new(came);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

/// The requests of one connection that came in and are not yet begun: what hyper takes for the
/// way to run them.
#[derive(Clone, Default)]
struct Came(Arc<Mutex<Vec<Job>>>);

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Came {
    fn execute(&self, future: F) {
        self.jobs().push(Box::pin(future));
    }
}

impl Came {
    fn jobs(&self) -> std::sync::MutexGuard<'_, Vec<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins some of what came in; says whether there was anything. What is not done at once is
    /// polled again by its own task, and so needs no waker before.
    fn begin(&self) -> bool {
        let mut jobs = self.jobs();
        let some = jobs.len().min(AT_ONCE);
        let some: Vec<Job> = jobs.drain(..some).collect();
        drop(jobs);
        let begun = !some.is_empty();
        for mut job in some {
            let polled = job.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_pending() {
                tokio::spawn(job);
            }
        }
        begun
    }
}
