//! The services over the wire: what they answer, and how they refuse.

use std::time::Duration;

use portcullis::api::proto::batch_check_response::result::Outcome;
use portcullis::api::proto::check_service_client::CheckServiceClient;
use portcullis::api::proto::consistency::Requirement;
use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::schema_service_client::SchemaServiceClient;
use portcullis::api::proto::update::Operation;
use portcullis::api::proto::*;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{Served, reason_of};

const SCHEMA: &str = "
/** Someone. */
definition user {}

definition environment {
    /** May look in. @group Access @sensitive */
    relation guest: user
    relation banned: user
    permission deploy = guest - banned
}
";

struct Clients {
    checks: CheckServiceClient<Channel>,
    grants: GrantServiceClient<Channel>,
    schemas: SchemaServiceClient<Channel>,
    _served: Served,
}

/// A server that has the schema above.
async fn prepared() -> Clients {
    let served = Served::new().await;
    let channel = served.connect().await;
    let mut clients = Clients {
        checks: CheckServiceClient::new(channel.clone()),
        grants: GrantServiceClient::new(channel.clone()),
        schemas: SchemaServiceClient::new(channel),
        _served: served,
    };
    let written = clients.write_schema(SCHEMA, "").await.unwrap();
    assert!(!written.changes.is_empty());
    clients
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

fn question(text: &str) -> CheckRequest {
    let mut words = text.split(' ').map(str::to_owned);
    CheckRequest {
        subject: words.next().unwrap(),
        permission: words.next().unwrap(),
        resource: words.next().unwrap(),
        ..CheckRequest::default()
    }
}

impl Clients {
    async fn write_schema(&mut self, text: &str, at: &str) -> Result<WriteSchemaResponse, Status> {
        let request = WriteSchemaRequest {
            schema: text.to_owned(),
            options: None,
            if_revision: at.to_owned(),
        };
        let response = self.schemas.write_schema(request).await;
        response.map(tonic::Response::into_inner)
    }

    async fn grant(&mut self, tuples: &[&str]) -> Result<GrantResponse, Status> {
        let request = GrantRequest {
            tuples: tuples.iter().map(|text| tuple(text)).collect(),
            options: None,
        };
        let response = self.grants.grant(request).await;
        response.map(tonic::Response::into_inner)
    }

    async fn check(&mut self, text: &str) -> Result<CheckResponse, Status> {
        let response = self.checks.check(question(text)).await;
        response.map(tonic::Response::into_inner)
    }

    async fn write(&mut self, updates: &[(Operation, &str)]) -> Result<WriteResponse, Status> {
        let update = |(operation, text): &(Operation, &str)| Update {
            operation: (*operation).into(),
            tuple: Some(tuple(text)),
        };
        let request = WriteRequest {
            updates: updates.iter().map(update).collect(),
            ..WriteRequest::default()
        };
        let response = self.grants.write(request).await;
        response.map(tonic::Response::into_inner)
    }

    async fn read(
        &mut self,
        filter: TupleFilter,
        limit: u32,
        cursor: &str,
    ) -> Vec<ReadTuplesResponse> {
        let request = ReadTuplesRequest {
            filter: Some(filter),
            limit,
            cursor: cursor.to_owned(),
            ..ReadTuplesRequest::default()
        };
        let mut rows = self.grants.read_tuples(request).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(row) = rows.message().await.unwrap() {
            all.push(row);
        }
        all
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, reason: &str, field: Option<&str>) {
    let seen = reason_of(&result.unwrap_err());
    assert_eq!((seen.0.as_str(), seen.1.as_deref()), (reason, field));
}

#[tokio::test]
async fn a_grant_is_seen_by_the_next_check() {
    let mut clients = prepared().await;
    let granted = clients
        .grant(&["environment:prod#guest@user:bob"])
        .await
        .unwrap();
    let answer = clients
        .check("user:bob deploy environment:prod")
        .await
        .unwrap();
    assert_eq!((granted.granted, answer.decision()), (1, Decision::Allowed));
    assert_eq!(answer.revision, granted.revision);
    let answer = clients
        .check("user:eve deploy environment:prod")
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Denied);
    assert_eq!(answer.denial_reason(), DenialReason::NoGrant);
    assert!(!answer.detail.is_empty());
}

#[tokio::test]
async fn questions_that_can_not_be_answered() {
    let mut clients = prepared().await;
    let cases = [
        ("usr:bob deploy environment:prod", "UNKNOWN_TYPE", "subject"),
        (
            "user:bob deploy enviroment:prod",
            "UNKNOWN_TYPE",
            "resource",
        ),
        (
            "user:bob deplo environment:prod",
            "UNKNOWN_PERMISSION",
            "permission",
        ),
        (
            "user:bob#x deploy environment:prod",
            "UNKNOWN_RELATION",
            "subject",
        ),
        (
            "bob deploy environment:prod",
            "MALFORMED_REFERENCE",
            "subject",
        ),
    ];
    for (text, reason, field) in cases {
        refused(clients.check(text).await, reason, Some(field));
    }
    let near = clients
        .check("user:bob deplo environment:prod")
        .await
        .unwrap_err();
    let details = near.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["nearest"], "deploy");
}

#[tokio::test]
async fn an_item_of_a_batch_fails_alone() {
    let mut clients = prepared().await;
    let granted = clients
        .grant(&["environment:prod#guest@user:bob"])
        .await
        .unwrap();
    let cases = [
        ("user:bob deploy environment:prod", Ok(Decision::Allowed)),
        ("bob deploy environment:prod", Err("MALFORMED_REFERENCE")),
        ("user:bob fly environment:prod", Err("UNKNOWN_PERMISSION")),
        ("user:eve deploy environment:prod", Ok(Decision::Denied)),
    ];
    let item = |text: &str| {
        let CheckRequest {
            subject,
            permission,
            resource,
            ..
        } = question(text);
        batch_check_request::Item {
            subject,
            permission,
            resource,
            context: None,
        }
    };
    // More than are looked up at once, malformed ones at either end of what is.
    let cases: Vec<_> = cases.iter().cycle().skip(1).take(50).copied().collect();
    let request = BatchCheckRequest {
        items: cases.iter().map(|(text, _)| item(text)).collect(),
        ..BatchCheckRequest::default()
    };
    let answer = clients
        .checks
        .batch_check(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.revision, granted.revision);
    assert_eq!(answer.results.len(), cases.len());
    for (result, (text, expected)) in answer.results.into_iter().zip(cases) {
        let seen = match result.outcome.unwrap() {
            Outcome::Response(response) => Ok(response.decision()),
            Outcome::Error(error) => Err(error.reason),
        };
        assert_eq!(seen, expected.map_err(str::to_owned), "{text}");
    }
}

#[tokio::test]
async fn writes_that_are_refused_change_nothing() {
    use Operation::{Create, Delete, Grant};
    let mut clients = prepared().await;
    let stands = "environment:prod#guest@user:bob";
    let other = "environment:prod#guest@user:eve";
    let before = clients.grant(&[stands]).await.unwrap().revision;
    let cases = [
        (
            vec![(Grant, other), (Create, stands)],
            "TUPLE_EXISTS",
            "updates[1]",
        ),
        (
            vec![(Grant, stands), (Delete, other)],
            "TUPLE_NOT_FOUND",
            "updates[1]",
        ),
        (
            vec![(Grant, other), (Grant, other)],
            "DUPLICATE_UPDATE",
            "updates[1]",
        ),
        (vec![], "MALFORMED_REQUEST", "updates"),
        (
            vec![(Grant, "environment:prod#gest@user:bob")],
            "UNKNOWN_RELATION",
            "updates[0].tuple.relation",
        ),
        (
            vec![(Grant, "environment:prod#guest@environment:a")],
            "SUBJECT_NOT_ALLOWED",
            "updates[0].tuple.subject",
        ),
    ];
    for (updates, reason, field) in cases {
        refused(clients.write(&updates).await, reason, Some(field));
    }
    let granted = clients.grant(&["environment:prod#guest@usr:bob"]).await;
    refused(granted, "UNKNOWN_TYPE", Some("tuples[0].subject"));
    let answer = clients
        .check("user:eve deploy environment:prod")
        .await
        .unwrap();
    assert_eq!(
        (answer.decision(), answer.revision),
        (Decision::Denied, before)
    );
}

#[tokio::test]
async fn tuples_are_read_page_by_page_and_revoked_by_filter() {
    let mut clients = prepared().await;
    let texts = ["a", "b", "c"].map(|id| format!("environment:{id}#guest@user:bob"));
    let texts = texts.each_ref().map(String::as_str);
    clients.grant(&texts).await.unwrap();
    let bob = || TupleFilter {
        subject: "user:bob".to_owned(),
        ..TupleFilter::default()
    };
    let first = clients.read(bob(), 2, "").await;
    let rest = clients.read(bob(), 2, &first[1].cursor).await;
    let both = first.iter().chain(&rest);
    let mut seen: Vec<_> = both
        .map(|row| row.tuple.clone().unwrap().resource)
        .collect();
    seen.sort();
    assert_eq!(seen, ["environment:a", "environment:b", "environment:c"]);
    let request = |limit| RevokeRequest {
        filter: Some(bob()),
        limit,
        ..RevokeRequest::default()
    };
    refused(
        clients.grants.revoke(request(2)).await,
        "LIMIT_EXCEEDED",
        Some("limit"),
    );
    let revoked = clients
        .grants
        .revoke(request(3))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(revoked.revoked, 3);
    assert!(clients.read(TupleFilter::default(), 0, "").await.is_empty());
}

#[tokio::test]
async fn schemas_are_described_and_refused_with_their_place() {
    let mut clients = prepared().await;
    let request = ReadSchemaRequest::default();
    let read = clients
        .schemas
        .read_schema(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read.schema, SCHEMA);
    let environment = &read.definitions[1];
    assert_eq!(environment.relations, ["guest", "banned"]);
    assert_eq!(environment.permissions, ["deploy"]);
    assert_eq!(read.definitions[0].documentation.trim(), "Someone.");
    let guest = &environment.details[0];
    assert_eq!(
        (guest.permission.as_str(), guest.group.as_str()),
        ("environment.guest", "Access")
    );
    assert!(guest.sensitive);

    let invalid = "definition user {}\ndefinition a {\n  relation b: usr\n}\n";
    let status = clients.write_schema(invalid, "").await.unwrap_err();
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "SCHEMA_INVALID");
    assert_eq!(
        (&*info.metadata["line"], &*info.metadata["column"]),
        ("3", "15")
    );
    assert!(
        status.message().contains("relation b: usr"),
        "{}",
        status.message()
    );

    clients
        .grant(&["environment:prod#guest@user:bob"])
        .await
        .unwrap();
    let orphans = clients.write_schema("definition user {}", "").await;
    refused(orphans, "SCHEMA_WOULD_ORPHAN", None);
    let stale = read.schema_revision.replacen('1', "0", 1);
    let other = format!("{SCHEMA}definition other {{}}\n");
    let stale = clients.write_schema(&other, &stale).await;
    refused(stale, "SCHEMA_CHANGED", Some("if_revision"));
}

#[tokio::test]
async fn revisions_are_waited_for_no_longer_than_the_deadline() {
    let mut clients = prepared().await;
    let newest = clients
        .grant(&["environment:prod#guest@user:bob"])
        .await
        .unwrap();
    let (_, epoch) = newest.revision.split_once('@').unwrap();
    let cases = [
        (
            Requirement::AtLeast(format!("99@{epoch}")),
            "REVISION_AHEAD",
        ),
        (Requirement::Exactly("1@1".to_owned()), "EPOCH_MISMATCH"),
    ];
    for (requirement, reason) in cases {
        let consistency = Consistency {
            requirement: Some(requirement),
        };
        let question = CheckRequest {
            consistency: Some(consistency),
            ..question("user:bob deploy environment:prod")
        };
        // The server answers just before the deadline; on a busy machine the client may have given
        // up by itself, which says nothing of the server.
        let mut answer = Err(Status::cancelled("not asked yet"));
        for _ in 0..20 {
            let mut request = Request::new(question.clone());
            request.set_timeout(Duration::from_millis(500));
            answer = clients.checks.check(request).await;
            let gave_up = |status: &Status| status.code() == Code::Cancelled;
            if !answer.as_ref().is_err_and(gave_up) {
                break;
            }
        }
        refused(answer, reason, None);
    }
}

#[tokio::test]
async fn permissions_are_listed_sorted_and_at_one_revision() {
    let mut clients = prepared().await;
    let granted = clients.grant(&["environment:prod#guest@user:ann"]).await;
    let request = |subject: &str, resource: &str| ListPermissionsRequest {
        subject: subject.to_owned(),
        resource: resource.to_owned(),
        ..ListPermissionsRequest::default()
    };
    let listed = clients
        .checks
        .list_permissions(request("user:ann", "environment:prod"))
        .await
        .unwrap()
        .into_inner();
    let entries: Vec<_> = (listed.entries.iter())
        .map(|entry| match &entry.outcome {
            Some(list_permissions_response::entry::Outcome::Response(answer)) => {
                assert_eq!(answer.revision, "", "it is the list's");
                (entry.permission.as_str(), answer.decision())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [
        ("banned", Decision::Denied),
        ("deploy", Decision::Allowed),
        ("guest", Decision::Allowed),
    ];
    assert_eq!(entries, want);
    assert_eq!(listed.revision, granted.unwrap().revision);
    let refused = clients
        .checks
        .list_permissions(request("user:ann", "env:prod"));
    let refused = reason_of(&refused.await.unwrap_err());
    assert_eq!(
        refused,
        ("UNKNOWN_TYPE".to_owned(), Some("resource".to_owned()))
    );
}

#[tokio::test]
async fn lists_are_streamed_with_revision_and_cursor() {
    let mut clients = prepared().await;
    let tuples: Vec<_> = (0..250)
        .map(|at| format!("environment:e{at}#guest@user:ann"))
        .collect();
    let granted = clients
        .grant(&tuples.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let revision = granted.unwrap().revision;
    clients
        .grant(&["environment:e3#banned@user:ann"])
        .await
        .unwrap();
    let request = |cursor: &str| ListResourcesRequest {
        subject: "user:ann".to_owned(),
        permission: "deploy".to_owned(),
        resource_type: "environment".to_owned(),
        cursor: cursor.to_owned(),
        ..ListResourcesRequest::default()
    };
    let mut all = Vec::new();
    let listed = clients.checks.list_resources(request("")).await.unwrap();
    let mut rows = listed.into_inner();
    while let Some(row) = rows.message().await.unwrap() {
        all.push(row);
    }
    assert_eq!(all.len(), 249);
    assert!(all.iter().all(|row| row.decision() == Decision::Allowed));
    assert!(all[0].revision > revision, "the first row names it");
    assert!(all[1..].iter().all(|row| row.revision.is_empty()));
    for number in [100, 200, 249] {
        assert_ne!(all[number - 1].cursor, "", "row {number}");
    }
    let listed = clients
        .checks
        .list_resources(request(&all[199].cursor))
        .await;
    let mut rows = listed.unwrap().into_inner();
    for row in &all[200..] {
        let again = rows.message().await.unwrap().unwrap();
        assert_eq!(again.resource, row.resource);
    }
    assert_eq!(rows.message().await.unwrap(), None);

    let request = ListSubjectsRequest {
        resource: "environment:e1".to_owned(),
        permission: "deploy".to_owned(),
        subject_type: "user".to_owned(),
        ..ListSubjectsRequest::default()
    };
    let listed = clients.checks.list_subjects(request.clone()).await.unwrap();
    let row = listed.into_inner().message().await.unwrap().unwrap();
    assert_eq!(
        (row.subject.as_str(), row.decision()),
        ("user:ann", Decision::Allowed)
    );
    let refused = clients.checks.list_subjects(ListSubjectsRequest {
        subject_type: String::new(),
        ..request
    });
    let refused = reason_of(&refused.await.unwrap_err());
    let want = (
        "MALFORMED_REQUEST".to_owned(),
        Some("subject_type".to_owned()),
    );
    assert_eq!(refused, want);
}
