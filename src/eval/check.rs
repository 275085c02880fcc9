//! Check: names resolved, one evaluation, its value as an answer.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::{Edit, Index, NodeId};
use crate::schema::admit::nearest;
use crate::schema::{MemberId, RelId, Schema, TypeDef, TypeId};
use crate::state::HeldLock;
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef, SubjectRef, Tuple};

use super::closure::{Ground, Who};
use super::machine::{Machine, NO_RESOURCE, NO_SUBJECT, TooMuchWork, Unknown};
use super::reach::reach;
use super::value::{Cause, Value};
use super::{Answer, CheckError, Decision, Facts, Limits, Question};

/// Answers `question` from one state, at the instant `now`.
///
/// # Errors
/// Names that the schema lacks, a context that does not fit, too much work, a negation cycle or a
/// failed caveat on which the answer would rest. A denial is an answer.
pub fn check(
    facts: Facts<'_>,
    question: &Question<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Answer, CheckError> {
    let Facts { schema, index, .. } = facts;
    let asked = resolve(schema, question)?;
    if question.contextual.is_empty() {
        return evaluate(facts, &asked.looked_up(index), now, limits);
    }
    let index = &unite(schema, index, question.contextual)?;
    let facts = Facts { index, ..facts };
    evaluate(facts, &asked.looked_up(index), now, limits)
}

/// A question by the numbers of its names and objects, good for the state it was prepared on.
#[derive(Clone, Copy)]
pub struct Prepared<'a> {
    asked: Asked<'a>,
    node: Option<NodeId>,
    subject: Option<NodeId>,
}

/// Looks up what several questions are about, side by side, before each is answered by
/// [`check_prepared`]. An error is that of its question alone.
pub fn prepare<'a>(
    facts: Facts<'a>,
    questions: &'a [Question<'a>],
) -> Vec<Result<Prepared<'a>, CheckError>> {
    let Facts { schema, index, .. } = facts;
    let asked = questions.iter().map(|question| resolve(schema, question));
    let asked: SmallVec<[_; 16]> = asked.collect();
    let objects = asked.iter().flatten().map(Asked::objects);
    let mut pairs = index.pairs(objects).into_iter();
    let mut prepared = |asked: Asked<'a>| {
        let [node, subject] = pairs.next().unwrap_or_default();
        Prepared {
            asked,
            node,
            subject,
        }
    };
    (asked.into_iter())
        .map(|asked| asked.map(&mut prepared))
        .collect()
}

/// As [`check`].
///
/// # Errors
/// The same, but for names that the schema lacks.
pub fn check_prepared(
    facts: Facts<'_>,
    prepared: &Prepared<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Answer, CheckError> {
    match prepared.asked.question.contextual.is_empty() {
        true => evaluate(facts, prepared, now, limits),
        false => check(facts, prepared.asked.question, now, limits),
    }
}

/// Checks the parameters of a request.
pub(super) fn check_context(schema: &Schema, context: &Context) -> Result<(), CheckError> {
    match context.is_empty() {
        true => Ok(()),
        false => {
            super::caveats::check_request_context(schema, context).map_err(CheckError::Context)
        }
    }
}

/// A question, and its names as numbers.
#[derive(Clone, Copy)]
struct Asked<'a> {
    question: &'a Question<'a>,
    subject: TypeId,
    relation: RelId,
    resource: TypeId,
    member: MemberId,
}

/// Resolves its names, and checks the parameters that go with it.
fn resolve<'a>(schema: &Schema, question: &'a Question<'a>) -> Result<Asked<'a>, CheckError> {
    let resource = known_type(schema, "resource", question.resource.kind())?;
    let (subject, relation) = known_subject(schema, question.subject)?;
    let member = known_member(schema, resource, question.permission)?;
    check_context(schema, question.context)?;
    Ok(Asked {
        question,
        subject: subject.id,
        relation,
        resource: resource.id,
        member,
    })
}

impl<'a> Asked<'a> {
    /// The resource and the subject.
    fn objects(&self) -> [(TypeId, &'a str); 2] {
        let Question {
            resource, subject, ..
        } = self.question;
        [(self.resource, resource.id()), (self.subject, subject.id())]
    }

    fn looked_up(self, index: &Index) -> Prepared<'a> {
        let [node, subject] = self.objects().map(|(kind, id)| index.node(kind, id));
        Prepared {
            asked: self,
            node,
            subject,
        }
    }
}

/// Who asks several questions, and of what.
#[derive(Clone, Copy)]
pub(super) struct Subjected<'a> {
    pub ground: Ground<'a>,
    pub who: Who,
    /// The one resource, where there is one, and the subject.
    pub unknown: [Unknown<'a>; 2],
}

impl<'a> Subjected<'a> {
    /// Resolves a subject, and checks the parameters that go with it.
    pub fn new(
        ground: Ground<'a>,
        subject: SubjectRef<'a>,
        context: &Context,
    ) -> Result<Self, CheckError> {
        let (kind, relation) = known_subject(ground.schema, subject)?;
        check_context(ground.schema, context)?;
        let object = ObjectRef::known(subject.kind(), subject.id());
        Ok(Self {
            ground,
            who: who((ground.schema, ground.index), kind.id, relation, subject),
            unknown: [None, Some(object)],
        })
    }

    /// Answers its questions, without keys.
    pub fn machine(&self, context: &'a Context, limits: &Limits) -> Machine<'a> {
        Machine::new(
            self.ground,
            self.who,
            context,
            self.unknown,
            false,
            limits.work,
        )
    }
}

/// The type of a subject, and the relation of a subject set.
pub(super) fn known_subject<'a>(
    schema: &'a Schema,
    subject: SubjectRef<'_>,
) -> Result<(&'a TypeDef, RelId), CheckError> {
    let kind = known_type(schema, "subject", subject.kind())?;
    match subject.relation() {
        None => Ok((kind, RelId::NONE)),
        Some(name) => Ok((kind, known_set(schema, kind, name)?)),
    }
}

/// The relation by which subject sets of a type are named.
pub(super) fn known_set(schema: &Schema, kind: &TypeDef, name: &str) -> Result<RelId, CheckError> {
    (schema.names.rel_id(name))
        .filter(|rel| schema.member_id(kind.id, *rel).is_some())
        .ok_or_else(|| CheckError::UnknownSubjectRelation {
            kind: kind.name.to_string(),
            name: name.to_owned(),
            nearest: nearest_member(schema, kind, name),
        })
}

/// A relation or permission of a type.
pub(super) fn known_member(
    schema: &Schema,
    kind: &TypeDef,
    name: &str,
) -> Result<MemberId, CheckError> {
    let member = (schema.names.rel_id(name)).and_then(|rel| schema.member_id(kind.id, rel));
    member.ok_or_else(|| CheckError::UnknownPermission {
        kind: kind.name.to_string(),
        name: name.to_owned(),
        nearest: nearest_member(schema, kind, name),
    })
}

pub(super) fn known_type<'a>(
    schema: &'a Schema,
    field: &'static str,
    name: &str,
) -> Result<&'a TypeDef, CheckError> {
    schema
        .type_named(name)
        .ok_or_else(|| CheckError::UnknownType {
            field,
            name: name.to_owned(),
            nearest: nearest(name, schema.types.iter().map(|kind| &*kind.name)),
        })
}

fn nearest_member(schema: &Schema, kind: &TypeDef, name: &str) -> Option<String> {
    let names = kind
        .members
        .iter()
        .map(|member| &*schema.member(*member).name);
    nearest(name, names)
}

/// The index with the contextual tuples beside the stored ones.
pub(super) fn unite(schema: &Schema, index: &Index, tuples: &[Tuple]) -> Result<Index, CheckError> {
    let mut edits = Vec::with_capacity(tuples.len());
    for (place, tuple) in tuples.iter().enumerate() {
        let admitted = schema
            .admit(tuple)
            .map_err(|problem| CheckError::ContextualTuple {
                index: place,
                problem,
            })?;
        if let (Some(caveat), Some(given)) = (
            admitted.caveat.and_then(|id| schema.caveat(id)),
            &tuple.caveat,
        ) {
            super::caveats::check_context(caveat, &given.context).map_err(CheckError::Context)?;
        }
        edits.push(Edit::put(&admitted, tuple));
    }
    Ok(index.united(&edits))
}

fn evaluate(
    facts: Facts<'_>,
    prepared: &Prepared<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Answer, CheckError> {
    let Asked {
        question,
        subject,
        relation,
        member,
        ..
    } = prepared.asked;
    let ground = Ground::of(facts, now);
    let known = (facts.schema, facts.index);
    let who = known_as(
        known,
        prepared.subject,
        (subject, relation),
        question.subject,
    );
    let absent = absent(question.subject, question.resource);
    let node = prepared.node.unwrap_or(absent);
    let subject = ObjectRef::known(question.subject.kind(), question.subject.id());
    let unknown = [Some(question.resource), Some(subject)];
    let track = question.with_dependencies && question.contextual.is_empty();
    if !track && let Some(reached) = reach(ground, who, (node, member), limits.work) {
        return Ok(plain_answer(question, reached));
    }
    let mut machine = Machine::new(ground, who, question.context, unknown, track, limits.work);
    answer(&mut machine, question, (node, member), limits)
}

/// The answer to a question that rests on nothing that can be missing or end.
fn plain_answer(question: &Question<'_>, reached: bool) -> Answer {
    let decision = match reached {
        true => Decision::Allowed,
        false => Decision::Denied,
    };
    Answer {
        decision,
        detail: detail(question, decision, &Cause::default(), &[]),
        locks: Vec::new(),
        missing_context: Vec::new(),
        valid_until: None,
        dependencies: Vec::new(),
        uncacheable: !question.contextual.is_empty(),
    }
}

/// The answer to a question about a node, by a machine of its subject. Further ones share what
/// the machine has found; keys are those of the first.
pub(super) fn answer(
    machine: &mut Machine<'_>,
    question: &Question<'_>,
    (node, member): (NodeId, MemberId),
    limits: &Limits,
) -> Result<Answer, CheckError> {
    let value = machine.evaluate(node, member);
    let value = value.map_err(|TooMuchWork| CheckError::TooComplex { limit: limits.work })?;
    let asked = || {
        let Question {
            resource,
            permission,
            ..
        } = question;
        (resource.to_string(), (*permission).to_owned())
    };
    let (decision, cause) = decided(machine, value, asked)?;
    let locks = match decision {
        Decision::Denied => machine.locks_in_the_way(node, member),
        Decision::Conditional | Decision::Allowed => Ok(Vec::new()),
    };
    let locks = locks.map_err(|TooMuchWork| CheckError::TooComplex { limit: limits.work })?;
    let mut answer = Answer {
        decision,
        detail: detail(question, decision, &cause, &locks),
        locks,
        missing_context: cause.missing.into_vec(),
        valid_until: machine.ends(),
        dependencies: Vec::new(),
        uncacheable: !question.contextual.is_empty() || machine.contested(),
    };
    if question.with_dependencies && !answer.uncacheable {
        answer.dependencies = machine.dependencies();
        if answer.dependencies.len() > limits.dependencies {
            answer.dependencies = Vec::new();
            answer.uncacheable = true;
        }
    }
    Ok(answer)
}

/// What a value means, and what a conditional one lacks. `asked` names the object and permission.
pub(super) fn decided(
    machine: &Machine<'_>,
    value: Value,
    asked: impl FnOnce() -> (String, String),
) -> Result<(Decision, Cause), CheckError> {
    match value {
        Value::Allowed => Ok((Decision::Allowed, Cause::default())),
        Value::Denied => Ok((Decision::Denied, Cause::default())),
        Value::Undecided(cause) => match machine.causes.get(cause).clone() {
            cause if cause.missing.is_empty() => Err(undecidable(machine, asked, cause)),
            cause => Ok((Decision::Conditional, cause)),
        },
    }
}

/// A subject as the index knows it.
pub(super) fn who(
    (schema, index): (&Schema, &Index),
    kind: TypeId,
    relation: RelId,
    subject: SubjectRef<'_>,
) -> Who {
    let node = index.node(kind, subject.id());
    known_as((schema, index), node, (kind, relation), subject)
}

/// The same where its node was looked up.
fn known_as(
    (schema, index): (&Schema, &Index),
    node: Option<NodeId>,
    (kind, relation): (TypeId, RelId),
    subject: SubjectRef<'_>,
) -> Who {
    let plain = relation == RelId::NONE && !subject.is_wildcard();
    let stands_for_all = plain && schema.programs().admits_wildcard_of(kind);
    Who {
        node: node.unwrap_or(NO_SUBJECT),
        kind,
        relation,
        wildcard: stands_for_all.then(|| index.node(kind, "*")).flatten(),
        is_wildcard: subject.is_wildcard(),
    }
}

/// The node of the resource, or what stands in for it where no tuple names it.
pub(super) fn resource_node(
    index: &Index,
    kind: TypeId,
    subject: SubjectRef<'_>,
    resource: ObjectRef<'_>,
) -> NodeId {
    let known = index.node(kind, resource.id());
    known.unwrap_or_else(|| absent(subject, resource))
}

/// What stands in for a resource that no tuple names.
fn absent(subject: SubjectRef<'_>, resource: ObjectRef<'_>) -> NodeId {
    let same = subject.kind() == resource.kind() && subject.id() == resource.id();
    if same { NO_SUBJECT } else { NO_RESOURCE }
}

fn undecidable(
    machine: &Machine<'_>,
    asked: impl FnOnce() -> (String, String),
    cause: Cause,
) -> CheckError {
    if let Some((caveat, problem)) = cause.failure {
        return CheckError::CaveatFailed {
            caveat: caveat.to_string(),
            problem: problem.to_string(),
        };
    }
    let (resource, permission) = cause
        .cycle
        .and_then(|entry| machine.named(entry))
        .unwrap_or_else(asked);
    CheckError::NegationCycle {
        resource,
        permission,
    }
}

fn detail(
    question: &Question<'_>,
    decision: Decision,
    cause: &Cause,
    locks: &[Arc<HeldLock>],
) -> String {
    let Question {
        subject,
        permission,
        resource,
        ..
    } = question;
    match decision {
        Decision::Allowed => String::new(),
        Decision::Denied if !locks.is_empty() => {
            let locks: Vec<String> = locks.iter().map(|lock| lock_text(lock)).collect();
            format!(
                "{subject} would have {permission} on {resource}, but {} in the way: {}",
                if locks.len() == 1 {
                    "a lock is"
                } else {
                    "locks are"
                },
                locks.join("; ")
            )
        }
        Decision::Denied => denial(*subject, permission, *resource),
        Decision::Conditional => format!(
            "whether {subject} has {permission} on {resource} depends on {}, which the request's \
             context lacks",
            cause.missing.join(", ")
        ),
    }
}

/// Most denials, said without the machinery of formats.
fn denial(subject: SubjectRef<'_>, permission: &str, resource: ObjectRef<'_>) -> String {
    let parts = [
        subject.kind(),
        ":",
        subject.id(),
        subject.relation().map_or("", |_| "#"),
        subject.relation().unwrap_or(""),
        " does not have ",
        permission,
        " on ",
        resource.kind(),
        ":",
        resource.id(),
    ];
    parts.concat()
}

/// A lock in words: `freeze on environment:prod (release 4.2), by user:ann, until …`.
fn lock_text(lock: &HeldLock) -> String {
    let actor = lock.actor.as_ref();
    let actor = actor.map_or_else(String::new, |actor| format!(", by {actor}"));
    let end = match lock.expires_at {
        Some(end) => format!("until {end}"),
        None => "until it is lifted".to_owned(),
    };
    let HeldLock {
        mode,
        resource,
        reason,
        ..
    } = lock;
    format!("{mode} on {resource} ({reason}){actor}, {end}")
}
