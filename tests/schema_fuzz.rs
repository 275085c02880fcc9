//! No text makes the schema compiler panic, hang or blow its stack.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::time::{Duration, Instant};

use portcullis::schema::diff::diff;
use portcullis::schema::format::format;
use portcullis::schema::{MAX_BYTES, Names, Schema};
use proptest::prelude::*;

/// Compiles and prints; what comes out must be usable.
fn survive(text: &str) {
    let formatted = format(text);
    match Schema::compile(text, &Names::default()) {
        Ok(compiled) => {
            assert!(diff(&compiled.schema, &compiled.schema).is_empty());
            let again = Schema::compile(&formatted.unwrap(), &compiled.schema.names);
            let again = again.expect("what was formatted compiles");
            assert_eq!(diff(&compiled.schema, &again.schema), Vec::<String>::new());
            assert_eq!(again.schema.names, compiled.schema.names);
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors.iter().take(3) {
                assert!(text.get(error.span.clone()).is_some(), "{error:?}");
                assert!(!error.render(text, "x").is_empty());
            }
        }
    }
}

fn cases() -> u32 {
    let count = std::env::var("PORTCULLIS_CASES").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

const EXAMPLE: &str = include_str!("schemas/all_in_one.zed");

const PIECES: &[&str] = &[
    "definition ",
    "user ",
    "{",
    "}",
    "(",
    ")",
    "relation ",
    "permission ",
    "a",
    ": ",
    "= ",
    "+",
    "&",
    "- ",
    "->",
    "<-",
    ".any(",
    ".all(",
    "nil ",
    "self ",
    "any role ",
    "some role ",
    "role ",
    "lock ",
    "roles ",
    "of ",
    "held by ",
    "builtin ",
    "includes ",
    "*",
    "granted by ",
    "min 1 ",
    "requires ",
    "caveat ",
    "int ",
    "list<",
    ">",
    "\"",
    "'",
    "/*",
    "*/",
    "/**",
    "//",
    "\n",
    "\r\n",
    "é",
    "\u{0}",
    "partial ",
    "...",
    "#",
    "|",
    ",",
    ";",
    "with ",
    "and ",
    "expiration ",
    "use ",
    "9",
    "\u{feff}",
    "/",
    "1e400",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_words(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        survive(&pieces.concat());
    }

    #[test]
    fn mutated_schemas(edits in proptest::collection::vec(
        (any::<proptest::sample::Index>(), 0..12_usize, proptest::sample::select(PIECES)), 1..4)) {
        let mut chars: Vec<char> = EXAMPLE.chars().collect();
        for (at, delete, insert) in edits {
            let at = at.index(chars.len());
            let end = (at + delete).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        survive(&chars.into_iter().collect::<String>());
    }
}

#[test]
fn large_texts_end_soon() {
    let fill = |head: &str, part: &str| {
        let count = (MAX_BYTES - head.len()) / part.len();
        format!("{head}{}", part.repeat(count))
    };
    let chain = |count: usize| {
        let mut text = String::from("definition a { relation p0: a\n");
        for i in 1..count {
            text += &format!("permission p{i} = p{} \n", i - 1);
        }
        text + "}"
    };
    let partials = |count: usize| {
        let mut text = String::from("definition d { ...p0 }\n");
        for i in 1..count {
            text += &format!("partial p{} {{ ...p{i} ...p{i} }}\n", i - 1);
        }
        text + &format!("partial p{} {{ relation x: d }}", count - 1)
    };
    let head = "definition a { relation r: a permission p = ";
    let cases = [
        fill("", "("),
        fill(head, "("),
        fill(head, "r+"),
        fill(head, "r-"),
        fill(head, "(r - r & r) + "),
        fill("", "definition a {"),
        fill("", "definition a {}\n"),
        fill("", "{"),
        fill("", "}"),
        fill("", "/*"),
        fill("", "/**/"),
        fill("", "//\n"),
        fill("definition a {", "relation r: b\n"),
        fill("definition a {", "permission r = unknown_name\n"),
        fill("definition a { relation r: a\n", "lock r { blocks r"),
        fill("caveat c(", "list<"),
        fill("caveat c(a ", "list<"),
        fill("caveat c(a int) { a == ", "("),
        fill("caveat c(a int) {", "'"),
        fill("", "é"),
        fill("roles r of a { held by a ", "builtin a includes * "),
        chain(30_000),
        partials(10_000),
        "x".repeat(MAX_BYTES),
        "x".repeat(MAX_BYTES + 1),
    ];
    for (place, text) in cases.iter().enumerate() {
        let start = Instant::now();
        let _ = Schema::compile(text, &Names::default()).map(|c| c.schema.types.len());
        let _ = format(text);
        let taken = start.elapsed();
        println!("case {place}: {taken:?}");
        assert!(taken < Duration::from_secs(10), "case {place}: {taken:?}");
    }
}

#[test]
fn too_large_is_named() {
    let errors = Schema::compile(&" ".repeat(MAX_BYTES + 1), &Names::default()).unwrap_err();
    assert_eq!(errors[0].code, "too-large");
}
