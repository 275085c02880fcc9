//! The server at the other end, and how its errors read: what, where, why, what to do.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use super::{At, Usage};
use crate::api::proto;

/// Where a server listens unless something else was said.
pub(super) const DEFAULT: &str = "http://127.0.0.1:50051";

/// A connection, made when the first call needs it.
pub(super) struct Client {
    server: String,
    endpoint: Endpoint,
    channel: Channel,
    runtime: Runtime,
}

impl Client {
    pub(super) fn new(server: &str) -> anyhow::Result<Self> {
        let known = ["http://", "unix:"]
            .iter()
            .any(|scheme| server.starts_with(scheme));
        if !known {
            let meant = match server.contains("://") {
                true => "; there is no TLS yet",
                false => ", such as http://127.0.0.1:50051",
            };
            let problem =
                format!("--server {server:?} is neither http://HOST:PORT nor unix:PATH{meant}");
            return Err(Usage(problem).into());
        }
        let endpoint = Endpoint::from_shared(server.to_owned())
            .map_err(|error| Usage(format!("--server {server:?}: {error}")))?
            .connect_timeout(Duration::from_secs(5));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self {
            server: server.to_owned(),
            endpoint,
            channel,
            runtime,
        })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where the server is, as it was said.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// A connection of its own, within the runtime of whoever wants it.
    pub(super) fn connect(&self) -> Channel {
        self.endpoint.connect_lazy()
    }

    /// Makes a call and waits for it.
    pub(super) fn call<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> anyhow::Result<T> {
        let answer = self.wait(call);
        answer.map_err(|status| self.refused(&status))
    }

    /// Waits for what it makes of several calls.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// What the server refused, or why it did not answer.
    pub(super) fn refused(&self, status: &Status) -> anyhow::Error {
        Refused::new(status, &self.server).into()
    }
}

impl At {
    pub(super) fn message(&self) -> Option<proto::Consistency> {
        use proto::consistency::Requirement;
        let requirement = match (self.at_least, self.exactly, self.full) {
            (Some(token), _, _) => Requirement::AtLeast(token.to_string()),
            (_, Some(token), _) => Requirement::Exactly(token.to_string()),
            (_, _, true) => Requirement::Full(true),
            (None, None, false) => return None,
        };
        Some(proto::Consistency {
            requirement: Some(requirement),
        })
    }
}

/// An error that the server answered with, or why it did not answer.
#[derive(Debug)]
pub(super) struct Refused {
    message: String,
    code: &'static str,
    reason: Option<String>,
    fields: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
    hint: Option<String>,
}

impl Refused {
    fn new(status: &Status, server: &str) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let mut metadata: Vec<_> = info
            .map(|info| info.metadata.clone().into_iter().collect())
            .unwrap_or_default();
        metadata.sort();
        let fields = details
            .bad_request()
            .map(|bad| bad.field_violations.clone());
        let reason = info.map(|info| info.reason.clone());
        let unreached = reason.is_none() && status.code() == tonic::Code::Unavailable;
        Self {
            message: match unreached {
                true => format!("no server answers at {server}"),
                false => status.message().to_owned(),
            },
            code: code_name(status.code()),
            hint: match unreached {
                true => Some(
                    "start one with `portcullis serve`, or name another with --server".to_owned(),
                ),
                false => reason.as_deref().and_then(hint).map(str::to_owned),
            },
            reason,
            fields: (fields.unwrap_or_default().into_iter())
                .map(|violation| (violation.field, violation.description))
                .collect(),
            metadata,
        }
    }

    /// What the server said, in one line.
    pub(super) fn told(&self) -> &str {
        &self.message
    }

    /// The path of the field at fault.
    pub(super) fn field(&self) -> Option<&str> {
        self.fields.first().map(|(field, _)| field.as_str())
    }

    /// What the error says of itself.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        let found = self.metadata.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        let fields: Vec<Value> = (self.fields.iter())
            .map(|(field, description)| json!({ "field": field, "description": description }))
            .collect();
        let metadata: Map<String, Value> = (self.metadata.iter())
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        json!({
            "message": self.message,
            "code": self.code,
            "reason": self.reason,
            "fields": fields,
            "metadata": metadata,
            "hint": self.hint,
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.message)?;
        for (field, description) in &self.fields {
            match self.message.contains(description.as_str()) {
                true => writeln!(f, "  where:  {field}")?,
                false => writeln!(f, "  where:  {field}: {description}")?,
            }
        }
        match &self.reason {
            Some(reason) => writeln!(f, "  reason: {reason} ({})", self.code)?,
            None => writeln!(f, "  reason: {}", self.code)?,
        }
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| writeln!(f, "  hint:   {hint}"))
    }
}

impl std::error::Error for Refused {}

fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What the caller of the command line can do, where the message alone does not say it.
fn hint(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "NO_SCHEMA" => "write one: portcullis schema write FILE",
        "UNKNOWN_TYPE"
        | "UNKNOWN_RELATION"
        | "UNKNOWN_PERMISSION"
        | "UNKNOWN_CAVEAT"
        | "SUBJECT_NOT_ALLOWED" => "what there is: portcullis schema read",
        "SCHEMA_INVALID" => "try it without the server: portcullis schema check FILE",
        "SCHEMA_WOULD_ORPHAN" => "revoke those tuples first: portcullis revoke --matching PATTERN",
        "SCHEMA_CHANGED" => {
            "somebody wrote another since; read it and merge: portcullis schema read"
        }
        "CAVEAT_CONTEXT_INVALID" => "the parameters and their types: portcullis schema read",
        "LOCK_NOT_FOUND" => "the locks that are held, and their ids: portcullis locks",
        "REASON_REQUIRED" => "say it with --reason 'release 4.2'",
        "ROLE_NOT_FOUND" => "the roles of an owner: portcullis roles list OWNER",
        "LIMIT_EXCEEDED" => "look at what matches: portcullis tuples PATTERN",
        "KEY_REUSED" => "an idempotency key belongs to one request; take a new one",
        "REVISION_TRIMMED" | "EPOCH_MISMATCH" => "leave the revision out to read the newest",
        "STORE_FAILED" => "see the server's log; it takes no writes until it is started again",
        "REVISION_AHEAD" => {
            "was it another server that answered with it? Leave it out to read the newest"
        }
        "UPSTREAM_UNREACHABLE" => "start the server that the sidecar's --upstream names",
        "STARTING" | "OVERLOADED" => "try again in a moment",
        _ => return None,
    })
}
