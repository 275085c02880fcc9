//! The sidecar: answers next to the application, from a cache that a lease keeps honest.
//!
//! Hides when a kept answer may be given (section 8 of the design). The parts that decide it hold
//! no clock and do no IO: [`cache`] (slots, floor, revision), [`lease`] (until when), and
//! [`follower`] (the stream). What stands around them reads clocks and sockets.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::server::NamedService as _;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::proto;
use crate::revision::Revision;
use crate::server::{self, Connections, Listener};

pub mod cache;

pub mod clock;

pub mod counters;

pub mod entry;

pub mod follower;

pub mod generation;

pub mod lease;

pub mod rhythm;

mod answers;

mod batches;

mod flights;

mod front;

mod link;

mod question;

mod reply;

mod upstream;

mod verify;

mod wire;

pub use upstream::{Address, MalformedAddress};

use answers::Answers;
use cache::{Cache, Size};
use clock::Clock;
use counters::Counters;
use front::Front;
use link::Link;
use upstream::Upstream;
use verify::Verifier;

/// How often health is looked at: a lease ends by itself.
const HEALTH_SPAN: Duration = Duration::from_millis(200);
/// How often the counters go into the log, where they changed.
const REPORT_SPAN: Duration = Duration::from_secs(60);

/// How to run a sidecar.
#[derive(Clone, Debug)]
pub struct SidecarOptions {
    /// The server.
    pub upstream: Address,
    /// How much to keep.
    pub size: Size,
    /// Every how many hits are asked again upstream; 0: none.
    pub verify_one_in: u64,
    /// Names this cache to the server.
    pub watcher_id: String,
    /// The most bytes of a question that comes in.
    pub max_message_bytes: usize,
    /// How long requests that are under way may take to end once serving is to end.
    pub drain: Duration,
    /// Tells the time.
    pub clock: Clock,
}

impl SidecarOptions {
    /// One of `upstream` under a name, and what flags leave out.
    pub fn new(upstream: Address, watcher_id: impl Into<String>) -> Self {
        Self {
            upstream,
            size: Size::default(),
            verify_one_in: 1_000,
            watcher_id: watcher_id.into(),
            max_message_bytes: 4 << 20,
            drain: Duration::from_secs(5),
            clock: Clock::system(),
        }
    }
}

/// A sidecar that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Sidecar {
    answers: Arc<Answers>,
    front: Front,
    health: HealthReporter,
    drain: Duration,
    tasks: JoinSet<()>,
}

impl Sidecar {
    /// Begins to follow the server. Needs a tokio runtime.
    pub fn start(options: SidecarOptions) -> Self {
        let SidecarOptions {
            upstream,
            size,
            verify_one_in,
            watcher_id,
            max_message_bytes,
            drain,
            clock,
        } = options;
        let cache = Arc::new(Cache::new(size));
        let counters = Arc::new(Counters::default());
        let health = HealthReporter::new();
        let answers = Arc::new(Answers {
            cache: Arc::clone(&cache),
            upstream: Upstream::new(upstream, Arc::clone(&counters)),
            clock: clock.clone(),
            counters: Arc::clone(&counters),
            flights: Arc::default(),
            verifier: Verifier::new(verify_one_in),
        });
        let link = Link {
            upstream: answers.upstream.clone(),
            cache: Arc::clone(&cache),
            clock,
            watcher_id: watcher_id.into(),
            counters: Arc::clone(&counters),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(link.run());
        tasks.spawn(tell_health(Arc::clone(&answers), health.clone()));
        tasks.spawn(report(Readings(Arc::clone(&answers))));
        Self {
            front: Front::new(Arc::clone(&answers), health.clone(), max_message_bytes),
            answers,
            health,
            drain,
            tasks,
        }
    }

    /// What it has counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.answers.counters)
    }

    /// What it says about itself, now and later.
    pub fn readings(&self) -> Readings {
        Readings(Arc::clone(&self.answers))
    }

    /// Serves on all `listeners` until `shutdown` is there; then takes no more connections and
    /// lets what is under way end.
    pub async fn serve(mut self, listeners: Vec<Listener>, shutdown: impl Future<Output = ()>) {
        let mut connections = Connections::new();
        connections.listen(listeners, &server::guarded(self.front.clone()));
        shutdown.await;
        tracing::info!("serving ends: waiting for the requests that are under way");
        say(&self.health, ServingStatus::NotServing).await;
        connections.end(self.drain).await;
        tracing::info!("{}", Report(&self.readings()));
        self.tasks.abort_all();
    }
}

/// What a sidecar can be asked about itself, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Readings(Arc<Answers>);

impl Readings {
    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How many answers are kept, and how many bytes they take.
    pub fn kept(&self) -> (usize, u64) {
        self.0.cache.kept()
    }

    /// Every commit up to this is applied.
    pub fn applied(&self) -> Revision {
        self.0.cache.generation().applied()
    }

    /// How long it may go on answering without hearing from the server.
    pub fn lease_left(&self) -> Duration {
        self.0.clock.now().until(self.0.cache.generation().end())
    }

    /// Whether the stream of changes stands.
    pub fn is_connected(&self) -> bool {
        self.0.upstream.is_up()
    }
}

/// Says whether it can answer by itself, or at least pass questions on.
async fn tell_health(answers: Arc<Answers>, health: HealthReporter) {
    let mut up = answers.upstream.watch_up();
    loop {
        let end = answers.cache.generation().end();
        let serves = answers.upstream.is_up() || answers.clock.now().is_before(end);
        let status = match serves {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        say(&health, status).await;
        // The sender is among `answers`.
        let _ = tokio::time::timeout(HEALTH_SPAN, up.changed()).await;
    }
}

async fn say(health: &HealthReporter, status: ServingStatus) {
    use proto::check_service_server::CheckServiceServer as Checks;
    for service in [Checks::<()>::NAME, ""] {
        health.set_service_status(service, status).await;
    }
}

async fn report(readings: Readings) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(REPORT_SPAN).await;
        let now = Report(&readings).to_string();
        if now != said {
            tracing::info!("{now}");
            said = now;
        }
    }
}

/// A line on how it goes.
struct Report<'a>(&'a Readings);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, bytes) = self.0.kept();
        write!(
            f,
            "{count} answers kept, {bytes} bytes; {}",
            self.0.counters()
        )
    }
}
