//! The state (schema, index, locks, roles, remembered answers) as the fold of the log: commits,
//! and `apply`.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::index::{Index, object_hash};
use crate::revision::{Epoch, Revision, Token};
use crate::schema::diagnostic::Diagnostic;
use crate::schema::{Names, Schema, changes_between};
use crate::time::Timestamp;
use crate::tuple::{Object, ObjectRef, RoleRef, Subject, Tuple};

pub mod checkpoint;
mod imagined;
pub mod locks;
pub mod remembered;
pub mod roles;
pub(crate) mod saved;
mod stored;

pub use self::locks::{HeldLock, Locks};
use self::remembered::{Answers, Kept};
pub use self::roles::{RoleRecord, Roles};
pub(crate) use self::stored::imagined;

/// One atomic change of the state: the unit of the log, of watching and of recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its number: that of the commit before it, and one.
    pub revision: Revision,
    /// max(clock, the time of the commit before it).
    pub time: Timestamp,
    /// On whose behalf.
    pub actor: Option<Subject>,
    /// Why, in the caller's words.
    pub reason: String,
    /// Echoed to watchers.
    pub metadata: Option<Arc<Map<String, Value>>>,
    /// What changed; may be empty where a key is remembered.
    pub changes: Vec<Change>,
    /// The write's idempotency key and its answer.
    pub remembered: Option<Remembered>,
}

/// A part of a [`Commit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A tuple was granted, or replaced by one of the same resource, relation and subject.
    Granted(Tuple),
    /// A tuple was revoked; caveat and expiry are those that it had.
    Revoked(Tuple),
    /// A tuple was removed since its time was over.
    Expired(Tuple),
    /// A new schema: its text.
    Schema(Arc<str>),
    /// A lock was placed, or renewed: replaced by one of the same id.
    Locked(Arc<HeldLock>),
    /// A lock was lifted.
    Unlocked(Arc<HeldLock>),
    /// A lock was removed since its time was over.
    LockExpired(Arc<HeldLock>),
    /// A role was made or edited: what it is now.
    RoleWritten(Arc<RoleRecord>),
    /// A role was deleted; its assignments are revoked beside it.
    RoleDeleted(RoleRef),
}

/// An idempotency key and the answer that a repeat gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The caller it belongs to.
    pub caller: Arc<str>,
    /// The key.
    pub key: Arc<str>,
    /// Of the request without its key and its wait: another one under the same key is refused.
    pub request_hash: u64,
    /// How many tuples it granted.
    pub granted: u64,
    /// How many tuples it revoked.
    pub revoked: u64,
}

/// Everything that the log says, up to one revision. A clone shares what it holds.
#[derive(Clone, Debug)]
pub struct State {
    /// Names the history.
    pub epoch: Epoch,
    /// Goes into dependency keys; kept with the epoch.
    pub seed: u64,
    /// The last commit.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// 64 bits of the hash of all records up to it, which only the store can count on from.
    pub chain: u64,
    /// `None` before the first was written.
    pub schema: Option<Arc<Schema>>,
    /// The commit that wrote it; 0 before the first.
    pub schema_revision: Revision,
    /// The tuples.
    pub index: Index,
    /// The locks that are held.
    pub locks: Locks,
    /// The roles made or edited at run time.
    pub roles: Roles,
    /// Fencing tokens are this and the revision: beyond all that were given out before a restore.
    pub fencing_base: u64,
    /// The answers to writes under idempotency keys.
    pub remembered: Answers,
    names: Arc<Names>,
}

/// Why a commit can't follow a state: the log is not this program's, or one of both is damaged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// It is not the next one.
    #[error("commit {found} does not follow revision {after}")]
    OutOfOrder {
        /// The state's.
        after: Revision,
        /// The commit's.
        found: Revision,
    },
    /// Its time is before that of the commit before it.
    #[error("the time of commit {0} is before that of the commit before it")]
    TimeRunsBack(Revision),
    /// Its schema does not compile.
    #[error("the schema of commit {revision} is not valid: {problem}")]
    Schema {
        /// The commit.
        revision: Revision,
        /// What is wrong.
        problem: String,
    },
    /// A tuple names what no schema before it has.
    #[error("commit {revision} has a tuple that no schema of its time takes: {tuple}")]
    Tuple {
        /// The commit.
        revision: Revision,
        /// The tuple.
        tuple: String,
    },
}

impl State {
    /// The state before the first commit.
    pub fn empty(epoch: Epoch, seed: u64, chain: u64) -> Self {
        let names = Arc::new(Names::default());
        Self {
            epoch,
            seed,
            revision: Revision(0),
            time: Timestamp::default(),
            chain,
            schema: None,
            schema_revision: Revision(0),
            index: Index::new(seed).with_names(Arc::clone(&names)),
            locks: Locks::default(),
            roles: Roles::default(),
            fencing_base: 0,
            remembered: Answers::default(),
            names,
        }
    }

    /// The names of all schemas so far.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// How this state is named on the wire.
    pub fn token(&self) -> Token {
        self.token_of(self.revision)
    }

    /// How another revision of this history is named on the wire.
    pub fn token_of(&self, revision: Revision) -> Token {
        Token {
            revision,
            epoch: self.epoch,
        }
    }

    /// The fencing token of a lock that the commit `revision` places.
    pub fn fencing_token(&self, revision: Revision) -> u64 {
        self.fencing_base.saturating_add(revision.0)
    }

    /// The same contents without these locks, of no revision: to judge what others stand against.
    pub(crate) fn without_locks(&self, ids: &[Arc<str>]) -> Self {
        let mut next = self.clone();
        for id in ids {
            let hash = |object: &Object| object_hash(self.seed, object.kind(), object.id());
            next.locks = next.locks.without(hash, id);
        }
        next
    }

    /// The locks that sit on a resource itself, by their ids, those whose time is over included.
    pub fn locks_on<'a>(
        &'a self,
        resource: ObjectRef<'a>,
    ) -> impl Iterator<Item = &'a Arc<HeldLock>> + 'a {
        let hash = object_hash(self.seed, resource.kind(), resource.id());
        self.locks.on(hash, resource)
    }

    /// Whether anything is known of an object: a tuple, live or expired, that names it as its
    /// resource or within its subject, a lock on it, a role that it owns or that is assigned
    /// there. What nothing is known of is new.
    pub fn mentions(&self, object: ObjectRef<'_>) -> bool {
        let kind = self.names.type_id(object.kind());
        kind.is_some_and(|kind| self.index.mentions(kind, object.id()))
            || self.locks_on(object).next().is_some()
            || self.owns_roles(object)
    }

    fn owns_roles(&self, object: ObjectRef<'_>) -> bool {
        if self.roles.is_empty() {
            return false;
        }
        let blocks = self.schema.iter().flat_map(|schema| &schema.roles);
        let mut owned = blocks.flat_map(|block| self.roles.owned(&block.name, object.id()));
        owned.any(|record| record.owner.as_ref() == object)
    }

    /// When the next tuple or lock is to be removed, where any ever is.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let ends = [self.index.next_expiry(), self.locks.next_end()];
        ends.into_iter().flatten().min()
    }

    /// The state after `commit`. Its `chain` is still the old one: see [`State::chain`].
    ///
    /// # Errors
    /// Where the commit can't follow; never for one that `plan` made of this state.
    pub fn apply(&self, commit: &Commit) -> Result<Self, ApplyError> {
        if commit.revision != self.revision.next() {
            return Err(ApplyError::OutOfOrder {
                after: self.revision,
                found: commit.revision,
            });
        }
        if commit.time < self.time {
            return Err(ApplyError::TimeRunsBack(commit.revision));
        }
        let mut next = self.clone();
        next.revision = commit.revision;
        next.time = commit.time;
        let schema_changes = next.apply_schemas(commit)?;
        next.apply_tuples(commit)?;
        next.apply_locks_and_roles(commit);
        if let Some(key) = &commit.remembered {
            let kept = Kept::of(commit, key, schema_changes);
            next.remembered = next.remembered.with(&key.caller, &key.key, kept);
        }
        Ok(next)
    }

    /// The same contents under another schema, of no revision: to judge what would follow it.
    ///
    /// # Errors
    /// What is wrong with the schema.
    pub(crate) fn with_schema(&self, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let schema = Arc::new(Schema::compile(text, &self.names)?.schema);
        let mut next = self.clone();
        next.take_schema(schema);
        Ok(next)
    }

    fn take_schema(&mut self, schema: Arc<Schema>) {
        self.names = Arc::clone(&schema.names);
        self.index = self.index.with_names(Arc::clone(&self.names));
        self.schema = Some(schema);
    }

    fn apply_locks_and_roles(&mut self, commit: &Commit) {
        let seed = self.seed;
        let hash = |object: &Object| object_hash(seed, object.kind(), object.id());
        for change in &commit.changes {
            match change {
                Change::Locked(lock) => {
                    self.locks = self.locks.with(hash, lock);
                    self.name_exempt(lock);
                    // A lock that came with a higher token: what follows goes on behind it.
                    let above = lock.fencing_token.saturating_sub(commit.revision.0);
                    self.fencing_base = self.fencing_base.max(above);
                }
                Change::Unlocked(lock) | Change::LockExpired(lock) => {
                    self.locks = self.locks.without(hash, &lock.id);
                }
                Change::RoleWritten(record) => self.roles = self.roles.with(record),
                Change::RoleDeleted(role) => self.roles = self.roles.without(role),
                Change::Granted(_)
                | Change::Revoked(_)
                | Change::Expired(_)
                | Change::Schema(_) => {}
            }
        }
    }

    /// The lines that say what a new schema changed, where the commit has one.
    fn apply_schemas(&mut self, commit: &Commit) -> Result<Vec<String>, ApplyError> {
        let mut lines = Vec::new();
        for change in &commit.changes {
            let Change::Schema(text) = change else {
                continue;
            };
            let schema = compiled(text, &self.names).map_err(|problem| ApplyError::Schema {
                revision: commit.revision,
                problem,
            })?;
            lines = changes_between(self.schema.as_deref(), &schema);
            self.take_schema(schema);
            self.schema_revision = commit.revision;
        }
        Ok(lines)
    }
}

impl Kept {
    fn of(commit: &Commit, key: &Remembered, changes: Vec<String>) -> Self {
        Self {
            revision: commit.revision,
            time: commit.time,
            request_hash: key.request_hash,
            granted: key.granted,
            revoked: key.revoked,
            unchanged: commit.changes.is_empty(),
            changes: changes.into(),
            lock: commit.changes.iter().find_map(|change| match change {
                Change::Locked(lock) | Change::Unlocked(lock) => Some(Arc::clone(lock)),
                _ => None,
            }),
            role: commit.changes.iter().find_map(|change| match change {
                Change::RoleWritten(record) => Some(Arc::clone(record)),
                _ => None,
            }),
        }
    }
}

fn compiled(text: &str, names: &Names) -> Result<Arc<Schema>, String> {
    match Schema::compile(text, names) {
        Ok(compiled) => Ok(Arc::new(compiled.schema)),
        Err(problems) => Err(problems.first().map_or_else(String::new, |first| {
            format!("{}:{}: {}", first.line, first.column, first.message)
        })),
    }
}
