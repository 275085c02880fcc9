//! `portcullis list-resources` and `portcullis list-subjects`

use clap::Args;
use serde_json::json;

use super::client::Client;
use super::output::Output;
use super::values;
use super::{At, Exit};
use crate::api::convert::values::to_struct;
use crate::api::proto;
use crate::api::proto::check_service_client::CheckServiceClient;
use crate::tuple::{Context, Object, Subject, is_relation, is_type_name};

/// Which part of a list is wanted, and under what parameters.
#[derive(Args, Debug)]
struct Part {
    /// Parameters of caveats, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::context)]
    context: Option<Context>,
    /// Ends after so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// Continues behind this cursor of an earlier row (`--json` shows them), at its revision
    #[arg(
        long,
        value_name = "CURSOR",
        default_value = "",
        hide_default_value = true
    )]
    cursor: String,
    #[command(flatten)]
    at: At,
}

/// Lists the resources of a type on which a subject has a permission, in the server's own order.
#[derive(Args, Debug)]
#[command(
    after_help = "portcullis list-resources user:alice deploy environment\n\
                        portcullis list-resources user:alice deploy environment \
                        --within application:shop"
)]
pub(super) struct ListResources {
    /// Who: type:id, type:id#relation or type:*
    #[arg(value_parser = values::subject)]
    subject: Subject,
    /// A permission or relation of the resources' type
    permission: String,
    /// The type of the resources
    #[arg(value_name = "TYPE", value_parser = type_name)]
    resource_type: String,
    /// Only what lies below this resource, by any relations that arrows of the schema walk
    #[arg(long, value_name = "RESOURCE", value_parser = values::object)]
    within: Option<Object>,
    #[command(flatten)]
    part: Part,
}

impl ListResources {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let whole = self.part.cursor.is_empty();
        let request = proto::ListResourcesRequest {
            subject: self.subject.to_string(),
            permission: self.permission,
            resource_type: self.resource_type,
            context: self.part.context.as_ref().map(to_struct),
            consistency: self.part.at.message(),
            limit: self.part.limit,
            cursor: self.part.cursor,
            within: (self.within.as_ref()).map_or_else(String::new, ToString::to_string),
        };
        let mut service = CheckServiceClient::new(client.channel());
        let mut rows = client.call(service.list_resources(request))?.into_inner();
        let mut found = false;
        while let Some(row) = client.call(rows.message())? {
            let value = json!({
                "resource": row.resource,
                "decision": word(row.decision()),
                "missing_context": row.missing_context,
                "cursor": some(&row.cursor),
                "revision": some(&row.revision),
            });
            let condition = condition(row.decision(), &row.missing_context);
            output.give(&value, format_args!("{}{condition}", row.resource))?;
            found = true;
        }
        if let Some(within) = self.within.filter(|_| whole && !found) {
            output.note(format_args!(
                "nothing of that below {within}; is it spelt right?"
            ));
        }
        Ok(Exit::Done)
    }
}

/// Lists the subjects of a type that have a permission on a resource, in the server's own order.
#[derive(Args, Debug)]
#[command(after_help = "`user:* except …` is everybody but those named.\n\n\
                        portcullis list-subjects user deploy environment:prod\n\
                        portcullis list-subjects group#member deploy environment:prod")]
pub(super) struct ListSubjects {
    /// What kind of subjects: type, or type#relation for subject sets
    #[arg(value_name = "TYPE", value_parser = kind_of_subjects)]
    kind: (String, String),
    /// A permission or relation of the resource's type
    permission: String,
    /// On what: type:id
    #[arg(value_parser = values::object)]
    resource: Object,
    #[command(flatten)]
    part: Part,
}

impl ListSubjects {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let (subject_type, subject_relation) = self.kind;
        let request = proto::ListSubjectsRequest {
            resource: self.resource.to_string(),
            permission: self.permission,
            subject_type,
            subject_relation,
            context: self.part.context.as_ref().map(to_struct),
            consistency: self.part.at.message(),
            limit: self.part.limit,
            cursor: self.part.cursor,
        };
        let mut service = CheckServiceClient::new(client.channel());
        let mut rows = client.call(service.list_subjects(request))?.into_inner();
        while let Some(row) = client.call(rows.message())? {
            let value = json!({
                "subject": row.subject,
                "except": row.except,
                "decision": word(row.decision()),
                "missing_context": row.missing_context,
                "cursor": some(&row.cursor),
                "revision": some(&row.revision),
            });
            let except = match row.except.is_empty() {
                true => String::new(),
                false => format!(" except {}", row.except.join(", ")),
            };
            let condition = condition(row.decision(), &row.missing_context);
            output.give(&value, format_args!("{}{except}{condition}", row.subject))?;
        }
        Ok(Exit::Done)
    }
}

fn word(decision: proto::Decision) -> &'static str {
    decision.as_str_name().trim_start_matches("DECISION_")
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn condition(decision: proto::Decision, missing: &[String]) -> String {
    match decision {
        proto::Decision::Conditional => format!("  CONDITIONAL: needs {}", missing.join(", ")),
        _ => String::new(),
    }
}

fn type_name(text: &str) -> Result<String, String> {
    match is_type_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is no name of a type; expected one such as environment"
        )),
    }
}

fn kind_of_subjects(text: &str) -> Result<(String, String), String> {
    let (kind, relation) = text.split_once('#').unwrap_or((text, ""));
    match is_type_name(kind) && (relation.is_empty() || is_relation(relation)) {
        true => Ok((kind.to_owned(), relation.to_owned())),
        false => Err(format!(
            "{text:?} is no kind of subjects; expected user or group#member"
        )),
    }
}
