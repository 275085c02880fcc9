//! A store in memory, with faults that can be injected: for tests, and for `--memory`.
//!
//! Hides nothing but a list of records: it goes through the same bytes as a disk would, so that
//! what it gives back has been encoded and decoded.

use std::collections::VecDeque;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::codec::{self, Entry, Writer};
use super::{Appended, Checkpoint, Commits, Loaded, Position, Store, StoreError, numbered};
use crate::revision::{Epoch, Revision};
use crate::state::Commit;
use crate::time::Timestamp;

const FAILED: &str = "an append failed";

/// What happens to an append instead of what should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It goes well: for a fault that is to hit a later append.
    None,
    /// It fails before anything is written: `NotWritten`.
    NotWritten,
    /// It is written, but the answer is lost: `Unknown`.
    WrittenUnknown,
    /// The write is torn, so that nothing of it is found afterwards: `Unknown`.
    Torn,
    /// It waits this long, then goes well.
    Stall(Duration),
}

/// Says what goes wrong from now on; shared with the store and all that are opened from it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    appends: VecDeque<Fault>,
    load_fails: bool,
    checkpoint_fails: bool,
}

impl Faults {
    /// The appends from the next on meet these, one each, in order.
    pub fn appends(&self, faults: impl IntoIterator<Item = Fault>) {
        locked(&self.0).appends.extend(faults);
    }

    /// Whether `load` and `read` fail.
    pub fn fail_load(&self, fails: bool) {
        locked(&self.0).load_fails = fails;
    }

    /// Whether `checkpoint` fails.
    pub fn fail_checkpoint(&self, fails: bool) {
        locked(&self.0).checkpoint_fails = fails;
    }

    fn next_append(&self) -> Fault {
        locked(&self.0).appends.pop_front().unwrap_or(Fault::None)
    }

    fn read(&self) -> Result<(), StoreError> {
        match locked(&self.0).load_fails {
            true => Err(StoreError::Injected("reading fails")),
            false => Ok(()),
        }
    }
}

/// A log in memory. What is opened by [`MemoryStore::reopen`] has the same one.
#[derive(Debug)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    faults: Faults,
    incarnation: u64,
    fresh: bool,
    stopped: Mutex<Option<&'static str>>,
}

#[derive(Debug)]
struct Disk {
    epoch: Epoch,
    seed: u64,
    /// Where the kept records begin: the position before the first.
    start: Position,
    /// Each with the position after it.
    records: VecDeque<(Vec<u8>, Position)>,
    checkpoint: Option<Saved>,
    longest_lease: Duration,
    sequence: u64,
}

#[derive(Clone, Debug)]
struct Saved {
    position: Position,
    time: Timestamp,
    bytes: Vec<u8>,
}

impl Disk {
    fn end(&self) -> Position {
        self.records
            .back()
            .map_or(self.start, |(_, position)| *position)
    }

    /// The records after `after`, and the position before the first of them.
    fn after(&self, after: Revision) -> Result<(Position, usize), StoreError> {
        let skipped = after.0.checked_sub(self.start.revision.0);
        let skipped = skipped.ok_or(StoreError::Trimmed {
            after,
            oldest: self.start.revision,
        })?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.records.len());
        let before = skipped
            .checked_sub(1)
            .and_then(|last| self.records.get(last));
        Ok((
            before.map_or(self.start, |(_, position)| *position),
            skipped,
        ))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Epoch(random() >> 40 | 0x80_0000), random())
    }
}

impl MemoryStore {
    /// An empty store of this epoch and seed.
    pub fn new(epoch: Epoch, seed: u64) -> Self {
        let incarnation = random();
        let writer = Writer {
            incarnation,
            sequence: 0,
        };
        let (_, start) = codec::encode(0, writer, &Entry::Genesis { epoch, seed });
        let disk = Disk {
            epoch,
            seed,
            start,
            records: VecDeque::new(),
            checkpoint: None,
            longest_lease: Duration::ZERO,
            sequence: 1,
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            faults: Faults::default(),
            incarnation,
            fresh: true,
            stopped: Mutex::new(None),
        }
    }

    /// The handle by which a test makes this store, and all opened from it, fail.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Opens the same log again, as after a restart of the process.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            faults: self.faults.clone(),
            incarnation: random(),
            fresh: false,
            stopped: Mutex::new(None),
        }
    }

    fn write(&self, after: Position, batch: &[Commit]) -> Vec<Position> {
        let mut disk = locked(&self.disk);
        let mut position = after;
        let mut positions = Vec::with_capacity(batch.len());
        for commit in batch {
            let writer = Writer {
                incarnation: self.incarnation,
                sequence: disk.sequence,
            };
            let (bytes, next) = codec::encode_commit(position.chain, writer, commit);
            disk.sequence += 1;
            disk.records.push_back((bytes, next));
            positions.push(next);
            position = next;
        }
        positions
    }

    fn stop(&self, why: &'static str) {
        *locked(&self.stopped) = Some(why);
    }

    fn unknown(&self, fault: &'static str) -> Appended {
        self.stop(FAILED);
        Appended::Unknown(StoreError::Injected(fault))
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        self.faults.read()?;
        let disk = locked(&self.disk);
        let saved = disk.checkpoint.clone();
        let from = saved
            .as_ref()
            .map_or(Revision(0), |saved| saved.position.revision);
        let (before, skipped) = disk.after(from)?;
        let records: Vec<_> = disk.records.range(skipped..).cloned().collect();
        Ok(Loaded {
            epoch: disk.epoch,
            seed: disk.seed,
            fresh: self.fresh,
            checkpoint: saved.map(|saved| Checkpoint {
                position: saved.position,
                time: saved.time,
                reader: Box::new(Cursor::new(saved.bytes)),
            }),
            commits: decoded(before, records),
            position: disk.end(),
            longest_lease: disk.longest_lease,
        })
    }

    fn append(&self, after: Position, batch: &[Commit]) -> Appended {
        if let Some(why) = *locked(&self.stopped) {
            return Appended::NotWritten(StoreError::Stopped(why));
        }
        let fault = self.faults.next_append();
        if let Fault::Stall(time) = fault {
            std::thread::sleep(time);
        }
        let end = locked(&self.disk).end();
        if end != after {
            return Appended::Conflict(end);
        }
        if let Err(error) = numbered(after, batch) {
            return Appended::NotWritten(error);
        }
        match fault {
            Fault::None | Fault::Stall(_) => Appended::Durable(self.write(after, batch)),
            Fault::NotWritten => {
                self.stop(FAILED);
                Appended::NotWritten(StoreError::Injected("nothing was written"))
            }
            Fault::WrittenUnknown => {
                self.write(after, batch);
                self.unknown("the answer was lost")
            }
            Fault::Torn => self.unknown("the write was torn"),
        }
    }

    fn read(&self, after: Revision, limit: usize) -> Result<Vec<(Commit, Position)>, StoreError> {
        self.faults.read()?;
        let disk = locked(&self.disk);
        let (before, skipped) = disk.after(after)?;
        let records = disk.records.range(skipped..).take(limit).cloned().collect();
        drop(disk);
        decoded(before, records).collect()
    }

    fn position(&self, revision: Revision) -> Result<Position, StoreError> {
        self.faults.read()?;
        let (position, _) = locked(&self.disk).after(revision)?;
        match position.revision == revision {
            true => Ok(position),
            false => Err(StoreError::NotYet {
                asked: revision,
                end: position.revision,
            }),
        }
    }

    fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(locked(&self.disk).start.revision)
    }

    fn head(&self) -> Result<Position, StoreError> {
        self.faults.read()?;
        match *locked(&self.stopped) {
            Some(FAILED) => Err(StoreError::Stopped(FAILED)),
            _ => Ok(locked(&self.disk).end()),
        }
    }

    fn checkpoint(
        &self,
        position: Position,
        time: Timestamp,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let failed = StoreError::Injected("the checkpoint fails");
        if locked(&self.faults.0).checkpoint_fails {
            return Err(failed);
        }
        let mut bytes = Vec::new();
        write(&mut bytes).map_err(|_| failed)?;
        locked(&self.disk).checkpoint = Some(Saved {
            position,
            time,
            bytes,
        });
        Ok(())
    }

    fn trim(&self, up_to: Revision) -> Result<(), StoreError> {
        let mut disk = locked(&self.disk);
        let Some(saved) = &disk.checkpoint else {
            return Ok(());
        };
        let up_to = up_to.min(saved.position.revision);
        while let Some((_, position)) = disk.records.front() {
            if position.revision > up_to {
                break;
            }
            disk.start = *position;
            disk.records.pop_front();
        }
        Ok(())
    }

    fn note_lease(&self, longest: Duration) -> Result<(), StoreError> {
        let mut disk = locked(&self.disk);
        disk.longest_lease = disk.longest_lease.max(longest);
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.stop("it was closed");
        Ok(())
    }
}

fn decoded(mut before: Position, records: Vec<(Vec<u8>, Position)>) -> Commits {
    Box::new(records.into_iter().map(move |(bytes, _)| {
        let (commit, position) = codec::decode_next(before, &bytes)?;
        before = position;
        Ok((commit, position))
    }))
}

/// A test that panicked elsewhere must not hide what it found behind a poisoned lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> u64 {
    // Without an operating system's randomness the process's own still differs from run to run.
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()) << 32 | 0x9e37_79b9)
}
