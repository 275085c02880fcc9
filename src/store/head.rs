//! HEAD: how far the log must reach. sled opens a log whose tail is damaged or cut as if it had
//! ended there; what this file names must be found in it.
//!
//! Hides two slots, 4 KiB apart, written in turn, so that a torn write leaves the other. A slot is
//! written after the log was synced, before the answer: it never names what is not durable,
//! whenever the system chooses to write it out. It is synced once a second and at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::{Position, StoreError};
use crate::revision::{Epoch, Revision};

const MAGIC: [u8; 8] = *b"PCHEAD\0\x01";
const SLOT: usize = 128;
const STRIDE: usize = 4_096;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) seed: u64,
    /// The last commit that was acknowledged.
    pub(super) position: Position,
    pub(super) longest_lease: Duration,
    pub(super) phase: Phase,
    /// XXH3-128 of the newest checkpoint's file; zero where there is none.
    pub(super) checkpoint: u128,
}

/// Where the store is between its making and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Being made: no log need be there, nothing was ever acknowledged.
    Making,
    /// Open, or ended without being closed.
    Open,
    /// Closed, with this XXH3-128 of the log's files.
    Closed(u128),
}

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct HeadFile {
    shared: Arc<Shared>,
    /// Ends the thread that syncs when it is dropped.
    _ticker: Sender<()>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    head: Head,
    written: u64,
    dirty: bool,
}

impl Head {
    /// Reads the newest whole slot; `None` where there is no such file.
    ///
    /// A slot may be torn where the last run was not closed, since it was written last; where it
    /// was closed, both were written and synced, and damage is damage.
    pub(super) fn read(path: &Path) -> Result<Option<(Self, u64)>, StoreError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(StoreError::io("reading", path))?,
        };
        let slot = |at: usize| {
            bytes
                .get(at..at + SLOT)
                .map_or(Err("it is too short"), decode)
        };
        let damaged = |problem: String| StoreError::HeadDamaged {
            path: path.to_owned(),
            problem,
        };
        match (slot(0), slot(STRIDE)) {
            (Ok(a), Ok(b)) => Ok(Some(if a.1 > b.1 { a } else { b })),
            (Err(a), Err(_)) => Err(damaged(a.to_owned())),
            (
                Ok((
                    Self {
                        phase: Phase::Closed(_),
                        ..
                    },
                    _,
                )),
                Err(problem),
            )
            | (
                Err(problem),
                Ok((
                    Self {
                        phase: Phase::Closed(_),
                        ..
                    },
                    _,
                )),
            ) => Err(damaged(format!("{problem}, though the store was closed"))),
            (Ok(whole), Err(problem)) | (Err(problem), Ok(whole)) => {
                let path = path.display();
                tracing::warn!("one of two slots of {path} is torn ({problem}); using the other");
                Ok(Some(whole))
            }
        }
    }
}

impl HeadFile {
    /// Makes it or goes on with it, both slots saying `head`, durable.
    pub(super) fn open(path: &Path, head: Head, written: u64) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options
            .open(path)
            .map_err(StoreError::io("opening", path))?;
        let state = State {
            head,
            written,
            dirty: false,
        };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            file,
            state: Mutex::new(state),
        });
        shared.write_both(head)?;
        let ticker = tick(Arc::clone(&shared)).map_err(StoreError::io("syncing", path))?;
        Ok(Self {
            shared,
            _ticker: ticker,
        })
    }

    /// The log is durable up to `position`: written, not synced.
    pub(super) fn advance(&self, position: Position) -> Result<(), StoreError> {
        self.shared.write(|head| head.position = position)
    }

    /// Changes what it says; durable.
    pub(super) fn set(&self, change: impl FnOnce(&mut Head)) -> Result<(), StoreError> {
        self.shared.write(change)?;
        self.shared.sync()
    }

    /// The last words: both slots, durable.
    pub(super) fn end(&self, phase: Phase) -> Result<(), StoreError> {
        let head = self.shared.state().head;
        self.shared.write_both(Head { phase, ..head })
    }

    pub(super) fn now(&self) -> Head {
        self.shared.state().head
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut Head)) -> Result<(), StoreError> {
        let mut state = self.state();
        change(&mut state.head);
        state.written += 1;
        state.dirty = true;
        let slot = encode(&state.head, state.written);
        let at = (state.written % 2) * STRIDE as u64;
        // One system call, so that a process that is killed leaves the slot whole or as it was.
        let written = self.file.write_all_at(&slot, at);
        written.map_err(StoreError::io("writing", &self.path))
    }

    fn write_both(&self, head: Head) -> Result<(), StoreError> {
        self.write(|now| *now = head)?;
        self.sync()?;
        self.write(|_| {})?;
        self.sync()
    }

    fn sync(&self) -> Result<(), StoreError> {
        let dirty = std::mem::take(&mut self.state().dirty);
        match dirty {
            true => (self.file.sync_data()).map_err(StoreError::io("syncing", &self.path)),
            false => Ok(()),
        }
    }
}

fn tick(shared: Arc<Shared>) -> io::Result<Sender<()>> {
    let (sender, receiver) = channel();
    let run = move || {
        while receiver.recv_timeout(SYNC_EVERY) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = shared.sync() {
                tracing::error!("{error}");
            }
        }
    };
    std::thread::Builder::new()
        .name("head-sync".to_owned())
        .spawn(run)?;
    Ok(sender)
}

fn encode(head: &Head, written: u64) -> [u8; SLOT] {
    let (phase, digest) = match head.phase {
        Phase::Making => (0, 0),
        Phase::Open => (1, 0),
        Phase::Closed(digest) => (2, digest),
    };
    let lease = u64::try_from(head.longest_lease.as_nanos()).unwrap_or(u64::MAX);
    let words = [
        written,
        head.epoch.0,
        head.seed,
        head.position.revision.0,
        head.position.chain,
        lease,
        phase,
    ];
    let mut bytes = MAGIC.to_vec();
    bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
    bytes.extend(digest.to_le_bytes());
    bytes.extend(head.checkpoint.to_le_bytes());
    bytes.resize(SLOT - 8, 0);
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    let mut slot = [0; SLOT];
    slot.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    slot
}

fn decode(slot: &[u8]) -> Result<(Head, u64), &'static str> {
    let (said, sum) = slot.split_last_chunk().ok_or("it is too short")?;
    if xxh3_64(said) != u64::from_le_bytes(*sum) {
        return Err("its checksum does not match");
    }
    let Some(rest) = said.strip_prefix(&MAGIC) else {
        return Err("it is no HEAD of a format that this program knows");
    };
    let mut words = rest.chunks_exact(8).map(|word| {
        let bytes = word.try_into().unwrap_or_default();
        u64::from_le_bytes(bytes)
    });
    let mut word = || words.next().unwrap_or(0);
    let written = word();
    let epoch = Epoch(word());
    let seed = word();
    let position = Position {
        revision: Revision(word()),
        chain: word(),
    };
    let longest_lease = Duration::from_nanos(word());
    let phase = word();
    let digest = u128::from(word()) | u128::from(word()) << 64;
    let checkpoint = u128::from(word()) | u128::from(word()) << 64;
    let phase = match phase {
        0 => Phase::Making,
        1 => Phase::Open,
        2 => Phase::Closed(digest),
        _ => return Err("it is of a phase that this program does not know"),
    };
    let head = Head {
        epoch,
        seed,
        position,
        longest_lease,
        phase,
        checkpoint,
    };
    Ok((head, written))
}
