//! `BatchCheck`: from the cache where all of it is, at one revision; else upstream, whole.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes};
use http::HeaderMap;
use prost::Message as _;
use tonic::Status;

use super::answers::{Answers, carried, within};
use super::cache::{Given, Look};
use super::entry::{AsKey, Asked, Entry};
use super::question::{Batch, Question};
use super::reply::{entry, strange};
use super::wire;
use crate::api::proto;
use crate::api::proto::batch_check_response::result::Outcome;
use crate::revision::{Epoch, Revision, Token};

pub(super) const BATCH_CHECK: &str = "/portcullis.v1.CheckService/BatchCheck";

/// Batches of more items are not kept: their keys would make the answer many times as large.
const MOST_KEPT: usize = 1_000;

/// What is kept of an item, and how it may be given.
type Found = (Arc<Entry>, Given);

impl Answers {
    /// The body of a batch's answer from the cache.
    pub(super) fn batch_hit(self: &Arc<Self>, batch: &Batch) -> Option<Bytes> {
        let look = self.cache.look();
        let epoch = look.generation().epoch()?;
        if batch.items.is_empty() || batch.least.is_some_and(|least| least.epoch != epoch) {
            return None;
        }
        let least = batch.least.map_or(Revision(0), |least| least.revision);
        // All are good at what is applied, which the whole batch then names.
        let found: Option<Vec<_>> = (batch.items.iter())
            .map(|item| self.batched(batch.as_key(item), &look, least))
            .collect();
        let found = found?;
        self.counters.batch_hits.add();
        self.verify_some(batch, &found, epoch);
        let revision = Token {
            revision: look.applied(),
            epoch,
        };
        Some(body(&found, revision, batch.with_keys))
    }

    /// Asks about those again whose turn it is.
    fn verify_some(self: &Arc<Self>, batch: &Batch, found: &[Found], epoch: Epoch) {
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        let before = self.counters.batched_hits.add_many(count);
        for place in self.verifier.due_among(before, found.len()) {
            if let (Some(item), Some((entry, given))) = (batch.items.get(place), found.get(place)) {
                let question = Question::of_batch(batch, item.clone());
                self.verify(question, entry, given, epoch);
            }
        }
    }

    fn batched(&self, key: AsKey<'_>, look: &Look, least: Revision) -> Option<Found> {
        let entry = self.cache.find(key)?;
        // One that is ahead of the stream is not known to have been so at what is applied.
        if entry.revision > look.applied() {
            return None;
        }
        let sound = look.judge(&entry, least).ok()?;
        let given = sound.at(self.clock.now()).ok()?;
        Some((entry, given))
    }

    /// The body of a batch's answer from upstream, whose items are kept.
    pub(super) async fn batch_miss(
        &self,
        batch: &Batch,
        message: &Bytes,
        headers: &HeaderMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        self.counters.batch_misses.add();
        let generation = self.cache.generation();
        let asked = generation.ask(self.clock.now());
        let more = proto::BatchCheckRequest {
            with_dependencies: batch.items.len() <= MOST_KEPT,
            ..proto::BatchCheckRequest::default()
        };
        let request = wire::amended(message, &more);
        let call = (self.upstream).ask(BATCH_CHECK, carried(headers), request, deadline);
        let answer = within(deadline, call).await??;
        if more.with_dependencies {
            self.keep_batch(batch, &answer, asked, generation.epoch());
        }
        let answer = match batch.with_keys {
            true => answer,
            false => wire::batch_without_keys(&answer).ok_or_else(strange)?,
        };
        Ok(wire::framed(answer.len(), |out| out.put_slice(&answer)))
    }

    fn keep_batch(&self, batch: &Batch, answer: &Bytes, asked: Asked, epoch: Option<Epoch>) {
        let Ok(response) = proto::BatchCheckResponse::decode(answer.clone()) else {
            return;
        };
        let at = response.revision.parse::<Token>().ok();
        let Some(at) = at.filter(|at| Some(at.epoch) == epoch) else {
            return;
        };
        for (item, result) in batch.items.iter().zip(response.results) {
            let Some(Outcome::Response(response)) = result.outcome else {
                continue;
            };
            let message = response.encode_to_vec();
            if let Some(entry) = entry(&response, &message, at, asked) {
                self.cache.keep(batch.key(item), entry);
            }
        }
    }
}

fn body(found: &[Found], at: Token, with_keys: bool) -> Bytes {
    let answers: Vec<_> = (found.iter())
        .map(|(entry, given)| wire::Answer::new(entry, given, None, with_keys))
        .collect();
    let tail = proto::BatchCheckResponse {
        revision: at.to_string(),
        ..proto::BatchCheckResponse::default()
    };
    let size: usize = answers.iter().map(|answer| answer.size() + 16).sum();
    wire::framed(size + tail.encoded_len(), |out| {
        for answer in &answers {
            answer.put_as_result(out);
        }
        // A buffer that grows takes every message.
        let _ = tail.encode(out);
    })
}
