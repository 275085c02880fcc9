//! The one map from errors to statuses.
//!
//! Hides how an error looks on the wire: its code, `google.rpc.ErrorInfo` with a reason and
//! metadata and, where a field is at fault, `google.rpc.BadRequest` with the field's path.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

mod engine;
mod transport;

pub(crate) use engine::{Shape, check_failure, refusal_reason, write_failure};
pub(crate) use transport::complete;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "portcullis";

/// The most bytes of a message: it travels in a header, percent-encoded and once more in the
/// details, and some clients take no more than 8 KiB of headers by default.
const MAX_MESSAGE_BYTES: usize = 2_000;
/// What a client learns of a defect.
const INTERNAL_MESSAGE: &str = "the server failed on this request; its log says why";
/// The most bytes of one value of the metadata.
const MAX_VALUE_BYTES: usize = 500;

/// A reason as clients see it, and the code that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) name: &'static str,
    pub(crate) code: Code,
}

macro_rules! reasons {
    ($($code:ident: $($name:ident)*;)*) => {
        $($(pub(crate) const $name: Reason = Reason { name: stringify!($name), code: Code::$code };)*)*
        /// All of them.
        pub(crate) const ALL: &[Reason] = &[$($($name),*),*];
    };
}

/// The reasons that this version answers with.
pub(crate) mod reason {
    use super::Reason;
    use tonic::Code;

    reasons! {
        InvalidArgument: MALFORMED_TUPLE MALFORMED_REFERENCE UNKNOWN_TYPE UNKNOWN_RELATION
            UNKNOWN_PERMISSION UNKNOWN_CAVEAT SUBJECT_NOT_ALLOWED SCHEMA_INVALID
            CAVEAT_CONTEXT_INVALID MALFORMED_REVISION MALFORMED_CURSOR MALFORMED_REQUEST
            FILTER_EMPTY DUPLICATE_UPDATE KEY_REUSED GENERATED_RELATION UNKNOWN_LOCK_MODE
            REASON_REQUIRED TTL_INVALID PERMISSION_NOT_INCLUDABLE INVALID_ARGUMENT;
        FailedPrecondition: NO_SCHEMA PRECONDITION_FAILED SCHEMA_WOULD_ORPHAN EPOCH_MISMATCH
            NEGATION_CYCLE CAVEAT_FAILED SCHEMA_CHANGED MINIMUM_VIOLATED REQUIREMENT_NOT_MET
            SEALED ROLE_BUILTIN ROLE_KEY_TAKEN
            FAILED_PRECONDITION;
        AlreadyExists: TUPLE_EXISTS LOCK_EXISTS ROLE_EXISTS ALREADY_EXISTS;
        NotFound: TUPLE_NOT_FOUND LOCK_NOT_FOUND ROLE_NOT_FOUND NOT_FOUND;
        OutOfRange: REVISION_TRIMMED REVISION_AHEAD OUT_OF_RANGE;
        ResourceExhausted: TOO_COMPLEX TOO_LARGE LIMIT_EXCEEDED QUOTA_EXCEEDED OVERLOADED;
        Unavailable: STARTING STORE_FAILED SHUTTING_DOWN UPSTREAM_UNREACHABLE UNAVAILABLE;
        Unauthenticated: UNAUTHENTICATED;
        PermissionDenied: ACTOR_NOT_ALLOWED PERMISSION_DENIED;
        Aborted: ABORTED;
        DataLoss: DATA_LOSS;
        Unknown: UNKNOWN;
        Unimplemented: NOT_IMPLEMENTED;
        DeadlineExceeded: DEADLINE_EXCEEDED;
        Cancelled: CANCELLED;
        Internal: INTERNAL;
    }
}

/// What clients are given as the reason of an error, all of it.
pub(crate) fn reason_names() -> impl Iterator<Item = &'static str> {
    reason::ALL.iter().map(|reason| reason.name)
}

/// An error on its way to the wire.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    reason: Reason,
    message: String,
    field: Option<String>,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            field: None,
            metadata: Vec::new(),
            retry_after: None,
        }
    }

    /// With another message.
    pub(crate) fn saying(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// The path of the field that is at fault.
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same, where a field is at fault.
    pub(crate) fn at_some(self, field: Option<String>) -> Self {
        match field {
            Some(field) => self.at(field),
            None => self,
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give numbers and references to text alike"
    )]
    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    pub(crate) fn with_some(self, key: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// The same error, with words in front that say what it is about.
    pub(crate) fn after(mut self, words: &str) -> Self {
        self.message.insert_str(0, words);
        self
    }

    pub(crate) fn retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.reason.name
    }
}

/// What is answered once the caller's deadline has passed.
pub(crate) fn deadline_exceeded() -> Status {
    let message = "the deadline passed before the answer was there; a write may stand or not";
    Failure::new(reason::DEADLINE_EXCEEDED, message).into()
}

/// What is answered before the engine stands.
pub(crate) fn starting() -> Status {
    let message = "the server is starting and still loads its data; try again";
    Failure::new(reason::STARTING, message).into()
}

/// What is answered where the server itself is at fault; the log has the rest.
pub(crate) fn internal() -> Status {
    Failure::new(reason::INTERNAL, INTERNAL_MESSAGE).into()
}

/// A write that did not come to pass, and its line in the log.
pub(crate) fn write_refused(failure: Failure, method: &'static str, actor: &str) -> Status {
    let reason = failure.reason.name;
    let message = shortened(failure.message.clone(), MAX_MESSAGE_BYTES);
    let field = failure.field.as_deref().unwrap_or_default();
    tracing::info!(method, reason, actor, field, "write refused: {message}");
    failure.into()
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let Failure {
            reason,
            message,
            field,
            metadata,
            retry_after,
        } = failure;
        let message = shortened(message, MAX_MESSAGE_BYTES);
        let metadata: Vec<_> = metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), shortened(value, MAX_VALUE_BYTES)))
            .collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(
            reason.name,
            DOMAIN,
            metadata
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some(field) = field {
            // The message stands in the status already; twice it would not fit small headers.
            let description = shortened(message.clone(), MAX_VALUE_BYTES);
            details.add_bad_request_violation(shortened(field, MAX_VALUE_BYTES), description);
        }
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Self::with_error_details(reason.code, message, details)
    }
}

fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    #[test]
    fn a_failure_becomes_a_status_with_details() {
        let failure = Failure::new(reason::UNKNOWN_TYPE, "no type \"usr\"")
            .at("updates[3].tuple.subject")
            .with("nearest", "user")
            .retry_after(Duration::from_secs(3));
        let status = Status::from(failure);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("UNKNOWN_TYPE", DOMAIN)
        );
        assert_eq!(info.metadata["nearest"], "user");
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "updates[3].tuple.subject");
        let retry = details.retry_info().unwrap().retry_delay;
        assert_eq!(retry, Some(Duration::from_secs(3)));
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let status = Status::from(Failure::new(reason::INTERNAL, "ä".repeat(5_000)));
        assert!(status.message().len() <= MAX_MESSAGE_BYTES + "…".len());
        assert!(status.message().ends_with("ä…"));
    }

    #[test]
    fn reasons_are_named_once() {
        let mut names: Vec<_> = reason::ALL.iter().map(|reason| reason.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
