//! Permissions that are unions alone, of such in turn: whether any way leads from the object to
//! the subject.
//!
//! Most questions are of this kind: nothing is taken away again, no lock could block it, and what
//! tuples are met hold always. Then no value is waited for and none can rise later, so that a list
//! of what was met is all that there is to keep. Whatever turns out otherwise, and whatever takes
//! long, is left to the [machine](super::machine).

use smallvec::SmallVec;

use crate::index::{Edge, Group, NodeId};
use crate::schema::program::Op;
use crate::schema::{MemberId, RelId};

use super::closure::{Closure, Ground, Known, Who};
use super::machine::SHORT;

/// Tuple reads after which the machine is the better one: it forgets nothing.
const READS: u64 = 200;
/// What a search from the subject's side may take of them.
const SEARCH: u64 = 64;

/// A relation or permission of an object.
type Goal = (NodeId, MemberId);

/// Looks for a way from what it was asked to the subject.
struct Reach<'a> {
    ground: Ground<'a>,
    who: Who,
    /// All that was met, each once, in the order in which it is looked at.
    goals: SmallVec<[Goal; 16]>,
    closures: SmallVec<[Closure<'a>; 1]>,
    left: u64,
    /// Whether no lock is held anywhere.
    unlocked: bool,
}

/// Whether the subject has `member` on `node`; `None` where that is not to be had so, or takes
/// more than `limit` tuple reads.
pub(super) fn reach(
    ground: Ground<'_>,
    who: Who,
    (node, member): (NodeId, MemberId),
    limit: u64,
) -> Option<bool> {
    if !ground.programs.get(member).plain {
        return None;
    }
    let mut reach = Reach {
        ground,
        who,
        goals: SmallVec::new(),
        closures: SmallVec::new(),
        left: limit.min(READS),
        unlocked: ground.locks.is_empty(),
    };
    reach.enter(node, member)?;
    let mut next = 0;
    while let Some(goal) = reach.goals.get(next).copied() {
        next += 1;
        if reach.visit(goal)? {
            return Some(true);
        }
    }
    Some(false)
}

impl<'a> Reach<'a> {
    fn spend(&mut self, reads: u64) -> Option<()> {
        self.left = self.left.checked_sub(reads)?;
        Some(())
    }

    /// Notes what has to be looked at, too.
    fn enter(&mut self, node: NodeId, member: MemberId) -> Option<()> {
        self.spend(1)?;
        if !self.goals.contains(&(node, member)) {
            self.goals.push((node, member));
        }
        Some(())
    }

    /// Whether the subject is seen from here.
    fn visit(&mut self, (node, member): Goal) -> Option<bool> {
        let ground = self.ground;
        if !self.unlocked && ground.may_block(member) {
            return None;
        }
        if self.who.relation != RelId::NONE
            && node == self.who.node
            && ground.schema.member(member).rel == self.who.relation
        {
            return Some(true);
        }
        for op in &ground.programs.get(member).ops {
            let seen = match *op {
                Op::Nobody | Op::Or | Op::IfAllowed(_) => false,
                Op::Itself(_) => self.is_subject(node),
                Op::Call(member, _) => self.visit_called(node, member)?,
                Op::Tuples => self.tuples(node, member)?,
                Op::Arrow { via, target, .. } => {
                    let relation = ground.schema.member(via).rel;
                    let mut seen = false;
                    for group in ground.index.subject_groups(node, relation) {
                        if let Some(member) = ground.schema.member_id(group.kind, target) {
                            seen = seen || self.over(&group, member)?;
                        }
                    }
                    seen
                }
                Op::Backward { via, target, .. } => {
                    let via = ground.schema.member(via);
                    let mut seen = false;
                    for group in ground.index.resource_groups(node) {
                        if group.relation == via.rel && group.kind == via.owner {
                            seen = seen || self.over(&group, target)?;
                        }
                    }
                    seen
                }
                Op::Roles { .. } | Op::IfDenied(_) | Op::And | Op::Minus => return None,
            };
            if seen {
                return Some(true);
            }
        }
        Some(false)
    }

    /// The same of another member of the same object: at once where it is a relation.
    fn visit_called(&mut self, node: NodeId, member: MemberId) -> Option<bool> {
        match self.ground.schema.member(member).relation() {
            Some(_) => self.visit((node, member)),
            None => self.enter(node, member).map(|()| false),
        }
    }

    fn is_subject(&self, node: NodeId) -> bool {
        let who = self.who;
        who.relation == RelId::NONE && !who.is_wildcard && node == who.node
    }

    /// Whether a relation has the subject; its sets are entered.
    fn tuples(&mut self, node: NodeId, member: MemberId) -> Option<bool> {
        let (ground, who) = (self.ground, self.who);
        let relation = ground.schema.member(member).rel;
        for group in ground.index.subject_groups(node, relation) {
            if (group.kind, group.subject_relation) == (who.kind, who.relation) {
                for subject in std::iter::once(who.node).chain(who.wildcard) {
                    self.spend(1)?;
                    if let Some(edge) = ground.index.find_in(&group, node, subject) {
                        return always(&edge).map(|()| true);
                    }
                }
            }
            if group.subject_relation != RelId::NONE
                && let Some(member) = ground.schema.member_id(group.kind, group.subject_relation)
                && self.over(&group, member)?
            {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Whether the subject is seen from the objects behind a list of tuples, where that can be
    /// said without looking at each; else they are entered.
    fn over(&mut self, group: &Group<'a>, member: MemberId) -> Option<bool> {
        if group.len_hint() > SHORT {
            return self.meet(group, member);
        }
        if let Some(nodes) = group.plain() {
            for node in nodes {
                self.enter(node, member)?;
            }
            return Some(false);
        }
        for edge in group.iter() {
            always(&edge)?;
            self.enter(edge.node, member)?;
        }
        Some(false)
    }

    /// The same of a long list, by a search from the subject's side.
    fn meet(&mut self, group: &Group<'a>, member: MemberId) -> Option<bool> {
        let ground = self.ground;
        let demand = (member, self.unlocked);
        let known = (self.closures.iter()).position(|closure| closure.demand() == demand);
        let place = known.unwrap_or(self.closures.len());
        if known.is_none() {
            let closure = Closure::new(ground, self.who, member, self.unlocked);
            self.closures.push(closure);
        }
        let closure = self.closures.get_mut(place)?;
        let before = closure.spent;
        closure.advance(ground, SEARCH);
        let spent = closure.spent - before;
        let reads = group.len_hint().min(closure.found().len());
        self.spend(spent + reads as u64)?;
        let closure = self.closures.get(place)?;
        if !closure.is_complete() || closure.ends.is_some() {
            return None;
        }
        let found = closure.found();
        if found.len() <= group.len_hint() {
            return seen_among(closure, found.iter().filter_map(|node| group.get(*node)));
        }
        match group.plain() {
            Some(nodes) => seen_among(closure, nodes.map(Edge::plain)),
            None => seen_among(closure, group.iter()),
        }
    }
}

/// Whether a search that has come to its end has found any of these for sure.
fn seen_among<'a>(closure: &Closure<'_>, edges: impl Iterator<Item = Edge<'a>>) -> Option<bool> {
    for edge in edges {
        match closure.known(edge.node) {
            Known::Denied => {}
            Known::Sure(_) => return always(&edge).map(|()| true),
            Known::Open => return None,
        }
    }
    Some(false)
}

/// Whether a tuple holds always.
fn always(edge: &Edge<'_>) -> Option<()> {
    edge.restriction.is_none().then_some(())
}
