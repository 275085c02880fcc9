//! The oracle proves itself: by hand-made cases, and by what a real SpiceDB said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod oracle;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oracle::model::{CAVEATS, Given, Level, World};
use oracle::{Asker, Verdict, reader};

const NOW: i64 = 1_785_000_000;

/// A schema, tuples, and questions `resource#name@subject` with what must be said.
struct Case {
    schema: &'static str,
    tuples: &'static [&'static str],
    expect: &'static [(&'static str, &'static str)],
}

fn verdict_of(case: &Case, question: &str) -> String {
    let (question, request) = question.split_once(" with ").unwrap_or((question, "{}"));
    let mut world = reader::schema(case.schema);
    world.tuples = case
        .tuples
        .iter()
        .map(|text| reader::tuple(&mut world, text))
        .collect();
    let request = reader::given(request);
    let asked = reader::tuple(&mut world, question);
    let all = Asker {
        world: &world,
        subject: asked.subject,
        request: &request,
        now: 1_000,
    };
    match all.solve().verdict(asked.resource, asked.relation) {
        Verdict::Exactly(value) if value.level == Level::Conditional => {
            format!("lacks {}", value.missing_names().join(" "))
        }
        Verdict::Exactly(value) => format!("{:?}", value.level).to_lowercase(),
        Verdict::Level(level) => format!("{level:?}").to_lowercase(),
        other => format!("{other:?}"),
    }
}

fn check(case: &Case) {
    for (question, expected) in case.expect {
        assert_eq!(
            verdict_of(case, question),
            *expected,
            "{question} in {}",
            case.schema
        );
    }
}

const CYCLES: Case = Case {
    schema: "definition user {}
        definition group { relation member: user | group#member }
        definition x {
            relation t: user relation u: x relation v: user relation w: x
            permission a = b + t
            permission b = a
            permission p = a & b
            permission win = t & v - u->win
            permission even = t - w->odd
            permission odd = t - w->even
        }",
    tuples: &[
        "group:a#member@group:b#member",
        "group:b#member@group:a#member",
        "group:b#member@user:bob",
        "x:1#t@user:bob",
        "x:1#v@user:bob",
        "x:1#u@x:1",
        "x:2#t@user:bob",
        "x:2#v@user:bob",
        "x:2#u@x:3",
        "x:4#t@user:bob",
        "x:4#w@x:4",
    ],
    expect: &[
        ("group:a#member@user:bob", "allowed"),
        ("group:a#member@user:amy", "denied"),
        ("group:a#member@group:a#member", "allowed"),
        ("group:a#member@group:unseen#member", "denied"),
        ("x:1#p@user:bob", "allowed"),
        ("x:1#p@user:amy", "denied"),
        ("x:1#win@user:bob", "NegationCycle"),
        ("x:1#win@user:amy", "denied"),
        ("x:2#win@user:bob", "allowed"),
        ("x:4#even@user:bob", "NegationCycle"),
    ],
};

const WILDCARDS: Case = Case {
    schema: "definition user {}
        definition group { relation member: user | user:* }
        definition doc {
            relation viewer: user | user:* | group#member
            relation banned: user | user:* | group#member
            relation lifted: user
            permission view = viewer - banned
            permission twice = viewer - (banned - lifted)
            permission own = self
            permission but = viewer - own
        }",
    tuples: &[
        "doc:1#viewer@user:*",
        "doc:1#banned@user:bob",
        "doc:1#lifted@user:bob",
        "doc:2#viewer@user:bob",
        "doc:3#viewer@user:*",
        "doc:4#viewer@group:all#member",
        "doc:4#banned@group:some#member",
        "group:all#member@user:*",
        "group:some#member@user:bob",
    ],
    expect: &[
        ("doc:1#view@user:amy", "allowed"),
        ("doc:1#view@user:bob", "denied"),
        ("doc:1#view@user:*", "denied"),
        ("doc:1#twice@user:bob", "allowed"),
        ("doc:1#twice@user:*", "denied"),
        ("doc:2#view@user:*", "denied"),
        ("doc:3#view@user:*", "allowed"),
        ("doc:4#view@user:*", "denied"),
        ("doc:4#view@user:amy", "allowed"),
        ("doc:4#viewer@group:all#member", "allowed"),
        ("doc:4#banned@group:all#member", "denied"),
        ("doc:3#viewer@group:all#member", "denied"),
        ("doc:3#own@doc:3", "allowed"),
        ("doc:3#own@doc:4", "denied"),
        ("doc:3#but@user:*", "allowed"),
    ],
};

const ARROWS: Case = Case {
    schema: "definition user {}
        definition other {}
        definition doc {
            relation parent: folder | folder#viewer | other
            relation viewer: user
            permission any = parent->view
            permission all = parent.all(view)
            permission see = viewer + any
        }
        definition folder {
            relation viewer: user | user with small | user with expiration
            relation holds: doc | doc#viewer
            permission view = viewer
            permission up = doc.parent<-see
        }",
    tuples: &[
        "doc:1#parent@folder:a",
        "doc:1#parent@folder:b#viewer",
        "doc:1#viewer@user:zoe",
        "doc:2#parent@folder:a",
        "doc:2#parent@folder:c",
        "doc:3#parent@other:o",
        "doc:4#parent@folder:a",
        "doc:4#parent@other:o",
        "folder:a#viewer@user:bob",
        "folder:b#viewer@user:bob",
        "folder:a#viewer@user:amy[small]",
        "folder:b#viewer@user:amy",
        "folder:a#viewer@user:old[expiration:1970-01-01T00:10:00Z]",
        "folder:b#viewer@user:new[expiration:1970-01-01T01:00:00Z]",
    ],
    expect: &[
        ("doc:1#any@user:bob", "allowed"),
        ("doc:1#all@user:bob", "allowed"),
        ("doc:1#all@user:amy", "lacks n"),
        ("doc:1#all@user:amy with {\"n\":1}", "allowed"),
        ("doc:1#all@user:amy with {\"n\":9}", "denied"),
        ("doc:1#any@user:amy", "allowed"),
        ("doc:2#any@user:bob", "allowed"),
        ("doc:2#all@user:bob", "denied"),
        ("doc:3#all@user:bob", "denied"),
        ("doc:4#all@user:bob", "denied"),
        ("doc:4#any@user:bob", "allowed"),
        ("doc:1#any@user:old", "denied"),
        ("doc:1#any@user:new", "allowed"),
        ("folder:a#up@user:zoe", "allowed"),
        ("folder:b#up@user:zoe", "allowed"),
        ("folder:c#up@user:zoe", "denied"),
        ("folder:a#up@user:new", "allowed"),
    ],
};

const MISSING: Case = Case {
    schema: "definition user {}
        definition doc {
            relation r: user with c_and | user with c_div | user with c_or | user with c_mix
            relation s: user with small
            relation t: user
            permission or = r + s
            permission and = r & s
            permission not = t - r
            permission top = t + r
        }",
    tuples: &[
        "doc:1#r@user:u[c_and]",
        "doc:1#s@user:u[small]",
        "doc:1#t@user:u",
        "doc:2#r@user:u[c_div]",
        "doc:2#t@user:u",
        "doc:3#r@user:u[c_or:{\"a\":1}]",
        "doc:3#s@user:u[small:{\"n\":9}]",
        "doc:4#r@user:u[c_mix]",
        "doc:5#r@user:u[c_and]",
    ],
    expect: &[
        ("doc:1#or@user:u", "lacks a b n"),
        ("doc:1#or@user:u with {\"n\":1}", "allowed"),
        ("doc:1#or@user:u with {\"n\":9}", "lacks a b"),
        ("doc:1#or@user:u with {\"b\":true}", "lacks a n"),
        ("doc:1#or@user:u with {\"b\":false}", "lacks n"),
        ("doc:1#and@user:u with {\"b\":false}", "denied"),
        ("doc:1#not@user:u", "lacks a b"),
        ("doc:1#top@user:u", "allowed"),
        ("doc:2#or@user:u with {\"a\":0}", "CaveatFailed"),
        ("doc:2#not@user:u with {\"a\":0}", "CaveatFailed"),
        ("doc:2#top@user:u with {\"a\":0}", "allowed"),
        ("doc:2#or@user:u with {\"a\":2}", "allowed"),
        ("doc:3#or@user:u with {\"a\":9}", "lacks b"),
        ("doc:3#or@user:u with {\"b\":false}", "allowed"),
        ("doc:3#or@user:u with {\"b\":true}", "denied"),
        ("doc:4#or@user:u with {\"a\":0}", "lacks b"),
        ("doc:4#or@user:u with {\"a\":0,\"b\":true}", "CaveatFailed"),
        ("doc:4#or@user:u with {\"a\":0,\"b\":false}", "denied"),
        ("doc:5#or@user:u with {\"a\":9,\"b\":true}", "allowed"),
    ],
};

#[test]
fn cycles_are_denied_and_negated_ones_are_errors() {
    check(&CYCLES);
}

#[test]
fn wildcards() {
    check(&WILDCARDS);
}

#[test]
fn arrows_of_all_kinds() {
    check(&ARROWS);
}

#[test]
fn what_is_missing() {
    check(&MISSING);
}

#[test]
fn a_printed_schema_reads_back() {
    for seed in 0..50 {
        let mut world = oracle::world::Dice::new(seed).world();
        // What is read is SpiceDB's files, which have no locks.
        world.types.iter_mut().for_each(|kind| kind.modes.clear());
        let text = world.schema_text();
        let mut again = reader::schema(&text);
        // Names are numbered as they come, which decides between `->` and `.any`.
        let plain = |text: String| {
            text.replace(".any(", "->")
                .replace(".all(", "/")
                .replace(')', "")
        };
        assert_eq!(plain(again.schema_text()), plain(text), "seed {seed}");
        for tuple in &world.tuples {
            let text = world.tuple_text(tuple);
            let read = reader::tuple(&mut again, &text);
            assert_eq!(again.tuple_text(&read), text, "seed {seed}");
        }
    }
}

#[derive(serde::Deserialize)]
struct File {
    schema: String,
    relationships: String,
}

/// Compares all facts of a folder; gives how many cases and facts there were.
fn compare(folder: &Path) -> (usize, usize) {
    let (mut cases, mut facts) = (0, 0);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for path in files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
    {
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
        let file: File = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let named = |line: &str| {
            let name = line.trim().strip_prefix("caveat ")?.split('(').next();
            name.map(str::to_owned)
        };
        let foreign = |name: String| CAVEATS.iter().all(|known| known.name != name);
        if file.schema.lines().filter_map(named).any(foreign) {
            continue; // its caveats are for the evaluator's own tests
        }
        cases += 1;
        facts += compare_case(path, &file, &expected);
    }
    (cases, facts)
}

fn compare_case(path: &Path, file: &File, expected: &str) -> usize {
    let mut world = reader::schema(&file.schema);
    for line in file
        .relationships
        .lines()
        .map(str::trim)
        .filter(|line| line.contains('@'))
    {
        let tuple = reader::tuple(&mut world, line);
        world.tuples.push(tuple);
    }
    let (mut resources, mut subjects) = (Vec::new(), Vec::new());
    let mut known: HashMap<(String, String), Level> = HashMap::new();
    for line in expected.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        match first {
            "resources" => resources = words.collect(),
            "subjects" => subjects = words.collect(),
            node => {
                let mut level = Level::Denied;
                for word in words {
                    match word {
                        "|" => {}
                        "allowed" => level = Level::Allowed,
                        "conditional" => level = Level::Conditional,
                        subject => {
                            known.insert((node.to_owned(), subject.to_owned()), level);
                        }
                    }
                }
            }
        }
    }
    ask_all(path, &mut world, &resources, &subjects, &known)
}

fn ask_all(
    path: &Path,
    world: &mut World,
    resources: &[&str],
    subjects: &[&str],
    known: &HashMap<(String, String), Level>,
) -> usize {
    let resources: Vec<_> = resources
        .iter()
        .map(|text| reader::object(world, text))
        .collect();
    let subjects: Vec<_> = subjects
        .iter()
        .map(|text| reader::subject(world, text))
        .collect();
    let request = Given::new();
    let mut facts = 0;
    for subject in subjects {
        let asker = Asker {
            world,
            subject,
            request: &request,
            now: NOW,
        };
        let solution = asker.solve();
        for resource in &resources {
            for name in world.members(resource.kind) {
                let node = format!("{}#{}", world.object_text(*resource), world.names[name]);
                let key = (node, world.subject_text(subject));
                let expected = known.get(&key).copied().unwrap_or(Level::Denied);
                let (low, high) = solution.of(*resource, name);
                assert_eq!(
                    (low.level, high.level),
                    (expected, expected),
                    "{key:?} of {}",
                    path.display()
                );
                facts += 1;
            }
        }
    }
    facts
}

#[test]
fn agrees_with_the_conformance_data() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let elsewhere = std::env::var_os("PORTCULLIS_CONFORMANCE").map(PathBuf::from);
    let mut total = 0;
    for folder in [&own].into_iter().chain(&elsewhere) {
        for kind in ["random", "cycles", "spicedb"] {
            let folder = folder.join(kind);
            if folder.is_dir() {
                let (cases, facts) = compare(&folder);
                println!("{}: {cases} cases, {facts} facts", folder.display());
                total += facts;
            }
        }
    }
    assert!(total > 0, "no conformance data found");
}
