//! Locks and rules on writes, in process: `cargo bench --bench rules`. What a check costs while
//! 100,000 locks are held that do not apply to it, beside one with none held; and how long a write
//! of 10,000 updates is judged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use portcullis::eval::{Decision, Facts, Limits, Question, check};
use portcullis::plan::{
    Action, Command, Limits as PlanLimits, Operation, Update, WriteOptions, plan,
};
use portcullis::revision::Epoch;
use portcullis::state::{Change, Commit, HeldLock, RoleRecord, State};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef, Tuple};

const SCHEMA: &str = "
definition user {}
definition team { relation member: user | team#member }
definition organization {
    relation owner: user | team#member     min 1  granted by own
    relation member: user | team#member    granted by own
    permission own = owner
    permission belong = own + member
    permission invite = own + any role
    assigns role granted by own
    lock freeze { blocks belong  except own  granted by own }
}
definition application {
    relation organization: organization    granted by organization->own
    relation developer: user | team#member
        granted by organization->own
        requires organization->belong
    permission administer = organization->own
    permission deploy = administer + developer
    lock freeze { blocks deploy  except administer  granted by administer  inherits organization }
    lock audit { seals  except administer }
}
definition environment {
    relation application: application      granted by application->administer
    relation guest: user                   granted by application->administer
    permission deploy = application->deploy + guest
    lock freeze {
        blocks deploy
        except application->administer
        granted by application->administer
        inherits application
        seals
    }
}
roles role of organization { held by user  granted by own }
definition shelf {
    lock closed { blocks * }
}
";

/// What is asked: a name, subject, permission, resource, the answer.
const QUESTIONS: [(&str, &str, &str, &str, Decision); 4] = [
    (
        "direct",
        "user:dev",
        "deploy",
        "application:a7",
        Decision::Allowed,
    ),
    (
        "denied",
        "user:x",
        "deploy",
        "application:a7",
        Decision::Denied,
    ),
    (
        "inherited",
        "user:dev",
        "deploy",
        "environment:e7",
        Decision::Allowed,
    ),
    (
        "relation",
        "user:7",
        "guest",
        "environment:e7",
        Decision::Allowed,
    ),
];

struct World {
    state: State,
}

impl World {
    /// One organization with its applications, each of them with an environment.
    fn new(applications: usize) -> Self {
        let mut world = Self {
            state: State::empty(Epoch(1), 7, 0),
        };
        world.commit(vec![Change::Schema(SCHEMA.into())]);
        let mut tuples = vec![
            "organization:acme#owner@user:boss".to_owned(),
            "organization:acme#member@team:all#member".to_owned(),
            "team:all#member@user:dev".to_owned(),
        ];
        for at in 0..applications {
            tuples.push(format!("team:all#member@user:{at}"));
            tuples.push(format!("application:a{at}#organization@organization:acme"));
            tuples.push(format!("application:a{at}#developer@user:dev"));
            tuples.push(format!("environment:e{at}#application@application:a{at}"));
            tuples.push(format!("environment:e{at}#guest@user:{at}"));
            tuples.push(format!("organization:o{at}#role=acme/many@user:{at}"));
        }
        for key in ["one", "many"] {
            let record = RoleRecord {
                role: format!("role:acme/{key}").parse().unwrap(),
                owner: "organization:acme".parse().unwrap(),
                title: key.into(),
                permissions: vec!["organization.invite".into()],
            };
            world.commit(vec![Change::RoleWritten(Arc::new(record))]);
        }
        tuples.push("organization:acme#role=acme/one@user:dev".to_owned());
        let granted = tuples
            .iter()
            .map(|text| Change::Granted(text.parse().unwrap()));
        world.commit(granted.collect());
        world.state = world.state.merged_where_due();
        world
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let commit = Commit {
            revision: self.state.revision.next(),
            time: now(),
            actor: None,
            reason: String::new(),
            metadata: None,
            changes,
            remembered: None,
        };
        self.state = self.state.apply(&commit).unwrap();
    }

    /// The same with so many locks, each on a resource of its own.
    fn locked(&self, kind: &str, mode: &str, count: usize) -> Self {
        let mut world = Self {
            state: self.state.clone(),
        };
        let locks = (0..count).map(|at| {
            Change::Locked(Arc::new(HeldLock {
                id: format!("l{at}").into(),
                resource: format!("{kind}:locked{at}").parse().unwrap(),
                mode: mode.into(),
                exempt: Vec::new(),
                actor: None,
                reason: "a release".into(),
                created_at: now(),
                expires_at: (at % 2 == 0).then(|| now().plus(Duration::from_secs(3_600))),
                fencing_token: at as u64,
            }))
        });
        world.commit(locks.collect());
        world
    }

    fn ask(
        &self,
        (_, subject, permission, resource, expected): (&str, &str, &str, &str, Decision),
    ) {
        let answer = check(
            Facts::of(&self.state).unwrap(),
            &Question {
                subject: SubjectRef::parse(subject).unwrap(),
                permission,
                resource: ObjectRef::parse(resource).unwrap(),
                context: &Context::new(),
                contextual: &[],
                with_dependencies: false,
            },
            now(),
            &Limits::default(),
        );
        assert_eq!(black_box(answer).unwrap().decision, expected);
    }
}

/// A new schema over all tuples, and the end of one role among many.
fn schema_and_role(world: &World) {
    let action = |action| Command {
        action,
        options: WriteOptions::default(),
        caller: "".into(),
    };
    let commands = [
        (
            "a new schema",
            action(Action::WriteSchema {
                text: format!("{SCHEMA}\ndefinition more {{}}").into(),
                if_revision: None,
            }),
        ),
        (
            "a part of the end of a role that many hold",
            action(Action::EmptyRole {
                role: "role:acme/many".parse().unwrap(),
                most: 2_000,
            }),
        ),
        (
            "the end of a role that many hold, at once",
            action(Action::DeleteRole {
                role: "role:acme/many".parse().unwrap(),
            }),
        ),
        (
            "the end of a role that one holds",
            action(Action::DeleteRole {
                role: "role:acme/one".parse().unwrap(),
            }),
        ),
    ];
    for (name, command) in commands {
        let took = (0..7).map(|_| judged(&world.state, &command));
        let tuples = world.state.tuple_count();
        println!(
            "{name}, over {tuples} tuples: median {:.1?} of CPU",
            median(took.collect())
        );
    }
}

fn now() -> Timestamp {
    Timestamp::new(1_000_000, 0).unwrap()
}

fn write(actor: &str, tuples: impl Iterator<Item = String>) -> Command {
    let updates = tuples.map(|text| Update {
        operation: Operation::Grant,
        tuple: text.parse::<Tuple>().unwrap(),
    });
    Command {
        action: Action::Write {
            updates: updates.collect(),
            preconditions: Vec::new(),
        },
        options: WriteOptions {
            actor: (!actor.is_empty()).then(|| actor.parse().unwrap()),
            ..WriteOptions::default()
        },
        caller: "".into(),
    }
}

/// A name, who writes, and the tuples by their number.
type Judged = (&'static str, &'static str, fn(usize) -> String);

/// The writes that are judged.
const WRITES: [Judged; 7] = [
    ("trusted, requires", "", |at| {
        format!("application:a{at}#developer@user:{at}")
    }),
    ("by an actor, requires", "user:boss", |at| {
        format!("application:a{at}#developer@user:{at}")
    }),
    ("by an actor, one resource, requires", "user:boss", |at| {
        format!("application:a1#developer@user:{at}")
    }),
    ("new children", "user:boss", |at| {
        format!("application:new{at}#organization@organization:acme")
    }),
    (
        "children of other children, a level down",
        "user:boss",
        |at| format!("environment:new{at}#application@application:a{at}"),
    ),
    ("a second parent each", "user:boss", |at| {
        format!("environment:e{at}#application@application:a{}", at / 2)
    }),
    ("guests, two levels up", "user:boss", |at| {
        format!("environment:e{at}#guest@user:x")
    }),
];

/// What this thread has run: others may use the machine too.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let part = |whole: usize| if test { whole / 100 } else { whole };
    let free = World::new(part(10_000).max(10));
    let count = part(100_000);
    let worlds = [
        ("none held".to_owned(), None),
        (
            format!("{count} of another mode"),
            Some(free.locked("shelf", "closed", count)),
        ),
        (
            format!("{count} of its mode"),
            Some(free.locked("application", "freeze", count)),
        ),
    ];
    let mut criterion = Criterion::default().configure_from_args();
    for question in QUESTIONS {
        let mut group = criterion.benchmark_group(format!("check {}", question.0));
        for (name, world) in &worlds {
            let world = world.as_ref().unwrap_or(&free);
            group.bench_function(name, |b| b.iter(|| world.ask(question)));
        }
        group.finish();
    }
    criterion.final_summary();
    for count in [part(1_000), part(10_000)] {
        schema_and_role(&World::new(count.max(10)));
    }
    let updates = part(10_000);
    let asked: Vec<Duration> = (0..7).map(|_| asked(&free, updates)).collect();
    println!(
        "{updates} direct checks, for scale: {:.1?} of CPU",
        median(asked)
    );
    for (name, actor, tuple) in WRITES {
        let command = write(actor, (0..updates).map(tuple));
        for world in [&free, worlds[2].1.as_ref().unwrap()] {
            let took = (0..if test { 1 } else { 7 }).map(|_| judged(&world.state, &command));
            println!(
                "{updates} updates judged, {name}, {} locks held: median {:.1?} of CPU",
                world.state.locks.len(),
                median(took.collect())
            );
        }
    }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

/// The CPU time of so many checks.
fn asked(world: &World, count: usize) -> Duration {
    let begun = cpu_time();
    for _ in 0..count {
        world.ask(QUESTIONS[0]);
    }
    cpu_time().saturating_sub(begun)
}

/// The CPU time of one judgement, by this thread.
fn judged(state: &State, command: &Command) -> Duration {
    let begun = cpu_time();
    let plan = plan(state, command, now(), &PlanLimits::default());
    let took = cpu_time().saturating_sub(begun);
    black_box(plan).unwrap_or_else(|refusal| panic!("{refusal}"));
    took
}
