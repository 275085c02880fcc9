//! Why a denial is one: whether locks alone stand in the way, and which.
//!
//! A denial is one of locks where the same evaluation, free of locks, is none. In the way are the
//! locks that deny at the root or at whatever it would have it by: the goals that hold when free
//! and are denied as things stand, from the root down. So the answer does not depend on which
//! branch an evaluation came to first, and a lock on a branch that grants nothing is not named.

use std::collections::HashSet;
use std::sync::Arc;

use crate::index::{Edge, Group, NodeId};
use crate::schema::MemberId;
use crate::schema::program::{Op, Sign};
use crate::state::HeldLock;

use super::super::value::Value;
use super::guard::Pass;
use super::{Frame, Goal, Machine, TooMuchWork};

/// What a part of a body comes to when free of locks, and the goals by which locks take it away.
type Part = (Value, Vec<Goal>);

impl<'a> Machine<'a> {
    /// The locks that are in the way of `member` on `node`, which was found denied, by their ids;
    /// none where it would be denied without them too.
    pub fn locks_in_the_way(
        &mut self,
        node: NodeId,
        member: MemberId,
    ) -> Result<Vec<Arc<HeldLock>>, TooMuchWork> {
        if !self.locked {
            return Ok(Vec::new());
        }
        let root = Goal {
            node,
            member,
            odd: false,
            free: false,
        };
        let mut notes = scratch(root);
        let free = self.value_of(&mut notes, Goal { free: true, ..root })?;
        let mut locks = Vec::new();
        if free != Value::Denied {
            self.blame(root, &mut notes, &mut locks)?;
        }
        self.denial = Some(notes.rests_on);
        locks.sort_unstable_by(|a: &Arc<HeldLock>, b| a.id.cmp(&b.id));
        locks.dedup_by(|a, b| a.id == b.id);
        Ok(locks)
    }

    /// Collects the locks from the root down.
    fn blame(
        &mut self,
        root: Goal,
        notes: &mut Frame<'a>,
        locks: &mut Vec<Arc<HeldLock>>,
    ) -> Result<(), TooMuchWork> {
        let mut open = vec![root];
        let mut seen = HashSet::from([root]);
        while let Some(goal) = open.pop() {
            self.spend(1)?;
            for (lock, except) in self.locks_on(notes, goal)? {
                if self.passes(notes, goal, lock, except)? == Value::Denied {
                    locks.push(Arc::clone(lock));
                }
            }
            let (_, parts) = self.body(notes, goal)?;
            open.extend(parts.into_iter().filter(|part| seen.insert(*part)));
        }
        Ok(())
    }

    pub(super) fn passes(
        &mut self,
        notes: &mut Frame<'a>,
        goal: Goal,
        lock: &'a HeldLock,
        except: Option<MemberId>,
    ) -> Result<Value, TooMuchWork> {
        let mut pass = Value::Denied;
        for place in 0..=lock.exempt.len() {
            let value = match self.lets_pass(goal.node, lock, except, place) {
                Pass::Known(value) => value,
                Pass::Goal(goal) => self.value_of(notes, goal)?,
            };
            pass = self.causes.or(pass, value);
            if pass == Value::Allowed {
                break;
            }
        }
        Ok(pass)
    }

    /// The body of a goal's program, every instruction of it: nothing is left out for being
    /// decided already.
    fn body(&mut self, notes: &mut Frame<'a>, goal: Goal) -> Result<Part, TooMuchWork> {
        let programs = self.ground.programs;
        let mut parts: Vec<Part> = Vec::new();
        let denied = (Value::Denied, Vec::new());
        for op in &programs.get(goal.member).ops {
            let part = match *op {
                Op::IfAllowed(_) | Op::IfDenied(_) => continue,
                Op::Or | Op::And | Op::Minus => {
                    let b = parts.pop().unwrap_or(denied.clone());
                    let a = parts.pop().unwrap_or(denied.clone());
                    self.joined(*op, a, b)
                }
                Op::Nobody => denied.clone(),
                Op::Itself(sign) => (self.itself(goal, sign), Vec::new()),
                Op::Call(member, sign) => {
                    self.part(notes, goal, (goal.node, member), sign, Value::Allowed)?
                }
                Op::Tuples | Op::Arrow { .. } | Op::Backward { .. } | Op::Roles { .. } => {
                    self.targets(notes, goal, *op)?
                }
            };
            parts.push(part);
        }
        Ok(parts.pop().unwrap_or(denied))
    }

    fn joined(&mut self, op: Op, a: Part, b: Part) -> Part {
        let value = match op {
            Op::Or => self.causes.or(a.0, b.0),
            Op::And => self.causes.and(a.0, b.0),
            _ => self.causes.minus(a.0, b.0),
        };
        let mut goals = a.1;
        goals.extend(b.1);
        if value == Value::Denied {
            goals.clear();
        }
        (value, goals)
    }

    /// A goal that a body names, and whether locks take it away.
    fn part(
        &mut self,
        notes: &mut Frame<'a>,
        from: Goal,
        (node, member): (NodeId, MemberId),
        sign: Sign,
        tuple: Value,
    ) -> Result<Part, TooMuchWork> {
        let goal = self.call(from, node, member, sign);
        let free = self.value_of(notes, Goal { free: true, ..goal })?;
        let value = self.causes.and(tuple, free);
        let taken = !goal.free && value != Value::Denied;
        let taken = taken && self.value_of(notes, goal)? == Value::Denied;
        let goals = if taken { vec![goal] } else { Vec::new() };
        Ok((value, goals))
    }

    /// All that a relation's sets, an arrow or a role leads to.
    fn targets(&mut self, notes: &mut Frame<'a>, goal: Goal, op: Op) -> Result<Part, TooMuchWork> {
        notes.goal = goal;
        let mut parts: Vec<Part> = Vec::new();
        if op == Op::Tuples {
            parts.push((
                self.direct(notes, goal, self.own_tuples(goal).0.as_ref())?,
                Vec::new(),
            ));
        }
        let (walked, all) = self.walked(notes, goal, op)?;
        let sign = match op {
            Op::Arrow { sign, .. } | Op::Backward { sign, .. } | Op::Roles { sign, .. } => sign,
            _ => Sign::default(),
        };
        for (group, member) in walked {
            for edge in group.iter() {
                self.spend(1)?;
                parts.extend(self.target(notes, goal, op, (edge, member), sign)?);
            }
        }
        let join = if all { Op::And } else { Op::Or };
        let mut parts = parts.into_iter();
        let Some(mut joined) = parts.next() else {
            return Ok((Value::Denied, Vec::new()));
        };
        for part in parts {
            joined = self.joined(join, joined, part);
        }
        Ok(joined)
    }

    /// What one object behind a tuple gives; `None` where the tuple does not count at all.
    fn target(
        &mut self,
        notes: &mut Frame<'a>,
        goal: Goal,
        op: Op,
        (edge, member): (Edge<'a>, Option<MemberId>),
        sign: Sign,
    ) -> Result<Option<Part>, TooMuchWork> {
        if !super::standing(edge.restriction, self.ground.now).0 {
            return Ok(None);
        }
        let Some(member) = member else {
            return Ok(Some((Value::Denied, Vec::new())));
        };
        if let Op::Roles { roles, which, .. } = op
            && !self.site_counts(notes, goal, (roles, which), edge.node)?
        {
            return Ok(None);
        }
        let tuple = self.tuple(edge.restriction)?;
        let part = self.part(notes, goal, (edge.node, member), sign, tuple)?;
        Ok(Some(part))
    }

    /// The value of a goal, from wherever it can be had.
    fn value_of(&mut self, notes: &mut Frame<'a>, goal: Goal) -> Result<Value, TooMuchWork> {
        self.spend(1)?;
        if let Some((value, rest)) = self.closed(goal) {
            notes.rest(self.track, rest);
            return Ok(value);
        }
        self.evaluate_goal(goal)
    }

    /// The lists of tuples that an instruction walks, each with what is asked of the objects
    /// there (`None`: nothing that there is), and whether all must hold.
    #[expect(clippy::type_complexity, reason = "a list of pairs, and a flag")]
    fn walked(
        &mut self,
        notes: &mut Frame<'a>,
        goal: Goal,
        op: Op,
    ) -> Result<(Vec<(Group<'a>, Option<MemberId>)>, bool), TooMuchWork> {
        let ground = self.ground;
        let mut all = false;
        let mut groups = Vec::new();
        match op {
            Op::Arrow {
                via,
                target,
                all: every,
                ..
            } => {
                all = every;
                let relation = ground.schema.member(via).rel;
                for group in ground.index.subject_groups(goal.node, relation) {
                    let member = ground.schema.member_id(group.kind, target);
                    if member.is_some() || every {
                        groups.push((group, member));
                    }
                }
                self.walk_key(notes, goal, op);
            }
            Op::Backward { via, target, .. } => {
                let via = ground.schema.member(via);
                let found = ground.index.resource_groups(goal.node);
                let found = found.filter(|g| g.relation == via.rel && g.kind == via.owner);
                groups.extend(found.map(|group| (group, Some(target))));
                self.walk_key(notes, goal, op);
            }
            Op::Roles { roles, which, .. } => {
                let found = self.role_groups(notes, goal, (roles, which))?;
                groups.extend(
                    found
                        .into_iter()
                        .map(|(group, member)| (group, Some(member))),
                );
            }
            _ => {
                let relation = ground.schema.member(goal.member).rel;
                for group in ground.index.subject_groups(goal.node, relation) {
                    let set = ground.schema.member_id(group.kind, group.subject_relation);
                    groups.extend(set.map(|member| (group, Some(member))));
                }
                self.walk_key(notes, goal, op);
            }
        }
        Ok((groups, all))
    }
}

/// A frame that is never run: it gathers what is rested on.
pub(super) fn scratch<'a>(goal: Goal) -> Frame<'a> {
    Frame {
        entry: 0,
        goal,
        op: 0,
        base: 0,
        rests_on: Vec::new(),
        walk: None,
        guard: None,
        waiting: false,
        negations: 0,
        low: 0,
        unstable: false,
        provisional: 0,
    }
}
