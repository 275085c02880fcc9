//! Lists in process: 10,000 of many documents, the first of all of them, three of all of them,
//! and who may see one: `cargo bench --bench lists`.
//!
//! `PORTCULLIS_DOCUMENTS` says how many documents there are (1,000,000 unless said; three of
//! 10,000,000 need some 2 GB).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use portcullis::eval::{
    Facts, Limits, ResourceList, ResourcesQuestion, Step, SubjectList, SubjectsQuestion,
};
use portcullis::index::{Edit, Index, Op};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, Schema};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef};

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
        println!(
            "{name}: {} rows",
            resources(facts, subject, permission, most)
        );
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
}

fn resources(facts: Facts<'_>, subject: &str, permission: &str, most: usize) -> usize {
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
    rows(most, || list.step().unwrap())
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
