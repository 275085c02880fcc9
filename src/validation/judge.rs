//! Compares what the evaluator answers with what a file expects.

use std::fmt;
use std::sync::Arc;

use super::{Expectation, ValidationFile};
use crate::eval::{Answer, CheckError, Decision};

/// What became of a file's expectations.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many checks were made.
    pub checks: usize,
    /// Those that answered otherwise, in the order of the file.
    pub failures: Vec<Failure>,
}

/// A check that did not answer what the file expects.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where the file expects it; from 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// The sentence that it stands for, where the file has one.
    pub says: Option<Arc<str>>,
    /// `resource#permission@subject`.
    pub question: String,
    /// What was expected.
    pub want: Decision,
    /// What was answered, or why there was no answer.
    pub have: Result<Decision, String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let want = word(self.want);
        write!(f, "{} is expected to be {want}, but ", self.question)?;
        match &self.have {
            Ok(have) => write!(f, "is {}", word(*have))?,
            Err(error) => write!(f, "has no answer: {error}")?,
        }
        self.says
            .as_ref()
            .map_or(Ok(()), |says| write!(f, " ({says})"))
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Denied => "denied",
        Decision::Conditional => "conditional",
        Decision::Allowed => "allowed",
    }
}

impl ValidationFile {
    /// Asks each question of `ask` and compares.
    pub fn judge(&self, ask: impl Fn(&Expectation) -> Result<Answer, CheckError>) -> Report {
        let failures = self.expectations.iter().filter_map(|expectation| {
            let have = ask(expectation).map(|answer| answer.decision);
            (have.as_ref() != Ok(&expectation.want)).then(|| failure(expectation, have))
        });
        Report {
            checks: self.expectations.len(),
            failures: failures.collect(),
        }
    }
}

fn failure(expectation: &Expectation, have: Result<Decision, CheckError>) -> Failure {
    let Expectation {
        resource,
        permission,
        subject,
        context,
        ..
    } = expectation;
    let mut question = format!("{resource}#{permission}@{subject}");
    if !context.is_empty() {
        let json = serde_json::to_string(&**context).unwrap_or_default();
        question = format!("{question} with {json}");
    }
    Failure {
        line: expectation.line,
        column: expectation.column,
        says: expectation.says.clone(),
        question,
        want: expectation.want,
        have: have.map_err(|error| error.to_string()),
    }
}
