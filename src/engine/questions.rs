//! Questions beside the check: all permissions at once, and why.

use std::time::Instant;

use crate::eval::{self, CheckError, Explanation, Facts, PermissionEntry, Question};
use crate::revision::{Consistency, Token};

use super::{Engine, EngineError};

impl Engine {
    /// Answers for every relation and permission of the resource's type, sorted, from one state
    /// and at one instant; the permission that `question` names is not looked at.
    ///
    /// # Errors
    /// Where none can be answered; one that has no answer fails alone.
    pub async fn list_permissions(
        &self,
        question: &Question<'_>,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<(Vec<PermissionEntry>, Token), EngineError> {
        let state = self.state_at(at, deadline).await?;
        let facts = eval::Facts::of(&state).ok_or(EngineError::NoSchema)?;
        let now = self.now();
        let list = |limits: &eval::Limits| eval::list_permissions(facts, question, now, limits);
        let mut entries = list(&self.short_checks());
        if entries.as_ref().is_ok_and(|entries| too_short(entries)) {
            let whole = self.inner.checks;
            entries = self.at_length(deadline, || list(&whole)).await?;
        }
        Ok((entries.map_err(EngineError::Check)?, state.token()))
    }

    /// Answers one question and says why.
    ///
    /// # Errors
    /// See [`EngineError`]; never because the answer is no.
    pub async fn explain(
        &self,
        question: &Question<'_>,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<(Explanation, Token), EngineError> {
        let state = self.state_at(at, deadline).await?;
        let facts = Facts::of(&state).ok_or(EngineError::NoSchema)?;
        let (now, limits) = (self.now(), self.inner.checks);
        let explain = || eval::explain(facts, question, now, &limits);
        let explained = self.at_length(deadline, explain).await?;
        Ok((explained.map_err(EngineError::Check)?, state.token()))
    }
}

fn too_short(entries: &[PermissionEntry]) -> bool {
    let stopped =
        |entry: &PermissionEntry| matches!(entry.outcome, Err(CheckError::TooComplex { .. }));
    entries.iter().any(stopped)
}
