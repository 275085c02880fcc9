//! Random conditions under random contexts: never a panic, and what is decided stays decided.

use proptest::prelude::*;

use super::*;

const PARAMETERS: &str =
    "a bool, b bool, i int, j int, d double, s string, l list<int>, m map<any>, y any";

const WORDS: &[&str] = &[
    "a",
    "b",
    "i",
    "l",
    "m",
    "s",
    "y",
    "x",
    "_",
    "true",
    "false",
    "null",
    "0",
    "1",
    "2u",
    "1.5",
    "-1",
    "9223372036854775807",
    "1e400",
    "'x'",
    "\"",
    "b'y'",
    "'''",
    "r'\\'",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    ".",
    "..",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    " in ",
    ".all(",
    ".map(x, ",
    ".exists_one(",
    ".filter(x,",
    "has(",
    "size(",
    "timestamp(",
    "duration('1h')",
    ".getHours()",
    ".matches('",
    "in_cidr",
    "\n",
    "//",
    "\\",
    "é",
    "`",
    "@",
    "$a",
    "int(",
    "dyn(",
    "type(",
    "Thing{",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(WORDS), 0..40).prop_map(|words| words.concat())
}

fn number() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(
        &[
            "i", "j", "0", "1", "2", "-3", "size(s)", "size(l)", "l[0]", "int(m.k)", "int(y)",
        ][..],
    );
    plain
        .prop_map(str::to_owned)
        .prop_recursive(2, 8, 2, |inner| {
            let sign = prop::sample::select(&["+", "-", "*", "/", "%"][..]);
            prop_oneof![
                (inner.clone(), sign, inner.clone())
                    .prop_map(|(p, sign, q)| format!("({p} {sign} {q})")),
                (inner.clone(), inner).prop_map(|(p, q)| format!("(b ? {p} : {q})")),
            ]
        })
}

fn plain_truth() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(
        &[
            "a",
            "b",
            "true",
            "false",
            "s == 'x'",
            "m.k == 1",
            "has(m.k)",
            "y == 1",
            "y",
            "d > 0.5",
            "y > i",
            "s.startsWith('x')",
        ][..],
    );
    let sign = prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..]);
    prop_oneof![
        2 => fixed.prop_map(str::to_owned),
        2 => (number(), sign, number()).prop_map(|(p, sign, q)| format!("{p} {sign} {q}")),
        1 => number().prop_map(|n| format!("{n} in l")),
    ]
}

/// A condition that compiles, but for parameters that it does not use.
fn truth() -> impl Strategy<Value = String> {
    plain_truth().prop_recursive(4, 24, 3, |inner| {
        let each = prop::sample::select(&["all", "exists", "exists_one"][..]);
        let list = prop::sample::select(&["l", "[]", "[1, i]", "l.map(x, x + j)", "l.filter(x, b)"][..]);
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(p, q)| format!("({p} && {q})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(p, q)| format!("({p} || {q})")),
            1 => inner.clone().prop_map(|p| format!("!({p})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(p, q, r)| format!("({p} ? {q} : {r})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(p, q)| format!("(({p}) == ({q}))")),
            1 => (list, each, plain_truth(), number()).prop_map(|(list, each, p, q)| format!("{list}.{each}(x, x < {q} || {p})")),
        ]
    })
}

fn value_of(name: &str) -> BoxedStrategy<serde_json::Value> {
    use serde_json::json;
    let texts = prop::sample::select(vec![json!("x"), json!("xy"), json!("")]);
    match name {
        "a" | "b" => any::<bool>().prop_map(|v| json!(v)).boxed(),
        "d" => prop_oneof![Just(json!(0)), Just(json!(1.5)), Just(json!("NaN"))].boxed(),
        "s" => texts.boxed(),
        "l" => prop::collection::vec(-2..3, 0..4)
            .prop_map(|v| json!(v))
            .boxed(),
        "m" => prop_oneof![
            Just(json!({})),
            Just(json!({"k": 1})),
            Just(json!({"k": "x"}))
        ]
        .boxed(),
        "y" => prop_oneof![
            Just(json!(null)),
            Just(json!(1)),
            Just(json!("x")),
            Just(json!(true)),
            Just(json!([1]))
        ]
        .boxed(),
        _ => prop_oneof![(-2..3).prop_map(|v| json!(v)), Just(json!(i64::MAX))].boxed(),
    }
}

/// A value for each parameter, and whether it is known at first.
fn contexts() -> impl Strategy<Value = Vec<(String, serde_json::Value, bool)>> {
    let names = parameters(PARAMETERS)
        .into_iter()
        .map(|p| p.name.to_string());
    let each = names.map(|name| {
        let value = value_of(&name);
        (Just(name), value, prop::bool::weighted(0.6))
    });
    each.collect::<Vec<_>>()
}

/// Compiles with only those parameters that are used.
fn compiled(source: &str) -> CaveatDef {
    let mut parameters = parameters(PARAMETERS);
    loop {
        match cel::compile(source, &parameters) {
            Ok(expression) => {
                return CaveatDef {
                    id: CaveatId(0),
                    name: "random".into(),
                    doc: Doc::default(),
                    parameters,
                    expression,
                };
            }
            Err(error) => {
                let unused = error
                    .message
                    .strip_prefix("the parameter `")
                    .and_then(|rest| rest.split('`').next());
                let unused = unused
                    .unwrap_or_else(|| panic!("{source}: {error}"))
                    .to_owned();
                parameters.retain(|p| *p.name != *unused);
            }
        }
    }
}

fn decided(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::True | Outcome::False)
}

proptest! {
    #[test]
    fn no_soup_of_words_panics(source in soup(), request in contexts()) {
        let parameters = parameters(PARAMETERS);
        let used: Vec<_> = parameters.into_iter().filter(|p| source.contains(&*p.name)).collect();
        match cel::compile(&source, &used) {
            Ok(expression) => {
                let caveat = CaveatDef { id: CaveatId(0), name: "soup".into(), doc: Doc::default(), parameters: used, expression };
                let request = request.into_iter().map(|(name, value, _)| (name, value)).collect();
                let outcome = resolve(&caveat, &Context::new(), &request);
                let missing_none = !matches!(&outcome, Outcome::Undecided { missing, .. } if !missing.is_empty());
                prop_assert!(missing_none, "{outcome:?}");
            }
            Err(error) => prop_assert!(source.get(error.start..error.end).is_some(), "{error:?}"),
        }
    }

    #[test]
    fn no_letters_panic(source in "\\PC{0,60}") {
        if let Err(error) = cel::compile(&source, &[]) {
            prop_assert!(source.get(error.start..error.end).is_some(), "{error:?}");
        }
    }

    #[test]
    fn what_is_decided_stays_decided(source in truth(), values in contexts()) {
        let caveat = compiled(&source);
        let first: Context = values.iter().filter(|v| v.2).map(|v| (v.0.clone(), v.1.clone())).collect();
        let all: Context = values.iter().map(|v| (v.0.clone(), v.1.clone())).collect();
        let before = resolve(&caveat, &first, &Context::new());
        let after = resolve(&caveat, &first, &all);
        if decided(&before) {
            prop_assert_eq!(&before, &after, "{}", source);
        }
        if let Outcome::Undecided { missing, failure: Some(why) } = &before {
            prop_assert!(missing.is_empty());
            prop_assert!(!why.contains("could not be resolved"), "{}: {}", source, why);
        }
        if let Outcome::Undecided { missing, failure: None } = &before {
            prop_assert!(!missing.is_empty(), "{source}");
            let known = |name: &Arc<str>| first.contains_key(&**name);
            prop_assert!(!missing.iter().any(known), "{source}: {missing:?}");
        }
        if let Outcome::Undecided { missing, .. } = &after {
            prop_assert!(missing.is_empty(), "{source}: {missing:?}");
        }
    }
}
