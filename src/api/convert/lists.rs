//! Requests for lists: of permissions, resources and subjects.

use super::questions::request_context;
use super::{Malformed, Problem, consistency, name};
use crate::api::proto;
use crate::engine::{ListQuestion, ListRequest};
use crate::eval::Question;
use crate::revision::Consistency;
use crate::tuple::{Context, ObjectRef, SubjectRef, is_type_name};

/// A question for all permissions, which owns the text of its request.
#[derive(Debug)]
pub struct PermissionsWanted {
    subject: String,
    resource: String,
    context: Context,
}

impl PermissionsWanted {
    /// The question; it names no permission.
    ///
    /// # Errors
    /// Where the subject or resource is malformed.
    pub fn question(&self) -> Result<Question<'_>, Malformed> {
        let malformed =
            |field: &'static str| move |problem| Malformed::at(field, Problem::Reference(problem));
        Ok(Question {
            subject: SubjectRef::parse(&self.subject).map_err(malformed("subject"))?,
            permission: "",
            resource: ObjectRef::parse(&self.resource).map_err(malformed("resource"))?,
            context: &self.context,
            contextual: &[],
            with_dependencies: false,
        })
    }
}

/// All permissions of a subject on a resource.
///
/// # Errors
/// Which field is malformed.
pub fn permissions(
    from: proto::ListPermissionsRequest,
) -> Result<(PermissionsWanted, Consistency), Malformed> {
    let proto::ListPermissionsRequest {
        subject,
        resource,
        context,
        consistency: at,
    } = from;
    let wanted = PermissionsWanted {
        subject,
        resource,
        context: request_context(context)?,
    };
    Ok((wanted, consistency(at)?))
}

/// The resources on which a subject has a permission.
///
/// # Errors
/// Which field is malformed.
pub fn resources(from: proto::ListResourcesRequest) -> Result<ListRequest, Malformed> {
    let proto::ListResourcesRequest {
        subject,
        permission,
        resource_type,
        context,
        consistency: at,
        limit,
        cursor,
        within,
    } = from;
    let malformed =
        |field: &'static str| move |problem| Malformed::at(field, Problem::Reference(problem));
    let subject = SubjectRef::parse(&subject).map_err(malformed("subject"))?;
    name("permission", &permission, "the name of a permission")?;
    type_name("resource_type", &resource_type)?;
    let within = match within.as_str() {
        "" => None,
        within => Some(
            ObjectRef::parse(within)
                .map_err(malformed("within"))?
                .to_object(),
        ),
    };
    Ok(ListRequest {
        question: ListQuestion::Resources {
            subject: subject.to_subject(),
            permission,
            kind: resource_type,
            within,
        },
        context: request_context(context)?,
        at: consistency(at)?,
        limit,
        cursor: (!cursor.is_empty()).then_some(cursor),
    })
}

/// The subjects that have a permission on a resource.
///
/// # Errors
/// Which field is malformed.
pub fn subjects(from: proto::ListSubjectsRequest) -> Result<ListRequest, Malformed> {
    let proto::ListSubjectsRequest {
        resource,
        permission,
        subject_type,
        subject_relation,
        context,
        consistency: at,
        limit,
        cursor,
    } = from;
    let resource = ObjectRef::parse(&resource)
        .map_err(|problem| Malformed::at("resource", Problem::Reference(problem)))?;
    name("permission", &permission, "the name of a permission")?;
    type_name("subject_type", &subject_type)?;
    let relation = match subject_relation.as_str() {
        "" | "..." => None,
        relation => {
            name("subject_relation", relation, "the name of a relation")?;
            Some(subject_relation)
        }
    };
    Ok(ListRequest {
        question: ListQuestion::Subjects {
            resource: resource.to_object(),
            permission,
            kind: subject_type,
            relation,
        },
        context: request_context(context)?,
        at: consistency(at)?,
        limit,
        cursor: (!cursor.is_empty()).then_some(cursor),
    })
}

fn type_name(field: &'static str, text: &str) -> Result<(), Malformed> {
    match text {
        "" => Err(Malformed::at(field, Problem::Missing("the name of a type"))),
        text if !is_type_name(text) => Err(Malformed::at(
            field,
            Problem::Invalid("is no name of a type"),
        )),
        _ => Ok(()),
    }
}
