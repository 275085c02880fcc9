//! The gRPC services: each decodes, asks the engine, encodes.

use std::time::Instant;

use tonic::Request;

pub mod proto;

pub mod convert;

pub mod status;

mod bulk;

pub mod check;

pub mod grant;

pub mod lock;

pub mod role;

pub mod schema;

pub mod watch;

/// When the caller no longer waits; a layer of the server puts it into the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// When the caller no longer waits for this request.
fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    let deadline = request.extensions().get::<Deadline>();
    deadline.map(|deadline| deadline.0)
}
