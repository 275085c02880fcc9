#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::*;
use crate::schema::CaveatType;

fn parameter(name: &str, kind: CaveatType) -> Parameter {
    Parameter {
        name: name.into(),
        kind,
    }
}

/// Compiles with `a int, b string`; the part at fault is what stands between `«` and `»`.
fn check(marked: &str, message: &str) {
    let parameters = [
        parameter("a", CaveatType::Int),
        parameter("b", CaveatType::String),
    ];
    let start = marked.find('«').expect("a mark");
    let end = marked.find('»').expect("a mark") - '«'.len_utf8();
    let source = marked.replace(['«', '»'], "");
    let error = compile(&source, &parameters).expect_err(&source);
    let found = source
        .get(error.start..error.end)
        .unwrap_or("no part of it");
    assert!(
        error.message.contains(message),
        "{source}: {}",
        error.message
    );
    assert_eq!(
        (error.start, error.end),
        (start, end),
        "{source}: found {found:?}"
    );
}

#[test]
fn errors_say_where() {
    check("a «+» b == b", "`+` does not take `int` and `string`");
    check("b == '𝄞' // é\n && «c» == 1", "no parameter `c`");
    check("b == 'é' && «c» == 1", "no parameter `c`");
    check("b == 'é' &&\n  a «==» b", "`==` does not take");
    check("a == 1 && b«.»x == 1", "no field `x`");
    check("a == 1 && b.startWith«(»'x')", "did you mean `startsWith`");
    check("«a == 1»", "`b` is not used");
    check("«b + string(a)»", "a condition is a bool");
    check("a == 1 && b.matches(«'('»)", "no regular expression");
    check("a == 1 && «'x»", "not closed");
    check("a == 1 && «(»b == 'x'", "not closed");
    check("(a == 1«]»", "expected `)`");
    check("a == 1 «=» b", "expected `==`");
    check("b == 'é' && a == «`»a`", "unexpected");
    check("a == 1 && «*» b", "unexpected `*`");
    check("b == 'é' &&\n  b == 'é' «b»", "unexpected `b`");
    check("b == 'é' && a «1» 2", "unexpected `1`");
    check("b == 'x' && a «1» 2", "unexpected `1`");
    check("b == 'x' && a ==«»", "found the end");
}

#[test]
fn near_names_are_found() {
    let known = || ["user_ip", "networks", "now"].into_iter();
    assert_eq!(nearest("user_ipp", known()), Some("user_ip"));
    assert_eq!(nearest("network", known()), Some("networks"));
    assert_eq!(nearest("noe", known()), Some("now"));
    assert_eq!(nearest("something", known()), None);
    assert_eq!(nearest("", known()), None);
}
