//! The records of one sled database.
//!
//! Hides sled: keys, pieces, its panics, and how its writes are made durable. Keys are a byte
//! for the kind, the revision and, for commits, the number of the piece, all big-endian. Values
//! over about 128 KB would go to files of their own that nothing syncs, so that a record is cut
//! into pieces of at most 8 KB, all in one batch.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use ::sled::{self, Batch, Db, IVec};

use crate::revision::Revision;
use crate::state::Commit;
use crate::store::codec::{self, Entry, Kept, Writer};
use crate::store::directory::sync_directory;
use crate::store::{Position, StoreError};

const PIECE: usize = 8 << 10;
const CACHE_BYTES: u64 = 32 << 20;
/// So many records are removed at a time: sled writes nothing else meanwhile.
const TRIMMED: u64 = 256;

const CHECKPOINT: u8 = b'c';
const GENESIS: u8 = b'g';
const COMMIT: u8 = b'r';
const START: u8 = b's';

/// A sled database that is open.
pub(super) struct Log {
    /// What errors call it.
    name: PathBuf,
    /// `None` once it was closed.
    db: Option<Db>,
    /// A descriptor of our own of sled's file: its flush does not reach the disk.
    file: File,
}

/// What is to be written at once.
#[derive(Default)]
pub(super) struct Changes(Batch);

impl Changes {
    /// Adds the record of a commit.
    pub(super) fn commit(&mut self, revision: Revision, record: &[u8]) {
        for (piece, bytes) in (0_u32..).zip(record.chunks(PIECE)) {
            let mut key = key(COMMIT, revision);
            key.extend(piece.to_be_bytes());
            self.0.insert(key, bytes);
        }
    }

    /// Adds an entry beside the chain; a genesis too.
    pub(super) fn aside(&mut self, writer: Writer, entry: &Entry) -> Position {
        let (record, position) = codec::encode(0, writer, entry);
        let kind = match entry {
            Entry::Genesis { .. } => GENESIS,
            Entry::Commit(_) => COMMIT,
            Entry::Checkpoint(_) => CHECKPOINT,
            Entry::Start(_) => START,
        };
        self.0.insert(key(kind, position.revision), record);
        position
    }

    /// Removes what names a checkpoint.
    pub(super) fn forget(&mut self, kept: &Kept) {
        self.0.remove(key(CHECKPOINT, kept.position.revision));
    }

    /// Removes what said that the log starts here.
    pub(super) fn restart(&mut self, start: Position) {
        self.0.remove(key(START, start.revision));
    }
}

impl Log {
    /// Opens or makes it. sled's recovery cuts off whatever it can't read: only for a log that is
    /// known to be whole, or for a copy. Errors call it `name`.
    pub(super) fn open(path: &Path, name: &Path) -> Result<Self, StoreError> {
        let file = path.join("db");
        if let Ok(file) = File::open(&file) {
            // What an ended process wrote and nobody synced is about to be built upon.
            file.sync_data().map_err(StoreError::io("syncing", path))?;
        }
        let db = patiently(|| {
            let config = sled::Config::new()
                .path(path)
                .flush_every_ms(None)
                .cache_capacity(CACHE_BYTES)
                .mode(sled::Mode::HighThroughput);
            guarded(name, "opening", || config.open())
        })?;
        let file = File::open(&file).map_err(StoreError::io("opening", &file))?;
        let log = Self {
            name: name.to_owned(),
            db: Some(db),
            file,
        };
        log.sync()?;
        let config = path.join("conf");
        let synced = File::open(&config).and_then(|file| file.sync_all());
        synced.map_err(StoreError::io("syncing", &config))?;
        sync_directory(path)?;
        Ok(log)
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Writes the changes, all or none, and makes them durable.
    pub(super) fn write(&self, changes: Changes) -> Result<(), StoreError> {
        let db = self.db()?;
        guarded(&self.name, "writing", || db.apply_batch(changes.0))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), StoreError> {
        let db = self.db()?;
        guarded(&self.name, "flushing", || db.flush())?;
        (self.file.sync_data()).map_err(StoreError::io("syncing", &self.name))
    }

    /// Removes the commits up to this one, and says where the log starts now. Calls `rest` again and
    /// again, so that others can write in between.
    pub(super) fn trim(
        &self,
        writer: Writer,
        old: Position,
        new: Position,
        rest: &mut dyn FnMut(),
    ) -> Result<(), StoreError> {
        // The new start is durable before anything is gone: what is left of the removed is not
        // looked at, and removed by the next trim.
        let mut changes = Changes::default();
        changes.restart(old);
        changes.aside(writer, &Entry::Start(new));
        self.write(changes)?;
        let db = self.db()?;
        let mut old = Batch::default();
        let mut count = 0;
        for item in self.scan(key(COMMIT, Revision(0))..key(COMMIT, new.revision.next()))? {
            old.remove(item?.0);
            count += 1;
            if count % TRIMMED == 0 {
                let batch = std::mem::take(&mut old);
                guarded(&self.name, "trimming", || db.apply_batch(batch))?;
                rest();
            }
        }
        guarded(&self.name, "trimming", || db.apply_batch(old))?;
        self.sync()
    }

    /// The first record; `None` in an empty database.
    pub(super) fn genesis(&self) -> Result<Option<(Entry, Position)>, StoreError> {
        let records = self.aside(GENESIS)?;
        Ok(records.into_iter().next())
    }

    /// Where the kept commits begin: the position before the first of them.
    pub(super) fn start(&self) -> Result<Option<Position>, StoreError> {
        let newest = self.aside(START)?.pop();
        match newest {
            Some((Entry::Start(position), _)) => Ok(Some(position)),
            _ => Ok(self.genesis()?.map(|(_, position)| position)),
        }
    }

    /// The checkpoints that the log names, the oldest first.
    pub(super) fn checkpoints(&self) -> Result<Vec<Kept>, StoreError> {
        let kept = self.aside(CHECKPOINT)?.into_iter();
        Ok(kept
            .filter_map(|(entry, _)| match entry {
                Entry::Checkpoint(kept) => Some(kept),
                _ => None,
            })
            .collect())
    }

    fn aside(&self, kind: u8) -> Result<Vec<(Entry, Position)>, StoreError> {
        let mut found = Vec::new();
        for item in self.scan(vec![kind]..vec![kind + 1])? {
            let (key, record) = item?;
            let record = codec::decode(revision_of(&key), &record)?;
            found.push((record.entry, record.position));
        }
        Ok(found)
    }

    /// The position after the last commit, as its record gives it; `None` where there is none.
    pub(super) fn last(&self) -> Result<Option<Position>, StoreError> {
        let db = self.db()?;
        let range = vec![COMMIT]..vec![COMMIT + 1];
        let last = guarded(&self.name, "reading", || {
            db.range(range).next_back().transpose()
        })?;
        let Some((key, _)) = last else {
            return Ok(None);
        };
        self.position(revision_of(&key)).map(Some)
    }

    /// The position after this commit.
    pub(super) fn position(&self, revision: Revision) -> Result<Position, StoreError> {
        match self.records(revision)?.next().transpose()? {
            Some((found, record)) if found == revision => {
                Ok(codec::decode(revision, &record)?.position)
            }
            _ => Err(missing(revision)),
        }
    }

    /// At most `limit` commits after `after`; none at the end.
    pub(super) fn read(
        &self,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<(Commit, Position)>, StoreError> {
        let Some(first) = self.records(after.next())?.next() else {
            return Ok(Vec::new());
        };
        let (_, first) = first?;
        let before = Position {
            revision: after,
            chain: codec::previous(&first).ok_or_else(|| missing(after.next()))?,
        };
        self.commits(before)?.take(limit).collect()
    }

    /// The commits after `before`, each continuing the one before it.
    pub(super) fn commits(
        &self,
        mut before: Position,
    ) -> Result<impl Iterator<Item = Result<(Commit, Position), StoreError>> + use<>, StoreError>
    {
        let records = self.records(before.revision.next())?;
        Ok(records.map(move |item| {
            let (revision, record) = item?;
            if revision != before.revision.next() {
                return Err(missing(before.revision.next()));
            }
            let (commit, position) = codec::decode_next(before, &record)?;
            before = position;
            Ok((commit, position))
        }))
    }

    fn records(&self, from: Revision) -> Result<Records, StoreError> {
        let pieces = self.scan(key(COMMIT, from)..vec![COMMIT + 1])?;
        Ok(Records(pieces.peekable()))
    }

    fn scan(&self, range: Range<Vec<u8>>) -> Result<Scan, StoreError> {
        let db = self.db()?;
        Ok(Scan {
            name: self.name.clone(),
            items: db.range(range),
        })
    }

    fn db(&self) -> Result<&Db, StoreError> {
        self.db.as_ref().ok_or(StoreError::Stopped("it was closed"))
    }

    /// Lets go of the files, so that they stay as they are.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        let synced = self.sync();
        let db = self.db.take();
        guarded(&self.name, "closing", || {
            drop(db);
            Ok(())
        })?;
        synced
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let db = self.db.take();
        // What sled still has to say at its end, it said before.
        let _ = guarded(&self.name, "closing", || {
            drop(db);
            Ok(())
        });
    }
}

/// Pairs of key and value; a panic of sled's is an error.
struct Scan {
    name: PathBuf,
    items: sled::Iter,
}

impl Iterator for Scan {
    type Item = Result<(IVec, IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { name, items } = self;
        guarded(name, "reading", || items.next().transpose()).transpose()
    }
}

/// Records of commits, put together from their pieces.
struct Records(Peekable<Scan>);

impl Iterator for Records {
    type Item = Result<(Revision, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, first) = match self.0.next()? {
            Ok(item) => item,
            Err(error) => return Some(Err(error)),
        };
        let revision = revision_of(&key);
        let mut record = first.to_vec();
        let same = |item: &<Scan as Iterator>::Item| {
            item.as_ref()
                .map_or(true, |(key, _)| revision_of(key) == revision)
        };
        while let Some(item) = self.0.next_if(same) {
            match item {
                Ok((_, piece)) => record.extend_from_slice(&piece),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok((revision, record)))
    }
}

fn missing(revision: Revision) -> StoreError {
    StoreError::RecordDamaged {
        revision,
        problem: "it is missing".to_owned(),
    }
}

fn key(kind: u8, revision: Revision) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(revision.0.to_be_bytes());
    key
}

/// What [`key`] put into a key; of a key that it did not make, a revision that no record has.
fn revision_of(key: &[u8]) -> Revision {
    let bytes = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    Revision(bytes.map_or(u64::MAX, u64::from_be_bytes))
}

/// sled lets go of its lock a moment after its last handle is dropped.
fn patiently<T>(mut open: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match open() {
            Err(StoreError::Sled { problem, .. })
                if problem.contains("could not acquire lock") && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls sled. Its panics, with which it answers damage, become errors that name the log.
fn guarded<T>(
    name: &Path,
    doing: &'static str,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StoreError> {
    quieten();
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(before);
    let problem = match result {
        Ok(Ok(value)) => return Ok(value),
        // A full disk is no damage.
        Ok(Err(sled::Error::Io(source))) if is_refusal(&source) => {
            // sled hands on a copy, which has the first one's debug form for its text.
            let source = match source.raw_os_error() {
                Some(_) => source,
                None => source.kind().into(),
            };
            return Err(StoreError::io(doing, name)(source));
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked")
            .to_owned(),
    };
    Err(StoreError::Sled {
        path: name.to_owned(),
        doing,
        problem: problem.lines().next().unwrap_or_default().to_owned(),
    })
}

/// Whether the operating system refused, which says nothing against what lies on the disk.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let refused = matches!(
        error.kind(),
        FileTooLarge | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
    );
    refused || error.raw_os_error().is_some()
}

/// A panic that becomes an error is told once, by that error.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                told(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: io::Error) -> String {
        let result = guarded(Path::new("log"), "writing", || {
            Err::<(), _>(sled::Error::Io(error))
        });
        result.map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_full_disk_is_not_called_damage() {
        let copied = io::Error::new(io::ErrorKind::StorageFull, "Os { code: 28 }");
        for full in [io::Error::from_raw_os_error(28), copied] {
            let said = said(full);
            assert!(
                said.to_lowercase().starts_with("writing log: no ") && !said.contains("damaged"),
                "{said}"
            );
        }
        assert!(said(io::Error::other("bad checksum")).contains("damaged"));
    }
}
