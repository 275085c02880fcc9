//! What goes through, what is shared, and what is never kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis::api::proto;
use tonic::{Code, Status};

use crate::fake::{Fake, call};
use crate::{Beside, eventually, question, reason};

#[tokio::test]
async fn unknown_methods_pass_with_metadata_and_deadline() {
    let fake = Fake::new().await;
    let beside = Beside::new(&fake.uri).await;
    let metadata = [("authorization", "Bearer x"), ("x-trace", "7")];
    let message = question("user:a", "doc:1");
    let answer = call(&beside.channel, "/a.New/Method", &metadata, message.clone()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.metadata().get("x-path").unwrap(), "/a.New/Method");
    let back = answer.into_inner().message().await.unwrap();
    assert_eq!(back, Some(message));
    let headers = fake.seen.headers.lock().unwrap().pop().unwrap();
    assert_eq!(headers["authorization"], "Bearer x");
    assert_eq!(headers["x-trace"], "7");
    assert!(headers.contains_key("grpc-timeout"));
    assert_eq!(beside.counters.passed.get(), 1);
}

#[tokio::test]
async fn questions_that_miss_carry_metadata_and_deadline() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    fake.seen.gate.add_permits(1);
    let mut request = tonic::Request::new(question("user:a", "doc:1"));
    request
        .metadata_mut()
        .insert("x-trace", "7".parse().unwrap());
    request.set_timeout(Duration::from_secs(20));
    let mut client = proto::check_service_client::CheckServiceClient::new(beside.channel.clone());
    client.check(request).await.unwrap();
    let headers = fake.seen.headers.lock().unwrap().pop().unwrap();
    assert_eq!(headers["x-trace"], "7");
    assert!(headers.contains_key("grpc-timeout"));
}

/// Asks many times at once, and waits until all but the first have joined.
async fn crowd(
    beside: &Beside,
    fake: &Fake,
    count: u64,
) -> Vec<tokio::task::JoinHandle<Result<proto::CheckResponse, Status>>> {
    let ask = |_| {
        let channel = beside.channel.clone();
        tokio::spawn(async move { crate::check(&channel, question("user:a", "doc:1")).await })
    };
    let asked: Vec<_> = (0..count).map(ask).collect();
    eventually(async || {
        let all = beside.counters.joined.get() + 1 == count;
        (all && fake.seen.checks.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    asked
}

#[tokio::test]
async fn equal_questions_at_once_are_one_call() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    let asked = crowd(&beside, &fake, 50).await;
    fake.seen.gate.add_permits(1);
    for one in asked {
        let said = one.await.unwrap().unwrap();
        assert_eq!(said.decision(), proto::Decision::Allowed);
        assert!(said.dependencies.is_empty(), "nobody asked for the keys");
    }
    assert_eq!(fake.seen.checks.load(Ordering::SeqCst), 1);
    beside.check(question("user:a", "doc:1")).await.unwrap();
    assert_eq!(fake.seen.checks.load(Ordering::SeqCst), 1);
    assert_eq!(beside.counters.hits.get(), 1);
}

#[tokio::test]
async fn whoever_waits_for_a_call_from_before_a_commit_asks_again() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    let asked = crowd(&beside, &fake, 10).await;
    // The call was answered from revision 5, and the change of its key arrives before the answer.
    fake.commit(1);
    eventually(async || (beside.counters.commits.get() == 1).then_some(())).await;
    fake.seen.gate.add_permits(1);
    eventually(async || (fake.seen.checks.load(Ordering::SeqCst) == 2).then_some(())).await;
    let denied = proto::CheckResponse {
        decision: proto::Decision::Denied.into(),
        revision: format!("6@{}", crate::fake::EPOCH),
        dependencies: vec![1],
        ..proto::CheckResponse::default()
    };
    *fake.seen.answer.lock().unwrap() = Ok(denied);
    fake.seen.gate.add_permits(1);
    for one in asked {
        let said = one.await.unwrap().unwrap();
        assert_eq!(said.decision(), proto::Decision::Denied);
    }
    assert_eq!(fake.seen.checks.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_stays_behind_is_asked_twice_again_and_then_alone() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    fake.commit(1);
    eventually(async || (beside.counters.commits.get() == 1).then_some(())).await;
    fake.seen.gate.add_permits(10);
    let said = beside.check(question("user:a", "doc:1")).await.unwrap();
    // What is asked alone is the caller's own: it is the server that is behind.
    assert_eq!(said.revision, format!("5@{}", crate::fake::EPOCH));
    assert_eq!(fake.seen.checks.load(Ordering::SeqCst), 4);
    assert_eq!(beside.counters.asked_again.get(), 2);
}

#[tokio::test]
async fn an_error_is_the_askers_alone_and_never_kept() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    let good = fake.seen.answer.lock().unwrap().clone();
    *fake.seen.answer.lock().unwrap() = Err(Status::invalid_argument("no such permission"));
    let asked = crowd(&beside, &fake, 3).await;
    fake.seen.gate.add_permits(1);
    eventually(async || (fake.seen.checks.load(Ordering::SeqCst) == 3).then_some(())).await;
    *fake.seen.answer.lock().unwrap() = good;
    fake.seen.gate.add_permits(10);
    let mut codes = Vec::new();
    for one in asked {
        codes.push(one.await.unwrap().map_err(|status| status.code()).err());
    }
    codes.sort_by_key(Option::is_some);
    assert_eq!(codes, [None, None, Some(Code::InvalidArgument)]);
}

#[tokio::test]
async fn what_can_not_be_shared_is_not() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    *fake.seen.answer.lock().unwrap() = Ok(proto::CheckResponse {
        decision: proto::Decision::Allowed.into(),
        revision: format!("5@{}", crate::fake::EPOCH),
        uncacheable: true,
        ..proto::CheckResponse::default()
    });
    let asked = crowd(&beside, &fake, 5).await;
    fake.seen.gate.add_permits(100);
    for one in asked {
        one.await.unwrap().unwrap();
    }
    assert_eq!(fake.seen.checks.load(Ordering::SeqCst), 5);
    beside.check(question("user:a", "doc:1")).await.unwrap();
    assert_eq!(beside.counters.hits.get(), 0);
}

#[tokio::test]
async fn a_callers_deadline_is_its_own() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    let mut request = tonic::Request::new(question("user:a", "doc:1"));
    request.set_timeout(Duration::from_millis(200));
    let mut client = proto::check_service_client::CheckServiceClient::new(beside.channel.clone());
    let status = client.check(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
}

#[tokio::test]
async fn callers_who_say_who_they_are_do_not_share() {
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    fake.seen.gate.add_permits(100);
    for (who, calls) in [("a", 1), ("a", 1), ("b", 2), ("", 3)] {
        let mut request = tonic::Request::new(question("user:a", "doc:1"));
        if !who.is_empty() {
            request
                .metadata_mut()
                .insert("authorization", who.parse().unwrap());
        }
        let mut client =
            proto::check_service_client::CheckServiceClient::new(beside.channel.clone());
        client.check(request).await.unwrap();
        assert_eq!(fake.seen.checks.load(Ordering::SeqCst), calls, "{who}");
    }
}

#[tokio::test]
async fn without_a_server_nothing_is_guessed() {
    let beside = Beside::new("http://127.0.0.1:1").await;
    let status = beside.check(question("user:a", "doc:1")).await.unwrap_err();
    let unreachable = (Code::Unavailable, "UPSTREAM_UNREACHABLE".to_owned());
    assert_eq!(reason(&status), unreachable);
    assert!(
        status.message().contains("http://127.0.0.1:1"),
        "{status:?}"
    );
    let tuple = proto::GrantRequest::default();
    let mut grants = proto::grant_service_client::GrantServiceClient::new(beside.channel.clone());
    assert_eq!(reason(&grants.grant(tuple).await.unwrap_err()), unreachable);
}

#[tokio::test]
async fn health_says_whether_it_can_answer_or_pass_on() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let status = async |beside: &Beside, service: &str| {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut client = HealthClient::new(beside.channel.clone());
        client.check(request).await.unwrap().into_inner().status()
    };
    let lonely = Beside::new("http://127.0.0.1:1").await;
    eventually(async || (status(&lonely, "").await == ServingStatus::NotServing).then_some(()))
        .await;
    let fake = Fake::new().await;
    let beside = Beside::leased(&fake.uri).await;
    for service in ["", "portcullis.v1.CheckService"] {
        eventually(async || {
            (status(&beside, service).await == ServingStatus::Serving).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_hit_that_differs_from_the_servers_answer_is_counted() {
    let fake = Fake::new().await;
    let mut options = crate::options(&fake.uri);
    options.verify_one_in = 1;
    let beside = Beside::with(options).await;
    beside.until_leased().await;
    fake.seen.gate.add_permits(100);
    beside.check(question("user:a", "doc:1")).await.unwrap();
    beside.check(question("user:a", "doc:1")).await.unwrap();
    eventually(async || (beside.counters.verified.get() == 1).then_some(())).await;
    assert_eq!(beside.counters.differences.get(), 0);
    if let Ok(answer) = &mut *fake.seen.answer.lock().unwrap() {
        answer.decision = proto::Decision::Denied.into();
    }
    beside.check(question("user:a", "doc:1")).await.unwrap();
    eventually(async || (beside.counters.differences.get() == 1).then_some(())).await;
}

#[tokio::test]
async fn hits_in_batches_are_asked_again_too() {
    let fake = Fake::new().await;
    let mut options = crate::options(&fake.uri);
    options.verify_one_in = 2;
    let beside = Beside::with(options).await;
    beside.until_leased().await;
    fake.seen.gate.add_permits(100);
    let users = ["user:a", "user:b", "user:c"];
    for user in users {
        beside.check(question(user, "doc:1")).await.unwrap();
    }
    if let Ok(answer) = &mut *fake.seen.answer.lock().unwrap() {
        answer.decision = proto::Decision::Denied.into();
    }
    let batch = crate::law::batch_of(&users.map(|user| question(user, "doc:1")));
    let mut client = proto::check_service_client::CheckServiceClient::new(beside.channel.clone());
    for _ in 0..2 {
        client.batch_check(batch.clone()).await.unwrap();
    }
    assert_eq!(beside.counters.batched_hits.get(), 6);
    eventually(async || (beside.counters.differences.get() == 3).then_some(())).await;
    assert_eq!(beside.counters.hits.get(), 0);
}

#[tokio::test]
async fn a_question_that_is_too_large_says_which_limit() {
    let fake = Fake::new().await;
    let mut options = crate::options(&fake.uri);
    options.max_message_bytes = 1_000;
    let beside = Beside::with(options).await;
    let request = question(&format!("user:{}", "a".repeat(2_000)), "doc:1");
    let status = beside.check(request).await.unwrap_err();
    assert_eq!(
        reason(&status),
        (Code::ResourceExhausted, "TOO_LARGE".to_owned())
    );
    assert!(status.message().contains("--max-message"), "{status:?}");
}
