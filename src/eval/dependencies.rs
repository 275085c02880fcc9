//! Dependency keys: what a decision rests on, and what a commit changes, as 64-bit numbers.
//!
//! A key is a fixed function of strings and the store's seed, so that it is equal on every node
//! and after every restart; [`crate::index::KEY_VERSION`] names the function. A collision costs a
//! needless invalidation and never a stale answer.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::{Index, generated, object_hash};
use crate::schema::{RelId, TypeId};
use crate::state::Change;
use crate::tuple::Tuple;

const SUBJECTS: u64 = 1;
const MEMBERSHIP: u64 = 2;
const LOCKS: u64 = 3;
const ROLE: u64 = 4;

/// S(resource#relation): the subjects of a relation. `object` is the hash of the resource.
pub(super) fn subjects_key(index: &Index, object: u64, relation: RelId) -> u64 {
    named_subjects_key(index.seed(), object, index.names().rel_name(relation))
}

/// M(type:id): what that id is in, as object or as subject set; M(type:*) for a wildcard.
pub(super) fn membership_key(object: u64) -> u64 {
    mix(MEMBERSHIP, object, 0)
}

/// M(type:id in T): the same as far as it is in resources of the type `within`. What rests on the
/// groups that somebody is in does not change with each document that is shared with them.
pub(super) fn membership_within_key(index: &Index, object: u64, within: TypeId) -> u64 {
    named_membership_key(index.seed(), object, index.names().type_name(within))
}

/// L(resource): the locks on it. `object` is the hash of the resource.
pub(super) fn locks_key(object: u64) -> u64 {
    mix(LOCKS, object, 0)
}

/// R(role): its record. `role` is its reference.
pub(super) fn role_key(seed: u64, role: &str) -> u64 {
    mix(ROLE, xxh3_64_with_seed(role.as_bytes(), seed), 0)
}

fn named_membership_key(seed: u64, object: u64, within: &str) -> u64 {
    mix(
        MEMBERSHIP,
        object,
        xxh3_64_with_seed(within.as_bytes(), seed),
    )
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
    let mut keys = Vec::with_capacity(changes.len() * 3);
    for change in changes {
        match change {
            Change::Granted(tuple) | Change::Revoked(tuple) | Change::Expired(tuple) => {
                keys.extend(tuple_keys(index, tuple));
            }
            Change::Schema(_) => return None,
            Change::Locked(lock) | Change::Unlocked(lock) | Change::LockExpired(lock) => {
                let (kind, id) = (lock.resource.kind(), lock.resource.id());
                keys.push(locks_key(object_hash(index.seed(), kind, id)));
            }
            Change::RoleWritten(record) => {
                keys.push(role_key(index.seed(), record.role.as_str()));
            }
            Change::RoleDeleted(role) => keys.push(role_key(index.seed(), role.as_str())),
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

fn tuple_keys(index: &Index, tuple: &Tuple) -> [u64; 3] {
    let hash = |kind: &str, id: &str| object_hash(index.seed(), kind, id);
    // All assignments of one block on a resource are the subjects of one generated relation.
    let assigned = tuple
        .relation
        .split_once('=')
        .map(|(block, _)| generated(block));
    let relation = assigned.as_deref().unwrap_or(&tuple.relation);
    // And what the subject is in is then a site, whose type has the same name.
    let within = assigned.as_deref().unwrap_or(tuple.resource.kind());
    let resource = hash(tuple.resource.kind(), tuple.resource.id());
    let subject = hash(tuple.subject.kind(), tuple.subject.id());
    [
        named_subjects_key(index.seed(), resource, relation),
        membership_key(subject),
        named_membership_key(index.seed(), subject, within),
    ]
}
