//! Requests to watch, and acknowledgements.

use std::sync::Arc;

use super::changes::View;
use super::{Malformed, Problem, token};
use crate::api::proto;
use crate::engine::{Ack, Audience, WatchOptions};
use crate::revision::Token;

/// The most bytes of an id, and types of one stream.
const ID_BYTES: usize = 1_024;
const TYPES: usize = 100;

/// What to stream, and how it is to look.
///
/// # Errors
/// Which field is malformed; a snapshot together with a revision to go on after is.
pub fn changes(
    from: proto::WatchChangesRequest,
    address: String,
) -> Result<(WatchOptions, View), Malformed> {
    let proto::WatchChangesRequest {
        after,
        resource_types,
        invalidations_only,
        snapshot,
        watcher_id,
        after_chain,
    } = from;
    at_most("watcher_id", watcher_id.len(), ID_BYTES, "bytes")?;
    at_most("resource_types", resource_types.len(), TYPES, "types")?;
    let after = match after.as_str() {
        "" => None,
        text => Some(token("after", text)?),
    };
    if snapshot && after.is_some() {
        return Err(Malformed::at("snapshot", Problem::Contradictory("after")));
    }
    if snapshot && invalidations_only {
        let problem = Problem::Contradictory("invalidations_only");
        return Err(Malformed::at("snapshot", problem));
    }
    if after_chain != 0 && after.is_none() {
        let problem = Problem::Missing("the revision that it belongs to");
        return Err(Malformed::at("after", problem));
    }
    let resource_types: Vec<Arc<str>> = resource_types.into_iter().map(Arc::from).collect();
    let view = View {
        audience: match (invalidations_only, watcher_id.is_empty()) {
            (true, _) => Audience::Keys,
            (false, false) => Audience::Cache,
            (false, true) => Audience::Plain,
        },
        resource_types: resource_types.clone(),
    };
    let options = WatchOptions {
        after,
        after_chain: (after_chain != 0).then_some(after_chain),
        snapshot,
        resource_types,
        watcher_id,
        // Callers are not told apart before they have names.
        caller: String::new(),
        address,
    };
    Ok((options, view))
}

fn at_most(
    field: &'static str,
    size: usize,
    limit: usize,
    unit: &'static str,
) -> Result<(), Malformed> {
    match size > limit {
        true => Err(Malformed::at(
            field,
            Problem::TooLarge { size, limit, unit },
        )),
        false => Ok(()),
    }
}

/// An acknowledgement that owns what it says.
#[derive(Debug)]
pub struct OwnedAck {
    watcher_id: String,
    session: Option<String>,
    applied: Token,
}

impl OwnedAck {
    /// The same, borrowed.
    pub fn borrow(&self) -> Ack<'_> {
        Ack {
            caller: "",
            watcher_id: &self.watcher_id,
            session: self.session.as_deref(),
            applied: self.applied,
        }
    }
}

/// What a cache has applied.
///
/// # Errors
/// Which field is malformed or missing.
pub fn ack(from: proto::AckChangesRequest) -> Result<OwnedAck, Malformed> {
    let proto::AckChangesRequest {
        watcher_id,
        revision,
        session,
    } = from;
    if watcher_id.is_empty() {
        let problem = Problem::Missing("the id that the stream was opened with");
        return Err(Malformed::at("watcher_id", problem));
    }
    at_most("watcher_id", watcher_id.len(), ID_BYTES, "bytes")?;
    Ok(OwnedAck {
        watcher_id,
        session: (!session.is_empty()).then_some(session),
        applied: token("revision", &revision)?,
    })
}
