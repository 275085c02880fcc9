//! What a resource inherits from: the objects that its `inherits` relations lead to, any number
//! of levels. Locks and roles arrive over them.

use hashbrown::HashSet;
use smallvec::SmallVec;

use crate::index::NodeId;
use crate::schema::{MemberId, RelId, TypeId};
use crate::time::Timestamp;

use super::closure::Ground;
use super::machine::{earlier, standing};

/// So many are looked at one by one: most things have few parents.
const FEW: usize = 16;

/// The objects above one, and what had to be read to find them.
#[derive(Debug, Default)]
pub(super) struct Climb {
    /// The object itself, then those above it, each once; a cycle hides none.
    pub nodes: SmallVec<[(NodeId, TypeId); 4]>,
    /// Objects and the relations of theirs that were read.
    pub read: SmallVec<[(NodeId, RelId); 4]>,
    /// How many tuples that took.
    pub reads: u64,
    /// The first end of any of them.
    pub ends: Option<Timestamp>,
    /// All nodes, once they are more than a few.
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
        Self::to(ground, (node, kind), inherits, |_| true, limit)
    }

    /// The same, without objects of types of which `matters` says that neither they nor anything
    /// above them does.
    pub fn to<'a>(
        ground: Ground<'a>,
        (node, kind): (NodeId, TypeId),
        inherits: impl Fn(TypeId) -> &'a [MemberId],
        matters: impl Fn(TypeId) -> bool,
        limit: u64,
    ) -> Self {
        let mut climb = Self::default();
        climb.enter(node, kind);
        let mut next = 0;
        while let Some((node, kind)) = climb.nodes.get(next).copied() {
            next += 1;
            for via in inherits(kind) {
                climb.step(ground, node, ground.schema.member(*via).rel, &matters);
            }
            if climb.reads > limit {
                break;
            }
        }
        climb
    }

    fn step(
        &mut self,
        ground: Ground<'_>,
        node: NodeId,
        via: RelId,
        matters: &impl Fn(TypeId) -> bool,
    ) {
        self.read.push((node, via));
        let groups = ground.index.subject_groups(node, via);
        for group in groups.filter(|group| matters(group.kind)) {
            for edge in group.iter() {
                self.reads += 1;
                let (live, _, end) = standing(edge.restriction, ground.now);
                if !live {
                    continue;
                }
                self.ends = earlier(self.ends, end);
                self.enter(edge.node, group.kind);
            }
        }
    }

    fn enter(&mut self, node: NodeId, kind: TypeId) {
        if self.has(node) {
            return;
        }
        self.nodes.push((node, kind));
        match self.nodes.len() - 1 {
            ..FEW => {}
            FEW => self.seen.extend(self.nodes.iter().map(|(node, _)| *node)),
            _ => _ = self.seen.insert(node),
        }
    }

    /// Whether an object is the one that it began at, or above it.
    pub fn has(&self, node: NodeId) -> bool {
        match self.nodes.len() {
            ..=FEW => self.nodes.iter().any(|(known, _)| *known == node),
            _ => self.seen.contains(&node),
        }
    }
}
