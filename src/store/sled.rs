//! The log on sled, with HEAD and the checkpoints beside it: the embedded default.
//!
//! Hides how a data directory is written and tidied; `open` hides how it is opened.

mod log;
mod open;
mod pace;

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::log::{Changes, Log};
use self::open::Opened;
use self::pace::Pace;
use super::codec::{Entry, Kept, Writer, encode_commit};
use super::directory::{self, Directory};
use super::head::{HeadFile, Phase};
use super::{Appended, Checkpoint, Loaded, Position, Store, StoreError, checkpoint, numbered};
use crate::revision::Revision;
use crate::state::Commit;
use crate::time::Timestamp;

const FAILED: &str = "an append failed";
const CLOSED: &str = "it was closed";

/// A data directory that is open. Close it: what is only dropped takes longer to open again.
pub struct SledStore {
    // Fields are let go in this order: the lock on the directory last.
    log: Mutex<Option<Arc<Log>>>,
    head: HeadFile,
    end: Mutex<End>,
    /// An append failed: what the log holds is no longer known.
    failed: AtomicBool,
    /// Held by who checkpoints or trims.
    tidying: Mutex<()>,
    incarnation: u64,
    sequence: AtomicU64,
    fresh: bool,
    longest_lease: Duration,
    directory: Directory,
}

/// Where the log ends, and why it may no longer grow.
struct End {
    position: Position,
    stopped: Option<&'static str>,
}

impl SledStore {
    /// Opens the data directory `path`, or makes it. Locks it until it is dropped.
    ///
    /// # Errors
    /// What is wrong with the directory, or with what lies in it; that is left as it was found.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let directory = Directory::open(path)?;
        let Opened {
            log,
            head,
            written,
            fresh,
            incarnation,
        } = Opened::new(&directory)?;
        let end = End {
            position: head.position,
            stopped: None,
        };
        let store = Self {
            log: Mutex::new(Some(Arc::new(log))),
            longest_lease: head.longest_lease,
            head: HeadFile::open(&directory.head(), head, written)?,
            end: Mutex::new(end),
            failed: AtomicBool::new(false),
            tidying: Mutex::new(()),
            incarnation,
            // The first went to the genesis.
            sequence: AtomicU64::new(1),
            fresh,
            directory,
        };
        store.directory.sync()?;
        Ok(store)
    }

    fn log(&self) -> Result<Arc<Log>, StoreError> {
        let log = locked(&self.log);
        log.clone().ok_or(StoreError::Stopped(CLOSED))
    }

    fn writer(&self) -> Writer {
        Writer {
            incarnation: self.incarnation,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn encode(&self, mut before: Position, batch: &[Commit]) -> (Changes, Vec<Position>) {
        let mut changes = Changes::default();
        let mut positions = Vec::with_capacity(batch.len());
        for commit in batch {
            let (record, position) = encode_commit(before.chain, self.writer(), commit);
            changes.commit(position.revision, &record);
            positions.push(position);
            before = position;
        }
        (changes, positions)
    }
}

impl Store for SledStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let log = self.log()?;
        let head = self.head.now();
        let start = open::start(&log)?;
        let kept = open::newest_whole(&log, &self.directory.checkpoints(), start)?;
        let checkpoint = kept.map(|kept| -> Result<_, StoreError> {
            Ok(Checkpoint {
                position: kept.position,
                time: kept.time,
                reader: checkpoint::read(&self.directory.checkpoints(), &kept)?,
            })
        });
        let after = kept.map_or(start, |kept| kept.position);
        Ok(Loaded {
            epoch: head.epoch,
            seed: head.seed,
            fresh: self.fresh,
            checkpoint: checkpoint.transpose()?,
            commits: Box::new(log.commits(after)?),
            position: head.position,
            longest_lease: self.longest_lease,
        })
    }

    fn append(&self, after: Position, batch: &[Commit]) -> Appended {
        let mut end = locked(&self.end);
        if let Some(why) = end.stopped {
            return Appended::NotWritten(StoreError::Stopped(why));
        }
        if end.position != after {
            return Appended::Conflict(end.position);
        }
        let log = match numbered(after, batch).and_then(|()| self.log()) {
            Ok(log) => log,
            Err(error) => return Appended::NotWritten(error),
        };
        let (changes, positions) = self.encode(after, batch);
        let Some(last) = positions.last().copied() else {
            return Appended::Durable(positions);
        };
        // Armed before the dangerous part: whatever ends it early, nothing is built upon it.
        end.stopped = Some(FAILED);
        let durable = log.write(changes);
        if let Err(error) = durable.and_then(|()| self.head.advance(last)) {
            self.failed.store(true, Ordering::Release);
            return Appended::Unknown(error);
        }
        end.stopped = None;
        end.position = last;
        Appended::Durable(positions)
    }

    fn read(&self, after: Revision, limit: usize) -> Result<Vec<(Commit, Position)>, StoreError> {
        let log = self.log()?;
        let oldest = open::start(&log)?.revision;
        if after < oldest {
            return Err(StoreError::Trimmed { after, oldest });
        }
        // What is being appended is not yet durable.
        let durable = self.head.now().position.revision;
        let left = durable.0.saturating_sub(after.0);
        let limit = limit.min(usize::try_from(left).unwrap_or(usize::MAX));
        match limit {
            0 => Ok(Vec::new()),
            _ => log.read(after, limit),
        }
    }

    fn position(&self, revision: Revision) -> Result<Position, StoreError> {
        let log = self.log()?;
        let start = open::start(&log)?;
        let end = self.head.now().position;
        if revision < start.revision {
            return Err(StoreError::Trimmed {
                after: revision,
                oldest: start.revision,
            });
        }
        if revision > end.revision {
            return Err(StoreError::NotYet {
                asked: revision,
                end: end.revision,
            });
        }
        match revision == start.revision {
            true => Ok(start),
            false => log.position(revision),
        }
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(open::start(&*self.log()?)?.revision)
    }

    fn head(&self) -> Result<Position, StoreError> {
        // Not `end`, which is held while an append syncs: readers don't wait for a write.
        match self.failed.load(Ordering::Acquire) {
            true => Err(StoreError::Stopped(FAILED)),
            false => Ok(self.head.now().position),
        }
    }

    fn checkpoint(
        &self,
        position: Position,
        time: Timestamp,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let _tidying = locked(&self.tidying);
        let log = self.log()?;
        let directory = self.directory.checkpoints();
        let mut named = log.checkpoints()?;
        if named.last().is_some_and(|last| last.position == position) {
            return Ok(());
        }
        let mut pace = Pace::new(&self.sequence);
        let mut rest = || pace.rest();
        let written = checkpoint::write(&directory, position.revision, write, &mut rest);
        let (length, digest) = written?;
        let kept = Kept {
            position,
            time,
            length,
            digest,
        };
        let mut changes = Changes::default();
        changes.aside(self.writer(), &Entry::Checkpoint(kept));
        let previous = named.pop();
        for old in &named {
            changes.forget(old);
        }
        log.write(changes)?;
        self.head.set(|head| head.checkpoint = digest)?;
        let named: Vec<_> = previous.into_iter().chain([kept]).collect();
        checkpoint::sweep(&directory, &named)
    }

    fn trim(&self, up_to: Revision) -> Result<(), StoreError> {
        let _tidying = locked(&self.tidying);
        let log = self.log()?;
        let start = open::start(&log)?;
        let Some(newest) = log.checkpoints()?.pop() else {
            return Ok(());
        };
        let up_to = up_to.min(newest.position.revision);
        if up_to <= start.revision {
            return Ok(());
        }
        let new = log.position(up_to)?;
        // HEAD must not be found to name what is gone.
        self.head.set(|_| {})?;
        let mut pace = Pace::new(&self.sequence);
        log.trim(self.writer(), start, new, &mut || pace.rest())
    }

    fn note_lease(&self, longest: Duration) -> Result<(), StoreError> {
        self.head
            .set(|head| head.longest_lease = head.longest_lease.max(longest))
    }

    fn close(&self) -> Result<(), StoreError> {
        let failed = locked(&self.end).stopped.replace(CLOSED).is_some();
        let _tidying = locked(&self.tidying);
        let Some(log) = locked(&self.log).take() else {
            return Ok(());
        };
        // While somebody still reads, sled stays open and its files are not at rest: then, as
        // after a failure, the next start proves the log anew.
        match Arc::try_unwrap(log) {
            Ok(log) if !failed => {
                log.close()?;
                let digest = directory::digest(&self.directory.log())?;
                self.head.end(Phase::Closed(digest))
            }
            _ => self.head.set(|_| {}),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
