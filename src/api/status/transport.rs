//! What tonic itself answers, in the form of all other errors.

use http::HeaderMap;
use tonic::{Code, Status};

use super::{Failure, Reason, reason};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";

/// How tonic's messages begin where it can't take a request, and what they mean to a client.
/// Its codes say INTERNAL or OUT_OF_RANGE, as if the server were at fault or a range.
const REQUEST_FAULTS: &[(Code, &str, Reason)] = &[
    (
        Code::OutOfRange,
        "Error, decoded message length too large",
        reason::TOO_LARGE,
    ),
    (
        Code::ResourceExhausted,
        "Error decompressing: size limit",
        reason::TOO_LARGE,
    ),
    (
        Code::Internal,
        "failed to decode Protobuf message",
        reason::MALFORMED_REQUEST,
    ),
    (
        Code::Internal,
        "protocol error: received message with",
        reason::MALFORMED_REQUEST,
    ),
    (
        Code::Internal,
        "Error decompressing",
        reason::MALFORMED_REQUEST,
    ),
    (
        Code::Internal,
        "Unexpected EOF decoding stream",
        reason::MALFORMED_REQUEST,
    ),
    (
        Code::Internal,
        "Missing request message",
        reason::MALFORMED_REQUEST,
    ),
    (
        Code::Cancelled,
        "Timeout expired",
        reason::DEADLINE_EXCEEDED,
    ),
];

/// Gives `headers` (or trailers) that hold an error without details the form of section 10.
pub(crate) fn complete(headers: &mut HeaderMap, path: &str) {
    let bare = |status: &http::HeaderValue| status != "0";
    if headers.contains_key(DETAILS) || !headers.get(STATUS).is_some_and(bare) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let failure = failure_of(&status, path);
    for name in [STATUS, MESSAGE, DETAILS] {
        headers.remove(name);
    }
    if Status::from(failure).add_header(headers).is_err() {
        headers.insert(STATUS, http::HeaderValue::from_static("13"));
    }
}

fn failure_of(status: &Status, path: &str) -> Failure {
    let (code, message) = (status.code(), status.message());
    let fault = REQUEST_FAULTS
        .iter()
        .find(|(of, start, _)| *of == code && message.starts_with(start));
    match fault {
        Some((_, _, reason)) => Failure::new(*reason, message),
        None if code == Code::Unimplemented && message.is_empty() => Failure::new(
            reason::NOT_IMPLEMENTED,
            format!("there is no method {path}"),
        ),
        None => Failure::new(reason_of(code), message),
    }
}

/// The code's own name.
fn reason_of(code: Code) -> Reason {
    match code {
        Code::Cancelled => reason::CANCELLED,
        Code::InvalidArgument => reason::INVALID_ARGUMENT,
        Code::DeadlineExceeded => reason::DEADLINE_EXCEEDED,
        Code::NotFound => reason::NOT_FOUND,
        Code::AlreadyExists => reason::ALREADY_EXISTS,
        Code::PermissionDenied => reason::PERMISSION_DENIED,
        Code::ResourceExhausted => reason::OVERLOADED,
        Code::FailedPrecondition => reason::FAILED_PRECONDITION,
        Code::Aborted => reason::ABORTED,
        Code::OutOfRange => reason::OUT_OF_RANGE,
        Code::Unimplemented => reason::NOT_IMPLEMENTED,
        Code::Unavailable => reason::UNAVAILABLE,
        Code::DataLoss => reason::DATA_LOSS,
        Code::Unauthenticated => reason::UNAUTHENTICATED,
        Code::Unknown => reason::UNKNOWN,
        Code::Internal | Code::Ok => reason::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use tonic_types::StatusExt as _;

    use super::*;

    fn check(status: &Status, code: Code, reason: Option<&str>) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        complete(&mut headers, "/a.B/C");
        let seen = Status::from_header_map(&headers).unwrap();
        assert_eq!(seen.code(), code, "{status:?}");
        let info = seen.get_error_details();
        let seen = info.error_info().map(|info| info.reason.as_str());
        assert_eq!(seen, reason, "{status:?}");
    }

    #[test]
    fn bare_statuses_get_details() {
        let size = "Error, decoded message length too large: found 9 bytes";
        let proto = "failed to decode Protobuf message: buffer underflow";
        let cases = [
            (
                Status::out_of_range(size),
                Code::ResourceExhausted,
                "TOO_LARGE",
            ),
            (
                Status::internal(proto),
                Code::InvalidArgument,
                "MALFORMED_REQUEST",
            ),
            (Status::internal("boom"), Code::Internal, "INTERNAL"),
            (
                Status::unimplemented(""),
                Code::Unimplemented,
                "NOT_IMPLEMENTED",
            ),
            (Status::not_found("x"), Code::NotFound, "NOT_FOUND"),
            (
                Status::cancelled("Timeout expired"),
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
            ),
            (Status::cancelled("client"), Code::Cancelled, "CANCELLED"),
        ];
        for (status, code, reason) in cases {
            check(&status, code, Some(reason));
        }
        check(&Status::ok(""), Code::Ok, None);
        let ours = Status::from(Failure::new(reason::NO_SCHEMA, "no schema"));
        check(&ours, Code::FailedPrecondition, Some("NO_SCHEMA"));
    }
}
