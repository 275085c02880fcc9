//! How a question is answered: from the cache, by a call that others wait for too, or alone.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes};
use http::HeaderMap;
use tonic::Status;

use super::cache::{Arrival, Cache, Given, Look, Stale};
use super::clock::Clock;
use super::counters::Counters;
use super::entry::Entry;
use super::flights::{Flights, Landed, Seat, landed};
use super::question::Question;
use super::reply::{Reply, strange};
use super::upstream::Upstream;
use super::verify::Verifier;
use super::wire;
use crate::api::proto::consistency::Requirement;
use crate::api::status;
use crate::revision::{Epoch, Revision, Token};

pub(super) const CHECK: &str = "/portcullis.v1.CheckService/Check";

/// How often a reply that is too old is asked for again.
const AGAIN: usize = 2;

/// Answers questions.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) cache: Arc<Cache>,
    pub(super) upstream: Upstream,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) flights: Arc<Flights>,
    pub(super) verifier: Verifier,
}

/// A caller at the moment it came.
struct Caller<'a> {
    question: &'a Question,
    headers: &'a HeaderMap,
    deadline: Option<Instant>,
    arrival: Arrival,
    epoch: Epoch,
}

/// What was found of a reply.
enum Verdict {
    Give(Bytes),
    Again,
    Alone,
    Fail(Status),
}

impl Answers {
    /// The body of an answer from the cache; `None` where it has none that may be given.
    pub(super) fn hit(self: &Arc<Self>, question: &Question) -> Option<Bytes> {
        let look = self.cache.look();
        let (entry, given, epoch) = self.found(question, &look)?;
        let turn = self.counters.hits.add();
        if self.verifier.is_due(turn) {
            self.verify(question.clone(), &entry, &given, epoch);
        }
        Some(response(&entry, &given, epoch, question.with_keys))
    }

    fn found(&self, question: &Question, look: &Look) -> Option<(Arc<Entry>, Given, Epoch)> {
        let epoch = look.generation().epoch()?;
        let least = match question.least {
            // Of another history: the server knows what to say.
            Some(least) if least.epoch != epoch => return None,
            least => least.map_or(Revision(0), |least| least.revision),
        };
        let Some(entry) = self.cache.find(question.as_key()) else {
            self.counters.absent.add();
            return None;
        };
        let sound = look.judge(&entry, least);
        match sound.and_then(|sound| sound.at(self.clock.now())) {
            Ok(given) => Some((entry, given, epoch)),
            Err(stale) => {
                match stale {
                    Stale::Changed => &self.counters.changed,
                    Stale::Behind => &self.counters.behind,
                    Stale::Over => &self.counters.over,
                    Stale::Unleased => &self.counters.unleased,
                }
                .add();
                None
            }
        }
    }

    /// The body of an answer that the cache does not have.
    pub(super) async fn miss(
        self: &Arc<Self>,
        question: &Question,
        headers: &HeaderMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        let (leased, caller) = self.arrived(question, headers, deadline);
        let Some(caller) = caller.filter(|_| leased) else {
            let least = question.least;
            return self.alone(question, headers, deadline, least).await;
        };
        let mut least = question.least.map(|least| least.revision);
        for round in 0..=AGAIN {
            if round > 0 {
                self.counters.asked_again.add();
                least = Some(caller.arrival.need().max(self.cache.look().applied()));
            }
            match self.shared(&caller, least).await {
                Verdict::Give(body) => return Ok(body),
                Verdict::Fail(status) => return Err(status),
                Verdict::Alone => break,
                Verdict::Again => {}
            }
        }
        let least = match caller.arrival.is_of(&self.cache.generation()) {
            true => Some(Token {
                revision: caller.arrival.need(),
                epoch: caller.epoch,
            }),
            false => question.least,
        };
        self.alone(question, headers, deadline, least).await
    }

    /// Whether a lease runs, and the caller as it comes; `None` before the first Hello, and where
    /// it wants a revision of another history.
    fn arrived<'a>(
        &self,
        question: &'a Question,
        headers: &'a HeaderMap,
        deadline: Option<Instant>,
    ) -> (bool, Option<Caller<'a>>) {
        let look = self.cache.look();
        let leased = self.clock.now().is_before(look.generation().end());
        let epoch = look.generation().epoch();
        let epoch = epoch.filter(|epoch| question.least.is_none_or(|l| l.epoch == *epoch));
        let wanted = question.least.map_or(Revision(0), |least| least.revision);
        let caller = epoch.map(|epoch| Caller {
            question,
            headers,
            deadline,
            arrival: look.arrival(wanted),
            epoch,
        });
        (leased, caller)
    }

    /// Joins a call, or makes it, and judges what comes back for this caller.
    async fn shared(self: &Arc<Self>, caller: &Caller<'_>, least: Option<Revision>) -> Verdict {
        let (landing, is_first) = match self.flights.join((caller.question.key(), least)) {
            Seat::None => return Verdict::Alone,
            Seat::Joined(landing) => {
                self.counters.joined.add();
                (landing, false)
            }
            Seat::First(flight) => {
                let landing = flight.landing();
                let least = least.map(|revision| Token {
                    revision,
                    epoch: caller.epoch,
                });
                let (own, question) = (Arc::clone(self), caller.question.clone());
                let (headers, deadline) = (caller.headers.clone(), caller.deadline);
                // Of its own: others wait for it, too, when this caller goes away.
                tokio::spawn(async move {
                    let landed = own.ask(&question, &headers, deadline, least).await;
                    flight.land(landed);
                });
                (landing, true)
            }
        };
        match within(caller.deadline, landed(landing)).await {
            Err(late) => Verdict::Fail(late),
            Ok(None) => Verdict::Alone,
            Ok(Some(landed)) => self.verdict(caller, landed, is_first),
        }
    }

    fn verdict(&self, caller: &Caller<'_>, landed: Landed, is_first: bool) -> Verdict {
        let reply = match landed {
            Ok(reply) => reply,
            // An error says nothing of when it was true: it is the asker's alone.
            Err(status) if is_first => return Verdict::Fail(status),
            Err(_) => return Verdict::Alone,
        };
        let Some(entry) = &reply.entry else {
            let need = caller.arrival.need();
            let is_new = reply.at.epoch != caller.epoch || reply.at.revision >= need;
            return match is_first && is_new {
                true => given_as_it_came(&reply, caller.question.with_keys),
                false => Verdict::Alone,
            };
        };
        let sound = self.cache.look().judge_reply(entry, &caller.arrival);
        match sound.and_then(|sound| sound.at(self.clock.now())) {
            Ok(given) => {
                let with_keys = caller.question.with_keys;
                Verdict::Give(response(entry, &given, caller.epoch, with_keys))
            }
            Err(Stale::Unleased) => Verdict::Alone,
            Err(_) => Verdict::Again,
        }
    }

    /// Asks for one caller, which came before: the answer is its own whatever has changed since.
    async fn alone(
        &self,
        question: &Question,
        headers: &HeaderMap,
        deadline: Option<Instant>,
        least: Option<Token>,
    ) -> Result<Bytes, Status> {
        self.counters.alone.add();
        let reply = within(deadline, self.ask(question, headers, deadline, least)).await??;
        match given_as_it_came(&reply, question.with_keys) {
            Verdict::Give(body) => Ok(body),
            _ => Err(strange()),
        }
    }

    /// Asks upstream, and keeps what comes back.
    async fn ask(
        &self,
        question: &Question,
        headers: &HeaderMap,
        deadline: Option<Instant>,
        least: Option<Token>,
    ) -> Landed {
        let generation = self.cache.generation();
        let asked = generation.ask(self.clock.now());
        let requirement = least.map(|least| Requirement::AtLeast(least.to_string()));
        let request = wire::amended(question.message(), &wire::with_keys(requirement));
        let metadata = carried(headers);
        let message = self
            .upstream
            .ask(CHECK, metadata, request, deadline)
            .await?;
        let reply = Reply::read(message, asked, generation.epoch())?;
        if let Some(entry) = &reply.entry {
            self.cache.keep(question.key(), Arc::clone(entry));
        }
        Ok(Arc::new(reply))
    }
}

fn given_as_it_came(reply: &Reply, with_keys: bool) -> Verdict {
    let message = match with_keys {
        true => Some(reply.message.clone()),
        false => wire::without_keys(&reply.message),
    };
    message.map_or_else(
        || Verdict::Fail(strange()),
        |message| Verdict::Give(wire::framed(message.len(), |out| out.put_slice(&message))),
    )
}

/// The body of an answer that may be given.
fn response(entry: &Entry, given: &Given, epoch: Epoch, with_keys: bool) -> Bytes {
    let at = wire::TokenText::of(Token {
        revision: given.revision,
        epoch,
    });
    let answer = wire::Answer::new(entry, given, Some(&at), with_keys);
    wire::framed(answer.size(), |out| answer.put(out))
}

/// What of a caller's headers goes with a call that is made for it: all but what is about its
/// connection and its message.
pub(super) fn carried(headers: &HeaderMap) -> HeaderMap {
    const OWN: &[&str] = &[
        "te",
        "content-type",
        "content-length",
        "user-agent",
        "grpc-encoding",
        "grpc-accept-encoding",
    ];
    let mut carried = headers.clone();
    for name in OWN {
        carried.remove(*name);
    }
    carried
}

/// Waits no longer than the caller does.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, Status> {
    match deadline {
        None => Ok(work.await),
        Some(end) => {
            let done = tokio::time::timeout_at(end.into(), work).await;
            done.map_err(|_| status::deadline_exceeded())
        }
    }
}
