//! `portcullis tuples`

use clap::Args;
use serde_json::json;

use super::client::Client;
use super::output::Output;
use super::{At, Exit, pattern};
use crate::api::convert::tuple;
use crate::api::proto;
use crate::api::proto::grant_service_client::GrantServiceClient;

/// Lists the tuples that match a pattern.
#[derive(Args, Debug)]
#[command(after_help = pattern::SYNTAX)]
pub(super) struct Tuples {
    /// Which; all of them where it is left out
    #[arg(value_name = "PATTERN", default_value = "", hide_default_value = true, value_parser = pattern::parse)]
    filter: proto::TupleFilter,
    /// At most this many; 0: all
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    /// Continues behind the row that had this cursor
    #[arg(long, default_value = "", hide_default_value = true)]
    cursor: String,
    #[command(flatten)]
    at: At,
}

impl Tuples {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let turned = turned(&self.filter).filter(|_| self.cursor.is_empty());
        let request = proto::ReadTuplesRequest {
            filter: Some(self.filter),
            consistency: self.at.message(),
            limit: self.limit,
            cursor: self.cursor,
        };
        let mut service = GrantServiceClient::new(client.channel());
        let mut rows = client.call(service.read_tuples(request))?.into_inner();
        let mut found = false;
        while let Some(row) = client.call(rows.message())? {
            found = true;
            give(row, output)?;
        }
        if let Some(turned) = turned.filter(|_| !found) {
            output.note(format_args!(
                "no tuple is of this resource; those that name it as subject: portcullis tuples {turned}"
            ));
        }
        Ok(Exit::Done)
    }
}

/// The pattern of the tuples that have as subject what a pattern has as resource, where that is
/// all it has.
pub(super) fn turned(filter: &proto::TupleFilter) -> Option<String> {
    let of_resource = proto::TupleFilter {
        resource_type: filter.resource_type.clone(),
        resource_id: filter.resource_id.clone(),
        ..proto::TupleFilter::default()
    };
    let turned = || format!("@{}:{}", filter.resource_type, filter.resource_id);
    (*filter == of_resource && !filter.resource_type.is_empty()).then(turned)
}

fn give(row: proto::ReadTuplesResponse, output: Output) -> anyhow::Result<()> {
    let read = tuple(row.tuple.unwrap_or_default())?;
    let value = json!({
        "tuple": read.to_string(),
        "resource": read.resource.to_string(),
        "relation": &*read.relation,
        "subject": read.subject.to_string(),
        "caveat": read.caveat.as_ref().map(|caveat| json!({
            "name": &*caveat.name,
            "context": &*caveat.context,
        })),
        "expires_at": read.expires_at.map(|end| end.to_string()),
        "granted_at": row.granted_at,
        "granted_by": row.granted_by,
        "revision": row.revision,
        "cursor": row.cursor,
    });
    output.give(&value, &read)
}
