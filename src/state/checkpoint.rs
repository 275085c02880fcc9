//! A state as bytes and back: what a checkpoint holds, beside what the store says of it.
//!
//! First a header (the schema, all names, locks, roles, the answers that are kept), its length before it; then
//! the index in its own form. The store names the position and proves that nothing is damaged.

use std::io::{self, Read, Write};
use std::sync::Arc;

use prost::Message;

use super::locks::{HeldLock, Locks};
use super::remembered::{Answers, Kept};
use super::roles::{RoleRecord, Roles};
use super::saved::{SavedLock, SavedRole, Unsaved};
use super::{State, compiled, stored};
use crate::index::object_hash;
use crate::revision::{Epoch, Revision};
use crate::schema::Names;
use crate::time::Timestamp;

/// Grows with every change of the form; a reader refuses what it does not know.
const VERSION: u32 = 2;
/// The oldest form that is still read: without locks and roles.
const OLDEST: u32 = 1;

/// What the store knows of a checkpoint without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Names the history.
    pub epoch: Epoch,
    /// Goes into dependency keys.
    pub seed: u64,
    /// The last commit that it holds.
    pub revision: Revision,
    /// That commit's time.
    pub time: Timestamp,
    /// The hash of all records up to it.
    pub chain: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, optional, tag = "2")]
    schema: Option<String>,
    #[prost(uint64, tag = "3")]
    schema_revision: u64,
    #[prost(string, repeated, tag = "4")]
    types: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    relations: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    caveats: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    answers: Vec<SavedAnswer>,
    #[prost(message, repeated, tag = "8")]
    locks: Vec<SavedLock>,
    #[prost(message, repeated, tag = "9")]
    roles: Vec<SavedRole>,
    #[prost(uint64, tag = "10")]
    fencing_base: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedAnswer {
    #[prost(string, tag = "1")]
    caller: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(int64, tag = "4")]
    seconds: i64,
    #[prost(uint32, tag = "5")]
    nanos: u32,
    #[prost(fixed64, tag = "6")]
    request_hash: u64,
    #[prost(uint64, tag = "7")]
    granted: u64,
    #[prost(uint64, tag = "8")]
    revoked: u64,
    #[prost(string, repeated, tag = "9")]
    changes: Vec<String>,
    #[prost(message, optional, tag = "10")]
    lock: Option<SavedLock>,
    #[prost(message, optional, tag = "11")]
    role: Option<SavedRole>,
    #[prost(bool, tag = "12")]
    unchanged: bool,
}

impl State {
    /// Writes what [`State::read_from`] reads, and lets go of what is written.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        let header = self.header().encode_to_vec();
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        stored::write_index(self.index, out)
    }

    /// Reads what [`State::write_to`] wrote.
    ///
    /// # Errors
    /// What the reader says, or what is wrong with the bytes.
    pub fn read_from(input: &mut dyn Read, origin: Origin) -> io::Result<Self> {
        let header = read_header(input)?;
        let lists = [header.types, header.relations, header.caveats];
        let lists = lists.map(|list| list.into_iter().map(Into::into).collect());
        let names = Names::from_lists(&lists).ok_or_else(|| bad("names repeat"))?;
        let schema = match &header.schema {
            None => None,
            Some(text) => Some(compiled(text, &names).map_err(|problem| bad(&problem))?),
        };
        // The schema's names are these: it was compiled with them before.
        let names = match &schema {
            Some(schema) => Arc::clone(&schema.names),
            None => Arc::new(names),
        };
        let mut state = Self {
            epoch: origin.epoch,
            seed: origin.seed,
            revision: origin.revision,
            time: origin.time,
            chain: origin.chain,
            schema,
            schema_revision: Revision(header.schema_revision),
            index: stored::read_index(input, &names)?,
            locks: locks_of(header.locks, origin.seed).map_err(|problem| bad(&problem))?,
            roles: roles_of(header.roles).map_err(|problem| bad(&problem))?,
            fencing_base: header.fencing_base,
            remembered: answers_of(&header.answers)?,
            names,
        };
        for lock in state.locks.clone().iter() {
            state.name_exempt(lock);
        }
        Ok(state)
    }

    fn header(&self) -> Header {
        let lists = self.names.lists();
        let [types, relations, caveats] =
            lists.map(|list| list.iter().map(ToString::to_string).collect());
        Header {
            version: VERSION,
            schema: self.schema.as_ref().map(|schema| schema.text.to_string()),
            schema_revision: self.schema_revision.0,
            types,
            relations,
            caveats,
            answers: self.remembered.iter().map(saved).collect(),
            locks: self.locks.iter().map(|lock| (&**lock).into()).collect(),
            roles: self.roles.iter().map(|role| (&**role).into()).collect(),
            fencing_base: self.fencing_base,
        }
    }
}

fn read_header(input: &mut dyn Read) -> io::Result<Header> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    // Grows with what is there, not with what the length says.
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(bad("its header is cut off"));
    }
    let header = Header::decode(&*bytes).map_err(|_| bad("its header can't be decoded"))?;
    match header.version {
        OLDEST..=VERSION => Ok(header),
        other => Err(bad(&format!(
            "it is of version {other}, and this program reads {VERSION}"
        ))),
    }
}

fn saved((caller, key, kept): (&Arc<str>, &Arc<str>, &Kept)) -> SavedAnswer {
    SavedAnswer {
        caller: caller.to_string(),
        key: key.to_string(),
        revision: kept.revision.0,
        seconds: kept.time.seconds(),
        nanos: kept.time.nanos(),
        request_hash: kept.request_hash,
        granted: kept.granted,
        revoked: kept.revoked,
        changes: kept.changes.to_vec(),
        lock: kept.lock.as_deref().map(Into::into),
        role: kept.role.as_deref().map(Into::into),
        unchanged: kept.unchanged,
    }
}

fn answers_of(saved: &[SavedAnswer]) -> io::Result<Answers> {
    let mut answers = Answers::default();
    for one in saved {
        let time = Timestamp::new(one.seconds, one.nanos).ok_or_else(|| bad("a time is wrong"))?;
        let kept = Kept {
            revision: Revision(one.revision),
            time,
            request_hash: one.request_hash,
            granted: one.granted,
            revoked: one.revoked,
            unchanged: one.unchanged,
            changes: one.changes.clone().into(),
            lock: read_lock(one.lock.clone()).map_err(|problem| bad(&problem))?,
            role: read_role(one.role.clone()).map_err(|problem| bad(&problem))?,
        };
        answers = answers.with(&one.caller.as_str().into(), &one.key.as_str().into(), kept);
    }
    Ok(answers)
}

fn read_lock(saved: Option<SavedLock>) -> Result<Option<Arc<HeldLock>>, String> {
    let read = |one: SavedLock| -> Result<HeldLock, Unsaved> { one.try_into() };
    let lock = saved.map(read).transpose();
    lock.map(|lock| lock.map(Arc::new))
        .map_err(|problem| format!("a kept lock is wrong: {problem}"))
}

fn read_role(saved: Option<SavedRole>) -> Result<Option<Arc<RoleRecord>>, String> {
    let read = |one: SavedRole| -> Result<RoleRecord, Unsaved> { one.try_into() };
    let role = saved.map(read).transpose();
    role.map(|role| role.map(Arc::new))
        .map_err(|problem| format!("a kept role is wrong: {problem}"))
}

fn locks_of(saved: Vec<SavedLock>, seed: u64) -> Result<Locks, String> {
    let hash = |object: &crate::tuple::Object| object_hash(seed, object.kind(), object.id());
    let mut locks = Locks::default();
    for one in saved {
        let lock: Result<HeldLock, Unsaved> = one.try_into();
        let lock = lock.map_err(|problem| format!("a lock is wrong: {problem}"))?;
        locks = locks.with(hash, &Arc::new(lock));
    }
    Ok(locks)
}

fn roles_of(saved: Vec<SavedRole>) -> Result<Roles, String> {
    let mut roles = Roles::default();
    for one in saved {
        let role: Result<RoleRecord, Unsaved> = one.try_into();
        let role = role.map_err(|problem| format!("a role is wrong: {problem}"))?;
        roles = roles.with(&Arc::new(role));
    }
    Ok(roles)
}

fn bad(problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the checkpoint can't be read: {problem}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::state::{Change, Commit};

    /// A state with one tuple, as bytes: its header, and the index behind it.
    fn saved() -> (State, Header, Vec<u8>) {
        let changes = vec![
            Change::Schema("definition u {} definition d { relation r: u }".into()),
            Change::Granted("d:a#r@u:b".parse().unwrap()),
        ];
        let commit = Commit {
            revision: Revision(1),
            time: Timestamp::default(),
            actor: None,
            reason: String::new(),
            metadata: None,
            changes,
            remembered: None,
        };
        let state = State::empty(Epoch(1), 2, 3).apply(&commit).unwrap();
        let mut bytes = Vec::new();
        state.clone().write_to(&mut bytes).unwrap();
        let mut input = bytes.as_slice();
        let header = read_header(&mut input).unwrap();
        (state, header, input.to_vec())
    }

    fn read(header: &Header, index: &[u8], state: &State) -> io::Result<State> {
        let header = header.encode_to_vec();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(index);
        let origin = Origin {
            epoch: state.epoch,
            seed: state.seed,
            revision: state.revision,
            time: state.time,
            chain: state.chain,
        };
        State::read_from(&mut bytes.as_slice(), origin)
    }

    #[test]
    fn the_form_without_locks_and_roles_is_still_read_and_one_to_come_is_refused() {
        let (state, header, index) = saved();
        for version in OLDEST..=VERSION {
            let header = Header {
                version,
                ..header.clone()
            };
            let read = read(&header, &index, &state).unwrap();
            let tuple = "d:a#r@u:b".parse().unwrap();
            assert_eq!(read.find(&tuple), Some(tuple));
            assert!(read.locks.is_empty() && read.roles.is_empty());
        }
        for version in [0, VERSION + 1] {
            let header = Header {
                version,
                ..header.clone()
            };
            let problem = read(&header, &index, &state).unwrap_err().to_string();
            assert!(problem.contains(&format!("version {version}")), "{problem}");
        }
    }
}
