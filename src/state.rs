//! The state (schema, index, remembered answers) as the fold of the log: commits, and `apply`.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::index::Index;
use crate::revision::{Epoch, Revision, Token};
use crate::schema::diagnostic::Diagnostic;
use crate::schema::{Names, Schema, changes_between};
use crate::time::Timestamp;
use crate::tuple::{Subject, Tuple};

pub mod checkpoint;
pub mod remembered;
mod stored;

use self::remembered::{Answers, Kept};

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

/// A part of a [`Commit`]. Locks and roles come with the issue on locks and roles.
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
            changes: changes.into(),
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
