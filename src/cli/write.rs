//! `portcullis grant` and `portcullis revoke`

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::output::Output;
use super::tuples::turned;
use super::values::{self, Ends};
use super::{Exit, pattern};
use crate::api::convert::to_tuple;
use crate::api::convert::values::to_duration;
use crate::api::proto;
use crate::api::proto::grant_service_client::GrantServiceClient;
use crate::tuple::{Subject, Tuple};

/// Grants: adds tuples, or replaces those that stand.
#[derive(Args, Debug)]
#[command(after_help = "portcullis grant environment:prod#guest@user:bob\n\
                        portcullis grant 'doc:a#viewer@user:bob[office_hours:{\"zone\":\"UTC\"}]'\n\
                        portcullis grant 'doc:a#viewer@group:it#member' --expires 24h --reason 'on call'")]
pub(super) struct Grant {
    /// resource#relation@subject, which may end in [caveat:{json}] and [expiration:TIME]
    #[arg(required = true)]
    tuple: Vec<Tuple>,
    /// When the tuples cease to hold: a span such as 24h, or a time (RFC 3339)
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = Ends::parse)]
    expires: Option<Ends>,
    #[command(flatten)]
    options: Options,
}

/// Revokes: removes tuples, by name or by pattern.
#[derive(Args, Debug)]
#[command(after_help = pattern::SYNTAX)]
#[group(id = "what", required = true, multiple = false, args = ["tuple", "matching"])]
pub(super) struct Revoke {
    /// resource#relation@subject
    tuple: Vec<Tuple>,
    /// Revokes all tuples that match this pattern, instead
    #[arg(long, value_name = "PATTERN", value_parser = selective)]
    matching: Option<proto::TupleFilter>,
    /// Refuses where more tuples than this match; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    #[command(flatten)]
    options: Options,
}

/// What every write may say.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// On whose behalf: judged by the schema's `granted by`, and kept in the log
    #[arg(long = "as", value_name = "SUBJECT", value_parser = values::subject)]
    actor: Option<Subject>,
    /// Why; kept in the log
    #[arg(
        long,
        value_name = "WHY",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    /// A repeat under the same key answers as the first did, and changes nothing
    #[arg(
        long,
        value_name = "KEY",
        default_value = "",
        hide_default_value = true
    )]
    idempotency_key: String,
    /// Says what would come of it, but changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Answers once no cache can answer from before it; at most this long, such as 10s
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    wait_for_watchers: Option<Duration>,
}

impl Options {
    pub(super) fn message(&self) -> proto::WriteOptions {
        proto::WriteOptions {
            actor: self
                .actor
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            reason: self.reason.clone(),
            idempotency_key: self.idempotency_key.clone(),
            dry_run: self.dry_run,
            wait_for_watchers: self.wait_for_watchers.map(to_duration),
            ..proto::WriteOptions::default()
        }
    }

    /// What became of the wait, behind what was done; nothing where none was asked for.
    pub(super) fn waited(of: Option<&proto::Propagation>) -> String {
        match of {
            None => String::new(),
            Some(told) if told.complete => "; no cache answers from before it".to_owned(),
            Some(told) => {
                let laggards = told.laggards.join(", ");
                format!("; these caches may still answer from before it: {laggards}")
            }
        }
    }

    pub(super) fn propagation(of: Option<&proto::Propagation>) -> Value {
        of.map_or(
            Value::Null,
            |told| json!({ "complete": told.complete, "laggards": told.laggards }),
        )
    }

    pub(super) fn verb(&self, done: &'static str) -> String {
        match self.dry_run {
            true => format!("would have {done}"),
            false => done.to_owned(),
        }
    }
}

fn selective(text: &str) -> Result<proto::TupleFilter, String> {
    match text {
        "" => Err("an empty pattern would match every tuple".to_owned()),
        _ => pattern::parse(text),
    }
}

impl Grant {
    pub(super) fn run(mut self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        if let Some(ends) = self.expires {
            let instant = ends.instant();
            for tuple in &mut self.tuple {
                tuple.expires_at.get_or_insert(instant);
            }
        }
        let request = proto::GrantRequest {
            tuples: self.tuple.iter().map(to_tuple).collect(),
            options: Some(self.options.message()),
        };
        let mut service = GrantServiceClient::new(client.channel());
        let answer = client.call(service.grant(request))?.into_inner();
        let value = json!({
            "granted": answer.granted,
            "revision": answer.revision,
            "dry_run": self.options.dry_run,
            "propagation": Options::propagation(answer.propagation.as_ref()),
        });
        let verb = self.options.verb("granted");
        let waited = Options::waited(answer.propagation.as_ref());
        let over = self.over();
        output.give(
            &value,
            format_args!(
                "{verb} {} at revision {}{over}{waited}",
                answer.granted, answer.revision
            ),
        )?;
        Ok(Exit::Done)
    }

    /// What is surely a slip: tuples that hold no more by the time they are granted.
    fn over(&self) -> String {
        let now = values::now();
        let ended = |tuple: &&Tuple| tuple.expires_at.is_some_and(|end| end <= now);
        match self.tuple.iter().filter(ended).count() {
            0 => String::new(),
            count => format!("; {count} of them ended before now and give nothing"),
        }
    }
}

impl Revoke {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let turned = self.matching.as_ref().and_then(turned);
        let request = proto::RevokeRequest {
            tuples: self.tuple.iter().map(to_tuple).collect(),
            filter: self.matching,
            limit: self.limit,
            options: Some(self.options.message()),
        };
        let mut service = GrantServiceClient::new(client.channel());
        let answer = client.call(service.revoke(request))?.into_inner();
        let value = json!({
            "revoked": answer.revoked,
            "revision": answer.revision,
            "dry_run": self.options.dry_run,
            "propagation": Options::propagation(answer.propagation.as_ref()),
        });
        let verb = self.options.verb("revoked");
        let nothing = match answer.revoked {
            0 => ": no such tuple stands",
            _ => "",
        };
        let waited = Options::waited(answer.propagation.as_ref());
        output.give(
            &value,
            format_args!(
                "{verb} {} at revision {}{nothing}{waited}",
                answer.revoked, answer.revision
            ),
        )?;
        if let Some(turned) = turned.filter(|_| answer.revoked == 0) {
            output.note(format_args!(
                "no tuple is of this resource; those that name it as subject go with --matching {turned}"
            ));
        }
        Ok(Exit::Done)
    }
}
