//! What a resource inherits from: the objects that its `inherits` relations lead to, any number
//! of levels. Locks and roles arrive over them.

use std::collections::HashSet;

use crate::index::NodeId;
use crate::schema::{MemberId, RelId, TypeId};
use crate::time::Timestamp;

use super::closure::Ground;
use super::machine::{earlier, standing};

/// The objects above one, and what had to be read to find them.
#[derive(Debug, Default)]
pub(super) struct Climb {
    /// The object itself, then those above it, each once; a cycle hides none.
    pub nodes: Vec<(NodeId, TypeId)>,
    /// Objects and the relations of theirs that were read.
    pub read: Vec<(NodeId, RelId)>,
    /// How many tuples that took.
    pub reads: u64,
    /// The first end of any of them.
    pub ends: Option<Timestamp>,
    seen: HashSet<NodeId>,
}

impl Climb {
    /// Climbs from an object over the relations that `inherits` names for each type on the way,
    /// until it has read more than `limit` tuples.
    pub fn from<'a>(
        ground: Ground<'a>,
        node: NodeId,
        kind: TypeId,
        inherits: impl Fn(TypeId) -> &'a [MemberId],
        limit: u64,
    ) -> Self {
        let mut climb = Self::default();
        climb.nodes.push((node, kind));
        climb.seen.insert(node);
        let mut next = 0;
        while let Some((node, kind)) = climb.nodes.get(next).copied() {
            next += 1;
            for via in inherits(kind) {
                climb.step(ground, node, ground.schema.member(*via).rel);
            }
            if climb.reads > limit {
                break;
            }
        }
        climb
    }

    fn step(&mut self, ground: Ground<'_>, node: NodeId, via: RelId) {
        self.read.push((node, via));
        for group in ground.index.subject_groups(node, via) {
            for edge in group.iter() {
                self.reads += 1;
                let (live, _, end) = standing(edge.restriction, ground.now);
                if !live {
                    continue;
                }
                self.ends = earlier(self.ends, end);
                if self.seen.insert(edge.node) {
                    self.nodes.push((edge.node, group.kind));
                }
            }
        }
    }

    /// Whether an object is the one that it began at, or above it.
    pub fn has(&self, node: NodeId) -> bool {
        self.seen.contains(&node)
    }
}
