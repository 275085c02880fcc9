//! What a stream of changes says, as messages.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{to_tuple, values};
use crate::api::proto;
use crate::api::proto::watch_changes_response::Event;
use crate::engine::{
    Acknowledged, Audience, Engine, Hello, LiveCommit, ResetCause, SnapshotPiece, Watcher,
};
use crate::revision::Token;
use crate::schema::Schema;
use crate::state::locks::HeldLock;
use crate::state::roles::RoleRecord;
use crate::state::{Change, State};
use crate::time::Timestamp;

/// A commit whose message would be larger goes out in parts.
const PART_BYTES: usize = 1 << 20;
/// Tag and length of one item of a message.
const AROUND: usize = 6;
/// With more keys than this everything is invalidated.
const MOST_KEYS: usize = 100_000;

/// What of a commit a stream shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Changes, keys, or both.
    pub audience: Audience,
    /// Changes of resources of these types alone; all where it is empty. Changes that are of no
    /// one type, such as a new schema, always show.
    pub resource_types: Vec<Arc<str>>,
}

impl View {
    fn shows(&self, change: &Change) -> bool {
        let resource = match change {
            Change::Granted(tuple) | Change::Revoked(tuple) | Change::Expired(tuple) => {
                tuple.resource.as_ref()
            }
            Change::Locked(lock) | Change::Unlocked(lock) | Change::LockExpired(lock) => {
                lock.resource.as_ref()
            }
            Change::Schema(_) | Change::RoleWritten(_) | Change::RoleDeleted(_) => return true,
        };
        let types = &self.resource_types;
        types.is_empty() || types.iter().any(|kind| **kind == *resource.kind())
    }
}

/// The encoded messages of a commit, one or several parts of it. Made once for all streams that
/// show all of it.
pub fn commit(live: &LiveCommit, view: &View, engine: &Engine) -> Arc<[Bytes]> {
    let encode = |live: &LiveCommit| encoded(parts(live, view, engine));
    match view.resource_types.is_empty() || view.audience == Audience::Keys {
        true => live.encoded(view.audience, encode),
        false => encode(live).into(),
    }
}

fn encoded(parts: Vec<proto::Commit>) -> Vec<Bytes> {
    let encode = |part| {
        let event = Some(Event::Commit(part));
        Bytes::from(proto::WatchChangesResponse { event }.encode_to_vec())
    };
    parts.into_iter().map(encode).collect()
}

/// The first part has all keys and the metadata, each part who, when and why.
fn parts(live: &LiveCommit, view: &View, engine: &Engine) -> Vec<proto::Commit> {
    let commit = &live.commit;
    let every = proto::Commit {
        revision: engine.token_of(commit.revision).to_string(),
        committed_at: Some(values::to_timestamp(commit.time)),
        actor: (commit.actor.as_ref()).map_or_else(String::new, ToString::to_string),
        reason: commit.reason.clone(),
        chain: live.position.chain,
        ack_now: live.ack_now,
        ..proto::Commit::default()
    };
    let mut part = proto::Commit {
        metadata: commit.metadata.as_deref().map(values::to_struct),
        ..every.clone()
    };
    if view.audience != Audience::Plain {
        let keys = engine.invalidated(&commit.changes);
        let keys = keys.filter(|keys| keys.len() <= MOST_KEYS);
        part.invalidate_all = keys.is_none();
        part.invalidations = keys.unwrap_or_default();
    }
    let shown = (commit.changes.iter())
        .filter(|change| view.audience != Audience::Keys && view.shows(change));
    let mut parts = Vec::new();
    let mut size = part.encoded_len();
    let schema = engine.newest_schema();
    for change in shown.map(|shown| change(shown, schema.as_deref())) {
        let more = change.encoded_len() + AROUND;
        if size + more > PART_BYTES && size > every.encoded_len() {
            parts.push(proto::Commit { more: true, ..part });
            part = every.clone();
            size = part.encoded_len();
        }
        size += more;
        part.changes.push(change);
    }
    parts.push(part);
    parts
}

fn change(from: &Change, schema: Option<&Schema>) -> proto::Change {
    use proto::change::Change as To;
    let to = match from {
        Change::Granted(tuple) => To::Granted(to_tuple(tuple)),
        Change::Revoked(tuple) => To::Revoked(to_tuple(tuple)),
        Change::Expired(tuple) => To::Expired(to_tuple(tuple)),
        Change::Schema(text) => To::Schema(text.to_string()),
        Change::Locked(lock) => To::Locked(held_lock(lock)),
        Change::Unlocked(lock) => To::Unlocked(held_lock(lock)),
        Change::LockExpired(lock) => To::LockExpired(held_lock(lock)),
        Change::RoleWritten(record) => To::RoleWritten(role(record, schema)),
        Change::RoleDeleted(role) => To::RoleDeleted(role.to_string()),
    };
    proto::Change { change: Some(to) }
}

/// A lock.
pub fn held_lock(from: &HeldLock) -> proto::HeldLock {
    let HeldLock {
        id,
        resource,
        mode,
        exempt,
        actor,
        reason,
        created_at,
        expires_at,
        fencing_token,
    } = from;
    proto::HeldLock {
        lock_id: id.to_string(),
        resource: resource.to_string(),
        mode: mode.to_string(),
        exempt: exempt.iter().map(ToString::to_string).collect(),
        actor: (actor.as_ref()).map_or_else(String::new, ToString::to_string),
        reason: reason.to_string(),
        created_at: Some(values::to_timestamp(*created_at)),
        expires_at: expires_at.map(values::to_timestamp),
        fencing_token: *fencing_token,
    }
}

/// A role; the schema says whether it is one of its own.
pub fn role(from: &RoleRecord, schema: Option<&Schema>) -> proto::Role {
    let RoleRecord {
        role,
        owner,
        title,
        permissions,
    } = from;
    let blocks = schema.into_iter().flat_map(|schema| &schema.roles);
    let mut block = blocks.filter(|block| *block.name == *role.block());
    let builtin = block.any(|block| block.builtins.iter().any(|b| *b.name == *role.key()));
    proto::Role {
        role: role.to_string(),
        owner: owner.to_string(),
        title: title.to_string(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        builtin,
    }
}

/// How a stream begins.
pub fn hello(from: Hello) -> proto::Hello {
    let Hello {
        token,
        chain,
        oldest,
        heartbeat,
        lease,
        session,
        key_version,
    } = from;
    proto::Hello {
        revision: token.to_string(),
        oldest: oldest.to_string(),
        heartbeat_interval: Some(values::to_duration(heartbeat)),
        lease: Some(values::to_duration(lease)),
        chain,
        session,
        key_version,
    }
}

/// A part of a snapshot, in as many messages as it takes.
pub fn snapshot(from: SnapshotPiece) -> Vec<proto::SnapshotChunk> {
    let SnapshotPiece {
        state,
        is_first,
        is_last,
        tuples,
    } = from;
    let empty = || proto::SnapshotChunk {
        revision: state.token().to_string(),
        ..proto::SnapshotChunk::default()
    };
    let mut chunks = Vec::new();
    let mut chunk = empty();
    if is_first {
        let schema = state.schema.as_ref();
        chunk.schema = schema.map_or_else(String::new, |schema| schema.text.to_string());
        chunks.push(std::mem::replace(&mut chunk, empty()));
        chunks.extend(beside_tuples(&state, &empty));
        chunk = empty();
    }
    let mut size = 0;
    for tuple in tuples.iter().map(to_tuple) {
        let more = tuple.encoded_len() + AROUND;
        if size > 0 && size + more > PART_BYTES {
            chunks.push(std::mem::replace(&mut chunk, empty()));
            size = 0;
        }
        size += more;
        chunk.tuples.push(tuple);
    }
    chunk.last = is_last;
    chunks.push(chunk);
    chunks
}

/// Locks and roles, so few a chunk that no reason or list of subjects makes it too large.
fn beside_tuples(
    state: &State,
    empty: &impl Fn() -> proto::SnapshotChunk,
) -> Vec<proto::SnapshotChunk> {
    const AT_ONCE: usize = 50;
    let schema = state.schema.as_deref();
    let locks: Vec<_> = state.locks.iter().map(|lock| held_lock(lock)).collect();
    let roles: Vec<_> = (state.roles.iter())
        .map(|record| role(record, schema))
        .collect();
    let locks = locks.chunks(AT_ONCE).map(|locks| proto::SnapshotChunk {
        locks: locks.to_vec(),
        ..empty()
    });
    let roles = roles.chunks(AT_ONCE).map(|roles| proto::SnapshotChunk {
        roles: roles.to_vec(),
        ..empty()
    });
    locks.chain(roles).collect()
}

/// A sign of life.
pub fn heartbeat(token: Token, at: Timestamp) -> proto::Heartbeat {
    proto::Heartbeat {
        revision: token.to_string(),
        sent_at: Some(values::to_timestamp(at)),
    }
}

/// A new beginning.
pub fn reset(cause: ResetCause, token: Token) -> proto::Reset {
    use proto::reset::Cause;
    let cause = match cause {
        ResetCause::Trimmed => Cause::Trimmed,
        ResetCause::Ahead => Cause::Ahead,
        ResetCause::Epoch => Cause::Epoch,
        ResetCause::History => Cause::History,
    };
    proto::Reset {
        cause: cause.into(),
        revision: token.to_string(),
    }
}

/// A lease.
pub fn acknowledged(from: Acknowledged) -> proto::AckChangesResponse {
    let Acknowledged {
        lease,
        head,
        head_age,
    } = from;
    proto::AckChangesResponse {
        lease: Some(values::to_duration(lease)),
        revision: head.to_string(),
        head_age: Some(values::to_duration(head_age)),
    }
}

/// An open stream.
pub fn watcher(from: Watcher) -> proto::list_watchers_response::Watcher {
    let Watcher {
        watcher_id,
        session,
        caller,
        address,
        sent,
        acknowledged,
        lag,
        lease,
    } = from;
    proto::list_watchers_response::Watcher {
        watcher_id,
        session,
        caller,
        address,
        revision: sent.to_string(),
        acknowledged: acknowledged.map_or_else(String::new, |token| token.to_string()),
        lag: Some(values::to_duration(lag)),
        lease: Some(values::to_duration(lease)),
    }
}
