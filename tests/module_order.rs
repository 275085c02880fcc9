//! The modules stand in one order, that of `src/lib.rs`: each names only modules above it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The modules of `lib.rs`, in their order.
fn modules(lib: &str) -> Vec<String> {
    let declared = lib.lines().filter_map(|line| {
        let line = line.trim();
        let line = line
            .strip_prefix("pub(crate) ")
            .or(line.strip_prefix("pub "))
            .unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    declared.map(str::to_owned).collect()
}

/// The modules that a source text names after `crate::`, comments and tests aside.
fn named(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let lines: Vec<&str> = source.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    let code: Vec<&str> = (lines.iter().take(tests.unwrap_or(lines.len())))
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect();
    let code = code.join(" ");
    for (at, marker) in code.match_indices("crate::") {
        let whole_word =
            !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = code[at + marker.len()..].trim_start();
        if !whole_word {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_words(group)),
            None => found.extend(word(rest)),
        }
    }
    found
}

/// The first word of each item of `a, b::{c, d}, e}`.
fn first_words(group: &str) -> Vec<String> {
    let (mut words, mut depth, mut begins) = (Vec::new(), 0_usize, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                words.extend(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    words
}

fn word(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let word = &text[..end];
    word.starts_with(|c: char| c.is_lowercase())
        .then(|| word.to_owned())
}

/// What a module's text names that it must not: modules that do not stand above it.
fn trespasses(order: &[String], module: &str, source: &str) -> Vec<String> {
    let own = order
        .iter()
        .position(|name| name == module)
        .expect("a module of lib.rs");
    let places = |name: &String| order.iter().position(|other| other == name);
    let below = |name: &String| places(name).is_some_and(|place| place > own);
    let strange = |name: &String| places(name).is_none();
    let mut found: Vec<String> = (named(source).into_iter())
        .filter(|name| below(name) || strange(name))
        .collect();
    let api_or_below = order
        .iter()
        .position(|name| name == "api")
        .is_some_and(|api| own >= api);
    let may_open_stores = module == "cli";
    if api_or_below && !may_open_stores && named(source).contains("store") {
        found.push("store".to_owned());
    }
    found
}

/// Every source file under `src/`, with the module that it belongs to.
fn sources(folder: &Path, module: Option<&str>, out: &mut Vec<(String, String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = module.unwrap_or(&stem).to_owned();
        if path.is_dir() {
            sources(&path, Some(&module), out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            out.push((path.display().to_string(), module, text));
        }
    }
}

#[test]
fn a_module_names_only_modules_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = modules(&fs::read_to_string(src.join("lib.rs")).unwrap());
    assert_eq!(
        order.last().map(String::as_str),
        Some("cli"),
        "the command line stands last"
    );
    let mut files = Vec::new();
    sources(&src, None, &mut files);
    let mut wrong = Vec::new();
    for (path, module, text) in &files {
        if matches!(module.as_str(), "main" | "lib") {
            continue;
        }
        assert!(
            order.contains(module),
            "{path} belongs to no module of lib.rs"
        );
        for name in trespasses(&order, module, text) {
            wrong.push(format!("{path} names crate::{name}"));
        }
    }
    assert!(files.len() > 15, "only {} files were read", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_finds_what_is_wrong() {
    let lib = "//! x\npub mod time;\npub mod tuple;\nmod schema;\npub mod store;\npub mod api;\npub(crate) mod cli;\n";
    let order = modules(lib);
    assert_eq!(order, ["time", "tuple", "schema", "store", "api", "cli"]);
    let check = |module: &str, source: &str, want: &[&str]| {
        assert_eq!(
            trespasses(&order, module, source),
            want,
            "{module}: {source}"
        );
    };
    check("tuple", "use crate::time::Timestamp;", &[]);
    check("tuple", "use crate::schema::Schema;", &["schema"]);
    check(
        "tuple",
        "use crate::{time, schema::{self, time}};",
        &["schema"],
    );
    check(
        "tuple",
        "use crate::{\n    time::A,\n    schema::B,\n};",
        &["schema"],
    );
    check("tuple", "fn f() -> crate::api::X {}", &["api"]);
    check("tuple", "// crate::schema is below\n", &[]);
    check("tuple", "use crate::tuple::inner;", &[]);
    check("tuple", "use other_crate::schema;", &[]);
    check("tuple", "use crate::unheard_of::X;", &["unheard_of"]);
    check(
        "tuple",
        "x\n#[cfg(test)]\nmod tests { use crate::api; }",
        &[],
    );
    check(
        "tuple",
        "#[cfg(test)]\nuse crate::time;\nuse crate::api;",
        &["api"],
    );
    check("api", "use crate::store::Store;", &["store"]);
    check("cli", "use crate::store::Store;", &[]);
}
