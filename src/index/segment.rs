//! A 64th of the index: the nodes whose hash falls into it, with all tuples on either side of
//! them.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use smallvec::SmallVec;

use crate::schema::TypeId;

use super::NodeId;
use super::base::Side;
use super::delta::{APART, Changed, Delta, Entry, MANY};
use super::group::{Head, NodeSide};
use super::nodes::{Nodes, Tag, long_bytes};

/// A segment is merged at leisure where one in so many of its entries is not.
const A_PART: u64 = 16;
/// A merge that others wait for takes the nodes in where the new ones are one in so many: they need
/// no place in order, and to copy all of them for few would be most of its work.
const NODES_APART: u32 = 8;

type Runs = SmallVec<[Arc<Nodes>; 4]>;

/// A frozen base under a small delta.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    base: Arc<Base>,
    /// Nodes that the base lacks: those of large commits, the oldest first, and behind them
    /// single ones, with the way to these by tag.
    runs: Runs,
    added: Vector<Added>,
    added_by_tag: OrdMap<Tag, SmallVec<[u32; 1]>>,
    forward: Delta,
    backward: Delta,
    pending: u64,
    /// How many nodes the last merge knew.
    merged: u32,
}

/// What does not change until the next merge.
#[derive(Debug, Default)]
pub(super) struct Base {
    pub nodes: Arc<Nodes>,
    pub forward: Side,
    pub backward: Side,
}

impl Base {
    fn bytes(&self) -> usize {
        self.nodes.bytes() + self.side_bytes()
    }

    fn side_bytes(&self) -> usize {
        self.forward.bytes() + self.backward.bytes()
    }
}

#[derive(Clone, Debug)]
struct Added {
    kind: TypeId,
    tag: Tag,
    id: Arc<str>,
}

/// A new base for one segment, and what it was made of.
#[derive(Debug)]
pub struct Merged {
    pub(super) segment: usize,
    base: Base,
    /// Nodes that are not in it.
    runs: Runs,
    sequence: u64,
}

impl Segment {
    pub fn from_base(base: Base) -> Self {
        Self {
            merged: base.nodes.len(),
            base: Arc::new(base),
            ..Self::default()
        }
    }

    pub fn base(&self) -> &Base {
        &self.base
    }

    pub fn node_count(&self) -> u32 {
        let added = u32::try_from(self.added.len()).unwrap_or(u32::MAX);
        self.first_added().saturating_add(added)
    }

    /// The place of the first node of `added`.
    fn first_added(&self) -> u32 {
        let runs = self.runs.iter().map(|run| run.len());
        runs.fold(self.base.nodes.len(), u32::saturating_add)
    }

    /// Entries of the delta, and nodes that came since the last merge.
    pub fn pending(&self) -> u64 {
        self.pending + u64::from(self.node_count() - self.merged)
    }

    /// Whether the base is all that there is.
    pub fn is_merged(&self) -> bool {
        self.pending() == 0 && self.runs.is_empty()
    }

    pub fn find_node(&self, tag: Tag, kind: TypeId, id: &str) -> Option<u32> {
        let based = self.base.nodes.find(tag, kind, id);
        if based.is_some() || self.node_count() == self.base.nodes.len() {
            return based;
        }
        let mut first = self.base.nodes.len();
        for run in &self.runs {
            if let Some(local) = run.find(tag, kind, id) {
                return Some(first + local);
            }
            first += run.len();
        }
        let same = |local: &&u32| {
            self.added(**local)
                .is_some_and(|node| node.kind == kind && *node.id == *id)
        };
        self.added_by_tag.get(&tag)?.iter().find(same).copied()
    }

    /// Reads what a search for a node reads first.
    pub fn touch_node(&self, tag: Tag) -> u32 {
        self.base.nodes.touch(tag)
    }

    /// Reads what questions about a resource read first; gives what [`Segment::touch_target`] takes.
    pub fn touch_groups(&self, local: u32) -> u32 {
        self.base.forward.touch(local)
    }

    /// Reads what they read next.
    pub fn touch_target(&self, place: u32) -> u32 {
        self.base.forward.touch_target(place)
    }

    pub fn add_node(&mut self, tag: Tag, kind: TypeId, id: &str) -> u32 {
        let local = self.node_count();
        let id = id.into();
        self.added.push_back(Added { kind, tag, id });
        self.added_by_tag.entry(tag).or_default().push(local);
        local
    }

    /// Adds nodes that it lacks, behind those that it has.
    pub fn add_nodes(&mut self, nodes: Nodes) {
        self.added_by_tag = OrdMap::new();
        let single = self.single();
        self.added = Vector::new();
        for nodes in [single, nodes] {
            push_run(&mut self.runs, nodes);
        }
    }

    /// The nodes behind those of large commits.
    fn single(&self) -> Nodes {
        let mut single = Nodes::default();
        for node in &self.added {
            single.push(node.kind, node.tag, &node.id);
        }
        single
    }

    pub fn kind_of(&self, local: u32) -> Option<TypeId> {
        let base = self.base.nodes.kind(local);
        base.or_else(|| self.in_runs(local, Nodes::kind))
            .or_else(|| self.added(local).map(|node| node.kind))
    }

    pub fn id_of(&self, local: u32) -> Option<&str> {
        let base = self.base.nodes.id(local);
        base.or_else(|| self.in_runs(local, Nodes::id))
            .or_else(|| self.added(local).map(|node| &*node.id))
    }

    fn in_runs<'a, T>(
        &'a self,
        local: u32,
        get: impl Fn(&'a Nodes, u32) -> Option<T>,
    ) -> Option<T> {
        let mut place = local.checked_sub(self.base.nodes.len())?;
        for run in &self.runs {
            match place.checked_sub(run.len()) {
                None => return get(run, place),
                Some(behind) => place = behind,
            }
        }
        None
    }

    /// The type, the tag and the id of a node.
    pub fn node(&self, local: u32) -> Option<(TypeId, Tag, &str)> {
        let base = self.base.nodes.get(local);
        base.or_else(|| self.in_runs(local, Nodes::get))
            .or_else(|| {
                self.added(local)
                    .map(|node| (node.kind, node.tag, &*node.id))
            })
    }

    fn added(&self, local: u32) -> Option<&Added> {
        let place = local.checked_sub(self.first_added())?;
        self.added.get(place as usize)
    }

    pub fn forward(&self, local: u32) -> NodeSide<'_> {
        NodeSide {
            side: &self.base.forward,
            local,
            delta: self.forward.node(local),
        }
    }

    pub fn backward(&self, local: u32) -> NodeSide<'_> {
        NodeSide {
            side: &self.base.backward,
            local,
            delta: self.backward.node(local),
        }
    }

    pub fn put_forward(&mut self, local: u32, head: Head, other: NodeId, entry: Entry) {
        self.pending += u64::from(self.forward.put(local, head, other, entry));
    }

    /// The changes of a large commit in one direction, sorted by node.
    pub fn put_all_forward(&mut self, changes: Vec<Changed>) {
        self.pending += self.forward.put_all(changes);
    }

    /// The same in the other.
    pub fn put_all_backward(&mut self, changes: Vec<Changed>) {
        self.pending += self.backward.put_all(changes);
    }

    /// Whether a merge makes look-ups shorter for what it costs: where large commits left something
    /// in it, or single ones a part of all that it holds.
    pub fn is_worth_merging(&self) -> bool {
        let (pending, base) = (self.pending(), &self.base);
        let merged = base.forward.target_count() + base.backward.target_count();
        let large = self.forward.has_runs() || self.backward.has_runs();
        large || !self.runs.is_empty() || pending > 0 && pending * A_PART >= merged as u64
    }

    /// The bytes of its base.
    pub fn bytes(&self) -> u64 {
        self.base.bytes() as u64
    }

    /// What of it nothing else holds where another version took its place, in bytes, roughly.
    pub fn bytes_not_in(&self, newer: &Self) -> u64 {
        let sides = match Arc::ptr_eq(&self.base, &newer.base) {
            true => 0,
            false => self.base.side_bytes(),
        };
        let nodes = match Arc::ptr_eq(&self.base.nodes, &newer.base.nodes) {
            true => 0,
            false => self.base.nodes.bytes(),
        };
        let (forward, backward) = (&newer.forward, &newer.backward);
        (sides + nodes) as u64
            + self.forward.bytes_not_in(forward)
            + self.backward.bytes_not_in(backward)
    }

    pub fn put_backward(&mut self, local: u32, head: Head, other: NodeId, entry: Entry) {
        self.pending += u64::from(self.backward.put(local, head, other, entry));
    }

    /// Base and delta as one new base; without new nodes where it is to be done `soon` and they are
    /// few.
    pub fn merge(&self, segment: usize, sequence: u64, soon: bool) -> Merged {
        let nodes = &self.base.nodes;
        let more = self.node_count() - nodes.len();
        let (nodes, runs) = if soon && more < nodes.len() / NODES_APART {
            let mut runs = self.runs.clone();
            push_run(&mut runs, self.single());
            (Arc::clone(nodes), runs)
        } else {
            (self.all_nodes(), Runs::new())
        };
        Merged {
            segment,
            base: self.with_sides(nodes),
            runs,
            sequence,
        }
    }

    pub fn merged(&self) -> Base {
        self.with_sides(self.all_nodes())
    }

    fn all_nodes(&self) -> Arc<Nodes> {
        let mut nodes = Nodes::clone(&self.base.nodes);
        let text = self
            .added
            .iter()
            .map(|node| long_bytes(&node.id))
            .sum::<usize>();
        let runs = self.runs.iter().map(|run| run.long_bytes()).sum::<usize>();
        let more = self.node_count() - nodes.len();
        nodes.reserve(more as usize, text + runs);
        for run in &self.runs {
            nodes.extend(run);
        }
        for node in &self.added {
            nodes.push(node.kind, node.tag, &node.id);
        }
        Arc::new(nodes)
    }

    /// Both directions as new ones.
    fn with_sides(&self, nodes: Arc<Nodes>) -> Base {
        let mut base = Base {
            nodes,
            forward: Side::default(),
            backward: Side::default(),
        };
        let (count, from) = (self.node_count(), &self.base);
        merge_side(&mut base.forward, &from.forward, &self.forward, count, true);
        merge_side(
            &mut base.backward,
            &from.backward,
            &self.backward,
            count,
            false,
        );
        base.forward.shrink();
        base.backward.shrink();
        base
    }

    /// The new base under what landed since it was begun.
    pub fn rebase(&self, merged: Merged) -> Self {
        let mut next = Self::from_base(merged.base);
        next.runs = merged.runs;
        let taken = next.node_count();
        next.merged = taken;
        let left = taken..self.node_count();
        if left.len() < MANY {
            for local in left {
                if let Some((kind, tag, id)) = self.node(local) {
                    next.add_node(tag, kind, id);
                }
            }
        } else {
            let mut run = Nodes::default();
            for (kind, tag, id) in left.filter_map(|local| self.node(local)) {
                run.push(kind, tag, id);
            }
            next.add_nodes(run);
        }
        let (forward, forward_count) = self.forward.after(merged.sequence);
        let (backward, backward_count) = self.backward.after(merged.sequence);
        (next.forward, next.backward) = (forward, backward);
        next.pending = forward_count + backward_count;
        next
    }
}

/// Puts nodes behind those of a few runs, of which each is larger than what follows.
fn push_run(runs: &mut Runs, mut nodes: Nodes) {
    if nodes.len() == 0 {
        return;
    }
    while let Some(before) = runs.last()
        && before.len() < nodes.len() * APART
    {
        nodes = before.followed_by(&nodes);
        runs.pop();
    }
    runs.push(Arc::new(nodes));
}

/// One direction of base and delta: what did not change is copied as it lies.
fn merge_side(to: &mut Side, from: &Side, delta: &Delta, count: u32, with_revisions: bool) {
    let changed = delta.nodes();
    to.reserve_like(from, changed.len());
    let mut next = 0;
    for (local, node) in changed {
        to.copy_nodes(from, next, local);
        let side = NodeSide {
            side: from,
            local,
            delta: Some(node),
        };
        for group in side.groups(None) {
            to.push_group(group.head(), group.granted(None), with_revisions);
        }
        to.end_node();
        next = local + 1;
    }
    to.copy_nodes(from, next, count);
}
