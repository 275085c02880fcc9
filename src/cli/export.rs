//! `portcullis export`

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::client::Client;
use super::formats::Format;
use super::output::Output;
use super::progress::{Progress, thousands};
use super::{At, Exit, pattern};
use crate::api::convert::tuple;
use crate::api::proto::{self, grant_service_client::GrantServiceClient};

/// Exports schema, roles, locks and tuples of one revision.
#[derive(Args, Debug)]
#[command(after_help = "\
portcullis export all.jsonl                      schema, roles, locks and tuples, as JSON lines
portcullis export all.yaml                       SpiceDB's validation YAML
portcullis export - --matching '@user:bob'       one tuple a line, without the schema

The file appears under its name once it is whole.")]
pub(super) struct Export {
    /// The file; - is standard output
    file: PathBuf,
    /// How it says tuples [default: by its name]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only the tuples that match this pattern
    #[arg(long, value_name = "PATTERN", default_value = "", hide_default_value = true, value_parser = pattern::parse)]
    matching: proto::TupleFilter,
    #[command(flatten)]
    at: At,
}

impl Export {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let format = self.format.unwrap_or_else(|| Format::of(&self.file, b""));
        if self.file.as_os_str() == "-" {
            self.write(client, format, &mut BufWriter::new(io::stdout().lock()))?;
            return Ok(Exit::Done);
        }
        let aside = aside(&self.file);
        let failed = || format!("can't write {}", aside.display());
        let mut out = BufWriter::with_capacity(1 << 18, File::create(&aside).with_context(failed)?);
        let done = self.write(client, format, &mut out);
        let (count, revision, took) = match done {
            Ok(done) => done,
            Err(error) => {
                // What is not whole is of no use.
                let _ = fs::remove_file(&aside);
                return Err(error);
            }
        };
        out.get_ref().sync_all().with_context(failed)?;
        fs::rename(&aside, &self.file).with_context(failed)?;
        let value = json!({ "exported": count, "revision": revision });
        let text = format!("exported {} tuples in {took}", thousands(count));
        output.give(&value, format_args!("{text}; revision {revision}"))?;
        Ok(Exit::Done)
    }

    /// How many tuples it wrote, of which revision, and how long it took.
    fn write(
        &self,
        client: &Client,
        format: Format,
        out: &mut dyn Write,
    ) -> anyhow::Result<(u64, String, String)> {
        let request = proto::ExportRequest {
            filter: Some(self.matching.clone()),
            consistency: self.at.message(),
        };
        let mut service = GrantServiceClient::new(client.channel());
        let mut messages = client.call(service.export(request))?.into_inner();
        let (mut count, mut revision) = (0, String::new());
        let mut progress = None;
        while let Some(message) = client.call(messages.message())? {
            let progress = progress.get_or_insert_with(|| {
                Progress::of_tuples((message.total > 0).then_some(message.total))
            });
            if revision.is_empty() {
                format.begin(out, &message)?;
                let left_out = format.leaves_out(&message);
                if !left_out.is_empty() {
                    eprintln!("{left_out} left out: --format json has them");
                }
                revision = message.revision;
            }
            for from in message.tuples {
                format.tuple(out, &tuple(from)?)?;
                count += 1;
            }
            progress.at(count, count);
        }
        out.flush()?;
        let took = progress.map_or_else(String::new, |progress| progress.end(count));
        Ok((count, revision, took))
    }
}

/// Beside the file, so that it can be renamed to it.
fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
