//! What a sidecar answers by itself, and what it leaves to the server.

use std::time::Duration;

use portcullis::api::proto;
use proto::check_service_client::CheckServiceClient;
use proto::consistency::Requirement;
use tonic::Code;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response as answer};

use crate::{Beside, PATIENCE, Server, grant, question, reason};

/// A server and a sidecar with a lease.
async fn pair() -> (Server, Beside) {
    let server = Server::with_schema(30_000).await;
    let beside = Beside::leased(&server.uri).await;
    (server, beside)
}

fn at(request: proto::CheckRequest, requirement: Requirement) -> proto::CheckRequest {
    proto::CheckRequest {
        consistency: Some(proto::Consistency {
            requirement: Some(requirement),
        }),
        ..request
    }
}

#[tokio::test]
async fn allows_and_denials_are_kept_until_they_change() {
    let (server, beside) = pair().await;
    let granted = server.grant("doc:1#viewer@user:a").await;
    beside.until_applied(&granted.revision).await;
    let ask = async |user: &str| {
        let before = beside.counters.hits.get();
        let said = beside.check(question(user, "doc:1")).await.unwrap();
        (
            said.decision().as_str_name(),
            beside.counters.hits.get() > before,
        )
    };
    let (allowed, denied) = ("DECISION_ALLOWED", "DECISION_DENIED");
    assert_eq!(ask("user:a").await, (allowed, false));
    assert_eq!(ask("user:a").await, (allowed, true));
    assert_eq!(ask("user:b").await, (denied, false));
    assert_eq!(ask("user:b").await, (denied, true));
    // Both change, and are known to once the write has waited for this cache.
    let granted = grant(&server.channel, "doc:1#viewer@user:b", Some(PATIENCE)).await;
    assert!(granted.propagation.unwrap().complete);
    let revoked = server.revoke("doc:1#viewer@user:a", Some(PATIENCE)).await;
    assert!(revoked.propagation.unwrap().complete);
    assert_eq!(ask("user:b").await, (allowed, false));
    assert_eq!(ask("user:a").await, (denied, false));
    assert_eq!(ask("user:b").await, (allowed, true));
    assert_eq!(ask("user:a").await, (denied, true));
}

#[tokio::test]
async fn what_a_hit_says_is_what_the_server_says() {
    let (server, beside) = pair().await;
    let granted = server.grant("doc:1#viewer@user:a[at_work]").await;
    server
        .grant("doc:2#viewer@user:a[expiration:2100-01-01T00:00:00Z]")
        .await;
    let granted = server
        .grant("doc:3#viewer@user:b")
        .await
        .revision
        .max(granted.revision);
    beside.until_applied(&granted).await;
    for resource in ["doc:1", "doc:2", "doc:3", "doc:4"] {
        for with_dependencies in [false, true] {
            let request = proto::CheckRequest {
                with_dependencies,
                ..question("user:a", resource)
            };
            let direct = crate::check(&server.channel, request.clone())
                .await
                .unwrap();
            let first = beside.check(request.clone()).await.unwrap();
            let before = beside.counters.hits.get();
            let hit = beside.check(request).await.unwrap();
            assert_eq!(beside.counters.hits.get(), before + 1, "{resource}");
            for said in [first, hit] {
                let left = said.valid_for.map(|span| span.seconds);
                let right = direct.valid_for.map(|span| span.seconds);
                assert_eq!(left.is_some(), right.is_some(), "{resource}");
                let said = proto::CheckResponse {
                    valid_for: direct.valid_for,
                    ..said
                };
                assert_eq!(said, direct, "{resource}");
            }
        }
    }
}

#[tokio::test]
async fn context_is_part_of_the_question() {
    let (server, beside) = pair().await;
    let granted = server.grant("doc:1#viewer@user:a[at_work]").await;
    beside.until_applied(&granted.revision).await;
    let ask = async |hour: Option<i32>| {
        let mut context = prost_types::Struct::default();
        if let Some(hour) = hour {
            context
                .fields
                .insert("hour".to_owned(), f64::from(hour).into());
        }
        let request = proto::CheckRequest {
            context: hour.map(|_| context),
            ..question("user:a", "doc:1")
        };
        beside.check(request).await.unwrap().decision()
    };
    for _ in 0..2 {
        assert_eq!(ask(None).await, proto::Decision::Conditional);
        assert_eq!(ask(Some(9)).await, proto::Decision::Allowed);
        assert_eq!(ask(Some(7)).await, proto::Decision::Denied);
    }
    assert!(beside.counters.hits.get() >= 3);
}

#[tokio::test]
async fn contextual_tuples_one_revision_and_the_confirmed_newest_go_to_the_server() {
    let (server, beside) = pair().await;
    let before = server.grant("doc:1#viewer@user:a").await.revision;
    let after = server.revoke("doc:1#viewer@user:a", None).await.revision;
    beside.until_applied(&after).await;
    let plain = question("user:a", "doc:1");
    for _ in 0..2 {
        let said = beside.check(plain.clone()).await.unwrap();
        assert_eq!(said.decision(), proto::Decision::Denied);
    }
    let contextual = proto::CheckRequest {
        contextual_tuples: vec![crate::wire("doc:1#viewer@user:a")],
        ..plain.clone()
    };
    let cases = [
        (contextual, proto::Decision::Allowed),
        (
            at(plain.clone(), Requirement::Exactly(before)),
            proto::Decision::Allowed,
        ),
        (
            at(plain.clone(), Requirement::Full(true)),
            proto::Decision::Denied,
        ),
    ];
    let hits = beside.counters.hits.get();
    for (request, expected) in cases {
        let said = beside.check(request.clone()).await.unwrap();
        assert_eq!(said.decision(), expected, "{request:?}");
    }
    assert_eq!(beside.counters.hits.get(), hits);
    assert_eq!(beside.counters.bypassed.get(), 3);
}

#[tokio::test]
async fn a_write_is_seen_by_who_names_its_revision() {
    let (server, beside) = pair().await;
    for turn in 0..50 {
        let tuple = "doc:1#viewer@user:a";
        let (revision, expected) = match turn % 2 {
            0 => (server.grant(tuple).await.revision, proto::Decision::Allowed),
            _ => (
                server.revoke(tuple, None).await.revision,
                proto::Decision::Denied,
            ),
        };
        let request = at(question("user:a", "doc:1"), Requirement::AtLeast(revision));
        let said = beside.check(request.clone()).await.unwrap();
        assert_eq!(said.decision(), expected, "{turn}");
        let again = beside.check(request).await.unwrap();
        assert_eq!(again.decision(), expected, "{turn}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_revision_the_server_says() {
    let (_server, beside) = pair().await;
    let cases = [
        ("nonsense", Code::InvalidArgument, "MALFORMED_REVISION"),
        ("1@abcdef", Code::FailedPrecondition, "EPOCH_MISMATCH"),
    ];
    for (revision, code, name) in cases {
        let request = at(
            question("user:a", "doc:1"),
            Requirement::AtLeast(revision.to_owned()),
        );
        let status = beside.check(request).await.unwrap_err();
        assert_eq!(reason(&status), (code, name.to_owned()), "{revision}");
    }
}

#[tokio::test]
async fn errors_are_never_kept() {
    let (server, beside) = pair().await;
    let request = proto::CheckRequest {
        permission: "read".to_owned(),
        ..question("user:a", "doc:1")
    };
    for _ in 0..2 {
        let status = beside.check(request.clone()).await.unwrap_err();
        assert_eq!(reason(&status).1, "UNKNOWN_PERMISSION");
    }
    let schema = crate::SCHEMA.replace(
        "permission view",
        "permission read = viewer\n permission view",
    );
    server.write_schema(&schema).await;
    let said = beside.check(request).await.unwrap();
    assert_eq!(said.decision(), proto::Decision::Denied);
}

#[tokio::test]
async fn a_new_schema_ends_all_answers() {
    let (server, beside) = pair().await;
    let granted = server.grant("doc:1#viewer@user:a").await;
    beside.until_applied(&granted.revision).await;
    for _ in 0..2 {
        beside.check(question("user:a", "doc:1")).await.unwrap();
    }
    assert!(beside.counters.hits.get() > 0);
    let schema = crate::SCHEMA.replace("view = viewer", "view = nil");
    server.write_schema(&schema).await;
    let revision = server.engine.status().token.to_string();
    beside.until_applied(&revision).await;
    let said = beside.check(question("user:a", "doc:1")).await.unwrap();
    assert_eq!(said.decision(), proto::Decision::Denied);
}

#[tokio::test]
async fn batches_are_answered_at_one_revision() {
    let (server, beside) = pair().await;
    let granted = server.grant("doc:1#viewer@user:a").await;
    beside.until_applied(&granted.revision).await;
    let item = |user: &str, permission: &str| proto::batch_check_request::Item {
        subject: user.to_owned(),
        permission: permission.to_owned(),
        resource: "doc:1".to_owned(),
        context: None,
    };
    let batch = |permission: &str, with_dependencies| proto::BatchCheckRequest {
        items: vec![item("user:a", "view"), item("user:b", permission)],
        with_dependencies,
        ..proto::BatchCheckRequest::default()
    };
    let mut there = CheckServiceClient::new(server.channel.clone());
    let mut here = CheckServiceClient::new(beside.channel.clone());
    for with_dependencies in [false, true] {
        let request = batch("view", with_dependencies);
        let direct = there
            .batch_check(request.clone())
            .await
            .unwrap()
            .into_inner();
        for _ in 0..2 {
            let said = here
                .batch_check(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert_eq!(said, direct);
        }
    }
    assert_eq!(
        (
            beside.counters.batch_misses.get(),
            beside.counters.batch_hits.get()
        ),
        (1, 3)
    );
    // One that is asked for alone is the same question.
    let hits = beside.counters.hits.get();
    beside.check(question("user:b", "doc:1")).await.unwrap();
    assert_eq!(beside.counters.hits.get(), hits + 1);
    // An item that fails is not kept, and the batch with it goes to the server each time.
    for _ in 0..2 {
        let said = here.batch_check(batch("nonsense", false)).await.unwrap();
        let direct = there.batch_check(batch("nonsense", false)).await.unwrap();
        assert_eq!(said.into_inner(), direct.into_inner());
    }
    assert_eq!(beside.counters.batch_hits.get(), 3);
    let revoked = server.revoke("doc:1#viewer@user:a", Some(PATIENCE)).await;
    let said = here
        .batch_check(batch("view", false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(said.revision, revoked.revision);
}

#[tokio::test]
async fn writes_streams_and_reflection_pass_through() {
    let (server, beside) = pair().await;
    let granted = grant(&beside.channel, "doc:1#viewer@user:a", Some(PATIENCE)).await;
    assert!(granted.propagation.unwrap().complete);
    let mut grants = proto::grant_service_client::GrantServiceClient::new(beside.channel.clone());
    let rows = grants
        .read_tuples(proto::ReadTuplesRequest::default())
        .await;
    let row = rows.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(row.tuple.unwrap().subject, "user:a");
    assert_eq!(row.revision, server.engine.status().token.to_string());
    let mut reflection = ServerReflectionClient::new(beside.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let listed = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let answer::MessageResponse::ListServicesResponse(list) = listed.message_response.unwrap()
    else {
        panic!("no list");
    };
    let mut names = list.service.iter().map(|service| service.name.as_str());
    assert!(names.any(|name| name == "portcullis.v1.CheckService"));
}

#[tokio::test]
async fn a_sidecar_behind_a_sidecar() {
    let (server, beside) = pair().await;
    let outer = Beside::leased(&format!("unix:{}", beside.socket.display())).await;
    let granted = server.grant("doc:1#viewer@user:a").await;
    outer.until_applied(&granted.revision).await;
    for _ in 0..2 {
        let said = outer.check(question("user:a", "doc:1")).await.unwrap();
        assert_eq!(said.decision(), proto::Decision::Allowed);
    }
    let revoked = server.revoke("doc:1#viewer@user:a", Some(PATIENCE)).await;
    assert!(revoked.propagation.unwrap().complete);
    let said = outer.check(question("user:a", "doc:1")).await.unwrap();
    assert_eq!(said.decision(), proto::Decision::Denied);
}

#[tokio::test]
async fn a_sidecar_ends_when_it_is_told_to() {
    let (_server, beside) = pair().await;
    let socket = beside.socket.clone();
    beside.check(question("user:a", "doc:1")).await.unwrap();
    let channel = beside.channel.clone();
    drop(beside);
    crate::eventually(async || (!socket.exists()).then_some(())).await;
    drop(channel);
}

#[tokio::test]
async fn scans_do_not_flush_what_is_asked_often_and_memory_is_bounded() {
    let (server, _) = pair().await;
    let mut options = crate::options(&server.uri);
    options.size.bytes = 2 << 20;
    options.size.slots = 1 << 10;
    let beside = Beside::with(options).await;
    beside.until_leased().await;
    let mut client = CheckServiceClient::new(beside.channel.clone());
    let hot: Vec<_> = (0..50)
        .map(|id| question(&format!("user:{id}"), "doc:hot"))
        .collect();
    for turn in 0..20 {
        for request in &hot {
            client.check(request.clone()).await.unwrap();
        }
        // Ten times what fits, once each.
        let items = (0..1_000).map(|id| proto::batch_check_request::Item {
            subject: format!("user:scan-{turn}-{id}-{}", "x".repeat(500)),
            permission: "view".to_owned(),
            resource: "doc:1".to_owned(),
            context: None,
        });
        let request = proto::BatchCheckRequest {
            items: items.collect(),
            ..proto::BatchCheckRequest::default()
        };
        client.batch_check(request).await.unwrap();
    }
    let before = beside.counters.hits.get();
    for request in &hot {
        client.check(request.clone()).await.unwrap();
    }
    let hits = beside.counters.hits.get() - before;
    assert!(hits >= 45, "{hits} of 50");
}

#[tokio::test]
async fn answers_go_on_without_the_server_while_the_lease_runs_and_no_longer() {
    let server = Server::with_schema(1_500).await;
    let beside = Beside::leased(&server.uri).await;
    let granted = server.grant("doc:1#viewer@user:a").await;
    beside.until_applied(&granted.revision).await;
    beside.check(question("user:a", "doc:1")).await.unwrap();
    let uri = server.uri.clone();
    drop(server);
    let refused = crate::eventually(async || {
        let said = beside.check(question("user:a", "doc:1")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        said.err()
    })
    .await;
    assert_eq!(
        reason(&refused),
        (Code::Unavailable, "UPSTREAM_UNREACHABLE".to_owned())
    );
    assert!(refused.message().contains(&uri), "{refused:?}");
}
