//! The tuples of one node that are of one kind, from the base and the delta as one list.

use std::ops::Range;

use crate::revision::Revision;
use crate::schema::{RelId, TypeId};

use super::base::Side;
use super::delta::{NodeDelta, Put};
use super::entries::{Entries, EntriesIter};
use super::{NodeId, Restriction};

/// What the tuples of a group have in common: the relation, the type of the other side, and the
/// relation of the subject set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Head {
    pub relation: RelId,
    pub kind: TypeId,
    pub set: RelId,
}

/// A tuple seen from one side.
#[derive(Clone, Copy, Debug)]
pub struct Edge<'a> {
    /// The other side.
    pub node: NodeId,
    /// What keeps it from holding always.
    pub restriction: Option<&'a Restriction>,
}

/// The tuples of one node that have relation, type of the other side, and the subject's relation
/// in common; sorted by the other side.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The relation of the tuples.
    pub relation: RelId,
    /// The type of the other side.
    pub kind: TypeId,
    /// The relation of the subject sets, or [`RelId::NONE`].
    pub subject_relation: RelId,
    side: &'a Side,
    targets: &'a [u32],
    /// The place of the first target in the side's arrays.
    first: u32,
    delta: Option<&'a Entries>,
}

/// All groups of one node in one direction.
#[derive(Clone, Copy)]
pub(super) struct NodeSide<'a> {
    pub side: &'a Side,
    pub local: u32,
    pub delta: Option<&'a NodeDelta>,
}

/// An edge, and the revision that granted it.
#[derive(Clone, Copy)]
pub(super) struct Granted<'a> {
    pub edge: Edge<'a>,
    pub revision: Revision,
}

impl<'a> NodeSide<'a> {
    /// The group of this head, where the base or the delta has one.
    pub fn group(self, head: Head) -> Option<Group<'a>> {
        let base = self.side.find(self.local, head);
        let delta = self.delta.and_then(|delta| delta.entries(head));
        match (base, delta) {
            (None, None) => None,
            (base, delta) => Some(self.make(head, base.unwrap_or((0, &[])), delta)),
        }
    }

    /// The groups of one relation or of all, sorted by head.
    pub fn groups(self, relation: Option<RelId>) -> Groups<'a, impl Fn(Head) -> bool + use<>> {
        self.groups_where(move |head: Head| {
            relation.is_none_or(|relation| head.relation == relation)
        })
    }

    /// Those whose head is wanted, sorted by it.
    pub fn groups_where<W: Fn(Head) -> bool>(self, wanted: W) -> Groups<'a, W> {
        let based = Based {
            of: self,
            wanted,
            places: self.side.groups(self.local),
        };
        match self.delta {
            None => Groups::Based(based),
            Some(delta) => Groups::Changed(self.changed(delta, based).into_iter()),
        }
    }

    fn changed<W: Fn(Head) -> bool>(
        self,
        delta: &'a NodeDelta,
        mut based: Based<'a, W>,
    ) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = based.by_ref().collect();
        let held = groups.len();
        for (head, entries) in delta.groups() {
            let known = groups.iter_mut().take(held);
            match known.into_iter().find(|group| group.head() == *head) {
                Some(group) => group.delta = Some(entries),
                None if (based.wanted)(*head) => {
                    groups.push(self.make(*head, (0, &[]), Some(entries)));
                }
                None => {}
            }
        }
        if groups.len() > held {
            groups.sort_by_key(Group::head);
        }
        groups
    }

    fn make(
        self,
        head: Head,
        (first, targets): (u32, &'a [u32]),
        delta: Option<&'a Entries>,
    ) -> Group<'a> {
        Group {
            relation: head.relation,
            kind: head.kind,
            subject_relation: head.set,
            side: self.side,
            targets,
            first,
            delta,
        }
    }
}

/// Groups of a node: nothing is made of those that are not asked for.
pub(super) enum Groups<'a, W> {
    Based(Based<'a, W>),
    Changed(std::vec::IntoIter<Group<'a>>),
}

/// Groups of a node as the base has them.
pub(super) struct Based<'a, W> {
    of: NodeSide<'a>,
    wanted: W,
    places: Range<usize>,
}

impl<'a, W: Fn(Head) -> bool> Iterator for Based<'a, W> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        loop {
            let place = self.places.next()?;
            let head = self.of.side.head(place)?;
            if (self.wanted)(head) {
                let targets = self.of.side.targets_of(place)?;
                return Some(self.of.make(head, targets, None));
            }
        }
    }
}

impl<'a, W: Fn(Head) -> bool> Iterator for Groups<'a, W> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        match self {
            Self::Based(groups) => groups.next(),
            Self::Changed(groups) => groups.next(),
        }
    }
}

impl<'a> Group<'a> {
    /// At least as many as there are.
    pub fn len_hint(&self) -> usize {
        self.targets.len() + self.delta.map_or(0, Entries::len)
    }

    /// All, ascending by node.
    pub fn iter(&self) -> impl Iterator<Item = Edge<'a>> + use<'a> {
        self.iter_from(None)
    }

    /// Those whose node comes after `node`, ascending.
    pub fn iter_after(&self, node: NodeId) -> impl Iterator<Item = Edge<'a>> + use<'a> {
        self.iter_from(Some(node))
    }

    /// Those behind a node, or all.
    pub fn iter_from(&self, after: Option<NodeId>) -> impl Iterator<Item = Edge<'a>> + use<'a> {
        self.places(after).map(Place::edge)
    }

    /// The nodes of all, where it is easily seen that every one of them holds always.
    pub fn plain(&self) -> Option<impl Iterator<Item = NodeId> + use<'a>> {
        let plain = self.delta.is_none() && self.side.restrictions.is_empty();
        plain.then(|| self.targets.iter().map(|node| NodeId(*node)))
    }

    /// The only tuple, where it is easily seen to be one.
    pub fn sole(&self) -> Option<Edge<'a>> {
        match (self.targets, self.delta) {
            ([node], None) => Some(Edge {
                node: NodeId(*node),
                restriction: self.side.restriction(self.first as usize),
            }),
            _ => None,
        }
    }

    /// The tuple with `node` on the other side.
    pub fn get(&self, node: NodeId) -> Option<Edge<'a>> {
        if let Some(entry) = self.delta.and_then(|delta| delta.get(node)) {
            return match &entry.put {
                Put::Stands(restriction) => Some(Edge {
                    node,
                    restriction: restriction.as_deref(),
                }),
                Put::Removed => None,
            };
        }
        let place = self.targets.binary_search(&node.0).ok()?;
        let restriction = self.side.restriction(self.first as usize + place);
        Some(Edge { node, restriction })
    }

    pub(super) fn head(&self) -> Head {
        Head {
            relation: self.relation,
            kind: self.kind,
            set: self.subject_relation,
        }
    }

    /// All behind a node, each with the revision that granted it.
    pub(super) fn granted(
        &self,
        after: Option<NodeId>,
    ) -> impl Iterator<Item = Granted<'a>> + use<'a> {
        self.places(after).map(Place::granted)
    }

    fn places(&self, after: Option<NodeId>) -> Places<'a> {
        let from = after.map_or(0, |node| self.targets.partition_point(|at| *at <= node.0));
        Places {
            group: *self,
            next: from,
            delta: self
                .delta
                .map(|delta| Box::new(delta.after(after).peekable())),
        }
    }
}

/// Where a tuple of a group lies.
#[derive(Clone, Copy)]
enum Place<'a> {
    Base(&'a Side, NodeId, usize),
    Delta(NodeId, Option<&'a Restriction>, Revision),
}

impl<'a> Place<'a> {
    fn edge(self) -> Edge<'a> {
        let (node, restriction) = match self {
            Self::Base(side, node, place) => (node, side.restriction(place)),
            Self::Delta(node, restriction, _) => (node, restriction),
        };
        Edge { node, restriction }
    }

    fn granted(self) -> Granted<'a> {
        let revision = match self {
            Self::Base(side, _, place) => side.revision(place),
            Self::Delta(_, _, revision) => revision,
        };
        Granted {
            edge: self.edge(),
            revision,
        }
    }
}

/// The tuples of a group: base and delta merged.
struct Places<'a> {
    group: Group<'a>,
    next: usize,
    /// Boxed, since few groups have one and it is large.
    delta: Option<Box<std::iter::Peekable<EntriesIter<'a>>>>,
}

impl<'a> Places<'a> {
    /// The next one of the base.
    fn based(&mut self) -> Option<Place<'a>> {
        let node = NodeId(*self.group.targets.get(self.next)?);
        let place = self.group.first as usize + self.next;
        self.next += 1;
        Some(Place::Base(self.group.side, node, place))
    }
}

impl<'a> Iterator for Places<'a> {
    type Item = Place<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(delta) = &mut self.delta else {
                return self.based();
            };
            let based = self.group.targets.get(self.next).map(|node| NodeId(*node));
            let changed = delta.peek().map(|(node, _)| *node);
            match (based, changed) {
                (None, None) => return None,
                (Some(based), changed) if changed.is_none_or(|changed| based < changed) => {
                    return self.based();
                }
                (based, changed) => {
                    self.next += usize::from(based == changed);
                    let (node, entry) = delta.next()?;
                    if let Put::Stands(restriction) = &entry.put {
                        let restriction = restriction.as_deref();
                        return Some(Place::Delta(node, restriction, entry.revision));
                    }
                }
            }
        }
    }
}
