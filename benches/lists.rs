//! Lists: 10,000 of many documents, the first of all of them, three of all of them, and who may see
//! one; in process, with the tuples that they read, and over gRPC: `cargo bench --bench lists`.
//!
//! `PORTCULLIS_DOCUMENTS` says how many documents there are (1,000,000 unless said; three of
//! 10,000,000 need some 2 GB).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs
)]

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use http_body::{Body as _, Frame};
use portcullis::api::proto::ListResourcesRequest;
use portcullis::api::proto::check_service_client::CheckServiceClient;
use portcullis::engine::{Engine, EngineOptions};
use portcullis::eval::{
    Facts, Limits, ResourceList, ResourcesQuestion, Step, SubjectList, SubjectsQuestion,
};
use portcullis::index::{Edit, Index, Op};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, Schema};
use portcullis::server::{self, ListenAddress, ServeOptions};
use portcullis::store::MemoryStore;
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef, Tuple};
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};
use tower::{Service as _, ServiceExt as _};

const SCHEMA: &str = "
definition user {}
definition group { relation member: user }
definition document {
    relation viewer: user | group#member
    relation banned: user
    permission view = viewer
    permission read = viewer - banned
}";

/// `all` may view every document, `some` 10,000 of them through a group, `few` three.
fn tuples(documents: u64) -> impl Iterator<Item = (String, &'static str, String)> {
    let all = (0..documents).flat_map(move |at| {
        let document = format!("document:{at}");
        let group = (at % (documents / 10_000).max(1) == 0).then_some("group:g#member");
        let few = (at % (documents / 3 + 1) == 7).then_some("user:few");
        ["user:all"]
            .into_iter()
            .chain(group)
            .chain(few)
            .map(move |subject| (document.clone(), "viewer", subject.to_owned()))
    });
    let crowd = (0..10_000).map(|at| ("document:7".to_owned(), "viewer", format!("user:u{at}")));
    all.chain(crowd)
        .chain([("group:g".to_owned(), "member", "user:some".to_owned())])
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let documents = std::env::var("PORTCULLIS_DOCUMENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(if test { 20_000 } else { 1_000_000 });
    let schema = Schema::compile(SCHEMA, &Names::default()).unwrap().schema;
    let begun = Instant::now();
    let index = load(documents, &schema);
    println!(
        "{} tuples loaded in {:?}",
        index.tuple_count(),
        begun.elapsed()
    );
    let facts = Facts::of_tuples(&schema, &index);
    let mut criterion = Criterion::default().configure_from_args();
    let mut list = |name: &str, subject: &str, permission: &str, most: usize| {
        let (rows, reads) = resources(facts, subject, permission, most);
        println!("{name}: {rows} rows by {reads} reads");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| resources(facts, black_box(subject), permission, most));
        });
    };
    list(
        "10,000 documents by a group",
        "user:some",
        "view",
        usize::MAX,
    );
    list("10,000 with an exclusion", "user:some", "read", usize::MAX);
    list("the first of all", "user:all", "view", 1);
    list("three of all", "user:few", "view", usize::MAX);
    list("all", "user:all", "view", usize::MAX);
    println!("subjects: {} rows", subjects(facts));
    criterion.bench_function("10,000 subjects of a document", |bencher| {
        bencher.iter(|| subjects(black_box(facts)));
    });
    criterion.final_summary();
    drop(index);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(over_grpc(documents, if test { 1 } else { 21 }));
}

/// Medians of the first row and of all, by a client that decodes each row and by one that takes
/// bytes as they come.
async fn over_grpc(documents: u64, rounds: usize) {
    let engine = Engine::open(Box::new(MemoryStore::default()), EngineOptions::default()).unwrap();
    let mut import = engine.import(None);
    import.write_schema(SCHEMA.into()).await.unwrap();
    let mut left = tuples(documents).peekable();
    while left.peek().is_some() {
        let part = left.by_ref().take(10_000);
        import.add(part.map(|(resource, relation, subject)| {
            format!("{resource}#{relation}@{subject}")
                .parse::<Tuple>()
                .unwrap()
        }));
        import.commit().await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", dir.path().join("socket").display());
    let listener = address
        .parse::<ListenAddress>()
        .unwrap()
        .bind()
        .await
        .unwrap();
    let options = ServeOptions::default();
    tokio::spawn(server::serve(
        engine,
        vec![listener],
        options,
        std::future::pending(),
    ));
    let channel = Endpoint::try_from(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    for (name, subject, permission, limit) in [
        ("10,000 documents by a group", "user:some", "view", 0),
        ("10,000 with an exclusion", "user:some", "read", 0),
        ("10,000 of all", "user:all", "view", 10_000),
        ("all", "user:all", "view", 0),
    ] {
        let request = ListResourcesRequest {
            subject: subject.to_owned(),
            permission: permission.to_owned(),
            resource_type: "document".to_owned(),
            limit,
            ..ListResourcesRequest::default()
        };
        let (mut decoded, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            decoded.push(read_rows(channel.clone(), request.clone()).await);
            raw.push(read_bytes(channel.clone(), &request).await);
        }
        println!(
            "{name} over gRPC: {}; as bytes {}",
            told(decoded),
            told(raw)
        );
    }
}

/// How long the first and all took, and how many there were.
type Took = (Duration, Duration, usize);

async fn read_rows(channel: Channel, request: ListResourcesRequest) -> Took {
    let begun = Instant::now();
    let mut client = CheckServiceClient::new(channel);
    let mut rows = client.list_resources(request).await.unwrap().into_inner();
    let (mut first, mut count) = (Duration::ZERO, 0);
    while let Some(row) = rows.message().await.unwrap() {
        black_box(row);
        if count == 0 {
            first = begun.elapsed();
        }
        count += 1;
    }
    (first, begun.elapsed(), count)
}

async fn read_bytes(mut channel: Channel, request: &ListResourcesRequest) -> Took {
    let message = request.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let body = Raw(Some(framed.into()));
    let begun = Instant::now();
    let request = http::Request::post("/portcullis.v1.CheckService/ListResources")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body));
    let channel = channel.ready().await.unwrap();
    let mut body = channel.call(request.unwrap()).await.unwrap().into_body();
    let (mut first, mut count) = (Duration::ZERO, 0);
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.unwrap().into_data() {
            if count == 0 {
                first = begun.elapsed();
            }
            count += data.len();
        }
    }
    (first, begun.elapsed(), count)
}

/// A request's body, as it is.
struct Raw(Option<Bytes>);

impl http_body::Body for Raw {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn told(mut rounds: Vec<Took>) -> String {
    rounds.sort_by_key(|round| round.1);
    let (_, all, count) = rounds[rounds.len() / 2];
    rounds.sort_by_key(|round| round.0);
    let (first, ..) = rounds[rounds.len() / 2];
    format!("{count} in {all:.2?}, the first in {first:.2?}")
}

fn resources(facts: Facts<'_>, subject: &str, permission: &str, most: usize) -> (usize, u64) {
    let context = Context::new();
    let question = ResourcesQuestion {
        subject: SubjectRef::parse(subject).unwrap(),
        permission,
        kind: "document",
        context: &context,
        within: None,
    };
    let (now, limits) = (Timestamp::default(), Limits::default());
    let mut list = ResourceList::new(facts, question, now, &limits, None).unwrap();
    let count = rows(most, || list.step().unwrap());
    (count, list.reads())
}

fn subjects(facts: Facts<'_>) -> usize {
    let context = Context::new();
    let question = SubjectsQuestion {
        resource: ObjectRef::parse("document:7").unwrap(),
        permission: "read",
        kind: "user",
        relation: None,
        context: &context,
    };
    let (now, limits) = (Timestamp::default(), Limits::default());
    let mut list = SubjectList::new(facts, question, now, &limits, None).unwrap();
    rows(usize::MAX, || list.step().unwrap())
}

fn rows(most: usize, mut step: impl FnMut() -> Step) -> usize {
    let mut count = 0;
    while count < most {
        match step() {
            Step::Row(row) => {
                black_box(row);
                count += 1;
            }
            Step::Nothing | Step::Busy => {}
            Step::End => break,
        }
    }
    count
}

fn load(documents: u64, schema: &Schema) -> Index {
    let mut index = Index::new(1).with_names(Arc::clone(&schema.names));
    let mut revision = Revision(0);
    let mut tuples = tuples(documents).peekable();
    while tuples.peek().is_some() {
        let part: Vec<_> = tuples.by_ref().take(10_000).collect();
        let edits: Vec<Edit<'_>> = part.iter().map(|tuple| edit(schema, tuple)).collect();
        revision = revision.next();
        index = index.apply(&edits, revision);
        while let Some(segment) = index.wants_merge() {
            index = index.install(index.merge_segment(segment));
        }
    }
    index
}

fn edit<'a>(schema: &Schema, tuple: &'a (String, &'static str, String)) -> Edit<'a> {
    let (resource, relation, subject) = tuple;
    let resource = ObjectRef::parse(resource).unwrap();
    let subject = SubjectRef::parse(subject).unwrap();
    let names = &schema.names;
    Edit {
        resource: (names.type_id(resource.kind()).unwrap(), resource.id()),
        relation: names.rel_id(relation).unwrap(),
        subject: (names.type_id(subject.kind()).unwrap(), subject.id()),
        subject_relation: subject
            .relation()
            .map_or(RelId::NONE, |r| names.rel_id(r).unwrap()),
        op: Op::Put(None),
    }
}
