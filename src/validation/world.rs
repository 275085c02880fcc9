//! The state that a validation file describes, in memory and without a log.

use super::{Expectation, Problem, ValidationFile};
use crate::eval::caveats::check_context;
use crate::eval::{Answer, CheckError, Limits, Question, check};
use crate::index::{Edit, Index};
use crate::revision::Revision;
use crate::schema::admit::Admitted;
use crate::schema::diagnostic::Diagnostic;
use crate::schema::{Names, Schema};
use crate::time::Timestamp;
use crate::tuple::Tuple;

/// A schema and tuples, ready to be asked.
pub struct World {
    schema: Schema,
    index: Index,
    limits: Limits,
}

impl World {
    /// Compiles the file's schema and takes its tuples in.
    ///
    /// # Errors
    /// Every error of the schema, or else every tuple that does not fit it, with their places.
    pub fn of(file: &ValidationFile) -> Result<Self, Vec<Problem>> {
        let compiled = Schema::compile(&file.schema, &Names::default()).map_err(|errors| {
            errors
                .iter()
                .map(|error| file.schema_problem(error))
                .collect::<Vec<_>>()
        })?;
        let schema = compiled.schema;
        let (mut admitted, mut misfits) = (Vec::new(), Vec::new());
        for placed in &file.tuples {
            match admit(&schema, &placed.value) {
                Ok(numbers) => admitted.push((numbers, &placed.value)),
                Err(problem) => misfits.push(Problem {
                    file: file.tuples_file.clone(),
                    ..Problem::at(
                        placed.line,
                        placed.column,
                        format!("{}: {problem}", placed.value),
                    )
                }),
            }
        }
        if !misfits.is_empty() {
            return Err(misfits);
        }
        let edits: Vec<Edit<'_>> = admitted
            .iter()
            .map(|(admitted, tuple)| Edit::put(admitted, tuple))
            .collect();
        let index = Index::new(0).with_names(schema.names.clone());
        let index = index.apply(&edits, Revision(1));
        Ok(Self {
            schema,
            index,
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
        check(&self.schema, &self.index, question, now, &self.limits)
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

fn admit(schema: &Schema, tuple: &Tuple) -> Result<Admitted, String> {
    let admitted = schema.admit(tuple).map_err(|misfit| misfit.to_string())?;
    if let (Some(caveat), Some(given)) = (
        admitted.caveat.and_then(|id| schema.caveat(id)),
        &tuple.caveat,
    ) {
        check_context(caveat, &given.context).map_err(|problem| problem.to_string())?;
    }
    Ok(admitted)
}

impl ValidationFile {
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
