//! Streams of changes, leases and barriers, with the real engine and over sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may end by a panic"
)]

mod barrier;
mod follow;
mod resume;
mod wire;
#[path = "../engine/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the engine")]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis::engine::{Changes, Engine, EngineOptions, LiveCommit, WatchEvent, WatchOptions};
use portcullis::revision::{Epoch, Revision, Token};
use portcullis::state::Change;
use portcullis::time::BootTime;

const SOON: Duration = Duration::from_secs(30);

fn token(revision: u64) -> Token {
    Token {
        revision: Revision(revision),
        epoch: Epoch(0x9f_3ac1),
    }
}

fn after(revision: u64) -> WatchOptions {
    WatchOptions {
        after: Some(token(revision)),
        ..WatchOptions::default()
    }
}

fn cache(watcher_id: &str) -> WatchOptions {
    WatchOptions {
        watcher_id: watcher_id.to_owned(),
        ..WatchOptions::default()
    }
}

/// Milliseconds since the machine's start, set by the test.
#[derive(Clone, Default)]
struct BootClock(Arc<AtomicU64>);

impl BootClock {
    fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    fn options(&self) -> EngineOptions {
        let clock = self.clone();
        EngineOptions {
            boot_clock: Arc::new(move || {
                BootTime::new(Duration::from_millis(clock.0.load(Ordering::SeqCst)))
            }),
            ..world::TestClock::at(0).options()
        }
    }
}

async fn next(changes: &mut Changes) -> WatchEvent {
    let event = tokio::time::timeout(SOON, changes.next()).await;
    event.expect("nothing came").unwrap()
}

/// Opens a stream, and takes its Hello: the session.
async fn opened(engine: &Engine, options: WatchOptions) -> (Changes, String) {
    let mut changes = engine.watch(options).unwrap();
    match next(&mut changes).await {
        WatchEvent::Hello(hello) => (changes, hello.session),
        other => panic!("{other:?}"),
    }
}

/// The next commits, at least one.
async fn commits(changes: &mut Changes) -> Vec<Arc<LiveCommit>> {
    match next(changes).await {
        WatchEvent::Commits(commits) => commits,
        other => panic!("{other:?}"),
    }
}

/// What changed, as text.
fn told(commits: &[Arc<LiveCommit>]) -> Vec<String> {
    let changes = commits.iter().flat_map(|commit| &commit.commit.changes);
    let told = changes.map(|change| match change {
        Change::Granted(tuple) => format!("+{tuple}"),
        Change::Revoked(tuple) => format!("-{tuple}"),
        Change::Expired(tuple) => format!("expired {tuple}"),
        Change::Schema(_) => "schema".to_owned(),
        other => format!("{other:?}"),
    });
    told.collect()
}
