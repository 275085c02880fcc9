//! `portcullis permissions`

use clap::Args;
use serde_json::json;

use super::check::{as_json, as_text, word};
use super::client::Client;
use super::output::Output;
use super::values;
use super::{At, Exit};
use crate::api::convert::values::to_struct;
use crate::api::proto;
use crate::api::proto::check_service_client::CheckServiceClient;
use crate::api::proto::list_permissions_response::Entry;
use crate::api::proto::list_permissions_response::entry::Outcome;
use crate::tuple::{Context, Object, Subject};

/// Lists every relation and permission of the resource's type, and whether the subject has it.
#[derive(Args, Debug)]
#[command(after_help = "portcullis permissions user:alice environment:prod")]
pub(super) struct Permissions {
    /// Who: type:id, type:id#relation or type:*
    #[arg(value_parser = values::subject)]
    subject: Subject,
    /// On what: type:id
    #[arg(value_parser = values::object)]
    resource: Object,
    /// Parameters of caveats, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::context)]
    context: Option<Context>,
    #[command(flatten)]
    at: At,
}

impl Permissions {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = proto::ListPermissionsRequest {
            subject: self.subject.to_string(),
            resource: self.resource.to_string(),
            context: self.context.as_ref().map(to_struct),
            consistency: self.at.message(),
        };
        let mut service = CheckServiceClient::new(client.channel());
        let answer = client.call(service.list_permissions(request))?.into_inner();
        let longest = answer.entries.iter().map(|entry| entry.permission.len());
        let width = longest.max().unwrap_or(0);
        for entry in &answer.entries {
            give(entry, width, &answer.revision, output)?;
        }
        if answer.entries.is_empty() {
            output.note(format_args!(
                "type {} has no relation or permission; the subject comes first, then the resource",
                self.resource.kind()
            ));
        }
        Ok(Exit::Done)
    }
}

fn give(entry: &Entry, width: usize, revision: &str, output: Output) -> anyhow::Result<()> {
    let name = &entry.permission;
    match &entry.outcome {
        Some(Outcome::Response(answer)) => {
            let (_, word) = word(answer)?;
            let mut value = as_json(answer, word);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("permission".to_owned(), json!(name));
                fields.insert("revision".to_owned(), json!(revision));
            }
            // That the subject does not have it is all that most denials say.
            let text = match answer.denial_reason() {
                proto::DenialReason::NoGrant => word.to_owned(),
                _ => as_text(answer, word),
            };
            output.give(&value, format_args!("{name:width$}  {text}"))
        }
        Some(Outcome::Error(error)) => {
            let value = json!({
                "permission": name,
                "revision": revision,
                "error": { "reason": error.reason, "message": error.message },
            });
            let text = format!("{name:width$}  error: {} ({})", error.message, error.reason);
            output.give(&value, text)
        }
        None => anyhow::bail!("the server's answer has no outcome; is it a newer version?"),
    }
}
