//! The same over sockets, as a client in any language sees it.

use portcullis::api::proto;
use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::watch_changes_response::Event;
use portcullis::api::proto::watch_service_client::WatchServiceClient;
use portcullis::engine::{Engine, EngineOptions};
use portcullis::index::KEY_VERSION;
use portcullis::plan::{Action, Operation, Update};
use portcullis::server::{self, ListenAddress, ServeError, ServeOptions};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use crate::world::{SCHEMA, TestClock, command, did, open_with, store};
use crate::{SOON, token};

struct Served {
    engine: Engine,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn new() -> Self {
        Self::with(TestClock::at(0).options()).await
    }

    async fn with(options: EngineOptions) -> Self {
        Self::of(open_with(Box::new(store()), options).await).await
    }

    async fn of(engine: Engine) -> Self {
        let address: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let listener = address.bind().await.unwrap();
        let ListenAddress::Tcp(address) = listener.address().unwrap() else {
            panic!("a port was asked for");
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let options = ServeOptions::default();
        let serving = server::serve(engine.clone(), vec![listener], options, shutdown);
        let task = tokio::spawn(serving);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            engine,
            channel: endpoint.connect().await.unwrap(),
            stop: Some(stop),
            task,
        }
    }

    fn watches(&self) -> WatchServiceClient<Channel> {
        WatchServiceClient::new(self.channel.clone())
    }

    /// Opens a stream and takes its Hello.
    async fn opened(&self, request: proto::WatchChangesRequest) -> (Stream, proto::Hello) {
        let stream = self.watches().watch_changes(request).await.unwrap();
        let mut stream = Stream(stream.into_inner());
        match stream.next().await {
            Event::Hello(hello) => (stream, hello),
            other => panic!("{other:?}"),
        }
    }
}

struct Stream(Streaming<proto::WatchChangesResponse>);

impl Stream {
    async fn next(&mut self) -> Event {
        let message = tokio::time::timeout(SOON, self.0.message()).await;
        let message = message.expect("nothing came").unwrap();
        message.expect("it ended").event.unwrap()
    }

    /// The next commit. On a busy machine heartbeats may come before it.
    async fn commit(&mut self) -> proto::Commit {
        loop {
            match self.next().await {
                Event::Commit(commit) => return commit,
                Event::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn all() -> proto::WatchChangesRequest {
    proto::WatchChangesRequest::default()
}

#[tokio::test]
async fn each_kind_of_watcher_gets_what_it_is_there_for() {
    let served = Served::new().await;
    let cache = || proto::WatchChangesRequest {
        watcher_id: "a".to_owned(),
        ..all()
    };
    let kinds = [
        (all(), 1, 0),
        (cache(), 1, 3),
        (
            proto::WatchChangesRequest {
                invalidations_only: true,
                ..all()
            },
            0,
            3,
        ),
        // A group changes, of which decisions on documents may depend.
        (
            proto::WatchChangesRequest {
                resource_types: vec!["doc".to_owned()],
                ..cache()
            },
            0,
            3,
        ),
        (
            proto::WatchChangesRequest {
                resource_types: vec!["doc".to_owned()],
                ..all()
            },
            0,
            0,
        ),
        (
            proto::WatchChangesRequest {
                resource_types: vec!["team".to_owned()],
                ..all()
            },
            1,
            0,
        ),
    ];
    let mut streams = Vec::new();
    for (request, changes, keys) in kinds {
        let (stream, hello) = served.opened(request).await;
        assert_eq!(
            (hello.revision.as_str(), hello.key_version),
            ("1@9f3ac1", KEY_VERSION)
        );
        assert!(!hello.session.is_empty() && hello.chain != 0);
        streams.push((stream, changes, keys));
    }
    did(&served.engine, &["+team:core#member@user:u"]).await;
    for (mut stream, changes, keys) in streams {
        let commit = stream.commit().await;
        assert_eq!(commit.revision, "2@9f3ac1");
        assert_eq!(commit.changes.len(), changes);
        assert_eq!(commit.invalidations.len(), keys);
        assert!(!commit.invalidate_all && !commit.more && !commit.ack_now);
    }
}

#[tokio::test]
async fn a_commit_that_is_too_large_for_one_message_comes_in_parts() {
    let served = Served::new().await;
    let cache = proto::WatchChangesRequest {
        watcher_id: "a".to_owned(),
        ..all()
    };
    let (mut stream, _) = served.opened(cache).await;
    let name = "x".repeat(200);
    let grants: Vec<String> = (0..10_000)
        .map(|n| format!("+doc:{name}{n}#viewer@user:{name}{n}"))
        .collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    did(&served.engine, &grants).await;
    did(&served.engine, &["+doc:next#viewer@user:u"]).await;
    let mut parts = Vec::new();
    while parts.last().is_none_or(|last: &proto::Commit| last.more) {
        parts.push(stream.commit().await);
    }
    assert!(parts.len() > 3, "{}", parts.len());
    let mut count = 0;
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.revision, "2@9f3ac1");
        assert_eq!(part.invalidations.is_empty(), index > 0);
        assert!(part.encoded_len() <= 1 << 20);
        count += part.changes.len();
    }
    assert_eq!((count, parts[0].invalidations.len()), (10_000, 30_000));
    assert_eq!(stream.commit().await.revision, "3@9f3ac1");
}

/// More keys than a message may have, and a new schema.
#[tokio::test]
async fn what_changes_nearly_everything_invalidates_everything() {
    let engine = Engine::open(Box::new(store()), TestClock::at(0).options()).unwrap();
    let served = Served::of(engine).await;
    let keys = proto::WatchChangesRequest {
        invalidations_only: true,
        ..all()
    };
    let (mut stream, _) = served.opened(keys).await;
    let updates = (0..50_001).map(|n| Update {
        operation: Operation::Grant,
        tuple: format!("doc:{n}#viewer@user:{n}").parse().unwrap(),
    });
    let begin = Action::Begin {
        text: SCHEMA.into(),
        roles: Vec::new(),
        updates: updates.collect(),
    };
    served.engine.write(command(begin), None).await.unwrap();
    let commit = stream.commit().await;
    assert!(commit.invalidate_all && commit.invalidations.is_empty());
}

#[tokio::test]
async fn a_snapshot_comes_first_with_the_schema_in_front() {
    let served = Served::new().await;
    let grants: Vec<String> = (0..600)
        .map(|n| format!("+doc:{n}#viewer@user:u"))
        .collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    did(&served.engine, &grants).await;
    let snapshot = proto::WatchChangesRequest {
        snapshot: true,
        ..all()
    };
    let (mut stream, _) = served.opened(snapshot).await;
    let mut chunks: Vec<proto::SnapshotChunk> = Vec::new();
    while chunks.last().is_none_or(|last| !last.last) {
        match stream.next().await {
            Event::Snapshot(chunk) => chunks.push(chunk),
            other => panic!("{other:?}"),
        }
    }
    let schemas: Vec<bool> = chunks.iter().map(|c| c.schema == SCHEMA).collect();
    assert!(schemas[0] && schemas[1..].iter().all(|is| !is));
    assert!(chunks.iter().all(|chunk| chunk.revision == "2@9f3ac1"));
    let tuples: usize = chunks.iter().map(|chunk| chunk.tuples.len()).sum();
    assert_eq!(tuples, 600);
    did(&served.engine, &["-doc:1#viewer@user:u"]).await;
    assert_eq!(stream.commit().await.revision, "3@9f3ac1");
}

#[tokio::test]
async fn acknowledge_wait_and_list() {
    let served = Served::new().await;
    let cache = proto::WatchChangesRequest {
        watcher_id: "sidecar-1".to_owned(),
        ..all()
    };
    let (mut stream, hello) = served.opened(cache).await;
    let ack = |revision: String| proto::AckChangesRequest {
        watcher_id: "sidecar-1".to_owned(),
        revision,
        session: hello.session.clone(),
    };
    let mut watches = served.watches();
    let leased = watches.ack_changes(ack(hello.revision)).await.unwrap();
    let leased = leased.into_inner();
    assert_eq!(leased.lease, hello.lease);
    assert_eq!(leased.revision, "1@9f3ac1");
    let write = {
        let mut grants = GrantServiceClient::new(served.channel.clone());
        let tuple = proto::Tuple {
            resource: "doc:1".to_owned(),
            relation: "viewer".to_owned(),
            subject: "user:u".to_owned(),
            ..proto::Tuple::default()
        };
        let wait = prost_types::Duration {
            seconds: 3,
            nanos: 0,
        };
        let request = proto::GrantRequest {
            tuples: vec![tuple],
            options: Some(proto::WriteOptions {
                wait_for_watchers: Some(wait),
                ..proto::WriteOptions::default()
            }),
        };
        tokio::spawn(async move { grants.grant(request).await.unwrap().into_inner() })
    };
    let commit = stream.commit().await;
    assert!(commit.ack_now && !write.is_finished());
    let leased = watches.ack_changes(ack(commit.revision)).await.unwrap();
    assert_eq!(leased.into_inner().revision, "2@9f3ac1");
    let propagation = write.await.unwrap().propagation.unwrap();
    assert!(propagation.complete && propagation.laggards.is_empty());
    let listed = watches.list_watchers(proto::ListWatchersRequest {}).await;
    let [watcher] = &listed.unwrap().into_inner().watchers[..] else {
        panic!("one stream is open");
    };
    assert_eq!(watcher.watcher_id, "sidecar-1");
    assert_eq!(watcher.session, hello.session);
    assert_eq!(watcher.revision, "2@9f3ac1");
    assert_eq!(watcher.acknowledged, "2@9f3ac1");
    assert!(watcher.address.starts_with("127.0.0.1:"));
    assert!(watcher.lease.unwrap().seconds >= 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_names_its_field() {
    let served = Served::new().await;
    let watch = |change: fn(&mut proto::WatchChangesRequest)| {
        let mut request = all();
        change(&mut request);
        let mut watches = served.watches();
        async move {
            let status = watches.watch_changes(request).await.unwrap_err();
            let details = status.get_error_details();
            let reason = details.error_info().unwrap().reason.clone();
            let field = details.bad_request().unwrap().field_violations[0]
                .field
                .clone();
            (status.code(), reason, field)
        }
    };
    let expect =
        |reason: &str, field: &str| (Code::InvalidArgument, reason.to_owned(), field.to_owned());
    let malformed = watch(|r| r.after = "7".to_owned()).await;
    assert_eq!(malformed, expect("MALFORMED_REVISION", "after"));
    let both = watch(|r| {
        r.after = "1@9f3ac1".to_owned();
        r.snapshot = true;
    });
    assert_eq!(both.await, expect("MALFORMED_REQUEST", "snapshot"));
    let nothing = watch(|r| {
        r.snapshot = true;
        r.invalidations_only = true;
    });
    assert_eq!(nothing.await, expect("MALFORMED_REQUEST", "snapshot"));
    let chain = watch(|r| r.after_chain = 7).await;
    assert_eq!(chain, expect("MALFORMED_REQUEST", "after"));
    let unknown = watch(|r| r.resource_types = vec!["dco".to_owned()]).await;
    assert_eq!(unknown, expect("UNKNOWN_TYPE", "resource_types[0]"));
    let ack = proto::AckChangesRequest {
        revision: "1@9f3ac1".to_owned(),
        ..proto::AckChangesRequest::default()
    };
    let status = served.watches().ack_changes(ack).await.unwrap_err();
    assert!(status.message().contains("watcher_id"), "{status}");
}

#[tokio::test]
async fn too_many_streams_are_refused_with_the_limit() {
    let options = EngineOptions {
        watchers: 1,
        ..TestClock::at(0).options()
    };
    let served = Served::with(options).await;
    let _open = served.opened(all()).await;
    let status = served.watches().watch_changes(all()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("--max-watchers"), "{status}");
}

#[tokio::test]
async fn a_client_that_goes_is_forgotten() {
    let served = Served::new().await;
    let opened = served.opened(all()).await;
    assert_eq!(served.engine.watchers().len(), 1);
    drop(opened);
    let gone = async {
        while !served.engine.watchers().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_streams_so_that_clients_resume_elsewhere() {
    let mut served = Served::new().await;
    let (mut stream, _) = served.opened(all()).await;
    drop(served.stop.take());
    let status = loop {
        match tokio::time::timeout(SOON, stream.0.message())
            .await
            .unwrap()
        {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "SHUTTING_DOWN");
    drop((stream, served.channel));
    served.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_ack_of_a_stranger_is_no_error_and_no_lease() {
    let served = Served::new().await;
    let ack = proto::AckChangesRequest {
        watcher_id: "nobody".to_owned(),
        revision: token(1).to_string(),
        session: "0123-4".to_owned(),
    };
    let answer = served
        .watches()
        .ack_changes(ack)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.lease, Some(prost_types::Duration::default()));
}

/// Schema, roles, locks and tuples of one revision, those of assignments among them.
#[tokio::test]
async fn a_snapshot_has_locks_roles_and_assignments() {
    const AT_WORK: &str = "
definition user {}
definition org {
    relation admin: user
    permission edit = admin + any role
    assigns role
    lock freeze { blocks edit }
}
roles role of org {
    held by user
    builtin boss includes *
}";
    let served = Served::new().await;
    let mut schemas =
        proto::schema_service_client::SchemaServiceClient::new(served.channel.clone());
    let request = proto::WriteSchemaRequest {
        schema: AT_WORK.to_owned(),
        ..proto::WriteSchemaRequest::default()
    };
    schemas.write_schema(request).await.unwrap();
    let mut roles = proto::role_service_client::RoleServiceClient::new(served.channel.clone());
    let request = proto::CreateRoleRequest {
        owner: "org:1".to_owned(),
        key: "editor".to_owned(),
        title: "Editors".to_owned(),
        permissions: vec!["org.edit".to_owned()],
        options: None,
    };
    roles.create_role(request).await.unwrap();
    for (role, subject) in [("role:1/editor", "user:a"), ("role:1/boss", "user:b")] {
        let request = proto::AssignRoleRequest {
            role: role.to_owned(),
            subject: subject.to_owned(),
            resource: "org:1".to_owned(),
            ..proto::AssignRoleRequest::default()
        };
        roles.assign_role(request).await.unwrap();
    }
    let mut locks = proto::lock_service_client::LockServiceClient::new(served.channel.clone());
    let request = proto::LockRequest {
        resource: "org:1".to_owned(),
        mode: "freeze".to_owned(),
        exempt: vec!["user:b".to_owned()],
        lock_id: "release".to_owned(),
        options: Some(proto::WriteOptions {
            reason: "a test".to_owned(),
            ..proto::WriteOptions::default()
        }),
        ..proto::LockRequest::default()
    };
    locks.lock(request).await.unwrap();
    did(&served.engine, &["+org:1#admin@user:c"]).await;
    let newest = served.engine.status().token.to_string();
    let request = proto::WatchChangesRequest {
        snapshot: true,
        ..all()
    };
    let (mut stream, _) = served.opened(request).await;
    let mut whole = proto::SnapshotChunk::default();
    while !whole.last {
        let Event::Snapshot(chunk) = stream.next().await else {
            panic!("a snapshot comes first");
        };
        assert_eq!(chunk.revision, newest);
        whole.schema.push_str(&chunk.schema);
        whole.roles.extend(chunk.roles);
        whole.locks.extend(chunk.locks);
        whole.tuples.extend(chunk.tuples);
        whole.last = chunk.last;
    }
    assert_eq!(whole.schema, AT_WORK);
    let role = whole.roles.iter().find(|role| role.role == "role:1/editor");
    let role = role.expect("the role is there");
    assert_eq!(
        (role.title.as_str(), role.permissions.as_slice()),
        ("Editors", &["org.edit".to_owned()][..])
    );
    assert_eq!(whole.locks.len(), 1);
    assert_eq!(
        (&*whole.locks[0].lock_id, &*whole.locks[0].exempt[0]),
        ("release", "user:b")
    );
    let mut tuples: Vec<_> = (whole.tuples.iter())
        .map(|tuple| format!("{}#{}@{}", tuple.resource, tuple.relation, tuple.subject))
        .collect();
    tuples.sort();
    let expected = [
        "org:1#admin@user:c",
        "org:1#role=1/boss@user:b",
        "org:1#role=1/editor@user:a",
    ];
    assert_eq!(tuples, expected);
}
