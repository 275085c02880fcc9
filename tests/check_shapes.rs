//! Shapes of data that a search must not trip over: depth, breadth, cycles, and both at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use portcullis::eval::{CheckError, Decision, Facts, Limits, Question, check};
use portcullis::index::{Edit, Index, Op};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, Schema};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef, Tuple};

const SCHEMA: &str = "
definition user {}
definition group {
    relation member: user | group#member
    relation barred: user
    permission guest = member - barred
}
definition folder {
    relation parent: folder
    relation viewer: user | group#member
    permission view = viewer + parent->view
    permission below = viewer + folder.parent<-below
    permission all = viewer + parent.all(all)
}
";

struct World {
    schema: Schema,
    index: Index,
}

fn world(tuples: impl Iterator<Item = String>) -> World {
    let schema = Schema::compile(SCHEMA, &Names::default()).unwrap().schema;
    let tuples: Vec<Tuple> = tuples.map(|text| text.parse().unwrap()).collect();
    let names = &schema.names;
    let edits: Vec<Edit<'_>> = tuples
        .iter()
        .map(|tuple| Edit {
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
        })
        .collect();
    let index = Index::new(1)
        .with_names(names.clone())
        .apply(&edits, Revision(1));
    World { schema, index }
}

impl World {
    fn ask(&self, subject: &str, permission: &str, resource: &str) -> Result<Decision, CheckError> {
        let question = Question {
            subject: SubjectRef::parse(subject).unwrap(),
            permission,
            resource: ObjectRef::parse(resource).unwrap(),
            context: &Context::new(),
            contextual: &[],
            with_dependencies: true,
        };
        let now = Timestamp::default();
        check(
            Facts::of_tuples(&self.schema, &self.index),
            &question,
            now,
            &Limits::default(),
        )
        .map(|answer| answer.decision)
    }

    /// Asks on a thread with a stack as small as tokio's workers have.
    fn says(&self, cases: &[(&str, &str, &str, Decision)]) {
        std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(2 << 20);
            let asking = small.spawn_scoped(scope, || {
                for (subject, permission, resource, expected) in cases {
                    let said = self.ask(subject, permission, resource);
                    assert_eq!(said, Ok(*expected), "{resource}#{permission}@{subject}");
                }
            });
            asking.unwrap().join().unwrap();
        });
    }
}

use Decision::{Allowed, Denied};

#[test]
fn a_chain_of_100_000_groups_answers() {
    let links = (0..100_000).map(|n| format!("group:{n}#member@group:{}#member", n + 1));
    let ends = [
        "group:100000#member@user:deep",
        "folder:top#viewer@group:0#member",
    ];
    let world = world(links.chain(ends.map(str::to_owned)));
    world.says(&[
        ("user:deep", "member", "group:0", Allowed),
        ("user:nobody", "member", "group:0", Denied),
        ("user:deep", "view", "folder:top", Allowed),
        ("group:100000#member", "view", "folder:top", Allowed),
        ("user:deep", "guest", "group:0", Allowed),
    ]);
}

#[test]
fn a_chain_of_100_000_folders_answers_both_ways() {
    let links = (0..100_000).map(|n| format!("folder:{}#parent@folder:{n}", n + 1));
    let ends = [
        "folder:0#viewer@user:top",
        "folder:100000#viewer@user:bottom",
    ];
    let world = world(links.chain(ends.map(str::to_owned)));
    world.says(&[
        ("user:top", "view", "folder:100000", Allowed),
        ("user:top", "all", "folder:100000", Allowed),
        ("user:bottom", "view", "folder:0", Denied),
        ("user:bottom", "below", "folder:0", Allowed),
        ("user:nobody", "below", "folder:0", Denied),
    ]);
}

#[test]
fn a_ring_of_groups_is_a_clean_denial() {
    let ring = (0..2_000).map(|n| format!("group:{n}#member@group:{}#member", (n + 1) % 2_000));
    let chords =
        (0..2_000).map(|n| format!("group:{n}#member@group:{}#member", (n * 7 + 3) % 2_000));
    let world = world(
        ring.chain(chords)
            .chain(["group:1234#member@user:in".to_owned()]),
    );
    world.says(&[
        ("user:in", "member", "group:0", Allowed),
        ("user:out", "member", "group:0", Denied),
        ("user:out", "guest", "group:77", Denied),
    ]);
}

#[test]
fn the_side_that_has_fewer_is_searched() {
    // Many more children, and groups, than the work allowed below lets it walk.
    let children = (0..40_000).map(|n| format!("folder:child{n}#parent@folder:root"));
    let groups = (0..40_000).map(|n| format!("folder:wide#viewer@group:{n}#member"));
    let held = [
        "folder:child39999#viewer@user:one",
        "group:39999#member@user:one",
    ];
    let mut world = world(children.chain(groups).chain(held.map(str::to_owned)));
    while let Some(segment) = world.index.wants_merge() {
        world.index = world.index.install(world.index.merge_segment(segment));
    }
    let few = Limits {
        work: 1_000,
        ..Limits::default()
    };
    for (subject, permission, resource, expected) in [
        ("user:one", "below", "folder:root", Allowed),
        ("user:none", "below", "folder:root", Denied),
        ("user:one", "view", "folder:wide", Allowed),
        ("user:none", "view", "folder:wide", Denied),
    ] {
        let question = Question {
            subject: SubjectRef::parse(subject).unwrap(),
            permission,
            resource: ObjectRef::parse(resource).unwrap(),
            context: &Context::new(),
            contextual: &[],
            with_dependencies: true,
        };
        let answer = check(
            Facts::of_tuples(&world.schema, &world.index),
            &question,
            Timestamp::default(),
            &few,
        );
        let answer = answer.unwrap();
        assert_eq!(answer.decision, expected, "{question:?}");
        assert!(answer.dependencies.len() < 10, "{question:?}");
    }
}

#[test]
fn work_is_bounded_and_never_a_silent_denial() {
    // Every group of a layer holds every group of the next: once above the user, once below the
    // group that is asked about, so that neither side helps.
    let dense = ["a", "b"].into_iter().flat_map(|part| {
        let layers = (0..10).flat_map(|layer| (0..40).map(move |n| (layer, n)));
        layers.flat_map(move |(layer, n)| {
            (0..40).map(move |m| {
                let below = layer + 1;
                format!("group:{part}{layer}-{n}#member@group:{part}{below}-{m}#member")
            })
        })
    });
    let world = world(dense.chain(["group:b10-0#member@user:u".to_owned()]));
    world.says(&[("user:u", "member", "group:a0-0", Denied)]);
    let question = Question {
        subject: SubjectRef::parse("user:u").unwrap(),
        permission: "member",
        resource: ObjectRef::parse("group:a0-0").unwrap(),
        context: &Context::new(),
        contextual: &[],
        with_dependencies: false,
    };
    let tight = Limits {
        work: 1_000,
        ..Limits::default()
    };
    let refused = check(
        Facts::of_tuples(&world.schema, &world.index),
        &question,
        Timestamp::default(),
        &tight,
    );
    assert_eq!(refused, Err(CheckError::TooComplex { limit: 1_000 }));
}
