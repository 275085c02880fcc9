#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::index::{Edit, Op};
use crate::revision::Revision;
use crate::schema::Names;

const SCHEMA: &str = "
definition user {}
definition folder {
    relation parent: folder
    relation viewer: user
    permission view = viewer + parent->view
}";

/// `count` folders in a chain, the first of which a user may view; what the whole search from the
/// user's side steps, and how many facts it looks at.
fn searched(count: usize) -> (usize, u64, usize) {
    let schema = Schema::compile(SCHEMA, &Names::default()).unwrap().schema;
    let names = &schema.names;
    let kind = |name: &str| names.type_id(name).unwrap();
    let ids: Vec<String> = (0..count).map(|at| format!("f{at}")).collect();
    let edit = |resource, relation: &str, subject| Edit {
        resource: (kind("folder"), resource),
        relation: names.rel_id(relation).unwrap(),
        subject,
        subject_relation: RelId::NONE,
        op: Op::Put(None),
    };
    let below = ids.windows(2).filter_map(|pair| match pair {
        [above, below] => Some(edit(
            below.as_str(),
            "parent",
            (kind("folder"), above.as_str()),
        )),
        _ => None,
    });
    let viewer = edit(ids.first().unwrap(), "viewer", (kind("user"), "u"));
    let edits: Vec<Edit<'_>> = below.chain([viewer]).collect();
    let index = Index::new(1).with_names(Arc::clone(names));
    let index = index.apply(&edits, Revision(1));
    let ground = Ground::of(Facts::of_tuples(&schema, &index), Timestamp::default());
    let who = Who {
        node: index.node(kind("user"), "u").unwrap(),
        kind: kind("user"),
        relation: RelId::NONE,
        wildcard: None,
        is_wildcard: false,
    };
    let view = schema.member_id(kind("folder"), names.rel_id("view").unwrap());
    let mut closure = Closure::new(ground, who, view.unwrap(), false);
    closure.advance(ground, u64::MAX);
    (closure.found().len(), closure.spent, closure.looked.get())
}

#[test]
fn a_long_search_looks_at_each_fact_a_few_times() {
    // What a short one may look at: each of its facts beside each.
    let few = 4 * FEW * FEW;
    for count in [100, 1_000, 10_000] {
        let (found, spent, looked) = searched(count);
        assert_eq!(found, count);
        assert!(spent <= 8 * count as u64, "{count} took {spent} steps");
        assert!(looked <= few, "{count} facts were looked at {looked} times");
    }
}
