//! A share of what the cache answers is asked again upstream, at the same revision: the law,
//! watched in production. A difference is a defect.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use prost::Message as _;
use tokio::sync::Semaphore;

use super::answers::{Answers, CHECK};
use super::cache::Given;
use super::entry::Entry;
use super::question::Question;
use super::wire;
use crate::api::proto;
use crate::api::proto::consistency::Requirement;
use crate::revision::{Epoch, Token};

/// The most that are asked again at a time; past it hits go unasked.
const AT_ONCE: usize = 16;
/// An answer whose time is nearly over may be another one when the question arrives.
const NEARLY_OVER: Duration = Duration::from_secs(5);

/// Which hits are asked again: every so many of a thread's, those in batches among them.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Every how many hits; 0: never.
    one_in: u64,
    turns: Arc<Semaphore>,
}

impl Verifier {
    pub(super) fn new(one_in: u64) -> Self {
        Self {
            one_in,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether it is the turn of the hit that follows `before` others.
    pub(super) fn is_due(&self, before: u64) -> bool {
        self.one_in > 0 && (before + 1).is_multiple_of(self.one_in)
    }

    /// Those of a batch of `count` whose turn it is, by their place.
    pub(super) fn due_among(&self, before: u64, count: usize) -> impl Iterator<Item = usize> {
        let (one_in, turns) = (self.one_in.max(1), self.one_in.min(1));
        let first = usize::try_from(one_in - 1 - before % one_in).unwrap_or(usize::MAX);
        let apart = usize::try_from(one_in).unwrap_or(usize::MAX);
        // None at all where none is ever due.
        let end = count * usize::try_from(turns).unwrap_or(0);
        (first..end).step_by(apart)
    }
}

impl Answers {
    /// Asks again, behind the caller's back, unless enough is asked already.
    pub(super) fn verify(
        self: &Arc<Self>,
        question: Question,
        entry: &Arc<Entry>,
        given: &Given,
        epoch: Epoch,
    ) {
        if given.valid_for.is_some_and(|left| left < NEARLY_OVER) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.verifier.turns).try_acquire_owned() else {
            return;
        };
        let at = Token {
            revision: given.revision,
            epoch,
        };
        let (answers, entry) = (Arc::clone(self), Arc::clone(entry));
        tokio::spawn(async move {
            verify(&answers, &question, &entry, at).await;
            drop(turn);
        });
    }
}

async fn verify(answers: &Answers, question: &Question, entry: &Entry, at: Token) {
    let requirement = Requirement::Exactly(at.to_string());
    let more = proto::CheckRequest {
        with_dependencies: false,
        ..wire::with_keys(Some(requirement))
    };
    let request = wire::amended(question.message(), &more);
    let asked = answers
        .upstream
        .ask(CHECK, question.headers(), request, None);
    // Trimmed, or nobody there: nothing was learnt.
    let Ok(Ok(message)) = tokio::time::timeout(NEARLY_OVER, asked).await else {
        return;
    };
    let read = |bytes: &[u8]| proto::CheckResponse::decode(bytes).ok().map(meaning);
    let (given, right) = (read(&entry.body), read(&message));
    // What time changes has another end by now, if it has not changed itself.
    let is_timed = !answers.clock.now().is_before(entry.end);
    match given == right || is_timed {
        true => drop(answers.counters.verified.add()),
        false => {
            answers.counters.differences.add();
            tracing::error!(
                revision = %at, ?given, ?right, request = ?question.message(),
                "a cached answer differs from the server's at the same revision: a defect"
            );
        }
    }
}

/// What of a response is the answer.
fn meaning(response: proto::CheckResponse) -> impl PartialEq + std::fmt::Debug {
    let mut locks: Vec<_> = response
        .locks
        .into_iter()
        .map(|lock| lock.lock_id)
        .collect();
    locks.sort();
    let mut missing = response.missing_context;
    missing.sort();
    (response.decision, response.denial_reason, locks, missing)
}

/// The credentials alone: the caller's other headers are gone.
impl Question {
    fn headers(&self) -> HeaderMap {
        let named = self.credentials().cloned();
        let named = named.map(|value| (http::header::AUTHORIZATION, value));
        named.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_so_many_are_due_alone_or_in_batches() {
        // one in, hits before, of so many: the places
        let cases: [(u64, u64, usize, &[usize]); 8] = [
            (0, 0, 5, &[]),
            (1, 7, 3, &[0, 1, 2]),
            (3, 0, 2, &[]),
            (3, 0, 7, &[2, 5]),
            (3, 2, 7, &[0, 3, 6]),
            (3, 4, 2, &[1]),
            (1_000, 999, 1, &[0]),
            (1_000, 998, 1, &[]),
        ];
        for (one_in, before, count, expected) in cases {
            let verifier = Verifier::new(one_in);
            let due: Vec<usize> = verifier.due_among(before, count).collect();
            assert_eq!(due, expected, "{one_in} {before} {count}");
            let alone = (0..count as u64).filter(|at| verifier.is_due(before + at));
            assert!(alone.eq(expected.iter().map(|at| *at as u64)), "{one_in}");
        }
    }
}
