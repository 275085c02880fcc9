//! `portcullis check`

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::output::Output;
use super::values;
use super::{At, Exit};
use crate::api::convert::to_tuple;
use crate::api::convert::values::{timestamp, to_struct};
use crate::api::proto;
use crate::api::proto::check_service_client::CheckServiceClient;
use crate::tuple::{Context, Object, Subject, Tuple};

/// Asks whether a subject may do something to a resource.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 allowed, 1 denied, 2 conditional (a caveat lacks parameters: \
                        give them with --context), 3 error, 64 a wrong command line.\n\n\
                        portcullis check user:alice deploy environment:prod"
)]
pub(super) struct Check {
    /// Who: type:id, type:id#relation or type:*
    #[arg(value_parser = values::subject)]
    subject: Subject,
    /// A permission or relation of the resource's type
    permission: String,
    /// On what: type:id
    #[arg(value_parser = values::object)]
    resource: Object,
    /// Parameters of caveats, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::context)]
    context: Option<Context>,
    /// Also holds for this question (may be given several times)
    #[arg(long, value_name = "TUPLE")]
    with_tuple: Vec<Tuple>,
    #[command(flatten)]
    at: At,
}

impl Check {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = self.request();
        let mut service = CheckServiceClient::new(client.channel());
        let answer = client.call(service.check(request))?.into_inner();
        let (exit, word) = word(&answer)?;
        output.give(&as_json(&answer, word), as_text(&answer, word))?;
        Ok(exit)
    }

    pub(super) fn explain(&self) -> proto::ExplainRequest {
        let proto::CheckRequest {
            subject,
            permission,
            resource,
            context,
            contextual_tuples,
            consistency,
            ..
        } = self.request();
        proto::ExplainRequest {
            subject,
            permission,
            resource,
            context,
            consistency,
            contextual_tuples,
        }
    }

    fn request(&self) -> proto::CheckRequest {
        proto::CheckRequest {
            subject: self.subject.to_string(),
            permission: self.permission.clone(),
            resource: self.resource.to_string(),
            context: self.context.as_ref().map(to_struct),
            contextual_tuples: self.with_tuple.iter().map(to_tuple).collect(),
            consistency: self.at.message(),
            with_dependencies: false,
        }
    }
}

/// What `check` exits with, and the decision in a word.
pub(super) fn word(answer: &proto::CheckResponse) -> anyhow::Result<(Exit, &'static str)> {
    Ok(match answer.decision() {
        proto::Decision::Allowed => (Exit::Done, "ALLOWED"),
        proto::Decision::Denied => (Exit::No, "DENIED"),
        proto::Decision::Conditional => (Exit::Conditional, "CONDITIONAL"),
        proto::Decision::Unspecified => {
            anyhow::bail!("the server's answer has no decision; is it a newer version?")
        }
    })
}

pub(super) fn as_text(answer: &proto::CheckResponse, word: &str) -> String {
    match answer.detail.as_str() {
        "" => word.to_owned(),
        detail => format!("{word}: {detail}"),
    }
}

pub(super) fn as_json(answer: &proto::CheckResponse, word: &str) -> Value {
    let denied = answer.decision() == proto::Decision::Denied;
    let denial = answer.denial_reason().as_str_name();
    json!({
        "decision": word,
        "revision": answer.revision,
        "denial_reason": denied.then(|| denial.trim_start_matches("DENIAL_REASON_")),
        "missing_context": answer.missing_context,
        "valid_until": answer.valid_until.and_then(|end| timestamp(end).ok()).map(|end| end.to_string()),
        "detail": answer.detail,
    })
}
