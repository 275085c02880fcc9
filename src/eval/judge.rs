//! Judging rules: the values of members for one subject, without names to be found first.

use std::sync::LazyLock;

use super::check::{Subjected, resource_node};
use super::closure::Ground;
use super::machine::{Machine, TooMuchWork};
use super::value::Value;
use super::{CheckError, Decision, Facts, Limits};
use crate::index::NodeId;
use crate::schema::MemberId;
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef, SubjectRef};

/// No caveat's parameters are given.
static NOTHING: LazyLock<Context> = LazyLock::new(Context::new);

/// Has this subject that rule (or relation, or permission) on that resource?
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    /// Who.
    pub(crate) subject: SubjectRef<'a>,
    /// What, of the resource's type.
    pub(crate) member: MemberId,
    /// On what.
    pub(crate) resource: ObjectRef<'a>,
    /// With no lock applied.
    pub(crate) free: bool,
}

/// Judges what one subject has on the resources of one state: what was found for one of them
/// serves the next.
///
/// What can't be decided (a failed caveat, a negation that depends on itself) is conditional: a
/// rule asks for an allow. Locks are applied, but for the rules that are free of them.
pub(crate) struct Judge<'a> {
    asker: Subjected<'a>,
    subject: SubjectRef<'a>,
    machine: Machine<'a>,
    limits: Limits,
}

impl<'a> Judge<'a> {
    /// A judge of `subject` at the instant `now`; each judgement takes at most `work` tuple reads.
    ///
    /// # Errors
    /// A subject of which the schema knows no type or relation.
    pub(crate) fn new(
        facts: Facts<'a>,
        subject: SubjectRef<'a>,
        now: Timestamp,
        work: u64,
    ) -> Result<Self, CheckError> {
        let asker = Subjected::new(Ground::of(facts, now), subject, &NOTHING)?;
        let limits = Limits {
            work,
            ..Limits::default()
        };
        Ok(Self {
            asker,
            subject,
            machine: asker.machine(&NOTHING, &limits),
            limits,
        })
    }

    /// A judge of the same subject on what is imagined of its state.
    ///
    /// # Errors
    /// As for a new one.
    pub(crate) fn on<'b>(&self, facts: Facts<'b>) -> Result<Judge<'b>, CheckError>
    where
        'a: 'b,
    {
        let Subjected {
            ground,
            who,
            unknown,
        } = self.asker;
        if !facts.index.shares_nodes() {
            return Judge::new(facts, self.subject, ground.now, self.limits.work);
        }
        let asker: Subjected<'b> = Subjected {
            ground: Ground::of(facts, ground.now),
            who,
            unknown,
        };
        Ok(Judge {
            asker,
            subject: self.subject,
            machine: asker.machine(&NOTHING, &self.limits),
            limits: self.limits,
        })
    }

    /// The value of a member on a resource.
    ///
    /// # Errors
    /// More tuple reads than one judgement may take; it can't judge anything after that.
    pub(crate) fn judge(
        &mut self,
        member: MemberId,
        resource: ObjectRef<'_>,
        free: bool,
    ) -> Result<Decision, CheckError> {
        let ground = self.asker.ground;
        let owner = ground.schema.member(member).owner;
        let free = free || ground.programs.get(member).free;
        if let Some(node) = ground.index.node(owner, resource.id()) {
            self.machine.begin_anew();
            return decided(&mut self.machine, node, member, free, self.limits.work);
        }
        // One node stands for all resources that no tuple names: nothing is kept of these.
        let mut asker: Subjected<'_> = self.asker;
        asker.unknown = [Some(resource), asker.unknown.get(1).copied().flatten()];
        let mut machine = asker.machine(&NOTHING, &self.limits);
        let node = resource_node(ground.index, owner, self.subject, resource);
        decided(&mut machine, node, member, free, self.limits.work)
    }
}

fn decided(
    machine: &mut Machine<'_>,
    node: NodeId,
    member: MemberId,
    free: bool,
    work: u64,
) -> Result<Decision, CheckError> {
    match machine.evaluate_where(node, member, free) {
        Ok(Value::Allowed) => Ok(Decision::Allowed),
        Ok(Value::Denied) => Ok(Decision::Denied),
        Ok(Value::Undecided(_)) => Ok(Decision::Conditional),
        Err(TooMuchWork) => Err(CheckError::TooComplex { limit: work }),
    }
}

/// One judgement.
///
/// # Errors
/// A subject of which the schema knows no type or relation, or more tuple reads than `work`.
pub(crate) fn judge(
    state: &State,
    judged: &Judged<'_>,
    now: Timestamp,
    work: u64,
) -> Result<Decision, CheckError> {
    let Judged {
        subject,
        member,
        resource,
        free,
    } = *judged;
    let Some(facts) = Facts::of(state) else {
        return Ok(Decision::Denied);
    };
    Judge::new(facts, subject, now, work)?.judge(member, resource, free)
}
