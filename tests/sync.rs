//! What is acknowledged is on the disk: counted and replayed from the system calls of a process
//! that appends, as strace saw them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::revision::Revision;
use portcullis::state::{Change, Commit};
use portcullis::store::{Appended, SledStore, Store};
use portcullis::time::Timestamp;

const DIRECTORY: &str = "PORTCULLIS_TEST_SYNC_DIRECTORY";
/// How many commits each batch has. One commit of 10,000 updates is in the batch of `BIG`.
const BATCHES: [u64; 24] = [
    1, 1, 1, 64, 1, 7, 1, 1, 1, 1, 1, 3, 1, 1, 200, 1, 1, 1, 1, 2, 1, 1, 1, 1,
];
const BIG: u64 = 290;
/// How many of them a second run appends, on what the first one left.
const AGAIN: usize = 6;
/// Up to here the state is kept whole after each batch.
const CHECKPOINTS: u64 = 75;

/// In memory where there is such a place: hundreds of stores are opened here, each with its syncs.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn commit(revision: u64) -> Commit {
    let count = if revision == BIG { 10_000 } else { 1 };
    let tuple = |n| format!("doc:r{revision}n{n}#viewer@user:someone");
    let grant = |n| Change::Granted(tuple(n).parse().unwrap());
    Commit {
        revision: Revision(revision),
        time: Timestamp::new(1_700_000_000, 0).unwrap(),
        actor: None,
        reason: String::new(),
        metadata: None,
        changes: (0..count).map(grant).collect(),
        remembered: None,
    }
}

/// The process that strace looks at: appends, and says so once it may.
#[test]
#[ignore = "started by the other tests"]
fn appender() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = SledStore::open(Path::new(&directory)).unwrap();
    let mut end = store.head().unwrap();
    // The second run is there for what opening after an unclean end writes.
    let batches = if end.revision.0 == 0 {
        BATCHES.len()
    } else {
        AGAIN
    };
    for count in BATCHES.into_iter().take(batches) {
        let first = end.revision.0 + 1;
        let batch: Vec<_> = (first..first + count).map(commit).collect();
        let Appended::Durable(positions) = store.append(end, &batch) else {
            panic!("not durable");
        };
        end = *positions.last().unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {}", end.revision).unwrap();
        out.flush().unwrap();
        if end.revision.0 > CHECKPOINTS {
            continue;
        }
        let save = store.checkpoint(end, commit(1).time, &mut |out| out.write_all(b"state"));
        save.unwrap();
    }
    // No close: it would sync what was left.
    std::process::exit(0);
}

/// What a process did to files, in order.
#[derive(Debug)]
enum Event {
    Write {
        path: PathBuf,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    /// Covers what was written before it began.
    SyncBegan {
        path: PathBuf,
    },
    SyncEnded {
        path: PathBuf,
    },
    Truncate {
        path: PathBuf,
        length: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    Ack(u64),
}

impl Event {
    fn name(&self) -> String {
        match self {
            Self::Write { path, at, bytes } => {
                format!("{} bytes to {} at {at:?}", bytes.len(), path.display())
            }
            other => format!("{other:?}"),
        }
    }
}

/// Says that a test is left out, past the harness, which keeps what passing tests print.
fn ignored(why: &str) {
    let _ = writeln!(std::io::stderr(), "ignored: {why}");
}

/// Runs the appender under strace; `None` where that can't be done.
fn trace(data: &Path, output: &Path) -> Option<Vec<Event>> {
    if Command::new("strace").arg("-V").output().is_err() {
        ignored("apt-get install strace");
        return None;
    }
    let calls =
        "trace=write,pwrite64,fdatasync,fsync,ftruncate,rename,renameat,renameat2,unlink,unlinkat";
    let status = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-xx",
            "-s",
            "100000000",
            "-e",
            calls,
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(output)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "appender", "--nocapture"])
        .env(DIRECTORY, data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stderr);
    if said.contains("ptrace") && !status.status.success() {
        ignored(&format!("strace may not trace here: {said}"));
        return None;
    }
    assert!(status.status.success(), "{said}");
    Some(parse(&fs::read_to_string(output).unwrap()))
}

fn parse(trace: &str) -> Vec<Event> {
    let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
    let mut events = Vec::new();
    for line in trace.lines() {
        let (thread, line) = line.split_once(' ').unwrap();
        let line = line.trim_start();
        if line.starts_with("+++") || line.starts_with("---") {
            continue;
        }
        if line.starts_with("<...") {
            let call = unfinished.remove(thread).unwrap();
            events.extend(ended(call, line));
        } else if let Some(call) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, call);
            events.extend(began(call));
        } else {
            events.extend(began(line));
            events.extend(ended(line, line));
        }
    }
    events
}

fn began(call: &str) -> Option<Event> {
    let sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
    let path = PathBuf::from(descriptor(call)?);
    sync.then_some(Event::SyncBegan { path })
}

fn ended(call: &str, result: &str) -> Option<Event> {
    let (_, result) = result.rsplit_once(" = ")?;
    let result: usize = result.split(' ').next()?.parse().ok()?;
    let (name, arguments) = call.split_once('(')?;
    let quoted: Vec<_> = arguments
        .split('"')
        .skip(1)
        .step_by(2)
        .map(unescape)
        .collect();
    let text = |at: usize| PathBuf::from(String::from_utf8(quoted[at].clone()).unwrap());
    let number = || {
        let inner = arguments
            .rsplit_once(") = ")
            .map_or(arguments, |(inner, _)| inner);
        inner
            .trim_end_matches(')')
            .rsplit(", ")
            .next()
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let path = || PathBuf::from(descriptor(call).unwrap());
    Some(match name {
        "write" | "pwrite64" => {
            let bytes = quoted[0][..result].to_vec();
            if let Some(revision) = bytes.strip_prefix(b"ack ") {
                let revision = String::from_utf8_lossy(revision);
                return Some(Event::Ack(revision.trim().parse().unwrap()));
            }
            let at = (name == "pwrite64").then(number);
            Event::Write {
                path: path(),
                at,
                bytes,
            }
        }
        "fdatasync" | "fsync" => Event::SyncEnded { path: path() },
        "ftruncate" => Event::Truncate {
            path: path(),
            length: number(),
        },
        "unlink" | "unlinkat" => Event::Remove { path: text(0) },
        _ => Event::Rename {
            from: text(0),
            to: text(1),
        },
    })
}

/// The path that `-y` puts behind the descriptor, which is the first argument.
fn descriptor(call: &str) -> Option<String> {
    let (_, path) = call.split_once('<')?;
    let (path, _) = path.split_once('>')?;
    Some(match path.contains("\\x") {
        true => String::from_utf8(unescape(path)).unwrap(),
        false => path.to_owned(),
    })
}

fn unescape(text: &str) -> Vec<u8> {
    let hex = |pair: &str| u8::from_str_radix(&pair[..2], 16).unwrap();
    text.split("\\x").skip(1).map(hex).collect()
}

/// A file as the process sees it, and what of that a loss of power would leave.
#[derive(Clone, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// What it was when the syncs that are running began.
    syncing: Vec<Vec<u8>>,
}

impl File {
    fn write(&mut self, at: Option<usize>, bytes: &[u8]) {
        let at = at.unwrap_or(self.seen.len());
        let end = self.seen.len().max(at + bytes.len());
        self.seen.resize(end, 0);
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn torn(&self) -> Vec<u8> {
        let differs = |at: &usize| self.seen.get(*at) != self.durable.get(*at);
        let changed: Vec<_> = (0..self.seen.len()).filter(differs).collect();
        let middle = changed.get(changed.len() / 2).copied().unwrap_or(0);
        let rest = self.durable.iter().skip(middle);
        self.seen.iter().take(middle).chain(rest).copied().collect()
    }
}

/// What a loss of power leaves beside what is durable.
#[derive(Clone, Copy)]
enum Left {
    Nothing,
    /// HEAD as it was last written.
    Head,
    /// The first half of what was written to the log since its last sync.
    Torn,
}

/// The data directory while the events happen.
#[derive(Default)]
struct Disk(BTreeMap<PathBuf, File>);

impl Disk {
    /// The file, where it is one that must survive.
    fn file(&mut self, data: &Path, path: &Path) -> Option<&mut File> {
        let inside = path.starts_with(data) && !path.is_dir() && !path.ends_with("LOCK");
        let inside = inside && !path.starts_with(data.join("proving"));
        inside.then(|| self.0.entry(path.to_owned()).or_default())
    }

    fn happen(&mut self, data: &Path, event: &Event) {
        match event {
            Event::Write {
                path,
                at: offset,
                bytes,
            } => {
                if let Some(file) = self.file(data, path) {
                    file.write(*offset, bytes);
                }
            }
            Event::Truncate { path, length } => {
                if let Some(file) = self.file(data, path) {
                    file.seen.resize(*length, 0);
                }
            }
            Event::SyncBegan { path } => {
                if let Some(file) = self.file(data, path) {
                    file.syncing.push(file.seen.clone());
                }
            }
            Event::SyncEnded { path } => {
                if let Some(file) = self.file(data, path) {
                    file.durable = file.syncing.remove(0);
                }
            }
            Event::Rename { from, to } => {
                let file = self.0.remove(from);
                self.0.extend(file.map(|file| (to.clone(), file)));
            }
            Event::Remove { path } => drop(self.0.remove(path)),
            Event::Ack(_) => {}
        }
    }

    /// Writes what is left of it elsewhere.
    fn cut_back(&self, data: &Path, to: &Path, left: Left) {
        fs::create_dir_all(to.join("log/blobs")).unwrap();
        fs::create_dir_all(to.join("checkpoints")).unwrap();
        for (path, file) in &self.0 {
            let name = path.file_name().unwrap();
            let bytes = match left {
                Left::Head if name == "HEAD" => &file.seen,
                Left::Torn if name == "db" => &file.torn(),
                _ => &file.durable,
            };
            fs::write(to.join(path.strip_prefix(data).unwrap()), bytes).unwrap();
        }
    }
}

#[test]
fn every_batch_is_synced_once_before_its_answer() {
    let directory = scratch();
    let data = directory.path().join("data");
    let Some(events) = trace(&data, &directory.path().join("trace")) else {
        return;
    };
    let log = data.join("log/db");
    let (mut syncs, mut dirty, mut acks, mut before) = (0, false, 0, 0);
    for event in &events {
        match event {
            Event::Write { path, .. } if *path == log => dirty = true,
            Event::SyncEnded { path } if *path == log => (syncs, dirty) = (syncs + 1, false),
            Event::Ack(revision) => {
                assert!(
                    syncs >= 1 && !dirty,
                    "nothing synced the log before ack {revision}"
                );
                // Checkpoints sync it too.
                assert!(
                    before <= CHECKPOINTS || syncs == 1,
                    "{syncs} syncs for {revision}"
                );
                (syncs, acks, before) = (0, acks + 1, *revision);
            }
            _ => {}
        }
    }
    assert_eq!(acks, BATCHES.len());
    assert_eq!(fs::read_dir(data.join("log/blobs")).unwrap().count(), 0);
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    let directory = scratch();
    let data = directory.path().join("data");
    let mut events = Vec::new();
    for _ in 0..2 {
        let Some(run) = trace(&data, &directory.path().join("trace")) else {
            return;
        };
        events.extend(run);
    }
    let (mut disk, mut acknowledged, mut cuts) = (Disk::default(), 0, 0);
    for event in &events {
        disk.happen(&data, event);
        if let Event::Ack(revision) = event {
            acknowledged = *revision;
        }
        // HEAD may reach the disk by itself as soon as it is written, and must do no harm then.
        let left = match event {
            Event::Ack(_) | Event::SyncEnded { .. } | Event::Rename { .. } => Left::Nothing,
            Event::Write { path, .. } if path.ends_with("HEAD") => Left::Head,
            Event::SyncBegan { path } if path.ends_with("log/db") => Left::Torn,
            _ => continue,
        };
        cuts += 1;
        let cut = directory.path().join(format!("cut{cuts}"));
        disk.cut_back(&data, &cut, left);
        survived(&cut, acknowledged, event);
        fs::remove_dir_all(&cut).unwrap();
    }
    let again = BATCHES.into_iter().take(AGAIN);
    assert_eq!(acknowledged, BATCHES.into_iter().chain(again).sum::<u64>());
    assert!(cuts > 3 * BATCHES.len());
}

/// A directory that lost power after `event` opens, and has what was acknowledged before.
fn survived(cut: &Path, acknowledged: u64, event: &Event) {
    let store = match SledStore::open(cut) {
        Ok(store) => store,
        Err(error) => panic!("after {acknowledged}, {}: {error}", event.name()),
    };
    let head = store.head().unwrap().revision;
    assert!(
        head.0 >= acknowledged,
        "{head} of {acknowledged}, {}",
        event.name()
    );
    let found = store.read(Revision(0), usize::MAX).unwrap();
    let found: Vec<_> = found.into_iter().map(|(commit, _)| commit).collect();
    let expected: Vec<_> = (1..=head.0).map(commit).collect();
    assert!(found == expected, "other commits than were appended");
    assert!(store.load().unwrap().commits.all(|item| item.is_ok()));
}
