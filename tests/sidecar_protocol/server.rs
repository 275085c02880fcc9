//! The server's side: a log, what its states answer, and the real table of leases.

use std::collections::VecDeque;
use std::time::Duration;

use portcullis::api::proto;
use portcullis::api::proto::watch_changes_response::Event;
use portcullis::revision::{Epoch, Revision, Token};
use portcullis::time::BootTime;
use portcullis::watch::leases::{Ack, Leases, SessionId};

pub const QUESTIONS: usize = 4;
/// L, in nanoseconds.
pub const LEASE: u64 = 3_000_000_000;
pub const MS: u64 = 1_000_000;

/// What the log says at one revision.
#[derive(Clone, Debug)]
pub struct State {
    pub at: Token,
    pub chain: u64,
    /// For each question, which of all answers that ever were is the right one.
    pub answers: [u64; QUESTIONS],
}

#[derive(Clone, Debug)]
pub struct Logged {
    pub state: State,
    /// The questions it changed; `None`: all, and it is sent as `invalidate_all`.
    pub changed: Option<Vec<usize>>,
    /// In how many parts it goes out.
    pub parts: u64,
}

/// A stream as the server has it.
#[derive(Debug)]
pub struct Stream {
    pub session: SessionId,
    pub queue: VecDeque<proto::WatchChangesResponse>,
}

pub struct Server {
    pub log: Vec<Logged>,
    /// Stamped, and not published yet.
    pub pending: Option<Logged>,
    /// What `after` must at least be.
    pub oldest: u64,
    pub leases: Leases,
    pub key_version: u32,
    /// Leases from before a restart may run until then.
    pub unknown_until: BootTime,
    pub incarnation: u64,
    /// The first incarnation after commits were lost under an epoch that stayed.
    pub lost: u64,
    serial: u64,
}

/// The key of a question, and the one that two share.
pub fn keys(question: usize) -> Vec<u64> {
    vec![100 + question as u64, 200 + question as u64 / 2]
}

pub fn boot(nanos: u64) -> BootTime {
    BootTime::new(Duration::from_nanos(nanos))
}

fn event(event: Event) -> proto::WatchChangesResponse {
    proto::WatchChangesResponse { event: Some(event) }
}

impl Server {
    pub fn new(now: u64) -> Self {
        let epoch = Epoch(0x9f_3ac1);
        let first = State {
            at: Token {
                revision: Revision(10),
                epoch,
            },
            chain: 1,
            answers: [0; QUESTIONS],
        };
        let longest = Duration::from_nanos(LEASE);
        Self {
            log: vec![Logged {
                state: first,
                changed: None,
                parts: 1,
            }],
            pending: None,
            oldest: 10,
            leases: Leases::new(epoch, 1, longest, Revision(10), boot(now)),
            key_version: 1,
            unknown_until: boot(0),
            incarnation: 1,
            lost: 0,
            serial: 1,
        }
    }

    pub fn head(&self) -> &State {
        &self.log.last().unwrap().state
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Stamps a commit that changes these questions (`None`: all, as a schema does).
    pub fn stamp(&mut self, changed: Option<Vec<usize>>, parts: u64, now: u64) {
        let mut state = self.head().clone();
        state.at.revision = state.at.revision.next();
        state.chain = self.serial();
        let whom = changed.clone().unwrap_or_else(|| (0..QUESTIONS).collect());
        for question in whom {
            state.answers[question] = self.serial();
        }
        self.leases.committed(state.at.revision, boot(now));
        self.pending = Some(Logged {
            state,
            changed,
            parts,
        });
    }

    /// Publishes what was stamped, to readers and to all streams.
    pub fn publish<'a>(&mut self, streams: impl Iterator<Item = &'a mut Stream>) {
        let logged = self.pending.take().unwrap();
        for stream in streams {
            stream.queue.extend(messages(&logged));
        }
        self.log.push(logged);
    }

    /// Opens a stream after what a cache has applied.
    pub fn open(&mut self, watcher: &str, opening: (Option<Token>, u64), now: u64) -> Stream {
        use proto::reset::Cause;
        let head = self.head().clone();
        let session = self.leases.open("", watcher, boot(now));
        let longest = prost_types::Duration::try_from(self.leases.longest()).unwrap();
        let hello = proto::Hello {
            revision: head.at.to_string(),
            oldest: String::new(),
            heartbeat_interval: None,
            lease: Some(longest),
            chain: head.chain,
            session: session.to_string(),
            key_version: self.key_version,
        };
        let mut queue = VecDeque::from([event(Event::Hello(hello))]);
        let (after, chain) = opening;
        let known = after.and_then(|at| self.log.iter().find(|one| one.state.at == at));
        let cause = match after {
            Some(at) if at.epoch != head.at.epoch => Some(Cause::Epoch),
            Some(at) if at.revision > head.at.revision => Some(Cause::Ahead),
            Some(at) if at.revision.0 < self.oldest => Some(Cause::Trimmed),
            Some(_) if chain != 0 && known.is_none_or(|one| one.state.chain != chain) => {
                Some(Cause::History)
            }
            _ => None,
        };
        let from = match (after, cause) {
            (Some(at), None) => at.revision,
            _ => head.at.revision,
        };
        if let Some(cause) = cause {
            queue.push_back(event(Event::Reset(proto::Reset {
                cause: cause.into(),
                revision: head.at.to_string(),
            })));
        }
        let missed = self.log.iter().filter(|one| one.state.at.revision > from);
        queue.extend(missed.flat_map(messages));
        Stream { session, queue }
    }

    /// Answers an acknowledgement from a head that was confirmed `age` ago.
    pub fn ack(
        &mut self,
        (watcher, session): (&str, &str),
        applied: Token,
        head: &State,
        now: u64,
    ) -> Duration {
        let ack = Ack {
            caller: "",
            watcher_id: watcher,
            session: Some(session),
            applied,
        };
        self.leases.ack(&ack, head.at.revision, boot(now))
    }

    /// Whether all caches have applied `revision`, or their leases have run out.
    pub fn is_complete(&mut self, revision: Revision, now: u64) -> bool {
        let now = boot(now);
        self.leases.waits_for(revision, now).is_none() && self.unknown_until <= now
    }

    /// Forgets all leases and streams.
    pub fn restart(&mut self, now: u64) {
        self.pending = None;
        self.incarnation += 1;
        let head = self.head().at;
        let longest = Duration::from_nanos(LEASE);
        self.leases = Leases::new(
            head.epoch,
            self.incarnation,
            longest,
            head.revision,
            boot(now),
        );
        self.unknown_until = boot(now).plus(longest);
    }

    /// Loses the last commits, and restarts.
    pub fn lose(&mut self, count: usize, now: u64) {
        self.log
            .truncate(self.log.len().saturating_sub(count).max(1));
        self.restart(now);
        self.lost = self.incarnation;
    }

    /// Is restored from a backup: the same without the last commits, under another epoch.
    pub fn restore(&mut self, count: usize, now: u64) {
        self.log
            .truncate(self.log.len().saturating_sub(count).max(1));
        let epoch = Epoch(self.head().at.epoch.0 + 1);
        for logged in &mut self.log {
            logged.state.at.epoch = epoch;
        }
        self.restart(now);
    }
}

/// A commit as it goes out; all its invalidations are in the first part.
fn messages(logged: &Logged) -> Vec<proto::WatchChangesResponse> {
    let keys = logged
        .changed
        .iter()
        .flatten()
        .map(|question| keys(*question)[0]);
    let parts = (1..=logged.parts).map(|part| {
        event(Event::Commit(proto::Commit {
            revision: logged.state.at.to_string(),
            invalidations: match part {
                1 => keys.clone().collect(),
                _ => Vec::new(),
            },
            invalidate_all: part == 1 && logged.changed.is_none(),
            chain: logged.state.chain,
            more: part < logged.parts,
            ..proto::Commit::default()
        }))
    });
    parts.collect()
}
