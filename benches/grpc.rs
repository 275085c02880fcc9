//! Checks and grants over gRPC, beside an empty RPC that decodes and encodes the same messages.
//!
//! `cargo bench --bench grpc` loads the world of `src/workload.rs` into a server of its own, asks
//! each kind of question and the empty server in turn, `ROUNDS` times, and prints requests a
//! second, CPU of the server a request, and the ratio to the empty one (medians). Then it asks in
//! batches of 1,000, and grants durably with 64 clients and with one. `-- --short` is one quick
//! round on a small world, `-- --checks` leaves the grants out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis::api::proto;
use portcullis::workload;
use proto::batch_check_request::Item;
use proto::check_service_client::CheckServiceClient;
use proto::check_service_server::{CheckService, CheckServiceServer};
use proto::grant_service_client::GrantServiceClient;
use proto::schema_service_client::SchemaServiceClient;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

const CLIENTS: usize = 16;
const GRANTERS: usize = 64;
/// Questions of a batch, and how many clients send them.
const BATCH: usize = 1_000;
const BATCHERS: usize = 4;
/// Clock ticks a second in /proc/PID/stat, as Linux has it for user space.
const TICKS: f64 = 100.0;

struct Plan {
    rounds: usize,
    span: Duration,
    percent: u64,
    questions: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Some(at) = arguments.iter().position(|argument| argument == "--empty") {
        return runtime.block_on(serve_empty(Path::new(&arguments[at + 1])));
    }
    let short = arguments
        .iter()
        .any(|argument| argument == "--short" || argument == "--test");
    let plan = match short {
        true => Plan {
            rounds: 1,
            span: Duration::from_millis(200),
            percent: 1,
            questions: 1_000,
        },
        false => Plan {
            rounds: 10,
            span: Duration::from_secs(1),
            percent: 100,
            questions: 20_000,
        },
    };
    let checks_only = arguments.iter().any(|argument| argument == "--checks");
    runtime.block_on(run(&plan, checks_only));
}

async fn run(plan: &Plan, checks_only: bool) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("world.zed"), workload::SCHEMA).unwrap();
    checks(plan, dir.path()).await;
    if !checks_only {
        grants(plan, dir.path()).await;
    }
}

async fn checks(plan: &Plan, dir: &Path) {
    let world = workload::World::new(plan.percent);
    let served = Server::portcullis(dir, &["--memory"]).await;
    let empty = Server::empty(dir).await;
    let count = fill(&world, served.channel.clone()).await;
    println!(
        "{count} tuples, {CLIENTS} clients, {} rounds of {:?}",
        plan.rounds, plan.span
    );
    println!(
        "{:>8} {:>10} {:>12} {:>10}",
        "kind", "checks/s", "CPU us each", "x empty"
    );
    let kinds: Vec<(&str, Vec<proto::CheckRequest>)> = (workload::KINDS.iter())
        .map(|kind| (*kind, requests(&world, kind, plan.questions)))
        .collect();
    let mut costs = vec![Vec::new(); kinds.len()];
    for _ in 0..plan.rounds {
        for (place, (_, requests)) in kinds.iter().enumerate() {
            let nothing = ask(&empty, requests, plan.span).await;
            let check = ask(&served, requests, plan.span).await;
            costs[place].push((check.0, check.1, nothing.0, nothing.1));
        }
    }
    for ((kind, _), costs) in kinds.iter().zip(&costs) {
        let rate = median(costs.iter().map(|cost| cost.0));
        let cpu = median(costs.iter().map(|cost| cost.1));
        let ratio = median(costs.iter().map(|cost| cost.1 / cost.3));
        println!("{kind:>8} {rate:>10.0} {cpu:>12.1} {ratio:>10.2}");
    }
    let rate = median(costs.iter().flatten().map(|cost| cost.2));
    let cpu = median(costs.iter().flatten().map(|cost| cost.3));
    println!("{:>8} {rate:>10.0} {cpu:>12.1} {:>10.2}", "empty", 1.0);
    for kind in ["direct", "mixed"] {
        let requests = batches(&world, kind, plan.questions);
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            rounds.push(ask_batches(&served, &requests, plan.span).await);
        }
        let rate = median(rounds.iter().map(|cost| cost.0));
        let cpu = median(rounds.iter().map(|cost| cost.1));
        println!("{kind} in batches of {BATCH}: {rate:.0} items/s, CPU {cpu:.2} us an item");
    }
}

fn batches(world: &workload::World, kind: &str, questions: usize) -> Vec<proto::BatchCheckRequest> {
    let item = |(subject, permission, resource): &workload::Question| Item {
        subject: subject.clone(),
        permission: (*permission).to_owned(),
        resource: resource.clone(),
        context: None,
    };
    let questions = world.questions(kind, questions.max(BATCH));
    let batch = |part: &[workload::Question]| proto::BatchCheckRequest {
        items: part.iter().map(item).collect(),
        ..proto::BatchCheckRequest::default()
    };
    questions.chunks_exact(BATCH).map(batch).collect()
}

/// Asks batches in a closed loop; gives items a second and microseconds of server CPU an item.
async fn ask_batches(
    server: &Server,
    requests: &[proto::BatchCheckRequest],
    span: Duration,
) -> (f64, f64) {
    let requests = Arc::new(requests.to_vec());
    let (before, begun) = (server.cpu(), Instant::now());
    let clients: Vec<_> = (0..BATCHERS)
        .map(|client| {
            let requests = Arc::clone(&requests);
            let asker = CheckServiceClient::new(server.channel.clone());
            let mut asker = asker.max_decoding_message_size(16 << 20);
            tokio::spawn(async move {
                let mut done = 0;
                while begun.elapsed() < span {
                    let request = requests[(client + done) % requests.len()].clone();
                    asker.batch_check(request).await.unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut items = 0.0;
    for client in clients {
        items += (client.await.unwrap() * BATCH) as f64;
    }
    let cpu = (server.cpu() - before) * 1e6 / items;
    (items / begun.elapsed().as_secs_f64(), cpu)
}

fn requests(world: &workload::World, kind: &str, count: usize) -> Vec<proto::CheckRequest> {
    let request = |(subject, permission, resource): workload::Question| proto::CheckRequest {
        subject,
        permission: permission.to_owned(),
        resource,
        ..proto::CheckRequest::default()
    };
    world
        .questions(kind, count)
        .into_iter()
        .map(request)
        .collect()
}

/// Asks in a closed loop; gives requests a second and microseconds of server CPU a request.
async fn ask(server: &Server, requests: &[proto::CheckRequest], span: Duration) -> (f64, f64) {
    let requests = Arc::new(requests.to_vec());
    let done = Arc::new(AtomicU64::new(0));
    let (before, begun) = (server.cpu(), Instant::now());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (requests, done) = (requests.clone(), done.clone());
            let mut asker = CheckServiceClient::new(server.channel.clone());
            tokio::spawn(async move {
                for turn in (client * 977).. {
                    if begun.elapsed() >= span {
                        return;
                    }
                    let request = requests[turn % requests.len()].clone();
                    asker.check(request).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let done = done.load(Ordering::Relaxed) as f64;
    let cpu = (server.cpu() - before) * 1e6 / done;
    (done / begun.elapsed().as_secs_f64(), cpu)
}

async fn fill(world: &workload::World, channel: Channel) -> u64 {
    let mut granter = GrantServiceClient::new(channel);
    let (mut batches, mut count) = (vec![Vec::new()], 0);
    for (resource, relation, subject) in world.tuples() {
        if batches
            .last()
            .is_some_and(|batch: &Vec<_>| batch.len() == 10_000)
        {
            batches.push(Vec::new());
        }
        let relation = relation.to_owned();
        let tuple = proto::Tuple {
            resource,
            relation,
            subject,
            ..proto::Tuple::default()
        };
        batches.last_mut().unwrap().push(tuple);
    }
    for batch in &mut batches {
        // One user can be drawn into one team twice.
        batch.sort_by_cached_key(|t| (t.resource.clone(), t.relation.clone(), t.subject.clone()));
        batch.dedup();
        count += batch.len() as u64;
        let request = proto::GrantRequest {
            tuples: std::mem::take(batch),
            options: None,
        };
        granter.grant(request).await.unwrap();
    }
    count
}

async fn grants(plan: &Plan, dir: &Path) {
    let data = dir.join("data");
    let server = Server::portcullis(dir, &["--data", data.to_str().unwrap()]).await;
    for clients in [1, GRANTERS] {
        let (rates, slow): (Vec<f64>, Vec<f64>) = {
            let mut rounds = Vec::new();
            for round in 0..plan.rounds {
                rounds.push(grant(&server, clients, round, plan.span).await);
            }
            rounds.into_iter().unzip()
        };
        let (rate, each) = (median(rates.into_iter()), median(slow.into_iter()));
        println!("durable grants, {clients} clients: {rate:.0} a second, median {each:.2} ms each");
    }
}

async fn grant(server: &Server, clients: usize, round: usize, span: Duration) -> (f64, f64) {
    let begun = Instant::now();
    let granters: Vec<_> = (0..clients)
        .map(|client| {
            let mut granter = GrantServiceClient::new(server.channel.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while begun.elapsed() < span {
                    let turn = took.len();
                    let tuple = proto::Tuple {
                        resource: format!("document:{clients}-{round}-{client}-{turn}"),
                        relation: "viewer".to_owned(),
                        subject: format!("user:{client}"),
                        ..proto::Tuple::default()
                    };
                    let asked = Instant::now();
                    let request = proto::GrantRequest {
                        tuples: vec![tuple],
                        options: None,
                    };
                    granter.grant(request).await.unwrap();
                    took.push(asked.elapsed().as_secs_f64() * 1e3);
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for granter in granters {
        took.extend(granter.await.unwrap());
    }
    (
        took.len() as f64 / begun.elapsed().as_secs_f64(),
        median(took.into_iter()),
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A server process that ends with this value.
struct Server {
    child: Child,
    channel: Channel,
}

/// How long a server may take to answer for the first time.
const STARTING: Duration = Duration::from_secs(60);

impl Server {
    async fn portcullis(dir: &Path, arguments: &[&str]) -> Self {
        let socket = dir.join("served.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(["serve", "--log", "error"])
            .args(arguments)
            .arg("--schema")
            .arg(dir.join("world.zed"));
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        let server = Self::spawn(command, &socket).await;
        let mut schemas = SchemaServiceClient::new(server.channel.clone());
        // It listens before it has loaded its data.
        let begun = Instant::now();
        while let Err(status) = schemas
            .read_schema(proto::ReadSchemaRequest::default())
            .await
        {
            assert!(begun.elapsed() < STARTING, "it does not start: {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    async fn empty(dir: &Path) -> Self {
        let socket = dir.join("empty.sock");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--empty").arg(&socket);
        Self::spawn(command, &socket).await
    }

    async fn spawn(mut command: Command, socket: &Path) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display())).unwrap();
        let begun = Instant::now();
        loop {
            match endpoint.connect().await {
                Ok(channel) => return Self { child, channel },
                Err(error) => assert!(begun.elapsed() < STARTING, "no answer: {error}"),
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} has ended: {ended:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Seconds of CPU that the process has used.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / TICKS
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Decodes and encodes the messages of a check, and does nothing.
struct Empty;

async fn serve_empty(socket: &Path) {
    let _ = std::fs::remove_file(socket);
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tonic::transport::Server::builder()
        .add_service(CheckServiceServer::new(Empty))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .unwrap();
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CheckService for Empty {
    type ListResourcesStream = tokio_stream::Empty<Result<proto::ListResourcesResponse, Status>>;
    type ListSubjectsStream = tokio_stream::Empty<Result<proto::ListSubjectsResponse, Status>>;

    async fn check(&self, _: Request<proto::CheckRequest>) -> Answer<proto::CheckResponse> {
        Ok(Response::new(proto::CheckResponse {
            decision: proto::Decision::Allowed.into(),
            revision: "1042@9f3ac1".to_owned(),
            ..proto::CheckResponse::default()
        }))
    }

    async fn batch_check(
        &self,
        _: Request<proto::BatchCheckRequest>,
    ) -> Answer<proto::BatchCheckResponse> {
        Err(Status::unimplemented(""))
    }

    async fn explain(&self, _: Request<proto::ExplainRequest>) -> Answer<proto::ExplainResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_resources(
        &self,
        _: Request<proto::ListResourcesRequest>,
    ) -> Answer<Self::ListResourcesStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_subjects(
        &self,
        _: Request<proto::ListSubjectsRequest>,
    ) -> Answer<Self::ListSubjectsStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_permissions(
        &self,
        _: Request<proto::ListPermissionsRequest>,
    ) -> Answer<proto::ListPermissionsResponse> {
        Err(Status::unimplemented(""))
    }
}
