//! Which locks are held on an object: its own, and those that arrive over what it inherits from.

use std::sync::Arc;

use crate::index::NodeId;
use crate::schema::{LockDef, MemberId, TypeId};
use crate::state::HeldLock;
use crate::time::Timestamp;
use crate::tuple::ObjectRef;

use super::Facts;
use super::climb::Climb;
use super::closure::Ground;
use super::dependencies::{locks_key, subjects_key};
use super::machine::NO_RESOURCE;

/// The locks of one mode that are held on one object.
#[derive(Debug, Default)]
pub(super) struct Held<'a> {
    pub locks: Vec<&'a Arc<HeldLock>>,
    /// Where they were looked for, and what was read to get there.
    pub climb: Climb,
}

impl<'a> Ground<'a> {
    /// A lock mode of a type.
    pub fn mode(self, kind: TypeId, place: u16) -> Option<&'a LockDef> {
        let definition = self.schema.type_def(kind)?;
        definition.locks.get(usize::from(place))
    }

    /// The objects from which locks of a mode arrive on this one, itself first.
    pub fn lock_places(self, node: NodeId, kind: TypeId, mode: &str, limit: u64) -> Climb {
        Climb::from(self, node, kind, |kind| self.inherited(kind, mode), limit)
    }

    /// Those of them that a lock may be held by: not what is of a type on which none of the mode
    /// sits, and over which none arrives.
    pub fn locked_places(self, node: NodeId, kind: TypeId, mode: &str, limit: u64) -> Climb {
        let inherits = |kind| self.inherited(kind, mode);
        let matters = |kind| {
            let name = self.schema.names.type_name(kind);
            !inherits(kind).is_empty() || self.locks.has_mode_on(mode, name)
        };
        Climb::to(self, (node, kind), inherits, matters, limit)
    }

    /// The relations over which locks of a mode arrive on objects of a type.
    fn inherited(self, kind: TypeId, mode: &str) -> &'a [MemberId] {
        let definition = self.schema.type_def(kind);
        let locks = definition.map_or(&[][..], |kind| &kind.locks);
        let mode = locks.iter().find(|lock| *lock.name == *mode);
        mode.map_or(&[], |mode| &mode.inherits)
    }

    /// The locks of a mode that are held by these objects, by their ids. `named` is what the
    /// first of them is called, where the index does not know it.
    pub fn locks_of(
        self,
        climb: &Climb,
        mode: &str,
        hash: impl Fn(NodeId) -> u64,
        named: Option<ObjectRef<'a>>,
    ) -> Vec<&'a Arc<HeldLock>> {
        let mut locks = Vec::new();
        for (node, kind) in &climb.nodes {
            let known =
                || ObjectRef::known(self.schema.names.type_name(*kind), self.index.id_of(*node));
            let object = named
                .filter(|_| locks_begin(climb, *node))
                .unwrap_or_else(known);
            let here = self.locks.on(hash(*node), object);
            locks.extend(here.filter(|lock| *lock.mode == *mode && lock.is_held(self.now)));
        }
        locks.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        locks
    }
}

/// The locks of a mode that are held on a resource: its own, and those that arrive from wherever
/// it leads; by their ids.
pub(crate) fn held_on<'a>(
    facts: Facts<'a>,
    resource: ObjectRef<'a>,
    mode: &str,
    now: Timestamp,
) -> Vec<&'a Arc<HeldLock>> {
    let ground = Ground::of(facts, now);
    let kind = ground.schema.names.type_id(resource.kind());
    let Some(kind) = kind.filter(|_| ground.locks.has_mode(mode)) else {
        return Vec::new();
    };
    // What no tuple names leads nowhere.
    let node = ground
        .index
        .node(kind, resource.id())
        .unwrap_or(NO_RESOURCE);
    let climb = ground.locked_places(node, kind, mode, u64::MAX);
    let index = ground.index;
    let hash = |at| match at == node {
        true => index.object_hash(kind, resource.id()),
        false => index.hash_of(at),
    };
    ground.locks_of(&climb, mode, hash, Some(resource))
}

fn locks_begin(climb: &Climb, node: NodeId) -> bool {
    climb.nodes.first().is_some_and(|(first, _)| *first == node)
}

/// The keys of all locks that could block a member on a node, held or not.
pub(super) fn keys(
    ground: Ground<'_>,
    (node, member): (NodeId, MemberId),
    hash: &impl Fn(NodeId) -> u64,
    keys: &mut Vec<u64>,
) {
    let kind = ground.schema.member(member).owner;
    for place in &ground.programs.get(member).locks {
        if let Some(mode) = ground.mode(kind, *place) {
            let climb = ground.lock_places(node, kind, &mode.name, u64::MAX);
            climb_keys(ground, &climb, hash, keys);
        }
    }
}

/// The keys of the locks on all objects of a climb, and of what it read.
pub(super) fn climb_keys(
    ground: Ground<'_>,
    climb: &Climb,
    hash: &impl Fn(NodeId) -> u64,
    keys: &mut Vec<u64>,
) {
    keys.extend(climb.nodes.iter().map(|(node, _)| locks_key(hash(*node))));
    read_keys(ground, climb, hash, keys);
}

/// The keys of the tuples that a climb read.
pub(super) fn read_keys(
    ground: Ground<'_>,
    climb: &Climb,
    hash: &impl Fn(NodeId) -> u64,
    keys: &mut Vec<u64>,
) {
    let read = climb.read.iter();
    keys.extend(read.map(|(node, via)| subjects_key(ground.index, hash(*node), *via)));
}
