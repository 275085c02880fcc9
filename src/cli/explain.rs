//! `portcullis explain`

use std::io::IsTerminal;

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::check::{Check, as_json, word};
use super::client::Client;
use super::output::Output;
use crate::api::convert::tuple;
use crate::api::proto;
use crate::api::proto::check_service_client::CheckServiceClient;
use crate::api::proto::suggestion::Change;

/// Says why a check answers as it does: for an allow the shortest proof, for a denial what was
/// looked at, and one change that alone would allow it, where there is one.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes are those of `check`.\n\n\
                        portcullis explain user:grace deploy environment:prod")]
pub(super) struct Explain {
    #[command(flatten)]
    check: Check,
}

impl Explain {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let mut service = CheckServiceClient::new(client.channel());
        let request = self.check.explain();
        let explained = client.call(service.explain(request))?.into_inner();
        let answer = explained.response.unwrap_or_default();
        let (exit, word) = word(&answer)?;
        let mut value = as_json(&answer, word);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("root".to_owned(), explained.root.map_or(Value::Null, node));
            fields.insert("suggestion".to_owned(), suggestion(explained.suggestion)?);
            fields.insert("text".to_owned(), json!(explained.text));
        }
        let colors = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let text = match colors {
            true => colored(&explained.text),
            false => explained.text,
        };
        output.document(&value, &text)?;
        Ok(exit)
    }
}

fn node(from: proto::ExplainNode) -> Value {
    let result = from.result().as_str_name().trim_start_matches("DECISION_");
    let texts = from.tuples.into_iter().filter_map(|one| tuple(one).ok());
    let locks = from.locks.iter().map(|lock| lock.lock_id.clone());
    json!({
        "resource": from.resource,
        "permission": from.permission,
        "operator": from.operator,
        "result": result,
        "tuples": texts.map(|tuple| tuple.to_string()).collect::<Vec<_>>(),
        "caveat": (!from.caveat.is_empty()).then_some(from.caveat),
        "missing_context": from.missing_context,
        "locks": locks.collect::<Vec<_>>(),
        "children": from.children.into_iter().map(node).collect::<Vec<_>>(),
    })
}

fn suggestion(from: Option<proto::Suggestion>) -> anyhow::Result<Value> {
    Ok(match from.and_then(|suggestion| suggestion.change) {
        None => Value::Null,
        Some(Change::Grant(granted)) => json!({ "grant": tuple(granted)?.to_string() }),
        Some(Change::Revoke(revoked)) => json!({ "revoke": tuple(revoked)?.to_string() }),
        Some(Change::Unlock(id)) => json!({ "unlock": id }),
        Some(Change::Assign(request)) => json!({ "assign": {
            "role": request.role,
            "subject": request.subject,
            "resource": request.resource,
        } }),
    })
}

/// Green for what holds, red for what does not, yellow for what depends; tuples stand back.
fn colored(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let color = match line.trim_start().chars().next() {
            Some('✓') => "32",
            Some('✗') => "31",
            Some('?') => "33",
            _ if line.starts_with("ALLOWED") => "1;32",
            _ if line.starts_with("DENIED") => "1;31",
            _ if line.starts_with("CONDITIONAL") => "1;33",
            _ if line.starts_with(' ') => "2",
            _ => return format!("{line}\n"),
        };
        format!("\u{1b}[{color}m{line}\u{1b}[0m\n")
    });
    lines.collect()
}
