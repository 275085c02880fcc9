//! Why the engine can't be opened, or has no answer. No status codes: the services map these.

use crate::commit::{WriteError, WriteOutcome};
use crate::eval::CheckError;
use crate::plan::Refusal;
use crate::revision::{Epoch, Token};
use crate::schema::admit::NotAdmitted;
use crate::state::ApplyError;
use crate::store::StoreError;

/// Why an engine can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store can't be opened or read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The newest checkpoint is whole, but not one that this program reads.
    #[error("{0}; start the version of this program that wrote it")]
    Checkpoint(std::io::Error),
    /// A commit does not follow from those before it.
    #[error("the log can't be followed: {0}; start the version of this program that wrote it")]
    Log(#[from] ApplyError),
    /// The operating system gives no thread.
    #[error("no thread for the writer: {0}")]
    Thread(std::io::Error),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The write is refused; nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// The question has no answer.
    #[error("{0}")]
    Check(CheckError),
    /// The filter of a read names what the schema does not have.
    #[error("filter: {0}")]
    Filter(NotAdmitted),
    /// Something was asked before any schema was written.
    #[error("there is no schema yet; write one first")]
    NoSchema,
    /// The revision did not become visible within the deadline.
    #[error("revision {asked} is not visible here; the newest is {newest}")]
    RevisionAhead {
        /// What was asked for.
        asked: Token,
        /// What there is.
        newest: Token,
    },
    /// The state of that revision is no longer kept.
    #[error("revision {asked} is no longer kept; the newest is {newest}: start anew there")]
    RevisionTrimmed {
        /// What was asked for.
        asked: Token,
        /// What there is.
        newest: Token,
    },
    /// The revision counts in another history.
    #[error("revision {asked} is of another history; this one is {epoch}")]
    EpochMismatch {
        /// What was asked for.
        asked: Token,
        /// The epoch of this store.
        epoch: Epoch,
    },
    /// The cursor is of a process before this one, whose numbers for what it lists are gone.
    #[error("the cursor is of before a restart of the server; begin anew without it")]
    CursorOutlived,
    /// The cursor is none of this request's. `problem` completes "the cursor …".
    #[error("the cursor {problem}; begin without one")]
    MalformedCursor {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A stream is to be of a type that the schema does not have.
    #[error("resource_types[{index}]: {problem}")]
    WatchedType {
        /// Which one.
        index: usize,
        /// What is wrong.
        problem: NotAdmitted,
    },
    /// As many streams of changes are open as may be.
    #[error(
        "{limit} streams of changes are open, and more are not allowed (--max-watchers); try again later, or another server"
    )]
    TooManyWatchers {
        /// How many may be.
        limit: usize,
    },
    /// As many states are being sent whole as may be.
    #[error(
        "{limit} snapshots are being read, and more are not allowed (--max-snapshots); try again later"
    )]
    TooManySnapshots {
        /// How many may be.
        limit: usize,
    },
    /// As many answers are being streamed as may be.
    #[error(
        "{limit} lists, reads, exports and imports are open, and more are not allowed (--max-streams); try again later, or another server"
    )]
    TooManyStreams {
        /// How many may be.
        limit: usize,
    },
    /// More items than a request may have.
    #[error("{what} has {size} items, and at most {limit} are allowed")]
    TooLarge {
        /// The field of the request.
        what: &'static str,
        /// How many it has.
        size: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The store failed. After a write this process takes no more of them.
    #[error("the store failed: {problem}")]
    StoreFailed {
        /// What became of the write; `None` where none was asked for.
        outcome: Option<WriteOutcome>,
        /// What the store said.
        problem: String,
    },
    /// The deadline passed first.
    #[error("the deadline passed before the answer was there")]
    DeadlineExceeded {
        /// What became of the write; `None` where none was asked for.
        outcome: Option<WriteOutcome>,
    },
    /// A revoke by filter or the end of a role, which is done in parts, got no further. What it
    /// says was done stands.
    #[error("{revoked} tuples were revoked, up to revision {token}; then: {cause}")]
    RevokedInPart {
        /// How many are gone.
        revoked: u64,
        /// The commit of the last of them.
        token: Token,
        /// What stood against the next part.
        cause: Box<EngineError>,
    },
    /// A defect of this program. Nothing was changed.
    #[error("internal error: {0}")]
    Internal(String),
    /// The engine is closing. A write was not written.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl From<WriteError> for EngineError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => Self::Refused(refusal),
            WriteError::StoreFailed { outcome, problem } => Self::StoreFailed {
                outcome: Some(outcome),
                problem,
            },
            WriteError::DeadlineExceeded { outcome } => Self::DeadlineExceeded {
                outcome: Some(outcome),
            },
            WriteError::Internal(problem) => Self::Internal(problem),
            WriteError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::StoreFailed {
            outcome: None,
            problem: error.to_string(),
        }
    }
}
