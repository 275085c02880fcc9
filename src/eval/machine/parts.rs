//! The machine's values of parts of a question, for those who show how an answer came about.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::{Group, NodeId, Restriction};
use crate::schema::program::{Sign, Which};
use crate::schema::{MemberId, RelId, RolesId};
use crate::state::HeldLock;

use super::super::value::Value;
use super::denial::scratch;
use super::guard::Pass;
use super::{Goal, Machine, TooMuchWork, standing};

/// A lock, and what lets the subject pass it.
pub(in crate::eval) type Passed = (Arc<HeldLock>, Option<(NodeId, MemberId)>);

impl<'a> Machine<'a> {
    /// The value of `member` on `node`, as it stands on the right of an odd number of `-` or not,
    /// with locks applied or free of them.
    pub(in crate::eval) fn value_of_part(
        &mut self,
        (node, member): (NodeId, MemberId),
        odd: bool,
        free: bool,
    ) -> Result<Value, TooMuchWork> {
        self.spend(1)?;
        let goal = self.goal((node, member), odd, free);
        match self.closed(goal) {
            Some((value, _)) => Ok(value),
            None => self.evaluate_goal(goal),
        }
    }

    fn goal(&self, (node, member): (NodeId, MemberId), odd: bool, free: bool) -> Goal {
        Goal {
            node,
            member,
            odd,
            free: free && self.splits(),
        }
    }

    /// The locks on a relation or permission that the subject does not pass.
    pub(in crate::eval) fn blocking(
        &mut self,
        part: (NodeId, MemberId),
    ) -> Result<Vec<Arc<HeldLock>>, TooMuchWork> {
        let goal = self.goal(part, false, false);
        let mut notes = scratch(goal);
        let mut locks = Vec::new();
        for (lock, except) in self.locks_on(&mut notes, goal)? {
            if self.passes(&mut notes, goal, lock, except)? == Value::Denied {
                locks.push(Arc::clone(lock));
            }
        }
        Ok(locks)
    }

    /// The locks on a relation or permission that the subject has, each with what lets it pass;
    /// `None` where that is a lock's own list of subjects.
    pub(in crate::eval) fn passed(
        &mut self,
        part: (NodeId, MemberId),
    ) -> Result<Vec<Passed>, TooMuchWork> {
        let goal = self.goal(part, false, false);
        let mut notes = scratch(goal);
        let mut passed = Vec::new();
        for (lock, except) in self.locks_on(&mut notes, goal)? {
            let mut by = None;
            for place in 0..=lock.exempt.len() {
                match self.lets_pass(goal.node, lock, except, place) {
                    Pass::Known(Value::Allowed) => break,
                    Pass::Goal(goal) if self.evaluate_goal(goal)? == Value::Allowed => {
                        by = Some((goal.node, goal.member));
                        break;
                    }
                    Pass::Known(_) | Pass::Goal(_) => {}
                }
            }
            passed.push((Arc::clone(lock), by));
        }
        Ok(passed)
    }

    /// The sites of the roles that count here, each with the relation of its subjects.
    pub(in crate::eval) fn sites(
        &mut self,
        part: (NodeId, MemberId),
        odd: bool,
        roles: (RolesId, Which),
    ) -> Result<Vec<(NodeId, MemberId)>, TooMuchWork> {
        let goal = self.goal(part, odd, false);
        let mut notes = scratch(goal);
        let mut sites = Vec::new();
        for (group, member) in self.role_groups(&mut notes, goal, roles)? {
            for edge in group.iter() {
                self.spend(1)?;
                if self.site_counts(&mut notes, goal, roles, edge.node)? {
                    sites.push((edge.node, member));
                }
            }
        }
        Ok(sites)
    }

    /// What an object inherits roles from was found by these relations of these objects.
    pub(in crate::eval) fn climbed_by(
        &mut self,
        part: (NodeId, MemberId),
        roles: RolesId,
    ) -> Result<Vec<(NodeId, RelId)>, TooMuchWork> {
        let goal = self.goal(part, false, false);
        Ok(self.above(goal, roles)?.read.to_vec())
    }

    /// Whether the subject is the very set that `member` of `node` is.
    pub(in crate::eval) fn is_set(&self, node: NodeId, member: MemberId) -> bool {
        self.is_itself(self.goal((node, member), false, false))
    }

    /// What `self` says in a permission.
    pub(in crate::eval) fn is_subject(&self, node: NodeId, member: MemberId, odd: bool) -> Value {
        self.itself(self.goal((node, member), odd, false), Sign::default())
    }

    /// Bills tuple reads.
    pub(in crate::eval) fn read(&mut self, reads: u64) -> Result<(), TooMuchWork> {
        self.spend(reads)
    }

    /// What a tuple's caveat says; `None` where the tuple has expired.
    pub(in crate::eval) fn standing_value(
        &mut self,
        restriction: Option<&'a Restriction>,
    ) -> Result<Option<Value>, TooMuchWork> {
        if !standing(restriction, self.ground.now).0 {
            return Ok(None);
        }
        self.tuple(restriction).map(Some)
    }

    /// Who of a group of tuples the subject itself is, its wildcard included.
    pub(in crate::eval) fn own(&self, group: &Group<'a>, odd: bool) -> SmallVec<[NodeId; 2]> {
        let who = self.who;
        if group.subject_relation != who.relation || group.kind != who.kind {
            return SmallVec::new();
        }
        if who.is_wildcard && odd {
            return group.iter().take(2).map(|edge| edge.node).collect();
        }
        let wildcard = who.wildcard.filter(|_| who.relation == RelId::NONE);
        [Some(who.node), wildcard].into_iter().flatten().collect()
    }
}
