//! Imports: tuples from one stream, committed in batches, so that a broken stream can go on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::plan::{Action, Command, Operation, Update, WriteOptions, Written};
use crate::revision::{Consistency, Token};
use crate::state::{HeldLock, RoleRecord};
use crate::tuple::Tuple;

use super::{Engine, EngineError};

/// What the log says of each batch.
const REASON: &str = "import";

/// One stream of tuples on its way in. What was committed stays, whatever becomes of the rest.
pub struct Import {
    engine: Engine,
    deadline: Option<Instant>,
    waiting: VecDeque<Update>,
    position: u64,
    token: Token,
    /// The locks that came with it.
    locks: Arc<[Arc<str>]>,
}

/// Why an import ends early. What stands before it, [`Import::position`] says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct ImportError {
    /// Why.
    pub error: EngineError,
    /// Whether the error is that of one tuple: the first that does not stand.
    pub of_tuple: bool,
}

impl Engine {
    /// Begins an import; nothing is written yet.
    pub fn import(&self, deadline: Option<Instant>) -> Import {
        Import {
            token: self.status().token,
            engine: self.clone(),
            deadline,
            waiting: VecDeque::new(),
            position: 0,
            locks: Arc::default(),
        }
    }
}

impl Import {
    /// How many tuples of the stream stand: a new stream may begin behind them.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The revision that holds them.
    pub fn token(&self) -> Token {
        self.token
    }

    /// How many tuples wait for their commit.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The most tuples of one commit.
    pub fn batch(&self) -> usize {
        self.engine.inner.limits.updates.max(1)
    }

    /// Writes the schema that the tuples are of, unless it stands already.
    ///
    /// # Errors
    /// See [`EngineError`]: it is not valid, or tuples that stand do not fit it.
    pub async fn write_schema(&mut self, text: Arc<str>) -> Result<(), ImportError> {
        let standing = self.engine.schema(Consistency::Newest, self.deadline).await;
        let standing = standing.map_err(ImportError::of_stream)?.schema;
        if standing.is_some_and(|schema| schema.text == text) {
            return Ok(());
        }
        let action = Action::WriteSchema {
            text,
            if_revision: None,
        };
        let written = self.write(action).await.map_err(ImportError::of_stream)?;
        self.token = written.token;
        Ok(())
    }

    /// Writes the roles that the tuples assign, and the locks on them; those that stand just so are
    /// left as they are. Locks go in before the tuples: never is open for a while what is locked.
    ///
    /// # Errors
    /// See [`EngineError`]: what the schema does not have, or another lock under the same id.
    pub async fn write_roles_and_locks(
        &mut self,
        roles: Vec<RoleRecord>,
        locks: Vec<HeldLock>,
    ) -> Result<(), ImportError> {
        if roles.is_empty() && locks.is_empty() {
            return Ok(());
        }
        self.locks = locks.iter().map(|lock| Arc::clone(&lock.id)).collect();
        let action = Action::ImportBegin { roles, locks };
        let written = self.write(action).await.map_err(ImportError::of_stream)?;
        self.token = written.token;
        Ok(())
    }

    /// Takes tuples in; they wait for [`Import::commit`].
    pub fn add(&mut self, tuples: impl IntoIterator<Item = Tuple>) {
        self.waiting.extend(tuples.into_iter().map(|tuple| Update {
            operation: Operation::Grant,
            tuple,
        }));
    }

    /// Commits one batch of what waits. Where a tuple is refused, those before it are committed.
    ///
    /// # Errors
    /// See [`ImportError`]; the import is over then.
    pub async fn commit(&mut self) -> Result<(), ImportError> {
        let most = self.batch().min(self.waiting.len());
        if most == 0 {
            return Ok(());
        }
        let updates: Arc<[Update]> = self.waiting.drain(..most).collect();
        let Err(error) = self.commit_batch(Arc::clone(&updates)).await else {
            return Ok(());
        };
        let bad = match &error {
            EngineError::Refused(refusal) => refusal.update(),
            _ => None,
        };
        let good = updates.get(..bad.unwrap_or(0)).unwrap_or_default();
        if !good.is_empty() {
            (self.commit_batch(good.into()).await).map_err(ImportError::of_stream)?;
        }
        Err(ImportError {
            error,
            of_tuple: bad.is_some(),
        })
    }

    async fn commit_batch(&mut self, updates: Arc<[Update]>) -> Result<(), EngineError> {
        let count = updates.len() as u64;
        let written = self
            .write(Action::Import {
                updates,
                locks: Arc::clone(&self.locks),
            })
            .await?;
        self.position += count;
        self.token = written.token;
        Ok(())
    }

    async fn write(&self, action: Action) -> Result<Written, EngineError> {
        let options = WriteOptions {
            reason: REASON.to_owned(),
            ..WriteOptions::default()
        };
        let command = Command {
            action,
            options,
            caller: "".into(),
        };
        self.engine.write(command, self.deadline).await
    }
}

impl ImportError {
    fn of_stream(error: EngineError) -> Self {
        Self {
            error,
            of_tuple: false,
        }
    }

    /// The refusal of one tuple, as if it stood at this place of its message.
    #[must_use]
    pub fn at_place(mut self, place: usize) -> Self {
        if let EngineError::Refused(refusal) = &mut self.error {
            refusal.move_update(place);
        }
        self
    }
}
