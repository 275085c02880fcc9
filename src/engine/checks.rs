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
    asked: usize,
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
        let facts = Facts::of(&state).ok_or(EngineError::NoSchema)?;
        let answer = self.evaluate(facts, question, self.now(), deadline).await?;
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
            asked: 0,
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
        for question in questions {
            answers.push(batch.check(question).await?);
        }
        Ok((answers, batch.token()))
    }

    /// Evaluates where it is called, as long as that doesn't keep others from the thread. What is
    /// not answered soon yields first, so that the requests that came with it need not wait.
    async fn evaluate(
        &self,
        facts: Facts<'_>,
        question: &Question<'_>,
        now: Timestamp,
        deadline: Option<Instant>,
    ) -> Result<Result<Answer, CheckError>, EngineError> {
        let whole = self.inner.checks;
        for reads in [FEW_READS, SOME_READS] {
            let limits = self.at_most(reads);
            match eval::check(facts, question, now, &limits) {
                Err(CheckError::TooComplex { .. }) if limits != whole => {}
                answer => return Ok(answer),
            }
            tokio::task::yield_now().await;
        }
        let work = || eval::check(facts, question, now, &whole);
        self.at_length(deadline, work).await
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
    /// Says what is asked next: what it is about is fetched from memory at once.
    pub fn look_ahead<'a>(&self, questions: impl Iterator<Item = &'a Question<'a>>) {
        if let Some(facts) = Facts::of(&self.state) {
            eval::look_ahead(facts, questions);
        }
    }

    /// Answers the next question; one that has no answer fails alone.
    ///
    /// # Errors
    /// Where no further question can be answered in time.
    pub async fn check(
        &mut self,
        question: &Question<'_>,
    ) -> Result<Result<Answer, CheckError>, EngineError> {
        if self.asked.is_multiple_of(AT_ONCE) {
            self.pause().await?;
        }
        self.asked += 1;
        let facts = Facts::of(&self.state).ok_or(EngineError::NoSchema)?;
        let engine = self.engine;
        let answer = (engine.evaluate(facts, question, self.now, self.deadline)).await?;
        engine.inner.counts.question(&answer);
        Ok(answer)
    }

    async fn pause(&self) -> Result<(), EngineError> {
        if self.asked > 0 {
            tokio::task::yield_now().await;
        }
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
