//! The log on disk: the [`Store`] trait, and what stands behind it.
//!
//! Nothing above this module knows what is below it: how a commit becomes bytes, where these lie,
//! and what makes them durable. Calls block; the writer has a thread of its own for them.

pub mod checkpoint;
pub mod codec;
mod directory;
pub mod head;
pub mod memory;
pub mod sled;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::revision::{Epoch, Revision};
use crate::state::Commit;
use crate::time::Timestamp;

pub use self::memory::MemoryStore;
pub use self::sled::SledStore;

/// A place in one history: the number of a commit, and the hash of all records up to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// The number of the commit; 0 before the first.
    pub revision: Revision,
    /// 64 bits of the hash of (the chain before, the record).
    pub chain: u64,
}

/// What a store holds when it is opened.
pub struct Loaded {
    /// Names the history.
    pub epoch: Epoch,
    /// Goes into dependency keys; kept with the epoch.
    pub seed: u64,
    /// The store was made just now: there was neither a log nor a HEAD. Only then may a template
    /// be loaded into it.
    pub fresh: bool,
    /// The newest whole checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// What comes after the checkpoint, in order.
    pub commits: Commits,
    /// Where the log ends: of the last of `commits`, or of the checkpoint where there is none.
    pub position: Position,
    /// The longest lease that any run before this one granted.
    pub longest_lease: Duration,
}

/// Commits in order, read as they are taken. An error says that the log is not whole: nothing of
/// what was loaded may be served then.
pub type Commits = Box<dyn Iterator<Item = Result<(Commit, Position), StoreError>> + Send>;

/// A state that was written whole.
pub struct Checkpoint {
    /// The last commit that it holds.
    pub position: Position,
    /// The time of that commit.
    pub time: Timestamp,
    /// What [`Store::checkpoint`]'s `write` wrote.
    pub reader: Box<dyn Read + Send>,
}

/// What became of a batch.
#[derive(Debug)]
#[must_use]
pub enum Appended {
    /// It is durable; the position of each commit, in order.
    Durable(Vec<Position>),
    /// Nothing was written: the log ends here, not where the caller thought.
    Conflict(Position),
    /// It may have been written or not, whole (never in part); the store takes no more.
    Unknown(StoreError),
    /// Nothing was written.
    NotWritten(StoreError),
}

/// One durable, ordered log of commits, and checkpoints beside it.
pub trait Store: Send + Sync + 'static {
    /// What is there: to be called once, before the first append.
    ///
    /// # Errors
    /// What is wrong with the log; its files are left as they were found.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Appends a batch behind `after`, all of it or nothing, with one sync. The commits are
    /// numbered on from `after`.
    fn append(&self, after: Position, batch: &[Commit]) -> Appended;

    /// At most `limit` commits after `after`; none at the end of the log.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] where the first of them is no longer kept.
    fn read(&self, after: Revision, limit: usize) -> Result<Vec<(Commit, Position)>, StoreError>;

    /// The place of this revision, which [`Store::read`] can start after.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] where it is no longer kept, [`StoreError::NotYet`] above the end.
    fn position(&self, revision: Revision) -> Result<Position, StoreError>;

    /// The smallest revision that [`Store::read`] can start after.
    fn oldest(&self) -> Result<Revision, StoreError>;

    /// The newest position, confirmed with the log.
    ///
    /// # Errors
    /// Where it can't be: after a failed append what the log holds is not known.
    fn head(&self) -> Result<Position, StoreError>;

    /// Keeps the state at `position` (whose commit has `time`) whole, as `write` writes it.
    /// Verified when this returns; the one before it stays too.
    fn checkpoint(
        &self,
        position: Position,
        time: Timestamp,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError>;

    /// Lets go of the commits up to this one, but of none that the newest verified checkpoint
    /// does not hold.
    fn trim(&self, up_to: Revision) -> Result<(), StoreError>;

    /// Remembers, across restarts, that a lease this long was granted; durable when it returns.
    fn note_lease(&self, longest: Duration) -> Result<(), StoreError>;

    /// Syncs what is left and marks a clean end. Appends after it are not written.
    fn close(&self) -> Result<(), StoreError>;
}

/// What went wrong with a store. Cloned to each caller that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// The path is that of something else.
    #[error("{} is not a directory; name another with --data", .0.display())]
    NotADirectory(PathBuf),
    /// Nothing can be written there.
    #[error("the data directory {} is not writable ({source}); give this user write permission, or name another with --data", path.display())]
    NotWritable {
        /// The data directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another process has it open.
    #[error("the data directory {} is open in another process{}; stop that one, or name another directory with --data", directory.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// The process that holds it, where it could be read.
        pid: Option<u32>,
    },
    /// There is a log, but not the file that says how far it must reach.
    #[error("{} is missing beside a log, so that nobody can tell whether the log is whole; put it back from where it went, or restore a backup into an empty directory", .0.display())]
    HeadMissing(PathBuf),
    /// Neither slot of HEAD is whole.
    #[error("{} is damaged ({problem}), so that nobody can tell whether the log is whole; restore a backup into an empty directory", path.display())]
    HeadDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// HEAD is there, but no log.
    #[error("the log {} is missing, but revision {head} was acknowledged; put it back from where it went, or restore a backup into an empty directory", path.display())]
    LogMissing {
        /// Where it should be.
        path: PathBuf,
        /// The revision that HEAD names.
        head: Revision,
    },
    /// The log ends before what was acknowledged.
    #[error("the log {} ends at revision {ends}, but revision {head} was acknowledged: its end is damaged or cut off; restore a backup into an empty directory", path.display())]
    LogShort {
        /// The log.
        path: PathBuf,
        /// The last revision that is there.
        ends: Revision,
        /// The revision that HEAD names.
        head: Revision,
    },
    /// The log and HEAD are of different histories.
    #[error("the log {} and HEAD beside it are of different histories (at revision {at}); put back the two that belong together, or restore a backup into an empty directory", path.display())]
    ForeignLog {
        /// The log.
        path: PathBuf,
        /// Where they differ.
        at: Revision,
    },
    /// A record can't be what was written.
    #[error(
        "the record of revision {revision} is damaged: {problem}; restore a backup into an empty directory"
    )]
    RecordDamaged {
        /// Which one.
        revision: Revision,
        /// What is wrong with it.
        problem: String,
    },
    /// A record is of a newer format.
    #[error(
        "the record of revision {revision} needs a newer reader: format {needs}, this program reads up to {reads}; start the newer program again"
    )]
    NewerReader {
        /// Which one.
        revision: Revision,
        /// The oldest reader that understands it.
        needs: u32,
        /// What this program reads.
        reads: u32,
    },
    /// The record does not continue the one before it.
    #[error(
        "the record of revision {0} does not continue the one before it: the log was changed or mixed with another; restore a backup into an empty directory"
    )]
    ChainBroken(Revision),
    /// No checkpoint that the log can be read on from is whole.
    #[error("the checkpoint {} is damaged: {problem}, and the log before it is no longer kept; restore a backup into an empty directory", path.display())]
    CheckpointDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// sled refused, or stopped by a panic.
    #[error("the log {} is damaged or can't be used: while {doing}, sled said: {problem}; if the disk is sound, restore a backup into an empty directory", path.display())]
    Sled {
        /// The log.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        problem: String,
    },
    /// These commits are no longer kept.
    #[error(
        "commits after revision {after} are no longer kept; the oldest to read after is {oldest}"
    )]
    Trimmed {
        /// What was asked for.
        after: Revision,
        /// What could be asked for.
        oldest: Revision,
    },
    /// There is no such commit yet.
    #[error("revision {asked} is above the end of the log, {end}")]
    NotYet {
        /// What was asked for.
        asked: Revision,
        /// Where the log ends.
        end: Revision,
    },
    /// The caller numbered its commits wrongly.
    #[error("revision {found} was to be appended, where {expected} is next")]
    Misnumbered {
        /// What is next.
        expected: Revision,
        /// What came.
        found: Revision,
    },
    /// An earlier append failed, or the store was closed.
    #[error("the store takes no more writes, since {0}; restart to write again")]
    Stopped(&'static str),
    /// A fault that a test planned.
    #[error("injected fault: {0}")]
    Injected(&'static str),
}

impl StoreError {
    /// Wraps what the operating system said about `path`; for use in `map_err`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// Refuses a batch that is not numbered on from `after`.
fn numbered(after: Position, batch: &[Commit]) -> Result<(), StoreError> {
    let mut expected = after.revision;
    for commit in batch {
        expected = expected.next();
        if commit.revision != expected {
            return Err(StoreError::Misnumbered {
                expected,
                found: commit.revision,
            });
        }
    }
    Ok(())
}
