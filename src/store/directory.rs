//! A data directory: where its parts lie, and that one process has it.
//!
//! ```text
//! LOCK          locked while it is open; the process id of who holds it
//! HEAD          how far the log must reach
//! log/          sled's own
//! checkpoints/  a file each
//! proving/      a copy of log/, while it is not known whether that can be opened
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::StoreError;

/// A data directory that no other process has open.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Makes it where it does not exist, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
            return Err(StoreError::NotADirectory(path.to_owned()));
        }
        let not_writable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotADirectory => StoreError::NotADirectory(path.to_owned()),
            _ => StoreError::NotWritable {
                path: path.to_owned(),
                source: Arc::new(source),
            },
        };
        if !path.exists() {
            fs::create_dir_all(path).map_err(not_writable)?;
            sync_parent(path);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(path.join("LOCK")).map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path, lock)),
            Err(TryLockError::Error(source)) => return Err(not_writable(source)),
        }
        let directory = Self {
            path: path.to_owned(),
            lock,
        };
        directory.name_owner().map_err(not_writable)?;
        Ok(directory)
    }

    fn name_owner(&self) -> io::Result<()> {
        self.lock.set_len(0)?;
        writeln!(&self.lock, "{}", std::process::id())
    }

    pub(super) fn head(&self) -> PathBuf {
        self.path.join("HEAD")
    }

    /// Has HEAD written aside, so that under its name it is there whole or not at all.
    pub(super) fn begin(
        &self,
        write: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (aside, head) = (self.path.join("HEAD.new"), self.head());
        write(&aside)?;
        fs::rename(&aside, &head).map_err(StoreError::io("renaming to", &head))?;
        self.sync()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    pub(super) fn proving(&self) -> PathBuf {
        self.path.join("proving")
    }

    /// Makes names in it durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_directory(&self.path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Only a courtesy to who looks: the lock ends with the descriptor.
        let _ = self.lock.set_len(0);
    }
}

/// Makes the directory's own name durable, where its parent lets us.
fn sync_parent(path: &Path) {
    let parent = std::path::absolute(path).ok();
    let parent = parent.as_deref().and_then(Path::parent);
    if let Some(Err(error)) = parent.map(sync_directory) {
        tracing::warn!("{error}; the new directory itself may not survive a loss of power");
    }
}

fn in_use(path: &Path, mut lock: File) -> StoreError {
    let mut owner = String::new();
    let read = lock.read_to_string(&mut owner);
    StoreError::InUse {
        directory: path.to_owned(),
        pid: read.ok().and_then(|_| owner.trim().parse().ok()),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(StoreError::io("syncing", path))
}

/// Whether there is any file below `directory`, which need not exist.
pub(super) fn holds_files(directory: &Path) -> Result<bool, StoreError> {
    Ok(directory.is_dir() && !files(directory)?.is_empty())
}

/// The files below `directory`, by name, each with the path from there.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(current) = open.pop() {
        let failed = || StoreError::io("reading", &current);
        for entry in fs::read_dir(&current).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(directory).unwrap_or(&path).to_owned()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Copies all files below `from`; where the file system can, as reflinks.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(to).map_err(StoreError::io("creating", to))?;
    for file in files(from)? {
        let target = to.join(&file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("creating", parent))?;
        }
        fs::copy(from.join(&file), &target).map_err(StoreError::io("copying to", &target))?;
    }
    Ok(())
}

/// Removes a directory with all in it, or finds that there is none.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// XXH3-128 of the names, lengths and bytes of all files below `directory`.
pub(super) fn digest(directory: &Path) -> Result<u128, StoreError> {
    let mut hash = Xxh3::new();
    for file in files(directory)? {
        let path = directory.join(&file);
        let (length, digest) = digest_file(&path)?;
        hash.update(file.as_os_str().as_encoded_bytes());
        hash.update(&length.to_le_bytes());
        hash.update(&digest.to_le_bytes());
    }
    Ok(hash.digest128())
}

/// The length and the XXH3-128 of a file.
pub(super) fn digest_file(path: &Path) -> Result<(u64, u128), StoreError> {
    let failed = || StoreError::io("reading", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut hash = Xxh3::new();
    let mut length = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer).map_err(failed())?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok((length, hash.digest128()));
        };
        hash.update(read);
        length += count as u64;
    }
}
