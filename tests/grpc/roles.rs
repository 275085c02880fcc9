//! `RoleService` over the wire: each call, and each refusal.

use portcullis::api::proto::check_service_client::CheckServiceClient;
use portcullis::api::proto::grant_service_client::GrantServiceClient;
use portcullis::api::proto::role_service_client::RoleServiceClient;
use portcullis::api::proto::schema_service_client::SchemaServiceClient;
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
    /** Brings somebody in. @group People */
    permission invite = owner + any role
    assigns role granted by own capped
}
roles role of org {
    held by user | team#member
    granted by own capped
    builtin admin includes * granted by own min 1
}
definition app {
    relation org: org       granted by org->own
    permission deploy = org->own + any role
    /** Gone for good. @group Danger @sensitive */
    permission delete = org->own + any role
    permission plain = org->own
    assigns role granted by org->own capped inherits org
}
";

struct Clients {
    roles: RoleServiceClient<Channel>,
    checks: CheckServiceClient<Channel>,
    grants: GrantServiceClient<Channel>,
    _served: Served,
}

async fn prepared() -> Clients {
    let served = Served::new().await;
    let channel = served.connect().await;
    let schema = WriteSchemaRequest {
        schema: SCHEMA.to_owned(),
        ..WriteSchemaRequest::default()
    };
    let mut schemas = SchemaServiceClient::new(channel.clone());
    schemas.write_schema(schema).await.unwrap();
    let mut clients = Clients {
        roles: RoleServiceClient::new(channel.clone()),
        checks: CheckServiceClient::new(channel.clone()),
        grants: GrantServiceClient::new(channel),
        _served: served,
    };
    let tuple = |resource: &str, relation: &str, subject: &str| Tuple {
        resource: resource.to_owned(),
        relation: relation.to_owned(),
        subject: subject.to_owned(),
        ..Tuple::default()
    };
    let request = GrantRequest {
        tuples: vec![
            tuple("org:acme", "owner", "user:olga"),
            tuple("app:shop", "org", "org:acme"),
        ],
        options: None,
    };
    clients.grants.grant(request).await.unwrap();
    clients
}

fn by(actor: &str) -> WriteOptions {
    WriteOptions {
        actor: actor.to_owned(),
        ..WriteOptions::default()
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn create(owner: &str, key: &str, permissions: &[&str], actor: &str) -> CreateRoleRequest {
    CreateRoleRequest {
        owner: owner.to_owned(),
        key: key.to_owned(),
        title: String::new(),
        permissions: texts(permissions),
        options: Some(by(actor)),
    }
}

fn update(role: &str, allow: &[&str], disallow: &[&str], actor: &str) -> UpdateRoleRequest {
    UpdateRoleRequest {
        role: role.to_owned(),
        title: None,
        allow: texts(allow),
        disallow: texts(disallow),
        options: Some(by(actor)),
    }
}

fn assign(role: &str, subject: &str, resource: &str, actor: &str) -> AssignRoleRequest {
    AssignRoleRequest {
        role: role.to_owned(),
        subject: subject.to_owned(),
        resource: resource.to_owned(),
        expires_at: None,
        options: Some(by(actor)),
    }
}

fn unassign(role: &str, subject: &str, resource: &str, actor: &str) -> UnassignRoleRequest {
    UnassignRoleRequest {
        role: role.to_owned(),
        subject: subject.to_owned(),
        resource: resource.to_owned(),
        options: Some(by(actor)),
    }
}

fn change(from: &str, to: &str, subject: &str, resource: &str) -> ChangeRoleRequest {
    ChangeRoleRequest {
        subject: subject.to_owned(),
        resource: resource.to_owned(),
        from_role: from.to_owned(),
        to_role: to.to_owned(),
        options: Some(by("user:olga")),
    }
}

/// The reason and field of a refusal, as `REASON field`.
fn refusal<T>(outcome: Result<Response<T>, Status>) -> String {
    match outcome {
        Ok(_) => "done".to_owned(),
        Err(status) => {
            let (reason, field) = reason_of(&status);
            format!("{reason} {}", field.unwrap_or_default())
        }
    }
}

impl Clients {
    async fn may(&mut self, subject: &str, permission: &str) -> bool {
        let request = CheckRequest {
            subject: subject.to_owned(),
            permission: permission.to_owned(),
            resource: "app:shop".to_owned(),
            ..CheckRequest::default()
        };
        let response = self.checks.check(request).await.unwrap().into_inner();
        response.decision() == Decision::Allowed
    }

    async fn list(&mut self) -> ListRolesResponse {
        let request = ListRolesRequest {
            owner: "org:acme".to_owned(),
            consistency: None,
        };
        self.roles.list_roles(request).await.unwrap().into_inner()
    }
}

const DEV: &str = "role:acme/dev";

#[tokio::test]
async fn each_call_answers_and_is_in_force_at_once() {
    let mut clients = prepared().await;
    let made = create(
        "org:acme",
        "dev",
        &["app.deploy", "app.delete"],
        "user:olga",
    );
    let made = clients.roles.create_role(made).await.unwrap().into_inner();
    let role = Role {
        role: DEV.to_owned(),
        owner: "org:acme".to_owned(),
        title: "dev".to_owned(),
        permissions: texts(&["app.delete", "app.deploy"]),
        builtin: false,
    };
    assert_eq!(made.role, Some(role.clone()));
    assert_eq!(made.warnings.len(), 1);
    assert_eq!(made.warnings[0].code, "sensitive-permission");

    let listed = clients.list().await;
    assert_eq!(listed.roles.len(), 2);
    assert!(listed.roles.contains(&role));
    let admin = listed.roles.iter().find(|role| role.builtin).unwrap();
    assert_eq!(
        admin.permissions,
        ["app.delete", "app.deploy", "org.invite"]
    );
    let mut rows: Vec<_> = (listed.assignable_permissions.iter())
        .map(|row| (row.permission.as_str(), row.group.as_str(), row.sensitive))
        .collect();
    rows.sort_unstable();
    let expected = [
        ("app.delete", "Danger", true),
        ("app.deploy", "", false),
        ("org.invite", "People", false),
    ];
    assert_eq!(rows, expected);

    let given = assign(DEV, "user:dan", "app:shop", "user:olga");
    let given = clients.roles.assign_role(given).await.unwrap().into_inner();
    assert!(!given.unchanged);
    assert!(clients.may("user:dan", "deploy").await);
    let again = assign(DEV, "user:dan", "app:shop", "user:olga");
    let again = clients.roles.assign_role(again).await.unwrap().into_inner();
    assert!(again.unchanged && again.revision == given.revision);

    let less = update(DEV, &[], &["app.deploy"], "user:olga");
    let less = clients.roles.update_role(less).await.unwrap().into_inner();
    assert!(!less.unchanged && less.warnings.is_empty());
    assert_eq!(less.role.unwrap().permissions, ["app.delete"]);
    assert!(!clients.may("user:dan", "deploy").await);
    let none = update(DEV, &[], &["app.deploy"], "user:olga");
    let none = clients.roles.update_role(none).await.unwrap().into_inner();
    assert!(none.unchanged && none.role.is_some());

    let other = create("org:acme", "ops", &["app.deploy"], "user:olga");
    clients.roles.create_role(other).await.unwrap();
    let changed = change(DEV, "role:acme/ops", "user:dan", "app:shop");
    clients.roles.change_role(changed).await.unwrap();
    assert!(clients.may("user:dan", "deploy").await);
    assert!(!clients.may("user:dan", "delete").await);
    for unchanged in [false, true] {
        let taken = unassign("role:acme/ops", "user:dan", "app:shop", "user:olga");
        let taken = clients
            .roles
            .unassign_role(taken)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(taken.unchanged, unchanged);
    }
    assert!(!clients.may("user:dan", "deploy").await);

    let given = assign("role:acme/ops", "user:eli", "org:acme", "user:olga");
    clients.roles.assign_role(given).await.unwrap();
    assert!(clients.may("user:eli", "deploy").await, "inherited");
    let deleted = DeleteRoleRequest {
        role: "role:acme/ops".to_owned(),
        options: Some(by("user:olga")),
    };
    clients.roles.delete_role(deleted).await.unwrap();
    assert!(!clients.may("user:eli", "deploy").await);
    assert_eq!(clients.list().await.roles.len(), 2);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_refusal_of_a_role_names_its_field() {
    let mut clients = prepared().await;
    let made = create("org:acme", "dev", &["app.deploy"], "user:olga");
    clients.roles.create_role(made).await.unwrap();
    let (acme, olga, eve) = ("org:acme", "user:olga", "user:eve");
    let creates = [
        (create("acme", "x", &[], olga), "MALFORMED_REFERENCE owner"),
        (create("orgg:acme", "x", &[], olga), "UNKNOWN_TYPE owner"),
        (
            create("app:shop", "x", &[], olga),
            "MALFORMED_REQUEST owner",
        ),
        (create("org:a@b", "x", &[], olga), "MALFORMED_REQUEST owner"),
        (create(acme, "", &[], olga), "MALFORMED_REQUEST key"),
        (create(acme, "a/b", &[], olga), "MALFORMED_REQUEST key"),
        (create(acme, "dev", &[], olga), "ROLE_EXISTS key"),
        (create(acme, "admin", &[], olga), "ROLE_EXISTS key"),
        (create(acme, "dev", &[], eve), "ACTOR_NOT_ALLOWED "),
        (
            create(acme, "x", &["app.deplyo"], olga),
            "UNKNOWN_PERMISSION permissions[0]",
        ),
        (
            create(acme, "x", &["app.deploy", "app.plain"], olga),
            "PERMISSION_NOT_INCLUDABLE permissions[1]",
        ),
        (
            create(acme, "x", &[], "olga"),
            "MALFORMED_REFERENCE options.actor",
        ),
    ];
    for (request, expected) in creates {
        let told = format!("{request:?}");
        assert_eq!(
            refusal(clients.roles.create_role(request).await),
            expected,
            "{told}"
        );
    }
    let mut empty_title = update(DEV, &[], &[], olga);
    empty_title.title = Some(String::new());
    let mut renamed = update("role:acme/admin", &[], &[], olga);
    renamed.title = Some("x".to_owned());
    let updates = [
        (update(DEV, &[], &[], olga), "MALFORMED_REQUEST title"),
        (empty_title, "MALFORMED_REQUEST title"),
        (renamed, "ROLE_BUILTIN role"),
        (
            update("acme/dev", &["app.deploy"], &[], olga),
            "MALFORMED_REFERENCE role",
        ),
        (
            update("rule:acme/dev", &["app.deploy"], &[], olga),
            "ROLE_NOT_FOUND role",
        ),
        (
            update("role:acme/dew", &["app.deploy"], &[], olga),
            "ROLE_NOT_FOUND role",
        ),
        (
            update("role:acme/dew", &["app.deploy"], &[], eve),
            "ACTOR_NOT_ALLOWED ",
        ),
        (
            update("role:acme/admin", &[], &["app.deploy"], olga),
            "ROLE_BUILTIN role",
        ),
        (
            update(DEV, &["app.deplyo"], &[], olga),
            "UNKNOWN_PERMISSION allow[0]",
        ),
        (
            update(DEV, &["app.plain"], &[], olga),
            "PERMISSION_NOT_INCLUDABLE allow[0]",
        ),
        (
            update(DEV, &[], &["app.x"], olga),
            "UNKNOWN_PERMISSION disallow[0]",
        ),
        (
            update(DEV, &["app.deploy"], &["app.deploy"], olga),
            "MALFORMED_REQUEST disallow",
        ),
    ];
    for (request, expected) in updates {
        let told = format!("{request:?}");
        assert_eq!(
            refusal(clients.roles.update_role(request).await),
            expected,
            "{told}"
        );
    }
    let deletes = [
        ("dev", olga, "MALFORMED_REFERENCE role"),
        ("role:acme/admin", olga, "ROLE_BUILTIN role"),
        ("role:acme/dew", olga, "ROLE_NOT_FOUND role"),
        ("role:acme/dew", eve, "ACTOR_NOT_ALLOWED "),
    ];
    for (role, actor, expected) in deletes {
        let request = DeleteRoleRequest {
            role: role.to_owned(),
            options: Some(by(actor)),
        };
        assert_eq!(
            refusal(clients.roles.delete_role(request).await),
            expected,
            "{role}"
        );
    }
    let places = [
        (
            ("dev", "user:x", "app:shop", olga),
            "MALFORMED_REFERENCE role",
        ),
        ((DEV, "x", "app:shop", olga), "MALFORMED_REFERENCE subject"),
        (
            (DEV, "user:x", "shop", olga),
            "MALFORMED_REFERENCE resource",
        ),
        ((DEV, "usr:x", "app:shop", olga), "UNKNOWN_TYPE subject"),
        ((DEV, "user:x", "apq:shop", olga), "UNKNOWN_TYPE resource"),
        ((DEV, "user:x", "app:shop", eve), "ACTOR_NOT_ALLOWED "),
        (
            ("role:acme/dew", "user:x", "app:shop", eve),
            "ACTOR_NOT_ALLOWED ",
        ),
        (
            ("role:acme/dew", "user:x", "app:shop", olga),
            "ROLE_NOT_FOUND role",
        ),
        (
            ("rule:acme/dew", "user:x", "app:shop", olga),
            "ROLE_NOT_FOUND role",
        ),
    ];
    for ((role, subject, resource, actor), expected) in places {
        let told = format!("{role} {subject} {resource} {actor}");
        let given = assign(role, subject, resource, actor);
        assert_eq!(
            refusal(clients.roles.assign_role(given).await),
            expected,
            "{told}"
        );
        let taken = unassign(role, subject, resource, actor);
        assert_eq!(
            refusal(clients.roles.unassign_role(taken).await),
            expected,
            "{told}"
        );
    }
    let given = assign(DEV, "team:x", "app:shop", olga);
    let given = refusal(clients.roles.assign_role(given).await);
    assert_eq!(given, "SUBJECT_NOT_ALLOWED subject");
    let admin = "role:acme/admin";
    let only = assign(admin, "user:one", acme, olga);
    clients.roles.assign_role(only).await.unwrap();
    let taken = unassign(admin, "user:one", acme, olga);
    let taken = refusal(clients.roles.unassign_role(taken).await);
    assert_eq!(taken, "MINIMUM_VIOLATED ");
    let changes = [
        (
            change(DEV, DEV, "user:x", "app:shop"),
            "MALFORMED_REQUEST to_role",
        ),
        (
            change("dev", DEV, "user:x", "app:shop"),
            "MALFORMED_REFERENCE from_role",
        ),
        (
            change(DEV, "dev", "user:x", "app:shop"),
            "MALFORMED_REFERENCE to_role",
        ),
        (
            change(DEV, admin, "user:one", acme),
            "TUPLE_NOT_FOUND updates[0]",
        ),
        (change(admin, DEV, "user:one", acme), "MINIMUM_VIOLATED "),
    ];
    for (request, expected) in changes {
        let told = format!("{request:?}");
        assert_eq!(
            refusal(clients.roles.change_role(request).await),
            expected,
            "{told}"
        );
    }
    let listed = ListRolesRequest {
        owner: "acme".to_owned(),
        consistency: None,
    };
    let listed = refusal(clients.roles.list_roles(listed).await);
    assert_eq!(listed, "MALFORMED_REFERENCE owner");
    // No way round by the tuples themselves.
    let generated = GrantRequest {
        tuples: vec![Tuple {
            resource: "app:shop".to_owned(),
            relation: "role=acme/dev".to_owned(),
            subject: "user:eve".to_owned(),
            ..Tuple::default()
        }],
        options: None,
    };
    let granted = refusal(clients.grants.grant(generated).await);
    assert_eq!(granted, "GENERATED_RELATION tuples[0].relation");
}
