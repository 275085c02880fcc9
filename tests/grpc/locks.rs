//! `LockService` over the wire, each call and each refusal, and what a lock does to every question.

use portcullis::api::proto::batch_check_response::result::Outcome;
use portcullis::api::proto::check_service_client::CheckServiceClient;
use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::list_permissions_response::entry::Outcome as Entry;
use portcullis::api::proto::lock_service_client::LockServiceClient;
use portcullis::api::proto::schema_service_client::SchemaServiceClient;
use portcullis::api::proto::suggestion::Change;
use portcullis::api::proto::*;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::{Served, reason_of};

const SCHEMA: &str = "
definition user {}
definition team { relation member: user }
definition org {
    relation owner: user    granted by own
    permission own = owner
    permission view = owner
    lock freeze { blocks view  granted by own }
}
definition app {
    relation org: org                    granted by org->own
    relation developer: user | user:*    granted by org->own
    permission administer = org->own
    permission deploy = administer + developer
    lock freeze { blocks deploy  except administer  granted by administer  inherits org }
    lock audit { seals }
}
";

struct Clients {
    locks: LockServiceClient<Channel>,
    checks: CheckServiceClient<Channel>,
    grants: GrantServiceClient<Channel>,
    _served: Served,
}

fn tuple(text: &str) -> Tuple {
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    Tuple {
        resource: resource.to_owned(),
        relation: relation.to_owned(),
        subject: subject.to_owned(),
        ..Tuple::default()
    }
}

async fn prepared() -> Clients {
    let served = Served::new().await;
    let channel = served.connect().await;
    let mut clients = Clients {
        locks: LockServiceClient::new(channel.clone()),
        checks: CheckServiceClient::new(channel.clone()),
        grants: GrantServiceClient::new(channel.clone()),
        _served: served,
    };
    let schema = WriteSchemaRequest {
        schema: SCHEMA.to_owned(),
        ..WriteSchemaRequest::default()
    };
    let mut schemas = SchemaServiceClient::new(channel);
    schemas.write_schema(schema).await.unwrap();
    clients
        .grant(&[
            "org:acme#owner@user:olga",
            "app:shop#org@org:acme",
            "app:shop#developer@user:dev",
        ])
        .await;
    clients
}

fn options(actor: &str, reason: &str) -> WriteOptions {
    WriteOptions {
        actor: actor.to_owned(),
        reason: reason.to_owned(),
        ..WriteOptions::default()
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A lock that Olga may place.
fn wanted() -> LockRequest {
    LockRequest {
        resource: "app:shop".to_owned(),
        mode: "freeze".to_owned(),
        exempt: vec!["user:root".to_owned(), "team:ops#member".to_owned()],
        ttl: Some(seconds(600)),
        lock_id: "release".to_owned(),
        options: Some(options("user:olga", "a release")),
    }
}

fn refusal<T>(outcome: Result<Response<T>, Status>) -> (String, Option<String>) {
    match outcome {
        Ok(_) => ("done".to_owned(), None),
        Err(status) => reason_of(&status),
    }
}

impl Clients {
    async fn grant(&mut self, tuples: &[&str]) {
        let tuples = tuples.iter().map(|text| tuple(text)).collect();
        let request = GrantRequest {
            tuples,
            options: None,
        };
        self.grants.grant(request).await.unwrap();
    }

    async fn lock(&mut self, request: LockRequest) -> HeldLock {
        let response = self.locks.lock(request).await.unwrap().into_inner();
        assert!(response.revision.contains('@') && response.propagation.is_none());
        response.lock.unwrap()
    }

    async fn unlock(&mut self, id: &str) -> HeldLock {
        let request = UnlockRequest {
            lock_id: id.to_owned(),
            options: Some(options("user:olga", "")),
        };
        let response = self.locks.unlock(request).await.unwrap();
        response.into_inner().lock.unwrap()
    }

    async fn list(&mut self, resource: &str, inherited: bool) -> Vec<String> {
        let request = ListLocksRequest {
            resource: resource.to_owned(),
            inherited,
            consistency: None,
        };
        let mut stream = self.locks.list_locks(request).await.unwrap().into_inner();
        let mut ids = Vec::new();
        while let Some(row) = stream.message().await.unwrap() {
            assert!(row.revision.contains('@'));
            ids.push(row.lock.unwrap().lock_id);
        }
        ids
    }

    async fn check(&mut self, subject: &str, contextual: &[&str]) -> CheckResponse {
        let request = CheckRequest {
            subject: subject.to_owned(),
            permission: "deploy".to_owned(),
            resource: "app:shop".to_owned(),
            contextual_tuples: contextual.iter().map(|text| tuple(text)).collect(),
            ..CheckRequest::default()
        };
        self.checks.check(request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn each_call_answers() {
    let mut clients = prepared().await;
    let placed = clients.lock(wanted()).await;
    let created = placed.created_at.unwrap();
    let ends = placed.expires_at.unwrap();
    assert_eq!(
        (ends.seconds - created.seconds, ends.nanos),
        (600, created.nanos)
    );
    let told = HeldLock {
        created_at: None,
        expires_at: None,
        fencing_token: 0,
        ..placed.clone()
    };
    let LockRequest {
        lock_id,
        resource,
        mode,
        ..
    } = wanted();
    let expected = HeldLock {
        lock_id,
        resource,
        mode,
        // Sorted.
        exempt: vec!["team:ops#member".to_owned(), "user:root".to_owned()],
        actor: "user:olga".to_owned(),
        reason: "a release".to_owned(),
        ..HeldLock::default()
    };
    assert_eq!(told, expected);
    assert_eq!(
        clients.lock(wanted()).await,
        placed,
        "the same again is the same"
    );

    let endless = LockRequest {
        resource: "org:acme".to_owned(),
        exempt: Vec::new(),
        ttl: None,
        lock_id: String::new(),
        ..wanted()
    };
    let above = clients.lock(endless).await;
    assert!(above.expires_at.is_none() && !above.lock_id.is_empty());
    assert!(above.fencing_token > placed.fencing_token, "tokens grow");
    assert_eq!(clients.list("app:shop", false).await, ["release"]);
    let mut all = vec![above.lock_id.clone(), "release".to_owned()];
    all.sort();
    assert_eq!(clients.list("app:shop", true).await, all);
    assert_eq!(clients.list("", false).await, all);

    let request = RenewLockRequest {
        lock_id: "release".to_owned(),
        ttl: None,
        options: Some(options("user:olga", "")),
    };
    let renewed = clients
        .locks
        .renew_lock(request)
        .await
        .unwrap()
        .into_inner();
    let kept = HeldLock {
        expires_at: None,
        ..placed
    };
    assert_eq!(renewed.lock.as_ref(), Some(&kept));
    assert_eq!(clients.unlock("release").await, kept);
    assert_eq!(clients.unlock(&above.lock_id).await, above);
    assert!(clients.list("", false).await.is_empty());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_refusal_of_a_lock_names_its_field() {
    let mut clients = prepared().await;
    clients.lock(wanted()).await;
    let with = |change: fn(&mut LockRequest)| {
        let mut request = LockRequest {
            lock_id: String::new(),
            ..wanted()
        };
        change(&mut request);
        request
    };
    let cases: Vec<(LockRequest, &str, &str)> = vec![
        (
            with(|lock| lock.resource = "shop".to_owned()),
            "MALFORMED_REFERENCE",
            "resource",
        ),
        (
            with(|lock| lock.resource = "apq:shop".to_owned()),
            "UNKNOWN_TYPE",
            "resource",
        ),
        (with(|lock| lock.mode.clear()), "MALFORMED_REQUEST", "mode"),
        (
            with(|lock| lock.mode = "frieze".to_owned()),
            "UNKNOWN_LOCK_MODE",
            "mode",
        ),
        (
            with(|lock| lock.exempt[1] = "ops".to_owned()),
            "MALFORMED_REFERENCE",
            "exempt[1]",
        ),
        (
            with(|lock| lock.exempt[1] = "tean:x".to_owned()),
            "UNKNOWN_TYPE",
            "exempt[1]",
        ),
        (
            with(|lock| lock.exempt[0] = "team:x#membr".to_owned()),
            "UNKNOWN_RELATION",
            "exempt[0]",
        ),
        (
            with(|lock| lock.exempt = vec!["user:x".to_owned(); 1_001]),
            "TOO_LARGE",
            "exempt",
        ),
        (
            with(|lock| lock.ttl = Some(seconds(0))),
            "TTL_INVALID",
            "ttl",
        ),
        (
            with(|lock| lock.ttl = Some(seconds(-5))),
            "TTL_INVALID",
            "ttl",
        ),
        (
            with(|lock| lock.ttl = Some(seconds(1 << 40))),
            "TTL_INVALID",
            "ttl",
        ),
        (
            with(|lock| lock.lock_id = "a b".to_owned()),
            "MALFORMED_REQUEST",
            "lock_id",
        ),
        (
            with(|lock| lock.options = Some(options("user:olga", " "))),
            "REASON_REQUIRED",
            "options.reason",
        ),
        (
            with(|lock| lock.options = None),
            "REASON_REQUIRED",
            "options.reason",
        ),
        (
            with(|lock| lock.options = Some(options("olga", "x"))),
            "MALFORMED_REFERENCE",
            "options.actor",
        ),
        (
            with(|lock| lock.options = Some(options("usr:olga", "x"))),
            "UNKNOWN_TYPE",
            "options.actor",
        ),
        (
            with(|lock| lock.options = Some(options("user:dev", "x"))),
            "ACTOR_NOT_ALLOWED",
            "",
        ),
        (
            with(|lock| lock.mode = "audit".to_owned()),
            "ACTOR_NOT_ALLOWED",
            "",
        ),
        (
            LockRequest {
                exempt: Vec::new(),
                ..wanted()
            },
            "LOCK_EXISTS",
            "lock_id",
        ),
        // Who has no right learns nothing of what stands.
        (
            LockRequest {
                options: Some(options("user:dev", "x")),
                ..LockRequest {
                    exempt: Vec::new(),
                    ..wanted()
                }
            },
            "ACTOR_NOT_ALLOWED",
            "",
        ),
    ];
    for (request, reason, field) in cases {
        let told = format!("{request:?}");
        let expected = (
            reason.to_owned(),
            (!field.is_empty()).then(|| field.to_owned()),
        );
        assert_eq!(
            refusal(clients.locks.lock(request).await),
            expected,
            "{told}"
        );
    }
    let ids = [
        ("", "user:olga", "MALFORMED_REQUEST", "lock_id"),
        ("other", "user:olga", "LOCK_NOT_FOUND", "lock_id"),
        ("release", "user:dev", "ACTOR_NOT_ALLOWED", ""),
        ("release", "olga", "MALFORMED_REFERENCE", "options.actor"),
    ];
    for (id, actor, reason, field) in ids {
        let expected = (
            reason.to_owned(),
            (!field.is_empty()).then(|| field.to_owned()),
        );
        let unlock = UnlockRequest {
            lock_id: id.to_owned(),
            options: Some(options(actor, "")),
        };
        let renew = RenewLockRequest {
            lock_id: id.to_owned(),
            ttl: Some(seconds(5)),
            options: Some(options(actor, "")),
        };
        assert_eq!(
            refusal(clients.locks.unlock(unlock).await),
            expected,
            "{id}"
        );
        assert_eq!(
            refusal(clients.locks.renew_lock(renew).await),
            expected,
            "{id}"
        );
    }
    let renew = RenewLockRequest {
        lock_id: "release".to_owned(),
        ttl: Some(seconds(0)),
        options: Some(options("user:olga", "")),
    };
    let expected = ("TTL_INVALID".to_owned(), Some("ttl".to_owned()));
    assert_eq!(refusal(clients.locks.renew_lock(renew).await), expected);
    for (resource, inherited, reason) in [
        ("", true, "MALFORMED_REQUEST"),
        ("shop", false, "MALFORMED_REFERENCE"),
        ("apq:shop", false, "UNKNOWN_TYPE"),
    ] {
        let list = ListLocksRequest {
            resource: resource.to_owned(),
            inherited,
            consistency: None,
        };
        let expected = (reason.to_owned(), Some("resource".to_owned()));
        assert_eq!(
            refusal(clients.locks.list_locks(list).await),
            expected,
            "{resource}"
        );
    }
}

#[tokio::test]
async fn every_question_meets_a_lock() {
    let mut clients = prepared().await;
    let held = clients.lock(wanted()).await;
    let in_the_way = LockRef {
        lock_id: "release".to_owned(),
        mode: "freeze".to_owned(),
        held_on: "app:shop".to_owned(),
        reason: "a release".to_owned(),
        expires_at: held.expires_at,
        actor: "user:olga".to_owned(),
    };
    let locked = clients.check("user:dev", &[]).await;
    assert_eq!(locked.decision(), Decision::Denied);
    assert_eq!(locked.denial_reason(), DenialReason::Locked);
    assert_eq!(locked.locks, std::slice::from_ref(&in_the_way));
    assert_eq!(locked.valid_until, held.expires_at);
    assert!(locked.detail.contains("a release"), "{}", locked.detail);
    // A grant of the request alone is behind the lock too, and lets in whom it exempts.
    let granted = [
        "app:shop#developer@user:new",
        "app:shop#developer@user:root",
    ];
    let behind = clients.check("user:new", &granted).await;
    assert_eq!(behind.denial_reason(), DenialReason::Locked);
    assert_eq!(behind.locks, std::slice::from_ref(&in_the_way));
    let exempt = clients.check("user:root", &granted).await;
    assert_eq!(exempt.decision(), Decision::Allowed);
    let nobody = clients.check("user:new", &[]).await;
    assert_eq!(nobody.denial_reason(), DenialReason::NoGrant);
    assert!(nobody.locks.is_empty());
    assert_eq!(
        clients.check("user:olga", &[]).await.decision(),
        Decision::Allowed
    );

    let item = |subject: &str| batch_check_request::Item {
        subject: subject.to_owned(),
        permission: "deploy".to_owned(),
        resource: "app:shop".to_owned(),
        context: None,
    };
    let batch = BatchCheckRequest {
        items: vec![item("user:dev"), item("user:olga"), item("user:new")],
        ..BatchCheckRequest::default()
    };
    let batch = clients
        .checks
        .batch_check(batch)
        .await
        .unwrap()
        .into_inner();
    let outcomes: Vec<_> = (batch.results.into_iter())
        .map(|result| match result.outcome.unwrap() {
            Outcome::Response(response) => (response.denial_reason(), response.locks),
            Outcome::Error(error) => panic!("{error:?}"),
        })
        .collect();
    let expected = [
        (DenialReason::Locked, vec![in_the_way.clone()]),
        (DenialReason::Unspecified, Vec::new()),
        (DenialReason::NoGrant, Vec::new()),
    ];
    assert_eq!(outcomes, expected);

    let explain = ExplainRequest {
        subject: "user:dev".to_owned(),
        permission: "deploy".to_owned(),
        resource: "app:shop".to_owned(),
        ..ExplainRequest::default()
    };
    let explained = clients.checks.explain(explain).await.unwrap().into_inner();
    assert_eq!(explained.response.unwrap().locks, [in_the_way]);
    assert!(explained.text.contains("freeze"), "{}", explained.text);
    let change = explained.suggestion.unwrap().change;
    assert_eq!(change, Some(Change::Unlock("release".to_owned())));

    for (subject, may) in [("user:dev", false), ("user:olga", true)] {
        assert_eq!(clients.listed(subject).await, [may; 3], "{subject}");
    }
    clients.unlock("release").await;
    assert_eq!(clients.listed("user:dev").await, [true; 3]);
    assert_eq!(
        clients.check("user:dev", &[]).await.decision(),
        Decision::Allowed
    );
}

/// Whom a lock alone names is listed, though everybody was granted it and no tuple names them.
#[tokio::test]
async fn the_exempt_are_listed_behind_everybody() {
    let mut clients = prepared().await;
    clients.grant(&["app:shop#developer@user:*"]).await;
    clients.lock(wanted()).await;
    assert_eq!(clients.listed("user:root").await, [true; 3]);
    assert_eq!(clients.listed("user:other").await, [false; 3]);
}

impl Clients {
    /// Whether each of the three lists says that the subject may deploy.
    async fn listed(&mut self, subject: &str) -> [bool; 3] {
        let resources = ListResourcesRequest {
            subject: subject.to_owned(),
            permission: "deploy".to_owned(),
            resource_type: "app".to_owned(),
            ..ListResourcesRequest::default()
        };
        let mut stream = self
            .checks
            .list_resources(resources)
            .await
            .unwrap()
            .into_inner();
        let mut among_resources = false;
        while let Some(row) = stream.message().await.unwrap() {
            among_resources |= row.resource == "app:shop";
        }
        let subjects = ListSubjectsRequest {
            resource: "app:shop".to_owned(),
            permission: "deploy".to_owned(),
            subject_type: "user".to_owned(),
            ..ListSubjectsRequest::default()
        };
        let mut stream = self
            .checks
            .list_subjects(subjects)
            .await
            .unwrap()
            .into_inner();
        let mut among_subjects = false;
        while let Some(row) = stream.message().await.unwrap() {
            among_subjects |= row.subject == subject;
        }
        let permissions = ListPermissionsRequest {
            subject: subject.to_owned(),
            resource: "app:shop".to_owned(),
            ..ListPermissionsRequest::default()
        };
        let entries = self.checks.list_permissions(permissions).await.unwrap();
        let among_permissions = entries.into_inner().entries.into_iter().any(|entry| {
            let allowed = matches!(entry.outcome, Some(Entry::Response(response))
                if response.decision() == Decision::Allowed);
            entry.permission == "deploy" && allowed
        });
        [among_resources, among_subjects, among_permissions]
    }
}
