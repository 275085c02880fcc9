//! Schemas that must compile: all of the conformance data, and the example of the language.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};

use portcullis::schema::diagnostic::Diagnostic;
use portcullis::schema::{Names, Schema};

fn root() -> PathBuf {
    std::env::var_os("PORTCULLIS_CONFORMANCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"),
        PathBuf::from,
    )
}

fn rendered(problems: &[Diagnostic], text: &str, name: &str) -> String {
    problems.iter().map(|d| d.render(text, name)).collect()
}

#[test]
fn conformance_schemas_compile() {
    let root = root();
    if !root.is_dir() {
        eprintln!("skipped: no conformance data (set PORTCULLIS_CONFORMANCE)");
        return;
    }
    let mut failures = String::new();
    let mut count = 0;
    for folder in ["spicedb", "random", "cycles"] {
        for entry in root.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let yaml = std::fs::read_to_string(&path).unwrap();
            let file: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
            let text = file["schema"].as_str().unwrap();
            count += 1;
            match Schema::compile(text, &Names::default()) {
                Ok(compiled) => eprint!("{}", rendered(&compiled.warnings, text, &name)),
                Err(errors) => failures += &rendered(&errors, text, &name),
            }
        }
    }
    assert!(count > 100, "only {count} schemas were found");
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn the_language_example_compiles_without_warnings() {
    let text = include_str!("schemas/all_in_one.zed");
    let compiled = Schema::compile(text, &Names::default());
    let compiled = compiled.unwrap_or_else(|errors| panic!("{}", rendered(&errors, text, "x")));
    assert_eq!(rendered(&compiled.warnings, text, "x"), "");
    let schema = compiled.schema;
    assert_eq!(schema.types.len(), 5);
    let application = schema.type_named("application").unwrap();
    let delete = schema.member(*application.members.last().unwrap());
    assert_eq!(delete.doc.text, "Gone for good.");
    assert_eq!(delete.doc.group.as_deref(), Some("Danger"));
    assert!(delete.doc.sensitive);
}
