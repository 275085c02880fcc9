//! Hot shapes, in process: `cargo bench --bench shapes`. One group with a million members, one
//! user in 10,000 groups, one resource with 100,000 subjects, a folder with a million children
//! under a backward arrow; each asked by somebody who may and by somebody who may not. And what no
//! order of search helps: a user in 10,000 groups, a document that 100,000 other groups may see,
//! by way of groups in groups on both sides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use portcullis::eval::{Decision, Facts, Limits, Question, check};
use portcullis::index::{Edit, Index, Op};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, Schema};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef, Tuple};

const SCHEMA: &str = "\
definition user {}
definition team { relation member: user | team#member }
definition folder {
    relation viewer: user | team#member
    permission view = viewer + document.folder<-view
}
definition document {
    relation folder: folder
    relation viewer: user | team#member
    permission view = viewer
}
";

/// What is asked: a name, subject, permission, resource, the answer.
const QUESTIONS: [(&str, &str, &str, &str, Decision); 12] = [
    (
        "group of 1 M, member",
        "user:77",
        "view",
        "document:team",
        Decision::Allowed,
    ),
    (
        "group of 1 M, stranger",
        "user:x",
        "view",
        "document:team",
        Decision::Denied,
    ),
    (
        "user in 10,000 groups, allowed",
        "user:busy",
        "view",
        "document:last",
        Decision::Allowed,
    ),
    (
        "user in 10,000 groups, denied",
        "user:busy",
        "view",
        "document:none",
        Decision::Denied,
    ),
    (
        "100,000 viewers, one of them",
        "user:88",
        "view",
        "document:users",
        Decision::Allowed,
    ),
    (
        "100,000 viewers, stranger",
        "user:x",
        "view",
        "document:users",
        Decision::Denied,
    ),
    (
        "100,000 groups may view, member",
        "user:busy",
        "view",
        "document:groups",
        Decision::Allowed,
    ),
    (
        "100,000 groups may view, stranger",
        "user:x",
        "view",
        "document:groups",
        Decision::Denied,
    ),
    (
        "both sides large, denied",
        "user:busy",
        "view",
        "document:far",
        Decision::Denied,
    ),
    (
        "both sides large, allowed",
        "user:busy",
        "view",
        "document:near",
        Decision::Allowed,
    ),
    (
        "1 M children, viewer of one",
        "user:99",
        "view",
        "folder:root",
        Decision::Allowed,
    ),
    (
        "1 M children, stranger",
        "user:x",
        "view",
        "folder:root",
        Decision::Denied,
    ),
];

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let part = |whole: u64| if test { whole / 100 } else { whole };
    let schema = Schema::compile(SCHEMA, &Names::default()).unwrap().schema;
    let begun = Instant::now();
    let index = load(&schema, &tuples(&part));
    let took = begun.elapsed();
    println!("{} tuples loaded in {took:?}", index.tuple_count());
    let mut criterion = Criterion::default().configure_from_args();
    for (name, subject, permission, resource, expected) in QUESTIONS {
        let (context, limits) = (Context::new(), Limits::default());
        let question = Question {
            subject: SubjectRef::parse(subject).unwrap(),
            permission,
            resource: ObjectRef::parse(resource).unwrap(),
            context: &context,
            contextual: &[],
            with_dependencies: false,
        };
        let ask = || {
            check(
                Facts::of_tuples(&schema, &index),
                &question,
                Timestamp::default(),
                &limits,
            )
            .unwrap()
        };
        assert_eq!(ask().decision, expected, "{name}");
        criterion.bench_function(name, |bencher| bencher.iter(|| black_box(ask())));
    }
    criterion.final_summary();
}

fn tuples(part: &dyn Fn(u64) -> u64) -> Vec<String> {
    let mut all = vec!["document:team#viewer@team:big#member".to_owned()];
    all.extend((0..part(1_000_000)).map(|n| format!("team:big#member@user:{n}")));
    let groups = part(10_000);
    all.extend((0..groups).map(|n| format!("team:g{n}#member@user:busy")));
    all.push(format!("document:last#viewer@team:g{}#member", groups - 1));
    all.push("document:none#viewer@team:empty#member".to_owned());
    all.extend((0..part(100_000)).map(|n| format!("document:users#viewer@user:{n}")));
    all.extend((0..part(100_000)).map(|n| format!("document:groups#viewer@team:g{n}#member")));
    all.extend((0..groups).map(|n| format!("team:up{n}#member@team:g{n}#member")));
    for document in ["far", "near"] {
        let viewer = move |n| format!("document:{document}#viewer@team:{document}{n}#member");
        all.extend((0..part(100_000)).map(viewer));
        let below = move |n| format!("team:{document}{n}#member@team:low{n}#member");
        all.extend((0..part(100_000)).map(below));
    }
    all.push(format!(
        "team:near{}#member@team:up{}#member",
        part(50_000),
        groups / 2
    ));
    all.extend((0..part(1_000_000)).map(|n| format!("document:c{n}#folder@folder:root")));
    all.push("document:c7#viewer@user:99".to_owned());
    all
}

fn load(schema: &Schema, tuples: &[String]) -> Index {
    let mut index = Index::new(1).with_names(Arc::clone(&schema.names));
    let mut revision = Revision(0);
    for part in tuples.chunks(10_000) {
        let part: Vec<Tuple> = part.iter().map(|text| text.parse().unwrap()).collect();
        let edits: Vec<Edit<'_>> = part.iter().map(|tuple| edit(schema, tuple)).collect();
        revision = revision.next();
        index = index.apply(&edits, revision);
        while let Some(segment) = index.wants_merge() {
            index = index.install(index.merge_segment(segment));
        }
    }
    index
}

fn edit<'a>(schema: &Schema, tuple: &'a Tuple) -> Edit<'a> {
    let names = &schema.names;
    Edit {
        resource: (
            names.type_id(tuple.resource.kind()).unwrap(),
            tuple.resource.id(),
        ),
        relation: names.rel_id(&tuple.relation).unwrap(),
        subject: (
            names.type_id(tuple.subject.kind()).unwrap(),
            tuple.subject.id(),
        ),
        subject_relation: (tuple.subject.relation())
            .map_or(RelId::NONE, |relation| names.rel_id(relation).unwrap()),
        op: Op::Put(None),
    }
}
