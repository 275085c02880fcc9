//! Keys that are right must also be of use: on the world that the benchmarks ask, nearly all
//! answers can be kept, by few keys, and a write that has nothing to do with one spares it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::HashMap;

use portcullis::eval::dependencies::invalidated;
use portcullis::eval::{Facts, Limits, Question, check};
use portcullis::index::{Edit, Index};
use portcullis::revision::Revision;
use portcullis::schema::{Names, Schema};
use portcullis::state::Change;
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef, Tuple};
use portcullis::workload::{KINDS, Random, SCHEMA, World};

/// Questions of each kind, and writes that each answer is held against.
const QUESTIONS: usize = 500;
const WRITES: u64 = 1_000;

struct Kept {
    subject: String,
    resource: String,
    keys: Vec<u64>,
}

fn tuples(world: &World) -> Vec<Tuple> {
    let text = |(resource, relation, subject)| format!("{resource}#{relation}@{subject}");
    world.tuples().map(|t| text(t).parse().unwrap()).collect()
}

fn load(schema: &Schema, tuples: &[Tuple]) -> Index {
    let admitted: Vec<_> = tuples.iter().map(|t| schema.admit(t).unwrap()).collect();
    let edits: Vec<_> = (admitted.iter().zip(tuples))
        .map(|(admitted, tuple)| Edit::put(admitted, tuple))
        .collect();
    Index::new(1)
        .with_names(schema.names.clone())
        .apply(&edits, Revision(1))
}

/// The answers to questions of a kind that a cache may keep.
fn kept(schema: &Schema, index: &Index, world: &World, kind: &str) -> Vec<Kept> {
    let (context, limits) = (Context::new(), Limits::default());
    let ask = |(subject, permission, resource): (String, &str, String)| {
        let question = Question {
            subject: SubjectRef::parse(&subject).unwrap(),
            permission,
            resource: ObjectRef::parse(&resource).unwrap(),
            context: &context,
            contextual: &[],
            with_dependencies: true,
        };
        let facts = Facts::of_tuples(schema, index);
        let answer = check(facts, &question, Timestamp::default(), &limits).unwrap();
        (!answer.uncacheable).then_some(Kept {
            subject,
            resource,
            keys: answer.dependencies,
        })
    };
    let questions = world.questions(kind, QUESTIONS);
    questions.into_iter().filter_map(ask).collect()
}

/// A user joins a team, or may view a document or folder: drawn from the same world.
fn write(random: &mut Random, tuples: &[Tuple]) -> Tuple {
    let draw = |random: &mut Random| {
        let count = u64::try_from(tuples.len()).unwrap();
        &tuples[usize::try_from(random.below(count)).unwrap()]
    };
    let users = loop {
        let drawn = draw(random);
        if drawn.subject.kind() == "user" {
            break drawn;
        }
    };
    let mut written = users.clone();
    written.subject = loop {
        let drawn = draw(random);
        if drawn.subject.kind() == "user" {
            break drawn.subject.clone();
        }
    };
    written
}

/// Whether a write names what the question does.
fn concerns(tuple: &Tuple, kept: &Kept) -> bool {
    tuple.subject.to_string() == kept.subject || tuple.resource.to_string() == kept.resource
}

#[test]
fn most_answers_can_be_kept_and_most_writes_spare_them() {
    let world = World::new(5);
    let schema = Schema::compile(SCHEMA, &Names::default()).unwrap().schema;
    let tuples = tuples(&world);
    let index = load(&schema, &tuples);
    let mut random = Random::new(0x17E5);
    let writes: Vec<(Tuple, Vec<u64>)> = (0..WRITES)
        .map(|_| write(&mut random, &tuples))
        .map(|tuple| {
            let keys = invalidated(&index, &[Change::Granted(tuple.clone())]);
            (tuple, keys.unwrap())
        })
        .collect();
    let mut by_key: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, (_, keys)) in writes.iter().enumerate() {
        for key in keys {
            by_key.entry(*key).or_default().push(place);
        }
    }
    let (mut hits, mut pairs) = (0_u64, 0_u64);
    for kind in KINDS {
        let kept = kept(&schema, &index, &world, kind);
        assert!(
            kept.len() * 100 >= QUESTIONS * 95,
            "{kind}: only {} of {QUESTIONS} can be kept",
            kept.len()
        );
        for answer in &kept {
            assert!(
                !answer.keys.is_empty(),
                "{kind}: an answer rests on nothing"
            );
            let meets = answer.keys.iter().filter_map(|key| by_key.get(key));
            let mut meets: Vec<usize> = meets.flatten().copied().collect();
            meets.sort_unstable();
            meets.dedup();
            let foreign = |place: &usize| !concerns(&writes[*place].0, answer);
            hits += u64::try_from(meets.into_iter().filter(foreign).count()).unwrap();
            pairs += WRITES;
        }
        let mut counts: Vec<usize> = kept.iter().map(|answer| answer.keys.len()).collect();
        counts.sort_unstable();
        let median = counts[counts.len() / 2];
        println!("{kind}: {} kept, {median} keys in the median", kept.len());
        assert!(median <= 40, "{kind}: {median} keys in the median");
    }
    println!("a foreign write hits an answer {hits} times in {pairs}");
    assert!(hits * 100 < pairs, "{hits} of {pairs} are hit");
}
