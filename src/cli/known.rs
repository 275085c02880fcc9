//! Slips of the pen: what no tuple names may well be new, or else be spelt otherwise.

use super::client::Client;
use super::output::Output;
use crate::api::proto;
use crate::api::proto::grant_service_client::GrantServiceClient;
use crate::tuple::Object;

/// Asks back about an object that no tuple names, neither as resource nor as subject. What was done
/// is done: where the server does not say, nothing is said.
pub(super) fn ask_about(client: &Client, object: &Object, output: Output) {
    let (kind, id) = (object.kind().to_owned(), object.id().to_owned());
    let as_resource = proto::TupleFilter {
        resource_type: kind.clone(),
        resource_id: id.clone(),
        ..proto::TupleFilter::default()
    };
    let as_subject = proto::TupleFilter {
        subject_type: kind,
        subject_id: id,
        ..proto::TupleFilter::default()
    };
    let found = [as_resource, as_subject].map(|filter| any(client, filter));
    if let [Ok(false), Ok(false)] = found {
        output.note(format_args!("no tuple names {object}; is it spelt right?"));
    }
}

fn any(client: &Client, filter: proto::TupleFilter) -> anyhow::Result<bool> {
    let request = proto::ReadTuplesRequest {
        filter: Some(filter),
        limit: 1,
        ..proto::ReadTuplesRequest::default()
    };
    let mut service = GrantServiceClient::new(client.channel());
    let mut rows = client.call(service.read_tuples(request))?.into_inner();
    Ok(client.call(rows.message())?.is_some())
}
