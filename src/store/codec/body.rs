//! A record's body: what it says, to and from its messages. Hides how each thing of the state is
//! spelled there: references as the text that people know, JSON as bytes.

use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::message as body;
use super::{Entry, Kept};
use crate::revision::{Epoch, Revision};
use crate::state::saved::Unsaved;
use crate::state::{Change, Commit, Remembered};
use crate::store::Position;
use crate::time::Timestamp;
use crate::tuple::{CaveatRef, MalformedReference, ObjectRef, Subject, SubjectRef, Tuple};

/// Why a body is none that this reader can use.
pub(super) enum Unreadable {
    Damaged(String),
    Newer,
}

impl From<MalformedReference> for Unreadable {
    fn from(error: MalformedReference) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<Unsaved> for Unreadable {
    fn from(error: Unsaved) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn bad(what: impl Into<String>) -> Unreadable {
    Unreadable::Damaged(what.into())
}

impl From<&Entry> for body::Entry {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Genesis { epoch, seed } => Self::Genesis(body::Genesis {
                epoch: epoch.0,
                seed: *seed,
            }),
            Entry::Commit(commit) => Self::Commit(commit.into()),
            Entry::Checkpoint(kept) => Self::Checkpoint(body::Kept {
                position: kept.position.into(),
                time: kept.time.into(),
                length: kept.length,
                digest: kept.digest.to_le_bytes().to_vec(),
            }),
            Entry::Start(position) => Self::Start((*position).into()),
        }
    }
}

impl TryFrom<body::Entry> for Entry {
    type Error = Unreadable;

    fn try_from(entry: body::Entry) -> Result<Self, Unreadable> {
        Ok(match entry {
            body::Entry::Genesis(body::Genesis { epoch, seed }) => Self::Genesis {
                epoch: Epoch(epoch),
                seed,
            },
            body::Entry::Commit(commit) => Self::Commit(commit.try_into()?),
            body::Entry::Checkpoint(kept) => Self::Checkpoint(kept.try_into()?),
            body::Entry::Start(position) => Self::Start(position.into()),
        })
    }
}

impl TryFrom<body::Kept> for Kept {
    type Error = Unreadable;

    fn try_from(kept: body::Kept) -> Result<Self, Unreadable> {
        let digest = <[u8; 16]>::try_from(kept.digest);
        Ok(Self {
            position: kept.position.into(),
            time: kept.time.try_into()?,
            length: kept.length,
            digest: u128::from_le_bytes(digest.map_err(|_| bad("its digest is not 16 bytes"))?),
        })
    }
}

impl From<Position> for body::Position {
    fn from(position: Position) -> Self {
        Self {
            revision: position.revision.0,
            chain: position.chain,
        }
    }
}

impl From<body::Position> for Position {
    fn from(position: body::Position) -> Self {
        Self {
            revision: Revision(position.revision),
            chain: position.chain,
        }
    }
}

impl body::Commit {
    /// A commit but for its changes and what is remembered of it.
    pub(super) fn front(commit: &Commit) -> Self {
        let Commit {
            revision,
            time,
            actor,
            reason,
            metadata,
            changes: _,
            remembered: _,
        } = commit;
        Self {
            revision: revision.0,
            time: (*time).into(),
            actor: actor.as_ref().map(ToString::to_string),
            reason: reason.clone(),
            metadata: metadata.as_deref().map(to_json),
            changes: Vec::new(),
            remembered: None,
        }
    }
}

impl From<&Commit> for body::Commit {
    fn from(commit: &Commit) -> Self {
        Self {
            changes: commit.changes.iter().map(Into::into).collect(),
            remembered: commit.remembered.as_ref().map(Into::into),
            ..Self::front(commit)
        }
    }
}

impl TryFrom<body::Commit> for Commit {
    type Error = Unreadable;

    fn try_from(commit: body::Commit) -> Result<Self, Unreadable> {
        let body::Commit {
            revision,
            time,
            actor,
            reason,
            metadata,
            changes,
            remembered,
        } = commit;
        Ok(Self {
            revision: Revision(revision),
            time: time.try_into()?,
            actor: match actor {
                None => None,
                Some(actor) => Some(Subject::from_str(&actor)?),
            },
            reason,
            metadata: match metadata {
                None => None,
                Some(json) => Some(Arc::new(from_json(&json)?)),
            },
            changes: changes
                .into_iter()
                .map(Change::try_from)
                .collect::<Result<_, _>>()?,
            remembered: remembered.map(Into::into),
        })
    }
}

impl From<&Change> for body::Change {
    fn from(change: &Change) -> Self {
        let kind = match change {
            Change::Granted(tuple) => body::Kind::Granted(tuple.into()),
            Change::Revoked(tuple) => body::Kind::Revoked(tuple.into()),
            Change::Expired(tuple) => body::Kind::Expired(tuple.into()),
            Change::Schema(text) => body::Kind::Schema(text.as_ref().to_owned()),
            Change::Locked(lock) => body::Kind::Locked((&**lock).into()),
            Change::Unlocked(lock) => body::Kind::Unlocked((&**lock).into()),
            Change::LockExpired(lock) => body::Kind::LockExpired((&**lock).into()),
            Change::RoleWritten(record) => body::Kind::RoleWritten((&**record).into()),
            Change::RoleDeleted(role) => body::Kind::RoleDeleted(role.to_string()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<body::Change> for Change {
    type Error = Unreadable;

    fn try_from(change: body::Change) -> Result<Self, Unreadable> {
        Ok(match change.kind.ok_or(Unreadable::Newer)? {
            body::Kind::Granted(tuple) => Self::Granted(tuple.try_into()?),
            body::Kind::Revoked(tuple) => Self::Revoked(tuple.try_into()?),
            body::Kind::Expired(tuple) => Self::Expired(tuple.try_into()?),
            body::Kind::Schema(text) => Self::Schema(text.into()),
            body::Kind::Locked(lock) => Self::Locked(Arc::new(lock.try_into()?)),
            body::Kind::Unlocked(lock) => Self::Unlocked(Arc::new(lock.try_into()?)),
            body::Kind::LockExpired(lock) => Self::LockExpired(Arc::new(lock.try_into()?)),
            body::Kind::RoleWritten(record) => Self::RoleWritten(Arc::new(record.try_into()?)),
            body::Kind::RoleDeleted(role) => Self::RoleDeleted(role.parse()?),
        })
    }
}

impl From<&Tuple> for body::Tuple {
    fn from(tuple: &Tuple) -> Self {
        let Tuple {
            resource,
            relation,
            subject,
            caveat,
            expires_at,
        } = tuple;
        Self {
            resource: resource.to_string(),
            relation: relation.as_ref().to_owned(),
            subject: subject.to_string(),
            caveat: caveat.as_ref().map(Into::into),
            expires_at: expires_at.map(Into::into),
        }
    }
}

impl From<&CaveatRef> for body::Caveat {
    fn from(caveat: &CaveatRef) -> Self {
        let CaveatRef { name, context } = caveat;
        Self {
            name: name.as_ref().to_owned(),
            context: match context.is_empty() {
                true => Vec::new(),
                false => to_json(context),
            },
        }
    }
}

impl TryFrom<body::Tuple> for Tuple {
    type Error = Unreadable;

    fn try_from(tuple: body::Tuple) -> Result<Self, Unreadable> {
        let body::Tuple {
            resource,
            relation,
            subject,
            caveat,
            expires_at,
        } = tuple;
        let mut tuple = Self::new(
            ObjectRef::parse(&resource)?,
            &relation,
            SubjectRef::parse(&subject)?,
        )?;
        if let Some(body::Caveat { name, context }) = caveat {
            tuple.caveat = Some(CaveatRef {
                name: name.into(),
                context: Arc::new(match context.is_empty() {
                    true => Map::new(),
                    false => from_json(&context)?,
                }),
            });
        }
        tuple.expires_at = match expires_at {
            None => None,
            Some(time) => Some(time.try_into()?),
        };
        Ok(tuple)
    }
}

impl From<Timestamp> for body::Time {
    fn from(time: Timestamp) -> Self {
        Self {
            seconds: time.seconds(),
            nanos: time.nanos(),
        }
    }
}

impl TryFrom<body::Time> for Timestamp {
    type Error = Unreadable;

    fn try_from(time: body::Time) -> Result<Self, Unreadable> {
        Self::new(time.seconds, time.nanos)
            .ok_or_else(|| bad("it has a time outside the years 1 to 9999"))
    }
}

impl From<&Remembered> for body::Remembered {
    fn from(remembered: &Remembered) -> Self {
        let Remembered {
            caller,
            key,
            request_hash,
            granted,
            revoked,
        } = remembered;
        Self {
            caller: caller.as_ref().to_owned(),
            key: key.as_ref().to_owned(),
            request_hash: *request_hash,
            granted: *granted,
            revoked: *revoked,
        }
    }
}

impl From<body::Remembered> for Remembered {
    fn from(remembered: body::Remembered) -> Self {
        let body::Remembered {
            caller,
            key,
            request_hash,
            granted,
            revoked,
        } = remembered;
        Self {
            caller: caller.into(),
            key: key.into(),
            request_hash,
            granted,
            revoked,
        }
    }
}

fn to_json(map: &Map<String, Value>) -> Vec<u8> {
    // Writing JSON with text keys into memory can't fail.
    serde_json::to_vec(map).unwrap_or_default()
}

fn from_json(json: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    Ok(serde_json::from_slice(json)?)
}
