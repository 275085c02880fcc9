//! The law end to end where more than tuples changes: locks, roles, assignments, schemas and what
//! expires, over one schema that has all of it. `PORTCULLIS_ANSWERS` as in [`crate::law`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use portcullis::api::proto;
use portcullis::engine::EngineOptions;
use portcullis::sidecar::clock::Clock;
use portcullis::time::Timestamp;
use proto::check_service_client::CheckServiceClient;
use proto::lock_service_client::LockServiceClient;
use proto::role_service_client::RoleServiceClient;

use crate::law::{compare, setting};
use crate::oracle::world::Dice;
use crate::{Beside, Server, wire};

const SCHEMA: &str = "
definition user {}
definition team { relation member: user | team#member }
definition org {
    relation admin: user | team#member
    permission manage = admin
    permission edit = admin + any role
    permission view = edit + some role + folder.org<-edit
    assigns role
}
roles role of org {
    held by user | team#member
    builtin boss includes *
    builtin reader includes folder.view, doc.view
}
definition folder {
    relation org: org
    relation viewer: user | user:* | team#member | user with expiration
    relation banned: user | team#member
    permission manage = org->manage
    permission edit = org->edit + any role
    permission view = (edit + viewer + any role) - banned
    lock freeze { blocks edit except manage }
    lock hide { blocks view, edit except role boss }
    assigns role inherits org
}
definition doc {
    relation folder: folder
    relation viewer: user | team#member | team#member with expiration
    permission manage = folder->manage
    permission edit = folder->edit + any role
    permission view = edit + viewer + folder->view + any role
    lock freeze { blocks edit except manage inherits folder }
    lock hide { blocks * inherits folder }
    assigns role inherits folder
}
";
/// Each of them is another schema.
const CHANGES: &[(&str, &str)] = &[
    ("", ""),
    ("- banned", ""),
    ("blocks edit except manage }", "blocks edit }"),
    (
        "view = edit + viewer + folder->view",
        "view = viewer + folder->view",
    ),
];

const SIDECARS: usize = 3;
const STEPS: usize = 600;
const USERS: &[&str] = &["user:a", "user:b", "user:c", "team:x#member"];
const RESOURCES: &[&str] = &[
    "org:1", "org:2", "folder:1", "folder:2", "folder:3", "doc:1", "doc:2", "doc:3",
];
const TUPLES: &[&str] = &[
    "team:x#member@user:a",
    "team:x#member@user:b",
    "team:x#member@team:y#member",
    "team:y#member@user:c",
    "org:1#admin@user:c",
    "org:2#admin@team:x#member",
    "folder:1#org@org:1",
    "folder:2#org@org:1",
    "folder:2#org@org:2",
    "folder:3#org@org:2",
    "doc:1#folder@folder:1",
    "doc:2#folder@folder:2",
    "doc:2#folder@folder:3",
    "doc:3#folder@folder:3",
    "folder:1#viewer@user:a",
    "folder:2#viewer@user:*",
    "folder:3#viewer@team:x#member",
    "folder:1#banned@user:a",
    "folder:2#banned@team:y#member",
    "doc:1#viewer@user:b",
    "doc:3#viewer@team:y#member",
];
const PERMISSIONS: &[&str] = &[
    "folder.edit",
    "folder.view",
    "doc.edit",
    "doc.view",
    "org.edit",
];
const ROLES: &[&str] = &["one", "two"];

struct History {
    dice: Dice,
    server: Server,
    besides: Vec<Beside>,
    /// Seconds that have passed by all clocks.
    passed: Arc<AtomicI64>,
    schema: String,
    locks: Vec<String>,
    /// So few that they are asked again.
    questions: Vec<proto::CheckRequest>,
    done: u64,
    compared: u64,
}

const BEGIN: i64 = 1_700_000_000;

impl History {
    async fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x10c5);
        let passed = Arc::new(AtomicI64::new(0));
        let own = Arc::clone(&passed);
        let server = Server::new(EngineOptions {
            clock: Arc::new(move || Timestamp::new(BEGIN + own.load(Ordering::SeqCst), 0).unwrap()),
            ..EngineOptions::default()
        })
        .await;
        server.write_schema(SCHEMA).await;
        let mut besides = Vec::new();
        for name in 0..SIDECARS {
            let mut options = crate::options(&server.uri);
            options.watcher_id = format!("sidecar-{name}");
            options.size.slots = 1 << 12;
            options.verify_one_in = 5;
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
        let questions = (0..10)
            .map(|_| proto::CheckRequest {
                subject: (*dice.pick(USERS)).to_owned(),
                permission: ["view", "edit"][dice.below(2)].to_owned(),
                resource: (*dice.pick(RESOURCES)).to_owned(),
                ..proto::CheckRequest::default()
            })
            .collect();
        let history = Self {
            dice,
            server,
            besides,
            passed,
            schema: SCHEMA.to_owned(),
            locks: Vec::new(),
            questions,
            done: 0,
            compared: 0,
        };
        for tuple in TUPLES.iter().take(14) {
            history.server.grant(tuple).await;
        }
        history
    }

    async fn step(&mut self) {
        match self.dice.below(24) {
            0 => {
                let passes = i64::try_from(self.dice.below(3)).unwrap();
                self.passed.fetch_add(passes, Ordering::SeqCst);
            }
            1..3 => self.tuple().await,
            3..5 => self.lock().await,
            5 => self.role().await,
            6..8 => self.assignment().await,
            8 if self.dice.once_in(4) => self.change_schema().await,
            8..11 => self.batch().await,
            _ => self.ask().await,
        }
    }

    async fn tuple(&mut self) {
        let mut tuple = (*self.dice.pick(TUPLES)).to_owned();
        if self.dice.once_in(2) {
            self.server.revoke(&tuple, None).await;
        } else {
            if tuple.contains("folder:1#viewer") && self.dice.once_in(2) {
                let end = self.ends();
                tuple = format!("{tuple}[expiration:{end}]");
            }
            self.server.grant(&tuple).await;
        }
        self.done += 1;
    }

    /// An instant that time comes to soon.
    fn ends(&mut self) -> Timestamp {
        let later = i64::try_from(1 + self.dice.below(3)).unwrap();
        Timestamp::new(BEGIN + self.passed.load(Ordering::SeqCst) + later, 0).unwrap()
    }

    async fn lock(&mut self) {
        let mut client = LockServiceClient::new(self.server.channel.clone());
        let lifts = !self.locks.is_empty() && self.dice.once_in(2);
        if lifts {
            let at = self.dice.below(self.locks.len());
            let lock_id = self.locks.swap_remove(at);
            let request = proto::UnlockRequest {
                lock_id,
                options: None,
            };
            self.done += u64::from(client.unlock(request).await.is_ok());
            return;
        }
        let lasts = self.dice.once_in(2).then(|| self.dice.below(3) as u64 + 1);
        let request = proto::LockRequest {
            resource: (*self.dice.pick(&RESOURCES[2..])).to_owned(),
            mode: ["freeze", "hide"][self.dice.below(2)].to_owned(),
            exempt: match self.dice.once_in(3) {
                true => vec![(*self.dice.pick(USERS)).to_owned()],
                false => Vec::new(),
            },
            ttl: lasts.map(|span| Duration::from_secs(span).try_into().unwrap()),
            options: Some(proto::WriteOptions {
                reason: "a test".to_owned(),
                ..proto::WriteOptions::default()
            }),
            ..proto::LockRequest::default()
        };
        let held = client.lock(request).await.unwrap().into_inner().lock;
        self.locks.push(held.unwrap().lock_id);
        self.done += 1;
    }

    async fn role(&mut self) {
        let mut client = RoleServiceClient::new(self.server.channel.clone());
        let key = (*self.dice.pick(ROLES)).to_owned();
        let role = format!("role:1/{key}");
        let permission = (*self.dice.pick(PERMISSIONS)).to_owned();
        // Whatever can't be done now is refused.
        let is_done = match self.dice.below(6) {
            0 => {
                let options = None;
                let request = proto::DeleteRoleRequest { role, options };
                client.delete_role(request).await.is_ok()
            }
            1..3 => {
                let request = proto::CreateRoleRequest {
                    owner: "org:1".to_owned(),
                    key,
                    title: "a role".to_owned(),
                    permissions: vec![permission],
                    options: None,
                };
                client.create_role(request).await.is_ok()
            }
            more => {
                let (allow, disallow) = match more {
                    3 | 4 => (vec![permission], Vec::new()),
                    _ => (Vec::new(), vec![permission]),
                };
                let request = proto::UpdateRoleRequest {
                    role,
                    allow,
                    disallow,
                    ..proto::UpdateRoleRequest::default()
                };
                client.update_role(request).await.is_ok()
            }
        };
        self.done += u64::from(is_done);
    }

    async fn assignment(&mut self) {
        let mut client = RoleServiceClient::new(self.server.channel.clone());
        let mut role = || {
            let keys = ["boss", "reader", "one", "two"];
            format!("role:1/{}", self.dice.pick(&keys))
        };
        let (role, other) = (role(), role());
        let subject = (*self.dice.pick(USERS)).to_owned();
        let resource = (*self.dice.pick(RESOURCES)).to_owned();
        let is_done = match self.dice.below(5) {
            0 | 1 => {
                let ends = self.dice.once_in(3).then(|| self.ends());
                let request = proto::AssignRoleRequest {
                    role,
                    subject,
                    resource,
                    expires_at: ends.map(portcullis::api::convert::values::to_timestamp),
                    options: None,
                };
                client.assign_role(request).await.is_ok()
            }
            2 => {
                let request = proto::ChangeRoleRequest {
                    subject,
                    resource,
                    from_role: role,
                    to_role: other,
                    options: None,
                };
                client.change_role(request).await.is_ok()
            }
            _ => {
                let request = proto::UnassignRoleRequest {
                    role,
                    subject,
                    resource,
                    options: None,
                };
                client.unassign_role(request).await.is_ok()
            }
        };
        self.done += u64::from(is_done);
    }

    async fn change_schema(&mut self) {
        let (from, to) = self.dice.pick(CHANGES);
        assert!(SCHEMA.contains(from), "{from}");
        self.schema = SCHEMA.replace(from, to);
        self.server.write_schema(&self.schema).await;
        self.done += 1;
    }

    async fn ask(&mut self) {
        let request = self.dice.pick(&self.questions).clone();
        let beside = self.dice.pick(&self.besides);
        if let Ok(said) = beside.check(request.clone()).await {
            let revision = said.revision.clone();
            compare(&self.server, &self.schema, request, said, revision).await;
            self.compared += 1;
        }
    }

    async fn batch(&mut self) {
        use proto::batch_check_response::result::Outcome;
        let from = self.dice.below(self.questions.len() - 2);
        let requests = self.questions[from..from + 3].to_vec();
        let batch = crate::law::batch_of(&requests);
        let channel = self.dice.pick(&self.besides).channel.clone();
        let said = CheckServiceClient::new(channel).batch_check(batch).await;
        let Ok(said) = said.map(tonic::Response::into_inner) else {
            return;
        };
        for (request, result) in requests.into_iter().zip(said.results) {
            if let Some(Outcome::Response(response)) = result.outcome {
                let revision = said.revision.clone();
                compare(&self.server, &self.schema, request, response, revision).await;
                self.compared += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_roles_and_schemas_obey_it_too() {
    assert!(wire(TUPLES[0]).resource.starts_with("team"));
    let wanted = setting("PORTCULLIS_ANSWERS", 10_000);
    let (mut compared, mut hits, mut verified) = (0, 0, 0);
    let mut seed = setting("PORTCULLIS_SEED", 0);
    while compared < wanted {
        let mut history = History::new(seed).await;
        for _ in 0..STEPS {
            history.step().await;
        }
        assert!(history.done > 50, "seed {seed}: {} writes", history.done);
        compared += history.compared;
        let each = |count: fn(&Beside) -> u64| history.besides.iter().map(count).sum::<u64>();
        hits += each(|beside| beside.counters.hits.get() + beside.counters.batch_hits.get());
        verified += each(|beside| beside.counters.verified.get());
        assert_eq!(
            each(|beside| beside.counters.differences.get()),
            0,
            "seed {seed}"
        );
        seed += 1;
    }
    println!("{compared} answers, {hits} from caches, {verified} asked again");
    assert!(hits > compared / 10, "{hits} of {compared}");
    assert!(verified > 0);
}
