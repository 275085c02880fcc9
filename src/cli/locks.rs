//! `portcullis lock`, `unlock` and `locks`

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::output::Output;
use super::write::Options;
use super::{At, Exit, known, values};
use crate::api::convert::values::{timestamp, to_duration};
use crate::api::proto;
use crate::api::proto::lock_service_client::LockServiceClient;
use crate::tuple::{Object, Subject};

/// Places a lock.
#[derive(Args, Debug)]
#[command(
    override_usage = "portcullis lock [OPTIONS] --reason <WHY> <RESOURCE> <MODE>",
    after_help = "portcullis lock environment:prod freeze --reason 'release 4.2'\n\
                        portcullis lock environment:prod freeze --reason audit --ttl 2h \
                        --exempt group:oncall#member --as user:alice"
)]
pub(super) struct Lock {
    /// What is locked: type:id
    #[arg(value_parser = values::object)]
    resource: Object,
    /// A `lock` of the resource's type
    mode: String,
    /// How long it is held, such as 2h; until it is unlocked where this is left out
    #[arg(
        long,
        alias = "expires",
        value_name = "SPAN",
        allow_hyphen_values = true,
        value_parser = values::span
    )]
    ttl: Option<Duration>,
    /// Whom it does not touch, beside the mode's `except` (may be given several times)
    #[arg(long, value_name = "SUBJECT", value_parser = values::subject)]
    exempt: Vec<Subject>,
    /// An id of your own: the same again is the same lock
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    id: String,
    #[command(flatten)]
    options: Options,
}

/// Lifts a lock.
#[derive(Args, Debug)]
pub(super) struct Unlock {
    /// The lock's id, as `lock`, `locks` and denied checks show it
    id: String,
    #[command(flatten)]
    options: Options,
}

/// Gives a lock a new end.
#[derive(Args, Debug)]
pub(super) struct Renew {
    /// The lock's id
    id: String,
    /// How long from now, such as 2h; until it is unlocked where this is left out
    #[arg(
        long,
        alias = "expires",
        value_name = "SPAN",
        allow_hyphen_values = true,
        value_parser = values::span
    )]
    ttl: Option<Duration>,
    #[command(flatten)]
    options: Options,
}

/// Lists the locks that are held.
#[derive(Args, Debug)]
pub(super) struct Locks {
    /// Those on this resource; all where it is left out
    #[arg(value_parser = values::object)]
    resource: Option<Object>,
    /// Also those that arrive there from what it belongs to
    #[arg(long, requires = "resource")]
    inherited: bool,
    #[command(flatten)]
    at: At,
}

impl Lock {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = proto::LockRequest {
            resource: self.resource.to_string(),
            mode: self.mode,
            exempt: self.exempt.iter().map(ToString::to_string).collect(),
            ttl: self.ttl.map(to_duration),
            lock_id: self.id,
            options: Some(self.options.message()),
        };
        let mut service = LockServiceClient::new(client.channel());
        let answer = client.call(service.lock(request))?.into_inner();
        let verb = self.options.verb("locked");
        let lock = answer.lock.unwrap_or_default();
        give(
            &verb,
            &lock,
            (&answer.revision, answer.propagation.as_ref()),
            output,
        )?;
        known::ask_about(client, &self.resource, output);
        Ok(Exit::Done)
    }
}

impl Unlock {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = proto::UnlockRequest {
            lock_id: self.id,
            options: Some(self.options.message()),
        };
        let mut service = LockServiceClient::new(client.channel());
        let answer = client.call(service.unlock(request))?.into_inner();
        let verb = self.options.verb("unlocked");
        let lock = answer.lock.unwrap_or_default();
        give(
            &verb,
            &lock,
            (&answer.revision, answer.propagation.as_ref()),
            output,
        )
    }
}

impl Renew {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let request = proto::RenewLockRequest {
            lock_id: self.id,
            ttl: self.ttl.map(to_duration),
            options: Some(self.options.message()),
        };
        let mut service = LockServiceClient::new(client.channel());
        let answer = client.call(service.renew_lock(request))?.into_inner();
        let verb = self.options.verb("renewed");
        let lock = answer.lock.unwrap_or_default();
        give(
            &verb,
            &lock,
            (&answer.revision, answer.propagation.as_ref()),
            output,
        )
    }
}

impl Locks {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let here = self.resource.is_some() && !self.inherited;
        let request = proto::ListLocksRequest {
            resource: self.resource.map_or_else(String::new, |on| on.to_string()),
            inherited: self.inherited,
            consistency: self.at.message(),
        };
        let mut service = LockServiceClient::new(client.channel());
        let mut rows = client.call(service.list_locks(request))?.into_inner();
        let mut found = false;
        while let Some(row) = client.call(rows.message())? {
            found = true;
            let lock = row.lock.unwrap_or_default();
            output.give(&as_json(&lock, &row.revision), as_text(&lock))?;
        }
        if here && !found {
            output.note("no lock sits there; --inherited shows those that arrive from elsewhere");
        }
        Ok(Exit::Done)
    }
}

fn give(
    verb: &str,
    lock: &proto::HeldLock,
    (revision, propagation): (&str, Option<&proto::Propagation>),
    output: Output,
) -> anyhow::Result<Exit> {
    let waited = Options::waited(propagation);
    let mut value = as_json(lock, revision);
    if let Some(fields) = value.as_object_mut() {
        let propagation = Options::propagation(propagation);
        fields.insert("propagation".to_owned(), propagation);
    }
    output.give(&value, format_args!("{verb} {}{waited}", as_text(lock)))?;
    Ok(Exit::Done)
}

fn instant(at: Option<prost_types::Timestamp>) -> Option<String> {
    at.and_then(|at| timestamp(at).ok())
        .map(|at| at.to_string())
}

fn as_text(lock: &proto::HeldLock) -> String {
    let mut text = format!("{} {} {}", lock.lock_id, lock.mode, lock.resource);
    if let Some(end) = instant(lock.expires_at) {
        let _ = write!(text, " until {end}");
    }
    if !lock.actor.is_empty() {
        let _ = write!(text, " by {}", lock.actor);
    }
    if !lock.exempt.is_empty() {
        let _ = write!(text, " (but for {})", lock.exempt.join(", "));
    }
    format!("{text}: {}", lock.reason)
}

fn as_json(lock: &proto::HeldLock, revision: &str) -> Value {
    json!({
        "lock_id": lock.lock_id,
        "resource": lock.resource,
        "mode": lock.mode,
        "exempt": lock.exempt,
        "actor": lock.actor,
        "reason": lock.reason,
        "created_at": instant(lock.created_at),
        "expires_at": instant(lock.expires_at),
        "fencing_token": lock.fencing_token,
        "revision": revision,
    })
}
