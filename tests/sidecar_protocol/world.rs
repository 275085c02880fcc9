//! Caches, a server, and everything that is on its way between them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis::api::proto;
use portcullis::revision::{Epoch, Revision, Token};
use portcullis::sidecar::cache::{Arrival, Cache, Look, Size, Sound, Stale};
use portcullis::sidecar::clock::Moment;
use portcullis::sidecar::entry::{AsKey, Asked, Entry, Key};
use portcullis::sidecar::follower::{Broken, Follower, Step};
use portcullis::sidecar::generation::Generation;
use portcullis::sidecar::lease::Granted;
use portcullis::sidecar::rhythm::{Rhythm, Use};

use crate::server::{LEASE, MS, QUESTIONS, Server, State, Stream, keys};

/// What the server answered; `None` where it does not count.
type Reply = Option<Granted>;

/// An acknowledgement on its way there (`reply` is none) or back.
pub struct AckFlight {
    generation: Arc<Generation>,
    sent: Moment,
    session: String,
    applied: Token,
    reply: Option<Reply>,
}

/// A question on its way upstream or back, and who waits for it.
pub struct Fill {
    pub question: usize,
    asked: Asked,
    epoch: Option<Epoch>,
    /// Once the server has answered: the state, and when its answer ends.
    reply: Option<(State, Option<Duration>)>,
    pub waiting: Vec<Reader>,
}

/// A caller.
pub struct Reader {
    pub question: usize,
    arrival: Arrival,
    /// Of the generation that it found.
    epoch: Option<Epoch>,
    /// The earliest state of the timeline that it may be answered from, as far as barriers go.
    floor: usize,
    look: Option<Look>,
    sound: Option<(Sound, Arc<Entry>)>,
}

pub struct Node {
    pub name: String,
    pub cache: Arc<Cache>,
    pub follower: Follower,
    /// The stream's name to the follower, and the session it said Hello with.
    pub stream: Option<u64>,
    pub session: Option<String>,
    /// The server's incarnation of the last Hello.
    heard: u64,
    pub acks: Vec<AckFlight>,
    pub fills: Vec<Fill>,
    pub readers: Vec<Reader>,
    /// How many thousandths of a true second its boot clock runs a second.
    pub rate: u64,
    pub wall: i64,
    /// How many questions it was asked, and its use when it acknowledged last.
    asked: u64,
    last: Option<Use>,
}

impl Node {
    fn used(&self) -> Use {
        Use {
            asked: self.asked,
            applied: self.cache.generation().applied(),
        }
    }
}

impl Reader {
    /// Whether only the clock is left to be read.
    pub fn is_judged(&self) -> bool {
        self.sound.is_some()
    }
}

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// An answer: that of this number.
    Answer(u64),
    Stale(Stale),
    /// Nothing is kept.
    Nothing,
}

#[derive(Default, Debug)]
pub struct Seen {
    pub answers: u64,
    pub refused: u64,
    pub complete: u64,
    /// Barriers that ended while a lease ran.
    pub awaited: u64,
    pub renewed: u64,
    pub resets: u64,
}

pub struct World {
    pub now: u64,
    pub server: Server,
    pub nodes: Vec<Node>,
    /// What the server has of each node's streams, the newest last.
    pub streams: Vec<Vec<Stream>>,
    /// Every state that was published, and when.
    pub timeline: Vec<(u64, State)>,
    /// For each revision that is waited for, its place in the timeline.
    pub barriers: Vec<(Revision, usize)>,
    /// Up to here every cache is promised to be.
    pub promised: usize,
    pub seen: Seen,
}

/// The wall clock at the start.
const WALL: u64 = 1_700_000_000_000_000_000;

impl World {
    pub fn new(names: &[&str]) -> Self {
        let now = 10_000 * MS;
        let server = Server::new(now);
        let nodes = names.iter().map(|name| Node::new(name)).collect();
        Self {
            now,
            timeline: vec![(now, server.head().clone())],
            server,
            nodes,
            streams: names.iter().map(|_| Vec::new()).collect(),
            barriers: Vec::new(),
            promised: 0,
            seen: Seen::default(),
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now += ms * MS;
    }

    pub fn clock(&self, node: usize) -> Moment {
        let Node { rate, wall, .. } = self.nodes[node];
        Moment {
            boot: self.now / 1_000 * rate,
            wall: (WALL + self.now).checked_add_signed(wall).unwrap(),
        }
    }

    // The server.

    /// A commit, whole; gives its revision.
    pub fn commit(&mut self, changed: &[usize]) -> Revision {
        self.stamp(Some(changed.to_vec()), 1);
        self.publish()
    }

    pub fn stamp(&mut self, changed: Option<Vec<usize>>, parts: u64) {
        self.server.stamp(changed, parts, self.now);
    }

    pub fn publish(&mut self) -> Revision {
        self.server.publish(self.streams.iter_mut().flatten());
        self.enter();
        self.server.head().at.revision
    }

    /// The newest state is the timeline's next.
    fn enter(&mut self) {
        self.timeline.push((self.now, self.server.head().clone()));
    }

    /// A write waits for what is published now.
    pub fn barrier(&mut self) -> Revision {
        let revision = self.server.head().at.revision;
        self.server.leases.barrier(revision);
        self.barriers.push((revision, self.timeline.len() - 1));
        revision
    }

    /// Looks whether waits are over; gives whether that of `revision` is.
    pub fn settle(&mut self, revision: Revision) -> bool {
        let Some(at) = self.barriers.iter().position(|(of, _)| *of == revision) else {
            return false;
        };
        if !self.server.is_complete(revision, self.now) {
            return false;
        }
        let (_, place) = self.barriers.remove(at);
        self.promised = self.promised.max(place);
        self.seen.complete += 1;
        let now = crate::server::boot(self.now);
        let runs = |stream: &Stream| {
            let standing = self.server.leases.standing(stream.session, now);
            standing.is_some_and(|standing| !standing.lease.is_zero())
        };
        self.seen.awaited += u64::from(self.streams.iter().flatten().any(runs));
        true
    }

    pub fn restart(&mut self) {
        self.server.restart(self.now);
        self.down();
    }

    pub fn lose(&mut self, count: usize) {
        self.server.lose(count, self.now);
        self.down();
    }

    pub fn restore(&mut self, count: usize) {
        self.server.restore(count, self.now);
        self.down();
    }

    /// What the server had of streams and waits is gone with its process.
    fn down(&mut self) {
        self.barriers.clear();
        self.streams.iter_mut().for_each(Vec::clear);
        self.enter();
    }

    // Streams.

    /// Opens a stream; the one before it may still be open at the server.
    pub fn connect(&mut self, node: usize) {
        let opening = self.nodes[node].follower.open();
        let name = self.nodes[node].name.clone();
        let stream = (self.server).open(&name, (opening.after, opening.after_chain), self.now);
        self.nodes[node].stream = Some(opening.stream);
        self.nodes[node].session = None;
        self.streams[node].push(stream);
    }

    /// The server finds out that a stream is gone.
    pub fn notice(&mut self, node: usize, place: usize) {
        let stream = self.streams[node].remove(place);
        self.server
            .leases
            .close(stream.session, crate::server::boot(self.now));
    }

    /// Delivers one event; `None` where none is there.
    pub fn deliver(&mut self, node: usize) -> Option<Result<Step, Broken>> {
        let event = self.streams[node].last_mut()?.queue.pop_front()?;
        let here = &mut self.nodes[node];
        let taken = here.follower.take(here.stream?, event);
        match &taken {
            Ok(Step::Began { session, .. }) => {
                here.session = Some(session.clone());
                here.heard = self.server.incarnation;
            }
            Ok(Step::Forgotten) => self.seen.resets += 1,
            Ok(_) => {}
            Err(_) => {
                here.stream = None;
                here.session = None;
            }
        }
        Some(taken)
    }

    /// Delivers all that is there.
    pub fn deliver_all(&mut self, node: usize) {
        while let Some(taken) = self.deliver(node) {
            taken.unwrap();
        }
    }

    /// A cache that follows, has applied everything and has a lease.
    pub fn join(&mut self, node: usize) {
        self.connect(node);
        self.deliver_all(node);
        self.ack(node);
    }

    // Acknowledgements.

    /// Whether a sidecar would acknowledge, if it looked now.
    pub fn is_due(&self, node: usize) -> bool {
        let here = &self.nodes[node];
        let left = self.clock(node).until(here.cache.generation().end());
        let last = here.last;
        last.is_none_or(|last| {
            Rhythm::of(Duration::from_nanos(LEASE)).is_due(last, here.used(), left)
        })
    }

    pub fn ack_send(&mut self, node: usize) -> bool {
        let sent = self.clock(node);
        let here = &mut self.nodes[node];
        let generation = here.cache.generation();
        let (Some(session), Some(epoch)) = (here.session.clone(), generation.epoch()) else {
            return false;
        };
        here.last = Some(here.used());
        here.acks.push(AckFlight {
            applied: Token {
                revision: generation.applied(),
                epoch,
            },
            generation,
            sent,
            session,
            reply: None,
        });
        true
    }

    /// The server answers, from a head that it confirmed `age` ago.
    pub fn ack_arrives(&mut self, node: usize, age: u64) -> Duration {
        let here = &mut self.nodes[node];
        let Some(flight) = here.acks.iter_mut().find(|flight| flight.reply.is_none()) else {
            return Duration::ZERO;
        };
        let then = self.now.saturating_sub(age);
        let confirmed = self.timeline.iter().rfind(|(at, _)| *at <= then);
        let head = confirmed
            .map_or(&self.timeline[0].1, |(_, state)| state)
            .clone();
        let whose = (here.name.as_str(), flight.session.as_str());
        let lease = self.server.ack(whose, flight.applied, &head, self.now);
        self.seen.renewed += u64::from(!lease.is_zero());
        flight.reply = Some((head.at.epoch == flight.applied.epoch).then_some(Granted {
            lease,
            head: head.at.revision,
            head_age: Duration::from_nanos(age),
        }));
        lease
    }

    pub fn ack_returns(&mut self, node: usize) {
        let acks = &mut self.nodes[node].acks;
        if let Some(at) = acks.iter().position(|flight| flight.reply.is_some()) {
            let flight = acks.remove(at);
            flight
                .generation
                .acknowledged(flight.sent, flight.reply.unwrap());
        }
    }

    /// There and back; gives what was granted in milliseconds.
    pub fn ack(&mut self, node: usize) -> u128 {
        assert!(self.ack_send(node), "no session");
        let lease = self.ack_arrives(node, 0);
        self.ack_returns(node);
        lease.as_millis()
    }

    // Questions.

    /// A caller comes.
    pub fn arrive(&self, node: usize, question: usize) -> Reader {
        let look = self.nodes[node].cache.look();
        Reader {
            question,
            arrival: look.arrival(Revision(0)),
            epoch: look.generation().epoch(),
            floor: self.promised,
            look: Some(look),
            sound: None,
        }
    }

    /// It looks into the cache.
    pub fn judge(&self, node: usize, reader: &mut Reader) -> Option<Got> {
        let look = reader.look.take().unwrap();
        let Some(entry) = self.nodes[node]
            .cache
            .find(AsKey(b"", &name(reader.question)))
        else {
            return Some(Got::Nothing);
        };
        match look.judge(&entry, Revision(0)) {
            Ok(sound) => reader.sound = Some((sound, entry)),
            Err(stale) => return Some(Got::Stale(stale)),
        }
        None
    }

    /// It reads the clock, and answers or not.
    pub fn finish(&mut self, node: usize, reader: Reader) -> Got {
        let (sound, entry) = reader.sound.unwrap();
        let given = match sound.at(self.clock(node)) {
            Ok(given) => given,
            Err(stale) => {
                self.seen.refused += 1;
                return Got::Stale(stale);
            }
        };
        let answer = u64::from_be_bytes(entry.body.as_ref().try_into().unwrap());
        self.seen.answers += 1;
        self.judge_promises(reader.question, reader.floor, answer);
        let named = Token {
            revision: given.revision,
            epoch: reader.epoch.unwrap(),
        };
        self.judge_law(node, reader.question, named, answer);
        Got::Answer(answer)
    }

    /// All at once.
    pub fn ask(&mut self, node: usize, question: usize) -> Got {
        self.nodes[node].asked += 1;
        let mut reader = self.arrive(node, question);
        match self.judge(node, &mut reader) {
            Some(got) => got,
            None => self.finish(node, reader),
        }
    }

    /// A question goes upstream for a caller.
    pub fn fill_send(&mut self, node: usize, question: usize) {
        let reader = self.arrive(node, question);
        let generation = self.nodes[node].cache.generation();
        let fill = Fill {
            question,
            asked: generation.ask(self.clock(node)),
            epoch: generation.epoch(),
            reply: None,
            waiting: vec![reader],
        };
        self.nodes[node].fills.push(fill);
    }

    /// The server answers the first that has no answer.
    pub fn fill_arrives(&mut self, node: usize, valid_for: Option<Duration>) {
        let head = self.server.head().clone();
        let mut fills = self.nodes[node].fills.iter_mut();
        if let Some(fill) = fills.find(|fill| fill.reply.is_none()) {
            fill.reply = Some((head, valid_for));
        }
    }

    /// The answer is there: it is kept, and judged for each that waits.
    pub fn fill_returns(&mut self, node: usize) -> Vec<Got> {
        let fills = &mut self.nodes[node].fills;
        let Some(at) = fills.iter().position(|fill| fill.reply.is_some()) else {
            return Vec::new();
        };
        let fill = fills.remove(at);
        let (state, valid_for) = fill.reply.unwrap();
        if fill.epoch != Some(state.at.epoch) {
            return Vec::new();
        }
        let answer = state.answers[fill.question];
        let entry = Arc::new(Entry {
            asked: fill.asked,
            revision: state.at.revision,
            end: valid_for.map_or(Moment::NEVER, |span| fill.asked.at.plus(span)),
            keys: keys(fill.question).into(),
            body: Bytes::copy_from_slice(&answer.to_be_bytes()),
        });
        let key = Key::new(Bytes::new(), Bytes::copy_from_slice(&name(fill.question)));
        self.nodes[node].cache.keep(key, Arc::clone(&entry));
        let mut got = Vec::new();
        for mut reader in fill.waiting {
            let look = self.nodes[node].cache.look();
            match look.judge_reply(&entry, &reader.arrival) {
                Err(stale) => got.push(Got::Stale(stale)),
                Ok(sound) => {
                    reader.sound = Some((sound, Arc::clone(&entry)));
                    got.push(self.finish(node, reader));
                }
            }
        }
        got
    }

    /// There and back.
    pub fn fill(&mut self, node: usize, question: usize) -> Vec<Got> {
        self.fill_send(node, question);
        self.fill_arrives(node, None);
        self.fill_returns(node)
    }

    /// The answer that is right now.
    pub fn right(&self, question: usize) -> Got {
        Got::Answer(self.server.head().answers[question])
    }

    /// An answer is one of a state that is not older than a lease, nor than what was promised
    /// before its caller came.
    fn judge_promises(&self, question: usize, floor: usize, answer: u64) {
        let then = self.now - LEASE;
        let live = self.timeline.iter().rposition(|(at, _)| *at <= then);
        let least = floor.max(live.unwrap_or(0));
        let right = |(_, state): &(u64, State)| state.answers[question] == answer;
        assert!(
            self.timeline[least..].iter().any(right),
            "answer {answer} to question {question} is of no state from {least} on; promised \
             {floor}, older than a lease {live:?}\n{:#?}",
            &self.timeline[least.saturating_sub(3)..]
        );
    }

    /// An answer is the right one at the revision that it names.
    fn judge_law(&self, node: usize, question: usize, at: Token, answer: u64) {
        // One that follows a tail which is lost gives the new history's answers the old one's
        // numbers, until it hears of it.
        if self.nodes[node].heard < self.server.lost {
            return;
        }
        let named = |(_, state): &&(u64, State)| state.at == at;
        let mut states = self.timeline.iter().filter(named);
        assert!(
            states.any(|(_, state)| state.answers[question] == answer),
            "answer {answer} to question {question} is wrong at {at}\n{:#?}",
            self.timeline
        );
    }
}

fn name(question: usize) -> [u8; 8] {
    assert!(question < QUESTIONS);
    (question as u64).to_be_bytes()
}

impl Node {
    fn new(name: &str) -> Self {
        let size = Size {
            bytes: 1 << 20,
            slots: 64,
        };
        let cache = Arc::new(Cache::new(size));
        Self {
            name: name.to_owned(),
            follower: Follower::new(Arc::clone(&cache)),
            cache,
            stream: None,
            session: None,
            heard: 1,
            acks: Vec::new(),
            fills: Vec::new(),
            readers: Vec::new(),
            rate: 1_000,
            wall: 0,
            asked: 0,
            last: None,
        }
    }
}

/// An event as it could come from anybody.
pub fn commit_event(at: Token, keys: &[u64], more: bool) -> proto::WatchChangesResponse {
    use proto::watch_changes_response::Event;
    proto::WatchChangesResponse {
        event: Some(Event::Commit(proto::Commit {
            revision: at.to_string(),
            invalidations: keys.to_vec(),
            more,
            ..proto::Commit::default()
        })),
    }
}
