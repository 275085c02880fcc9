//! Conditions and contexts that mean harm.

use std::time::{Duration, Instant};

use super::*;

/// Runs on a stack of 2 MiB, which is what threads of the server have.
fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let builder = std::thread::Builder::new().stack_size(2 << 20);
    builder.spawn(work).unwrap().join().unwrap()
}

fn check(what: &'static str, source: String, expected: &'static str) {
    let started = Instant::now();
    let found = on_a_small_stack(move || answer("a any", &source, "", r#"{"a": 1}"#));
    let took = started.elapsed();
    assert!(
        found.contains(expected),
        "{what}: {}",
        found.chars().take(300).collect::<String>()
    );
    assert!(took < Duration::from_secs(2), "{what}: {took:?}");
}

#[test]
fn hostile_conditions_are_refused_or_resolved_quickly() {
    let nested = |n: usize| format!("{}a == 1{}", "[1].all(x, ".repeat(n), ")".repeat(n));
    check(
        "a chain of +",
        format!("a{} == 1", " + 1.0".repeat(1500)),
        "at most 256 operators",
    );
    check(
        "256 operators",
        format!("a{} == 256.0", " + 1.0".repeat(255)),
        "true",
    );
    check(
        "256 &&",
        format!("a == 1{}", " && a == 1".repeat(127)),
        "true",
    );
    check("255 !", format!("{}(a == 1)", "!".repeat(254)), "true");
    check("255 -", format!("{}a == 1", "-".repeat(254)), "true");
    check(
        "ternaries",
        format!("{}true", "a == 2 ? false : ".repeat(127)),
        "nest too deep",
    );
    check(
        "60 ternaries",
        format!("{}true", "a == 2 ? false : ".repeat(60)),
        "true",
    );
    check("members", format!("a{} == 1", ".b".repeat(250)), "overload");
    check(
        "indexes",
        format!("a{} == 1", "[0]".repeat(250)),
        "overload",
    );
    check(
        "indexes within",
        format!("a{}0{} == 1", "[a".repeat(20), "]".repeat(20)),
        "",
    );
    check(
        "parentheses",
        format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000)),
        "16384 bytes",
    );
    check("8,000 parentheses", "(".repeat(8000), "nest at most");
    check(
        "deep parentheses",
        format!("{}a == 1{}", "(".repeat(24), ")".repeat(24)),
        "true",
    );
    check(
        "25 parentheses",
        format!("{}a == 1{}", "(".repeat(25), ")".repeat(25)),
        "nest at most",
    );
    check(
        "deep lists",
        format!("a != {}{}", "[".repeat(24), "]".repeat(24)),
        "true",
    );
    check(
        "deeper lists",
        format!("a != {}{}", "[".repeat(2000), "]".repeat(2000)),
        "nest at most",
    );
    check(
        "deep maps",
        format!("a != {}1{}", "{1:".repeat(24), "}".repeat(24)),
        "true",
    );
    check(
        "nested calls",
        format!("{}a{} == 1", "dyn(".repeat(24), ")".repeat(24)),
        "true",
    );
    check("2 all", nested(2), "true");
    check("3 all", nested(3), "nest at most 2");
    check("50 all", nested(50), "nest at most 2");
    check(
        "ranges",
        format!("a == 1 && [1]{} != []", ".map(x, x)".repeat(200)),
        "true",
    );
}

#[test]
fn long_conditions_are_refused_or_resolved_quickly() {
    check(
        "a long list",
        format!("a in [{}1]", "1,".repeat(2000)),
        "true",
    );
    check(
        "a longer list",
        format!("a in [{}1]", "1,".repeat(6000)),
        "words and signs",
    );
    check(
        "a long string",
        format!("a != '{}'", "x".repeat(16_000)),
        "true",
    );
    check(
        "too long a string",
        format!("a != '{}'", "x".repeat(17_000)),
        "16384 bytes",
    );
    check("quotes", "'".repeat(16_000), "");
    check(
        "backslashes",
        format!("'{}", "\\".repeat(16_000)),
        "not closed",
    );
}

#[test]
fn broken_conditions_are_refused_quickly() {
    check("backticks", "`a`".into(), "unexpected");
    check("letters of others", "a == ü".into(), "unexpected");
    check("a zero byte", "a == \0".into(), "unexpected");
    check("commas", ",".repeat(4000), "refused");
    check("dots", ".".repeat(250), "refused");
    check("colons", ":".repeat(4000), "refused");
    check("words", "a ".repeat(4000), "refused");
    check("open braces", "{".repeat(24), "not closed");
    check("number", format!("a == {}", "9".repeat(5000)), "refused");
    check("exponent", "a == 1e999999".into(), "");
    check("escape", r#"a == "\u{110000}""#.into(), "refused");
    check("surrogate", r#"a == "\ud800""#.into(), "refused");
    check("octal", r#"a == "\777""#.into(), "refused");
    check("int", "a == -9223372036854775809".into(), "refused");
    check("uint", "a == 99999999999999999999u".into(), "refused");
    check(
        "pattern",
        format!("string(a).matches('{}')", "(a{1000}){1000}"),
        "too large",
    );
    check(
        "deep pattern",
        format!(
            "string(a).matches('{}a{}')",
            "(".repeat(7000),
            ")".repeat(7000)
        ),
        "refused",
    );
}

/// `0,1,2` and so on.
fn numbers(n: usize) -> String {
    let numbers: Vec<String> = (0..n).map(|n| n.to_string()).collect();
    numbers.join(",")
}

/// Contexts that make a condition run long, and what is said instead; or that it does run.
fn check_bound(
    what: &'static str,
    declared: &str,
    source: &str,
    request: &str,
    expected: &'static str,
) {
    let (caveat, request) = (caveat(declared, source).unwrap(), context(request));
    let started = Instant::now();
    let found = on_a_small_stack(move || shown(&resolve(&caveat, &Context::new(), &request)));
    let took = started.elapsed();
    assert!(found.contains(expected), "{what}: {found}");
    assert!(took < Duration::from_secs(5), "{what}: {took:?}");
}

#[test]
fn what_would_run_long_is_a_failure() {
    let two = |n, m| format!(r#"{{"a": [{}], "b": [{}]}}"#, numbers(n), numbers(m));
    let pairs = "a.all(x, b.all(y, x + y >= 0))";
    let lists = "a list<int>, b list<int>";
    check_bound("100 by 100", lists, pairs, &two(100, 100), "true");
    check_bound(
        "400 by 400",
        lists,
        pairs,
        &two(400, 400),
        "multiply to 160000",
    );
    check_bound(
        "30,000",
        "a list<int>",
        "a.all(x, x >= 0)",
        &two(30_000, 0),
        "true",
    );
    check_bound(
        "200,000",
        "a list<int>",
        "a.all(x, x >= 0)",
        &two(200_000, 0),
        "multiply to 200000",
    );
    check_bound("in", lists, "a.all(x, x in b)", &two(1000, 1000), "true");
    check_bound(
        "in, large",
        lists,
        "a.all(x, !(x in b))",
        &two(20_000, 20_000),
        "steps",
    );
    check_bound(
        "sums of lists",
        lists,
        "b == [] || (a + a + a + a).all(x, x >= 0)",
        &two(30_000, 1),
        "multiply to 120000",
    );
    check_bound(
        "map then all",
        lists,
        "b == [] || a.map(x, a).all(y, y.all(z, z >= 0))",
        &two(400, 1),
        "multiply to 160000",
    );
    check_bound(
        "beside what decides",
        lists,
        "a[0] == 0 || a.all(x, x in b)",
        &two(20_000, 20_000),
        "true",
    );
    check_bound(
        "what does not decide",
        lists,
        "a[0] == 1 || a.all(x, x in b)",
        &two(20_000, 20_000),
        "steps",
    );
}

#[test]
fn long_strings_and_deep_values_are_bounded_too() {
    let text = |n: usize| format!(r#"{{"a": "{}", "b": [{}]}}"#, "x".repeat(n), numbers(2000));
    let doubled = format!("b.all(x, size(a{}) > 0)", " + a".repeat(100));
    check_bound(
        "strings",
        "a string, b list<int>",
        &doubled,
        &text(60_000),
        "steps",
    );
    check_bound(
        "a string once",
        "a string",
        &format!("size(a{}) == 180000", " + a".repeat(2)),
        &text(60_000),
        "true",
    );
    let patterns = "b.exists(x, matches(a, string(x)))";
    check_bound(
        "patterns",
        "a string, b list<int>",
        patterns,
        &text(10),
        "steps",
    );
    let grid = format!(
        r#"{{"a": [{}]}}"#,
        vec![format!("[{}]", numbers(10)); 1000].join(",")
    );
    check_bound(
        "lists of lists",
        "a list<list<int>>",
        "a.all(x, x.all(y, y >= 0))",
        &grid,
        "true",
    );
    let nested = format!(r#"{{"a": {}1{}}}"#, "[".repeat(64), "]".repeat(64));
    check_bound(
        "a nested value",
        "a any",
        "a == a && a in [a] && [a].all(x, x == a)",
        &nested,
        "true",
    );
    let deep = format!(r#"{{"a": {}1{}}}"#, "[".repeat(100), "]".repeat(100));
    check_bound(
        "a deep value",
        "a any",
        "a != 1",
        &deep,
        "nested more than 64",
    );
}
