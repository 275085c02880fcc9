//! `min N`: a relation never loses its last direct subjects.

use std::collections::HashMap;

use crate::schema::{MemberId, Schema};
use crate::state::{Change, State};
use crate::tuple::{Object, Tuple};

use super::{Broken, Violation};

/// Refuses changes that lower the count of some relation and leave it below its `min`: for every
/// writer, trusted or not. Expiry lowers none: what expires was never counted.
pub(crate) fn minimums(state: &State, schema: &Schema, changes: &[Change]) -> Result<(), Broken> {
    // What becomes of each tuple in the end: an import may grant one several times.
    let mut after: HashMap<_, (&Tuple, MemberId, bool)> = HashMap::new();
    for change in changes {
        let (tuple, counts) = match change {
            Change::Granted(tuple) => (tuple, tuple.is_plain()),
            Change::Revoked(tuple) => (tuple, false),
            _ => continue,
        };
        if let Some(member) = with_minimum(schema, tuple) {
            let name = (&tuple.resource, member, &tuple.subject);
            after.insert(name, (tuple, member, counts));
        }
    }
    let mut lowered: HashMap<(&Object, MemberId), (&Tuple, i64)> = HashMap::new();
    for (tuple, member, counts) in after.into_values() {
        let before = state.find(tuple).is_some_and(|stored| stored.is_plain());
        let place = lowered.entry((&tuple.resource, member));
        place.or_insert((tuple, 0)).1 += i64::from(before) - i64::from(counts);
    }
    let mut lowered: Vec<_> = lowered.into_iter().collect();
    lowered.sort_by_key(|((resource, member), _)| (*resource, *member));
    for ((_, member), (tuple, by)) in lowered {
        let min = schema.member(member).relation().map_or(0, |r| r.min);
        if by > 0 {
            keeps(state, tuple, min, by.unsigned_abs())?;
        }
    }
    Ok(())
}

fn with_minimum(schema: &Schema, tuple: &Tuple) -> Option<MemberId> {
    let member = schema.relation_of(tuple)?;
    let relation = schema.member(member).relation()?;
    (relation.min > 0).then_some(member)
}

fn keeps(state: &State, tuple: &Tuple, min: u64, lowered: u64) -> Result<(), Broken> {
    let enough = min.saturating_add(lowered);
    let most = usize::try_from(enough).unwrap_or(usize::MAX);
    let stands = state.count_direct(&tuple.resource, &tuple.relation, most);
    match stands >= enough {
        true => Ok(()),
        false => Err(Box::new(Violation::MinimumViolated {
            resource: tuple.resource.to_string(),
            relation: tuple.relation.to_string(),
            min,
            left: stands.saturating_sub(lowered),
        })),
    }
}
