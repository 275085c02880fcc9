//! The conformance data: schemas and tuples with what real engines answer about them.
//!
//! Each case is a validation file, `NAME.yaml`, judged as `portcullis test` judges it, and a
//! `NAME.expected` that answers every question of the case's universe.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use portcullis::eval::{Decision, Question};
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef};
use portcullis::validation::{ValidationFile, World};

/// Expiries in the data lie long before or after it.
const NOW: &str = "2026-06-01T12:00:00Z";
const WORKERS: usize = 2;

/// Where one part of the data lies. `random` and `cycles` are in the repository too; `spicedb`
/// is not.
fn folder(part: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("PORTCULLIS_CONFORMANCE").map(PathBuf::from);
    let places = [
        here.join("../shared/conformance"),
        here.join("tests/conformance"),
    ];
    let mut places = named
        .into_iter()
        .chain(places)
        .map(|place| place.join(part));
    places.find(|place| place.is_dir())
}

#[derive(Default, Debug)]
struct Tally {
    cases: usize,
    assertions: usize,
    questions: usize,
    differing: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.assertions += other.assertions;
        self.questions += other.questions;
        self.differing.extend(other.differing);
    }
}

/// What an engine said about one case: all that is not in `decisions` is denied.
struct Expected {
    resources: Vec<String>,
    subjects: Vec<String>,
    decisions: BTreeMap<(String, String), Decision>,
}

impl Expected {
    fn parse(text: &str) -> Self {
        let mut expected = Self {
            resources: vec![],
            subjects: vec![],
            decisions: BTreeMap::new(),
        };
        for line in text.lines() {
            let words = |text: &str| text.split_whitespace().skip(1).map(str::to_owned).collect();
            match line.split_whitespace().next() {
                Some("resources") => expected.resources = words(line),
                Some("subjects") => expected.subjects = words(line),
                _ => expected.take(line),
            }
        }
        expected
    }

    fn take(&mut self, line: &str) {
        let mut parts = line.split(" | ");
        let question = parts.next().unwrap_or("").trim();
        for part in parts {
            let mut words = part.split_whitespace();
            let decision = match words.next() {
                Some("allowed") => Decision::Allowed,
                Some("conditional") => Decision::Conditional,
                other => panic!("{other:?} in {line}"),
            };
            for subject in words {
                self.decisions
                    .insert((question.to_owned(), subject.to_owned()), decision);
            }
        }
    }
}

fn judge(path: &Path, now: Timestamp) -> Tally {
    let mut tally = Tally {
        cases: 1,
        ..Tally::default()
    };
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(path).unwrap();
    let world = ValidationFile::parse(&text, &|name| Err(format!("no file {name}")))
        .map_err(|problem| vec![problem])
        .and_then(|file| World::of(&file).map(|world| (file, world)));
    let (file, world) = match world {
        Ok(pair) => pair,
        Err(problems) => {
            tally.differing.push(format!("{name}: {}", problems[0]));
            return tally;
        }
    };
    let report = file.judge(&world, now);
    tally.assertions = report.checks;
    let failures = report
        .failures
        .iter()
        .map(|failure| format!("{name}:{}: {failure}", failure.line));
    tally.differing.extend(failures);
    if let Ok(text) = fs::read_to_string(path.with_extension("expected")) {
        ask_all(&name, &world, &Expected::parse(&text), now, &mut tally);
    }
    tally
}

/// Every relation and permission of every resource, for every subject.
fn ask_all(name: &str, world: &World, expected: &Expected, now: Timestamp, tally: &mut Tally) {
    let context = Context::new();
    for resource in &expected.resources {
        let resource = ObjectRef::parse(resource).unwrap();
        let kind = world.schema().type_named(resource.kind()).unwrap();
        for member in &kind.members {
            let permission = &world.schema().member(*member).name;
            for subject in &expected.subjects {
                let key = (format!("{resource}#{permission}"), subject.clone());
                let want = expected
                    .decisions
                    .get(&key)
                    .copied()
                    .unwrap_or(Decision::Denied);
                let question = Question {
                    subject: SubjectRef::parse(subject).unwrap(),
                    permission,
                    resource,
                    context: &context,
                    contextual: &[],
                    with_dependencies: false,
                };
                tally.questions += 1;
                let have = world.answer(&question, now).map(|answer| answer.decision);
                if have.as_ref() != Ok(&want) {
                    let line = format!("{name}: {}@{subject} is {have:?}, not {want:?}", key.0);
                    tally.differing.push(line);
                }
            }
        }
    }
}

fn judge_folder(folder: &Path) -> Tally {
    let now: Timestamp = NOW.parse().unwrap();
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    let (files, total) = (Mutex::new(files), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(path) = files.lock().unwrap().pop() else {
                        return;
                    };
                    let tally = judge(&path, now);
                    total.lock().unwrap().add(tally);
                }
            });
        }
    });
    total.into_inner().unwrap()
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "what was asked, or left out, is part of the result"
)]
fn all_questions_are_answered_as_expected() {
    let mut differing = Vec::new();
    for part in ["spicedb", "random", "cycles"] {
        let Some(folder) = folder(part) else {
            println!(
                "{part}: ignored, it is not here; set PORTCULLIS_CONFORMANCE to its parent folder"
            );
            continue;
        };
        let tally = judge_folder(&folder);
        println!(
            "{part}: {} cases, {} assertions, {} questions, {} differ",
            tally.cases,
            tally.assertions,
            tally.questions,
            tally.differing.len()
        );
        assert!(
            tally.questions > 1_000,
            "{part}: {} questions only",
            tally.questions
        );
        differing.extend(
            tally
                .differing
                .into_iter()
                .map(|line| format!("{part}/{line}")),
        );
    }
    differing.sort();
    assert!(
        differing.is_empty(),
        "{} differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
}

#[test]
fn a_wrong_answer_is_found() {
    let case = std::env::temp_dir().join(format!("portcullis-conformance-{}", std::process::id()));
    fs::create_dir_all(&case).unwrap();
    let yaml = "schema: |\n  definition user {}\n  definition doc { relation viewer: user }\n\
                relationships: |\n  doc:a#viewer@user:tom\n\
                assertions:\n  assertFalse: ['doc:a#viewer@user:tom']\n";
    fs::write(case.join("wrong.yaml"), yaml).unwrap();
    let expected = "resources doc:a\nsubjects user:tom user:ann\ndoc:a#viewer | allowed user:ann\n";
    fs::write(case.join("wrong.expected"), expected).unwrap();
    let tally = judge_folder(&case);
    fs::remove_dir_all(&case).unwrap();
    assert_eq!((tally.assertions, tally.questions), (1, 2));
    assert_eq!(tally.differing.len(), 3, "{:?}", tally.differing);
}
