//! The law end to end: whatever three sidecars answer is what the server answers at the revision
//! that they name. Random schemas and writes; `PORTCULLIS_ANSWERS` says how many answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use portcullis::api::convert::values::to_struct;
use portcullis::api::proto;
use portcullis::engine::EngineOptions;
use portcullis::sidecar::clock::Clock;
use portcullis::time::Timestamp;
use proto::check_service_client::CheckServiceClient;
use proto::consistency::Requirement;
use proto::grant_service_client::GrantServiceClient;

use crate::oracle::model::{Object, Tuple, World, given_text};
use crate::oracle::world::{Dice, NOW, Round, put};
use crate::{Beside, PATIENCE, Server};

const SIDECARS: usize = 3;
/// Of one world.
const STEPS: usize = 400;
const QUESTIONS: usize = 8;

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// As the world's people would ask them.
fn questions(dice: &mut Dice, world: &World) -> Vec<proto::CheckRequest> {
    let rounds: Vec<Round> = (0..3).map(|_| dice.round(world)).collect();
    let question = |_| {
        let round = dice.pick(&rounds).clone();
        let kind = 1 + dice.below(world.types.len() - 1);
        let id = dice.below(world.ids.len());
        let name = *dice.pick(&world.members(kind));
        let context = serde_json::from_str(&given_text(&round.request)).unwrap();
        proto::CheckRequest {
            subject: world.subject_text(round.subject),
            permission: world.names[name].clone(),
            resource: world.object_text(Object { kind, id }),
            context: Some(to_struct(&context)),
            ..proto::CheckRequest::default()
        }
    };
    (0..QUESTIONS).map(question).collect()
}

struct History {
    seed: u64,
    dice: Dice,
    world: World,
    /// So few that they are asked again.
    questions: Vec<proto::CheckRequest>,
    server: Server,
    besides: Vec<Beside>,
    /// Seconds that have passed by all clocks.
    passed: Arc<AtomicI64>,
    compared: u64,
}

impl History {
    async fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x51de);
        let world = dice.world();
        let questions = questions(&mut dice, &world);
        let passed = Arc::new(AtomicI64::new(0));
        let own = Arc::clone(&passed);
        let server = Server::new(EngineOptions {
            clock: Arc::new(move || {
                Timestamp::new(NOW - 20 + own.load(Ordering::SeqCst), 0).unwrap()
            }),
            ..EngineOptions::default()
        })
        .await;
        server.write_schema(&world.schema_text()).await;
        let mut besides = Vec::new();
        for name in 0..SIDECARS {
            let mut options = crate::options(&server.uri);
            options.watcher_id = format!("sidecar-{name}");
            options.size.slots = 1 << 12;
            options.verify_one_in = 0;
            let (own, real) = (Arc::clone(&passed), Clock::system());
            options.clock = Clock::of(move || {
                let passed = own.load(Ordering::SeqCst).unsigned_abs();
                real.now().plus(Duration::from_secs(passed))
            });
            besides.push(Beside::with(options).await);
        }
        for beside in &besides {
            beside.until_leased().await;
        }
        let mut history = Self {
            seed,
            dice,
            world,
            questions,
            server,
            besides,
            passed,
            compared: 0,
        };
        let first: Vec<_> = std::mem::take(&mut history.world.tuples);
        for tuple in first {
            history.write(tuple, false).await;
        }
        history
    }

    /// A tuple comes or goes.
    async fn write(&mut self, about: Tuple, waits: bool) {
        let tuple = crate::wire(&self.world.tuple_text(&about));
        let same = |one: &Tuple| {
            (one.resource, one.relation, one.subject)
                == (about.resource, about.relation, about.subject)
        };
        let stands = self.world.tuples.iter().position(same);
        let operation = match stands {
            Some(at) => {
                self.world.tuples.remove(at);
                proto::update::Operation::Revoke
            }
            None => {
                put(&mut self.world.tuples, about);
                proto::update::Operation::Grant
            }
        };
        let request = proto::WriteRequest {
            updates: vec![proto::Update {
                operation: operation.into(),
                tuple: Some(tuple),
            }],
            options: crate::waiting(waits.then_some(PATIENCE)),
            ..proto::WriteRequest::default()
        };
        // Through a sidecar or not is the same.
        let channel = match self.dice.once_in(2) {
            true => self.server.channel.clone(),
            false => self.dice.pick(&self.besides).channel.clone(),
        };
        let written = GrantServiceClient::new(channel).write(request).await;
        let propagation = written.unwrap().into_inner().propagation;
        assert!(!waits || propagation.unwrap().complete);
    }

    async fn step(&mut self) {
        match self.dice.below(20) {
            0 => {
                let passes = i64::try_from(self.dice.below(3)).unwrap();
                self.passed.fetch_add(passes, Ordering::SeqCst);
            }
            1..4 => {
                let waits = self.dice.once_in(4);
                let stands = !self.world.tuples.is_empty();
                let about = match stands && self.dice.once_in(2) {
                    true => Some(self.dice.pick(&self.world.tuples).clone()),
                    false => self.dice.tuple(&self.world, self.world.ids.len()),
                };
                if let Some(about) = about {
                    self.write(about, waits).await;
                }
            }
            4..6 => self.batch().await,
            _ => self.ask().await,
        }
    }

    async fn ask(&mut self) {
        let request = self.dice.pick(&self.questions).clone();
        let beside = self.dice.pick(&self.besides);
        if let Ok(said) = beside.check(request.clone()).await {
            let revision = said.revision.clone();
            self.compare(request, said, revision).await;
        }
    }

    async fn batch(&mut self) {
        let from = self.dice.below(QUESTIONS - 1);
        let requests = self.questions[from..from + 2].to_vec();
        let batch = batch_of(&requests);
        let channel = self.dice.pick(&self.besides).channel.clone();
        let said = CheckServiceClient::new(channel)
            .batch_check(batch)
            .await
            .unwrap();
        let said = said.into_inner();
        for (request, result) in requests.into_iter().zip(said.results) {
            use proto::batch_check_response::result::Outcome;
            if let Some(Outcome::Response(response)) = result.outcome {
                self.compare(request, response, said.revision.clone()).await;
            }
        }
    }

    async fn compare(
        &mut self,
        request: proto::CheckRequest,
        said: proto::CheckResponse,
        revision: String,
    ) {
        let schema = format!("seed {}\n{}", self.seed, self.world.schema_text());
        compare(&self.server, &schema, request, said, revision).await;
        self.compared += 1;
    }
}

/// The questions as one batch.
pub fn batch_of(requests: &[proto::CheckRequest]) -> proto::BatchCheckRequest {
    let items = requests.iter().cloned();
    let items = items.map(|request| proto::batch_check_request::Item {
        subject: request.subject,
        permission: request.permission,
        resource: request.resource,
        context: request.context,
    });
    proto::BatchCheckRequest {
        items: items.collect(),
        ..proto::BatchCheckRequest::default()
    }
}

/// What a sidecar said of `revision` is what the server says of it.
pub async fn compare(
    server: &Server,
    schema: &str,
    request: proto::CheckRequest,
    said: proto::CheckResponse,
    revision: String,
) {
    let exactly = proto::CheckRequest {
        consistency: Some(proto::Consistency {
            requirement: Some(Requirement::Exactly(revision)),
        }),
        ..request
    };
    let right = (crate::check(&server.channel, exactly.clone()).await).unwrap();
    let meaning = |response: &proto::CheckResponse| {
        let locks = response.locks.iter().map(|lock| lock.lock_id.clone());
        let missing = response.missing_context.clone();
        let locks: Vec<_> = locks.collect();
        (response.decision, response.denial_reason, locks, missing)
    };
    assert_eq!(
        meaning(&said),
        meaning(&right),
        "{schema}\n{exactly:?}\nsaid {said:?}\nright {right:?}",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_the_servers_at_the_revision_that_it_names() {
    let wanted = setting("PORTCULLIS_ANSWERS", 10_000);
    let (mut compared, mut hits, mut batch_hits) = (0, 0, 0);
    let mut seed = setting("PORTCULLIS_SEED", 0);
    while compared < wanted {
        let mut history = History::new(seed).await;
        for _ in 0..STEPS {
            history.step().await;
        }
        compared += history.compared;
        let each = |count: fn(&Beside) -> u64| history.besides.iter().map(count).sum::<u64>();
        hits += each(|beside| beside.counters.hits.get());
        batch_hits += each(|beside| beside.counters.batch_hits.get());
        seed += 1;
    }
    println!("{compared} answers, {hits} of them from caches, and {batch_hits} batches");
    assert!(
        hits > compared / 10,
        "{hits} of {compared} answers came from caches"
    );
    assert!(batch_hits > compared / 1_000, "{batch_hits}");
}
