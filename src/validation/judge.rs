//! Compares what the evaluator answers, and what becomes of writes, with what a file expects.

use std::fmt;
use std::sync::Arc;

use super::{Attempt, Expectation, NotWritten, Outcome, Story, ValidationFile, World};
use crate::api::status::refusal_reason;
use crate::eval::Decision;
use crate::time::Timestamp;

/// What became of a file's expectations.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many checks and writes were made.
    pub checks: usize,
    /// Those that came out otherwise, in the order of the file.
    pub failures: Vec<Failure>,
}

/// A check or a write that did not come out as the file expects.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where the file expects it; from 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// The sentence that it stands for, where the file has one.
    pub says: Option<Arc<str>>,
    /// `resource#permission@subject`, or who writes what.
    pub question: String,
    /// What was expected, as what follows "is expected to be".
    pub want: String,
    /// What came out, as what follows "but".
    pub have: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            question,
            want,
            have,
            ..
        } = self;
        write!(f, "{question} is expected to be {want}, but {have}")?;
        self.says
            .as_ref()
            .map_or(Ok(()), |says| write!(f, " ({says})"))
    }
}

fn word(decision: Decision, locked: bool) -> &'static str {
    match decision {
        Decision::Denied if locked => "locked",
        Decision::Denied => "denied",
        Decision::Conditional => "conditional",
        Decision::Allowed => "allowed",
    }
}

impl ValidationFile {
    /// Asks and writes on `world`, which is that of this file, and compares. The clock says `now`
    /// where the file does not say otherwise.
    pub fn judge(&self, world: &World, now: Timestamp) -> Report {
        let now = self.now.unwrap_or(now);
        let mut report = Report::default();
        for expectation in &self.expectations {
            report.ask(world, expectation, now);
        }
        for story in &self.stories {
            report.tell(world.clone(), story, now);
        }
        report
    }
}

impl Report {
    fn ask(&mut self, world: &World, expectation: &Expectation, now: Timestamp) {
        self.checks += 1;
        let have = match world.ask(expectation, now) {
            Ok(answer) => {
                let locked = !answer.locks.is_empty();
                let right = answer.decision == expectation.want;
                if right && (locked || !expectation.locked) {
                    return;
                }
                format!("is {}", word(answer.decision, locked))
            }
            Err(error) => format!("has no answer: {error}"),
        };
        self.failures.push(Failure {
            line: expectation.line,
            column: expectation.column,
            says: expectation.says.clone(),
            question: question(expectation),
            want: word(expectation.want, expectation.locked).to_owned(),
            have,
        });
    }

    /// Tells a story up to its first write that comes out otherwise.
    fn tell(&mut self, mut world: World, story: &Story, mut now: Timestamp) {
        for step in &story.steps {
            if !step.wait.is_zero() {
                now = now.plus(step.wait);
                world.expire(now);
            }
            if let Some(attempt) = &step.write
                && !self.write(&mut world, attempt, &story.says, now)
            {
                return;
            }
            for expectation in &step.checks {
                self.ask(&world, expectation, now);
            }
        }
    }

    /// Whether the write came out as expected.
    fn write(
        &mut self,
        world: &mut World,
        attempt: &Attempt,
        says: &Arc<str>,
        now: Timestamp,
    ) -> bool {
        self.checks += 1;
        let (have, told) = match world.write(&attempt.command, now) {
            Ok(_) => (Outcome::Done, "is done".to_owned()),
            Err(NotWritten::Refused(refusal)) => {
                let reason = refusal_reason(&refusal);
                let told = format!("is refused with {reason}: {refusal}");
                (Outcome::Refused(reason.into()), told)
            }
            Err(broken @ NotWritten::Broken(_)) => {
                (Outcome::Refused("".into()), broken.to_string())
            }
        };
        if have == attempt.want {
            return true;
        }
        self.failures.push(Failure {
            line: attempt.line,
            column: attempt.column,
            says: Some(says.clone()),
            question: attempt.told.to_string(),
            want: match &attempt.want {
                Outcome::Done => "done".to_owned(),
                Outcome::Refused(reason) => format!("refused with {reason}"),
            },
            have: told,
        });
        false
    }
}

fn question(expectation: &Expectation) -> String {
    let Expectation {
        resource,
        permission,
        subject,
        context,
        ..
    } = expectation;
    let question = format!("{resource}#{permission}@{subject}");
    if context.is_empty() {
        return question;
    }
    let json = serde_json::to_string(&**context).unwrap_or_default();
    format!("{question} with {json}")
}
