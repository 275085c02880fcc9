//! How files are read: what becomes an expectation, and what is said of a bad one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::*;

fn no_files(name: &str) -> Result<String, String> {
    Err(format!("no file {name:?}"))
}

fn parse(text: &str) -> Result<ValidationFile, Problem> {
    ValidationFile::parse(text, &no_files)
}

const WORLD: &str = "schema: |\n  definition user {}\nrelationships: >-\n  // who\n\n  \
                     doc:a#viewer@user:tom\n\n  doc:b#viewer@user:ann[at:{\"x\":\"}]\"}]\n";

#[test]
fn statements_become_expectations() {
    let check = |tail: &str, want: &[(u32, &str, Decision)]| {
        let file = parse(&format!("{WORLD}{tail}")).unwrap();
        let have: Vec<_> = (file.expectations.iter())
            .map(|e| {
                (
                    e.line,
                    format!("{}#{}@{}", e.resource, e.permission, e.subject),
                    e.want,
                )
            })
            .collect();
        let have: Vec<_> = have.iter().map(|(l, t, d)| (*l, t.as_str(), *d)).collect();
        assert_eq!(have, want, "{tail}");
    };
    let (yes, maybe, no) = (Decision::Allowed, Decision::Conditional, Decision::Denied);
    check("", &[]);
    check("assertions:\nvalidation: null\n", &[]);
    check(
        "assertions:\n  assertTrue:\n    - doc:a#view@user:tom\n  assertCaveated:\n    - 'doc:b#view@user:ann'\n  \
         assertFalse:\n    - doc:a#view@user:ann#...\n",
        &[
            (11, "doc:a#view@user:tom", yes),
            (13, "doc:b#view@user:ann", maybe),
            (15, "doc:a#view@user:ann", no),
        ],
    );
    check(
        "expectations:\n  - says: x\n    allowed: [doc:a#view@user:tom]\n    denied:\n      - doc:a#view@user:ann\n",
        &[
            (11, "doc:a#view@user:tom", yes),
            (13, "doc:a#view@user:ann", no),
        ],
    );
    let table = "permissions: {doc: [view, edit]}\nexpectations:\n  - says: x\n    subject: user:tom\n    may:\n";
    check(
        &format!("{table}      doc:a: [view]\n      doc:b: nothing\n      doc:c: everything\n"),
        &[
            (14, "doc:a#view@user:tom", yes),
            (14, "doc:a#edit@user:tom", no),
            (15, "doc:b#view@user:tom", no),
            (15, "doc:b#edit@user:tom", no),
            (16, "doc:c#view@user:tom", yes),
            (16, "doc:c#edit@user:tom", yes),
        ],
    );
    check(
        "validation:\n  doc:a#view:\n    - '[user:tom] is <doc:a#viewer>'\n",
        &[
            (11, "doc:a#view@user:tom", yes),
            (11, "doc:a#view@user:ann", no),
        ],
    );
    check(
        "validation:\n  doc:a#view:\n    - '[user:* - {user:ann}] is <doc:a#viewer>'\n    - '[user:tom[...]]'\n",
        &[
            (11, "doc:a#view@user:*", yes),
            (11, "doc:a#view@user:ann", no),
            (12, "doc:a#view@user:tom", maybe),
        ],
    );
}

#[test]
fn context_follows_with() {
    let file = parse(&format!(
        "{WORLD}assertions:\n  assertTrue:\n    - 'doc:a#view@user:tom with {{\"x\": [1, \"a with b\"]}}'\n"
    ))
    .unwrap();
    let context = serde_json::to_string(&*file.expectations[0].context).unwrap();
    assert_eq!(context, r#"{"x":[1,"a with b"]}"#);
    assert_eq!(file.tuples.len(), 2);
    assert_eq!((file.tuples[0].line, file.tuples[0].column), (6, 3));
}

#[test]
fn each_row_has_a_line_of_its_own() {
    let text = "schema: ''\nrelationships: >-\n  doc:a#v@user:b\n\n  doc:a#v@user:bo\n\n  \
                doc:a#v@user:b\n\n  doc:c#v@user:b\n";
    let tuples = parse(text).unwrap().tuples;
    let places: Vec<_> = tuples
        .iter()
        .map(|tuple| (tuple.line, tuple.column))
        .collect();
    assert_eq!(places, [(3, 3), (5, 3), (7, 3), (9, 3)]);
}

#[test]
fn problems_name_line_and_column() {
    let check = |text: &str, place: (u32, u32), part: &str| {
        let problem = parse(text).unwrap_err();
        assert_eq!((problem.line, problem.column), place, "{text}\n{problem}");
        assert!(problem.message.contains(part), "{text}\n{problem}");
    };
    check("relationships: ''\n", (1, 1), "has no schema");
    check("schemaFile: x.zed\n", (1, 13), "no file \"x.zed\"");
    check("schema: ''\nschemaFile: x.zed\n", (2, 13), "keep one");
    check("schema: ''\nassertion: {}\n", (2, 1), "assertion");
    check(
        "schema: ''\nrelationships: |\n  doc:a#viewer\n",
        (3, 3),
        "is no tuple",
    );
    check(
        "schema: ''\nrelationships: >-\n  doc:a#v@user:b\n\n  doc:a#viewer\n",
        (5, 3),
        "is no tuple",
    );
    check(
        "schema: ''\nassertions:\n  assertTrue:\n    - nonsense\n",
        (4, 7),
        "is no tuple",
    );
    check(
        "schema: ''\nassertions:\n  assertTrue:\n    - 'a:b#c@d:e with {'\n",
        (4, 7),
        "JSON",
    );
    check(
        "schema: ''\nassertions:\n  assertTrue:\n    - 'a:b#c@d:e[x]'\n",
        (4, 7),
        "takes neither caveat nor expiry",
    );
    check(
        "schema: ''\nexpectations:\n  - says: x\n    subject: user:a\n    may:\n      doc:a: nothing\n",
        (6, 14),
        "permissions",
    );
    check(
        "schema: ''\npermissions: {doc: [view]}\nexpectations:\n  - says: x\n    subject: user:a\n    may:\n      doc:a: [edit]\n",
        (7, 14),
        "\"edit\"",
    );
    check("schema: [\n", (1, 9), "expected string");
    check("schema: ''\nnow: noon\n", (2, 6), "RFC 3339");
    let story = |story: &str| format!("schema: ''\nwrites:\n  - {story}\n");
    check(&story("grant: [a:b#c@d:e]"), (3, 5), "lacks `says`");
    check(&story("says: x"), (3, 5), "nothing happens");
    check(
        &story("{says: x, grant: [nonsense]}"),
        (3, 23),
        "is no tuple",
    );
    check(&story("{says: x, grants: [a:b#c@d:e]}"), (3, 15), "grants");
    check(
        &story("{says: x, as: bob, grant: [a:b#c@d:e]}"),
        (3, 19),
        "has no ':'",
    );
    check(
        &story("{says: x, as: user:bob}"),
        (3, 19),
        "`as` needs a write",
    );
    check(
        &story("{says: x, wait: 1h, refused: SEALED}"),
        (3, 34),
        "`refused` needs a write",
    );
    check(&story("{says: x, wait: soon}"), (3, 21), "span");
    check(
        &story("{says: x, grant: [a:b#c@d:e], refused: TUPLE_EXIST}"),
        (3, 44),
        "did you mean TUPLE_EXISTS?",
    );
    check(
        &story("{says: x, grant: [a:b#c@d:e], revoke_matching: {subject: d:e}}"),
        (3, 5),
        "one write",
    );
    check(
        &story("{says: x, grant: [a:b#c@d:e], steps: [{wait: 1h}]}"),
        (3, 5),
        "stands in `steps`",
    );
    check(
        &story("{says: x, steps: [{steps: [{wait: 1h}]}]}"),
        (3, 23),
        "within another",
    );
    check(
        &story("{says: x, revoke_matching: {resource: b}}"),
        (3, 32),
        "has no ':'",
    );
}

/// Stories on one small world, and what becomes of each, failures with their lines.
#[test]
fn stories_are_told_on_worlds_of_their_own() {
    let schema = "schema: |\n  use expiration\n  definition user {}\n  definition doc { relation viewer: user | user with expiration }\n\
                  now: 2026-06-01T12:00:00Z\nrelationships: doc:a#viewer@user:tom\nwrites:\n";
    let check = |stories: &str, checks: usize, want: &[(u32, &str)]| {
        let file = parse(&format!("{schema}{stories}")).unwrap();
        let world = World::of(&file).unwrap();
        let report = file.judge(&world, "2000-01-01T00:00:00Z".parse().unwrap());
        let have: Vec<_> = (report.failures.iter())
            .map(|failure| (failure.line, failure.to_string()))
            .collect();
        let have: Vec<_> = have.iter().map(|(l, t)| (*l, t.as_str())).collect();
        assert_eq!((report.checks, &*have), (checks, want), "{stories}");
    };
    check("  []\n", 0, &[]);
    check(
        "  - says: one\n    revoke: [doc:a#viewer@user:tom]\n    denied: [doc:a#viewer@user:tom]\n\
         \x20 - says: two\n    allowed: [doc:a#viewer@user:tom]\n",
        3,
        &[],
    );
    check(
        "  - says: time ends it\n    steps:\n\
         \x20     - {grant: ['doc:a#viewer@user:ann[expiration:2026-06-01T13:00:00Z]'], allowed: [doc:a#viewer@user:ann]}\n\
         \x20     - {wait: 59m, allowed: [doc:a#viewer@user:ann]}\n\
         \x20     - {wait: 1m, denied: [doc:a#viewer@user:ann]}\n",
        4,
        &[],
    );
    check(
        "  - says: all of it\n    revoke_matching: {subject: user:tom}\n    allowed: [doc:a#viewer@user:tom]\n",
        2,
        &[(
            10,
            "doc:a#viewer@user:tom is expected to be allowed, but is denied (all of it)",
        )],
    );
    check(
        "  - says: no such relation\n    grant: [doc:a#editor@user:tom]\n    refused: UNKNOWN_RELATION\n",
        1,
        &[],
    );
    check(
        "  - says: x\n    grant: [doc:a#viewer@user:eve]\n    refused: UNKNOWN_RELATION\n    denied: [doc:a#viewer@user:eve]\n",
        1,
        &[(
            8,
            "a trusted caller grants doc:a#viewer@user:eve is expected to be refused with UNKNOWN_RELATION, but is done (x)",
        )],
    );
    check(
        "  - says: x\n    as: user:tom\n    grant: [group:a#viewer@user:eve]\n",
        1,
        &[(
            8,
            "user:tom grants group:a#viewer@user:eve is expected to be done, but is refused with UNKNOWN_TYPE: \
             group:a#viewer@user:eve: the schema has no type \"group\" (x)",
        )],
    );
}
