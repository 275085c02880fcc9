//! What `serve` prints when it begins: where it is, what it holds, and what to try.

use super::output::Output;
use crate::engine::Engine;
use crate::revision::Consistency;
use crate::schema::Schema;
use crate::server::ListenAddress;
use crate::templates::{self, Template};

/// A line's name and what it says.
pub(super) type Row = (&'static str, String);
pub(super) type Rows = Vec<Row>;

/// As text, or as one JSON object.
pub(super) fn give(rows: &Rows, output: Output) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let mut value = serde_json::Map::from_iter([("version".to_owned(), version.into())]);
    value.extend(
        rows.iter()
            .map(|(name, row)| ((*name).to_owned(), row.as_str().into())),
    );
    let lines = rows
        .iter()
        .map(|(name, row)| format!("  {name:<10} {row}\n"));
    let text: String = std::iter::once(format!("portcullis {version}\n"))
        .chain(lines)
        .collect();
    output.document(&value.into(), &text)
}

pub(super) async fn rows(
    engine: &Engine,
    addresses: &[ListenAddress],
    kept_in: &str,
    open: Option<&str>,
) -> anyhow::Result<Rows> {
    let status = engine.status();
    let view = engine.schema(Consistency::Newest, None).await?;
    let schema = view.schema.as_deref();
    let mut rows = Rows::new();
    let reached: Vec<String> = addresses.iter().map(reached_at).collect();
    rows.push(("listening", reached.join(", ")));
    rows.extend(open.map(|line| ("open", line.to_owned())));
    rows.push(("data", kept_in.to_owned()));
    rows.push((
        "schema",
        schema.map_or(
            "none yet: portcullis schema write FILE".to_owned(),
            described,
        ),
    ));
    rows.push(("tuples", status.tuples.to_string()));
    rows.push(("revision", status.token.to_string()));
    rows.extend(
        addresses
            .first()
            .map(|address| ("try", to_try(address, schema))),
    );
    Ok(rows)
}

pub(super) fn reached_at(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => format!("http://{address}"),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn template_of(schema: &Schema) -> Option<&'static Template> {
    templates::ALL
        .iter()
        .find(|template| *template.schema == *schema.text)
}

fn described(schema: &Schema) -> String {
    let types: Vec<&str> = schema.types.iter().map(|kind| &*kind.name).collect();
    let types = types.join(", ");
    match template_of(schema) {
        Some(template) => format!("template {} ({types})", template.name),
        None => types,
    }
}

/// A command that answers: the template's question, or what there is to call.
fn to_try(address: &ListenAddress, schema: Option<&Schema>) -> String {
    let place = match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("-unix {}", path.display()),
    };
    match schema.and_then(template_of) {
        None => format!("grpcurl -plaintext {place} list"),
        Some(template) => {
            let [subject, permission, resource] = template.question;
            let question = serde_json::json!({
                "subject": subject, "permission": permission, "resource": resource,
            });
            format!("grpcurl -plaintext -d '{question}' {place} portcullis.v1.CheckService/Check")
        }
    }
}
