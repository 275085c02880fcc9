//! What an engine counts.

use std::sync::Arc;

use crate::commit;
use crate::counter::Counter;
use crate::eval::{Answer, CheckError, Decision};
use crate::plan::Written;

use super::EngineError;

/// Since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Questions that were allowed.
    pub allowed: Counter,
    /// Questions that were denied.
    pub denied: Counter,
    /// Questions whose answer lacks parameters.
    pub conditional: Counter,
    /// Questions that have no answer.
    pub unanswered: Counter,
    /// Writes that were done, or had nothing to do.
    pub written: Counter,
    /// Writes that were refused.
    pub refused: Counter,
    /// Writes that something else became of.
    pub failed: Counter,
    /// What the writer counts.
    pub writer: Arc<commit::Counts>,
}

impl Counts {
    /// One addition: this is on the way of every question.
    pub(super) fn question(&self, answer: &Result<Answer, CheckError>) {
        let counter = match answer.as_ref().map(|answer| answer.decision) {
            Ok(Decision::Allowed) => &self.allowed,
            Ok(Decision::Denied) => &self.denied,
            Ok(Decision::Conditional) => &self.conditional,
            Err(_) => &self.unanswered,
        };
        counter.add();
    }

    pub(super) fn write(&self, outcome: &Result<Written, EngineError>) {
        let counter = match outcome {
            Ok(_) => &self.written,
            Err(EngineError::Refused(_)) => &self.refused,
            Err(_) => &self.failed,
        };
        counter.add();
    }
}
