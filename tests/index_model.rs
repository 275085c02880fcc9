//! The index against a plain map: random edits, merges and snapshots, read in every way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis::index::{Edge, Edit, Index, NodeId, Op, Restriction, ScanPosition};
use portcullis::revision::Revision;
use portcullis::schema::{CaveatId, Names, RelId, TypeId};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, Tuple, TupleFilter};
use proptest::prelude::*;

/// Resource, relation, subject (0 is the wildcard), set.
type Key = (u8, u8, u8, u8);
type Put = Option<Arc<Restriction>>;
type Model = BTreeMap<Key, (Put, u64)>;

/// From so many edits on a commit goes in as sorted runs.
const LARGE: usize = 1_024;
const RELATIONS: [&str; 2] = ["reader", "writer"];

#[derive(Clone, Debug)]
enum Step {
    /// Tuples, and what becomes of each; as a large commit, which says everything many times.
    Commit(Vec<(Key, Option<u8>)>, bool),
    /// Merges this segment, with a commit between its begin and its end: one tuple more, and every
    /// so many-th less, some of them in that segment.
    Merge(u8, Key, usize),
    /// Goes through bytes.
    Reload,
}

fn key() -> impl Strategy<Value = Key> {
    // A wildcard has no relation behind it.
    (0..12_u8, 0..2_u8, 0..12_u8, 0..3_u8)
        .prop_map(|(r, relation, s, set)| (r, relation, s, if s == 0 { 2 } else { set }))
}

fn step() -> impl Strategy<Value = Step> {
    let edits = proptest::collection::vec((key(), proptest::option::of(0..6_u8)), 1..12);
    prop_oneof![
        6 => (edits, any::<bool>()).prop_map(|(edits, large)| Step::Commit(edits, large)),
        4 => (0..64_u8, key(), 1..6_usize)
            .prop_map(|(segment, key, every)| Step::Merge(segment, key, every)),
        1 => Just(Step::Reload),
    ]
}

fn names() -> Arc<Names> {
    let mut names = Names::default();
    names.intern_type("user").unwrap();
    names.intern_type("doc").unwrap();
    for relation in RELATIONS {
        names.intern_rel(relation).unwrap();
    }
    names.intern_caveat("sometimes").unwrap();
    Arc::new(names)
}

fn restriction(kind: u8) -> Put {
    let caveat = (CaveatId(0), Arc::new(Context::new()));
    match kind {
        0..=2 => None,
        3 => Some(Arc::new(Restriction {
            caveat: Some(caveat),
            ..Restriction::default()
        })),
        end => Some(Arc::new(Restriction {
            expires_at: Timestamp::new(i64::from(end), 0),
            ..Restriction::default()
        })),
    }
}

fn set(number: u8) -> RelId {
    if number == 2 {
        RelId::NONE
    } else {
        RelId(number.into())
    }
}

fn object(number: u8) -> (TypeId, String) {
    (
        TypeId((number % 2).into()),
        if number == 0 {
            "*".into()
        } else {
            format!("id{number}")
        },
    )
}

fn commit(index: &Index, model: &mut Model, edits: &[(Key, Option<u8>)], at: u64) -> Index {
    let named: Vec<_> = edits
        .iter()
        .map(|((r, _, s, _), _)| (object(r + 1), object(*s)))
        .collect();
    let list: Vec<Edit<'_>> = edits
        .iter()
        .zip(&named)
        .map(
            |(((_, relation, _, number), put), (resource, subject))| Edit {
                resource: (resource.0, &resource.1),
                relation: RelId((*relation).into()),
                subject: (subject.0, &subject.1),
                subject_relation: set(*number),
                op: put.map_or(Op::Remove, |kind| Op::Put(restriction(kind))),
            },
        )
        .collect();
    for (key, put) in edits {
        match put {
            Some(kind) => model.insert(*key, (restriction(*kind), at)),
            None => model.remove(key),
        };
    }
    index.apply(&list, Revision(at))
}

fn text((resource, relation, subject, number): Key) -> String {
    let kinds = ["user", "doc"];
    let (r, s) = (object(resource + 1), object(subject));
    let behind = if number == 2 {
        String::new()
    } else {
        format!("#{}", RELATIONS[number as usize])
    };
    let relation = RELATIONS[relation as usize];
    format!(
        "{}:{}#{relation}@{}:{}{behind}",
        kinds[r.0.0 as usize], r.1, kinds[s.0.0 as usize], s.1
    )
}

fn bare(tuple: &Tuple) -> String {
    let mut tuple = tuple.clone();
    (tuple.caveat, tuple.expires_at) = (None, None);
    tuple.to_string()
}

fn node(index: &Index, number: u8) -> Option<NodeId> {
    let (kind, id) = object(number);
    index.node(kind, &id)
}

fn agree(index: &Index, model: &Model) {
    assert_eq!(index.tuple_count(), model.len() as u64);
    for resource in 0..12 {
        for subject in 0..12 {
            let (Some(r), Some(s)) = (node(index, resource + 1), node(index, subject)) else {
                continue;
            };
            for (relation, number) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
                let known = model.get(&(resource, relation, subject, number));
                let found = index.find(r, RelId(relation.into()), s, set(number));
                assert_eq!(
                    found.map(|edge| edge.restriction),
                    known.map(|(put, _)| put.as_deref())
                );
            }
        }
    }
    scans_agree(index, model);
    groups_agree(index, model);
    let ends = model
        .values()
        .filter_map(|(put, _)| put.as_ref()?.expires_at);
    assert_eq!(index.next_expiry(), ends.clone().min());
    let due = Timestamp::new(4, 0).unwrap();
    assert_eq!(
        index.due(due, 1_000).len(),
        ends.filter(|end| *end <= due).count()
    );
    let count: u64 = index.shapes().map(|(_, count)| count).sum();
    assert_eq!(count, model.len() as u64);
}

fn groups_agree(index: &Index, model: &Model) {
    for number in 0..13 {
        let Some(at) = node(index, number) else {
            continue;
        };
        let forward: usize = index.all_subject_groups(at).map(|g| g.iter().count()).sum();
        let backward: usize = index.resource_groups(at).map(|g| g.iter().count()).sum();
        assert_eq!(
            forward,
            model.keys().filter(|key| key.0 + 1 == number).count()
        );
        assert_eq!(backward, model.keys().filter(|key| key.2 == number).count());
        for group in index
            .all_subject_groups(at)
            .chain(index.resource_groups(at))
        {
            let all: Vec<Edge<'_>> = group.iter().collect();
            assert!(all.is_sorted_by_key(|edge| edge.node) && all.len() <= group.len_hint());
            for (place, edge) in all.iter().enumerate() {
                let rest = group.iter_after(edge.node).count();
                assert_eq!(rest, all.len() - place - 1);
                assert_eq!(group.get(edge.node).unwrap().restriction, edge.restriction);
            }
        }
    }
}

fn scans_agree(index: &Index, model: &Model) {
    let name = |text: &str| Some(Arc::<str>::from(text));
    let filters = [
        TupleFilter::default(),
        TupleFilter {
            resource_type: name("doc"),
            ..TupleFilter::default()
        },
        TupleFilter {
            relation: name("writer"),
            ..TupleFilter::default()
        },
        TupleFilter {
            resource_id_prefix: name("id1"),
            ..TupleFilter::default()
        },
        TupleFilter {
            subject_relation: Some(None),
            ..TupleFilter::default()
        },
        TupleFilter {
            subject_relation: Some(name("reader")),
            ..TupleFilter::default()
        },
        TupleFilter {
            resource_type: name("doc"),
            resource_id: name("id1"),
            ..TupleFilter::default()
        },
        TupleFilter {
            subject_type: name("user"),
            subject_id: name("id4"),
            ..TupleFilter::default()
        },
        TupleFilter {
            subject_type: name("user"),
            subject_id: name("*"),
            ..TupleFilter::default()
        },
        TupleFilter {
            subject_id: name("id3"),
            relation: name("reader"),
            ..TupleFilter::default()
        },
        TupleFilter {
            relation: name("unknown"),
            ..TupleFilter::default()
        },
    ];
    for filter in &filters {
        let mut found: Vec<String> = Vec::new();
        let mut after: Option<ScanPosition> = None;
        // One at a time, each from the position of the one before it.
        while let Some(stored) = index.scan(filter, after.as_ref()).next() {
            let tuple = stored.to_tuple();
            found.push(bare(&tuple));
            let bytes = stored.position().to_bytes();
            after = Some(ScanPosition::from_bytes(bytes));
            let granted = model
                .iter()
                .find(|(key, _)| text(**key) == bare(&tuple))
                .unwrap()
                .1
                .1;
            assert_eq!(stored.granted_at(), Some(Revision(granted)));
        }
        let whole: Vec<String> = index
            .scan(filter, None)
            .map(|s| bare(&s.to_tuple()))
            .collect();
        assert_eq!(found, whole);
        found.sort();
        let mut known: Vec<String> = (model.keys().map(|key| text(*key)))
            .filter(|text| filter.matches(&text.parse().unwrap()))
            .collect();
        known.sort();
        assert_eq!(found, known, "{filter:?}");
    }
}

fn check(steps: &[Step]) {
    let (mut index, mut model) = (Index::new(11).with_names(names()), Model::new());
    let mut kept: Vec<(Index, Model)> = Vec::new();
    let mut at = 0;
    for step in steps {
        at += 1;
        match step {
            Step::Commit(edits, large) => {
                let times = if *large { LARGE / edits.len() + 1 } else { 1 };
                index = commit(&index, &mut model, &edits.repeat(times), at);
            }
            Step::Merge(segment, key, every) => {
                let merged = index.merge_segment(usize::from(*segment));
                let gone = model.keys().step_by(*every).filter(|known| *known != key);
                let mut edits: Vec<_> = gone.map(|known| (*known, None)).collect();
                edits.push((*key, Some(0)));
                index = commit(&index, &mut model, &edits, at);
                index = index.install(merged);
            }
            Step::Reload => {
                let mut bytes = Vec::new();
                index.clone().write_to(&mut bytes).unwrap();
                index = Index::read_from(&mut &bytes[..]).unwrap();
            }
        }
        kept.push((index.clone(), model.clone()));
    }
    kept.push((at_rest(index), model));
    for (index, model) in kept.iter().rev().take(4) {
        agree(index, model);
    }
}

/// The same tuples, with all merged that is worth it: each segment once, and nothing is left.
fn at_rest(mut index: Index) -> Index {
    let mut merged = 0;
    while let Some(segment) = index.may_merge() {
        index = index.install(index.merge_segment(segment));
        merged += 1;
        assert!(merged <= 64, "a merge leaves something to merge");
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_index_is_a_map(steps in proptest::collection::vec(step(), 1..24)) {
        check(&steps);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_an_index(at in 0..2_000_usize, bit in 0..8_u8, cut in any::<bool>()) {
        let edits: Vec<_> = (0..12_u8).map(|n| ((n, n % 2, n, n % 3), Some(n % 6))).collect();
        let index = commit(&Index::new(3).with_names(names()), &mut Model::new(), &edits, 1);
        let mut bytes = Vec::new();
        index.clone().write_to(&mut bytes).unwrap();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        if let Ok(index) = Index::read_from(&mut &bytes[..]) {
            for stored in index.scan(&TupleFilter::default(), None).take(1_000) {
                drop(stored.to_tuple());
            }
        }
    }
}

#[test]
fn nodes_that_are_not_there_have_nothing() {
    let index = Index::new(1).with_names(names());
    let ghost = NodeId(u32::MAX);
    assert_eq!(
        index.all_subject_groups(ghost).count() + index.resource_groups(ghost).count(),
        0
    );
    assert!(index.find(ghost, RelId(0), ghost, RelId::NONE).is_none());
    assert_eq!((index.id_of(ghost), index.hash_of(ghost)), ("", 0));
}

#[test]
fn a_contextual_tuple_unites_with_the_stored_one() {
    let index = commit(
        &Index::new(1).with_names(names()),
        &mut Model::new(),
        &[((1, 0, 3, 2), Some(3))],
        1,
    );
    let (resource, subject) = (object(2), object(3));
    let edit = |put| Edit {
        resource: (resource.0, &resource.1),
        relation: RelId(0),
        subject: (subject.0, &subject.1),
        subject_relation: RelId::NONE,
        op: Op::Put(put),
    };
    let (r, s) = (node(&index, 2).unwrap(), node(&index, 3).unwrap());
    let both = index.united(&[edit(restriction(5))]);
    let found = both
        .find(r, RelId(0), s, RelId::NONE)
        .unwrap()
        .restriction
        .unwrap();
    assert_eq!(found.expires_at, Timestamp::new(5, 0));
    assert_eq!(found.also.as_deref(), restriction(3).as_deref());
    let plain = both.united(&[edit(None)]);
    assert_eq!(
        plain.find(r, RelId(0), s, RelId::NONE).unwrap().restriction,
        None
    );
}
