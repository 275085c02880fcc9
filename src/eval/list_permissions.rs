//! What a subject may do to one resource: every relation and permission of its type, by one
//! machine, which finds what they share once.

use std::sync::Arc;

use crate::time::Timestamp;

use super::check::{Subjected, answer, known_type, resource_node};
use super::closure::Ground;
use super::{Answer, CheckError, Facts, Limits, Question};

/// One relation or permission, and whether the subject has it.
#[derive(Clone, Debug, PartialEq)]
pub struct PermissionEntry {
    /// Its name.
    pub permission: Arc<str>,
    /// The answer, or why this one has none.
    pub outcome: Result<Answer, CheckError>,
}

/// Answers for every relation and permission of the resource's type, sorted by name; what
/// `question` names as permission is not looked at. Each has the bound of work to itself.
///
/// # Errors
/// Names that the schema lacks, a context that does not fit. What is wrong with one permission
/// is said in its entry.
pub fn list_permissions(
    facts: Facts<'_>,
    question: &Question<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Vec<PermissionEntry>, CheckError> {
    let Facts { schema, index, .. } = facts;
    let kind = known_type(schema, "resource", question.resource.kind())?;
    let ground = Ground::of(facts, now);
    let mut subjected = Subjected::new(ground, question.subject, question.context)?;
    subjected.unknown[0] = Some(question.resource);
    let node = resource_node(index, kind.id, question.subject, question.resource);
    let mut members: Vec<_> = (kind.members.iter())
        .map(|id| (&schema.member(*id).name, *id))
        .collect();
    members.sort_unstable();
    let mut machine = subjected.machine(question.context, limits);
    let mut entries = Vec::with_capacity(members.len());
    for (name, member) in members {
        let question = Question {
            permission: name,
            ..*question
        };
        machine.begin_anew();
        let outcome = answer(&mut machine, &question, (node, member), limits);
        if let Err(CheckError::TooComplex { .. }) = outcome {
            // It was stopped in the middle.
            machine = subjected.machine(question.context, limits);
        }
        entries.push(PermissionEntry {
            permission: Arc::clone(name),
            outcome,
        });
    }
    Ok(entries)
}
