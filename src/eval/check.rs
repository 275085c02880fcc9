//! Check: names resolved, one evaluation, its value as an answer.

use crate::index::{Edit, Index, NodeId};
use crate::schema::admit::nearest;
use crate::schema::{MemberId, RelId, Schema, TypeDef};
use crate::time::Timestamp;
use crate::tuple::Tuple;

use super::closure::{Ground, Who};
use super::machine::{Machine, NO_RESOURCE, NO_SUBJECT, TooMuchWork};
use super::value::{Cause, Value};
use super::{Answer, CheckError, Decision, Limits, Question};

/// Answers `question` from one schema and index, at the instant `now`.
///
/// # Errors
/// Names that the schema lacks, a context that does not fit, too much work, a negation cycle or a
/// failed caveat on which the answer would rest. A denial is an answer.
pub fn check(
    schema: &Schema,
    index: &Index,
    question: &Question<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Answer, CheckError> {
    let asked = resolve(schema, question)?;
    if !question.context.is_empty() {
        super::caveats::check_request_context(schema, question.context)
            .map_err(CheckError::Context)?;
    }
    if question.contextual.is_empty() {
        return evaluate(schema, index, question, asked, now, limits);
    }
    let united = unite(schema, index, question.contextual)?;
    evaluate(schema, &united, question, asked, now, limits)
}

/// The names of a question as numbers.
#[derive(Clone, Copy)]
struct Asked<'a> {
    subject: &'a TypeDef,
    relation: RelId,
    resource: &'a TypeDef,
    member: MemberId,
}

fn resolve<'a>(schema: &'a Schema, question: &Question<'_>) -> Result<Asked<'a>, CheckError> {
    let resource = known_type(schema, "resource", question.resource.kind())?;
    let subject = known_type(schema, "subject", question.subject.kind())?;
    let name = question.permission;
    let member = (schema.names.rel_id(name)).and_then(|rel| schema.member_id(resource.id, rel));
    let member = member.ok_or_else(|| CheckError::UnknownPermission {
        kind: resource.name.to_string(),
        name: name.to_owned(),
        nearest: nearest_member(schema, resource, name),
    })?;
    let relation = match question.subject.relation() {
        None => RelId::NONE,
        Some(name) => (schema.names.rel_id(name))
            .filter(|rel| schema.member_id(subject.id, *rel).is_some())
            .ok_or_else(|| CheckError::UnknownSubjectRelation {
                kind: subject.name.to_string(),
                name: name.to_owned(),
                nearest: nearest_member(schema, subject, name),
            })?,
    };
    Ok(Asked {
        subject,
        relation,
        resource,
        member,
    })
}

fn known_type<'a>(
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
fn unite(schema: &Schema, index: &Index, tuples: &[Tuple]) -> Result<Index, CheckError> {
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
    schema: &Schema,
    index: &Index,
    question: &Question<'_>,
    asked: Asked<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Answer, CheckError> {
    let ground = Ground {
        schema,
        programs: schema.programs(),
        index,
        now,
    };
    let (who, node, unknown) = nodes(index, question, asked);
    let track = question.with_dependencies && question.contextual.is_empty();
    let mut machine = Machine::new(ground, who, question.context, unknown, track, limits.work);
    let value = machine.evaluate(node, asked.member);
    let value = value.map_err(|TooMuchWork| CheckError::TooComplex { limit: limits.work })?;
    let decision = match value {
        Value::Allowed => Decision::Allowed,
        Value::Denied => Decision::Denied,
        Value::Undecided(_) => Decision::Conditional,
    };
    let cause = match value {
        Value::Undecided(cause) => machine.causes.get(cause).clone(),
        _ => Cause::default(),
    };
    if decision == Decision::Conditional && cause.missing.is_empty() {
        return Err(undecidable(&machine, question, cause));
    }
    let mut answer = Answer {
        decision,
        detail: detail(question, decision, &cause),
        missing_context: cause.missing.into_vec(),
        valid_until: machine.ends(),
        dependencies: Vec::new(),
        uncacheable: !question.contextual.is_empty() || machine.contested(),
    };
    if track && !answer.uncacheable {
        answer.dependencies = machine.dependencies();
        if answer.dependencies.len() > limits.dependencies {
            answer.dependencies = Vec::new();
            answer.uncacheable = true;
        }
    }
    Ok(answer)
}

/// The nodes of subject and resource, with stand-ins (and their hashes) for unknown ids.
fn nodes(index: &Index, question: &Question<'_>, asked: Asked<'_>) -> (Who, NodeId, [u64; 2]) {
    let subject = question.subject;
    let known = index.node(asked.subject.id, subject.id());
    let resource = index.node(asked.resource.id, question.resource.id());
    let same = asked.subject.id == asked.resource.id && subject.id() == question.resource.id();
    let node = resource.unwrap_or(if same { NO_SUBJECT } else { NO_RESOURCE });
    let plain = asked.relation == RelId::NONE && !subject.is_wildcard();
    let wildcard = index.node(asked.subject.id, "*").filter(|_| plain);
    let who = Who {
        node: known.unwrap_or(NO_SUBJECT),
        kind: asked.subject.id,
        relation: asked.relation,
        wildcard,
        wildcard_hash: index.object_hash(asked.subject.id, "*"),
        is_wildcard: subject.is_wildcard(),
    };
    let unknown = [
        index.object_hash(asked.resource.id, question.resource.id()),
        index.object_hash(asked.subject.id, subject.id()),
    ];
    (who, node, unknown)
}

fn undecidable(machine: &Machine<'_>, question: &Question<'_>, cause: Cause) -> CheckError {
    if let Some((caveat, problem)) = cause.failure {
        return CheckError::CaveatFailed {
            caveat: caveat.to_string(),
            problem: problem.to_string(),
        };
    }
    let (resource, permission) = cause
        .cycle
        .and_then(|entry| machine.named(entry))
        .unwrap_or((
            question.resource.to_string(),
            question.permission.to_owned(),
        ));
    CheckError::NegationCycle {
        resource,
        permission,
    }
}

fn detail(question: &Question<'_>, decision: Decision, cause: &Cause) -> String {
    let Question {
        subject,
        permission,
        resource,
        ..
    } = question;
    match decision {
        Decision::Allowed => String::new(),
        Decision::Denied => format!("nothing grants {subject} {permission} on {resource}"),
        Decision::Conditional => format!(
            "whether {subject} has {permission} on {resource} depends on {}, which the request's \
             context lacks",
            cause.missing.join(", ")
        ),
    }
}
