//! What the writer publishes commits to and watchers read them from, with the streams and leases.
//!
//! Hides that watchers are woken by a thread of their own, never by the writer, and at most every
//! other millisecond, so that what is committed in quick succession goes out together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::BootClock;
use super::leases::{Ack, Lag, Leases, SessionId};
use super::live::LiveCommit;
use super::ring::{Recent, Ring};
use crate::revision::Revision;
use crate::time::BootTime;

/// For how long commits are gathered after some went out.
const GATHER: Duration = Duration::from_millis(2);
/// How many pulses may wait for the thread that wakes watchers: more than the writer makes while
/// that thread gathers. One that finds no place is not missed, since those before it wake as well.
const PULSES: usize = 1_024;

/// The live side of the log. Written by the writer, read by everybody.
pub(crate) struct Feed {
    ring: Ring,
    /// Up to where watchers may send.
    visible: watch::Sender<Revision>,
    /// How many streams are open.
    watchers: AtomicUsize,
    most_watchers: usize,
    table: Mutex<Table>,
    /// Changes whenever a barrier should look again.
    acknowledged: watch::Sender<()>,
    ended: watch::Sender<bool>,
    clock: BootClock,
    /// Up to where commits are published, watchers told or not.
    newest: Arc<AtomicU64>,
    /// The highest revision for which caches were told to acknowledge at once.
    hurried: AtomicU64,
    /// Wakes caches to say that all up to here was sent.
    beats: watch::Sender<Revision>,
    pulse: mpsc::SyncSender<Pulse>,
}

/// Tells the thread that wakes watchers that there is more, and brings it what to free.
struct Pulse(#[expect(dead_code, reason = "only to be freed")] Arc<Recent>);

struct Table {
    leases: Leases,
    streams: HashMap<SessionId, Arc<Stream>>,
}

/// An open stream, as the list of watchers shows it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) watcher_id: String,
    pub(crate) caller: String,
    pub(crate) address: String,
    /// The revision that was sent last.
    sent: AtomicU64,
}

/// A stream's place in the table: dropping it takes the stream out.
pub(crate) struct Registration {
    feed: Arc<Feed>,
    pub(crate) session: SessionId,
    stream: Arc<Stream>,
}

/// An open stream and how it stands.
pub(crate) struct Listed {
    pub(crate) session: SessionId,
    pub(crate) stream: Arc<Stream>,
    pub(crate) sent: Revision,
    pub(crate) acknowledged: Option<Revision>,
    pub(crate) lag: Duration,
    pub(crate) lease: Duration,
}

impl Feed {
    /// A feed of what comes after `head`, and the thread that wakes its watchers.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub(crate) fn start(
        leases: Leases,
        head: Revision,
        most_watchers: usize,
        clock: BootClock,
    ) -> std::io::Result<Arc<Self>> {
        let (visible, _) = watch::channel(head);
        let (pulse, pulses) = mpsc::sync_channel(PULSES);
        let newest = Arc::new(AtomicU64::new(head.0));
        let (waking, published) = (visible.clone(), Arc::clone(&newest));
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || wake(&pulses, &published, &waking))?;
        Ok(Arc::new(Self {
            ring: Ring::default(),
            visible,
            watchers: AtomicUsize::new(0),
            most_watchers,
            table: Mutex::new(Table {
                leases,
                streams: HashMap::new(),
            }),
            acknowledged: watch::Sender::new(()),
            ended: watch::Sender::new(false),
            clock,
            newest,
            hurried: AtomicU64::new(0),
            beats: watch::Sender::new(Revision(0)),
            pulse,
        }))
    }

    /// Commits up to `last` are about to be published.
    pub(crate) fn committed(&self, last: Revision) {
        let mut table = self.table();
        let now = (self.clock)();
        table.leases.committed(last, now);
    }

    /// Hands published commits to watchers; never waits for one.
    pub(crate) fn publish(&self, commits: Vec<Arc<LiveCommit>>) {
        let Some(last) = commits.last() else { return };
        let newest = last.position.revision;
        let hurried = commits.iter().rev().find(|commit| commit.ack_now);
        if let Some(commit) = hurried {
            (self.hurried).fetch_max(commit.position.revision.0, Ordering::Relaxed);
        }
        let is_watched = self.watchers.load(Ordering::Relaxed) > 0;
        let old = self.ring.push(commits, is_watched);
        self.newest.store(newest.0, Ordering::Release);
        // Where there is no place, what is old is freed here.
        drop(self.pulse.try_send(Pulse(old)));
    }

    /// At most `most` published commits after `after`; `None` where they are to be read from the
    /// log, as far as there are any.
    pub(crate) fn recent(&self, after: Revision, most: usize) -> Option<Vec<Arc<LiveCommit>>> {
        self.ring.after(after, most)
    }

    /// Up to where watchers may send; wakes when there is more.
    pub(crate) fn visible(&self) -> watch::Receiver<Revision> {
        self.visible.subscribe()
    }

    /// Adds a stream; `None` where there are as many as may be.
    pub(crate) fn register(
        self: &Arc<Self>,
        caller: String,
        watcher_id: String,
        address: String,
    ) -> Option<Registration> {
        let mut table = self.table();
        // A cache that comes and goes leaves a lease behind each time.
        let full = table.streams.len() >= self.most_watchers
            || table.leases.len() >= self.most_watchers.saturating_mul(2);
        if full {
            return None;
        }
        let session = table.leases.open(&caller, &watcher_id, (self.clock)());
        let stream = Arc::new(Stream {
            watcher_id,
            caller,
            address,
            sent: AtomicU64::new(0),
        });
        table.streams.insert(session, Arc::clone(&stream));
        self.watchers.store(table.streams.len(), Ordering::Relaxed);
        Some(Registration {
            feed: Arc::clone(self),
            session,
            stream,
        })
    }

    /// Enters an acknowledgement: the lease, and the head that it was granted at, which `head`
    /// reads.
    pub(crate) fn ack(
        &self,
        ack: &Ack<'_>,
        head: impl FnOnce() -> Revision,
    ) -> (Duration, Revision) {
        let mut table = self.table();
        let now = (self.clock)();
        let head = head();
        let before = table.leases.lowest();
        let lease = table.leases.ack(ack, head, now);
        let changed = table.leases.lowest() != before;
        drop(table);
        if changed {
            self.acknowledged.send_replace(());
        }
        (lease, head)
    }

    /// Waits until no running lease has acknowledged less than `revision`, which is published; the
    /// caches that still have at `until`.
    pub(crate) async fn barrier(&self, revision: Revision, until: Instant) -> Vec<Arc<str>> {
        let mut acknowledged = self.acknowledged.subscribe();
        self.table().leases.barrier(revision);
        let mut is_first = true;
        loop {
            let Some(wait) = self.wait_for(revision) else {
                return Vec::new();
            };
            if std::mem::take(&mut is_first) {
                self.hurry(revision);
            }
            let now = Instant::now();
            if now >= until {
                return self.laggards(revision);
            }
            let look = now.checked_add(wait).map_or(until, |look| look.min(until));
            // Woken or not, it looks again.
            let _ = tokio::time::timeout_at(look.into(), acknowledged.changed()).await;
        }
    }

    /// Has caches acknowledge that wait for their next turn with what they have applied: those of
    /// a commit that nobody waited for when it was sent.
    fn hurry(&self, revision: Revision) {
        let before = self.hurried.fetch_max(revision.0, Ordering::Relaxed);
        if before < revision.0 {
            self.beats.send_replace(revision);
        }
    }

    /// Wakes when a cache that was sent all up to this is to say so with a heartbeat.
    pub(crate) fn beats(&self) -> watch::Receiver<Revision> {
        self.beats.subscribe()
    }

    /// Whether a barrier for `revision` has to wait: how long until it is to look again.
    fn wait_for(&self, revision: Revision) -> Option<Duration> {
        let mut table = self.table();
        let now = (self.clock)();
        let end = table.leases.waits_for(revision, now)?;
        Some(end.since(now))
    }

    fn laggards(&self, revision: Revision) -> Vec<Arc<str>> {
        let table = self.table();
        table.leases.laggards(revision, (self.clock)())
    }

    /// The highest revision that a write waited for.
    pub(crate) fn awaited(&self) -> Revision {
        self.table().leases.awaited()
    }

    /// The longest lease that is granted.
    pub(crate) fn longest_lease(&self) -> Duration {
        self.table().leases.longest()
    }

    pub(crate) fn most_watchers(&self) -> usize {
        self.most_watchers
    }

    /// The open streams, the oldest first.
    pub(crate) fn list(&self) -> Vec<Listed> {
        /// So many at a time: the writer needs the table, too.
        const AT_ONCE: usize = 256;
        let mut sessions: Vec<_> = self.table().streams.keys().copied().collect();
        sessions.sort_unstable();
        let pieces = sessions.chunks(AT_ONCE);
        let listed = pieces.flat_map(|piece| {
            let table = self.table();
            let now = (self.clock)();
            let listed = piece.iter().filter_map(|id| table.listed(*id, now));
            listed.collect::<Vec<_>>()
        });
        listed.collect()
    }

    /// Ends all streams, those to come too: clients are to resume elsewhere.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Whether streams are to end; wakes when they are.
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // What is done under it doesn't panic half-way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn listed(&self, session: SessionId, now: BootTime) -> Option<Listed> {
        let stream = self.streams.get(&session)?;
        let sent = Revision(stream.sent.load(Ordering::Relaxed));
        let standing = self.leases.standing(session, now);
        let acknowledged = standing.and_then(|standing| standing.acknowledged);
        let (Lag::Exactly(lag) | Lag::AtLeast(lag)) =
            self.leases.lag(acknowledged.unwrap_or(sent), now);
        Some(Listed {
            session,
            stream: Arc::clone(stream),
            sent,
            acknowledged,
            lag,
            lease: standing.map_or(Duration::ZERO, |standing| standing.lease),
        })
    }
}

impl Registration {
    /// Everything up to `revision` was handed to the connection.
    pub(crate) fn sent(&self, revision: Revision) {
        self.stream.sent.store(revision.0, Ordering::Relaxed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.feed.table();
        table.streams.remove(&self.session);
        table.leases.close(self.session, (self.feed.clock)());
        let left = table.streams.len();
        self.feed.watchers.store(left, Ordering::Relaxed);
    }
}

/// Wakes watchers at once for the first commit, and gathers those that follow closely. Without
/// this thread nobody would be woken; it ends with the feed only.
fn wake(pulses: &mpsc::Receiver<Pulse>, newest: &AtomicU64, visible: &watch::Sender<Revision>) {
    while let Ok(first) = pulses.recv() {
        let gathered: Vec<Pulse> = std::iter::once(first).chain(pulses.try_iter()).collect();
        // Read after the pulses were taken: what is published later has a pulse of its own, or
        // found one that is still waiting.
        visible.send_replace(Revision(newest.load(Ordering::Acquire)));
        drop(gathered);
        std::thread::sleep(GATHER);
    }
}
