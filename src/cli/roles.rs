//! `portcullis roles`: the roles of an owner as a matrix, and what is done to them.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::Output;
use super::values::{self, Ends};
use super::write::Options;
use super::{At, Exit, known};
use crate::api::convert::values::to_timestamp;
use crate::api::proto;
use crate::api::proto::role_service_client::RoleServiceClient;
use crate::tuple::{Object, RoleRef, Subject};

/// Lists, makes, edits and assigns roles.
#[derive(Subcommand, Debug)]
pub(super) enum Roles {
    /// Shows what the roles of an owner include, as a table
    List(List),
    /// Makes a role
    Create(Create),
    /// Has a role include permissions
    Allow(Edit),
    /// Has a role include permissions no longer
    Disallow(Edit),
    /// Gives a role another name for people
    Rename(Rename),
    /// Deletes a role with every assignment of it
    Delete(Delete),
    /// Gives somebody a role on a resource
    Assign(Assign),
    /// Takes a role on a resource from somebody
    Unassign(Assignment),
    /// Takes one role and gives another, as one commit
    Change(Change),
}

/// Shows what the roles of an owner include, as a table.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Whose: type:id, such as organization:acme
    #[arg(value_parser = values::object)]
    owner: Object,
    #[command(flatten)]
    at: At,
}

/// Makes a role.
#[derive(Args, Debug)]
#[command(after_help = "portcullis roles create organization:acme deployer application.deploy")]
pub(super) struct Create {
    /// Whose: type:id, such as organization:acme
    #[arg(value_parser = values::object)]
    owner: Object,
    /// What it is called among the owner's, such as deployer
    key: String,
    /// What it includes, such as application.deploy
    permissions: Vec<String>,
    /// A name for people
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,
    #[command(flatten)]
    options: Options,
}

/// Changes what a role includes.
#[derive(Args, Debug)]
pub(super) struct Edit {
    /// Such as role:acme/deployer
    role: RoleRef,
    /// Such as application.deploy
    #[arg(required = true)]
    permissions: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// Gives a role another name for people.
#[derive(Args, Debug)]
pub(super) struct Rename {
    /// Such as role:acme/deployer
    role: RoleRef,
    /// The new name
    title: String,
    #[command(flatten)]
    options: Options,
}

/// Deletes a role with every assignment of it.
#[derive(Args, Debug)]
pub(super) struct Delete {
    /// Such as role:acme/deployer
    role: RoleRef,
    #[command(flatten)]
    options: Options,
}

/// Gives somebody a role on a resource.
#[derive(Args, Debug)]
#[command(after_help = "portcullis roles assign role:acme/deployer user:bob application:shop")]
pub(super) struct Assign {
    #[command(flatten)]
    given: Assignment,
    /// When the assignment ends: a span such as 24h, or a time (RFC 3339)
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = Ends::parse)]
    expires: Option<Ends>,
}

/// Who has which role where.
#[derive(Args, Debug)]
pub(super) struct Assignment {
    /// Such as role:acme/deployer
    role: RoleRef,
    /// Who: type:id, type:id#relation or type:*
    #[arg(value_parser = values::subject)]
    subject: Subject,
    /// Where: type:id
    #[arg(value_parser = values::object)]
    resource: Object,
    #[command(flatten)]
    options: Options,
}

/// Takes one role and gives another, as one commit.
#[derive(Args, Debug)]
pub(super) struct Change {
    /// Who: type:id, type:id#relation or type:*
    #[arg(value_parser = values::subject)]
    subject: Subject,
    /// Where: type:id
    #[arg(value_parser = values::object)]
    resource: Object,
    /// The role that is taken
    from: RoleRef,
    /// The role that is given
    to: RoleRef,
    #[command(flatten)]
    options: Options,
}

impl Roles {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => return list.run(client, output),
            Self::Create(create) => return create.run(client, output),
            Self::Allow(edit) => edit.run(true, client, output)?,
            Self::Disallow(edit) => edit.run(false, client, output)?,
            Self::Rename(rename) => rename.run(client, output)?,
            Self::Delete(delete) => delete.run(client, output)?,
            Self::Assign(assign) => assign.run(client, output)?,
            Self::Unassign(assignment) => assignment.run(client, output)?,
            Self::Change(change) => change.run(client, output)?,
        }
        Ok(Exit::Done)
    }
}

impl List {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = proto::ListRolesRequest {
            owner: self.owner.to_string(),
            consistency: self.at.message(),
        };
        let mut service = RoleServiceClient::new(client.channel());
        let answer = client.call(service.list_roles(request))?.into_inner();
        let value = json!({
            "roles": answer.roles.iter().map(as_json).collect::<Vec<_>>(),
            "assignable_permissions": answer.assignable_permissions.iter().map(|row| json!({
                "permission": row.permission,
                "group": row.group,
                "documentation": row.documentation,
                "sensitive": row.sensitive,
            })).collect::<Vec<_>>(),
            "revision": answer.revision,
        });
        output.document(&value, &matrix(&answer))?;
        // Whatever it is called, it has the built-in roles.
        if answer.roles.iter().all(|role| role.builtin) {
            known::ask_about(client, &self.owner, output);
        }
        Ok(Exit::Done)
    }
}

/// Permissions by roles; `x` where the role includes it, `!` behind what is sensitive.
fn matrix(answer: &proto::ListRolesResponse) -> String {
    let key = |role: &proto::Role| {
        let reference: Option<RoleRef> = role.role.parse().ok();
        reference.map_or_else(|| role.role.clone(), |role| role.key().to_owned())
    };
    let keys: Vec<String> = answer.roles.iter().map(key).collect();
    let label = |row: &proto::AssignablePermission| match row.sensitive {
        true => format!("{} !", row.permission),
        false => row.permission.clone(),
    };
    let rows = &answer.assignable_permissions;
    let width = rows.iter().map(|row| label(row).chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = format!("{:width$}  {}\n", "", keys.join("  "));
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = &row.group;
            let _ = writeln!(text, "{group}");
        }
        let cells = answer.roles.iter().zip(&keys).map(|(role, key)| {
            let mark = if role.permissions.contains(&row.permission) {
                "x"
            } else {
                "-"
            };
            format!("{mark:width$}", width = key.chars().count())
        });
        let line = format!(
            "{:width$}  {}",
            label(row),
            cells.collect::<Vec<_>>().join("  ")
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

impl Create {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = proto::CreateRoleRequest {
            owner: self.owner.to_string(),
            key: self.key,
            title: self.title,
            permissions: self.permissions,
            options: Some(self.options.message()),
        };
        let mut service = RoleServiceClient::new(client.channel());
        let answer = client.call(service.create_role(request))?.into_inner();
        let verb = self.options.verb("created");
        written(
            &verb,
            answer.role,
            &answer.warnings,
            (&answer.revision, answer.propagation.as_ref()),
            output,
        )?;
        Ok(Exit::Done)
    }
}

impl Edit {
    fn run(self, allows: bool, client: &Client, output: Output) -> anyhow::Result<()> {
        let (allow, disallow) = match allows {
            true => (self.permissions, Vec::new()),
            false => (Vec::new(), self.permissions),
        };
        let request = proto::UpdateRoleRequest {
            role: self.role.to_string(),
            title: None,
            allow,
            disallow,
            options: Some(self.options.message()),
        };
        update(request, &self.options, client, output)
    }
}

impl Rename {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request = proto::UpdateRoleRequest {
            role: self.role.to_string(),
            title: Some(self.title),
            options: Some(self.options.message()),
            ..proto::UpdateRoleRequest::default()
        };
        update(request, &self.options, client, output)
    }
}

fn update(
    request: proto::UpdateRoleRequest,
    options: &Options,
    client: &Client,
    output: Output,
) -> anyhow::Result<()> {
    let mut service = RoleServiceClient::new(client.channel());
    let answer = client.call(service.update_role(request))?.into_inner();
    let verb = match answer.unchanged {
        true => "nothing changed:".to_owned(),
        false => options.verb("changed"),
    };
    written(
        &verb,
        answer.role,
        &answer.warnings,
        (&answer.revision, answer.propagation.as_ref()),
        output,
    )
}

impl Delete {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request = proto::DeleteRoleRequest {
            role: self.role.to_string(),
            options: Some(self.options.message()),
        };
        let mut service = RoleServiceClient::new(client.channel());
        let answer = client.call(service.delete_role(request))?.into_inner();
        let text = format!("{} {}", self.options.verb("deleted"), self.role);
        done(&text, &answer.revision, answer.propagation.as_ref(), output)
    }
}

impl Assign {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let given = &self.given;
        let request = proto::AssignRoleRequest {
            role: given.role.to_string(),
            subject: given.subject.to_string(),
            resource: given.resource.to_string(),
            expires_at: self.expires.map(Ends::instant).map(to_timestamp),
            options: Some(given.options.message()),
        };
        let mut service = RoleServiceClient::new(client.channel());
        let answer = client.call(service.assign_role(request))?.into_inner();
        let text = given.told(
            answer.unchanged,
            ("assigned", "to"),
            "holds it there already",
        );
        done(&text, &answer.revision, answer.propagation.as_ref(), output)
    }
}

impl Assignment {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request = proto::UnassignRoleRequest {
            role: self.role.to_string(),
            subject: self.subject.to_string(),
            resource: self.resource.to_string(),
            options: Some(self.options.message()),
        };
        let mut service = RoleServiceClient::new(client.channel());
        let answer = client.call(service.unassign_role(request))?.into_inner();
        let text = self.told(
            answer.unchanged,
            ("unassigned", "from"),
            "did not hold it there",
        );
        done(&text, &answer.revision, answer.propagation.as_ref(), output)
    }

    /// What was done, or why nothing was.
    fn told(&self, unchanged: bool, (done, to): (&'static str, &str), otherwise: &str) -> String {
        let Self {
            role,
            subject,
            resource,
            options,
        } = self;
        match unchanged {
            true => format!("nothing changed: {role} on {resource}: {subject} {otherwise}"),
            false => format!("{} {role} {to} {subject} on {resource}", options.verb(done)),
        }
    }
}

impl Change {
    fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request = proto::ChangeRoleRequest {
            subject: self.subject.to_string(),
            resource: self.resource.to_string(),
            from_role: self.from.to_string(),
            to_role: self.to.to_string(),
            options: Some(self.options.message()),
        };
        let mut service = RoleServiceClient::new(client.channel());
        let answer = client.call(service.change_role(request))?.into_inner();
        let (from, to) = (&self.from, &self.to);
        let (subject, resource) = (&self.subject, &self.resource);
        let text = match answer.unchanged {
            true => format!("nothing changed: {subject} holds {to} on {resource} already"),
            false => {
                let verb = self.options.verb("changed");
                format!("{verb} {subject} on {resource} from {from} to {to}")
            }
        };
        done(&text, &answer.revision, answer.propagation.as_ref(), output)
    }
}

fn as_json(role: &proto::Role) -> Value {
    json!({
        "role": role.role,
        "owner": role.owner,
        "title": role.title,
        "permissions": role.permissions,
        "builtin": role.builtin,
    })
}

fn written(
    verb: &str,
    role: Option<proto::Role>,
    warnings: &[proto::Diagnostic],
    (revision, propagation): (&str, Option<&proto::Propagation>),
    output: Output,
) -> anyhow::Result<()> {
    let role = role.unwrap_or_default();
    let includes = match role.permissions.as_slice() {
        [] => "nothing".to_owned(),
        permissions => permissions.join(", "),
    };
    let waited = Options::waited(propagation);
    let mut text = format!("{verb} {} ({}): {includes}{waited}", role.role, role.title);
    for warning in warnings {
        let _ = write!(text, "\nwarning: {}", warning.message);
    }
    let warnings: Vec<&String> = warnings.iter().map(|warning| &warning.message).collect();
    let value = json!({
        "role": as_json(&role),
        "warnings": warnings,
        "revision": revision,
        "propagation": Options::propagation(propagation),
    });
    output.give(&value, text)
}

fn done(
    text: &str,
    revision: &str,
    propagation: Option<&proto::Propagation>,
    output: Output,
) -> anyhow::Result<()> {
    let value = json!({
        "done": text,
        "revision": revision,
        "propagation": Options::propagation(propagation),
    });
    let waited = Options::waited(propagation);
    output.give(
        &value,
        format_args!("{text} at revision {revision}{waited}"),
    )
}
