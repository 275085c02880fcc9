//! Requests of imports and exports.

use std::sync::Arc;

use tonic::Status;

use super::{Malformed, Problem, consistency, filters, tuple};
use crate::api::proto;
use crate::revision::Consistency;
use crate::tuple::{Tuple, TupleFilter};

/// One message of an import, as far as it could be understood.
#[derive(Debug, Default)]
pub struct Piece {
    /// What only the first message has.
    pub first: Option<First>,
    /// Its tuples, up to one that is at fault.
    pub tuples: Vec<Tuple>,
    /// Why the stream ends behind them, where it does.
    pub end: Option<Stop>,
}

/// Why a stream ends before its sender ends it.
#[derive(Debug)]
pub enum Stop {
    /// A message could not be understood.
    Malformed(Malformed),
    /// No message came.
    Broken(Box<Status>),
}

/// What an import begins with.
#[derive(Debug, Default)]
pub struct First {
    /// The schema's text.
    pub schema: Option<Arc<str>>,
}

impl Piece {
    /// The stream broke.
    pub(crate) fn broken(status: Status) -> Self {
        Self {
            end: Some(Stop::Broken(Box::new(status))),
            ..Self::default()
        }
    }
}

/// One message of an import.
pub fn piece(from: proto::ImportRequest, is_first: bool) -> Piece {
    let proto::ImportRequest {
        tuples,
        schema,
        roles,
        locks,
    } = from;
    let mut piece = Piece::default();
    match first(schema, &roles, &locks, is_first) {
        Ok(first) => piece.first = first,
        Err(malformed) => {
            piece.end = Some(Stop::Malformed(malformed));
            return piece;
        }
    }
    piece.tuples.reserve_exact(tuples.len());
    for (place, from) in tuples.into_iter().enumerate() {
        match tuple(from) {
            Ok(tuple) => piece.tuples.push(tuple),
            Err(malformed) => {
                let malformed = malformed.within(format_args!("tuples[{place}]"));
                piece.end = Some(Stop::Malformed(malformed));
                break;
            }
        }
    }
    piece
}

fn first(
    schema: String,
    roles: &[proto::Role],
    locks: &[proto::HeldLock],
    is_first: bool,
) -> Result<Option<First>, Malformed> {
    let given = [
        ("schema", !schema.is_empty()),
        ("roles", !roles.is_empty()),
        ("locks", !locks.is_empty()),
    ];
    let late = given.iter().find(|(_, given)| *given && !is_first);
    if let Some((field, _)) = late {
        let problem = Problem::Invalid("belongs into the first message of the stream");
        return Err(Malformed::at(field, problem));
    }
    if let Some((field, _)) = given.iter().skip(1).find(|(_, given)| *given) {
        let problem = Problem::Invalid("can't be imported by this version yet");
        return Err(Malformed::at(field, problem));
    }
    let schema = (!schema.is_empty()).then(|| schema.into());
    Ok(is_first.then_some(First { schema }))
}

/// What to export.
#[derive(Debug)]
pub struct ExportWanted {
    /// Which tuples.
    pub filter: TupleFilter,
    /// Of which state.
    pub at: Consistency,
}

/// What to export.
///
/// # Errors
/// Which field is malformed.
pub fn export(from: proto::ExportRequest) -> Result<ExportWanted, Malformed> {
    let proto::ExportRequest {
        filter,
        consistency: at,
    } = from;
    let filter = filters::filter(filter.unwrap_or_default());
    Ok(ExportWanted {
        filter: filter.map_err(|malformed| malformed.within("filter"))?,
        at: consistency(at)?,
    })
}
