//! Each template's golden file: what its document says, asked of its demo world.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use portcullis::eval::{Decision, Question};
use portcullis::templates;
use portcullis::time::Timestamp;
use portcullis::tuple::{Context, ObjectRef, SubjectRef};
use portcullis::validation::{Expectation, Outcome, Story, World};

const NOW: &str = "2026-06-01T12:00:00Z";

#[test]
fn every_golden_file_holds() {
    let now: Timestamp = NOW.parse().unwrap();
    for template in templates::ALL {
        let golden = template.golden().unwrap();
        let world = World::of(&golden).unwrap_or_else(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}:\n{}", template.name, lines.join("\n"))
        });
        let report = golden.judge(&world, now);
        let wrong: Vec<String> = (report.failures.iter())
            .map(|failure| format!("{}: {failure}", failure.line))
            .collect();
        let checks = report.checks;
        assert!(
            wrong.is_empty(),
            "{}: of {checks} checks\n{}",
            template.name,
            wrong.join("\n")
        );
        assert!(checks > 200, "{}: {checks} checks only", template.name);
    }
}

/// Every cell can fail: turned around it does, on its own line.
#[test]
fn every_expectation_can_fail() {
    let now: Timestamp = NOW.parse().unwrap();
    for template in templates::ALL {
        let mut golden = template.golden().unwrap();
        let world = World::of(&golden).unwrap();
        golden.stories.clear();
        golden.expectations.iter_mut().for_each(turn_around);
        let report = golden.judge(&world, now);
        assert_eq!(report.failures.len(), report.checks, "{}", template.name);
        for (failure, expectation) in report.failures.iter().zip(&golden.expectations) {
            assert_eq!(failure.line, expectation.line);
        }
    }
}

/// The same of each write and each check in the stories, one after another.
#[test]
fn every_step_of_a_story_can_fail() {
    let now: Timestamp = NOW.parse().unwrap();
    for template in templates::ALL {
        let golden = template.golden().unwrap();
        let world = World::of(&golden).unwrap();
        for story in &golden.stories {
            for (line, wrong) in wrong_versions(story) {
                let mut file = golden.clone();
                file.expectations.clear();
                file.stories = vec![wrong];
                let report = file.judge(&world, now);
                let found = report.failures.iter().any(|failure| failure.line == line);
                assert!(found, "{}: line {line} can't fail", template.name);
            }
        }
    }
}

fn turn_around(expectation: &mut Expectation) {
    expectation.want = match expectation.want {
        Decision::Allowed => Decision::Denied,
        Decision::Denied | Decision::Conditional => Decision::Allowed,
    };
    expectation.locked = false;
}

/// The story with one thing in it expected otherwise, and the line of that: each once.
fn wrong_versions(story: &Story) -> Vec<(u32, Story)> {
    let mut versions = Vec::new();
    for at in 0..story.steps.len() {
        if let Some(attempt) = &story.steps[at].write {
            for wrong in wrong_outcomes(&attempt.want) {
                let mut version = story.clone();
                version.steps[at].write.as_mut().unwrap().want = wrong;
                versions.push((attempt.line, version));
            }
        }
        for check in 0..story.steps[at].checks.len() {
            let mut version = story.clone();
            turn_around(&mut version.steps[at].checks[check]);
            versions.push((story.steps[at].checks[check].line, version));
        }
    }
    versions
}

fn wrong_outcomes(want: &Outcome) -> Vec<Outcome> {
    let reasons = ["ACTOR_NOT_ALLOWED", "MINIMUM_VIOLATED"].map(|r| Outcome::Refused(r.into()));
    let others = reasons.into_iter().chain([Outcome::Done]);
    others.filter(|other| other != want).collect()
}

/// Permissions that only keep other lines of a schema short: no document speaks of them.
const HELPERS: &[&str] = &[
    "administer",
    "assign_groups",
    "itself",
    "merge_sandboxes",
    "own",
    "oversee",
    "strays",
    "take_addons",
];

/// Each permission of the schema is spoken of, so that a new one can't go unproven.
#[test]
fn the_golden_file_asks_about_every_relation_that_grants() {
    for template in templates::ALL {
        let golden = template.golden().unwrap();
        let asked: std::collections::BTreeSet<(&str, &str)> = (golden.expectations.iter())
            .map(|expectation| (expectation.resource.kind(), &*expectation.permission))
            .collect();
        let world = World::of(&golden).unwrap();
        for kind in &world.schema().types {
            for member in &kind.members {
                let member = world.schema().member(*member);
                let proven = asked.contains(&(&*kind.name, &*member.name));
                let exempt = member.relation().is_some() || HELPERS.contains(&&*member.name);
                assert!(
                    proven || exempt,
                    "{}#{} is in no expectation",
                    kind.name,
                    member.name
                );
            }
        }
    }
}

#[test]
fn the_question_to_begin_with_is_allowed() {
    for template in templates::ALL {
        let golden = template.golden().unwrap();
        let world = World::of(&golden).unwrap();
        let [subject, permission, resource] = template.question;
        let context = Context::new();
        let question = Question {
            subject: SubjectRef::parse(subject).unwrap(),
            permission,
            resource: ObjectRef::parse(resource).unwrap(),
            context: &context,
            contextual: &[],
            with_dependencies: false,
        };
        let answer = world.answer(&question, NOW.parse().unwrap()).unwrap();
        assert_eq!(answer.decision, Decision::Allowed, "{}", template.name);
    }
}

/// Clauses that say who may write and what locks and roles reach. With any of them left out, some
/// line of the golden file has to fail: so each is proven, and not only there.
const CLAUSES: &[&str] = &[
    "min ",
    "granted by ",
    "revoked by ",
    "requires ",
    "capped",
    "inherits ",
    "except ",
];

/// Clauses that change no answer as the schema stands: what they keep is kept by another line too.
const SAID_TWICE: &[(&str, &str)] = &[
    // A frozen application's permissions are what its environments' are made of.
    ("groups-and-locks", "inherits application"),
];

#[test]
fn every_rule_of_a_schema_is_proven() {
    let now: Timestamp = NOW.parse().unwrap();
    let mut tried = 0;
    for template in templates::ALL {
        let golden = template.golden().unwrap();
        for (line, schema) in with_a_clause_less(template.schema) {
            let text = template.schema.lines().nth(line - 1).unwrap();
            let twice = |(name, part): &(&str, &str)| *name == template.name && text.contains(part);
            if SAID_TWICE.iter().any(twice) {
                continue;
            }
            let mut file = golden.clone();
            file.schema = schema;
            // What does not compile, or does not take the demo, fails as well.
            let Ok(world) = World::of(&file) else {
                continue;
            };
            tried += 1;
            let report = file.judge(&world, now);
            assert!(
                !report.failures.is_empty(),
                "{}: line {line} of the schema has a clause that nothing proves",
                template.name
            );
        }
    }
    assert!(tried > 50, "only {tried} schemas were tried");
}

/// The schema with one clause less, each once, and the line of that.
fn with_a_clause_less(schema: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = schema.lines().collect();
    let mut versions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.trim_start().starts_with(['/', '*']) {
            continue;
        }
        let code = line.split("//").next().unwrap();
        for clause in CLAUSES {
            let Some(begin) = code.find(clause) else {
                continue;
            };
            let behind = begin + clause.len();
            let next = CLAUSES
                .iter()
                .filter_map(|other| code[behind..].find(other));
            let end = next.min().map_or(code.len(), |next| behind + next);
            let shorter = format!("{}{}", &code[..begin], &code[end..]);
            let mut version: Vec<&str> = lines.clone();
            version[at] = &shorter;
            versions.push((at + 1, version.join("\n")));
        }
    }
    versions
}
