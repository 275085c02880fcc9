//! The state that a validation file describes, in memory and without a log.

use std::sync::Arc;

use super::{Expectation, Problem, ValidationFile};
use crate::eval::caveats::check_context;
use crate::eval::{Answer, CheckError, Facts, Limits, Question, check};
use crate::plan::{
    self, Action, Command, Operation, Refusal, RoleWanted, Update, WriteOptions, Written, plan,
};
use crate::revision::Epoch;
use crate::schema::diagnostic::Diagnostic;
use crate::schema::{Names, Schema};
use crate::state::{ApplyError, State};
use crate::time::Timestamp;
use crate::tuple::Tuple;

/// Why a write left nothing behind.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotWritten {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its plan does not fit the state that it was made of, which is a defect of this program.
    #[error("its plan can't be applied: {0}")]
    Broken(#[from] ApplyError),
}

/// A schema and tuples, ready to be asked and written to. A clone is a world of its own.
#[derive(Clone)]
pub struct World {
    schema: Arc<Schema>,
    state: State,
    limits: Limits,
}

impl World {
    /// Compiles the file's schema and takes its tuples in.
    ///
    /// # Errors
    /// Every error of the schema, or else every tuple that does not fit it, with their places.
    pub fn of(file: &ValidationFile) -> Result<Self, Vec<Problem>> {
        let compiled = Schema::compile(&file.schema, &Names::default()).map_err(|errors| {
            let problems = errors.iter().map(|error| file.schema_problem(error));
            problems.collect::<Vec<_>>()
        })?;
        let misfits = file.misfits(&compiled.schema);
        if !misfits.is_empty() {
            return Err(misfits);
        }
        let updates = file.tuples.iter().map(|placed| Update {
            operation: Operation::Grant,
            tuple: placed.value.clone(),
        });
        let begin = Action::Begin {
            text: file.schema.as_str().into(),
            roles: file.wanted(&compiled.schema)?,
            updates: updates.collect(),
        };
        let empty = State::empty(Epoch(1), 0, 0);
        let (state, _) = written(&empty, &trusted(begin), Timestamp::default())
            .map_err(|refusal| vec![Problem::of_file(refusal.to_string())])?;
        let schema = state
            .schema
            .clone()
            .unwrap_or_else(|| Arc::new(compiled.schema));
        Ok(Self {
            schema,
            state,
            limits: Limits::default(),
        })
    }

    /// Answers what the expectation asks, at the instant `now`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask(&self, expectation: &Expectation, now: Timestamp) -> Result<Answer, CheckError> {
        let question = Question {
            subject: expectation.subject.as_ref(),
            permission: &expectation.permission,
            resource: expectation.resource.as_ref(),
            context: &expectation.context,
            contextual: &[],
            with_dependencies: false,
        };
        self.answer(&question, now)
    }

    /// Answers any question, at the instant `now`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn answer(&self, question: &Question<'_>, now: Timestamp) -> Result<Answer, CheckError> {
        let facts = Facts {
            schema: &self.schema,
            index: &self.state.index,
            locks: &self.state.locks,
            roles: &self.state.roles,
        };
        check(facts, question, now, &self.limits)
    }

    /// Writes as the server would: planned, and applied where it is not refused.
    ///
    /// # Errors
    /// Why it is refused; then nothing has changed.
    pub fn write(&mut self, command: &Command, now: Timestamp) -> Result<Written, NotWritten> {
        let (state, answer) = written(&self.state, command, now)?;
        self.state = state;
        Ok(answer)
    }

    /// Removes what has ended by `now`, as the server does when time has passed.
    pub fn expire(&mut self, now: Timestamp) {
        loop {
            let before = self.state.revision;
            let done = self.write(&trusted(Action::Expire), now);
            if done.is_err() || self.state.revision == before {
                return;
            }
        }
    }

    /// What it holds now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

fn trusted(action: Action) -> Command {
    Command {
        action,
        options: WriteOptions::default(),
        caller: "".into(),
    }
}

fn written(
    state: &State,
    command: &Command,
    now: Timestamp,
) -> Result<(State, Written), NotWritten> {
    let plan = plan(state, command, now, &plan::Limits::default())?;
    let mut next = state.clone();
    for commit in &plan.commits {
        next = next.apply(commit)?;
    }
    Ok((next, plan.answer))
}

fn admit(schema: &Schema, tuple: &Tuple) -> Result<(), String> {
    if tuple.relation.contains('=') {
        let admitted = schema.admit_assignment(tuple);
        return admitted.map(drop).map_err(|misfit| misfit.to_string());
    }
    let admitted = schema.admit(tuple).map_err(|misfit| misfit.to_string())?;
    if let (Some(caveat), Some(given)) = (
        admitted.caveat.and_then(|id| schema.caveat(id)),
        &tuple.caveat,
    ) {
        check_context(caveat, &given.context).map_err(|problem| problem.to_string())?;
    }
    Ok(())
}

impl ValidationFile {
    fn wanted(&self, schema: &Schema) -> Result<Vec<RoleWanted>, Vec<Problem>> {
        let wanted = self.roles.iter().map(|placed| {
            placed.value.wanted(schema).map_err(|problem| {
                let message = format!("{}: {problem}", placed.value.role);
                vec![Problem {
                    file: self.roles_file.clone(),
                    ..Problem::at(placed.line, placed.column, message)
                }]
            })
        });
        wanted.collect()
    }

    fn misfits(&self, schema: &Schema) -> Vec<Problem> {
        let misfits = self.tuples.iter().filter_map(|placed| {
            let problem = admit(schema, &placed.value).err()?;
            let message = format!("{}: {problem}", placed.value);
            Some(Problem {
                file: self.tuples_file.clone(),
                ..Problem::at(placed.line, placed.column, message)
            })
        });
        misfits.collect()
    }

    fn schema_problem(&self, error: &Diagnostic) -> Problem {
        let origin = &self.schema_origin;
        let name = origin.file.as_deref().unwrap_or("schema");
        Problem {
            file: origin.file.clone(),
            line: narrow(error.line).saturating_add(origin.lines_before),
            column: narrow(error.column).saturating_add(origin.indent),
            message: error.message.clone(),
            rendered: Some(error.render(&self.schema, name)),
        }
    }
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
