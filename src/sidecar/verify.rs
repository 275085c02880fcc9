//! A share of what the cache answers is asked again upstream, at the same revision: the law,
//! watched in production. A difference is a defect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    /// Every how many hits; 0: never.
    one_in: u64,
    hits: Arc<AtomicU64>,
    turns: Arc<Semaphore>,
}

impl Verifier {
    pub(super) fn new(one_in: u64) -> Self {
        Self {
            one_in,
            hits: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Asks again, behind the caller's back, where it is this hit's turn.
    pub(super) fn sample(
        &self,
        answers: &Answers,
        question: &Question,
        entry: &Arc<Entry>,
        given: &Given,
        epoch: Epoch,
    ) {
        if self.one_in == 0 {
            return;
        }
        let turn = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
        let is_due = turn.is_multiple_of(self.one_in);
        if !is_due || given.valid_for.is_some_and(|left| left < NEARLY_OVER) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            return;
        };
        let at = Token {
            revision: given.revision,
            epoch,
        };
        let (answers, question, entry) = (answers.clone(), question.clone(), Arc::clone(entry));
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
        let mut headers = HeaderMap::new();
        let credentials = http::HeaderValue::from_bytes(self.as_key().0);
        if let (false, Ok(value)) = (self.as_key().0.is_empty(), credentials) {
            headers.insert(http::header::AUTHORIZATION, value);
        }
        headers
    }
}
