//! What is said of wrong schemas, and where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use portcullis::schema::{Names, Schema};

/// `code line:column`, of the errors where there are any, else of the warnings.
fn found(text: &str) -> Vec<String> {
    let list = match Schema::compile(text, &Names::default()) {
        Ok(compiled) => compiled.warnings,
        Err(errors) => errors,
    };
    let place = |d: &portcullis::schema::diagnostic::Diagnostic| {
        format!("{} {}:{}", d.code, d.line, d.column)
    };
    list.iter().map(place).collect()
}

#[test]
fn each_has_its_place() {
    let in_a = |statements: &str| {
        format!(
            "definition u {{}}\ndefinition a {{\nrelation r: u\nrelation s: a | a#r\nrelation w: u:*\n{statements}\n}}"
        )
    };
    let cases: &[(&str, &[&str])] = &[
        ("permission p = r", &[]),
        ("permission lock = r\npermission min = lock + min", &[]),
        ("relation assigns: u\npermission p = r + assigns", &[]),
        (
            "relation assigns: u\npermission p = assigns\npermission q = assigns & p",
            &[],
        ),
        ("permission p = q", &["unknown-name 6:16"]),
        ("permission p = r\npermission p = r", &["duplicate 7:12"]),
        (
            "permission p = r\npermission q = p->r",
            &["arrow-over-permission 7:16"],
        ),
        ("permission p = w->r", &["arrow-over-wildcard 6:16"]),
        ("permission p = r->x", &["dead-arrow 6:19"]),
        ("permission p = r - w + r", &["mixed-operators 6:18"]),
        ("permission p = r - p", &["negation-cycle 6:12"]),
        ("permission p = r - s->p", &["negation-cycle 6:12"]),
        (
            "permission p = r - q\npermission q = p",
            &["negation-cycle 6:12"],
        ),
        ("permission p = r + a.s<-p + s->p", &["feeding-arrows 6:12"]),
        ("permission p = any role", &["unknown-name 6:20"]),
        ("permission p = s->s->r", &["syntax 6:20"]),
        ("permission p = ", &["syntax 7:1"]),
        ("lock l { blocks x }", &["unknown-name 6:17"]),
        ("lock l { blocks r inherits w }", &["inherits 6:28"]),
        (
            "relation t: u requires x\npermission x = r - w",
            &["requires-exclusion 6:10"],
        ),
        ("relation t: u revoked by r", &["idle-revoked-by 6:10"]),
        ("relation t: u revoked by r granted by s", &[]),
        ("relation t: u with c", &["unknown-name 6:20"]),
        ("relation t: u with expiration", &[]),
        ("relation t: u | u", &["duplicate 6:17"]),
        ("...p", &["unknown-name 6:4"]),
        ("permision p = r", &["syntax 6:1"]),
    ];
    for (statements, expected) in cases {
        assert_eq!(found(&in_a(statements)), *expected, "of {statements}");
    }
}

#[test]
fn import_is_refused_by_name() {
    for text in ["import x", "import \"x.zed\"\ndefinition u {}"] {
        assert_eq!(found(text), ["import 1:1"], "of {text}");
    }
}

#[test]
fn it_reads_like_a_compiler() {
    let text = "definition user {}\ndefinition doc {\n    relation viewer: usr\n}\n";
    let errors = Schema::compile(text, &Names::default()).unwrap_err();
    let expected = "error[unknown-name]: there is no type `usr`\n --> s.zed:3:22\n  |\n3 |     relation viewer: usr\n  |                      ^^^\n  = help: did you mean `user`?\n";
    assert_eq!(errors[0].render(text, "s.zed"), expected);
}
