//! Walks over the objects behind a relation's subject sets or an arrow: forward over the tuples,
//! or, where that is shorter, over what the subject's side has found.

use smallvec::SmallVec;

use crate::index::{Edge, Group, NodeId, Restriction};
use crate::schema::program::{Op, Sign};
use crate::schema::{MemberId, RelId};

use super::super::closure::Closure;
use super::super::dependencies::membership_key;
use super::super::value::Value;
use super::{Frame, Machine, Rest, Step, TooMuchWork, earlier, standing};

/// Lists of at most this many sets are walked without asking the subject's side.
const SHORT: usize = 2;
/// How many tuples of a long list are taken at a time.
const CHUNK: usize = 32;

/// The objects behind a relation's sets or an arrow, one after the other.
pub(super) struct Walk<'a> {
    groups: SmallVec<[(Group<'a>, MemberId); 4]>,
    at: usize,
    after: Option<NodeId>,
    pending: SmallVec<[Target<'a>; 4]>,
    /// What the tuple that led to the object in evaluation says.
    tuple: Value,
    target: Option<NodeId>,
    acc: Value,
    all: bool,
    /// Whether any tuple has counted.
    seen: bool,
    sign: Sign,
    how: Way,
    /// Where the walk's part of the frame's `rests_on` begins, and that of the object at hand.
    pub(super) begin: u32,
    mark: u32,
    spent_at: u64,
}

/// Where the tuples of a walk come from, for the keys.
#[derive(Clone, Copy)]
enum Way {
    /// Forward along this relation of the frame's object.
    Forward(RelId),
    /// Backward along this relation of other objects.
    Backward(RelId),
}

#[derive(Clone, Copy)]
struct Target<'a> {
    node: NodeId,
    member: MemberId,
    restriction: Option<&'a Restriction>,
}

impl<'a> Walk<'a> {
    /// Takes the next tuples of the group at hand, and says how many.
    fn take_chunk(&mut self, group: &Group<'a>, member: MemberId) -> usize {
        let before = self.pending.len();
        let target = |edge: Edge<'a>| Target {
            node: edge.node,
            member,
            restriction: edge.restriction,
        };
        match self.after {
            None => self.pending.extend(group.iter().take(CHUNK).map(target)),
            Some(node) => self
                .pending
                .extend(group.iter_after(node).take(CHUNK).map(target)),
        }
        let taken = self.pending.len() - before;
        match self.pending.last().filter(|_| taken == CHUNK) {
            Some(last) => self.after = Some(last.node),
            None => (self.at, self.after) = (self.at + 1, None),
        }
        taken
    }
}

impl<'a> Machine<'a> {
    /// Begins a walk; `Err` is the value where there is nothing to walk.
    pub(super) fn begin_walk(
        &mut self,
        frame: &mut Frame<'a>,
        op: Op,
    ) -> Result<Result<Box<Walk<'a>>, Value>, TooMuchWork> {
        let begin = frame.begin();
        let (goal, ground) = (frame.goal, self.ground);
        let mut groups = SmallVec::new();
        let (mut acc, mut all, mut walk_sign) = (Value::Denied, false, Sign::default());
        let how = match op {
            Op::Arrow {
                via,
                target,
                all: every,
                sign,
            } => {
                (all, walk_sign) = (every, sign);
                let relation = ground.schema.member(via).rel;
                for group in ground.index.subject_groups(goal.node, relation) {
                    match ground.schema.member_id(group.kind, target) {
                        Some(member) => groups.push((group, member)),
                        // Nobody has it there, so `.all` over an object of that type is denied.
                        None if all && self.any_live(&group)? => {
                            self.absent(frame, Way::Forward(relation), false);
                            return Ok(Err(Value::Denied));
                        }
                        None => {}
                    }
                }
                Way::Forward(relation)
            }
            Op::Backward { via, target, sign } => {
                walk_sign = sign;
                let via = ground.schema.member(via);
                for group in ground.index.resource_groups(goal.node) {
                    if group.relation == via.rel && group.kind == via.owner {
                        groups.push((group, target));
                    }
                }
                Way::Backward(via.rel)
            }
            _ => {
                acc = self.direct(frame, goal)?;
                if acc == Value::Allowed || !ground.programs.get(goal.member).admits_sets {
                    return Ok(Err(acc));
                }
                let relation = ground.schema.member(goal.member).rel;
                for group in ground.index.subject_groups(goal.node, relation) {
                    if group.subject_relation == RelId::NONE {
                        continue;
                    }
                    if let Some(member) =
                        ground.schema.member_id(group.kind, group.subject_relation)
                    {
                        groups.push((group, member));
                    }
                }
                Way::Forward(relation)
            }
        };
        if groups.is_empty() {
            self.absent(frame, how, matches!(op, Op::Tuples));
            return Ok(Err(acc));
        }
        Ok(Ok(Box::new(Walk {
            groups,
            at: 0,
            after: None,
            pending: SmallVec::new(),
            tuple: Value::Allowed,
            target: None,
            acc,
            all,
            seen: false,
            sign: walk_sign,
            how,
            begin,
            mark: begin,
            spent_at: self.work,
        })))
    }

    fn any_live(&mut self, group: &Group<'a>) -> Result<bool, TooMuchWork> {
        for edge in group.iter() {
            self.spend(1)?;
            let (live, _, end) = standing(edge.restriction, self.ground.now);
            if live {
                self.ends = earlier(self.ends, end);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes the key that the absence of further tuples rests on.
    fn absent(&mut self, frame: &mut Frame<'a>, how: Way, noted: bool) {
        if self.track && !noted {
            frame.key(Some(self.tuples_key(frame.goal.node, how)));
        }
    }

    /// Goes on with a walk until it has decided or needs a goal.
    pub(super) fn walk(
        &mut self,
        frame: &mut Frame<'a>,
        mut delivered: Option<Value>,
    ) -> Result<Step, TooMuchWork> {
        let Some(mut walk) = frame.walk.take() else {
            return Ok(Step::Done(Value::Denied));
        };
        loop {
            if let Some(value) = delivered.take()
                && self.count(frame, &mut walk, value)
            {
                let acc = walk.acc;
                frame.walk = Some(walk);
                return Ok(Step::Done(acc));
            }
            let Some(target) = walk.pending.pop() else {
                if self.refill(frame, &mut walk)? {
                    continue;
                }
                let (acc, how) = (walk.acc, walk.how);
                let noted = self.ground.programs.get(frame.goal.member).admits_sets
                    && matches!(how, Way::Forward(rel) if rel == self.ground.schema.member(frame.goal.member).rel);
                self.absent(frame, how, noted);
                frame.walk = Some(walk);
                return Ok(Step::Done(acc));
            };
            walk.tuple = self.tuple(target.restriction)?;
            (walk.mark, walk.target) = (frame.begin(), Some(target.node));
            if walk.tuple == Value::Denied {
                // An expired tuple is none; one whose caveat is false counts for `.all`.
                let live = standing(target.restriction, self.ground.now).0;
                if walk.all && live {
                    delivered = Some(Value::Denied);
                }
                continue;
            }
            let goal = frame.goal.call(target.node, target.member, walk.sign);
            match self.resolve(frame, goal, walk.sign)? {
                Some(value) => delivered = Some(value),
                None => {
                    let sign = walk.sign;
                    frame.walk = Some(walk);
                    return Ok(Step::Need(goal, sign));
                }
            }
        }
    }

    /// Takes the value of an object behind the walk; says whether that decides it.
    fn count(&mut self, frame: &mut Frame<'a>, walk: &mut Walk<'a>, value: Value) -> bool {
        let value = self.causes.and(walk.tuple, value);
        let first = !std::mem::replace(&mut walk.seen, true);
        if walk.all {
            walk.acc = match first {
                true => value,
                false => self.causes.and(walk.acc, value),
            };
            if walk.acc == Value::Denied && self.track {
                let (node, how) = (frame.goal.node, walk.how);
                frame.key(Some(self.tuples_key(node, how)));
            }
            return walk.acc == Value::Denied;
        }
        walk.acc = self.causes.or(walk.acc, value);
        if walk.acc != Value::Allowed {
            return false;
        }
        if self.track {
            frame
                .rests_on
                .drain(walk.begin as usize..walk.mark as usize);
            let key = match walk.how {
                Way::Forward(_) => Some(self.tuples_key(frame.goal.node, walk.how)),
                Way::Backward(relation) => {
                    walk.target.map(|node| self.subjects_key(node, relation))
                }
            };
            frame.key(key);
        }
        true
    }

    /// The key of all tuples that a walk over an object takes.
    fn tuples_key(&self, node: NodeId, how: Way) -> u64 {
        match how {
            Way::Forward(relation) => self.subjects_key(node, relation),
            Way::Backward(_) => membership_key(self.hash(node)),
        }
    }

    /// Takes more objects into a walk; says whether there were any.
    fn refill(&mut self, frame: &mut Frame<'a>, walk: &mut Walk<'a>) -> Result<bool, TooMuchWork> {
        while let Some((group, member)) = walk.groups.get(walk.at).copied() {
            let odd = frame.goal.odd ^ walk.sign.odd;
            if !walk.all && group.len_hint() > SHORT && self.searchable(odd) {
                let budget = CHUNK as u64 + (self.work - walk.spent_at);
                let place = self.search(member, budget)?;
                if self.meet(walk, &group, member, place) {
                    frame.rest(self.track, Rest::Absent(place));
                    (walk.at, walk.after) = (walk.at + 1, None);
                    if walk.pending.is_empty() {
                        continue;
                    }
                    return Ok(true);
                }
            }
            let taken = walk.take_chunk(&group, member);
            self.spend(taken as u64)?;
            walk.pending.reverse();
            if !walk.pending.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Searches on from the subject's side for `member`; gives the closure's place.
    fn search(&mut self, member: MemberId, budget: u64) -> Result<u32, TooMuchWork> {
        let known = self
            .closures
            .iter()
            .position(|closure| closure.demand() == member);
        let place = known.unwrap_or(self.closures.len());
        if known.is_none() {
            self.closures
                .push(Closure::new(self.ground, self.who, member));
        }
        let mut spent = 0;
        if let Some(closure) = self.closures.get_mut(place) {
            let before = closure.spent;
            closure.advance(self.ground, budget);
            spent = closure.spent - before;
        }
        self.spend(spent)?;
        Ok(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// Takes those objects of `group` that a complete closure holds, where they are the fewer.
    fn meet(&mut self, walk: &mut Walk<'a>, group: &Group<'a>, member: MemberId, at: u32) -> bool {
        let Some(closure) = self.closures.get(at as usize) else {
            return false;
        };
        if !closure.is_complete() || closure.found().len() > group.len_hint() {
            return false;
        }
        let after = walk.after;
        let nodes = closure
            .found()
            .iter()
            .filter(|node| after.is_none_or(|done| **node > done));
        for node in nodes {
            self.work += 1;
            walk.pending.extend(group.get(*node).map(|edge| Target {
                node: edge.node,
                member,
                restriction: edge.restriction,
            }));
        }
        true
    }
}
