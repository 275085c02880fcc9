//! How many answers are streamed at the same time.
//!
//! A stream that nobody reads costs what waits for its reader, which is little, for as long as its
//! connection lives, and perhaps a state that nobody else needs: so their number is bounded, and the
//! time for which a state is kept for a reader that has stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::{Engine, EngineError};

/// A place among the streams that may be open; it is free again when this is dropped.
#[derive(Debug)]
pub struct StreamTurn {
    patience: Duration,
    _permit: OwnedSemaphorePermit,
}

impl StreamTurn {
    /// For how long a state is kept for a stream of which nothing is read.
    pub fn patience(&self) -> Duration {
        self.patience
    }
}

impl Engine {
    /// A place for one more stream. Lists take theirs themselves.
    ///
    /// # Errors
    /// Where as many are open as may be.
    pub fn stream_turn(&self) -> Result<StreamTurn, EngineError> {
        let permit = Arc::clone(&self.inner.streams).try_acquire_owned();
        let permit = permit.map_err(|_| EngineError::TooManyStreams {
            limit: self.inner.most_streams,
        })?;
        Ok(StreamTurn {
            patience: self.inner.snapshot_patience,
            _permit: permit,
        })
    }
}
