//! The stream of changes and the acknowledgements: what keeps the cache good and its lease
//! running, for as long as the sidecar runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use super::cache::Cache;
use super::clock::Clock;
use super::counters::Counters;
use super::follower::{Broken, Follower, Step};
use super::lease::Granted;
use super::rhythm::{Rhythm, Use};
use super::upstream::Upstream;
use crate::api::proto;
use crate::api::proto::watch_service_client::WatchServiceClient;
use crate::revision::{Epoch, Token};

/// How long until the next attempt after the first that failed, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a stream may take to say Hello.
const HELLO: Duration = Duration::from_secs(5);
/// How long it may say nothing, at least, whatever the interval of its heartbeats.
const SILENCE: Duration = Duration::from_secs(2);
/// How long an acknowledgement may take to be answered, at least.
const ACK: Duration = Duration::from_secs(1);

/// Who the sidecar is, and what it works with.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) upstream: Upstream,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
    pub(super) watcher_id: Arc<str>,
    pub(super) counters: Arc<Counters>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{}", .0.message())]
    Refused(#[from] Status),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("it said nothing for {0:?}")]
    Silent(Duration),
    #[error("the server ended it")]
    Over,
}

impl Link {
    /// Follows one stream after another, and never ends.
    pub(super) async fn run(self) {
        let mut follower = Follower::new(Arc::clone(&self.cache));
        let (mut pause, mut failures) = (FIRST_PAUSE, 0_u64);
        loop {
            let mut began = false;
            let Err(ended) = self.follow(&mut follower, &mut began).await;
            self.upstream.set_up(false);
            if began {
                self.counters.streams_ended.add();
                (pause, failures) = (FIRST_PAUSE, 0);
            }
            self.tell(&ended, began, failures);
            failures += 1;
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Once a stream, and then now and again: a server that is away for a night is one line in
    /// the log a minute, about.
    fn tell(&self, ended: &Ended, began: bool, failures: u64) {
        const EVERY: u64 = 60;
        let upstream = self.upstream.name();
        if began {
            tracing::warn!(%upstream, "the stream of changes ended: {ended}");
        } else if failures.is_multiple_of(EVERY) {
            tracing::warn!(%upstream, failures, "no stream of changes: {ended}");
        } else {
            tracing::debug!(%upstream, failures, "no stream of changes: {ended}");
        }
    }

    async fn follow(
        &self,
        follower: &mut Follower,
        began: &mut bool,
    ) -> Result<std::convert::Infallible, Ended> {
        let opening = follower.open();
        let request = proto::WatchChangesRequest {
            after: opening.after.map_or_else(String::new, |at| at.to_string()),
            after_chain: opening.after_chain,
            invalidations_only: true,
            watcher_id: self.watcher_id.to_string(),
            ..proto::WatchChangesRequest::default()
        };
        let mut client =
            WatchServiceClient::new(self.upstream.link()).max_decoding_message_size(MOST_EVENT);
        let opened = timeout(HELLO, client.watch_changes(request)).await;
        let mut events = opened.map_err(|_| Ended::Silent(HELLO))??.into_inner();
        let hello = next(&mut events, HELLO).await?;
        let step = follower.take(opening.stream, hello)?;
        let Step::Began {
            session,
            lease,
            heartbeat,
        } = step
        else {
            return Err(Broken::Malformed("another event before Hello").into());
        };
        *began = true;
        self.upstream.set_up(true);
        tracing::info!(upstream = %self.upstream.name(), session, "following the stream of changes");
        let wake = Notify::new();
        let events = async {
            let silence = (heartbeat * 3).max(SILENCE);
            loop {
                let event = next(&mut events, silence).await?;
                match follower.take(opening.stream, event)? {
                    Step::Applied { ack_now } => {
                        self.counters.commits.add();
                        if ack_now {
                            wake.notify_one();
                        }
                    }
                    Step::Beat => wake.notify_one(),
                    Step::Forgotten => {
                        self.counters.resets.add();
                        tracing::info!("the history is another one: all answers are forgotten");
                        wake.notify_one();
                    }
                    Step::Began { .. } | Step::Nothing => {}
                }
            }
        };
        tokio::select! {
            ended = events => ended,
            never = self.acknowledge(&session, lease, &wake) => match never {},
        }
    }

    /// Acknowledges, one at a time: at once when woken, else in the rhythm of the lease.
    async fn acknowledge(
        &self,
        session: &str,
        lease: Duration,
        wake: &Notify,
    ) -> std::convert::Infallible {
        let rhythm = Rhythm::of(lease);
        let mut client = WatchServiceClient::new(self.upstream.link());
        loop {
            let (sent, last) = (Instant::now(), self.used());
            self.acknowledge_once(&mut client, session, lease).await;
            tokio::select! {
                () = wake.notified() => {}
                () = self.due(rhythm, sent, last) => {}
            }
        }
    }

    /// Until an acknowledgement is due after the `last` one.
    async fn due(&self, rhythm: Rhythm, sent: Instant, last: Use) {
        let mut look = sent;
        loop {
            look += rhythm.look();
            tokio::time::sleep_until(look).await;
            let left = self.clock.now().until(self.cache.generation().end());
            if rhythm.is_due(last, self.used(), left) {
                return;
            }
        }
    }

    fn used(&self) -> Use {
        Use {
            asked: self.counters.asked(),
            applied: self.cache.generation().applied(),
        }
    }

    async fn acknowledge_once(
        &self,
        client: &mut WatchServiceClient<tonic::transport::Channel>,
        session: &str,
        lease: Duration,
    ) {
        let generation = self.cache.generation();
        let Some(epoch) = generation.epoch() else {
            return;
        };
        let applied = Token {
            revision: generation.applied(),
            epoch,
        };
        let request = proto::AckChangesRequest {
            watcher_id: self.watcher_id.to_string(),
            revision: applied.to_string(),
            session: session.to_owned(),
        };
        // After what it acknowledges was read, and before it is on its way.
        let sent = self.clock.now();
        let patience = lease.clamp(ACK, HELLO);
        match timeout(patience, client.ack_changes(request)).await {
            Ok(Ok(reply)) => {
                let granted = granted(reply.into_inner(), epoch);
                let has_lease = granted.is_some_and(|granted| !granted.lease.is_zero());
                match has_lease {
                    true => self.counters.leases.add(),
                    false => self.counters.refused_leases.add(),
                };
                generation.acknowledged(sent, granted);
            }
            // What was granted runs on to its end.
            Ok(Err(status)) => tracing::debug!(%status, "an acknowledgement failed"),
            Err(_) => tracing::debug!("an acknowledgement was not answered in time"),
        }
    }
}

/// `None` where it does not count: of another history, or malformed.
fn granted(reply: proto::AckChangesResponse, epoch: Epoch) -> Option<Granted> {
    let proto::AckChangesResponse {
        lease,
        revision,
        head_age,
    } = reply;
    let head: Token = revision.parse().ok()?;
    let span = |from: Option<prost_types::Duration>| Duration::try_from(from.unwrap_or_default());
    (head.epoch == epoch).then_some(Granted {
        lease: span(lease).ok()?,
        head: head.revision,
        head_age: span(head_age).ok()?,
    })
}

/// Parts of a commit are 1 MiB, about; the invalidations of the first are 800 kB at most.
const MOST_EVENT: usize = 16 << 20;

async fn next(
    events: &mut Streaming<proto::WatchChangesResponse>,
    patience: Duration,
) -> Result<proto::WatchChangesResponse, Ended> {
    let event = timeout(patience, events.message()).await;
    event
        .map_err(|_| Ended::Silent(patience))??
        .ok_or(Ended::Over)
}

/// Between a half and the whole of a span, so that sidecars do not come all at once.
fn jittered(span: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without random bytes they do come at once, which is no more than slow.
    let _ = getrandom::fill(&mut random);
    span / 2 + span / 512 * u32::from(random[0])
}
