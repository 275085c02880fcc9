//! Who or what a list may have to name, in the one order of all lists: that of the nodes.
//!
//! A search leaves its last steps to these: whole groups of tuples, of which nothing is kept but
//! how far each was walked. They are sorted, so that they merge into one sorted sequence without a
//! memory of what came before, and any place in it can be found again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::index::{Edge, Group, NodeId};
use crate::schema::MemberId;
use crate::time::Timestamp;

use super::machine::standing;

/// The most tuples of one group that are taken at a time.
const CHUNK: usize = 64;

/// The tuples at the end of a search, whose other sides are candidates.
pub(super) struct Last<'a> {
    pub group: Group<'a>,
    /// Whether a tuple without restriction is enough.
    pub sure: bool,
    /// Whether being a candidate rests on a grant, not on a restriction.
    pub proposed: bool,
    /// What such a tuple surely gives on its other side, be that enough or not.
    pub gives: Option<MemberId>,
}

/// A node that may have to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub node: NodeId,
    pub sure: bool,
    pub proposed: bool,
    /// A part of what is asked, which the search has found to be allowed there.
    pub has: Option<MemberId>,
}

/// Candidates, ascending by node, each once.
pub(super) struct Candidates<'a> {
    now: Timestamp,
    /// Those that were found one by one, sorted.
    known: Vec<Candidate>,
    at: usize,
    roads: Vec<Road<'a>>,
    heads: BinaryHeap<Reverse<(NodeId, usize)>>,
    /// Tuples read so far.
    pub spent: u64,
}

struct Road<'a> {
    last: Last<'a>,
    /// The next tuples, the nearest at the end.
    ahead: Vec<Edge<'a>>,
    after: Option<NodeId>,
    chunk: usize,
    done: bool,
}

impl Road<'_> {
    /// Makes sure that a tuple that stands is ahead, where there is one; gives its node.
    fn look(&mut self, now: Timestamp, spent: &mut u64) -> Option<NodeId> {
        while self.ahead.is_empty() && !self.done {
            let group = self.last.group;
            let before = self.after;
            match before {
                None => self.ahead.extend(group.iter().take(self.chunk)),
                Some(node) => self.ahead.extend(group.iter_after(node).take(self.chunk)),
            }
            *spent += self.ahead.len() as u64;
            self.done = self.ahead.len() < self.chunk;
            self.after = self.ahead.last().map(|edge| edge.node).or(before);
            self.chunk = (self.chunk * 2).min(CHUNK);
            self.ahead.retain(|edge| standing(edge.restriction, now).0);
            self.ahead.reverse();
        }
        self.ahead.last().map(|edge| edge.node)
    }
}

impl<'a> Candidates<'a> {
    /// Those of `known` and behind `roads` that come after a node.
    pub fn new(
        now: Timestamp,
        mut known: Vec<Candidate>,
        roads: Vec<Last<'a>>,
        after: Option<NodeId>,
    ) -> Self {
        known.retain(|one| after.is_none_or(|after| one.node > after));
        known.sort_unstable_by_key(|one| one.node);
        let mut candidates = Self {
            now,
            known,
            at: 0,
            roads: Vec::with_capacity(roads.len()),
            heads: BinaryHeap::with_capacity(roads.len()),
            spent: 0,
        };
        for last in roads {
            candidates.roads.push(Road {
                last,
                ahead: Vec::new(),
                after,
                chunk: 1,
                done: false,
            });
            candidates.look(candidates.roads.len() - 1);
        }
        candidates
    }

    fn look(&mut self, place: usize) {
        let (now, spent) = (self.now, &mut self.spent);
        let next = (self.roads.get_mut(place)).and_then(|road| road.look(now, spent));
        self.heads.extend(next.map(|node| Reverse((node, place))));
    }

    fn first(&self) -> Option<NodeId> {
        let known = self.known.get(self.at).map(|one| one.node);
        let walked = self.heads.peek().map(|Reverse((node, _))| *node);
        match (known, walked) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        let node = self.first()?;
        let mut next = Candidate {
            node,
            sure: false,
            proposed: false,
            has: None,
        };
        while let Some(one) = self.known.get(self.at).filter(|one| one.node == node) {
            next.sure |= one.sure;
            next.proposed |= one.proposed;
            self.at += 1;
        }
        while let Some(Reverse((head, place))) = self.heads.peek().copied()
            && head == node
        {
            self.heads.pop();
            if let Some(road) = self.roads.get_mut(place)
                && let Some(edge) = road.ahead.pop()
            {
                let plain = standing(edge.restriction, self.now).1;
                next.sure |= road.last.sure && plain;
                next.has = next.has.or(road.last.gives.filter(|_| plain));
                next.proposed |= road.last.proposed;
            }
            self.look(place);
        }
        Some(next)
    }
}
