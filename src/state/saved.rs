//! Locks and roles as messages: the same in records of the log and in checkpoints. A number is
//! never given a second meaning.

use std::sync::Arc;

use super::locks::HeldLock;
use super::roles::RoleRecord;
use crate::time::Timestamp;
use crate::tuple::{MalformedReference, Object, Subject};

/// A [`HeldLock`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SavedLock {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    resource: String,
    #[prost(string, tag = "3")]
    mode: String,
    #[prost(string, repeated, tag = "4")]
    exempt: Vec<String>,
    #[prost(string, optional, tag = "5")]
    actor: Option<String>,
    #[prost(string, tag = "6")]
    reason: String,
    #[prost(message, required, tag = "7")]
    created_at: SavedTime,
    #[prost(message, optional, tag = "8")]
    expires_at: Option<SavedTime>,
    #[prost(uint64, tag = "9")]
    fencing_token: u64,
}

/// A [`RoleRecord`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SavedRole {
    #[prost(string, tag = "1")]
    role: String,
    #[prost(string, tag = "2")]
    owner: String,
    #[prost(string, tag = "3")]
    title: String,
    #[prost(string, repeated, tag = "4")]
    permissions: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct SavedTime {
    #[prost(sint64, tag = "1")]
    seconds: i64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
}

/// Why a message is no lock or role.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsaved {
    #[error("{0}")]
    Reference(#[from] MalformedReference),
    #[error("it has a time outside the years 1 to 9999")]
    Time,
}

impl From<&HeldLock> for SavedLock {
    fn from(lock: &HeldLock) -> Self {
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
        } = lock;
        Self {
            id: id.to_string(),
            resource: resource.to_string(),
            mode: mode.to_string(),
            exempt: exempt.iter().map(ToString::to_string).collect(),
            actor: actor.as_ref().map(ToString::to_string),
            reason: reason.to_string(),
            created_at: (*created_at).into(),
            expires_at: expires_at.map(Into::into),
            fencing_token: *fencing_token,
        }
    }
}

impl TryFrom<SavedLock> for HeldLock {
    type Error = Unsaved;

    fn try_from(lock: SavedLock) -> Result<Self, Unsaved> {
        let SavedLock {
            id,
            resource,
            mode,
            exempt,
            actor,
            reason,
            created_at,
            expires_at,
            fencing_token,
        } = lock;
        let subject = |text: &String| text.parse::<Subject>();
        Ok(Self {
            id: id.into(),
            resource: resource.parse()?,
            mode: mode.into(),
            exempt: exempt.iter().map(subject).collect::<Result<_, _>>()?,
            actor: actor.as_ref().map(subject).transpose()?,
            reason: reason.into(),
            created_at: created_at.try_into()?,
            expires_at: expires_at.map(TryInto::try_into).transpose()?,
            fencing_token,
        })
    }
}

impl From<&RoleRecord> for SavedRole {
    fn from(record: &RoleRecord) -> Self {
        let RoleRecord {
            role,
            owner,
            title,
            permissions,
        } = record;
        Self {
            role: role.to_string(),
            owner: owner.to_string(),
            title: title.to_string(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<SavedRole> for RoleRecord {
    type Error = Unsaved;

    fn try_from(saved: SavedRole) -> Result<Self, Unsaved> {
        let SavedRole {
            role,
            owner,
            title,
            permissions,
        } = saved;
        let mut permissions: Vec<Arc<str>> = permissions.into_iter().map(Into::into).collect();
        permissions.sort_unstable();
        permissions.dedup();
        Ok(Self {
            role: role.parse()?,
            owner: owner.parse::<Object>()?,
            title: title.into(),
            permissions,
        })
    }
}

impl From<Timestamp> for SavedTime {
    fn from(time: Timestamp) -> Self {
        Self {
            seconds: time.seconds(),
            nanos: time.nanos(),
        }
    }
}

impl TryFrom<SavedTime> for Timestamp {
    type Error = Unsaved;

    fn try_from(time: SavedTime) -> Result<Self, Unsaved> {
        Self::new(time.seconds, time.nanos).ok_or(Unsaved::Time)
    }
}
