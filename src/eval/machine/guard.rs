//! The last step of a program that locks can block: each lock that is held must let the subject
//! pass, by the mode's `except` or as one of the lock's own exempt subjects. Both are evaluated
//! with no lock applied: a lock never decides about itself.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::NodeId;
use crate::schema::program::Sign;
use crate::schema::{MemberId, RelId};
use crate::state::HeldLock;
use crate::tuple::Subject;

use super::super::locks::{Held, climb_keys};
use super::super::value::Value;
use super::{Frame, Goal, Machine, Step, TooMuchWork, earlier, stand_in};

/// The locks that a body still has to pass.
pub(super) struct Guard<'a> {
    /// What the body and the locks so far come to.
    acc: Value,
    /// The locks, each with the `except` of its mode.
    locks: SmallVec<[(&'a Arc<HeldLock>, Option<MemberId>); 2]>,
    at: usize,
    /// What lets the subject pass the lock at hand, so far.
    pass: Value,
    /// Which of the exempt subjects comes next; 0 is the mode's `except`.
    next: usize,
}

/// One thing that lets a subject pass a lock.
pub(super) enum Pass {
    Known(Value),
    /// The value of this goal.
    Goal(Goal),
}

impl<'a> Machine<'a> {
    /// Whether a lock may block the goal: one of such a mode is held somewhere.
    pub(super) fn is_guarded(&self, goal: Goal) -> bool {
        !goal.free && self.ground.may_block(goal.member)
    }

    /// Applies the locks to the value of a program's body.
    pub(super) fn guard(
        &mut self,
        frame: &mut Frame<'a>,
        mut delivered: Option<Value>,
    ) -> Result<Step, TooMuchWork> {
        let body = self.top(frame);
        let guard = match frame.guard.take() {
            Some(guard) => Some(guard),
            None => self.begin_guard(frame, body)?,
        };
        let Some(mut guard) = guard else {
            return Ok(Step::Done(body));
        };
        while let Some((lock, except)) = guard.locks.get(guard.at).copied() {
            let value = match delivered.take() {
                Some(value) => value,
                None => match self.lets_pass(frame.goal.node, lock, except, guard.next) {
                    Pass::Known(value) => value,
                    Pass::Goal(goal) => match self.resolve(frame, goal, Sign::default())? {
                        Step::Done(value) => value,
                        need @ Step::Need(..) => {
                            frame.guard = Some(guard);
                            return Ok(need);
                        }
                    },
                },
            };
            guard.pass = self.causes.or(guard.pass, value);
            guard.next += 1;
            if guard.pass != Value::Allowed && guard.next <= lock.exempt.len() {
                continue;
            }
            guard.acc = self.causes.and(guard.acc, guard.pass);
            if guard.acc == Value::Denied {
                self.locked = true;
                return Ok(Step::Done(Value::Denied));
            }
            (guard.at, guard.next, guard.pass) = (guard.at + 1, 0, Value::Denied);
        }
        Ok(Step::Done(guard.acc))
    }

    /// Finds the locks that are held; `None` where none is.
    fn begin_guard(
        &mut self,
        frame: &mut Frame<'a>,
        body: Value,
    ) -> Result<Option<Box<Guard<'a>>>, TooMuchWork> {
        if body == Value::Denied || frame.goal.free {
            return Ok(None);
        }
        let locks = self.locks_on(frame, frame.goal)?;
        Ok((!locks.is_empty()).then(|| {
            Box::new(Guard {
                acc: body,
                locks,
                at: 0,
                pass: Value::Denied,
                next: 0,
            })
        }))
    }

    /// The locks that block a goal, each once, with the `except` of its mode; notes the keys of
    /// those that could be held.
    #[expect(clippy::type_complexity, reason = "a list of pairs")]
    pub(super) fn locks_on(
        &mut self,
        frame: &mut Frame<'a>,
        goal: Goal,
    ) -> Result<SmallVec<[(&'a Arc<HeldLock>, Option<MemberId>); 2]>, TooMuchWork> {
        let mut locks = SmallVec::new();
        let ground = self.ground;
        if ground.locks.is_empty() && !self.track {
            return Ok(locks);
        }
        let kind = ground.schema.member(goal.member).owner;
        for place in &ground.programs.get(goal.member).locks {
            let Some(mode) = ground.mode(kind, *place) else {
                continue;
            };
            if !self.track && !ground.locks.has_mode(&mode.name) {
                continue;
            }
            let held = self.held(goal, *place, &mode.name)?;
            if self.track {
                let mut keys = Vec::new();
                climb_keys(ground, &held.climb, &|node| self.hash(node), &mut keys);
                frame
                    .rests_on
                    .extend(keys.into_iter().map(super::Rest::Key));
            }
            locks.extend(held.locks.iter().map(|lock| (*lock, mode.except)));
        }
        Ok(locks)
    }

    /// The locks of one mode on one object, looked up once a question.
    fn held(&mut self, goal: Goal, place: u16, mode: &str) -> Result<Arc<Held<'a>>, TooMuchWork> {
        if let Some(held) = self.held.get(&(goal.node, place)) {
            return Ok(Arc::clone(held));
        }
        let (ground, node) = (self.ground, goal.node);
        let kind = ground.schema.member(goal.member).owner;
        let left = self.limit.saturating_sub(self.work);
        let climb = match self.track {
            true => ground.lock_places(node, kind, mode, left),
            false => ground.locked_places(node, kind, mode, left),
        };
        self.spend(1 + climb.reads)?;
        self.ends = earlier(self.ends, climb.ends);
        let locks = match ground.locks.has_mode(mode) {
            true => ground.locks_of(
                &climb,
                mode,
                |node| self.hash(node),
                self.unknown_name(node),
            ),
            false => Vec::new(),
        };
        for lock in &locks {
            self.ends = earlier(self.ends, lock.expires_at);
        }
        self.spend(locks.len() as u64)?;
        let held = Arc::new(Held { locks, climb });
        self.held.insert((node, place), Arc::clone(&held));
        Ok(held)
    }

    /// What lets the subject pass a lock: 0 is the `except`, then come the exempt subjects.
    pub(super) fn lets_pass(
        &mut self,
        node: NodeId,
        lock: &'a HeldLock,
        except: Option<MemberId>,
        place: usize,
    ) -> Pass {
        let exempt = place.checked_sub(1).and_then(|at| lock.exempt.get(at));
        match (exempt, except) {
            (Some(subject), _) => self.exempt(subject),
            (None, Some(member)) if place == 0 => Pass::Goal(self.free_goal(node, member)),
            (None, _) => Pass::Known(Value::Denied),
        }
    }

    fn free_goal(&self, node: NodeId, member: MemberId) -> Goal {
        Goal {
            node,
            member,
            odd: false,
            free: self.splits(),
        }
    }

    /// Whether the subject is, or belongs to, one of those whom a lock does not touch.
    fn exempt(&mut self, exempt: &'a Subject) -> Pass {
        let ground = self.ground;
        let denied = Pass::Known(Value::Denied);
        let Some(kind) = ground.schema.type_named(exempt.kind()).map(|kind| kind.id) else {
            return denied;
        };
        let Some(name) = exempt.relation() else {
            return Pass::Known(match self.is_plainly(kind, exempt.id()) {
                true => Value::Allowed,
                false => Value::Denied,
            });
        };
        let relation = ground.schema.names.rel_id(name);
        let Some(member) = relation.and_then(|rel| ground.schema.member_id(kind, rel)) else {
            return denied;
        };
        let node = self.node_of(kind, exempt);
        Pass::Goal(self.free_goal(node, member))
    }

    /// Whether the subject is this object, or this wildcard takes it in.
    fn is_plainly(&self, kind: crate::schema::TypeId, id: &str) -> bool {
        let who = self.who;
        if who.relation != RelId::NONE || who.kind != kind {
            return false;
        }
        let own = match self.unknown_name(who.node) {
            Some(object) => object.id(),
            None => self.ground.index.id_of(who.node),
        };
        id == "*" || id == own
    }

    /// The node of an object that no tuple may name.
    fn node_of(&mut self, kind: crate::schema::TypeId, object: &'a Subject) -> NodeId {
        let index = self.ground.index;
        if let Some(node) = index.node(kind, object.id()) {
            return node;
        }
        let object = crate::tuple::ObjectRef::known(object.kind(), object.id());
        let known = (self.unknown.iter()).position(|unknown| *unknown == Some(object));
        let place = known.unwrap_or_else(|| {
            self.unknown.push(Some(object));
            self.unknown.len() - 1
        });
        stand_in(place)
    }
}
