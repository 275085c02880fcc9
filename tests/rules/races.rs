//! Writers that race: a rule is judged in the write's own transaction.

use std::collections::BTreeMap;

use portcullis::engine::Engine;
use portcullis::plan::{Action, Assignment, Operation};
use portcullis::revision::Consistency::Newest;

use crate::tuples::{by, outcome};
use crate::world::{TestClock, command, schema, store, stored, write};

const SCHEMA: &str = "definition user {}
definition organization {
    relation owner: user     min 2  granted by own
    relation belonging: user
    relation lead: user      requires belonging
    permission own = owner
    permission work = owner + any role
    assigns role granted by own
}
roles role of organization {
    held by user
    granted by own
    builtin admin includes * granted by own min 1
}";

const WRITERS: usize = 64;

async fn raced(
    engine: &Engine,
    commands: Vec<portcullis::plan::Command>,
) -> BTreeMap<String, usize> {
    let writes = commands.into_iter().map(|command| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.write(command, None).await })
    });
    let writes: Vec<_> = writes.collect();
    let mut outcomes = BTreeMap::new();
    for write in writes {
        let word = match write.await.unwrap() {
            Ok(_) => "done".to_owned(),
            Err(error) if error.to_string().contains("`min") => "min".to_owned(),
            Err(error) => error.to_string(),
        };
        *outcomes.entry(word).or_insert(0) += 1;
    }
    outcomes
}

async fn engine() -> Engine {
    let engine = Engine::open(Box::new(store()), TestClock::at(5).options()).unwrap();
    engine.write(schema(SCHEMA), None).await.unwrap();
    engine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_race_for_the_last_owner() {
    let engine = engine().await;
    let owners: Vec<String> = (0..WRITERS)
        .map(|n| format!("organization:o#owner@user:u{n}"))
        .collect();
    let grants: Vec<String> = owners.iter().map(|tuple| format!("+{tuple}")).collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    assert_eq!(outcome(&engine, write(&grants)).await, "64/0");
    // Each leaves by itself.
    let leaves = owners
        .iter()
        .enumerate()
        .map(|(n, tuple)| by(&format!("user:u{n}"), write(&[&format!("-{tuple}")])));
    let outcomes = raced(&engine, leaves.collect()).await;
    assert_eq!(
        outcomes,
        BTreeMap::from([("done".into(), 62), ("min".into(), 2)])
    );
    assert_eq!(stored(&engine, Newest).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_race_for_the_last_admin() {
    let engine = engine().await;
    let one = |operation, n: usize| {
        let (role, who) = (
            "role:o/admin".parse().unwrap(),
            format!("user:u{n}").parse().unwrap(),
        );
        Assignment::new(operation, role, who, "organization:o".parse().unwrap())
    };
    let all = |operation| (0..WRITERS).map(|n| one(operation, n)).collect();
    let assignments = all(Operation::Grant);
    let given = command(Action::Assign { assignments });
    assert_eq!(outcome(&engine, given).await, "64/0");
    let take = |assignment| {
        command(Action::Assign {
            assignments: vec![assignment],
        })
    };
    let taken: Vec<Assignment> = all(Operation::Revoke);
    let outcomes = raced(&engine, taken.into_iter().map(take).collect()).await;
    assert_eq!(
        outcomes,
        BTreeMap::from([("done".into(), 63), ("min".into(), 1)])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requirement_is_met_when_it_is_judged() {
    let engine = engine().await;
    outcome(&engine, write(&["+organization:o#belonging@user:u"])).await;
    let mut commands = vec![write(&["-organization:o#belonging@user:u"])];
    commands.extend((0..WRITERS).map(|n| {
        let lead = format!(
            "+organization:o#lead@user:{}",
            if n % 2 == 0 { "u" } else { "v" }
        );
        write(&[&lead])
    }));
    let outcomes = raced(&engine, commands).await;
    let refused: usize = outcomes
        .iter()
        .filter(|(word, _)| word.contains("requires"))
        .map(|(_, n)| n)
        .sum();
    assert!(refused >= WRITERS / 2, "{outcomes:?}");
    assert_eq!(refused + outcomes["done"], WRITERS + 1);
}
