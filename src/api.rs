//! The gRPC services: each decodes, asks the engine, encodes.

use std::net::SocketAddr;
use std::time::Instant;

use tonic::Request;

pub mod proto;

pub mod convert;

pub mod status;

mod bulk;

pub(crate) mod frames;

mod outbox;

pub mod check;

pub mod grant;

pub mod lock;

pub mod role;

pub mod schema;

pub mod watch;

/// When the caller no longer waits; a layer of the server puts it into the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// Where a request comes from; `None` over a Unix socket. Whoever serves puts it into the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameFrom(pub Option<SocketAddr>);

/// When the caller no longer waits for this request.
fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    request.extensions().get().map(|Deadline(at)| *at)
}
