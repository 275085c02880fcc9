//! `portcullis bench`: load from this machine, on the world of `workload`.
//!
//! Hides the loops. In a closed loop each client asks again once it was answered; in an open one
//! requests are due at a rate, and a late one's latency counts from when it was due, so that a
//! server that stalls can't hide it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::client::Client;
use super::output::Output;
use super::progress::{Progress, thousands};
use super::{Exit, values};
use crate::api::proto::check_service_client::CheckServiceClient;
use crate::api::proto::grant_service_client::GrantServiceClient;
use crate::api::proto::{self, Decision};
use crate::workload::{self, World};

mod process;

use process::Process;

/// Loads a server from this machine, and says how fast it answers.
#[derive(Args, Debug)]
#[command(after_help = "\
portcullis bench --load                          loads the world, then asks it in all ways
portcullis bench --kind direct --clients 64 --for 30s
portcullis bench --kind mixed --rate 5000        open loop: 5,000 requests a second
portcullis bench --kind direct --batch 1000

The world: users in nested teams, applications with environments, folders ten deep, one document
that 5,000 groups may see; at --world 100 826,478 tuples. Ask a server that has nothing to do
beside it; CPU is that of the server's process, where it runs on this machine.")]
pub(super) struct Bench {
    /// Loads the world's schema and tuples first
    #[arg(long)]
    load: bool,
    /// The size of the world, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = values::at_least_one_of_many())]
    world: u64,
    /// What is asked, one after the other
    #[arg(long, value_delimiter = ',', default_value = "direct,nested,tree,wide,mixed", value_parser = kinds())]
    kind: Vec<String>,
    /// How long each kind is asked
    #[arg(long = "for", value_name = "SPAN", default_value = "5s", value_parser = values::span)]
    span: Duration,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = values::at_least_one())]
    clients: usize,
    /// Connections that they share
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = values::at_least_one())]
    connections: usize,
    /// Requests a second, however long answers take; without it each client asks again at once
    #[arg(long, value_name = "N", value_parser = values::at_least_one_of_many())]
    rate: Option<u64>,
    /// Questions of one BatchCheck; without it each is a Check of its own
    #[arg(long, value_name = "N", value_parser = values::at_least_one())]
    batch: Option<usize>,
}

/// Distinct questions of a kind.
const QUESTIONS: usize = 20_000;

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(workload::KINDS.into_iter().chain(["mixed"]))
}

/// What one kind came to.
struct Measured {
    requests: u64,
    items: u64,
    allowed: u64,
    took: Duration,
    /// In nanoseconds.
    latency: Histogram<u64>,
    /// Of the server, where it could be seen.
    cpu: Option<Duration>,
}

/// What a client asks, over and over.
#[derive(Clone)]
enum Asked {
    Single(Arc<Vec<proto::CheckRequest>>),
    Batch(Arc<Vec<proto::BatchCheckRequest>>),
}

/// When requests are due.
#[derive(Clone)]
struct Schedule {
    begun: Instant,
    span: Duration,
    /// In an open loop: how far apart, and how many were taken.
    apart: Option<(Duration, Arc<AtomicU64>)>,
}

impl Bench {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let world = World::new(self.world);
        if self.load {
            load(client, &world, output)?;
        }
        let channels: Vec<Channel> = {
            let _inside = runtime.enter();
            (0..self.connections).map(|_| client.connect()).collect()
        };
        let server = Process::listening_at(client.server());
        if server.is_none() && !output.is_json() {
            output.give(
                &Value::Null,
                "the server's process can't be seen from here: no CPU",
            )?;
        }
        for kind in &self.kind {
            let questions = world.questions(kind, QUESTIONS);
            let asked = self.asked(&questions);
            let answered = runtime.block_on(self.ask(&channels, &asked, server.as_ref()));
            let load = format!(
                "load the world first: portcullis bench --load --world {}",
                self.world
            );
            let measured = answered.map_err(|status| match status.code() {
                Code::InvalidArgument | Code::FailedPrecondition => {
                    client.refused(&status).context(load.clone())
                }
                _ => client.refused(&status),
            })?;
            if measured.allowed == 0 {
                anyhow::bail!(
                    "no {kind} question was allowed: the server holds another world; {load}"
                );
            }
            measured.tell(kind, output)?;
        }
        Ok(Exit::Done)
    }

    fn asked(&self, questions: &[workload::Question]) -> Asked {
        let Some(size) = self.batch else {
            let each = questions.iter().cloned();
            let requests = each.map(|(subject, permission, resource)| proto::CheckRequest {
                subject,
                permission: permission.to_owned(),
                resource,
                ..proto::CheckRequest::default()
            });
            return Asked::Single(Arc::new(requests.collect()));
        };
        let item = |(subject, permission, resource): &workload::Question| {
            proto::batch_check_request::Item {
                subject: subject.clone(),
                permission: (*permission).to_owned(),
                resource: resource.clone(),
                context: None,
            }
        };
        let mut all = questions.iter().cycle();
        let batches = QUESTIONS.div_ceil(size).min(100);
        let batch = |_| proto::BatchCheckRequest {
            items: all.by_ref().take(size).map(item).collect(),
            ..proto::BatchCheckRequest::default()
        };
        Asked::Batch(Arc::new((0..batches).map(batch).collect()))
    }

    async fn ask(
        &self,
        channels: &[Channel],
        asked: &Asked,
        server: Option<&Process>,
    ) -> Result<Measured, Status> {
        let cpu = server.and_then(Process::cpu);
        let schedule = Schedule {
            begun: Instant::now(),
            span: self.span,
            apart: self.rate.map(|rate| {
                let apart = Duration::from_secs_f64(1.0 / number(rate));
                (apart, Arc::new(AtomicU64::new(0)))
            }),
        };
        let mut clients = JoinSet::new();
        for (number, channel) in (0..self.clients).zip(channels.iter().cycle()) {
            let asker = CheckServiceClient::new(channel.clone());
            let (asked, schedule) = (asked.clone(), schedule.clone());
            clients.spawn(client_loop(asker, asked, schedule, number * 977));
        }
        let mut total = Measured::nothing()?;
        while let Some(done) = clients.join_next().await {
            let done = done.map_err(|error| Status::internal(error.to_string()))?;
            total.add(&done?);
        }
        total.took = schedule.begun.elapsed();
        let after = server.and_then(Process::cpu);
        total.cpu = after
            .zip(cpu)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(total)
    }
}

async fn client_loop(
    mut asker: CheckServiceClient<Channel>,
    asked: Asked,
    schedule: Schedule,
    first: usize,
) -> Result<Measured, Status> {
    let mut measured = Measured::nothing()?;
    for turn in first.. {
        let Some(from) = schedule.next().await else {
            break;
        };
        let (items, allowed) = match &asked {
            Asked::Single(requests) => single(&mut asker, turn_of(requests, turn)).await?,
            Asked::Batch(requests) => batch(&mut asker, turn_of(requests, turn)).await?,
        };
        measured.requests += 1;
        measured.items += items;
        measured.allowed += allowed;
        let nanos = u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX);
        measured.latency.saturating_record(nanos);
    }
    Ok(measured)
}

fn turn_of<T: Clone + Default>(list: &[T], turn: usize) -> T {
    let place = turn.checked_rem(list.len()).unwrap_or(0);
    list.get(place).cloned().unwrap_or_default()
}

async fn single(
    asker: &mut CheckServiceClient<Channel>,
    request: proto::CheckRequest,
) -> Result<(u64, u64), Status> {
    let answer = asker.check(request).await?.into_inner();
    Ok((1, u64::from(answer.decision() == Decision::Allowed)))
}

async fn batch(
    asker: &mut CheckServiceClient<Channel>,
    request: proto::BatchCheckRequest,
) -> Result<(u64, u64), Status> {
    use proto::batch_check_response::result::Outcome;
    let answer = asker.batch_check(request).await?.into_inner();
    let mut allowed = 0;
    for result in &answer.results {
        match &result.outcome {
            Some(Outcome::Response(response)) => {
                allowed += u64::from(response.decision() == Decision::Allowed);
            }
            Some(Outcome::Error(error)) => return Err(Status::internal(error.message.clone())),
            None => {}
        }
    }
    Ok((answer.results.len() as u64, allowed))
}

impl Schedule {
    /// Waits for the next request; from when its latency counts. `None` once the time is over.
    async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let over = |at: Instant| at >= self.begun + self.span;
        let Some((apart, taken)) = &self.apart else {
            return (!over(now)).then_some(now);
        };
        let turn = taken.fetch_add(1, Ordering::Relaxed);
        let due = self.begun + apart.mul_f64(number(turn));
        if over(due) || over(now) {
            return None;
        }
        if due <= now {
            return Some(due);
        }
        // The timer is no finer than a millisecond: that is not the server's fault.
        tokio::time::sleep_until(due.into()).await;
        Some(Instant::now())
    }
}

impl Measured {
    fn nothing() -> Result<Self, Status> {
        // Up to a hundred seconds, in three digits.
        let latency = Histogram::new_with_bounds(100, 100_000_000_000, 3);
        Ok(Self {
            requests: 0,
            items: 0,
            allowed: 0,
            took: Duration::ZERO,
            latency: latency.map_err(|error| Status::internal(error.to_string()))?,
            cpu: None,
        })
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.allowed += other.allowed;
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
    }

    fn tell(&self, kind: &str, output: Output) -> anyhow::Result<()> {
        let seconds = self.took.as_secs_f64();
        let rate = whole(number(self.items) / seconds);
        let cpu = self
            .cpu
            .map(|cpu| cpu.as_secs_f64() * 1e6 / number(self.items.max(1)));
        let at = |percent| number(self.latency.value_at_quantile(percent / 100.0)) / 1e6;
        let value = json!({
            "kind": kind,
            "requests": self.requests,
            "checks": self.items,
            "allowed": self.allowed,
            "seconds": seconds,
            "checks_a_second": rate,
            "latency_ms": {
                "p50": at(50.0), "p90": at(90.0), "p99": at(99.0), "p99.9": at(99.9),
                "max": number(self.latency.max()) / 1e6,
            },
            "server_cpu_us_a_check": cpu,
        });
        let shown = |percent| format!("{:.2}", at(percent));
        let cpu = cpu.map_or_else(String::new, |cpu| {
            format!("; server CPU {cpu:.1} us a check")
        });
        output.give(
            &value,
            format_args!(
                "{kind}: {} checks a second, {:.0} % allowed; ms p50 {}, p90 {}, p99 {}, p99.9 {}, most {:.2}{cpu}",
                thousands(rate),
                100.0 * number(self.allowed) / number(self.items.max(1)),
                shown(50.0),
                shown(90.0),
                shown(99.0),
                shown(99.9),
                number(self.latency.max()) / 1e6,
            ),
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "measurements have fewer digits")]
fn number(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

/// Imports the world.
fn load(client: &Client, world: &World, output: Output) -> anyhow::Result<()> {
    const MESSAGE: usize = 1_000;
    let total = world.tuples().count() as u64;
    let progress = Progress::of_tuples(Some(total));
    let (sender, receiver) = mpsc::channel(8);
    let world = world.clone();
    let sending = std::thread::spawn(move || {
        let mut tuples = world
            .tuples()
            .map(|(resource, relation, subject)| proto::Tuple {
                resource,
                relation: relation.to_owned(),
                subject,
                ..proto::Tuple::default()
            });
        let mut schema = workload::SCHEMA.to_owned();
        loop {
            let message = proto::ImportRequest {
                tuples: tuples.by_ref().take(MESSAGE).collect(),
                schema: std::mem::take(&mut schema),
                ..proto::ImportRequest::default()
            };
            if message.tuples.is_empty() || sender.blocking_send(message).is_err() {
                return;
            }
        }
    });
    let mut service = GrantServiceClient::new(client.channel());
    let stream = ReceiverStream::new(receiver);
    let mut answers = client.call(service.import(stream))?.into_inner();
    let mut position = 0;
    while let Some(answer) = client.call(answers.message())? {
        position = answer.position;
        progress.at(position, position);
    }
    let took = progress.end(position);
    (sending.join()).map_err(|_| anyhow::anyhow!("the world could not be made"))?;
    let value = json!({ "loaded": position });
    let count = thousands(position);
    output.give(&value, format_args!("loaded {count} tuples in {took}"))
}
