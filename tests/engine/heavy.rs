//! Checks that take long: what they cost is counted, and nobody else waits for them.

use portcullis::engine::{Engine, EngineError};
use portcullis::eval::{Answer, CheckError, Decision, Question};
use portcullis::plan::{Action, Operation, Update};
use portcullis::revision::Consistency::Newest;
use portcullis::tuple::{Context, ObjectRef, SubjectRef};

use crate::world::{TestClock, command, schema, store};

const SCHEMA: &str = "definition user {}
caveat sums(l list<int>, n int) { l.all(x, l.all(y, x + y >= n)) }
definition group { relation member: user | group#member }
definition doc {
    relation required: group
    relation viewer: user | group#member with sums
    permission enter = required.all(member)
}";

async fn engine(tuples: impl Iterator<Item = String>) -> Engine {
    let engine = Engine::open(Box::new(store()), TestClock::at(0).options()).unwrap();
    engine.write(schema(SCHEMA), None).await.unwrap();
    let all: Vec<String> = tuples.collect();
    for part in all.chunks(10_000) {
        let update = |text: &String| Update {
            operation: Operation::Grant,
            tuple: text.parse().unwrap(),
        };
        let write = command(Action::Write {
            updates: part.iter().map(update).collect(),
            preconditions: Vec::new(),
        });
        engine.write(write, None).await.unwrap();
    }
    engine
}

async fn ask(
    engine: &Engine,
    permission: &str,
    on: &str,
    context: &str,
) -> Result<Answer, EngineError> {
    let context: Context = serde_json::from_str(context).unwrap();
    let question = Question {
        subject: SubjectRef::parse("user:u").unwrap(),
        permission,
        resource: ObjectRef::parse(on).unwrap(),
        context: &context,
        contextual: &[],
        with_dependencies: false,
    };
    let answered = engine.check(&question, Newest, None).await;
    answered.map(|(answer, _)| answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_long_check_keeps_nobody_waiting() {
    let required = (0..20_000).map(|n| format!("doc:long#required@group:{n}"));
    let members = (0..20_000).map(|n| format!("group:{n}#member@user:u"));
    let short = ["doc:short#viewer@user:u".to_owned()];
    let engine = engine(required.chain(members).chain(short)).await;
    let spawned = |permission: &'static str, on: &'static str| {
        let engine = engine.clone();
        tokio::spawn(async move { ask(&engine, permission, on, "{}").await.unwrap().decision })
    };
    let long = spawned("enter", "doc:long");
    let short = spawned("viewer", "doc:short");
    assert_eq!(short.await.unwrap(), Decision::Allowed);
    assert!(!long.is_finished(), "the short one waited for the long one");
    assert_eq!(long.await.unwrap(), Decision::Allowed);
}

#[tokio::test]
async fn what_caveats_take_counts_as_work() {
    let sets = (0..40).map(|n| format!("doc:d#viewer@group:{n}#member[sums:{{\"n\":0}}]"));
    let members = (0..40).map(|n| format!("group:{n}#member@user:u"));
    let engine = engine(sets.chain(members)).await;
    let last_fails = |zeros: usize| format!("{{\"l\": [{}-1]}}", "0,".repeat(zeros));
    let few = ask(&engine, "viewer", "doc:d", &last_fails(10)).await;
    assert_eq!(few.unwrap().decision, Decision::Denied);
    let many = ask(&engine, "viewer", "doc:d", &last_fails(250)).await;
    assert!(
        matches!(many, Err(EngineError::Check(CheckError::TooComplex { .. }))),
        "{many:?}"
    );
}
