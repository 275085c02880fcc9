//! `portcullis schema …`: the server's schema, and schema files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::Output;
use super::write::Options;
use super::{At, Exit};
use crate::api::proto;
use crate::api::proto::schema_service_client::SchemaServiceClient;
use crate::revision::Token;
use crate::schema::compile::Compiled;
use crate::schema::diagnostic::Diagnostic;
use crate::schema::{self, Names};

/// Reads, writes, checks, compares or formats schemas.
#[derive(Subcommand, Debug)]
pub(super) enum Schema {
    /// Prints the server's schema
    Read(Read),
    /// Gives the server a new schema, and prints what it changes
    Write(Write),
    /// Says what is wrong or odd in a schema file, offline
    Check(Check),
    /// Says what changes from one schema file to another, or from the server's schema to a file
    Diff(Diff),
    /// Formats schema files, offline: prints the result, or --write to replace, --check to compare
    Fmt(Fmt),
}

#[derive(Args, Debug)]
pub(super) struct Read {
    #[command(flatten)]
    at: At,
}

#[derive(Args, Debug)]
pub(super) struct Write {
    /// The new schema; - reads it from standard input
    file: PathBuf,
    /// Refuses where the schema was written since this revision (`schema_revision` of schema read)
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<Token>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args, Debug)]
pub(super) struct Check {
    /// Schema files; - reads standard input
    #[arg(required = true)]
    file: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Diff {
    /// The old schema; where it is the only file: the new one, compared with the server's
    file: PathBuf,
    /// The new schema
    new: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Fmt {
    /// Schema files; - reads standard input
    #[arg(required = true)]
    file: Vec<PathBuf>,
    /// Replaces each file by its formatted text
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Changes nothing; names the files that are not formatted, and exits with 1 if there are any
    #[arg(long)]
    check: bool,
}

impl Schema {
    pub(super) fn run(
        self,
        client: impl Fn() -> anyhow::Result<Client>,
        output: Output,
    ) -> anyhow::Result<Exit> {
        match self {
            Self::Read(read) => read.run(&client()?, output),
            Self::Write(write) => write.run(&client()?, output),
            Self::Check(check) => check.run(output),
            Self::Diff(diff) => diff.run(client, output),
            Self::Fmt(fmt) => fmt.run(output),
        }
    }
}

impl Read {
    fn run(&self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let answer = read(client, self.at.message())?;
        let value = json!({
            "schema": answer.schema,
            "schema_revision": answer.schema_revision,
            "revision": answer.revision,
        });
        output.document(&value, &answer.schema)?;
        Ok(Exit::Done)
    }
}

fn read(
    client: &Client,
    consistency: Option<proto::Consistency>,
) -> anyhow::Result<proto::ReadSchemaResponse> {
    let mut service = SchemaServiceClient::new(client.channel());
    let answer = client.call(service.read_schema(proto::ReadSchemaRequest { consistency }))?;
    Ok(answer.into_inner())
}

impl Write {
    fn run(&self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let text = super::read_file(&self.file)?;
        // The server judges it too; here its errors can show the source line.
        compile(&text, &self.file)?;
        let request = proto::WriteSchemaRequest {
            schema: text,
            options: Some(self.options.message()),
            if_revision: self
                .if_revision
                .map(|token| token.to_string())
                .unwrap_or_default(),
        };
        let mut service = SchemaServiceClient::new(client.channel());
        let answer = client.call(service.write_schema(request))?.into_inner();
        if output.is_json() {
            let warnings: Vec<Value> = answer.warnings.iter().map(wire_diagnostic).collect();
            let value = json!({
                "revision": answer.revision,
                "changes": answer.changes,
                "warnings": warnings,
            });
            output.give(&value, "")?;
            return Ok(Exit::Done);
        }
        for change in &answer.changes {
            output.give(&Value::Null, change)?;
        }
        for warning in &answer.warnings {
            let proto::Diagnostic {
                message,
                line,
                column,
                ..
            } = warning;
            let file = self.file.display();
            output.give(
                &Value::Null,
                format_args!("warning: {file}:{line}:{column}: {message}"),
            )?;
        }
        let verb = self.options.verb("written");
        output.give(
            &Value::Null,
            format_args!("{verb} at revision {}", answer.revision),
        )?;
        Ok(Exit::Done)
    }
}

fn wire_diagnostic(from: &proto::Diagnostic) -> Value {
    json!({
        "message": from.message,
        "line": from.line,
        "column": from.column,
        "code": from.code,
    })
}

impl Check {
    fn run(self, output: Output) -> anyhow::Result<Exit> {
        let mut exit = Exit::Done;
        for file in &self.file {
            let text = super::read_file(file)?;
            let (valid, diagnostics) = match schema::Schema::compile(&text, &Names::default()) {
                Ok(Compiled { warnings, .. }) => (true, warnings),
                Err(errors) => (false, errors),
            };
            if !valid {
                exit = Exit::No;
            }
            tell(file, &text, valid, &diagnostics, output)?;
        }
        Ok(exit)
    }
}

fn tell(
    file: &Path,
    text: &str,
    valid: bool,
    diagnostics: &[Diagnostic],
    output: Output,
) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let listed: Vec<Value> = (diagnostics.iter())
        .map(|d| {
            json!({
                "message": d.message, "line": d.line, "column": d.column, "code": d.code,
                "expected": d.expected, "nearest": d.nearest, "help": d.help,
            })
        })
        .collect();
    let value = json!({ "file": name, "valid": valid, "diagnostics": listed });
    if output.is_json() {
        return output.give(&value, "");
    }
    for diagnostic in diagnostics {
        output.give(&Value::Null, diagnostic.render(text, &name).trim_end())?;
    }
    let verdict = match (valid, diagnostics.len()) {
        (true, 0) => "valid".to_owned(),
        (true, count) => format!("valid; warnings: {count}"),
        (false, count) => format!("invalid; errors: {count}"),
    };
    output.give(&Value::Null, format_args!("{name}: {verdict}"))
}

impl Diff {
    fn run(
        &self,
        client: impl Fn() -> anyhow::Result<Client>,
        output: Output,
    ) -> anyhow::Result<Exit> {
        let file = super::read_file(&self.file)?;
        let (old, new) = if let Some(new) = &self.new {
            let text = super::read_file(new)?;
            (compile(&file, &self.file)?, compile(&text, new)?)
        } else {
            let answer = read(&client()?, None)?;
            let old = compile(&answer.schema, Path::new("the server's schema"))?;
            (old, compile(&file, &self.file)?)
        };
        let changes = schema::diff::diff(&old.schema, &new.schema);
        if output.is_json() {
            output.give(&json!({ "changes": changes }), "")?;
        } else if changes.is_empty() {
            output.give(&Value::Null, "no difference")?;
        }
        for change in changes.iter().filter(|_| !output.is_json()) {
            output.give(&Value::Null, change)?;
        }
        Ok(Exit::Done)
    }
}

/// Compiles a file's text, or fails with every error as a compiler prints it.
pub(super) fn compile(text: &str, file: &Path) -> anyhow::Result<Compiled> {
    let name = file.display().to_string();
    schema::Schema::compile(text, &Names::default()).map_err(|errors| {
        let rendered: Vec<String> = errors
            .iter()
            .map(|error| error.render(text, &name))
            .collect();
        anyhow::anyhow!("{name} is no valid schema\n{}", rendered.join("\n"))
    })
}

impl Fmt {
    fn run(self, output: Output) -> anyhow::Result<Exit> {
        let mut exit = Exit::Done;
        for file in &self.file {
            let text: Arc<str> = super::read_file(file)?.into();
            let formatted = schema::format::format(&text).map_err(|errors| {
                let name = file.display().to_string();
                let rendered: Vec<String> = errors.iter().map(|e| e.render(&text, &name)).collect();
                anyhow::anyhow!("{name} can't be parsed\n{}", rendered.join("\n"))
            })?;
            let changed = *formatted != *text;
            if self.check && changed {
                exit = Exit::No;
            }
            if self.write && changed && file.as_os_str() != "-" {
                std::fs::write(file, &formatted)
                    .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            }
            self.tell(file, &formatted, changed, output)?;
        }
        Ok(exit)
    }

    fn tell(
        &self,
        file: &Path,
        formatted: &str,
        changed: bool,
        output: Output,
    ) -> anyhow::Result<()> {
        let name = file.display();
        if output.is_json() {
            let value =
                json!({ "file": name.to_string(), "changed": changed, "formatted": formatted });
            return output.give(&value, "");
        }
        match (self.write, self.check, changed) {
            (true, _, true) => output.give(&Value::Null, format_args!("{name}: formatted")),
            (_, true, true) => output.give(&Value::Null, format_args!("{name}: is not formatted")),
            (false, false, _) => output.document(&Value::Null, formatted),
            (_, _, false) => Ok(()),
        }
    }
}
