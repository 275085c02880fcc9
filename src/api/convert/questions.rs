//! Requests of the check service as questions.

use std::borrow::Cow;

use super::{Malformed, Problem, consistency, each, name, tuple, values};
use crate::api::proto;
use crate::eval::Question;
use crate::revision::Consistency;
use crate::tuple::{Context, ObjectRef, SubjectRef, Tuple};

/// The most tuples that may hold for one request alone.
pub const MAX_CONTEXTUAL_TUPLES: usize = 100;

/// A question with the text of its request, which [`Asked::question`] borrows from.
#[derive(Debug)]
pub struct Asked<'a> {
    subject: Cow<'a, str>,
    permission: Cow<'a, str>,
    resource: Cow<'a, str>,
    context: Context,
    contextual: Vec<Tuple>,
    with_dependencies: bool,
}

impl Asked<'_> {
    /// The question.
    ///
    /// # Errors
    /// Where the subject, resource or permission is malformed.
    pub fn question(&self) -> Result<Question<'_>, Malformed> {
        let malformed =
            |field: &'static str| move |problem| Malformed::at(field, Problem::Reference(problem));
        let subject = SubjectRef::parse(&self.subject).map_err(malformed("subject"))?;
        name("permission", &self.permission, "the name of a permission")?;
        Ok(Question {
            subject,
            permission: &self.permission,
            resource: ObjectRef::parse(&self.resource).map_err(malformed("resource"))?,
            context: &self.context,
            contextual: &self.contextual,
            with_dependencies: self.with_dependencies,
        })
    }
}

/// A check.
///
/// # Errors
/// Which field is malformed.
pub fn check(from: proto::CheckRequest) -> Result<(Asked<'static>, Consistency), Malformed> {
    let proto::CheckRequest {
        subject,
        permission,
        resource,
        context,
        contextual_tuples,
        consistency: at,
        with_dependencies,
    } = from;
    let asked = Asked {
        subject: subject.into(),
        permission: permission.into(),
        resource: resource.into(),
        context: request_context(context)?,
        contextual: contextual(contextual_tuples)?,
        with_dependencies,
    };
    Ok((asked, consistency(at)?))
}

/// A check that is to be explained.
///
/// # Errors
/// Which field is malformed.
pub fn explain(from: proto::ExplainRequest) -> Result<(Asked<'static>, Consistency), Malformed> {
    let proto::ExplainRequest {
        subject,
        permission,
        resource,
        context,
        consistency: at,
        contextual_tuples,
    } = from;
    let asked = Asked {
        subject: subject.into(),
        permission: permission.into(),
        resource: resource.into(),
        context: request_context(context)?,
        contextual: contextual(contextual_tuples)?,
        with_dependencies: false,
    };
    Ok((asked, consistency(at)?))
}

/// The items of a batch, each on its own: a malformed one fails alone. One by one, so that no
/// more than one of them stands twice in memory.
///
/// # Errors
/// Where the consistency is malformed.
pub fn batch(
    from: proto::BatchCheckRequest,
) -> Result<
    (
        impl ExactSizeIterator<Item = Result<Asked<'static>, Malformed>>,
        Consistency,
    ),
    Malformed,
> {
    let proto::BatchCheckRequest {
        items,
        consistency: at,
        with_dependencies,
    } = from;
    let at = consistency(at)?;
    let items = items.into_iter().map(move |from| {
        let proto::batch_check_request::Item {
            subject,
            permission,
            resource,
            context,
        } = from;
        let texts = [subject, permission, resource].map(Cow::Owned);
        item(texts, context, with_dependencies)
    });
    Ok((items, at))
}

/// An item of a batch: its subject, permission and resource.
pub(super) fn item(
    [subject, permission, resource]: [Cow<'_, str>; 3],
    context: Option<prost_types::Struct>,
    with_dependencies: bool,
) -> Result<Asked<'_>, Malformed> {
    Ok(Asked {
        subject,
        permission,
        resource,
        context: request_context(context)?,
        contextual: Vec::new(),
        with_dependencies,
    })
}

pub(super) fn request_context(from: Option<prost_types::Struct>) -> Result<Context, Malformed> {
    match from {
        None => Ok(Context::new()),
        Some(from) => values::context(from).map_err(|malformed| malformed.within("context")),
    }
}

fn contextual(from: Vec<proto::Tuple>) -> Result<Vec<Tuple>, Malformed> {
    if from.len() > MAX_CONTEXTUAL_TUPLES {
        let problem = Problem::TooLarge {
            size: from.len(),
            limit: MAX_CONTEXTUAL_TUPLES,
            unit: "tuples",
        };
        return Err(Malformed::at("contextual_tuples", problem));
    }
    each("contextual_tuples", from, tuple)
}
