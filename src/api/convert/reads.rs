//! Requests that read tuples and the schema.

use super::{Malformed, consistency, filters};
use crate::api::proto;
use crate::revision::Consistency;
use crate::tuple::TupleFilter;

/// Which tuples to read.
#[derive(Debug)]
pub struct TuplesWanted {
    /// Which.
    pub filter: TupleFilter,
    /// Of which state.
    pub at: Consistency,
    /// At most so many; 0: all.
    pub limit: u32,
    /// Where an earlier answer ended.
    pub cursor: Option<String>,
}

/// Which tuples to read.
///
/// # Errors
/// Which field is malformed.
pub fn tuples(from: proto::ReadTuplesRequest) -> Result<TuplesWanted, Malformed> {
    let proto::ReadTuplesRequest {
        filter,
        consistency: at,
        limit,
        cursor,
    } = from;
    let filter = filters::filter(filter.unwrap_or_default());
    Ok(TuplesWanted {
        filter: filter.map_err(|malformed| malformed.within("filter"))?,
        at: consistency(at)?,
        limit,
        cursor: (!cursor.is_empty()).then_some(cursor),
    })
}

/// Which state's schema to read.
///
/// # Errors
/// A malformed consistency.
pub fn schema(from: proto::ReadSchemaRequest) -> Result<Consistency, Malformed> {
    let proto::ReadSchemaRequest { consistency: at } = from;
    consistency(at)
}
