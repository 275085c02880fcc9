//! Filters: parts apart, or a whole reference instead of them.

use std::sync::Arc;

use super::{Malformed, Problem};
use crate::api::proto;
use crate::tuple::{ObjectRef, SubjectRef, TupleFilter};

/// A filter; unset fields match everything.
///
/// # Errors
/// A malformed reference, or a reference beside its own parts.
pub fn filter(from: proto::TupleFilter) -> Result<TupleFilter, Malformed> {
    let proto::TupleFilter {
        resource_type,
        resource_id,
        resource_id_prefix,
        relation,
        subject_type,
        subject_id,
        subject_relation,
        resource,
        subject,
    } = from;
    let mut filter = TupleFilter {
        resource_type: set(resource_type),
        resource_id: set(resource_id),
        resource_id_prefix: set(resource_id_prefix),
        relation: set(relation),
        subject_type: set(subject_type),
        subject_id: set(subject_id),
        subject_relation: subject_relation.map(relation_of),
    };
    if !resource.is_empty() {
        take_resource(&mut filter, &resource).map_err(|malformed| malformed.within("resource"))?;
    }
    if !subject.is_empty() {
        take_subject(&mut filter, &subject).map_err(|malformed| malformed.within("subject"))?;
    }
    Ok(filter)
}

/// A filter that has at least one field set.
///
/// # Errors
/// As [`filter`], under `filter`; and where no field is set.
pub fn selective(from: proto::TupleFilter) -> Result<TupleFilter, Malformed> {
    let filter = filter(from).map_err(|malformed| malformed.within("filter"))?;
    if filter.is_empty() {
        return Err(Malformed::at("filter", Problem::FilterEmpty));
    }
    Ok(filter)
}

fn set(text: String) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// `""` and `...` say that there is none.
fn relation_of(text: String) -> Option<Arc<str>> {
    set(text).filter(|relation| &**relation != "...")
}

fn take_resource(filter: &mut TupleFilter, text: &str) -> Result<(), Malformed> {
    let parts = [
        &filter.resource_type,
        &filter.resource_id,
        &filter.resource_id_prefix,
    ];
    if parts.into_iter().any(Option::is_some) {
        return Err(Malformed::here(Problem::Contradictory(
            "resource_type, resource_id or resource_id_prefix",
        )));
    }
    let resource =
        ObjectRef::parse(text).map_err(|problem| Malformed::here(Problem::Reference(problem)))?;
    filter.resource_type = Some(resource.kind().into());
    filter.resource_id = Some(resource.id().into());
    Ok(())
}

fn take_subject(filter: &mut TupleFilter, text: &str) -> Result<(), Malformed> {
    let parts = [&filter.subject_type, &filter.subject_id];
    if parts.into_iter().any(Option::is_some) || filter.subject_relation.is_some() {
        return Err(Malformed::here(Problem::Contradictory(
            "subject_type, subject_id or subject_relation",
        )));
    }
    let subject =
        SubjectRef::parse(text).map_err(|problem| Malformed::here(Problem::Reference(problem)))?;
    filter.subject_type = Some(subject.kind().into());
    filter.subject_id = Some(subject.id().into());
    filter.subject_relation = Some(subject.relation().map(Into::into));
    Ok(())
}
