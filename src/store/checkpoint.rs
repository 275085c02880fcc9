//! Checkpoint files: states that were written whole, so that a restart reads little of the log.
//!
//! Hides how a file becomes durable before the log names it: written aside, synced, renamed, its
//! directory synced, read again. The file is what the caller wrote and nothing else; its length
//! and digest stand in the log.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::codec::Kept;
use super::directory::{digest_file, files, sync_directory};
use crate::revision::Revision;

/// The name of the file for this revision.
pub(super) fn path(directory: &Path, revision: Revision) -> PathBuf {
    directory.join(format!("{:020}.checkpoint", revision.0))
}

/// Writes a file, durable and verified; its length and digest. Calls `rest` again and again, with
/// nothing left for the disk to do.
pub(super) fn write(
    directory: &Path,
    revision: Revision,
    content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    rest: &mut dyn FnMut(),
) -> Result<(u64, u128), StoreError> {
    fs::create_dir_all(directory).map_err(StoreError::io("creating", directory))?;
    let path = path(directory, revision);
    let aside = path.with_extension("writing");
    let written = write_synced(&aside, content, rest).map_err(StoreError::io("writing", &aside))?;
    fs::rename(&aside, &path).map_err(StoreError::io("renaming to", &path))?;
    sync_directory(directory)?;
    let found = digest_file(&path)?;
    match found == written {
        true => Ok(found),
        false => Err(damaged(path, "what was written is not what is read")),
    }
}

/// Writes through a digest, so that what the disk returns is compared with what was meant.
fn write_synced(
    path: &Path,
    content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    rest: &mut dyn FnMut(),
) -> io::Result<(u64, u128)> {
    let mut writer = Digesting {
        file: BufWriter::with_capacity(1 << 16, File::create(path)?),
        hash: xxhash_rust::xxh3::Xxh3::new(),
        length: 0,
        synced: 0,
        rest,
    };
    content(&mut writer)?;
    writer.flush()?;
    writer.file.get_ref().sync_all()?;
    Ok((writer.length, writer.hash.digest128()))
}

/// So much is written before it is synced: a log's own sync that comes along waits for it.
const UNSYNCED: u64 = 256 << 10;

struct Digesting<'a> {
    file: BufWriter<File>,
    hash: xxhash_rust::xxh3::Xxh3,
    length: u64,
    synced: u64,
    rest: &'a mut dyn FnMut(),
}

impl Write for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(UNSYNCED - (self.length - self.synced)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        if self.length - self.synced >= UNSYNCED {
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            self.synced = self.length;
            (self.rest)();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether the file of `kept` is what the log says.
pub(super) fn verify(directory: &Path, kept: &Kept) -> Result<(), StoreError> {
    let path = path(directory, kept.position.revision);
    match digest_file(&path) {
        Ok(found) if found == (kept.length, kept.digest) => Ok(()),
        Ok((length, _)) if length != kept.length => {
            let problem = format!("it has {length} bytes instead of {}", kept.length);
            Err(damaged(path, &problem))
        }
        Ok(_) => Err(damaged(
            path,
            "its digest is not the one that the log names",
        )),
        Err(error) => Err(damaged(path, &error.to_string())),
    }
}

/// The digest of the newest file by name; zero where there is none.
pub(super) fn newest_digest(directory: &Path) -> Result<u128, StoreError> {
    if !directory.is_dir() {
        return Ok(0);
    }
    match files(directory)?.last() {
        Some(newest) => Ok(digest_file(&directory.join(newest))?.1),
        None => Ok(0),
    }
}

/// Opens the file of `kept`.
pub(super) fn read(directory: &Path, kept: &Kept) -> Result<Box<dyn Read + Send>, StoreError> {
    let path = path(directory, kept.position.revision);
    let file = File::open(&path).map_err(StoreError::io("opening", &path))?;
    Ok(Box::new(BufReader::with_capacity(1 << 18, file)))
}

/// Removes the files that the log does not name.
pub(super) fn sweep(directory: &Path, named: &[Kept]) -> Result<(), StoreError> {
    let name = |kept: &Kept| path(directory, kept.position.revision);
    let named: HashSet<_> = named.iter().map(name).collect();
    let failed = || StoreError::io("sweeping", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if !named.contains(&path) {
            fs::remove_file(&path).map_err(StoreError::io("removing", &path))?;
        }
    }
    Ok(())
}

fn damaged(path: PathBuf, problem: &str) -> StoreError {
    StoreError::CheckpointDamaged {
        path,
        problem: problem.to_owned(),
    }
}
