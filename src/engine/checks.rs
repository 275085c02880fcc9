//! Checks, one by one and in batches.
//!
//! Hides where a check is evaluated: as long as it takes little, where it is asked.

use std::sync::Arc;
use std::time::Instant;

use crate::eval::{self, Answer, CheckError, Facts, Question};
use crate::revision::{Consistency, Token};
use crate::state::State;
use crate::time::Timestamp;

use super::{Engine, EngineError};

/// Tuple reads that a check may take with other requests of its connection waiting: a tenth of a
/// millisecond; and with other tasks of its thread waiting: a millisecond.
const FEW_READS: u64 = 1_000;
const SOME_READS: u64 = 10_000;
/// After so many questions a batch lets others have the thread, and looks at the deadline.
const AT_ONCE: usize = 64;

/// Questions that are answered from one state and at one instant.
pub struct Batch<'a> {
    engine: &'a Engine,
    state: Arc<State>,
    now: Timestamp,
    deadline: Option<Instant>,
    since_pause: usize,
}

impl Engine {
    /// Answers one question. The token is that of the state that answered.
    ///
    /// # Errors
    /// See [`EngineError`]; never because the answer is no.
    pub async fn check(
        &self,
        question: &Question<'_>,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<(Answer, Token), EngineError> {
        let state = self.state_at(at, deadline).await?;
        let (facts, now) = (Facts::of(&state).ok_or(EngineError::NoSchema)?, self.now());
        let check = |limits: &eval::Limits| eval::check(facts, question, now, limits);
        let answer = self.evaluate(check, deadline).await?;
        self.inner.counts.question(&answer);
        Ok((answer.map_err(EngineError::Check)?, state.token()))
    }

    /// Begins a batch of so many questions.
    ///
    /// # Errors
    /// Where no question can be answered.
    pub async fn batch(
        &self,
        size: usize,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<Batch<'_>, EngineError> {
        if size > self.inner.batch_items {
            return Err(EngineError::TooLarge {
                what: "items",
                size,
                limit: self.inner.batch_items,
            });
        }
        let state = self.state_at(at, deadline).await?;
        Facts::of(&state).ok_or(EngineError::NoSchema)?;
        Ok(Batch {
            engine: self,
            now: self.now(),
            state,
            deadline,
            since_pause: 0,
        })
    }

    /// Answers all questions from one state and at one instant, in their order.
    ///
    /// # Errors
    /// Where no question can be answered; one that has no answer fails alone.
    pub async fn batch_check(
        &self,
        questions: &[Question<'_>],
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<(Vec<Result<Answer, CheckError>>, Token), EngineError> {
        let mut batch = self.batch(questions.len(), at, deadline).await?;
        let mut answers = Vec::with_capacity(questions.len());
        for questions in questions.chunks(AT_ONCE) {
            answers.extend(batch.check_all(questions).await?);
        }
        Ok((answers, batch.token()))
    }

    /// Evaluates where it is called, as long as that doesn't keep others from the thread. What is
    /// not answered soon yields first, so that the requests that came with it need not wait.
    async fn evaluate(
        &self,
        check: impl Fn(&eval::Limits) -> Result<Answer, CheckError>,
        deadline: Option<Instant>,
    ) -> Result<Result<Answer, CheckError>, EngineError> {
        let whole = self.inner.checks;
        for reads in [FEW_READS, SOME_READS] {
            let limits = self.at_most(reads);
            match check(&limits) {
                Err(CheckError::TooComplex { .. }) if limits != whole => {}
                answer => return Ok(answer),
            }
            tokio::task::yield_now().await;
        }
        self.at_length(deadline, || check(&whole)).await
    }

    /// The limits of what may be done where others wait for the thread.
    pub(super) fn short_checks(&self) -> eval::Limits {
        self.at_most(SOME_READS)
    }

    fn at_most(&self, reads: u64) -> eval::Limits {
        let whole = self.inner.checks;
        eval::Limits {
            work: whole.work.min(reads),
            ..whole
        }
    }
}

impl Batch<'_> {
    /// Answers the next few questions, side by side as far as they wait for memory; one that has no
    /// answer fails alone.
    ///
    /// # Errors
    /// Where no further question can be answered in time.
    pub async fn check_all(
        &mut self,
        questions: &[Question<'_>],
    ) -> Result<Vec<Result<Answer, CheckError>>, EngineError> {
        self.pause(questions.len()).await?;
        let facts = Facts::of(&self.state).ok_or(EngineError::NoSchema)?;
        let (now, engine) = (self.now, self.engine);
        let mut answers = Vec::with_capacity(questions.len());
        for prepared in eval::prepare(facts, questions) {
            let answer = match prepared {
                Ok(prepared) => {
                    let check = |limits: &_| eval::check_prepared(facts, &prepared, now, limits);
                    engine.evaluate(check, self.deadline).await?
                }
                Err(error) => Err(error),
            };
            engine.inner.counts.question(&answer);
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Before so many further questions.
    async fn pause(&mut self, next: usize) -> Result<(), EngineError> {
        if self.since_pause > 0 && self.since_pause + next > AT_ONCE {
            self.since_pause = 0;
            tokio::task::yield_now().await;
        }
        self.since_pause += next;
        match self.deadline.is_some_and(|end| end <= Instant::now()) {
            true => Err(EngineError::DeadlineExceeded { outcome: None }),
            false => Ok(()),
        }
    }

    /// The state that answers.
    pub fn token(&self) -> Token {
        self.state.token()
    }
}
