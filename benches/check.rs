//! Checks in process, on the world of `src/workload.rs`: `cargo bench --bench check`.
//!
//! `PORTCULLIS_WORLD` scales the world, in percent (100 unless said; 1,210 are 10 million tuples),
//! and makes ids of 16 bytes where it is more. `direct` is asked of a thousand tuples too. With
//! `--count N KIND` it asks so many questions and no more, for those who count instructions: the
//! difference of two counts is that of the questions alone.
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
use portcullis::eval::{Answer, Facts, Limits, Question, check};
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
    let counted = counted();
    let percent = percent.unwrap_or(if test { 1 } else { 100 });
    let world = match percent {
        0..=100 => workload::World::new(percent),
        _ => workload::World::new(percent).with_digits(11),
    };
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
    if let Some((count, kind)) = counted {
        return ask_counted(&world, &schema, &index, count, &kind);
    }
    let mut criterion = Criterion::default().configure_from_args();
    for kind in workload::KINDS {
        let questions = world.questions(kind, 20_000);
        ask(&mut criterion, &schema, &index, kind, &questions);
    }
    let small = workload::World::small();
    let (index, questions) = (load(&small, &schema), small.questions("direct", 1_000));
    let name = format!("direct, {} tuples", index.tuple_count());
    ask(&mut criterion, &schema, &index, &name, &questions);
    criterion.final_summary();
}

fn ask(
    criterion: &mut Criterion,
    schema: &Schema,
    index: &Index,
    name: &str,
    questions: &[workload::Question],
) {
    let (context, limits) = (Context::new(), Limits::default());
    let mut turn = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(
            || {
                turn = (turn + 1) % questions.len();
                questions.get(turn).unwrap()
            },
            |question| answer(schema, index, question, &context, &limits),
            BatchSize::SmallInput,
        );
    });
}

#[inline(never)]
fn answer(
    schema: &Schema,
    index: &Index,
    (subject, permission, resource): &workload::Question,
    context: &Context,
    limits: &Limits,
) -> Answer {
    let question = Question {
        subject: SubjectRef::parse(subject).unwrap(),
        permission,
        resource: ObjectRef::parse(resource).unwrap(),
        context,
        contextual: &[],
        with_dependencies: false,
    };
    let facts = Facts::of_tuples(schema, index);
    black_box(check(facts, &question, Timestamp::default(), limits)).unwrap()
}

/// `--count N KIND`.
fn counted() -> Option<(usize, String)> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--count");
    arguments.next()?;
    Some((arguments.next()?.parse().unwrap(), arguments.next()?))
}

fn ask_counted(world: &workload::World, schema: &Schema, index: &Index, count: usize, kind: &str) {
    let questions = world.questions(kind, 20_000.min(count));
    let (context, limits) = (Context::new(), Limits::default());
    let begun = Instant::now();
    for question in questions.iter().cycle().take(count) {
        answer(schema, index, question, &context, &limits);
    }
    println!("{count} times {kind} in {:?}", begun.elapsed());
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
    // As a server that has nothing to do.
    while let Some(segment) = index.may_merge() {
        index = index.install(index.merge_segment(segment));
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
