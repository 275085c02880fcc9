//! Health, reflection, sockets, and how serving ends.

use std::time::Duration;

use portcullis::api::proto::CheckRequest;
use portcullis::api::proto::check_service_client::CheckServiceClient;
use portcullis::server::{self, ServeOptions};
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::{SOON, Served};

const SERVICES: [&str; 6] = ["Check", "Grant", "Lock", "Role", "Schema", "Watch"];

fn full_name(service: &str) -> String {
    format!("portcullis.v1.{service}Service")
}

/// Waits for the server as a whole.
async fn until_serving(client: &mut HealthClient<Channel>) -> Streaming<HealthCheckResponse> {
    let watched = client.watch(HealthCheckRequest::default()).await;
    let mut watched = watched.unwrap().into_inner();
    while watched.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    watched
}

#[tokio::test]
async fn health_is_told_for_each_service() {
    let served = Served::new().await;
    let mut client = HealthClient::new(served.connect().await);
    until_serving(&mut client).await;
    let names = SERVICES.map(full_name).into_iter();
    for service in names.chain([String::new()]) {
        let request = HealthCheckRequest {
            service: service.clone(),
        };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest {
        service: "x".to_owned(),
    };
    let status = client.check(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(crate::reason_of(&status).0, "NOT_FOUND");
}

macro_rules! reflection_test {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::server_reflection_client::*;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest::*;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version::*;

            let served = Served::new().await;
            let mut client = ServerReflectionClient::new(served.connect().await);
            let mut ask = async |question| {
                let request = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(question),
                };
                let request = tokio_stream::once(request);
                let answers = client.server_reflection_info(request).await.unwrap();
                let answer = answers.into_inner().message().await.unwrap().unwrap();
                answer.message_response.unwrap()
            };
            let listed = ask(ListServices(String::new())).await;
            let MessageResponse::ListServicesResponse(list) = listed else {
                panic!("{listed:?}");
            };
            let listed: Vec<_> = list
                .service
                .into_iter()
                .map(|service| service.name)
                .collect();
            for service in SERVICES.map(full_name) {
                assert!(listed.contains(&service), "{service} of {listed:?}");
            }
            for symbol in SYMBOLS {
                let answer = ask(FileContainingSymbol((*symbol).to_owned())).await;
                let MessageResponse::FileDescriptorResponse(files) = answer else {
                    panic!("{symbol}: {answer:?}");
                };
                let file = FileDescriptorProto::decode(&*files.file_descriptor_proto[0]);
                check_file(symbol, &file.unwrap());
            }
        }
    };
}

const SYMBOLS: &[&str] = &[
    "portcullis.v1.CheckService",
    "portcullis.v1.Tuple",
    "google.rpc.ErrorInfo",
    "google.rpc.BadRequest",
    "google.rpc.RetryInfo",
    "google.rpc.PreconditionFailure",
    "grpc.health.v1.Health",
];

fn check_file(symbol: &str, file: &FileDescriptorProto) {
    assert!(symbol.starts_with(file.package()), "{symbol}");
    let has_comments = file.source_code_info.is_some();
    assert!(
        has_comments || !symbol.starts_with("portcullis"),
        "{symbol}"
    );
}

reflection_test!(reflection_v1_describes_everything, v1);
reflection_test!(reflection_v1alpha_describes_everything, v1alpha);

#[tokio::test]
async fn a_unix_socket_serves_and_its_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.sock");
    let address = format!("unix:{}", path.display());
    let served = Served::on(&address, ServeOptions::default()).await;
    let mut client = HealthClient::new(served.connect().await);
    client.check(HealthCheckRequest::default()).await.unwrap();
    drop(client);
    let ended = tokio::time::timeout(SOON, served.stop()).await;
    ended.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn serving_ends_though_connections_are_idle() {
    let served = Served::new().await;
    let mut client = HealthClient::new(served.connect().await);
    client.check(HealthCheckRequest::default()).await.unwrap();
    let ended = tokio::time::timeout(SOON, served.stop()).await;
    ended.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_never_ends_is_told_and_cut_off() {
    let options = ServeOptions {
        drain: Duration::from_millis(200),
        ..ServeOptions::default()
    };
    let served = Served::on("127.0.0.1:0", options).await;
    let mut client = HealthClient::new(served.connect().await);
    let mut stream = until_serving(&mut client).await;
    let ended = tokio::spawn(tokio::time::timeout(SOON, served.stop()));
    let told = stream.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    ended.await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer_before_the_engine_stands() {
    let (hand_over, opening) = tokio::sync::oneshot::channel();
    let opening = async { opening.await.ok() };
    let serve = |listeners, shutdown| {
        server::serve_opening(opening, listeners, ServeOptions::default(), shutdown)
    };
    let served = Served::start("127.0.0.1:0", serve).await;
    let channel = served.connect().await;
    let mut health = HealthClient::new(channel.clone());
    let mut checks = CheckServiceClient::new(channel);
    let request = HealthCheckRequest::default;
    let early = health.check(request()).await.unwrap().into_inner();
    assert_eq!(early.status(), ServingStatus::NotServing);
    let status = checks.check(CheckRequest::default()).await.unwrap_err();
    assert_eq!(crate::reason_of(&status).0, "STARTING");
    hand_over.send(crate::engine()).ok().unwrap();
    until_serving(&mut health).await;
    let status = checks.check(CheckRequest::default()).await.unwrap_err();
    assert_eq!(crate::reason_of(&status).0, "MALFORMED_REFERENCE");
}
