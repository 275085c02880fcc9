//! A server that does what a test wants, on the level of requests.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use portcullis::api::proto;
use prost::Message as _;
use proto::watch_changes_response::Event;
use proto::watch_service_server::{WatchService, WatchServiceServer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::{Status, Streaming};

pub const EPOCH: &str = "9f3ac1";

/// What it was asked and what it answers.
pub struct Fake {
    pub uri: String,
    pub seen: Arc<Seen>,
}

pub struct Seen {
    pub checks: AtomicUsize,
    /// Headers of all calls that are not about watching.
    pub headers: Mutex<Vec<HeaderMap>>,
    /// A permit for each check that is answered.
    pub gate: Semaphore,
    /// What a check answers.
    pub answer: Mutex<Result<proto::CheckResponse, Status>>,
    pub events: broadcast::Sender<proto::WatchChangesResponse>,
    pub revision: Mutex<u64>,
}

impl Fake {
    pub async fn new() -> Self {
        let seen = Arc::new(Seen {
            checks: AtomicUsize::new(0),
            headers: Mutex::default(),
            gate: Semaphore::new(0),
            answer: Mutex::new(Ok(proto::CheckResponse {
                decision: proto::Decision::Allowed.into(),
                revision: format!("5@{EPOCH}"),
                dependencies: vec![1],
                ..proto::CheckResponse::default()
            })),
            events: broadcast::channel(16).0,
            revision: Mutex::new(5),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let service = Service {
            seen: Arc::clone(&seen),
            watch: WatchServiceServer::new(Watches(Arc::clone(&seen))),
        };
        tokio::spawn(
            tonic::transport::Server::builder()
                .serve_with_incoming(service, TcpListenerStream::new(listener)),
        );
        Self { uri, seen }
    }

    /// Commits a change of one key, and tells the streams.
    pub fn commit(&self, key: u64) {
        let mut revision = self.seen.revision.lock().unwrap();
        *revision += 1;
        let commit = proto::Commit {
            revision: format!("{revision}@{EPOCH}"),
            invalidations: vec![key],
            chain: *revision,
            ..proto::Commit::default()
        };
        let event = proto::WatchChangesResponse {
            event: Some(Event::Commit(commit)),
        };
        self.seen.events.send(event).unwrap();
    }
}

#[derive(Clone)]
struct Service {
    seen: Arc<Seen>,
    watch: WatchServiceServer<Watches>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl tower::Service<Request<Body>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let path = request.uri().path().to_owned();
        if path.starts_with("/portcullis.v1.WatchService/") {
            return Box::pin(self.watch.call(request));
        }
        let seen = Arc::clone(&self.seen);
        seen.headers.lock().unwrap().push(request.headers().clone());
        Box::pin(async move {
            if path != "/portcullis.v1.CheckService/Check" {
                // Whatever it is, it comes back.
                let (parts, body) = request.into_parts();
                let mut response = Response::new(body);
                response
                    .headers_mut()
                    .insert("content-type", parts.headers["content-type"].clone());
                response
                    .headers_mut()
                    .insert("x-path", path.parse().unwrap());
                return Ok(response);
            }
            seen.checks.fetch_add(1, Ordering::SeqCst);
            seen.gate.acquire().await.unwrap().forget();
            let answer = seen.answer.lock().unwrap().clone();
            Ok(match answer {
                Ok(answer) => unary(&answer),
                Err(status) => status.into_http(),
            })
        })
    }
}

/// A body of one message, and that all is well.
fn unary(message: &proto::CheckResponse) -> Response<Body> {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&message);
    let mut response = Response::new(Body::new(Once(Some(body.into()), true)));
    (response.headers_mut()).insert("content-type", "application/grpc".parse().unwrap());
    response
}

struct Once(Option<bytes::Bytes>, bool);

impl http_body::Body for Once {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        if let Some(data) = self.0.take() {
            return Poll::Ready(Some(Ok(http_body::Frame::data(data))));
        }
        if !std::mem::take(&mut self.1) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers))))
    }
}

struct Watches(Arc<Seen>);

type Events = Pin<Box<dyn Stream<Item = Result<proto::WatchChangesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WatchService for Watches {
    type WatchChangesStream = Events;

    async fn watch_changes(
        &self,
        _: tonic::Request<proto::WatchChangesRequest>,
    ) -> Result<tonic::Response<Events>, Status> {
        let events = self.0.events.subscribe();
        let hello = proto::Hello {
            revision: format!("{}@{EPOCH}", self.0.revision.lock().unwrap()),
            lease: Some(Duration::from_secs(30).try_into().unwrap()),
            heartbeat_interval: Some(Duration::from_secs(30).try_into().unwrap()),
            session: "s".to_owned(),
            ..proto::Hello::default()
        };
        let hello = proto::WatchChangesResponse {
            event: Some(Event::Hello(hello)),
        };
        let events = tokio_stream::wrappers::BroadcastStream::new(events);
        let events = events.map(|event| event.map_err(|_| Status::internal("lagging")));
        let all = tokio_stream::once(Ok(hello)).chain(events);
        Ok(tonic::Response::new(Box::pin(all)))
    }

    async fn ack_changes(
        &self,
        _: tonic::Request<proto::AckChangesRequest>,
    ) -> Result<tonic::Response<proto::AckChangesResponse>, Status> {
        Ok(tonic::Response::new(proto::AckChangesResponse {
            lease: Some(Duration::from_secs(30).try_into().unwrap()),
            revision: format!("{}@{EPOCH}", self.0.revision.lock().unwrap()),
            head_age: None,
        }))
    }

    async fn list_watchers(
        &self,
        _: tonic::Request<proto::ListWatchersRequest>,
    ) -> Result<tonic::Response<proto::ListWatchersResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A call of any method, by messages as they are.
pub async fn call(
    channel: &tonic::transport::Channel,
    path: &'static str,
    metadata: &[(&'static str, &str)],
    message: proto::CheckRequest,
) -> Result<tonic::Response<Streaming<proto::CheckRequest>>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request.set_timeout(Duration::from_secs(20));
    let codec = tonic_prost::ProstCodec::<proto::CheckRequest, proto::CheckRequest>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    client.server_streaming(request, path, codec).await
}
