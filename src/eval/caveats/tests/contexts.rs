//! Contexts against the parameters that are declared, and the caveats of the conformance data.

use std::path::PathBuf;

use super::*;
use crate::schema::Names;

/// `ok`, or the error.
fn shown_error(result: Result<(), ContextError>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "ok".into())
}

#[test]
fn the_context_of_a_tuple_names_parameters_only_and_fits_them() {
    let caveat = caveat(
        "user_ip ipaddress, networks list<string>, limits map<int>",
        "networks.exists(n, user_ip.in_cidr(n)) && limits.a > 1",
    )
    .unwrap();
    for (json, expected) in [
        ("{}", "ok"),
        (
            r#"{"user_ip": "10.0.0.1", "networks": ["10.0.0.0/8"]}"#,
            "ok",
        ),
        (
            r#"{"user_ipp": "10.0.0.1"}"#,
            "user_ipp: the caveat `tested` has no such parameter, did you mean `user_ip`?",
        ),
        (
            r#"{"else": 1}"#,
            "else: the caveat `tested` has no such parameter",
        ),
        (
            r#"{"user_ip": "ten"}"#,
            "user_ip: expected an IP address, found the string \"ten\"",
        ),
        (
            r#"{"user_ip": null}"#,
            "user_ip: expected an IP address, found null",
        ),
        (
            r#"{"networks": ["a", 7]}"#,
            "networks[1]: expected a string, found the number 7",
        ),
        (
            r#"{"networks": {}}"#,
            "networks: expected a list, found a map",
        ),
        (
            r#"{"limits": {"a": true}}"#,
            "limits.a: expected a whole number of 64 bits, found the bool true",
        ),
        (r#"{"limits": {"a": "12"}}"#, "ok"),
    ] {
        assert_eq!(
            shown_error(check_context(&caveat, &context(json))),
            expected,
            "{json}"
        );
    }
}

fn schema_of(caveats: Vec<CaveatDef>) -> Schema {
    Schema {
        text: "".into(),
        names: Arc::new(Names::default()),
        types: Vec::new(),
        members: Vec::new(),
        caveats: caveats.into_iter().map(Arc::new).collect(),
        roles: Vec::new(),
        type_places: Vec::new(),
        member_places: Vec::new(),
        caveat_places: Vec::new(),
        programs: std::sync::OnceLock::new(),
        reach: std::sync::OnceLock::new(),
    }
}

#[test]
fn the_context_of_a_request_fits_where_caveats_agree() {
    let schema = schema_of(vec![
        caveat("a int, both int", "a == both").unwrap(),
        caveat("b string, both string", "b == both").unwrap(),
    ]);
    for (json, expected) in [
        ("{}", "ok"),
        (r#"{"a": 1, "b": "x", "other": [1]}"#, "ok"),
        (
            r#"{"a": "x"}"#,
            "a: expected a whole number of 64 bits, found the string \"x\"",
        ),
        (r#"{"b": 1}"#, "b: expected a string, found the number 1"),
        (r#"{"both": 1}"#, "ok"),
        (r#"{"both": "x"}"#, "ok"),
    ] {
        assert_eq!(
            shown_error(check_request_context(&schema, &context(json))),
            expected,
            "{json}"
        );
    }
    let reached = |place: usize, json: &str| {
        shown(&resolve(
            &schema.caveats[place],
            &Context::new(),
            &context(json),
        ))
    };
    assert_eq!(reached(0, r#"{"a": 1, "both": 1}"#), "true");
    assert_eq!(
        reached(1, r#"{"b": "x", "both": 1}"#),
        "fails: both: expected a string, found the number 1"
    );
}

#[test]
fn the_tuple_wins_over_the_request() {
    let found = |tuple, request| answer("a int, b int", "a < b", tuple, request);
    assert_eq!(found(r#"{"a": 1}"#, r#"{"a": 9, "b": 5}"#), "true");
    assert_eq!(found(r#"{"a": 9}"#, r#"{"a": 1, "b": 5}"#), "false");
    assert_eq!(found(r#"{"a": 9}"#, r#"{"a": 1}"#), "missing b");
}

/// `caveat name(parameters) { condition }` of SpiceDB's data, found without our own parser.
fn caveats_of(text: &str) -> Vec<(String, String)> {
    let found = text.split("caveat ").skip(1).filter_map(|rest| {
        let (head, rest) = rest.split_once('{')?;
        let (_, declared) = head.split_once('(')?;
        let condition = rest.split_once('}')?.0;
        Some((
            declared.trim().strip_suffix(')')?.to_owned(),
            condition.trim().to_owned(),
        ))
    });
    found.collect()
}

#[test]
fn the_caveats_of_the_conformance_data_compile() {
    let folder = std::env::var_os("PORTCULLIS_CONFORMANCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"),
        PathBuf::from,
    );
    let Ok(files) = std::fs::read_dir(folder.join("spicedb")) else {
        return;
    };
    let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let caveats: Vec<_> = texts.flat_map(|text| caveats_of(&text)).collect();
    assert!(caveats.len() > 10, "{} caveats", caveats.len());
    for (declared, condition) in caveats {
        if let Err(error) = caveat(&declared, &condition) {
            panic!("{declared}: {condition}: {error}");
        }
    }
}
