//! Import and Export over the wire.

use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::*;
use portcullis::workload::Random;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::{Served, reason_of};

const SCHEMA: &str = "use expiration
definition user {}
caveat in_zone(zone string, hour int) { zone == 'here' && hour < 18 }
definition team { relation member: user | team#member }
definition doc {
    relation viewer: user | user:* | team#member | user with in_zone
    relation guest: user with expiration | user with in_zone and expiration
    permission view = viewer + guest
}";

struct Grants {
    client: GrantServiceClient<Channel>,
    _served: Served,
}

impl Grants {
    async fn new() -> Self {
        let served = Served::new().await;
        Self {
            client: GrantServiceClient::new(served.connect().await),
            _served: served,
        }
    }

    /// Imports the messages; the answers, and how it ended.
    async fn import(
        &mut self,
        messages: Vec<ImportRequest>,
    ) -> (Vec<ImportResponse>, Result<(), Status>) {
        let stream = tokio_stream::iter(messages);
        let mut answers = match self.client.import(stream).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut came = Vec::new();
        loop {
            match answers.message().await {
                Ok(Some(answer)) => came.push(answer),
                Ok(None) => return (came, Ok(())),
                Err(status) => return (came, Err(status)),
            }
        }
    }

    async fn export(&mut self, request: ExportRequest) -> Vec<ExportResponse> {
        let mut stream = self.client.export(request).await.unwrap().into_inner();
        let mut came = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            came.push(message);
        }
        came
    }

    /// All tuples as text, sorted.
    async fn all(&mut self) -> Vec<String> {
        texts(&self.export(ExportRequest::default()).await)
    }
}

fn texts(messages: &[ExportResponse]) -> Vec<String> {
    let tuples = messages.iter().flat_map(|message| message.tuples.clone());
    let read = tuples.map(|tuple| portcullis::api::convert::tuple(tuple).unwrap());
    let mut texts: Vec<String> = read.map(|tuple| tuple.to_string()).collect();
    texts.sort();
    texts
}

fn tuple(text: &str) -> Tuple {
    match text.parse::<portcullis::tuple::Tuple>() {
        Ok(tuple) => portcullis::api::convert::to_tuple(&tuple),
        Err(_) => Tuple {
            resource: text.to_owned(),
            ..Tuple::default()
        },
    }
}

/// Tuples of all forms, without repetition; some of them are over.
fn world(seed: u64, count: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut texts: Vec<String> = (0..count)
        .map(|n| {
            let doc = random.below(count / 3 + 1);
            let user = random.below(50);
            match random.below(8) {
                0 => format!("team:{doc}#member@team:{n}#member"),
                1 => format!("doc:{doc}#viewer@user:*"),
                2 => format!("doc:{doc}#viewer@team:{n}#member"),
                3 => format!("doc:{n}#viewer@user:{user}[in_zone:{{\"zone\":\"here\"}}]"),
                4 => format!("doc:{n}#viewer@user:{user}[in_zone]"),
                5 => format!("doc:{n}#guest@user:{user}[expiration:2999-01-01T00:00:0{}Z]", n % 10),
                6 => format!("doc:{n}#guest@user:{user}[in_zone:{{\"hour\":{n}}}][expiration:2999-01-01T00:00:00.500Z]"),
                _ => format!("doc:{n}#viewer@user:ü{user}"),
            }
        })
        .collect();
    texts.sort();
    texts.dedup();
    texts
}

fn messages(tuples: &[String], size: usize) -> Vec<ImportRequest> {
    let parts = tuples.chunks(size).map(|part| ImportRequest {
        tuples: part.iter().map(|text| tuple(text)).collect(),
        ..ImportRequest::default()
    });
    let mut messages: Vec<_> = parts.collect();
    if messages.is_empty() {
        messages.push(ImportRequest::default());
    }
    SCHEMA.clone_into(&mut messages[0].schema);
    messages
}

#[tokio::test]
async fn import_takes_back_what_export_gave() {
    for (seed, count, size) in [(1, 0, 7), (2, 300, 1), (3, 3_000, 97), (4, 25_000, 11_000)] {
        let tuples = world(seed, count);
        let (mut first, mut second) = (Grants::new().await, Grants::new().await);
        let (answers, ended) = first.import(messages(&tuples, size)).await;
        ended.unwrap();
        let positions: Vec<_> = answers.iter().map(|answer| answer.position).collect();
        assert!(positions.is_sorted(), "{positions:?}");
        assert_eq!(*positions.last().unwrap(), tuples.len() as u64);
        let exported = first.export(ExportRequest::default()).await;
        let revision = &answers.last().unwrap().revision;
        assert!(exported.iter().all(|message| message.revision == *revision));
        assert_eq!(exported[0].schema, SCHEMA);
        assert!(
            exported[1..]
                .iter()
                .all(|message| message.schema.is_empty())
        );
        assert_eq!(exported[0].total, tuples.len() as u64);
        assert_eq!(texts(&exported), tuples);
        let back = exported.into_iter().map(|message| ImportRequest {
            tuples: message.tuples,
            schema: message.schema,
            roles: message.roles,
            locks: message.locks,
        });
        let (again, ended) = second.import(back.collect()).await;
        ended.unwrap();
        assert_eq!(again.last().unwrap().position, tuples.len() as u64);
        assert_eq!(second.all().await, tuples);
        // What stands already is no change.
        let (once_more, ended) = second.import(messages(&tuples, size)).await;
        ended.unwrap();
        assert_eq!(
            once_more.last().unwrap().revision,
            again.last().unwrap().revision
        );
    }
}

#[tokio::test]
async fn filters_select_what_is_exported() {
    let mut grants = Grants::new().await;
    let tuples = world(5, 500);
    grants.import(messages(&tuples, 100)).await.1.unwrap();
    let filter = TupleFilter {
        resource_type: "team".to_owned(),
        ..TupleFilter::default()
    };
    let request = ExportRequest {
        filter: Some(filter),
        consistency: None,
    };
    let exported = grants.export(request).await;
    let teams = tuples.iter().filter(|text| text.starts_with("team:"));
    assert_eq!(texts(&exported), teams.cloned().collect::<Vec<_>>());
    let wrong = TupleFilter {
        resource_type: "tema".to_owned(),
        ..TupleFilter::default()
    };
    let request = ExportRequest {
        filter: Some(wrong),
        consistency: None,
    };
    let refused = grants.client.export(request).await.unwrap_err();
    let field = Some("filter.resource".to_owned());
    assert_eq!(reason_of(&refused), ("UNKNOWN_TYPE".to_owned(), field));
}

#[tokio::test]
async fn a_broken_stream_goes_on_behind_what_stands() {
    let mut grants = Grants::new().await;
    let tuples = world(6, 20_000);
    let mut begin = 0;
    let mut streams = 0;
    // Each stream breaks after one answer; the next begins behind it.
    while begin < tuples.len() {
        streams += 1;
        assert!(streams < 1_000, "it does not end");
        let (sender, receiver) = mpsc::channel(4);
        let sending = tokio::spawn({
            let messages = messages(&tuples[begin..], 1_500);
            async move {
                for message in messages {
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
                // Goes on to look open.
                sender.closed().await;
            }
        });
        let request = Request::new(ReceiverStream::new(receiver));
        let mut answers = grants.client.import(request).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        drop(answers);
        sending.abort();
        assert!(answer.position > 0);
        begin += usize::try_from(answer.position).unwrap();
    }
    assert!(streams > 1, "no stream broke");
    assert_eq!(grants.all().await, tuples);
}

#[tokio::test]
async fn errors_name_the_position_and_what_is_before_it_stands() {
    // The tuple at place 5 of the third message of ten is at fault: the 26th of the stream.
    let cases: [(&str, &str, &str); 5] = [
        ("nonsense", "MALFORMED_TUPLE", "tuples[5].resource"),
        (
            "doc:a#owner@user:x",
            "UNKNOWN_RELATION",
            "tuples[5].relation",
        ),
        (
            "doc:a#viewer@doc:x",
            "SUBJECT_NOT_ALLOWED",
            "tuples[5].subject",
        ),
        (
            "doc:a#viewer@user:x[in_zone:{\"zone\":3}]",
            "CAVEAT_CONTEXT_INVALID",
            "tuples[5].caveat.context.zone",
        ),
        (
            "doc:a#roles=x/y@user:x",
            "UNKNOWN_RELATION",
            "tuples[5].relation",
        ),
    ];
    for (bad, reason, field) in cases {
        let mut grants = Grants::new().await;
        let tuples: Vec<String> = (0..40).map(|n| format!("doc:{n}#viewer@user:u")).collect();
        let mut messages = messages(&tuples, 10);
        messages[2].tuples[5] = tuple(bad);
        let (answers, ended) = grants.import(messages).await;
        let status = ended.unwrap_err();
        assert_eq!(
            reason_of(&status),
            (reason.to_owned(), Some(field.to_owned()))
        );
        let details = status.get_error_details();
        assert_eq!(
            details.error_info().unwrap().metadata["position"],
            "25",
            "{bad}"
        );
        let begins = "tuple 26 of the stream (those before it stand): ";
        assert!(status.message().starts_with(begins), "{}", status.message());
        assert_eq!(answers.last().unwrap().position, 25, "{bad}");
        let mut stands = tuples[..25].to_vec();
        stands.sort();
        assert_eq!(grants.all().await, stands, "{bad}");
    }
}

#[tokio::test]
async fn the_first_message_says_what_it_is_about() {
    let mut grants = Grants::new().await;
    let no_schema = vec![ImportRequest {
        tuples: vec![tuple("doc:1#viewer@user:u")],
        ..ImportRequest::default()
    }];
    let status = grants.import(no_schema).await.1.unwrap_err();
    assert_eq!(reason_of(&status), ("NO_SCHEMA".to_owned(), None));
    let mut late = messages(&["doc:1#viewer@user:u".to_owned()], 1);
    late.push(ImportRequest {
        schema: SCHEMA.to_owned(),
        ..ImportRequest::default()
    });
    let (answers, ended) = grants.import(late).await;
    let field = Some("schema".to_owned());
    assert_eq!(
        reason_of(&ended.unwrap_err()),
        ("MALFORMED_REQUEST".to_owned(), field)
    );
    assert_eq!(answers.last().unwrap().position, 1);
    let mut invalid = messages(&[], 1);
    invalid[0].schema = "definition user {".to_owned();
    let status = grants.import(invalid).await.1.unwrap_err();
    let field = Some("schema".to_owned());
    assert_eq!(reason_of(&status), ("SCHEMA_INVALID".to_owned(), field));
    let mut orphans = messages(&[], 1);
    orphans[0].schema = "definition user {}".to_owned();
    let status = grants.import(orphans).await.1.unwrap_err();
    assert_eq!(reason_of(&status).0, "SCHEMA_WOULD_ORPHAN");
}

const WITH_ROLES: &str = "definition user {}
definition org {
    relation member: user
    permission view = member + any role
    assigns role
}
roles role of org { held by user builtin admin includes * }
definition app {
    relation org: org
    relation viewer: user
    permission view = viewer + any role
    lock freeze { blocks view seals }
    assigns role inherits org
}";

fn role() -> Role {
    Role {
        role: "role:acme/dev".to_owned(),
        owner: "org:acme".to_owned(),
        title: "Dev".to_owned(),
        permissions: vec!["app.view".to_owned()],
        builtin: false,
    }
}

fn lock() -> HeldLock {
    HeldLock {
        lock_id: "l1".to_owned(),
        resource: "app:shop".to_owned(),
        mode: "freeze".to_owned(),
        exempt: vec!["user:root".to_owned()],
        actor: "user:ops".to_owned(),
        reason: "release".to_owned(),
        ..HeldLock::default()
    }
}

const ASSIGNED: [&str; 4] = [
    "app:shop#org@org:acme",
    "app:shop#role=acme/admin@user:root",
    "app:shop#role=acme/dev@user:bob",
    "app:shop#viewer@user:x",
];

fn with_roles() -> ImportRequest {
    ImportRequest {
        schema: WITH_ROLES.to_owned(),
        roles: vec![role()],
        locks: vec![lock()],
        tuples: ASSIGNED.iter().map(|text| tuple(text)).collect(),
    }
}

#[tokio::test]
async fn roles_and_locks_go_out_and_in() {
    let (mut first, mut second) = (Grants::new().await, Grants::new().await);
    // The lock seals what comes with it against others only.
    first.import(vec![with_roles()]).await.1.unwrap();
    let exported = first.export(ExportRequest::default()).await;
    assert_eq!(texts(&exported), ASSIGNED);
    assert_eq!(exported[0].roles, [role()]);
    let held = &exported[0].locks[0];
    assert!(held.fencing_token > 0);
    let same = HeldLock {
        fencing_token: 0,
        ..held.clone()
    };
    let created_at = same.created_at;
    assert_eq!(
        same,
        HeldLock {
            created_at,
            ..lock()
        }
    );
    let back = |message: &ExportResponse| ImportRequest {
        tuples: message.tuples.clone(),
        schema: message.schema.clone(),
        roles: message.roles.clone(),
        locks: message.locks.clone(),
    };
    let stream: Vec<_> = exported.iter().map(back).collect();
    second.import(stream.clone()).await.1.unwrap();
    let again = second.export(ExportRequest::default()).await;
    assert_eq!(
        (texts(&again), &again[0].roles),
        (texts(&exported), &exported[0].roles)
    );
    assert_eq!(again[0].locks.len(), 1);
    second.import(stream).await.1.unwrap();
    let once_more = second.export(ExportRequest::default()).await;
    assert_eq!(once_more[0].revision, again[0].revision, "it was a change");
    // Tokens never go back: an imported lock keeps a higher one, and what follows is beyond it.
    let mut third = Grants::new().await;
    let mut far = with_roles();
    far.locks[0].fencing_token = 1_000_000;
    third.import(vec![far]).await.1.unwrap();
    let kept = third.export(ExportRequest::default()).await;
    assert_eq!(kept[0].locks[0].fencing_token, 1_000_000);
    let mut next = with_roles();
    next.locks[0].lock_id = "l2".to_owned();
    next.tuples.clear();
    third.import(vec![next]).await.1.unwrap();
    let kept = third.export(ExportRequest::default()).await;
    let tokens = kept[0].locks.iter().map(|lock| lock.fencing_token);
    assert!(tokens.max().unwrap() > 1_000_000);
    let mut endless = with_roles();
    endless.locks[0].lock_id = "l3".to_owned();
    endless.locks[0].fencing_token = u64::MAX;
    let status = third.import(vec![endless]).await.1.unwrap_err();
    let field = Some("locks[0].fencing_token".to_owned());
    assert_eq!(reason_of(&status), ("MALFORMED_REQUEST".to_owned(), field));
    let sealed = vec![ImportRequest {
        tuples: vec![tuple("app:shop#viewer@user:y")],
        ..ImportRequest::default()
    }];
    let status = second.import(sealed).await.1.unwrap_err();
    assert_eq!(reason_of(&status).0, "SEALED");
}

#[tokio::test]
async fn roles_and_locks_are_judged_before_the_tuples() {
    let mut other_owner = with_roles();
    other_owner.roles[0].owner = "org:other".to_owned();
    let mut not_includable = with_roles();
    not_includable.roles[0].permissions = vec!["app.viewer".to_owned()];
    let mut no_mode = with_roles();
    no_mode.locks[0].mode = "frieze".to_owned();
    let mut no_role = with_roles();
    no_role.tuples[2].relation = "role=acme/nobody".to_owned();
    let cases = [
        (other_owner, "MALFORMED_REQUEST", "roles[0].owner", 0),
        (
            not_includable,
            "PERMISSION_NOT_INCLUDABLE",
            "roles[0].permissions[0]",
            0,
        ),
        (no_mode, "UNKNOWN_LOCK_MODE", "mode", 0),
        (no_role, "ROLE_NOT_FOUND", "tuples[2].relation", 2),
    ];
    for (message, reason, field, stands) in cases {
        let mut grants = Grants::new().await;
        let status = grants.import(vec![message]).await.1.unwrap_err();
        let field = Some(field.to_owned());
        assert_eq!(reason_of(&status), (reason.to_owned(), field));
        assert_eq!(grants.all().await.len(), stands, "{reason}");
    }
    let mut grants = Grants::new().await;
    grants.import(vec![with_roles()]).await.1.unwrap();
    let mut moved = with_roles();
    moved.locks[0].resource = "app:other".to_owned();
    let status = grants.import(vec![moved]).await.1.unwrap_err();
    assert_eq!(reason_of(&status).0, "LOCK_EXISTS");
    let mut renamed = with_roles();
    renamed.roles[0].role = "role:acme/admin".to_owned();
    let status = grants.import(vec![renamed]).await.1.unwrap_err();
    assert_eq!(reason_of(&status).0, "ROLE_BUILTIN");
}
