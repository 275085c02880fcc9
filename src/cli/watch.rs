//! `portcullis watch`: a line a change, over restarts of the server.

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::client::Client;
use super::output::Output;
use super::{Exit, changes};
use crate::api::convert::values;
use crate::api::proto;
use crate::api::proto::watch_changes_response::Event;
use crate::api::proto::watch_service_client::WatchServiceClient;
use crate::revision::Token;

/// How long it waits before it tries again: doubled each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Prints each change as it is committed, until it is interrupted.
#[derive(Args, Debug)]
#[command(after_help = "\
portcullis watch                           from now on
portcullis watch --after 1042@9f3ac1       what came since, and then from now on
portcullis watch --type environment --json

It goes on where it was when the server restarts or the connection is cut. The revision in front of
a line is what to give to --after.")]
pub(super) struct Watch {
    /// Begins behind this revision; left out: from now
    #[arg(long, value_name = "REVISION")]
    after: Option<Token>,
    /// Only changes of resources of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
}

impl Watch {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let mut follower = Follower {
            service: WatchServiceClient::new(client.channel()),
            after: self.after.map(|token| token.to_string()),
            chain: 0,
            types: self.types,
            parts: None,
            quiet: None,
            output,
        };
        match client.wait(follower.follow()) {
            Stop::Refused(status) => Err(client.refused(&status)),
            Stop::Output(error) => Err(error),
        }
    }
}

/// Why it does not go on.
enum Stop {
    Refused(Status),
    /// Nobody reads what it prints.
    Output(anyhow::Error),
}

struct Follower {
    service: WatchServiceClient<Channel>,
    /// The last revision that was printed whole, or that the stream began at.
    after: Option<String>,
    /// Its chain; 0 where it is not known.
    chain: u64,
    types: Vec<String>,
    /// A commit of which more parts are to come.
    parts: Option<proto::Commit>,
    /// Longer than this no stream is silent; `None` before there was one.
    quiet: Option<Duration>,
    output: Output,
}

impl Follower {
    async fn follow(&mut self) -> Stop {
        let mut wait = FIRST_WAIT;
        loop {
            let lost = match self.stream(&mut wait).await {
                Ok(lost) => lost,
                Err(stop) => return stop,
            };
            self.parts = None;
            let pause = jittered(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            let after = self.after.as_deref().unwrap_or_default();
            eprintln!("{}; goes on after {after} in {pause:.1?}", told(&lost));
            tokio::time::sleep(pause).await;
        }
    }

    /// Prints a stream until it is lost.
    async fn stream(&mut self, wait: &mut Duration) -> Result<Status, Stop> {
        let request = proto::WatchChangesRequest {
            after: self.after.clone().unwrap_or_default(),
            after_chain: self.chain,
            resource_types: self.types.clone(),
            ..proto::WatchChangesRequest::default()
        };
        let mut stream = match self.service.watch_changes(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return self.lost(status),
        };
        loop {
            match self.next(&mut stream).await {
                Ok(event) => {
                    *wait = FIRST_WAIT;
                    self.take(event).map_err(Stop::Output)?;
                }
                Err(status) => return self.lost(status),
            }
        }
    }

    /// What is worth another try once there was a stream: all that a restart can cause.
    fn lost(&self, status: Status) -> Result<Status, Stop> {
        let code = status.code();
        let passes = matches!(
            code,
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal
        );
        match self.quiet.is_some() && (passes || code == Code::ResourceExhausted) {
            true => Ok(status),
            false => Err(Stop::Refused(status)),
        }
    }

    async fn next(
        &self,
        stream: &mut Streaming<proto::WatchChangesResponse>,
    ) -> Result<Event, Status> {
        let ended = || Status::unavailable("the stream ended");
        let message = match self.quiet {
            None => stream.message().await?,
            Some(quiet) => match tokio::time::timeout(quiet, stream.message()).await {
                Ok(message) => message?,
                Err(_) => return Err(Status::unavailable("the server is silent")),
            },
        };
        message.ok_or_else(ended)?.event.ok_or_else(ended)
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Hello(hello) => {
                let every = hello.heartbeat_interval.map(values::duration).transpose()?;
                self.quiet = Some(every.unwrap_or(LONGEST_WAIT) * 3);
                if self.after.is_none() {
                    self.after = Some(hello.revision);
                    self.chain = hello.chain;
                }
                Ok(())
            }
            Event::Reset(reset) => self.reset(&reset),
            Event::Commit(part) => self.part(part),
            Event::Snapshot(_) | Event::Heartbeat(_) => Ok(()),
        }
    }

    fn reset(&mut self, reset: &proto::Reset) -> anyhow::Result<()> {
        let word = match reset.cause() {
            proto::reset::Cause::Trimmed => "what followed is no longer kept",
            proto::reset::Cause::Ahead => "the log does not reach so far",
            proto::reset::Cause::Epoch => "it is of another store",
            proto::reset::Cause::History => "the log has another history",
            proto::reset::Cause::Unspecified => "the server does not say why",
        };
        let old = self.after.replace(reset.revision.clone());
        let old = old.unwrap_or_default();
        self.chain = 0;
        let value = json!({
            "reset": reset.cause().as_str_name(),
            "after": old,
            "revision": reset.revision,
        });
        let text = format!(
            "reset: can't go on after {old} ({word}); from {} on",
            reset.revision
        );
        self.output.give(&value, text)
    }

    /// Prints a commit once all of it is there.
    fn part(&mut self, part: proto::Commit) -> anyhow::Result<()> {
        let more = part.more;
        let commit = match self.parts.take() {
            None => part,
            Some(mut commit) => {
                commit.changes.extend(part.changes);
                commit
            }
        };
        if more {
            self.parts = Some(commit);
            return Ok(());
        }
        let around = Around::of(&commit);
        for change in commit.changes {
            around.give(change, self.output)?;
        }
        self.after = Some(commit.revision);
        self.chain = commit.chain;
        Ok(())
    }
}

/// What all changes of a commit have in common.
struct Around {
    revision: String,
    time: String,
    actor: String,
    reason: String,
    metadata: Value,
}

impl Around {
    fn of(commit: &proto::Commit) -> Self {
        let time = commit
            .committed_at
            .and_then(|at| values::timestamp(at).ok());
        let metadata = commit.metadata.clone().map(values::context);
        Self {
            revision: commit.revision.clone(),
            time: time.map_or_else(String::new, |time| time.to_string()),
            actor: commit.actor.clone(),
            reason: commit.reason.clone(),
            metadata: match metadata {
                Some(Ok(metadata)) => Value::Object(metadata),
                _ => Value::Null,
            },
        }
    }

    fn give(&self, change: proto::Change, output: Output) -> anyhow::Result<()> {
        let told = changes::tell(change)?;
        let mut value = json!({
            "revision": self.revision,
            "committed_at": self.time,
            "actor": self.actor,
            "reason": self.reason,
            "metadata": self.metadata,
            "change": told.what,
        });
        if let Value::Object(fields) = &mut value {
            fields.extend(told.fields);
        }
        let text = format_args!(
            "{} {} {} {}{self}",
            self.revision, self.time, told.what, told.text
        );
        output.give(&value, text)
    }
}

impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.actor.is_empty() {
            write!(f, " by {}", self.actor)?;
        }
        if self.reason.is_empty() {
            return Ok(());
        }
        // One line, whatever the writer put into it.
        let one_line: String = (self.reason.chars())
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        write!(f, ": {one_line}")
    }
}

/// Between half and all of it, so that not all clients come back at once.
fn jittered(span: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    span.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

/// Why a stream was lost, in a few words.
fn told(status: &Status) -> String {
    let message = status.message();
    match message.split_once(';') {
        Some((first, _)) => first.to_owned(),
        None if message.is_empty() => "the connection was lost".to_owned(),
        None => message.to_owned(),
    }
}
