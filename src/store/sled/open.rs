//! Opening a data directory: made, or found and shown to be whole.
//!
//! Hides when a copy is needed: sled's recovery cuts off and shreds what it can't read, so that a
//! log whose files are not just those of its last clean end is first tried on a copy (a reflink
//! where the file system has them). A directory that is refused stays as it was found.

use std::path::Path;

use super::log::{Changes, Log};
use crate::revision::{Epoch, Revision};
use crate::store::codec::{Entry, Kept, Writer};
use crate::store::directory::{self, Directory};
use crate::store::head::{Head, HeadFile, Phase};
use crate::store::{Position, StoreError, checkpoint};

/// What opening came to.
pub(super) struct Opened {
    pub(super) log: Log,
    /// What HEAD is to say from now on.
    pub(super) head: Head,
    /// How often HEAD was written.
    pub(super) written: u64,
    /// There was neither a log nor a HEAD.
    pub(super) fresh: bool,
    pub(super) incarnation: u64,
}

impl Opened {
    pub(super) fn new(directory: &Directory) -> Result<Self, StoreError> {
        directory::remove(&directory.proving())?;
        let found = Head::read(&directory.head())?;
        let incarnation = random()?;
        match found {
            Some((head, written)) if head.phase != Phase::Making => {
                let (log, position) = found_whole(directory, &head)?;
                let head = Head {
                    position,
                    phase: Phase::Open,
                    ..head
                };
                Ok(Self {
                    log,
                    head,
                    written,
                    fresh: false,
                    incarnation,
                })
            }
            None if directory::holds_files(&directory.log())?
                || directory::holds_files(&directory.checkpoints())? =>
            {
                Err(StoreError::HeadMissing(directory.head()))
            }
            _ => Self::made(directory, incarnation),
        }
    }

    /// HEAD says that the store is being made until its log is there: a crash in between leaves
    /// neither a log without HEAD nor HEAD without a log.
    fn made(directory: &Directory, incarnation: u64) -> Result<Self, StoreError> {
        let mut head = Head {
            epoch: Epoch(random()? >> 40 | 0x80_0000),
            seed: random()?,
            position: Position {
                revision: Revision(0),
                chain: 0,
            },
            longest_lease: std::time::Duration::ZERO,
            phase: Phase::Making,
            checkpoint: 0,
        };
        directory.begin(|path| HeadFile::open(path, head, 0).map(drop))?;
        directory::remove(&directory.log())?;
        let log = Log::open(&directory.log(), &directory.log())?;
        let genesis = Entry::Genesis {
            epoch: head.epoch,
            seed: head.seed,
        };
        let writer = Writer {
            incarnation,
            sequence: 0,
        };
        let mut changes = Changes::default();
        head.position = changes.aside(writer, &genesis);
        log.write(changes)?;
        directory.sync()?;
        head.phase = Phase::Open;
        Ok(Self {
            log,
            head,
            written: 2,
            fresh: true,
            incarnation,
        })
    }
}

/// Opens a log that must reach `head`; with where it ends.
fn found_whole(directory: &Directory, head: &Head) -> Result<(Log, Position), StoreError> {
    let path = directory.log();
    if !directory::holds_files(&path)? {
        return Err(StoreError::LogMissing {
            path,
            head: head.position.revision,
        });
    }
    let untouched = untouched(directory, head)?;
    if !untouched {
        prove(directory, head)?;
    }
    let log = Log::open(&path, &path)?;
    let (_, end) = examine(&log, head)?;
    Ok((log, end))
}

/// Whether the files are those that the last clean end left.
fn untouched(directory: &Directory, head: &Head) -> Result<bool, StoreError> {
    let Phase::Closed(digest) = head.phase else {
        return Ok(false);
    };
    Ok(digest == directory::digest(&directory.log())?
        && head.checkpoint == checkpoint::newest_digest(&directory.checkpoints())?)
}

/// Lets sled recover a copy of the log, and reads all of that.
fn prove(directory: &Directory, head: &Head) -> Result<(), StoreError> {
    let copy = directory.proving();
    let proved = directory::copy(&directory.log(), &copy)
        .and_then(|()| Log::open(&copy, &directory.log()))
        .and_then(|log| walk(&log, head, &directory.checkpoints()));
    directory::remove(&copy)?;
    proved
}

fn walk(log: &Log, head: &Head, checkpoints: &Path) -> Result<(), StoreError> {
    let (start, end) = examine(log, head)?;
    let mut last = start;
    for commit in log.commits(start)? {
        last = commit?.1;
    }
    if last != end {
        return Err(StoreError::ChainBroken(end.revision));
    }
    newest_whole(log, checkpoints, start).map(drop)
}

/// Where the log starts and ends, having found that it is the one that HEAD means and reaches it.
fn examine(log: &Log, head: &Head) -> Result<(Position, Position), StoreError> {
    let foreign = |at| StoreError::ForeignLog {
        path: log.name().to_owned(),
        at,
    };
    let genesis = Entry::Genesis {
        epoch: head.epoch,
        seed: head.seed,
    };
    let head = head.position;
    match log.genesis()? {
        Some((found, _)) if found == genesis => {}
        Some(_) => return Err(foreign(Revision(0))),
        None => return Err(short(log, Revision(0), head.revision)),
    }
    let start = start(log)?;
    let last = log.last()?.unwrap_or(start);
    // Between two steps of a trim, commits before the start may still be there.
    let end = if last.revision < start.revision {
        start
    } else {
        last
    };
    let kept = log.checkpoints()?.pop();
    let kept = kept.map_or(Revision(0), |kept| kept.position.revision);
    if end.revision < head.revision.max(kept) {
        return Err(short(log, end.revision, head.revision.max(kept)));
    }
    let there = match head.revision {
        at if at == end.revision => end,
        at if at == start.revision => start,
        at if at < start.revision => return Err(foreign(at)),
        at => log.position(at)?,
    };
    match there == head {
        true => Ok((start, end)),
        false => Err(foreign(head.revision)),
    }
}

fn short(log: &Log, ends: Revision, head: Revision) -> StoreError {
    StoreError::LogShort {
        path: log.name().to_owned(),
        ends,
        head,
    }
}

/// The position before the first commit that is kept.
pub(super) fn start(log: &Log) -> Result<Position, StoreError> {
    log.start()?
        .ok_or_else(|| short(log, Revision(0), Revision(0)))
}

/// The newest checkpoint that is whole and that the log, which begins at `start`, goes on from.
pub(super) fn newest_whole(
    log: &Log,
    directory: &Path,
    start: Position,
) -> Result<Option<Kept>, StoreError> {
    let mut refused = None;
    for kept in log.checkpoints()?.into_iter().rev() {
        if kept.position.revision < start.revision {
            break;
        }
        match checkpoint::verify(directory, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(error) => {
                tracing::warn!("{error}");
                refused.get_or_insert(error);
            }
        }
    }
    match (start.revision, refused) {
        (Revision(0), _) => Ok(None),
        (_, Some(refused)) => Err(refused),
        (at, None) => Err(StoreError::CheckpointDamaged {
            path: checkpoint::path(directory, at),
            problem: "the log does not name it".to_owned(),
        }),
    }
}

fn random() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| {
        let source = std::io::Error::other(error.to_string());
        StoreError::io("drawing random numbers from", Path::new("the system"))(source)
    })
}
