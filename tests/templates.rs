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
use portcullis::validation::World;

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
        assert!(checks > 300, "{}: {checks} checks only", template.name);
    }
}

/// Permissions that only keep other lines of a schema short: no document speaks of them.
const HELPERS: &[&str] = &[
    "administer",
    "assign_groups",
    "itself",
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
