//! Wire types stop here: every message that comes in is taken apart field by field and becomes
//! a type of the core, or an error that names the field at fault.
//!
//! Every conversion destructures its message, so that a new field does not compile until
//! somebody decided what it means.

use std::fmt;
use std::sync::Arc;

use super::proto;
use crate::plan::{Operation, Precondition, Update, WriteOptions};
use crate::revision::{Consistency, MalformedToken, Token};
use crate::tuple::{
    CaveatRef, MalformedReference, ObjectRef, Subject, SubjectRef, Tuple, is_relation, is_word,
};

pub mod answers;

pub mod borrowed;

pub mod bulk;

pub mod changes;

pub mod explanations;

pub mod filters;

pub mod lists;

pub mod locks;

pub mod questions;

pub mod reads;

pub mod roles;

pub mod values;

pub mod watches;

pub mod writes;

/// A field that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Malformed {
    /// Its path in the request: `updates[3].tuple.subject`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is no reference.
    #[error("{0}")]
    Reference(MalformedReference),
    /// A part of a tuple is no reference.
    #[error("{0}")]
    Tuple(MalformedReference),
    /// It is no revision.
    #[error("{0}")]
    Revision(MalformedToken),
    /// It is not there.
    #[error("{0} is required")]
    Missing(&'static str),
    /// Its enum's value is 0 or unknown.
    #[error("is {value}; expected {expected}")]
    Enum {
        /// What it is.
        value: i32,
        /// What it could be.
        expected: &'static str,
    },
    /// It is too large.
    #[error("has {size} {unit}, and at most {limit} are allowed")]
    TooLarge {
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// Lists and objects nest too deep.
    #[error("nests deeper than {limit} levels")]
    TooDeep {
        /// How deep they may.
        limit: usize,
    },
    /// It says something that another field says, too.
    #[error("can't be given together with {0}")]
    Contradictory(&'static str),
    /// A filter that has to select something selects everything.
    #[error("has no field set, and would match every tuple")]
    FilterEmpty,
    /// It is no time to live.
    #[error("{0}")]
    Ttl(&'static str),
    /// Anything else; completes "the field …".
    #[error("{0}")]
    Invalid(&'static str),
}

impl Malformed {
    /// The value at hand is at fault; whoever knows its name puts it in front.
    pub(crate) fn here(problem: Problem) -> Self {
        Self {
            field: String::new(),
            problem,
        }
    }

    pub(crate) fn at(field: impl fmt::Display, problem: Problem) -> Self {
        Self {
            field: field.to_string(),
            problem,
        }
    }

    /// The path, seen from the message around it.
    pub(crate) fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = match self.field.as_bytes() {
            [] => outer.to_string(),
            [b'[', ..] => format!("{outer}{}", self.field),
            _ => format!("{outer}.{}", self.field),
        };
        self
    }

    pub(crate) fn at_index(self, index: usize) -> Self {
        self.within(format_args!("[{index}]"))
    }
}

/// Converts every item of a repeated field.
///
/// # Errors
/// That of the first item that has one, under `field[index]`.
pub(crate) fn each<From, To>(
    field: &str,
    items: Vec<From>,
    convert: impl Fn(From) -> Result<To, Malformed>,
) -> Result<Vec<To>, Malformed> {
    let items = items.into_iter().enumerate();
    items
        .map(|(index, item)| {
            convert(item).map_err(|malformed| malformed.within(format_args!("{field}[{index}]")))
        })
        .collect()
}

/// A tuple; caveat and expiry included.
///
/// # Errors
/// Which part of it is malformed.
pub fn tuple(from: proto::Tuple) -> Result<Tuple, Malformed> {
    tuple_by(from, Tuple::new)
}

/// The same, where `make` puts the parts together.
fn tuple_by(
    from: proto::Tuple,
    make: impl FnOnce(ObjectRef<'_>, &str, SubjectRef<'_>) -> Result<Tuple, MalformedReference>,
) -> Result<Tuple, Malformed> {
    let proto::Tuple {
        resource,
        relation,
        subject,
        caveat: from_caveat,
        expires_at,
    } = from;
    let malformed =
        |field: &'static str| move |problem| Malformed::at(field, Problem::Tuple(problem));
    let resource = ObjectRef::parse(&resource).map_err(malformed("resource"))?;
    let subject = SubjectRef::parse(&subject).map_err(malformed("subject"))?;
    let mut tuple = make(resource, &relation, subject).map_err(malformed("relation"))?;
    if let Some(from) = from_caveat {
        tuple.caveat = Some(caveat(from).map_err(|malformed| malformed.within("caveat"))?);
    }
    if let Some(from) = expires_at {
        let at = values::timestamp(from).map_err(|malformed| malformed.within("expires_at"))?;
        tuple.expires_at = Some(at);
    }
    Ok(tuple)
}

fn caveat(from: proto::Caveat) -> Result<CaveatRef, Malformed> {
    let proto::Caveat { name, context } = from;
    if name.is_empty() {
        return Err(Malformed::at(
            "name",
            Problem::Missing("the name of a caveat"),
        ));
    }
    if !name.split('/').all(is_word) {
        return Err(Malformed::at(
            "name",
            Problem::Invalid("is no name of a caveat"),
        ));
    }
    let context = values::context(context.unwrap_or_default())
        .map_err(|malformed| malformed.within("context"))?;
    Ok(CaveatRef {
        name: name.into(),
        context: Arc::new(context),
    })
}

/// The other way round.
pub fn to_tuple(from: &Tuple) -> proto::Tuple {
    let Tuple {
        resource,
        relation,
        subject,
        caveat,
        expires_at,
    } = from;
    proto::Tuple {
        resource: resource.to_string(),
        relation: relation.to_string(),
        subject: subject.to_string(),
        caveat: caveat.as_ref().map(to_caveat),
        expires_at: expires_at.map(values::to_timestamp),
    }
}

fn to_caveat(from: &CaveatRef) -> proto::Caveat {
    let CaveatRef { name, context } = from;
    proto::Caveat {
        name: name.to_string(),
        context: (!context.is_empty()).then(|| values::to_struct(context)),
    }
}

/// What a read asks of the state; unset is the newest.
///
/// # Errors
/// A malformed revision, or `full: false`.
pub fn consistency(from: Option<proto::Consistency>) -> Result<Consistency, Malformed> {
    use proto::consistency::Requirement;
    let Some(proto::Consistency { requirement }) = from else {
        return Ok(Consistency::Newest);
    };
    match requirement {
        None => Ok(Consistency::Newest),
        Some(Requirement::AtLeast(text)) => {
            token("consistency.at_least", &text).map(Consistency::AtLeast)
        }
        Some(Requirement::Exactly(text)) => {
            token("consistency.exactly", &text).map(Consistency::Exactly)
        }
        Some(Requirement::Full(true)) => Ok(Consistency::Full),
        Some(Requirement::Full(false)) => Err(Malformed::at(
            "consistency.full",
            Problem::Invalid("is false; leave consistency out for the newest revision"),
        )),
    }
}

/// A revision.
///
/// # Errors
/// Where it is none.
pub fn token(field: &str, text: &str) -> Result<Token, Malformed> {
    text.parse()
        .map_err(|problem| Malformed::at(field, Problem::Revision(problem)))
}

/// What a write says beside what it does; its fields are those of `options`.
///
/// # Errors
/// Which field is malformed.
pub fn write_options(from: Option<proto::WriteOptions>) -> Result<WriteOptions, Malformed> {
    from.map_or_else(|| Ok(WriteOptions::default()), set_options)
        .map_err(|malformed| malformed.within("options"))
}

fn set_options(from: proto::WriteOptions) -> Result<WriteOptions, Malformed> {
    let proto::WriteOptions {
        actor,
        reason,
        idempotency_key,
        wait_for_watchers,
        dry_run,
        metadata,
    } = from;
    let wait_for_watchers = wait_for_watchers.map(values::duration).transpose();
    let metadata = metadata.map(values::context).transpose();
    Ok(WriteOptions {
        actor: optional_subject("actor", &actor)?,
        reason,
        idempotency_key: (!idempotency_key.is_empty()).then(|| idempotency_key.into()),
        wait_for_watchers: wait_for_watchers
            .map_err(|malformed| malformed.within("wait_for_watchers"))?,
        dry_run,
        metadata: metadata
            .map_err(|malformed| malformed.within("metadata"))?
            .map(Arc::new),
    })
}

fn optional_subject(field: &str, text: &str) -> Result<Option<Subject>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    let subject = SubjectRef::parse(text)
        .map_err(|problem| Malformed::at(field, Problem::Reference(problem)))?;
    if subject.is_wildcard() {
        let problem = Problem::Invalid("is a wildcard, where one subject is expected");
        return Err(Malformed::at(field, problem));
    }
    if subject.relation().is_some() {
        let problem = Problem::Invalid("is a subject set, where type:id is expected");
        return Err(Malformed::at(field, problem));
    }
    Ok(Some(subject.to_subject()))
}

/// One change.
///
/// # Errors
/// Which field is malformed.
pub fn update(from: proto::Update) -> Result<Update, Malformed> {
    let proto::Update {
        operation: from_operation,
        tuple: from_tuple,
    } = from;
    let operation = operation(from_operation).map_err(|malformed| malformed.within("operation"))?;
    let Some(from_tuple) = from_tuple else {
        return Err(Malformed::at("tuple", Problem::Missing("a tuple")));
    };
    let from_tuple = match operation {
        Operation::Revoke | Operation::Delete => writes::unrestricted(from_tuple),
        Operation::Grant | Operation::Create => from_tuple,
    };
    let tuple = tuple(from_tuple).map_err(|malformed| malformed.within("tuple"))?;
    Ok(Update { operation, tuple })
}

fn operation(value: i32) -> Result<Operation, Malformed> {
    use proto::update::Operation as Wire;
    let unknown = Malformed::here(Problem::Enum {
        value,
        expected: "OPERATION_GRANT, OPERATION_CREATE, OPERATION_REVOKE or OPERATION_DELETE",
    });
    match Wire::try_from(value) {
        Ok(Wire::Grant) => Ok(Operation::Grant),
        Ok(Wire::Create) => Ok(Operation::Create),
        Ok(Wire::Revoke) => Ok(Operation::Revoke),
        Ok(Wire::Delete) => Ok(Operation::Delete),
        Ok(Wire::Unspecified) | Err(_) => Err(unknown),
    }
}

/// One condition of a write.
///
/// # Errors
/// Which field is malformed; an empty filter is.
pub fn precondition(from: proto::Precondition) -> Result<Precondition, Malformed> {
    use proto::precondition::Expectation;
    let proto::Precondition {
        filter,
        expectation,
    } = from;
    let unknown = Problem::Enum {
        value: expectation,
        expected: "EXPECTATION_MUST_MATCH or EXPECTATION_MUST_NOT_MATCH",
    };
    let must_match = match Expectation::try_from(expectation) {
        Ok(Expectation::MustMatch) => true,
        Ok(Expectation::MustNotMatch) => false,
        Ok(Expectation::Unspecified) | Err(_) => {
            return Err(Malformed::at("expectation", unknown));
        }
    };
    let filter = filters::selective(filter.unwrap_or_default())?;
    Ok(Precondition { filter, must_match })
}

/// The name of a relation or permission, where one is required.
pub(crate) fn name(field: &str, text: &str, what: &'static str) -> Result<(), Malformed> {
    if text.is_empty() {
        return Err(Malformed::at(field, Problem::Missing(what)));
    }
    if !is_relation(text) {
        return Err(Malformed::at(field, Problem::Invalid("is no name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
