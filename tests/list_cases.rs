//! Lists by example: wildcards, exclusions, intersections, cycles, sets and caveats, each as a
//! schema, tuples, and what is listed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod oracle;
mod real;

use portcullis::eval::{
    Decision, Limits, ResourceList, ResourcesQuestion, Row, Step, SubjectList, SubjectsQuestion,
};
use portcullis::tuple::{Context, Object, Subject};
use real::{Real, instant};

const SCHEMA: &str = "
use self
caveat small(n int) { n < 5 }
definition user { permission me = self }
definition group {
    relation member: user | user:* | group#member
}
definition folder {
    relation parent: folder
    relation viewer: user | group#member
    permission view = viewer + parent->view
    permission shown = viewer + doc.folder<-viewer
}
definition doc {
    relation folder: folder
    relation viewer: user | user:* | group#member | user with small | user:* with small
    relation member: user | group#member
    relation banned: user | user:* | group#member | user with small
    relation pardoned: user
    permission view = viewer + folder->view
    permission allowed = viewer - banned
    permission both = viewer & member
    permission forgiven = viewer - (banned - pardoned)
    permission every = folder.all(view)
}";

/// Rows as text: `item`, `item?n` where conditional, `item-a,b` with exceptions.
fn text(row: &Row) -> String {
    let mut text = row.item.clone();
    if !row.except.is_empty() {
        let mut except = row.except.clone();
        except.sort();
        text = format!("{text}-{}", except.join(","));
    }
    match row.decision {
        Decision::Conditional => format!("{text}?{}", row.missing_context.join(",")),
        _ => text,
    }
}

fn rows(mut step: impl FnMut() -> Step) -> Vec<String> {
    let mut rows = Vec::new();
    loop {
        match step() {
            Step::Row(row) => rows.push(text(&row)),
            Step::End => break,
            Step::Nothing | Step::Busy => {}
        }
    }
    rows.sort();
    rows
}

/// `user:a view doc`, with ` within folder:f` behind it.
fn resources(real: &Real, question: &str, context: &Context) -> Vec<String> {
    let words: Vec<&str> = question.split(' ').collect();
    let subject: Subject = words[0].parse().unwrap();
    let within: Option<Object> = words.get(4).map(|text| text.parse().unwrap());
    let question = ResourcesQuestion {
        subject: subject.as_ref(),
        permission: words[1],
        kind: words[2],
        context,
        within: within.as_ref().map(Object::as_ref),
    };
    let limits = Limits::default();
    let list = ResourceList::new(real.facts(), question, instant(0), &limits, None);
    let mut list = list.unwrap();
    rows(|| list.step().unwrap())
}

/// `user view doc:x` or `group#member view doc:x`.
fn subjects(real: &Real, question: &str, context: &Context) -> Vec<String> {
    let words: Vec<&str> = question.split(' ').collect();
    let (kind, relation) = match words[0].split_once('#') {
        Some((kind, relation)) => (kind, Some(relation)),
        None => (words[0], None),
    };
    let resource: Object = words[2].parse().unwrap();
    let question = SubjectsQuestion {
        resource: resource.as_ref(),
        permission: words[1],
        kind,
        relation,
        context,
    };
    let limits = Limits::default();
    let list = SubjectList::new(real.facts(), question, instant(0), &limits, None);
    let mut list = list.unwrap();
    rows(|| list.step().unwrap())
}

/// Tuples, then questions each with what is listed.
fn check(tuples: &str, cases: &[(&str, &str)]) {
    let tuples: Vec<&str> = tuples.split_whitespace().collect();
    let real = Real::of(SCHEMA, &tuples);
    for (question, want) in cases {
        let (question, context) = question.split_once(" with ").unwrap_or((question, "{}"));
        let context: Context = serde_json::from_str(context).unwrap();
        let third = question.split(' ').nth(2).unwrap();
        let have = match third.contains(':') {
            true => subjects(&real, question, &context),
            false => resources(&real, question, &context),
        };
        let mut want: Vec<_> = want.split_whitespace().map(str::to_owned).collect();
        want.sort();
        assert_eq!(have, want, "{question} of {tuples:?}");
    }
}

#[test]
fn wildcards_are_listed_with_their_exceptions() {
    check(
        "doc:a#viewer@user:* doc:a#viewer@user:ann doc:a#banned@user:bob",
        &[
            ("user view doc:a", "user:* user:ann"),
            ("user allowed doc:a", "user:*-user:bob user:ann"),
            ("user banned doc:a", "user:bob"),
            ("user:ann allowed doc", "doc:a"),
            ("user:bob allowed doc", ""),
            ("user:zoe allowed doc", "doc:a"),
            ("user:* view doc", "doc:a"),
            // Not all have it: one is banned.
            ("user:* allowed doc", ""),
        ],
    );
    check(
        "doc:a#viewer@user:* doc:a#banned@user:*",
        &[
            ("user allowed doc:a", ""),
            ("user:* allowed doc", ""),
            ("user:ann allowed doc", ""),
        ],
    );
    check(
        "doc:a#viewer@user:* doc:a#banned@user:* doc:a#pardoned@user:ann",
        &[
            ("user forgiven doc:a", "user:ann"),
            ("user:ann forgiven doc", "doc:a"),
        ],
    );
    check(
        "doc:a#viewer@user:* doc:a#banned@user:bob doc:a#pardoned@user:bob doc:a#banned@user:eve",
        &[("user forgiven doc:a", "user:*-user:eve")],
    );
}

#[test]
fn wildcards_meet_intersections() {
    check(
        "doc:a#viewer@user:* doc:a#member@user:ann doc:a#member@group:g#member
         group:g#member@user:bob group:h#member@user:*",
        &[
            ("user both doc:a", "user:ann user:bob"),
            ("user:ann both doc", "doc:a"),
            ("user:zoe both doc", ""),
        ],
    );
    check(
        "doc:a#viewer@user:* doc:a#member@group:g#member group:g#member@user:*",
        &[
            ("user both doc:a", "user:*"),
            ("user:* both doc", "doc:a"),
            ("group#member both doc:a", ""),
            ("group#member member doc:a", "group:g#member"),
        ],
    );
}

#[test]
fn conditions_are_listed_with_what_they_lack() {
    check(
        "doc:a#viewer@user:ann[small] doc:b#viewer@user:ann doc:c#viewer@user:*[small]
         doc:b#banned@user:ann[small] doc:d#viewer@user:* doc:d#banned@user:eve[small]",
        &[
            ("user:ann view doc", "doc:a?n doc:b doc:c?n doc:d"),
            (
                "user:ann view doc with {\"n\":3}",
                "doc:a doc:b doc:c doc:d",
            ),
            ("user:ann view doc with {\"n\":7}", "doc:b doc:d"),
            ("user:ann allowed doc with {\"n\":3}", "doc:a doc:c doc:d"),
            ("user:ann allowed doc", "doc:a?n doc:b?n doc:c?n doc:d"),
            ("user view doc:c", "user:*?n"),
            // A conditional exception is in `except`, and has a row.
            ("user allowed doc:d", "user:*-user:eve user:eve?n"),
            ("user allowed doc:d with {\"n\":3}", "user:*-user:eve"),
            ("user allowed doc:d with {\"n\":7}", "user:*"),
        ],
    );
}

#[test]
fn cycles_end() {
    check(
        "group:a#member@group:b#member group:b#member@group:a#member group:b#member@user:ann
         doc:x#viewer@group:a#member folder:f#parent@folder:g folder:g#parent@folder:f
         folder:f#viewer@user:ann doc:y#folder@folder:g",
        &[
            ("user view doc:x", "user:ann"),
            ("user:ann view doc", "doc:x doc:y"),
            ("user:ann view folder", "folder:f folder:g"),
            ("user:ann member group", "group:a group:b"),
            (
                "group#member member group:a",
                "group:a#member group:b#member",
            ),
            ("group:b#member view doc", "doc:x"),
            ("user:ann view folder within folder:f", "folder:f folder:g"),
        ],
    );
}

#[test]
fn within_is_below_by_any_chain() {
    check(
        "folder:b#parent@folder:a folder:c#parent@folder:b doc:1#folder@folder:c
         doc:2#folder@folder:a doc:3#folder@folder:z folder:a#viewer@user:ann
         folder:z#viewer@user:ann doc:4#viewer@user:ann",
        &[
            ("user:ann view doc", "doc:1 doc:2 doc:3 doc:4"),
            ("user:ann view doc within folder:b", "doc:1"),
            ("user:ann view doc within folder:a", "doc:1 doc:2"),
            ("user:ann view folder within folder:a", "folder:b folder:c"),
            ("user:ann view doc within folder:none", ""),
        ],
    );
}

#[test]
fn backward_arrows_all_and_self() {
    check(
        "doc:1#folder@folder:a doc:1#viewer@user:ann doc:2#folder@folder:a doc:2#folder@folder:b
         folder:a#viewer@user:bob",
        &[
            ("user:ann shown folder", "folder:a"),
            ("user shown folder:a", "user:ann user:bob"),
            ("user:bob every doc", "doc:1"),
            ("user every doc:2", ""),
            // Nothing names either of them.
            ("user:new me user", "user:new"),
            ("user me user:new", "user:new"),
            ("group:new#member member group", "group:new"),
            ("group#member member group:new", "group:new#member"),
        ],
    );
}
