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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use portcullis::eval::{
    Decision, Facts, Limits, Question, ResourceList, ResourcesQuestion, Row, Step, SubjectList,
    SubjectsQuestion,
};
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
    lists: usize,
    differing: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.assertions += other.assertions;
        self.questions += other.questions;
        self.lists += other.lists;
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
        let expected = Expected::parse(&text);
        ask_all(&name, &world, &expected, now, &mut tally);
        list_resources(&name, &world, &expected, now, &mut tally);
        list_subjects(&name, &world, &expected, now, &mut tally);
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

/// The facts read as lists: the resources of every subject.
fn list_resources(
    name: &str,
    world: &World,
    expected: &Expected,
    now: Timestamp,
    tally: &mut Tally,
) {
    let context = Context::new();
    let (schema, limits) = (world.schema(), Limits::default());
    for subject in &expected.subjects {
        for kind in &schema.types {
            for member in &kind.members {
                let permission = &*schema.member(*member).name;
                let question = ResourcesQuestion {
                    subject: SubjectRef::parse(subject).unwrap(),
                    permission,
                    kind: &kind.name,
                    context: &context,
                    within: None,
                };
                let list = ResourceList::new(
                    Facts::of(world.state()).unwrap(),
                    question,
                    now,
                    &limits,
                    None,
                );
                let mut list = list.unwrap();
                let have = rows(|| list.step().unwrap());
                let have: BTreeMap<_, _> = (have.into_iter())
                    .map(|row| (row.item, row.decision))
                    .filter(|(item, _)| expected.resources.contains(item))
                    .collect();
                let of_kind =
                    |name: &&String| ObjectRef::parse(name).unwrap().kind() == &*kind.name;
                let want = (expected.resources.iter().filter(of_kind))
                    .filter_map(|resource| {
                        let key = (format!("{resource}#{permission}"), subject.clone());
                        Some((resource.clone(), *expected.decisions.get(&key)?))
                    })
                    .collect::<BTreeMap<_, _>>();
                tally.lists += 1;
                if have != want {
                    let line = format!(
                        "{name}: {subject} {permission} {}: {have:?}, not {want:?}",
                        kind.name
                    );
                    tally.differing.push(line);
                }
            }
        }
    }
}

/// The facts read as lists: the subjects of every resource, by type and relation.
fn list_subjects(
    name: &str,
    world: &World,
    expected: &Expected,
    now: Timestamp,
    tally: &mut Tally,
) {
    let context = Context::new();
    let (schema, limits) = (world.schema(), Limits::default());
    let forms: BTreeSet<(String, Option<String>)> = (expected.subjects.iter())
        .map(|subject| SubjectRef::parse(subject).unwrap())
        .map(|subject| {
            (
                subject.kind().to_owned(),
                subject.relation().map(str::to_owned),
            )
        })
        .collect();
    for resource in &expected.resources {
        let resource = ObjectRef::parse(resource).unwrap();
        let kind = schema.type_named(resource.kind()).unwrap();
        for member in &kind.members {
            let permission = &*schema.member(*member).name;
            for (kind, relation) in &forms {
                let question = SubjectsQuestion {
                    resource,
                    permission,
                    kind,
                    relation: relation.as_deref(),
                    context: &context,
                };
                let list = SubjectList::new(
                    Facts::of(world.state()).unwrap(),
                    question,
                    now,
                    &limits,
                    None,
                );
                let mut list = list.unwrap();
                let listed = rows(|| list.step().unwrap());
                let said = |item: &str| {
                    let row = listed.iter().find(|row| row.item == item);
                    row.map(|row| row.decision)
                };
                let (all, except) = (
                    said(&format!("{kind}:*")),
                    listed
                        .iter()
                        .flat_map(|row| &row.except)
                        .collect::<Vec<_>>(),
                );
                let of_form = |subject: &&String| {
                    let subject = SubjectRef::parse(subject).unwrap();
                    (subject.kind(), subject.relation()) == (kind, relation.as_deref())
                };
                tally.lists += 1;
                for subject in expected.subjects.iter().filter(of_form) {
                    let key = (format!("{resource}#{permission}"), subject.clone());
                    let want = expected.decisions.get(&key).copied();
                    let have = said(subject).or(all.filter(|_| !except.contains(&subject)));
                    // `type:*` asks whether all have it: with exceptions, not all do.
                    let wildcard = subject.ends_with(":*");
                    if have != want && !wildcard {
                        let line =
                            format!("{name}: {} lists {subject} {have:?}, not {want:?}", key.0);
                        tally.differing.push(line);
                    }
                }
            }
        }
    }
}

/// All rows of a list.
fn rows(mut step: impl FnMut() -> Step) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        match step() {
            Step::Row(row) => rows.push(row),
            Step::Nothing | Step::Busy => {}
            Step::End => return rows,
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
            "{part}: {} cases, {} assertions, {} questions, {} lists, {} differ",
            tally.cases,
            tally.assertions,
            tally.questions,
            tally.lists,
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
    assert_eq!((tally.assertions, tally.questions, tally.lists), (1, 2, 3));
    // The assertion, two questions, the lists of either subject, both of them in the third.
    assert_eq!(tally.differing.len(), 7, "{:?}", tally.differing);
}
