//! `portcullis test`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::output::Output;
use super::{Exit, read_file, values};
use crate::validation::{Failure, Problem, Report, ValidationFile, World};

/// Runs validation files, offline: a schema, tuples, what checks must answer, who may write what.
#[derive(Args, Debug)]
#[command(after_help = "\
A validation file is YAML, in SpiceDB's format:

  schema: |                      the schema; or schemaFile: PATH
    definition user {}
    definition doc { relation viewer: user }
  relationships: |               tuples, one a line; or relationshipsFile: PATH
    doc:a#viewer@user:tom
  assertions:
    assertTrue: [\"doc:a#viewer@user:tom\"]
    assertFalse: ['doc:a#viewer@user:ann with {\"day\": 3}']
    assertCaveated: []

and beside it, for expectations with the sentence that they stand for:

  permissions: {doc: [viewer]}   what counts for `may`
  expectations:
    - says: Tom can only read.
      subject: user:tom
      may: {doc:a: [viewer], doc:b: nothing}    exact; also `everything`
      allowed: [...]             and denied, conditional: as in assertions

and who may write what: stories, each on a world of its own that begins as the file says.

  now: 2026-06-01T12:00:00Z      what the clock says; the machine's clock unless said
  writes:
    - says: Readers bring nobody in.
      as: user:tom               the actor; without it a trusted caller writes
      grant: [\"doc:a#viewer@user:ann\"]
      refused: ACTOR_NOT_ALLOWED      the reason; without it the write has to be done
    - says: What was granted for an hour ends with it.
      steps:                     in order; in each a wait, then a write, then checks
        - grant: [\"doc:a#viewer@user:eve[expiration:2026-06-01T13:00:00Z]\"]
          allowed: [\"doc:a#viewer@user:eve\"]
        - wait: 1h
          denied: [\"doc:a#viewer@user:eve\"]

A write is one of
  grant: [tuples], revoke: [tuples], or both as one
  revoke_matching: {resource: …, relation: …, subject: …}
  lock: {resource: …, mode: …, lock_id: …, exempt: [subjects], ttl: 2h}, with reason: … beside it
  unlock: ID, renew: {lock_id: ID, ttl: 2h}
  create_role: {owner: …, key: …, title: …, permissions: [type.permission]}
  update_role: {role: …, title: …, allow: […], disallow: […]}, delete_role: ROLE
  assign: {role: …, subject: …, resource: …, expires_at: …}, unassign: {role: …, subject: …, resource: …}
  change_role: {subject: …, resource: …, from: ROLE, to: ROLE}
and a check there may be locked: [...] too: denied by locks alone.

Roles that there are from the beginning, whose assignments may be among the tuples:

  roles:                         or rolesFile: PATH
    role:acme/deployer: {title: Deployer, permissions: [application.deploy]}

Exit codes: 0 all as expected, 1 not, or a file can't be read.")]
pub(super) struct Test {
    /// Validation files
    #[arg(required = true)]
    file: Vec<PathBuf>,
}

impl Test {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Exit> {
        let mut exit = Exit::Done;
        for file in &self.file {
            let report = judge(file);
            if !matches!(&report, Ok(report) if report.failures.is_empty()) {
                exit = Exit::No;
            }
            match report {
                Ok(report) => tell_report(file, &report, output)?,
                Err(problems) => tell_problems(file, &problems, output)?,
            }
        }
        Ok(exit)
    }
}

fn judge(file: &Path) -> Result<Report, Vec<Problem>> {
    let text = read_file(file).map_err(|error| vec![Problem::of_file(error.to_string())])?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let read = |name: &str| read_file(&folder.join(name)).map_err(|error| error.to_string());
    let parsed = ValidationFile::parse(&text, &read).map_err(|problem| vec![problem])?;
    let world = World::of(&parsed)?;
    Ok(parsed.judge(&world, values::now()))
}

fn tell_report(file: &Path, report: &Report, output: Output) -> anyhow::Result<()> {
    let name = file.display();
    if output.is_json() {
        let failures: Vec<Value> = report.failures.iter().map(as_json).collect();
        let value =
            json!({ "file": name.to_string(), "checks": report.checks, "failures": failures });
        return output.give(&value, "");
    }
    for failure in &report.failures {
        let Failure { line, column, .. } = failure;
        output.give(
            &Value::Null,
            format_args!("{name}:{line}:{column}: {failure}"),
        )?;
    }
    let verdict = match report.failures.len() {
        0 => "ok".to_owned(),
        count => format!("{count} not as expected"),
    };
    output.give(
        &Value::Null,
        format_args!("{name}: {} checks, {verdict}", report.checks),
    )
}

fn as_json(failure: &Failure) -> Value {
    json!({
        "line": failure.line,
        "column": failure.column,
        "question": failure.question,
        "says": failure.says.as_deref(),
        "message": failure.to_string(),
    })
}

fn tell_problems(file: &Path, problems: &[Problem], output: Output) -> anyhow::Result<()> {
    let name = file.display();
    if output.is_json() {
        let listed: Vec<Value> = (problems.iter())
            .map(|p| json!({ "file": p.file, "line": p.line, "column": p.column, "message": p.message }))
            .collect();
        return output.give(&json!({ "file": name.to_string(), "problems": listed }), "");
    }
    for problem in problems {
        let place = match &problem.file {
            Some(_) => String::new(),
            None => format!("{name}:"),
        };
        output.give(&Value::Null, format_args!("{place}{problem}"))?;
        if let Some(rendered) = &problem.rendered {
            output.give(&Value::Null, rendered.trim_end())?;
        }
    }
    Ok(())
}
