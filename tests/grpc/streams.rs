//! Streams that nobody reads: how many may be open, and what becomes of them.

use std::time::Duration;

use portcullis::api::proto::check_service_client::CheckServiceClient;
use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::*;
use portcullis::engine::{Engine, EngineOptions};
use portcullis::server::{self, ServeOptions};
use portcullis::store::memory::MemoryStore;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::{SOON, Served, reason_of};

const SCHEMA: &str = "
definition user {}
definition doc { relation viewer: user permission view = viewer }";
/// So that no stream fits into what waits on its way.
const DOCS: usize = 6_000;

/// A server of so many documents that one user may view, and of one that as many may, with a
/// client that takes little without reading it.
async fn served(options: EngineOptions) -> (Served, Channel) {
    let engine = Engine::open(Box::new(MemoryStore::default()), options).unwrap();
    let serve =
        |listeners, shutdown| server::serve(engine, listeners, ServeOptions::default(), shutdown);
    let served = Served::start("127.0.0.1:0", serve).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    let channel = (endpoint.initial_stream_window_size(65_535).connect().await).unwrap();
    let viewer = |resource: String, subject: String| Tuple {
        resource,
        relation: "viewer".to_owned(),
        subject,
        ..Tuple::default()
    };
    let many = |n| viewer(format!("doc:document-{n:06}"), "user:all".to_owned());
    let crowd = |n| viewer("doc:crowd".to_owned(), format!("user:somebody-{n:06}"));
    let tuples: Vec<Tuple> = (0..DOCS).flat_map(|n| [many(n), crowd(n)]).collect();
    let messages = tuples
        .chunks(5_000)
        .zip(0..)
        .map(|(part, at)| ImportRequest {
            tuples: part.to_vec(),
            schema: if at == 0 { SCHEMA } else { "" }.to_owned(),
            ..ImportRequest::default()
        });
    let messages: Vec<_> = messages.collect();
    let mut grants = GrantServiceClient::new(channel.clone());
    let imported = grants.import(tokio_stream::iter(messages)).await.unwrap();
    count(&mut imported.into_inner()).await.unwrap();
    (served, channel)
}

/// How many messages are left; or how the stream ends.
async fn count<T>(stream: &mut Streaming<T>) -> Result<usize, Status> {
    let mut count = 0;
    while stream.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Streams of each kind.
enum Opened {
    Export(Streaming<ExportResponse>),
    Tuples(Streaming<ReadTuplesResponse>),
    Resources(Streaming<ListResourcesResponse>),
    Subjects(Streaming<ListSubjectsResponse>),
}

const KINDS: usize = 4;

impl Opened {
    async fn new(kind: usize, channel: &Channel) -> Result<Self, Status> {
        let mut grants = GrantServiceClient::new(channel.clone());
        let mut checks = CheckServiceClient::new(channel.clone());
        let resources = ListResourcesRequest {
            subject: "user:all".to_owned(),
            permission: "view".to_owned(),
            resource_type: "doc".to_owned(),
            ..ListResourcesRequest::default()
        };
        let subjects = ListSubjectsRequest {
            resource: "doc:crowd".to_owned(),
            permission: "view".to_owned(),
            subject_type: "user".to_owned(),
            ..ListSubjectsRequest::default()
        };
        Ok(match kind {
            0 => Self::Export(grants.export(ExportRequest::default()).await?.into_inner()),
            1 => {
                Self::Tuples((grants.read_tuples(ReadTuplesRequest::default()).await?).into_inner())
            }
            2 => Self::Resources(checks.list_resources(resources).await?.into_inner()),
            _ => Self::Subjects(checks.list_subjects(subjects).await?.into_inner()),
        })
    }

    async fn next(&mut self) -> Result<bool, Status> {
        Ok(match self {
            Self::Export(stream) => stream.message().await?.is_some(),
            Self::Tuples(stream) => stream.message().await?.is_some(),
            Self::Resources(stream) => stream.message().await?.is_some(),
            Self::Subjects(stream) => stream.message().await?.is_some(),
        })
    }

    async fn count(&mut self) -> Result<usize, Status> {
        match self {
            Self::Export(stream) => count(stream).await,
            Self::Tuples(stream) => count(stream).await,
            Self::Resources(stream) => count(stream).await,
            Self::Subjects(stream) => count(stream).await,
        }
    }
}

#[tokio::test]
async fn no_more_streams_are_open_than_may_be() {
    let (_served, channel) = served(EngineOptions {
        streams: KINDS,
        ..EngineOptions::default()
    })
    .await;
    let mut open = Vec::new();
    for kind in 0..KINDS {
        open.push(Opened::new(kind, &channel).await.unwrap());
    }
    for kind in 0..KINDS {
        let refused = Opened::new(kind, &channel).await.err().unwrap();
        assert_eq!(reason_of(&refused).0, "OVERLOADED", "{refused}");
        let said = refused.message();
        assert!(
            said.contains("4 lists") && said.contains("--max-streams"),
            "{said}"
        );
    }
    // Whoever goes, and whoever reads to the end, makes room.
    drop(open.remove(0));
    assert_eq!(open.remove(1).count().await.unwrap(), DOCS);
    for kind in [0, 2] {
        let begun = std::time::Instant::now();
        while let Err(status) = Opened::new(kind, &channel)
            .await
            .map(|stream| open.push(stream))
        {
            assert_eq!(reason_of(&status).0, "OVERLOADED");
            assert!(begun.elapsed() < SOON, "its place is held for ever");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A state is not kept for a reader that has stopped, and what it gets does not look complete.
#[tokio::test]
async fn who_does_not_read_in_time_is_told() {
    let (_served, channel) = served(EngineOptions {
        snapshot_patience: Duration::from_millis(30),
        ..EngineOptions::default()
    })
    .await;
    // Of each so few at a time that the rest waits for longer than that.
    for (kind, few) in [(0, 1), (1, 200)] {
        let mut stream = Opened::new(kind, &channel).await.unwrap();
        let ended = 'reading: loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for _ in 0..few {
                match stream.next().await {
                    Ok(more) => assert!(more, "it looks complete"),
                    Err(status) => break 'reading status,
                }
            }
        };
        assert_eq!(reason_of(&ended).0, "OVERLOADED", "{ended}");
        let said = ended.message();
        assert!(said.contains("nothing was read for 30ms"), "{said}");
    }
    // A list holds nothing that it could not have again.
    let mut list = Opened::new(2, &channel).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(list.count().await.unwrap(), DOCS);
}
