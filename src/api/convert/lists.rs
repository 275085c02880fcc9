//! Requests for lists: of permissions, resources and subjects.

use super::questions::request_context;
use super::{Malformed, Problem, consistency};
use crate::api::proto;
use crate::eval::Question;
use crate::revision::Consistency;
use crate::tuple::{Context, ObjectRef, SubjectRef};

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
