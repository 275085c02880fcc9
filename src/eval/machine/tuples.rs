//! What the tuples of one relation say, without its subject sets.

use crate::index::{Group, Restriction};
use crate::schema::program::Sign;
use crate::schema::{CaveatId, RelId};
use crate::tuple::Context;

use super::super::caveats::{self, Outcome};
use super::super::dependencies::membership_within_key;
use super::super::value::{Cause, Value};
use super::{Frame, Goal, Machine, TooMuchWork, earlier};

/// Tuple reads that resolving any caveat counts as.
const A_CAVEAT: u64 = 4;
/// Steps of a caveat that count as a tuple read. Steps are an upper bound: most take less.
const STEPS_A_READ: u64 = 4;

impl<'a> Machine<'a> {
    /// Whether the goal is the very set that the subject is.
    pub(super) fn is_itself(&self, goal: Goal) -> bool {
        self.who.relation != RelId::NONE
            && goal.node == self.who.node
            && self.ground.schema.member(goal.member).rel == self.who.relation
    }

    pub(super) fn itself(&self, goal: Goal, sign: Sign) -> Value {
        let who = self.who;
        let kind = self.ground.schema.member(goal.member).owner;
        let holds = match who.is_wildcard {
            true => (goal.odd ^ sign.odd) && kind == who.kind,
            false => who.relation == RelId::NONE && goal.node == who.node,
        };
        match holds {
            true => Value::Allowed,
            false => Value::Denied,
        }
    }

    /// The tuples of a relation among which the subject itself would stand, and whether there may
    /// be subject sets.
    pub(super) fn own_tuples(&self, goal: Goal) -> (Option<Group<'a>>, bool) {
        let relation = self.ground.schema.member(goal.member).rel;
        let (mut own, mut sets) = (None, false);
        for group in self.ground.index.subject_groups(goal.node, relation) {
            sets |= group.subject_relation != RelId::NONE;
            if self.is_own(&group) {
                own = Some(group);
            }
        }
        (own, sets)
    }

    pub(super) fn is_own(&self, group: &Group<'a>) -> bool {
        group.kind == self.who.kind && group.subject_relation == self.who.relation
    }

    /// What the tuples of a relation say without its subject sets; `own` are those among which
    /// the subject would stand.
    pub(super) fn direct(
        &mut self,
        frame: &mut Frame<'a>,
        goal: Goal,
        own: Option<&Group<'a>>,
    ) -> Result<Value, TooMuchWork> {
        let program = self.ground.programs.get(goal.member);
        let relation = self.ground.schema.member(goal.member).rel;
        let index = self.ground.index;
        if self.who.is_wildcard && goal.odd {
            let value = self.any_subject(goal, relation)?;
            let key = self.track.then(|| self.subjects_key(goal.node, relation));
            frame.key(key);
            return Ok(value);
        }
        let mut value = Value::Denied;
        self.spend(1)?;
        let edge = own.and_then(|own| index.find_in(own, goal.node, self.who.node));
        if let Some(edge) = edge {
            value = self.tuple(edge.restriction)?;
            if value == Value::Allowed {
                let key = self.track.then(|| self.membership_key(goal));
                frame.key(key);
                return Ok(value);
            }
        }
        if program.admits_wildcards
            && let Some(wildcard) = self.who.wildcard
        {
            self.spend(1)?;
            // It stands among those of the subject's own type.
            let edge = own.and_then(|own| index.find_in(own, goal.node, wildcard));
            if let Some(edge) = edge {
                let other = self.tuple(edge.restriction)?;
                value = self.causes.or(value, other);
            }
        }
        let whole = program.admits_sets || program.admits_wildcards;
        let key = self.track.then(|| match whole {
            true => self.subjects_key(goal.node, relation),
            false => self.membership_key(goal),
        });
        frame.key(key);
        Ok(value)
    }

    /// The key of what the subject is in, as far as that can be the goal's relation.
    fn membership_key(&self, goal: Goal) -> u64 {
        let within = self.ground.schema.member(goal.member).owner;
        membership_within_key(self.ground.index, self.hash(self.who.node), within)
    }

    /// Whether any object of the asked wildcard's type has the relation by a tuple.
    fn any_subject(&mut self, goal: Goal, relation: RelId) -> Result<Value, TooMuchWork> {
        let mut value = Value::Denied;
        for group in self.ground.index.subject_groups(goal.node, relation) {
            if group.kind != self.who.kind || group.subject_relation != RelId::NONE {
                continue;
            }
            for edge in group.iter() {
                self.spend(1)?;
                let other = self.tuple(edge.restriction)?;
                value = self.causes.or(value, other);
                if value == Value::Allowed {
                    return Ok(value);
                }
            }
        }
        Ok(value)
    }

    /// What a tuple says: its caveat, as long as it has not expired.
    pub(super) fn tuple(
        &mut self,
        restriction: Option<&'a Restriction>,
    ) -> Result<Value, TooMuchWork> {
        let Some(first) = restriction else {
            return Ok(Value::Allowed);
        };
        let mut value = Value::Denied;
        let mut next = Some(first);
        while let Some(one) = next {
            next = one.also.as_deref();
            if one.expires_at.is_some_and(|at| at <= self.ground.now) {
                continue;
            }
            self.ends = earlier(self.ends, one.expires_at);
            let other = match &one.caveat {
                None => Value::Allowed,
                Some((caveat, fixed)) => {
                    self.spend(A_CAVEAT)?;
                    self.caveat(*caveat, fixed)?
                }
            };
            value = self.causes.or(value, other);
        }
        Ok(value)
    }

    fn caveat(&mut self, caveat: CaveatId, fixed: &Context) -> Result<Value, TooMuchWork> {
        let Some(caveat) = self.ground.schema.caveat(caveat) else {
            return Ok(Value::Denied);
        };
        let (outcome, steps) = caveats::resolve_counted(caveat, fixed, self.context);
        self.spend(steps / STEPS_A_READ)?;
        Ok(match outcome {
            Outcome::True => Value::Allowed,
            Outcome::False => Value::Denied,
            Outcome::Undecided { missing, failure } => {
                let failure = failure.map(|problem| (caveat.name.clone(), problem.into()));
                self.causes.undecided(Cause {
                    missing: missing.into(),
                    failure,
                    cycle: None,
                })
            }
        })
    }
}
