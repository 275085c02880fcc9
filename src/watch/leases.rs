//! The table of leases: which caches may answer from what they hold, and until when.
//!
//! Hides which sessions there are, what each has acknowledged, how old each commit is, and which
//! lease a write still has to wait for. Pure: instants and the head of the log are passed in.
//!
//! The promise, which rests on the order in which the caller acts under one lock:
//!
//! 1. the writer enters a commit's stamp ([`Leases::committed`]) before anybody can read its state;
//! 2. an acknowledgement reads clock and head, and enters its lease, under the lock;
//! 3. a write that waits has published first, and then looks ([`Leases::barrier`], then
//!    [`Leases::waits_for`]).
//!
//! So an acknowledgement either comes before the look, which then finds its lease, or after it,
//! and then what it must have applied is known: a running lease is never renewed beyond
//! its longest span after the oldest commit that its cache has not applied, and a new or lapsed
//! one begins only at or above all that was ever waited for.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::revision::{Epoch, Revision, Token};
use crate::time::BootTime;

mod ages;

use self::ages::Ages;
pub use self::ages::Lag;

/// Names one stream of changes, of this process and no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId {
    /// Drawn at random when the process starts.
    incarnation: u64,
    number: u64,
}

/// What a cache says when it acknowledges.
#[derive(Clone, Debug)]
pub struct Ack<'a> {
    /// Who calls.
    pub caller: &'a str,
    /// The cache.
    pub watcher_id: &'a str,
    /// The stream, as it was named; `None`: the only open one of this caller and cache.
    pub session: Option<&'a str>,
    /// It has applied everything up to here.
    pub applied: Token,
}

/// How a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The highest revision that it has acknowledged.
    pub acknowledged: Option<Revision>,
    /// What is left of its lease; zero where it has none.
    pub lease: Duration,
}

/// Which sessions there are, and the leases that they were granted.
#[derive(Debug)]
pub struct Leases {
    epoch: Epoch,
    longest: Duration,
    incarnation: u64,
    opened: u64,
    ages: Ages,
    /// The highest revision that a barrier waited for; at the start the head, since a barrier of
    /// an earlier run may have waited for that.
    awaited: Revision,
    sessions: HashMap<SessionId, Session>,
    /// The open ones, by caller and cache.
    open: HashMap<(Arc<str>, Arc<str>), Vec<SessionId>>,
    /// The sessions that were granted a lease, by what they have acknowledged. One whose lease
    /// has run out is taken out when a barrier comes upon it.
    leased: BTreeSet<(Revision, SessionId)>,
    /// Closed sessions and when the lease of each ends.
    closed: VecDeque<(BootTime, SessionId)>,
}

#[derive(Debug)]
struct Session {
    caller: Arc<str>,
    watcher_id: Arc<str>,
    is_open: bool,
    acknowledged: Option<Revision>,
    /// No later than the last lease that the cache was granted; the machine's start before.
    end: BootTime,
}

impl Session {
    fn is_running(&self, now: BootTime) -> bool {
        now < self.end
    }

    fn name(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.caller), Arc::clone(&self.watcher_id))
    }
}

impl Leases {
    /// An empty table.
    ///
    /// `longest` is what is granted to whoever lags behind in nothing. `incarnation` goes into the
    /// names of sessions, so that one of an earlier process is a stranger here. `head` is the
    /// newest revision: the age of no commit up to it is known.
    pub fn new(
        epoch: Epoch,
        incarnation: u64,
        longest: Duration,
        head: Revision,
        now: BootTime,
    ) -> Self {
        Self {
            epoch,
            longest,
            incarnation,
            opened: 0,
            ages: Ages::new(head, now),
            awaited: head,
            sessions: HashMap::new(),
            open: HashMap::new(),
            leased: BTreeSet::new(),
            closed: VecDeque::new(),
        }
    }

    /// The longest lease that is granted.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// How many sessions are known: the open ones, and those that are closed but have a lease.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is known.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Commits up to `last` are about to be published; to be called before they are.
    pub fn committed(&mut self, last: Revision, stamp: BootTime) {
        self.ages.push(last, stamp, self.longest);
    }

    /// How old the oldest commit above `revision` is.
    pub fn lag(&self, revision: Revision, now: BootTime) -> Lag {
        self.ages.lag(revision, now)
    }

    /// Begins a session for a new stream. Older sessions of the same cache stay as they are.
    pub fn open(&mut self, caller: &str, watcher_id: &str, now: BootTime) -> SessionId {
        self.sweep(now);
        self.opened += 1;
        let id = SessionId {
            incarnation: self.incarnation,
            number: self.opened,
        };
        let session = Session {
            caller: caller.into(),
            watcher_id: watcher_id.into(),
            is_open: true,
            acknowledged: None,
            end: BootTime::default(),
        };
        let name = session.name();
        self.open.entry(name).or_default().push(id);
        self.sessions.insert(id, session);
        id
    }

    /// Its stream has ended: it is granted nothing more, and its lease is waited for until it
    /// runs out.
    pub fn close(&mut self, id: SessionId, now: BootTime) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.is_open = false;
        if let Entry::Occupied(mut open) = self.open.entry(session.name()) {
            open.get_mut().retain(|other| *other != id);
            if open.get().is_empty() {
                open.remove();
            }
        }
        match session.is_running(now) {
            true => self.closed.push_back((session.end, id)),
            false => self.forget(id),
        }
        self.sweep(now);
    }

    /// Enters what a cache has applied, and grants it a lease: counted by the cache from when it
    /// sent the acknowledgement, zero for none. `head` is the newest published revision, read
    /// under the same lock as this is called.
    ///
    /// Zero, and entered nowhere, for a session that is not open, for another epoch, and for a
    /// revision above the head.
    pub fn ack(&mut self, ack: &Ack<'_>, head: Revision, now: BootTime) -> Duration {
        let Ack { applied, .. } = *ack;
        let Some(id) = self.session_of(ack) else {
            return Duration::ZERO;
        };
        if applied.epoch != self.epoch || applied.revision > head {
            return Duration::ZERO;
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return Duration::ZERO;
        };
        let may = session.is_running(now) || applied.revision >= self.awaited;
        let lease = match self.ages.lag(applied.revision, now) {
            Lag::Exactly(lag) if may => self.longest.saturating_sub(lag),
            _ => Duration::ZERO,
        };
        let before = session.acknowledged;
        let acknowledged = before.map_or(applied.revision, |old| old.max(applied.revision));
        session.acknowledged = Some(acknowledged);
        if !lease.is_zero() {
            session.end = session.end.max(now.plus(lease));
        }
        let was_listed = before.is_some_and(|old| self.leased.remove(&(old, id)));
        if was_listed || session.is_running(now) {
            self.leased.insert((acknowledged, id));
        }
        lease
    }

    /// From now on a new or lapsed lease begins only at or above `revision`.
    pub fn barrier(&mut self, revision: Revision) {
        self.awaited = self.awaited.max(revision);
    }

    /// The highest revision that a barrier waited for.
    pub fn awaited(&self) -> Revision {
        self.awaited
    }

    /// Whether a running lease has acknowledged less than `revision`: if so, when to look again
    /// at the latest. It is to be looked again, too, whenever [`Leases::lowest`] has changed.
    pub fn waits_for(&mut self, revision: Revision, now: BootTime) -> Option<BootTime> {
        while let Some((acknowledged, id)) = self.leased.first().copied() {
            if acknowledged >= revision {
                return None;
            }
            match self.sessions.get(&id) {
                Some(session) if session.is_running(now) => return Some(session.end),
                Some(session) if session.is_open => {
                    self.leased.pop_first();
                }
                _ => self.forget(id),
            }
        }
        None
    }

    /// The least that a leased cache has acknowledged; `None` where there is no lease. A lease
    /// that has run out may still count.
    pub fn lowest(&self) -> Option<Revision> {
        self.leased.first().map(|(revision, _)| *revision)
    }

    /// The caches with a running lease that have acknowledged less than `revision`, sorted, each
    /// once.
    pub fn laggards(&self, revision: Revision, now: BootTime) -> Vec<Arc<str>> {
        let behind = (self.leased.iter()).take_while(|(acknowledged, _)| *acknowledged < revision);
        let running = behind.filter_map(|(_, id)| {
            let session = self.sessions.get(id)?;
            (session.is_running(now)).then(|| Arc::clone(&session.watcher_id))
        });
        let ids: BTreeSet<_> = running.collect();
        ids.into_iter().collect()
    }

    /// How a session stands; `None` where it is not known.
    pub fn standing(&self, id: SessionId, now: BootTime) -> Option<Standing> {
        let session = self.sessions.get(&id)?;
        Some(Standing {
            acknowledged: session.acknowledged,
            lease: session.end.since(now),
        })
    }

    /// The open session that is meant.
    fn session_of(&self, ack: &Ack<'_>) -> Option<SessionId> {
        let meant = |session: &Session| {
            session.is_open
                && *session.caller == *ack.caller
                && *session.watcher_id == *ack.watcher_id
        };
        if let Some(text) = ack.session {
            let id = text.parse().ok()?;
            return self.sessions.get(&id).filter(|s| meant(s)).map(|_| id);
        }
        let name = (ack.caller.into(), ack.watcher_id.into());
        match self.open.get(&name)?.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// Forgets closed sessions whose lease has run out.
    fn sweep(&mut self, now: BootTime) {
        while let Some((end, id)) = self.closed.front().copied() {
            if now < end {
                return;
            }
            self.closed.pop_front();
            self.forget(id);
        }
    }

    fn forget(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id)
            && let Some(acknowledged) = session.acknowledged
        {
            self.leased.remove(&(acknowledged, id));
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.incarnation, self.number)
    }
}

/// The text is no [`SessionId`]: it names no session of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is no name of a session")]
pub struct MalformedSession;

impl FromStr for SessionId {
    type Err = MalformedSession;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (incarnation, number) = text.split_once('-').ok_or(MalformedSession)?;
        let incarnation = u64::from_str_radix(incarnation, 16);
        Ok(Self {
            incarnation: incarnation.map_err(|_| MalformedSession)?,
            number: number.parse().map_err(|_| MalformedSession)?,
        })
    }
}

#[cfg(test)]
mod tests;
