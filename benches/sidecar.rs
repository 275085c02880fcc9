//! The sidecar: what an answer from its cache costs beside an empty RPC, how often it has one, and
//! how soon a revocation is known to ten of them.
//!
//! `cargo bench --bench sidecar`. `-- --short` is one quick round, `-- cached`, `-- mixed`,
//! `-- revoked` and `-- loaded` are parts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis::api::proto;
use portcullis::server::ListenAddress;
use portcullis::sidecar::counters::Counters;
use portcullis::sidecar::{Sidecar, SidecarOptions};
use proto::check_service_client::CheckServiceClient;
use proto::check_service_server::{CheckService, CheckServiceServer};
use proto::grant_service_client::GrantServiceClient;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

const CLIENTS: usize = 16;
const SIDECARS: usize = 10;
/// Clock ticks a second in /proc/PID/stat, as Linux has it for user space.
const TICKS: f64 = 100.0;

const SCHEMA: &str = "
definition user {}
definition team { relation member: user | team#member }
definition doc { relation viewer: user | team#member  permission view = viewer }
";
const USERS: usize = 2_000;
const TEAMS: usize = 400;
const DOCS: usize = 20_000;
/// Of the mix.
const QUESTIONS: usize = 20_000;

struct Plan {
    rounds: usize,
    span: Duration,
    mix: Duration,
    revocations: usize,
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
            span: Duration::from_millis(300),
            mix: Duration::from_secs(1),
            revocations: 20,
        },
        false => Plan {
            rounds: 10,
            span: Duration::from_secs(1),
            mix: Duration::from_secs(20),
            revocations: 1_000,
        },
    };
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::server(folder.path()).await;
        fill(&server.channel).await;
        let parts = ["cached", "mixed", "revoked", "loaded"];
        let all = !parts.iter().any(|part| arguments.iter().any(|a| a == part));
        let wanted = |part: &str| all || arguments.iter().any(|argument| argument == part);
        if wanted("cached") {
            cached(&plan, folder.path(), &server).await;
        }
        if wanted("mixed") {
            mixed(&plan, folder.path(), &server).await;
        }
        if wanted("revoked") {
            revoked(&plan, folder.path(), &server).await;
        }
        if wanted("loaded") {
            loaded(&plan, folder.path(), &server).await;
        }
    });
}

/// A generator that is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

fn tuple(resource: String, relation: &str, subject: String) -> proto::Tuple {
    proto::Tuple {
        resource,
        relation: relation.to_owned(),
        subject,
        ..proto::Tuple::default()
    }
}

/// Each user in four teams, each document for three users and three teams; and for the last user
/// a denial that rests on about 30 keys.
async fn fill(channel: &Channel) {
    let mut dice = Dice(1);
    let mut tuples = Vec::new();
    for user in 0..USERS {
        for _ in 0..4 {
            let team = format!("team:{}", dice.below(TEAMS));
            tuples.push(tuple(team, "member", format!("user:{user}")));
        }
    }
    for doc in 0..DOCS {
        for _ in 0..3 {
            let user = format!("user:{}", dice.below(USERS));
            tuples.push(tuple(format!("doc:{doc}"), "viewer", user));
            let team = format!("team:{}#member", dice.below(TEAMS));
            tuples.push(tuple(format!("doc:{doc}"), "viewer", team));
        }
    }
    for team in 0..28 {
        let team = format!("team:many-{team}");
        tuples.push(tuple(team, "member", "user:busy".to_owned()));
        for other in 0..60 {
            let viewer = format!("team:viewers-{other}#member");
            tuples.push(tuple("doc:wide".to_owned(), "viewer", viewer));
        }
    }
    tuples.sort_by_cached_key(|t| (t.resource.clone(), t.subject.clone()));
    tuples.dedup();
    for batch in tuples.chunks(5_000) {
        grant(channel, batch.to_vec()).await;
    }
    println!("{} tuples", tuples.len());
}

async fn grant(channel: &Channel, tuples: Vec<proto::Tuple>) {
    let request = proto::GrantRequest {
        tuples,
        options: None,
    };
    GrantServiceClient::new(channel.clone())
        .grant(request)
        .await
        .unwrap();
}

fn question(user: String, doc: String) -> proto::CheckRequest {
    proto::CheckRequest {
        subject: user,
        permission: "view".to_owned(),
        resource: doc,
        ..proto::CheckRequest::default()
    }
}

/// An answer from the cache beside an empty RPC over the same kind of socket.
async fn cached(plan: &Plan, folder: &Path, server: &Process) {
    let sidecar = Process::sidecar(folder, server).await;
    let empty = Process::empty(folder).await;
    let mut dice = Dice(2);
    let few: Vec<_> = (0..1_000)
        .map(|_| {
            let user = format!("user:{}", dice.below(USERS));
            question(user, format!("doc:{}", dice.below(DOCS)))
        })
        .collect();
    let many = vec![question("user:busy".to_owned(), "doc:wide".to_owned())];
    println!(
        "an answer from the cache, {CLIENTS} clients, {} rounds",
        plan.rounds
    );
    for (name, requests) in [("few keys", few), ("many keys", many)] {
        let keys = keys(server, &requests).await;
        ask(&sidecar, &requests, plan.span).await;
        let mut costs = Vec::new();
        for _ in 0..plan.rounds {
            let nothing = ask(&empty, &requests, plan.span).await;
            let hit = ask(&sidecar, &requests, plan.span).await;
            costs.push((hit, nothing));
        }
        println!(
            "{name:>10} ({keys:.1} a question): {:.0} checks/s, {:.1} us CPU each; empty {:.0}/s, \
             {:.1} us; x empty {:.2}",
            median(costs.iter().map(|(hit, _)| hit.0)),
            median(costs.iter().map(|(hit, _)| hit.1)),
            median(costs.iter().map(|(_, nothing)| nothing.0)),
            median(costs.iter().map(|(_, nothing)| nothing.1)),
            median(costs.iter().map(|(hit, nothing)| hit.1 / nothing.1)),
        );
    }
}

async fn keys(server: &Process, requests: &[proto::CheckRequest]) -> f64 {
    let mut client = CheckServiceClient::new(server.channel.clone());
    let mut count = 0;
    for request in requests {
        let request = proto::CheckRequest {
            with_dependencies: true,
            ..request.clone()
        };
        count += client
            .check(request)
            .await
            .unwrap()
            .into_inner()
            .dependencies
            .len();
    }
    count as f64 / requests.len() as f64
}

/// Asks in a closed loop; gives requests a second and microseconds of the process's CPU each.
async fn ask(process: &Process, requests: &[proto::CheckRequest], span: Duration) -> (f64, f64) {
    let requests = Arc::new(requests.to_vec());
    let done = Arc::new(AtomicU64::new(0));
    let (before, begun) = (process.cpu(), Instant::now());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (requests, done) = (requests.clone(), done.clone());
            let mut asker = CheckServiceClient::new(process.channel.clone());
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
    let cpu = (process.cpu() - before) * 1e6 / done;
    (done / begun.elapsed().as_secs_f64(), cpu)
}

/// Numbers below `count` as Zipf has them, with exponent 1.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, dice: &mut Dice) -> usize {
        let last = self.0.last().unwrap();
        let at = dice.below(1 << 40) as f64 / (1_u64 << 40) as f64 * last;
        self.0.partition_point(|sum| *sum < at)
    }
}

/// How many of 20,000 questions, drawn as Zipf has it, are answered from the cache while 100
/// random tuples a second are written. All were asked once before.
async fn mixed(plan: &Plan, folder: &Path, server: &Process) {
    let (channel, counters) = beside(folder, server, "mixed").await;
    let zipf = Zipf::new(QUESTIONS);
    let ask = |turn: usize| {
        let mut of = Dice(turn as u64 * 7 + 3);
        let user = format!("user:{}", of.below(USERS));
        question(user, format!("doc:{}", of.below(DOCS)))
    };
    let writing = tokio::spawn(write(server.channel.clone()));
    let mut client = CheckServiceClient::new(channel);
    let mut dice = Dice(4);
    let questions: Vec<_> = (0..QUESTIONS).map(ask).collect();
    for batch in questions.chunks(1_000) {
        let item = |asked: &proto::CheckRequest| proto::batch_check_request::Item {
            subject: asked.subject.clone(),
            permission: asked.permission.clone(),
            resource: asked.resource.clone(),
            context: None,
        };
        let request = proto::BatchCheckRequest {
            items: batch.iter().map(item).collect(),
            ..proto::BatchCheckRequest::default()
        };
        client.batch_check(request).await.unwrap();
    }
    let count = || {
        let all = [&counters.hits, &counters.changed, &counters.absent];
        all.map(|counter| counter.get() as f64)
    };
    let before = count();
    let (mut asked, begun) = (0_u64, Instant::now());
    while begun.elapsed() < plan.mix {
        let question = questions[zipf.draw(&mut dice)].clone();
        client.check(question).await.unwrap();
        asked += 1;
    }
    writing.abort();
    let after = count();
    let share = |at: usize| (after[at] - before[at]) * 100.0 / asked as f64;
    println!(
        "Zipf mix with 100 writes/s: {:.1} % of {asked} answers from the cache, {:.0} a second; \
         {:.1} % had changed, {:.1} % were not kept",
        share(0),
        asked as f64 / begun.elapsed().as_secs_f64(),
        share(1),
        share(2),
    );
}

async fn write(channel: Channel) {
    let mut dice = Dice(5);
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let doc = format!("doc:{}", dice.below(DOCS));
        let user = format!("user:{}", dice.below(USERS));
        grant(&channel, vec![tuple(doc, "viewer", user)]).await;
    }
}

/// A sidecar in this process, with a lease.
async fn beside(folder: &Path, server: &Process, name: &str) -> (Channel, Arc<Counters>) {
    let upstream = format!("unix:{}", server.socket.display());
    let sidecar = Sidecar::start(SidecarOptions::new(upstream.parse().unwrap(), name));
    let counters = sidecar.counters();
    let socket = folder.join(name);
    let listener = ListenAddress::Unix(socket.clone()).bind().await.unwrap();
    tokio::spawn(sidecar.serve(vec![listener], std::future::pending()));
    while counters.leases.get() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (connect(&socket).await, counters)
}

/// How long after a revocation was sent all sidecars know of it, and how long a write takes that
/// waits for them.
async fn revoked(plan: &Plan, folder: &Path, server: &Process) {
    let mut all = Vec::new();
    for number in 0..SIDECARS {
        all.push(beside(folder, server, &format!("beside-{number}")).await.1);
    }
    let tuple = || {
        vec![tuple(
            "doc:0".to_owned(),
            "viewer",
            "user:revoked".to_owned(),
        )]
    };
    let (mut plain, mut seen, mut waited) = (Vec::new(), Vec::new(), Vec::new());
    let mut client = GrantServiceClient::new(server.channel.clone());
    for _ in 0..plan.revocations {
        for wait in [None, Some(Duration::from_secs(10))] {
            grant(&server.channel, tuple()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let known: Vec<u64> = all.iter().map(|counters| counters.commits.get()).collect();
            let options = wait.map(|wait| proto::WriteOptions {
                wait_for_watchers: Some(wait.try_into().unwrap()),
                ..proto::WriteOptions::default()
            });
            let request = proto::RevokeRequest {
                tuples: tuple(),
                options,
                ..proto::RevokeRequest::default()
            };
            let sent = Instant::now();
            let answer = client.revoke(request).await.unwrap().into_inner();
            let took = sent.elapsed();
            if let Some(propagation) = answer.propagation {
                assert!(propagation.complete);
                waited.push(took);
                continue;
            }
            plain.push(took);
            while (all.iter().zip(&known)).any(|(one, before)| one.commits.get() == *before) {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            seen.push(sent.elapsed());
        }
    }
    println!("revocations, {SIDECARS} sidecars (ms: median, p99)");
    for (name, spans) in [
        ("answered", &mut plain),
        ("known to all", &mut seen),
        ("waiting for all", &mut waited),
    ] {
        spans.sort();
        let at = |share: usize| spans[spans.len() * share / 100].as_secs_f64() * 1e3;
        println!("{name:>16} {:>7.2} {:>7.2}", at(50), at(99));
    }
}

/// Sidecars that are asked as fast as they answer, while revocations wait for them: no allow comes
/// for a question that was sent after the revocation was answered.
async fn loaded(plan: &Plan, folder: &Path, server: &Process) {
    let mut all = Vec::new();
    for number in 0..SIDECARS {
        all.push(beside(folder, server, &format!("loaded-{number}")).await);
    }
    // Odd while what was revoked stays so.
    let phase = Arc::new(AtomicU64::new(0));
    let asked = Arc::new(AtomicU64::new(0));
    let askers: Vec<_> = (0..SIDECARS * 4)
        .map(|asker| {
            let (phase, asked) = (phase.clone(), asked.clone());
            let mut client = CheckServiceClient::new(all[asker % SIDECARS].0.clone());
            let of = question("user:loaded".to_owned(), "doc:1".to_owned());
            tokio::spawn(async move {
                loop {
                    let before = phase.load(Ordering::SeqCst);
                    let said = client.check(of.clone()).await.unwrap().into_inner();
                    asked.fetch_add(1, Ordering::Relaxed);
                    let is_over = before % 2 == 1 && phase.load(Ordering::SeqCst) == before;
                    let is_stale = is_over && said.decision() == proto::Decision::Allowed;
                    assert!(!is_stale, "an allow after the revocation: {said:?}");
                }
            })
        })
        .collect();
    let tuple = || {
        let (doc, user) = ("doc:1".to_owned(), "user:loaded".to_owned());
        vec![tuple(doc, "viewer", user)]
    };
    let mut client = GrantServiceClient::new(server.channel.clone());
    let (mut waited, begun) = (Vec::new(), Instant::now());
    while waited.len() < plan.revocations.min(300) {
        grant(&server.channel, tuple()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let request = proto::RevokeRequest {
            tuples: tuple(),
            options: Some(proto::WriteOptions {
                wait_for_watchers: Some(Duration::from_secs(10).try_into().unwrap()),
                ..proto::WriteOptions::default()
            }),
            ..proto::RevokeRequest::default()
        };
        let sent = Instant::now();
        let answer = client.revoke(request).await.unwrap().into_inner();
        waited.push(sent.elapsed());
        assert!(answer.propagation.unwrap().complete);
        phase.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        phase.fetch_add(1, Ordering::SeqCst);
    }
    let rate = asked.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    for asker in askers {
        assert!(!asker.is_finished(), "an asker found a stale allow");
        asker.abort();
    }
    waited.sort();
    println!(
        "{SIDECARS} sidecars, {rate:.0} checks/s, {} revocations that waited: none was answered \
         from before; p50 {:.1} ms, p99 {:.1} ms",
        waited.len(),
        waited[waited.len() / 2].as_secs_f64() * 1e3,
        waited[waited.len() * 99 / 100].as_secs_f64() * 1e3,
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A process that ends with this value.
struct Process {
    child: Child,
    socket: PathBuf,
    channel: Channel,
}

impl Process {
    async fn server(folder: &Path) -> Self {
        let schema = folder.join("schema.zed");
        std::fs::write(&schema, SCHEMA).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["serve", "--memory", "--schema"]).arg(schema);
        let server = Self::spawn(command, folder.join("server")).await;
        let mut client = CheckServiceClient::new(server.channel.clone());
        let any = question("user:0".to_owned(), "doc:0".to_owned());
        while client.check(any.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    async fn sidecar(folder: &Path, server: &Self) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let upstream = format!("unix:{}", server.socket.display());
        command.args(["sidecar", "--upstream", &upstream]);
        Self::spawn(command, folder.join("sidecar")).await
    }

    async fn empty(folder: &Path) -> Self {
        let socket = folder.join("empty");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--empty").arg(&socket);
        Self::spawned(command, socket).await
    }

    async fn spawn(mut command: Command, socket: PathBuf) -> Self {
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        Self::spawned(command, socket).await
    }

    async fn spawned(mut command: Command, socket: PathBuf) -> Self {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let channel = connect(&socket).await;
        Self {
            child,
            socket,
            channel,
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

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(socket: &Path) -> Channel {
    let endpoint = Endpoint::try_from(format!("unix:{}", socket.display())).unwrap();
    for _ in 0..2_000 {
        if let Ok(channel) = endpoint.connect().await {
            return channel;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("nobody answers")
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
