//! What came back from upstream.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use super::clock::Moment;
use super::entry::{Asked, Entry};
use super::wire;
use crate::api::proto;
use crate::api::status::{Failure, reason};
use crate::revision::{Epoch, Token};

/// The most keys of an answer that is kept.
const MOST_KEYS: usize = 256;

/// An answer of the server.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// As it came.
    pub(super) message: Bytes,
    /// What it was evaluated at.
    pub(super) at: Token,
    /// What may be given again; `None` where it can't.
    pub(super) entry: Option<Arc<Entry>>,
}

impl Reply {
    /// Reads an answer to what was `asked` of a generation of `epoch`.
    pub(super) fn read(message: Bytes, asked: Asked, epoch: Option<Epoch>) -> Result<Self, Status> {
        let response = proto::CheckResponse::decode(message.clone()).map_err(|_| strange())?;
        let at: Token = response.revision.parse().map_err(|_| strange())?;
        let entry = match epoch == Some(at.epoch) {
            true => entry(&response, &message, at, asked),
            false => None,
        };
        Ok(Self { message, at, entry })
    }
}

/// What is kept of a response; `None` where it says too little to be kept.
pub(super) fn entry(
    response: &proto::CheckResponse,
    message: &[u8],
    at: Token,
    asked: Asked,
) -> Option<Arc<Entry>> {
    let is_said = response.decision() != proto::Decision::Unspecified;
    if response.uncacheable || !is_said || response.dependencies.len() > MOST_KEYS {
        return None;
    }
    let end = match (response.valid_for, response.valid_until) {
        (Some(span), _) => asked.at.plus(span.try_into().ok()?),
        (None, None) => Moment::NEVER,
        // By the server's clock, which is not ours.
        (None, Some(_)) => return None,
    };
    Some(Arc::new(Entry {
        asked,
        revision: at.revision,
        end,
        keys: response.dependencies.as_slice().into(),
        body: wire::kept(message)?,
    }))
}

/// What the server said makes no sense.
pub(super) fn strange() -> Status {
    let message = "the server sent the sidecar an answer that it can't read";
    Failure::new(reason::INTERNAL, message).into()
}
