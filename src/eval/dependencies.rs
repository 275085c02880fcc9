//! Dependency keys: what a decision rests on, and what a commit changes, as 64-bit numbers.
//!
//! A key is a fixed function of strings and the store's seed, so that it is equal on every node
//! and after every restart; [`crate::index::KEY_VERSION`] names the function. A collision costs a
//! needless invalidation and never a stale answer.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::Index;
use crate::schema::RelId;
use crate::state::Change;
use crate::tuple::Tuple;

const SUBJECTS: u64 = 1;
const MEMBERSHIP: u64 = 2;

/// S(resource#relation): the subjects of a relation. `object` is the hash of the resource.
pub(super) fn subjects_key(index: &Index, object: u64, relation: RelId) -> u64 {
    named_subjects_key(index.seed(), object, index.names().rel_name(relation))
}

/// M(type:id): what that id is in, as object or as subject set; M(type:*) for a wildcard.
pub(super) fn membership_key(object: u64) -> u64 {
    mix(MEMBERSHIP, object, 0)
}

fn named_subjects_key(seed: u64, object: u64, relation: &str) -> u64 {
    mix(
        SUBJECTS,
        object,
        xxh3_64_with_seed(relation.as_bytes(), seed),
    )
}

fn mix(kind: u64, object: u64, relation: u64) -> u64 {
    let mut bytes = [0; 16];
    let (left, right) = bytes.split_at_mut(8);
    left.copy_from_slice(&object.to_le_bytes());
    right.copy_from_slice(&relation.to_le_bytes());
    xxh3_64_with_seed(&bytes, kind)
}

/// The keys that `changes` invalidate, sorted, each once; `None` where everything is (a schema).
pub fn invalidated(index: &Index, changes: &[Change]) -> Option<Vec<u64>> {
    let mut keys = Vec::with_capacity(changes.len() * 2);
    for change in changes {
        match change {
            Change::Granted(tuple) | Change::Revoked(tuple) | Change::Expired(tuple) => {
                keys.extend(tuple_keys(index, tuple));
            }
            Change::Schema(_) => return None,
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

fn tuple_keys(index: &Index, tuple: &Tuple) -> [u64; 2] {
    let hash = |kind: &str, id: &str| crate::index::object_hash(index.seed(), kind, id);
    let resource = hash(tuple.resource.kind(), tuple.resource.id());
    let subject = hash(tuple.subject.kind(), tuple.subject.id());
    [
        named_subjects_key(index.seed(), resource, &tuple.relation),
        membership_key(subject),
    ]
}
