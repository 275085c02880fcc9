//! New schemas: judged on a published state before the writer gets them. What a refused one would
//! orphan is counted in the tuples themselves, and nobody else shall wait for that.

use std::time::Instant;

use crate::plan::{Command, Judged, Written};

use super::{Engine, EngineError};

impl Engine {
    /// Writes a schema. The writer judges it once more, by the counts that it keeps.
    pub(super) async fn write_schema(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Written, EngineError> {
        let state = self.newest();
        match self.judged(&state, &command, self.now()).await? {
            Judged::Done(answer) if command.options.dry_run => Ok(answer),
            _ => self.submit(command, deadline).await,
        }
    }
}
