//! Judging a rule: the value of one member for one subject, without names to be found first.

use super::check::{known_subject, resource_node, who};
use super::closure::Ground;
use super::machine::{Machine, TooMuchWork};
use super::value::Value;
use super::{CheckError, Decision, Facts};
use crate::schema::MemberId;
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef, SubjectRef};

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

/// The value of a member from one state, with no caveat's parameters given. What can't be decided
/// (a failed caveat, a negation that depends on itself) is conditional: a rule asks for an allow.
/// Locks are applied, but for the rules that are free of them.
///
/// # Errors
/// A subject of which the schema knows no type or relation, or more tuple reads than `work`.
pub(crate) fn judge(
    state: &State,
    judged: &Judged<'_>,
    now: Timestamp,
    work: u64,
) -> Result<Decision, CheckError> {
    let Some(facts) = Facts::of(state) else {
        return Ok(Decision::Denied);
    };
    let (context, index) = (Context::new(), facts.index);
    let (subject, resource) = (judged.subject, judged.resource);
    let (kind, relation) = known_subject(facts.schema, subject)?;
    let who = who((facts.schema, index), kind.id, relation, subject);
    let owner = facts.schema.member(judged.member).owner;
    let node = resource_node(index, owner, subject, resource);
    let object = ObjectRef::known(subject.kind(), subject.id());
    let unknown = [Some(resource), Some(object)];
    let ground = Ground::of(facts, now);
    let free = judged.free || ground.programs.get(judged.member).free;
    let mut machine = Machine::new(ground, who, &context, unknown, false, work);
    match machine.evaluate_where(node, judged.member, free) {
        Ok(Value::Allowed) => Ok(Decision::Allowed),
        Ok(Value::Denied) => Ok(Decision::Denied),
        Ok(Value::Undecided(_)) => Ok(Decision::Conditional),
        Err(TooMuchWork) => Err(CheckError::TooComplex { limit: work }),
    }
}
