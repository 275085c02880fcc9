//! The frozen part of a segment: one direction of the tuples of its nodes, in flat arrays.

use std::ops::Range;
use std::sync::Arc;

use crate::revision::Revision;

use super::Restriction;
use super::group::{Granted, Head};

/// One direction of the tuples of a base. A node's groups lie from `starts[node]` to
/// `starts[node + 1]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    starts: Vec<u32>,
    groups: Vec<Place>,
    targets: Vec<u32>,
    /// The revision of each target, forward only; the last that fits where it is larger.
    revisions: Vec<u32>,
    /// Targets with a restriction, by their place, ascending.
    pub restrictions: Vec<(u32, Arc<Restriction>)>,
}

/// Where the targets of a group lie: from `first` to the first of the group behind it. Most groups
/// have one target, which stands here too: to find it takes one line of cache less. 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    head: Head,
    first: u32,
    /// The only target, or [`SEVERAL`].
    sole: u32,
}

/// No node has this number.
const SEVERAL: u32 = u32::MAX;

/// Lists of a [`Side`].
pub(super) struct Lists<'a> {
    pub starts: &'a [u32],
    pub targets: &'a [u32],
    pub revisions: &'a [u32],
}

impl Side {
    /// Appends a group of the node that is being built; empty ones are left out.
    pub fn push_group<'a>(
        &mut self,
        head: Head,
        edges: impl Iterator<Item = Granted<'a>>,
        with_revisions: bool,
    ) {
        let before = self.targets.len();
        for granted in edges {
            if let Some(restriction) = granted.edge.restriction {
                let place = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
                self.restrictions
                    .push((place, Arc::new(restriction.clone())));
            }
            self.targets.push(granted.edge.node.0);
            if with_revisions {
                self.revisions
                    .push(u32::try_from(granted.revision.0).unwrap_or(u32::MAX));
            }
        }
        if self.targets.len() > before {
            self.groups.push(Place {
                head,
                first: number(before),
                sole: sole(&self.targets, before..self.targets.len()),
            });
        }
    }

    /// Appends the nodes `from..to` of a side that has revisions where this one has, as they are;
    /// those that it lacks are empty.
    pub fn copy_nodes(&mut self, other: &Self, from: u32, to: u32) {
        let count = u32::try_from(other.starts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let (first, last) = (from.min(count), to.min(count));
        let start = |node: u32| other.starts.get(node as usize).copied().unwrap_or(0);
        let groups = start(first) as usize..start(last) as usize;
        let targets = other.first(groups.start)..other.first(groups.end);
        let group_shift = offset(self.groups.len(), groups.start);
        let target_shift = offset(self.targets.len(), targets.start as usize);
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        let starts = other.starts.get(first as usize + 1..=last as usize);
        let starts = starts.unwrap_or_default().iter();
        (self.starts).extend(starts.map(|start| start.wrapping_add(group_shift)));
        let places = other.groups.get(groups).unwrap_or_default().iter();
        self.groups.extend(places.map(|place| Place {
            first: place.first.wrapping_add(target_shift),
            ..*place
        }));
        self.copy_targets(other, targets, target_shift);
        for _ in last.max(from)..to {
            self.end_node();
        }
    }

    fn copy_targets(&mut self, other: &Self, targets: std::ops::Range<u32>, shift: u32) {
        let place = |at: u32| other.restrictions.partition_point(|(place, _)| *place < at);
        let restrictions = place(targets.start)..place(targets.end);
        for (at, restriction) in other.restrictions.get(restrictions).unwrap_or_default() {
            let moved = (at.wrapping_add(shift), Arc::clone(restriction));
            self.restrictions.push(moved);
        }
        let targets = targets.start as usize..targets.end as usize;
        let revisions = other.revisions.get(targets.clone()).unwrap_or_default();
        self.revisions.extend_from_slice(revisions);
        (self.targets).extend_from_slice(other.targets.get(targets).unwrap_or_default());
    }

    /// Makes room for about as much as another side holds, and more.
    pub fn reserve_like(&mut self, other: &Self, more: usize) {
        self.starts.reserve_exact(other.starts.len() + more);
        self.groups.reserve_exact(other.groups.len() + more);
        self.targets.reserve_exact(other.targets.len() + more);
        if !other.revisions.is_empty() {
            self.revisions.reserve_exact(other.revisions.len() + more);
        }
    }

    /// Ends the node that is being built.
    pub fn end_node(&mut self) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.starts
            .push(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
    }

    /// The bytes of its arrays.
    pub fn bytes(&self) -> usize {
        let numbers = [&self.starts, &self.targets, &self.revisions];
        let numbers: usize = numbers.iter().map(|list| list.capacity() * 4).sum();
        let groups = self.groups.capacity() * size_of::<Place>();
        numbers + groups + self.restrictions.capacity() * 16
    }

    pub fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.groups.shrink_to_fit();
        self.targets.shrink_to_fit();
        self.revisions.shrink_to_fit();
        self.restrictions.shrink_to_fit();
    }

    /// Reads what a look-up in the groups of a node reads first: where the targets of one begin.
    pub fn touch(&self, local: u32) -> u32 {
        let groups = self.groups.get(self.groups(local)).unwrap_or_default();
        let several = groups.iter().find(|place| place.sole == SEVERAL);
        several.map_or(0, |place| place.first)
    }

    /// Reads a target.
    pub fn touch_target(&self, place: u32) -> u32 {
        self.targets.get(place as usize).copied().unwrap_or(0)
    }

    /// Where the groups of a node lie.
    pub fn groups(&self, local: u32) -> Range<usize> {
        let at = |node: usize| self.starts.get(node).map_or(0, |place| *place as usize);
        at(local as usize)..at((local as usize).saturating_add(1))
    }

    pub fn head(&self, group: usize) -> Option<Head> {
        self.groups.get(group).map(|place| place.head)
    }

    /// The group of this head: place of the first target, targets.
    pub fn find(&self, local: u32, head: Head) -> Option<(u32, &[u32])> {
        let groups = self.groups(local);
        let places = self.groups.get(groups.clone())?;
        let place = places.iter().position(|known| known.head == head)?;
        self.targets_of(groups.start + place)
    }

    /// Place of the first target, targets.
    pub fn targets_of(&self, group: usize) -> Option<(u32, &[u32])> {
        let place = self.groups.get(group)?;
        let (first, end) = (place.first as usize, self.first(group + 1) as usize);
        let targets = match place.sole {
            SEVERAL => self.targets.get(first..end)?,
            _ => std::slice::from_ref(&place.sole),
        };
        Some((place.first, targets))
    }

    /// Place of the first target of a group, or of what stands behind the last.
    fn first(&self, group: usize) -> u32 {
        let place = self.groups.get(group);
        place.map_or_else(|| number(self.targets.len()), |place| place.first)
    }

    /// The lists as a file has them.
    pub fn lists(&self) -> Lists<'_> {
        Lists {
            starts: &self.starts,
            targets: &self.targets,
            revisions: &self.revisions,
        }
    }

    /// The head of each group, and where its targets end.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = (Head, u32)> + Clone {
        let places = self.groups.iter().enumerate();
        places.map(|(group, place)| (place.head, self.first(group + 1)))
    }

    /// A side of the lists of a file.
    pub fn of(
        starts: Vec<u32>,
        ends: impl Iterator<Item = (Head, u32)>,
        targets: Vec<u32>,
        revisions: Vec<u32>,
        restrictions: Vec<(u32, Arc<Restriction>)>,
    ) -> Self {
        let mut first = 0;
        let place = |(head, end): (Head, u32)| {
            let begin = std::mem::replace(&mut first, end);
            Place {
                head,
                first: begin,
                sole: sole(&targets, begin as usize..end as usize),
            }
        };
        Self {
            starts,
            groups: ends.map(place).collect(),
            revisions,
            restrictions,
            targets,
        }
    }

    /// How many targets there are.
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    pub fn restriction(&self, place: usize) -> Option<&Restriction> {
        if self.restrictions.is_empty() {
            return None;
        }
        let place = u32::try_from(place).ok()?;
        let found = self
            .restrictions
            .binary_search_by_key(&place, |(at, _)| *at)
            .ok()?;
        self.restrictions
            .get(found)
            .map(|(_, restriction)| &**restriction)
    }

    pub fn revision(&self, place: usize) -> Revision {
        Revision(self.revisions.get(place).copied().unwrap_or(0).into())
    }
}

/// The only target of a group, or [`SEVERAL`].
fn sole(targets: &[u32], of: Range<usize>) -> u32 {
    match targets.get(of) {
        Some([sole]) => *sole,
        _ => SEVERAL,
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// What is to be added to places behind `from`, where they move to `to`.
fn offset(to: usize, from: usize) -> u32 {
    number(to).wrapping_sub(number(from))
}
