//! Permissions that are unions alone, of such in turn: whether any way leads from the object to
//! the subject.
//!
//! Most questions are of this kind: nothing is taken away again, no lock could block it, and what
//! tuples are met hold always. Then no value is waited for and none can rise later, so that a list
//! of what was met is all that there is to keep. Whatever turns out otherwise, and whatever takes
//! long, is left to the [machine](super::machine).

use smallvec::SmallVec;

use crate::index::{Edge, Group, NodeId};
use crate::schema::program::{KindSet, Op, Way};
use crate::schema::{MemberId, RelId};

use super::closure::{Ground, Who};
use super::machine::SHORT;

/// Tuple reads after which the machine is the better one: it forgets nothing.
const READS: u64 = 200;

/// A relation or permission of an object.
type Goal = (NodeId, MemberId);

/// All that a subject has that can lead to one relation or permission, found from its side: each
/// object with what it has there.
type Found = SmallVec<[Goal; 16]>;

/// Looks for a way from what it was asked to the subject.
struct Reach<'a> {
    ground: Ground<'a>,
    who: Who,
    /// All that was met, each once, in the order in which it is looked at.
    goals: SmallVec<[Goal; 16]>,
    /// What was found for relations of which an object had many sets.
    found: SmallVec<[(MemberId, Found); 1]>,
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
    if !ground.programs.is_plain(member) {
        return None;
    }
    let mut reach = Reach {
        ground,
        who,
        goals: SmallVec::new(),
        found: SmallVec::new(),
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
        self.spend(1)?;
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
                    self.spend(1)?;
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
                    self.spend(1)?;
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

    /// The same of a long list, by what the subject's side finds.
    fn meet(&mut self, group: &Group<'a>, member: MemberId) -> Option<bool> {
        let known = self.found.iter().position(|(of, _)| *of == member);
        let place = known.unwrap_or(self.found.len());
        if known.is_none() {
            let found = self.ascend(member)?;
            self.found.push((member, found));
        }
        let (_, found) = self.found.get(place)?;
        let there = found.iter().filter(|(_, of)| *of == member);
        let reads = found.len().min(group.len_hint());
        self.left = self.left.checked_sub(reads as u64)?;
        if found.len() <= group.len_hint() {
            let mut both = there.filter_map(|(node, _)| group.get(*node));
            return both
                .next()
                .map_or(Some(false), |edge| always(&edge).map(|()| true));
        }
        let has = |node| found.contains(&(node, member));
        if let Some(mut nodes) = group.plain() {
            return Some(nodes.any(has));
        }
        let mut seen = group.iter().filter(|edge| has(edge.node));
        seen.next()
            .map_or(Some(false), |edge| always(&edge).map(|()| true))
    }

    /// Searches from the subject upwards, along whatever can lead to `demand`.
    fn ascend(&mut self, demand: MemberId) -> Option<Found> {
        let (ground, who) = (self.ground, self.who);
        if ground.programs.any_itself() {
            return None;
        }
        let feeds = ground.programs.feeds(demand);
        let mut found = Found::new();
        if who.relation == RelId::NONE {
            for node in std::iter::once(who.node).chain(who.wildcard) {
                self.step_up((node, None), feeds, &mut found)?;
            }
        } else if let Some(member) = ground.schema.member_id(who.kind, who.relation)
            && feeds.has(member)
        {
            found.push((who.node, member));
        }
        let mut next = 0;
        while let Some((node, member)) = found.get(next).copied() {
            next += 1;
            self.step_up((node, Some(member)), feeds, &mut found)?;
        }
        Some(found)
    }

    /// Adds what follows from one thing that the subject has; `None` stands for the subject itself.
    fn step_up(
        &mut self,
        (node, member): (NodeId, Option<MemberId>),
        feeds: &'a KindSet,
        found: &mut Found,
    ) -> Option<()> {
        let Ground {
            schema,
            programs,
            index,
            ..
        } = self.ground;
        let program = member.map(|member| programs.get(member));
        let relation = member.map_or(RelId::NONE, |member| schema.member(member).rel);
        let arrows = program.map_or(&[][..], |program| &program.arrows);
        let as_subject = move |via, kind, set| {
            let to = schema.member_id(kind, via).filter(|_| set == relation)?;
            feeds.has(to).then_some(to)
        };
        let by_arrow = move |via, kind| {
            let leads = move |way: &&Way| {
                let over = schema.member(way.via);
                feeds.has(way.to) && (over.rel, over.owner) == (via, kind)
            };
            arrows.iter().filter(leads).map(|way| way.to)
        };
        let wanted = move |via, kind, set| {
            as_subject(via, kind, set).is_some() || by_arrow(via, kind).next().is_some()
        };
        for group in index.resource_groups_where(node, wanted) {
            let to = as_subject(group.relation, group.kind, group.subject_relation);
            for to in to.into_iter().chain(by_arrow(group.relation, group.kind)) {
                self.add_all(&group, to, found)?;
            }
        }
        let Some(program) = program else {
            return Some(());
        };
        for way in program.same.iter().filter(|way| feeds.has(way.to)) {
            self.add((node, way.to), found)?;
        }
        let down = program.backwards.iter().any(|way| feeds.has(way.to));
        (!down).then_some(())
    }

    fn add_all(&mut self, group: &Group<'a>, to: MemberId, found: &mut Found) -> Option<()> {
        if let Some(nodes) = group.plain() {
            for node in nodes {
                self.add((node, to), found)?;
            }
            return Some(());
        }
        for edge in group.iter() {
            always(&edge)?;
            self.add((edge.node, to), found)?;
        }
        Some(())
    }

    fn add(&mut self, (node, member): Goal, found: &mut Found) -> Option<()> {
        self.spend(1)?;
        if !self.unlocked && self.ground.may_block(member) {
            return None;
        }
        if !found.contains(&(node, member)) {
            found.push((node, member));
        }
        Some(())
    }
}

/// Whether a tuple holds always.
fn always(edge: &Edge<'_>) -> Option<()> {
    edge.restriction.is_none().then_some(())
}
