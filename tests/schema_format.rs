//! The printer keeps what a schema says, and every comment of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::indexing_slicing
)]

use portcullis::schema::diagnostic::Diagnostic;
use portcullis::schema::format::format;
use portcullis::schema::parser::parse;
use proptest::prelude::*;

fn render(text: &str, errors: &[Diagnostic]) -> String {
    errors
        .iter()
        .map(|e| e.render(text, "schema.zed"))
        .collect()
}

/// The tree without places.
fn tree(text: &str) -> String {
    let tree = parse(text).unwrap_or_else(|errors| panic!("{}\n{text}", render(text, &errors)));
    let debug = format!("{tree:?}");
    let mut out = String::new();
    for part in debug.split("Span { start: ") {
        let rest = part.split_once(" }");
        match rest {
            Some((digits, rest)) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                out.push_str(rest);
            }
            _ => out.push_str(part),
        }
    }
    out
}

fn comments(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .split_whitespace()
        .filter(|word| word.contains("note"))
        .map(ToOwned::to_owned)
        .collect();
    found.sort();
    found
}

fn check(text: &str) -> String {
    let once = format(text).unwrap_or_else(|errors| panic!("{}\n{text}", render(text, &errors)));
    assert_eq!(
        tree(&once),
        tree(text),
        "changed what it says:\n{text}\n---\n{once}"
    );
    let twice = format(&once).unwrap();
    assert_eq!(twice, once, "not idempotent:\n{text}");
    assert_eq!(
        comments(&once),
        comments(text),
        "lost a comment:\n{text}\n---\n{once}"
    );
    once
}

#[test]
fn layout() {
    let cases = [
        ("", ""),
        ("definition a{}", "definition a {}\n"),
        (
            "/** A. */\n  definition a{}",
            "/** A. */\ndefinition a {}\n",
        ),
        ("// A.\ndefinition a{}", "// A.\ndefinition a {}\n"),
        (
            "definition a{ }definition b{}",
            "definition a {}\ndefinition b {}\n",
        ),
        (
            "definition a{relation b:a|a:*|a #b permission c=b+( b&b )-b.all( b )}",
            "definition a {\n    relation b: a | a:* | a#b\n    permission c = b + (b & b) - b.all(b)\n}\n",
        ),
        (
            "caveat c( x:int,y list< map<any> >){x>1}",
            "caveat c(x: int, y list<map<any>>) { x>1 }\n",
        ),
        (
            "definition a { // note\n\n\n relation b: a // note2\n   /* note3 */\n}\n// note4",
            "definition a { // note\n\n    relation b: a // note2\n    /* note3 */\n}\n// note4\n",
        ),
        (
            "definition a { relation b: a min 1 granted by b\nrelation c: a\n granted by b }",
            "definition a {\n    relation b: a min 1 granted by b\n    relation c: a\n        granted by b\n}\n",
        ),
        (
            "definition a { relation b: a lock l {blocks b  except b} lock m {\nblocks *\n}}",
            "definition a {\n    relation b: a\n    lock l { blocks b except b }\n    lock m {\n        blocks *\n    }\n}\n",
        ),
        (
            "definition a { relation b: a permission c = b\n+ b +\nx.b<-c }",
            "definition a {\n    relation b: a\n    permission c = b\n        + b +\n        x.b<-c\n}\n",
        ),
        (
            "partial p{} definition a{...p\n/** note */ relation b:a}",
            "partial p {}\ndefinition a {\n    ...p\n    /** note */\n    relation b: a\n}\n",
        ),
        (
            "roles role of a{held by a granted by b capped builtin x includes a.b,a.c min 2}",
            "roles role of a {\n    held by a\n    granted by b\n    capped\n    builtin x includes a.b, a.c min 2\n}\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(check(text), expected, "of {text}");
    }
}

#[test]
fn the_language_example_keeps_its_meaning() {
    check(include_str!("schemas/all_in_one.zed"));
}

const NAMES: &[&str] = &[
    "a", "B", "lock", "roles", "min", "any", "some", "role", "self", "granted", "requires",
    "capped", "relation", "x_1", "blocks",
];

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(NAMES).prop_map(ToOwned::to_owned)
}

fn expr() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("nil".to_owned()),
        proptest::sample::select(&["a", "B", "lock", "min", "self"][..])
            .prop_map(ToOwned::to_owned),
        (name(), name()).prop_map(|(a, b)| format!("{a}->{b}")),
        (name(), name()).prop_map(|(a, b)| format!("{a}.any({b})")),
        (name(), name()).prop_map(|(a, b)| format!("{a} . all ( {b} )")),
        (name(), name(), name()).prop_map(|(a, b, c)| format!("t/{a}.{b}<-{c}")),
        name().prop_map(|a| format!("any {a}")),
        name().prop_map(|a| format!("some {a}")),
        name().prop_map(|a| format!("role {a}")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = proptest::sample::select(&["+", "&", "-", "@+", "-@", "@&@"][..]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
}

fn types() -> impl Strategy<Value = String> {
    let one = (name(), 0..7_u8, name()).prop_map(|(t, form, r)| match form {
        0 => format!("{t}:*"),
        1 => format!("{t}#{r}"),
        2 => format!("{t} with {r}"),
        3 => format!("{t} with expiration"),
        4 => format!("{t}#{r} with {r} and expiration"),
        5 => format!("{t}#..."),
        _ => t,
    });
    proptest::collection::vec(one, 1..4).prop_map(|types| types.join("@|@"))
}

fn clauses(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    let any = (proptest::sample::subsequence(of, 0..=of.len()), expr());
    any.prop_map(|(clauses, expr)| {
        let clauses = clauses.iter().map(|clause| clause.replace('E', &expr));
        clauses.map(|clause| format!("\n{clause}")).collect()
    })
}

fn statement() -> impl Strategy<Value = String> {
    prop_oneof![
        (
            name(),
            types(),
            clauses(&["min 3", "granted by E", "revoked by@E", "requires E"])
        )
            .prop_map(|(n, t, c)| format!("relation {n}:{t}{c}")),
        (name(), expr()).prop_map(|(n, e)| format!("permission {n} ={e}")),
        (name(), types(), expr()).prop_map(|(n, t, e)| format!("permission {n}:{t}={e};")),
        (
            name(),
            clauses(&[
                "blocks a, B",
                "except E",
                "granted by E",
                "inherits a,b",
                "seals"
            ])
        )
            .prop_map(|(n, c)| format!("lock {n} {{{c}}}")),
        (name(), clauses(&["granted by E", "capped", "inherits a"]))
            .prop_map(|(n, c)| format!("assigns {n}{c}")),
        Just("...p".to_owned()),
    ]
}

fn item() -> impl Strategy<Value = String> {
    let statements = || proptest::collection::vec(statement(), 0..5);
    prop_oneof![
        4 => (name(), statements()).prop_map(|(n, s)| format!("definition {n} {{@{}@}}", s.join("\n@"))),
        1 => (name(), statements()).prop_map(|(n, s)| format!("partial t/{n} {{ {} }}", s.join("\n"))),
        1 => name().prop_map(|n| format!("caveat {n}(a int, b map<any>@) {{ a > 1 &&\n  b.x == '}}' }}")),
        1 => (name(), types(), clauses(&["granted by E", "capped"]), expr()).prop_map(|(n, t, c, e)| {
            format!("roles {n} of t {{ held by {t}{c}\nbuiltin a includes * granted by {e}\n@min 1 }}")
        }),
        1 => Just("use expiration".to_owned()),
    ]
}

/// A whole schema in which each `@` stands for a gap that may hold comments.
fn schema() -> impl Strategy<Value = String> {
    let filler = proptest::sample::select(
        &[
            " ",
            " ",
            " ",
            "\n",
            "\n\n\n",
            " // note\n",
            "/* note */",
            "\n /* note\n   more */ ",
            "\n/**\n * note\n@group X\n */\n",
            "\n// note\n\n// note2\n",
            "/** note */ ",
        ][..],
    );
    (
        proptest::collection::vec(item(), 0..5),
        proptest::collection::vec(filler, 60),
    )
        .prop_map(|(items, fillers)| {
            let text = format!("@{}@", items.join("@\n@"));
            let mut fillers = fillers.iter().cycle();
            text.split('@')
                .collect::<Vec<_>>()
                .join("\u{1}")
                .chars()
                .fold(String::new(), |mut out, c| {
                    match c {
                        '\u{1}' => out.push_str(fillers.next().unwrap()),
                        c => out.push(c),
                    }
                    out
                })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_schemas_keep_their_meaning(text in schema()) {
        check(&text);
    }
}

fn cases() -> u32 {
    let count = std::env::var("PORTCULLIS_CASES").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(2_000)
}
