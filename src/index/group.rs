//! The tuples of one node that are of one kind, from the base and the delta as one list.

use smallvec::SmallVec;

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
    pub fn groups(self, relation: Option<RelId>) -> impl Iterator<Item = Group<'a>> + use<'a> {
        let wanted = move |head: &Head| relation.is_none_or(|relation| head.relation == relation);
        let mut groups: SmallVec<[Group<'a>; 4]> = SmallVec::new();
        for (head, first, targets) in self.side.groups(self.local) {
            if wanted(&head) {
                let delta = self.delta.and_then(|delta| delta.entries(head));
                groups.push(self.make(head, (first, targets), delta));
            }
        }
        let held = groups.len();
        for (head, entries) in self.delta.iter().flat_map(|delta| delta.groups()) {
            let known = groups.iter().take(held).any(|group| group.head() == *head);
            if wanted(head) && !known {
                groups.push(self.make(*head, (0, &[]), Some(entries)));
            }
        }
        if groups.len() > held {
            groups.sort_by_key(Group::head);
        }
        groups.into_iter()
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

impl<'a> Group<'a> {
    /// At least as many as there are.
    pub fn len_hint(&self) -> usize {
        self.targets.len() + self.delta.map_or(0, Entries::len)
    }

    /// All, ascending by node.
    pub fn iter(&self) -> impl Iterator<Item = Edge<'a>> + use<'a> {
        self.granted(None).map(|granted| granted.edge)
    }

    /// Those whose node comes after `node`, ascending.
    pub fn iter_after(&self, node: NodeId) -> impl Iterator<Item = Edge<'a>> + use<'a> {
        self.granted(Some(node)).map(|granted| granted.edge)
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
        Some(self.at(place).edge)
    }

    pub(super) fn head(&self) -> Head {
        Head {
            relation: self.relation,
            kind: self.kind,
            set: self.subject_relation,
        }
    }

    pub(super) fn granted(&self, after: Option<NodeId>) -> Edges<'a> {
        let from = after.map_or(0, |node| self.targets.partition_point(|at| *at <= node.0));
        Edges {
            group: *self,
            next: from,
            delta: self.delta.map(|delta| delta.after(after).peekable()),
        }
    }

    /// The tuple at a place of the base.
    fn at(&self, place: usize) -> Granted<'a> {
        let whole = self.first as usize + place;
        Granted {
            edge: Edge {
                node: NodeId(self.targets.get(place).copied().unwrap_or(u32::MAX)),
                restriction: self.side.restriction(whole),
            },
            revision: self.side.revision(whole),
        }
    }
}

/// The tuples of a group: base and delta merged.
pub(super) struct Edges<'a> {
    group: Group<'a>,
    next: usize,
    delta: Option<std::iter::Peekable<EntriesIter<'a>>>,
}

impl<'a> Iterator for Edges<'a> {
    type Item = Granted<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let based = self.group.targets.get(self.next).map(|node| NodeId(*node));
            let Some(delta) = &mut self.delta else {
                based?;
                self.next += 1;
                return Some(self.group.at(self.next - 1));
            };
            let changed = delta.peek().map(|(node, _)| *node);
            match (based, changed) {
                (None, None) => return None,
                (Some(based), changed) if changed.is_none_or(|changed| based < changed) => {
                    self.next += 1;
                    return Some(self.group.at(self.next - 1));
                }
                (based, changed) => {
                    self.next += usize::from(based == changed);
                    let (node, entry) = delta.next()?;
                    if let Put::Stands(restriction) = &entry.put {
                        return Some(Granted {
                            edge: Edge {
                                node,
                                restriction: restriction.as_deref(),
                            },
                            revision: entry.revision,
                        });
                    }
                }
            }
        }
    }
}
