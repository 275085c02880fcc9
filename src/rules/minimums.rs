//! `min N`: a relation never loses its last direct subjects.

use hashbrown::HashMap;

use crate::schema::Schema;
use crate::state::{Change, State};
use crate::tuple::{Object, RoleRef, Tuple};

use super::{Broken, Violation};

/// Refuses changes that lower the count of some relation and leave it below its `min`: for every
/// writer, trusted or not. Expiry lowers none: what expires was never counted.
pub(crate) fn minimums(state: &State, schema: &Schema, changes: &[Change]) -> Result<(), Broken> {
    if !schema.has_minimums() {
        return Ok(());
    }
    // What becomes of each tuple in the end: an import may grant one several times.
    let mut after: HashMap<_, (&Tuple, u64, bool)> = HashMap::new();
    for change in changes {
        let (tuple, counts) = match change {
            Change::Granted(tuple) => (tuple, tuple.is_plain()),
            Change::Revoked(tuple) => (tuple, false),
            _ => continue,
        };
        if let Some(min) = minimum(schema, tuple) {
            let name = (&tuple.resource, &tuple.relation, &tuple.subject);
            after.insert(name, (tuple, min, counts));
        }
    }
    let mut lowered: HashMap<(&Object, &str), (&Tuple, u64, i64)> = HashMap::new();
    for (tuple, min, counts) in after.into_values() {
        let before = state.find(tuple).is_some_and(|stored| stored.is_plain());
        let place = lowered.entry((&tuple.resource, &tuple.relation));
        place.or_insert((tuple, min, 0)).2 += i64::from(before) - i64::from(counts);
    }
    let mut lowered: Vec<_> = lowered.into_iter().collect();
    lowered.sort_by_key(|(place, _)| *place);
    for (_, (tuple, min, by)) in lowered {
        if by > 0 {
            keeps(state, tuple, min, by.unsigned_abs())?;
        }
    }
    Ok(())
}

/// How many a relation, or the assignments of a built-in role on its owner, has to keep.
fn minimum(schema: &Schema, tuple: &Tuple) -> Option<u64> {
    let min = match RoleRef::of_relation(&tuple.relation) {
        Some(role) => {
            let (_, block) = schema.roles_named(role.block())?;
            let builtin = block.builtins.iter().find(|one| *one.name == *role.key())?;
            let is_owner = tuple.resource.id() == role.owner_id()
                && tuple.resource.kind() == schema.names.type_name(block.owner);
            if is_owner { builtin.min } else { 0 }
        }
        None => schema.member(schema.relation_of(tuple)?).relation()?.min,
    };
    (min > 0).then_some(min)
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
