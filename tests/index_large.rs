//! The index against a plain map where it is large: commits that make runs, small ones over them,
//! and merges that copy what did not change, with many nodes in every segment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis::index::{Edit, Index, Op, Restriction};
use portcullis::revision::Revision;
use portcullis::schema::{Names, RelId, TypeId};
use portcullis::time::Timestamp;
use portcullis::tuple::TupleFilter;
use portcullis::workload::Random;

const DOC: TypeId = TypeId(0);
const USER: TypeId = TypeId(1);
const READER: RelId = RelId(0);
const MANY: u64 = 3_000;

/// Document and user; when the tuple ends (0: never), and the commit that wrote it.
type Model = BTreeMap<(u64, u64), (u64, u64)>;

struct World {
    index: Index,
    model: Model,
    random: Random,
    revision: u64,
    /// How many documents commits draw from.
    docs: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut names = Names::default();
        names.intern_type("doc").unwrap();
        names.intern_type("user").unwrap();
        names.intern_rel("reader").unwrap();
        Self {
            index: Index::new(seed).with_names(Arc::new(names)),
            model: Model::new(),
            random: Random::new(seed),
            revision: 0,
            docs: MANY,
        }
    }

    /// A commit of so many edits, three of four of which put a tuple.
    fn commit(&mut self, count: usize) {
        self.revision += 1;
        let (random, docs) = (&mut self.random, self.docs);
        let edits: Vec<_> = (0..count)
            .map(|_| {
                let key = (random.below(docs), random.below(MANY / 10));
                (key, (random.below(4) > 0).then(|| random.below(5)))
            })
            .collect();
        let named: Vec<_> = (edits.iter())
            .map(|((doc, user), put)| (format!("d{doc}"), format!("u{user}"), *put))
            .collect();
        let list: Vec<Edit<'_>> = (named.iter())
            .map(|(doc, user, put)| Edit {
                resource: (DOC, doc),
                relation: READER,
                subject: (USER, user),
                subject_relation: RelId::NONE,
                op: put.map_or(Op::Remove, |end| Op::Put(restriction(end))),
            })
            .collect();
        self.index = self.index.apply(&list, Revision(self.revision));
        for (key, put) in edits {
            match put {
                Some(end) => self.model.insert(key, (end, self.revision)),
                None => self.model.remove(&key),
            };
        }
    }

    /// Merges every segment, each with a commit between its begin and its end.
    fn merge(&mut self, between: usize) {
        for segment in 0..64 {
            let merged = self.index.merge_segment(segment);
            if segment % 16 == 0 {
                self.commit(between);
            }
            self.index = self.index.install(merged);
        }
    }

    fn reload(&mut self) {
        let mut bytes = Vec::new();
        self.index.clone().write_to(&mut bytes).unwrap();
        self.index = Index::read_from(&mut &bytes[..]).unwrap();
    }

    /// Removes all tuples of some documents for good: of each but one of `kept`.
    fn forget(&mut self, kept: u64) {
        self.revision += 1;
        let gone: Vec<_> = (self.model.keys().copied())
            .filter(|(doc, _)| doc % kept != 0)
            .collect();
        let named: Vec<_> = (gone.iter())
            .map(|(doc, user)| (format!("d{doc}"), format!("u{user}")))
            .collect();
        let list: Vec<Edit<'_>> = (named.iter())
            .map(|(doc, user)| Edit {
                resource: (DOC, doc),
                relation: READER,
                subject: (USER, user),
                subject_relation: RelId::NONE,
                op: Op::Remove,
            })
            .collect();
        self.index = self.index.apply(&list, Revision(self.revision));
        self.model.retain(|(doc, _), _| doc % kept == 0);
    }

    fn agree(&self) {
        let index = &self.index;
        assert_eq!(index.tuple_count(), self.model.len() as u64);
        let all = TupleFilter::default();
        let mut found: Vec<_> = (index.scan(&all, None))
            .map(|stored| {
                let tuple = stored.to_tuple();
                let number = |id: &str| id[1..].parse::<u64>().unwrap();
                let key = (number(tuple.resource.id()), number(tuple.subject.id()));
                let end = tuple.expires_at.map_or(0, Timestamp::seconds);
                let granted = stored.granted_at().unwrap().0;
                (key, (u64::try_from(end).unwrap(), granted))
            })
            .collect();
        found.sort_unstable();
        let known: Vec<_> = self.model.iter().map(|(key, put)| (*key, *put)).collect();
        assert!(found == known, "the tuples differ");
        for user in 0..MANY / 10 {
            let node = index.node(USER, &format!("u{user}"));
            let groups = node
                .into_iter()
                .flat_map(|node| index.resource_groups(node));
            let mut docs: Vec<_> = groups
                .flat_map(|group| group.iter().map(|edge| edge.node).collect::<Vec<_>>())
                .map(|doc| {
                    (
                        index.id_of(doc).to_owned(),
                        index.find(doc, READER, node.unwrap(), RelId::NONE),
                    )
                })
                .map(|(doc, edge)| (doc, edge.unwrap().restriction.and_then(|r| r.expires_at)))
                .collect();
            docs.sort();
            let mut known: Vec<_> = (self.model.iter().filter(|(key, _)| key.1 == user))
                .map(|(key, put)| (format!("d{}", key.0), restriction(put.0)))
                .map(|(doc, put)| (doc, put.and_then(|put| put.expires_at)))
                .collect();
            known.sort();
            assert!(docs == known, "what u{user} is in differs");
        }
    }
}

fn restriction(end: u64) -> Option<Arc<Restriction>> {
    let expires_at = Timestamp::new(i64::try_from(end).unwrap(), 0);
    (end > 0).then(|| {
        Arc::new(Restriction {
            expires_at,
            ..Restriction::default()
        })
    })
}

#[test]
fn a_large_index_is_a_map() {
    for seed in [3, 5] {
        let mut world = World::new(seed);
        world.commit(20_000);
        // Runs of several sizes, and single changes over and between them.
        for count in [1_500, 10, 1_100, 40] {
            world.commit(count);
            world.agree();
        }
        world.merge(25);
        world.agree();
        for count in [1_200, 30, 6_000, 5] {
            world.commit(count);
        }
        world.agree();
        world.merge(2_000);
        world.agree();
        world.merge(3);
        world.reload();
        world.agree();
    }
}

/// A merge that writers wait for leaves a few new nodes where they are.
#[test]
fn few_new_nodes_wait_for_a_merge_at_leisure() {
    let mut world = World::new(11);
    world.commit(20_000);
    world.merge(0);
    for more in [100, 200] {
        world.docs = MANY + more;
        for count in [30, 30_000, 40] {
            world.commit(count);
        }
        assert!(world.index.wants_merge().is_some());
        while let Some(segment) = world.index.wants_merge() {
            let merged = world.index.merge_segment(segment);
            world.docs += 1;
            world.commit(7);
            world.index = world.index.install(merged);
        }
        world.agree();
    }
    let before = world.index.clone();
    world.reload();
    world.agree();
    world.index = before;
    while let Some(segment) = world.index.may_merge() {
        world.index = world.index.install(world.index.merge_segment(segment));
    }
    world.agree();
    world.commit(3_000);
    world.agree();
}

/// What no tuple names any more is left behind by the next start; until then it stays.
#[test]
fn dead_nodes_end_with_a_restart_where_they_are_many() {
    let mut world = World::new(7);
    world.commit(20_000);
    let all = world.index.node_bound();
    world.forget(50);
    world.merge(0);
    assert_eq!(world.index.node_bound(), all);
    world.reload();
    world.agree();
    assert!(world.index.node(DOC, "d1").is_none());
    assert!(world.index.node_bound() < all / 3);
    // It goes on as any other: old names come back, and few that die stay.
    world.commit(5_000);
    world.agree();
    world.forget(2_990);
    world.merge(3);
    world.reload();
    world.agree();
}
