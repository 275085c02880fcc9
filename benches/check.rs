//! Checks in process, on the world of `src/workload.rs`: `cargo bench --bench check`.
//!
//! `PORTCULLIS_WORLD` scales the world, in percent (100 unless said).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BatchSize, Criterion};
use portcullis::eval::{Facts, Limits, Question, check};
use portcullis::index::{Edit, Index, Op};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, Schema};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef};
use portcullis::workload;

fn main() {
    let percent = std::env::var("PORTCULLIS_WORLD")
        .ok()
        .and_then(|n| n.parse().ok());
    let test = std::env::args().any(|argument| argument == "--test");
    let world = workload::World::new(percent.unwrap_or(if test { 1 } else { 100 }));
    let schema = Schema::compile(workload::SCHEMA, &Names::default())
        .unwrap()
        .schema;
    let begun = Instant::now();
    let index = load(&world, &schema);
    println!(
        "{} tuples loaded in {:?}",
        index.tuple_count(),
        begun.elapsed()
    );
    let mut criterion = Criterion::default().configure_from_args();
    for kind in workload::KINDS {
        ask(&mut criterion, &world, &schema, &index, kind);
    }
    criterion.final_summary();
}

fn ask(
    criterion: &mut Criterion,
    world: &workload::World,
    schema: &Schema,
    index: &Index,
    kind: &'static str,
) {
    let questions = world.questions(kind, 20_000);
    let (context, limits) = (Context::new(), Limits::default());
    let mut turn = 0;
    criterion.bench_function(kind, |bencher| {
        bencher.iter_batched(
            || {
                turn = (turn + 1) % questions.len();
                questions.get(turn).unwrap()
            },
            |(subject, permission, resource)| {
                let question = Question {
                    subject: SubjectRef::parse(subject).unwrap(),
                    permission,
                    resource: ObjectRef::parse(resource).unwrap(),
                    context: &context,
                    contextual: &[],
                    with_dependencies: false,
                };
                black_box(check(
                    Facts::of_tuples(schema, index),
                    &question,
                    Timestamp::default(),
                    &limits,
                ))
                .unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}

fn load(world: &workload::World, schema: &Schema) -> Index {
    let mut index = Index::new(1).with_names(Arc::clone(&schema.names));
    let mut revision = Revision(0);
    let batch: Vec<_> = world.tuples().collect();
    for part in batch.chunks(10_000) {
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
