//! What tonic answers before any service sees a request, in the form of all other errors.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use portcullis::api::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use crate::{Served, reason_of};

const CHECK: &str = "/portcullis.v1.CheckService/Check";

/// A request's body, byte by byte as given.
struct Raw(Option<Bytes>);

impl http_body::Body for Raw {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

async fn post(channel: &Channel, path: &str, timeout: Option<&str>, body: &[u8]) -> Status {
    let mut request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let body = Body::new(Raw(Some(Bytes::copy_from_slice(body))));
    let mut channel = channel.clone();
    let channel = channel.ready().await.unwrap();
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    let (head, mut body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return status;
    }
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            Some(frame) => {
                if let Ok(trailers) = frame.unwrap().into_trailers() {
                    return Status::from_header_map(&trailers).unwrap();
                }
            }
            None => panic!("no status"),
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// A check whose context nests lists; by hand, since the encoder recurses.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = vec![0x20, 1]; // bool_value
    for _ in 0..depth {
        value = field(6, &field(1, &value)); // list_value { values }
    }
    let entry = [field(1, b"a"), field(2, &value)].concat();
    field(4, &field(1, &entry)) // context { fields }
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

#[tokio::test]
async fn bytes_that_are_no_request() {
    let served = Served::new().await;
    let channel = served.connect().await;
    let huge = (5_u32 << 20).to_be_bytes();
    let bad = Code::InvalidArgument;
    let cases = [
        ("no protobuf", framed(&[0xff; 3]), bad, "MALFORMED_REQUEST"),
        (
            "no UTF-8",
            framed(&[0x0a, 1, 0xff]),
            bad,
            "MALFORMED_REQUEST",
        ),
        ("nothing", vec![], bad, "MALFORMED_REQUEST"),
        (
            "cut short",
            vec![0, 0, 0, 0, 9, 1],
            bad,
            "MALFORMED_REQUEST",
        ),
        (
            "compressed",
            vec![1, 0, 0, 0, 1, 1],
            bad,
            "MALFORMED_REQUEST",
        ),
        (
            "a wrong flag",
            vec![7, 0, 0, 0, 1, 1],
            bad,
            "MALFORMED_REQUEST",
        ),
        (
            "nested deep",
            framed(&nested(20)),
            bad,
            "MALFORMED_REFERENCE",
        ),
        (
            "nested deeper",
            framed(&nested(33)),
            bad,
            "MALFORMED_REQUEST",
        ),
        (
            "nested deepest",
            framed(&nested(10_000)),
            bad,
            "MALFORMED_REQUEST",
        ),
        (
            "too large",
            [&[0][..], &huge].concat(),
            Code::ResourceExhausted,
            "TOO_LARGE",
        ),
    ];
    for (what, body, code, reason) in cases {
        let status = post(&channel, CHECK, None, &body).await;
        assert_eq!(
            (status.code(), &*reason_of(&status).0),
            (code, reason),
            "{what}: {status:?}"
        );
    }
}

#[tokio::test]
async fn methods_that_are_not_there() {
    let served = Served::new().await;
    let channel = served.connect().await;
    let unknown = ["/portcullis.v1.CheckService/Chek", "/a.B/C", "/", "/x"];
    let later = methods().into_iter().filter(|path| !is_filled(path));
    for path in unknown.map(str::to_owned).into_iter().chain(later) {
        let status = post(&channel, &path, None, &framed(&[])).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        assert_eq!(reason_of(&status).0, "NOT_IMPLEMENTED", "{path}");
        assert!(!status.message().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn methods_that_are_there() {
    let served = Served::new().await;
    let channel = served.connect().await;
    for path in methods().iter().filter(|path| is_filled(path)) {
        // A stream of changes goes on until its deadline.
        let status = post(&channel, path, Some("500m"), &framed(&[])).await;
        assert_ne!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        assert_ne!(status.code(), Code::Internal, "{path}: {status:?}");
    }
}

fn is_filled(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap();
    let filled = "Check BatchCheck Explain ListPermissions ListResources ListSubjects Grant Revoke Write \
                  ReadTuples Import Export WriteSchema ReadSchema WatchChanges AckChanges \
                  ListWatchers Lock Unlock RenewLock ListLocks CreateRole UpdateRole DeleteRole \
                  ListRoles AssignRole UnassignRole ChangeRole";
    filled.split(' ').any(|name| name == method)
}

fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let paths = services.flat_map(|service| {
        let path = |method: &prost_types::MethodDescriptorProto| {
            format!("/portcullis.v1.{}/{}", service.name(), method.name())
        };
        service.method.iter().map(path)
    });
    paths.collect()
}

#[tokio::test]
async fn large_headers_hurt_nobody_else() {
    let served = Served::new().await;
    let other = served.connect().await;
    let channel = served.connect().await;
    let request = http::Request::post(CHECK).header("x-large", "x".repeat(100_000));
    let mut own = channel.clone();
    let request = request.body(Body::empty()).unwrap();
    let answer = own.ready().await.unwrap().call(request).await;
    assert!(answer.is_err() || !answer.unwrap().status().is_success());
    let status = post(&other, CHECK, None, &framed(&[])).await;
    assert_eq!(status.code(), Code::InvalidArgument);
}
