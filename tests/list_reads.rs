//! What lists cost, in tuple reads: few rows of many resources, and the first of very many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::sync::Arc;

use portcullis::eval::{Facts, Limits, ListPlace, ResourceList, ResourcesQuestion, Step};
use portcullis::index::{Edit, Index, Op};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, Schema};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, SubjectRef, Tuple};

const SCHEMA: &str = "
definition user {}
definition group { relation member: user }
definition folder {
    relation parent: folder
    relation viewer: user
    permission view = viewer + parent->view
}
definition document {
    relation viewer: user | group#member
    relation banned: user
    permission view = viewer
    permission read = viewer - banned
}";

struct World {
    schema: Schema,
    index: Index,
}

impl World {
    fn of(tuples: impl Iterator<Item = String>) -> Self {
        let schema = Schema::compile(SCHEMA, &Names::default()).unwrap().schema;
        let tuples: Vec<Tuple> = tuples.map(|text| text.parse().unwrap()).collect();
        let names = &schema.names;
        let kind = |name: &str| names.type_id(name).unwrap();
        let relation = |name: &str| names.rel_id(name).unwrap();
        let edits = tuples.iter().map(|tuple| Edit {
            resource: (kind(tuple.resource.kind()), tuple.resource.id()),
            relation: relation(&tuple.relation),
            subject: (kind(tuple.subject.kind()), tuple.subject.id()),
            subject_relation: tuple.subject.relation().map_or(RelId::NONE, relation),
            op: Op::Put(None),
        });
        let edits: Vec<Edit<'_>> = edits.collect();
        let mut index = Index::new(1).with_names(Arc::clone(names));
        for (part, at) in edits.chunks(10_000).zip(1..) {
            index = index.apply(part, Revision(at));
        }
        Self { schema, index }
    }

    /// The rows of a list behind a place, at most so many; where it stopped, and what it read.
    fn list(
        &self,
        (subject, permission, kind): (&str, &str, &str),
        after: Option<ListPlace>,
        most: usize,
    ) -> (Vec<String>, Option<ListPlace>, u64) {
        let context = Context::new();
        let question = ResourcesQuestion {
            subject: SubjectRef::parse(subject).unwrap(),
            permission,
            kind,
            context: &context,
            within: None,
        };
        let facts = Facts::of_tuples(&self.schema, &self.index);
        let (now, limits) = (Timestamp::default(), Limits::default());
        let mut list = ResourceList::new(facts, question, now, &limits, after).unwrap();
        let mut rows = Vec::new();
        while rows.len() < most {
            match list.step().unwrap() {
                Step::Row(row) => rows.push(row.item),
                Step::Nothing | Step::Busy => {}
                Step::End => break,
            }
        }
        (rows, list.place(), list.reads())
    }
}

#[test]
fn three_of_many_documents_are_found_in_few_reads() {
    const DOCUMENTS: u64 = 60_000;
    let everybody = (0..DOCUMENTS).map(|at| format!("document:{at}#viewer@user:all"));
    let few = (0..3).map(|at| format!("document:{}#viewer@user:few", at * 17_000 + 7));
    let group = (0..3).map(|at| format!("document:{}#viewer@group:g#member", at * 17_000 + 8));
    let member = ["group:g#member@user:member".to_owned()];
    let world = World::of(everybody.chain(few).chain(group).chain(member));
    // Each of the three is found by its own tuple, and by a second one where it is judged.
    let cases = [
        (("user:few", "view", "document"), 8),
        (("user:few", "read", "document"), 16),
        (("user:member", "view", "document"), 10),
    ];
    for (question, most) in cases {
        let (rows, _, reads) = world.list(question, None, usize::MAX);
        assert_eq!(rows.len(), 3, "{question:?}");
        assert!(reads <= most, "{question:?} took {reads} reads");
    }
    let (rows, _, reads) = world.list(("user:all", "view", "document"), None, 1);
    assert_eq!(rows.len(), 1);
    assert!(reads <= 8, "the first of all took {reads} reads");
}

/// A type that contains itself: what is below is found one by one, far more than is looked at
/// before the first row.
#[test]
fn the_first_of_very_many_does_not_wait_for_the_last() {
    const FOLDERS: usize = 40_000;
    let below = (1..FOLDERS).map(|at| format!("folder:{at}#parent@folder:{}", at / 8));
    let others = (0..FOLDERS).map(|at| format!("folder:other{at}#parent@folder:other"));
    let viewer = ["folder:0#viewer@user:owner".to_owned()];
    let world = World::of(below.chain(others).chain(viewer));
    let question = ("user:owner", "view", "folder");
    let (first, _, reads) = world.list(question, None, 1);
    assert_eq!(first.len(), 1);
    assert!(reads < 12_000, "the first row took {reads} reads");

    let (all, _, _) = world.list(question, None, usize::MAX);
    let mut sorted: Vec<_> = all.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((sorted.len(), all.len()), (FOLDERS, FOLDERS));
    assert!(all.iter().all(|name| !name.contains("other")));

    // The same in pages, each of which begins its own search.
    let (mut paged, mut after) = (Vec::new(), None);
    for size in [1, 10, 500, 9_000, usize::MAX] {
        let (rows, place, _) = world.list(question, after, size);
        paged.extend(rows);
        after = place;
    }
    assert_eq!(paged, all);
}
