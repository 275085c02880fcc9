//! The command line: one binary for serving, asking, writing and testing schemas.
//!
//! Each command has a module; here are what they share: the flags that all take, and how a result
//! becomes an exit code.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::revision::Token;

mod banner;
mod bench;
mod changes;
mod check;
mod client;
mod config;
mod explain;
mod export;
mod formats;
mod health;
mod import;
mod known;
mod lists;
mod locks;
mod metrics;
mod output;
mod pattern;
mod permissions;
mod progress;
mod roles;
mod schema;
mod serve;
mod sidecar;
mod templates;
mod test;
mod tuples;
mod values;
mod watch;
mod watchers;
mod write;

use client::Client;
use config::Config;
use output::Output;

/// Portcullis, an authorization service: may this subject do this to that resource?
#[derive(Parser, Debug)]
#[command(
    name = "portcullis",
    version,
    arg_required_else_help = true,
    after_help = "Every flag can also be set in the environment, --at-least as PORTCULLIS_AT_LEAST, \
                  and in the YAML file of --config, as `at-least: …`.\n\nExit codes: 0 done, 1 refused or failed, \
                  64 a wrong command line. `check` has its own: see its help."
)]
struct Cli {
    /// Where the server is: http://HOST:PORT, or unix:PATH
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = client::DEFAULT,
        help_heading = "Everywhere"
    )]
    server: String,
    /// A file with flags, one a line (data: /var/lib/x), for those said neither here nor in the
    /// environment
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    config: Option<std::path::PathBuf>,
    /// Prints JSON, one value a line, for programs
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serves: answers questions and takes writes over gRPC
    Serve(Box<serve::Serve>),
    /// Answers next to the application, from a cache that is never wrong for long
    Sidecar(Box<sidecar::Sidecar>),
    /// Asks whether a subject may do something to a resource
    Check(check::Check),
    /// Says why a check answers as it does, and what would change a denial
    Explain(explain::Explain),
    /// Lists the resources on which a subject may do something
    ListResources(lists::ListResources),
    /// Lists the subjects that may do something to a resource
    ListSubjects(lists::ListSubjects),
    /// Lists all that a subject may do to a resource
    Permissions(permissions::Permissions),
    /// Grants: adds tuples, or replaces those that stand
    Grant(write::Grant),
    /// Revokes: removes tuples, by name or by pattern
    Revoke(write::Revoke),
    /// Locks: holds a restriction on a resource until it is lifted, or for a time
    Lock(locks::Lock),
    /// Unlocks: lifts one lock
    Unlock(locks::Unlock),
    /// Gives a lock a new end
    RenewLock(locks::Renew),
    /// Lists the locks that are held
    Locks(locks::Locks),
    /// Lists, makes, edits and assigns roles
    #[command(subcommand)]
    Roles(roles::Roles),
    /// Lists the tuples that match a pattern
    Tuples(tuples::Tuples),
    /// Prints each change as it is committed
    Watch(watch::Watch),
    /// Lists who watches: caches with their leases, and plain streams
    Watchers(watchers::Watchers),
    /// Reads, writes, checks, compares or formats schemas
    #[command(subcommand)]
    Schema(schema::Schema),
    /// Runs validation files, offline: a schema, tuples, and what checks must answer
    Test(test::Test),
    /// Imports tuples, and a schema where the file has one
    Import(import::Import),
    /// Exports schema, roles, locks and tuples of one revision
    Export(export::Export),
    /// Loads a server from this machine, and says how fast it answers
    Bench(bench::Bench),
    /// Lists the ready-made schemas, or prints one
    Templates(templates::Templates),
    /// Asks whether the server serves
    Health(health::Health),
}

/// Which revision a read answers at.
#[derive(Args, Debug, Default)]
#[group(multiple = false)]
#[expect(clippy::struct_field_names, reason = "the fields are the flags' names")]
struct At {
    /// Waits until this revision is visible: that of your last write, such as 1042@9f3ac1
    #[arg(long, value_name = "REVISION")]
    at_least: Option<Token>,
    /// Answers at this revision and no other
    #[arg(long, value_name = "REVISION")]
    exactly: Option<Token>,
    /// Confirms the newest revision with the log first
    #[arg(long)]
    full: bool,
}

/// How a command ended, where it ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// 0: done; `check`: allowed.
    Done,
    /// 1: found wanting (a test failed, a schema is invalid); `check`: denied.
    No,
    /// 2: `check`: conditional.
    Conditional,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Conditional => 2,
        }
    }
}

/// The command line itself is wrong.
const WRONG_COMMAND_LINE: u8 = 64;

/// What is wrong with the command line beyond what its grammar says.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Reads a text file; `-` is standard input.
fn read_file(path: &Path) -> anyhow::Result<String> {
    let read = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    read.map_err(|error| anyhow::anyhow!("can't read {}: {error}", path.display()))
}

/// Runs the command that the arguments name; the first is the program's own name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let json = arguments.iter().any(|word| word == "--json");
    let configured = Config::of(&arguments).and_then(|config| config.into_defaults(grammar()));
    let grammar = match configured {
        Ok(grammar) => grammar,
        Err(error) => {
            Output::new(json).error(&error);
            return WRONG_COMMAND_LINE.into();
        }
    };
    let parsed = (grammar.try_get_matches_from(arguments))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return misspelt(&error, json),
    };
    let output = Output::new(cli.json);
    let failure = cli.failure_code();
    match cli.run(output) {
        Ok(exit) => exit.code().into(),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Usage>() => {
            output.error(&error);
            WRONG_COMMAND_LINE.into()
        }
        Err(error) => {
            output.error(&error);
            failure.into()
        }
    }
}

fn misspelt(error: &clap::Error, json: bool) -> ExitCode {
    match json && error.use_stderr() {
        true => Output::new(json).error(&Usage(error.to_string()).into()),
        // Nothing can be said where neither stdout nor stderr can be written.
        false => drop(error.print()),
    }
    match error.use_stderr() {
        true => WRONG_COMMAND_LINE.into(),
        false => ExitCode::SUCCESS,
    }
}

/// The grammar, in which every long flag can also be set by a variable of the environment.
fn grammar() -> clap::Command {
    with_environment(Cli::command())
}

fn with_environment(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_long().map(variable) {
            Some(name) if !matches!(arg.get_id().as_str(), "help" | "version") => {
                let arg = arg.env(name).hide_env(true);
                match arg.get_action() {
                    clap::ArgAction::SetTrue => {
                        arg.value_parser(clap::builder::BoolishValueParser::new())
                    }
                    _ => arg,
                }
            }
            _ => arg,
        })
        .mut_subcommands(with_environment)
}

fn variable(flag: &str) -> String {
    format!("PORTCULLIS_{}", flag.replace('-', "_").to_uppercase())
}

impl Cli {
    /// The exit code of an error.
    fn failure_code(&self) -> u8 {
        match &self.command {
            Command::Check(_) | Command::Explain(_) => 3,
            _ => 1,
        }
    }

    fn run(self, output: Output) -> anyhow::Result<Exit> {
        let server = self.server;
        let client = || Client::new(&server);
        match self.command {
            Command::Serve(serve) => serve.run(output),
            Command::Sidecar(sidecar) => sidecar.run(output),
            Command::Test(test) => test.run(output),
            Command::Templates(templates) => templates.run(output),
            Command::Schema(schema) => schema.run(client, output),
            Command::Check(check) => check.run(&client()?, output),
            Command::Explain(explain) => explain.run(&client()?, output),
            Command::ListResources(list) => list.run(&client()?, output),
            Command::ListSubjects(list) => list.run(&client()?, output),
            Command::Permissions(permissions) => permissions.run(&client()?, output),
            Command::Grant(grant) => grant.run(&client()?, output),
            Command::Revoke(revoke) => revoke.run(&client()?, output),
            Command::Lock(lock) => lock.run(&client()?, output),
            Command::Unlock(unlock) => unlock.run(&client()?, output),
            Command::RenewLock(renew) => renew.run(&client()?, output),
            Command::Locks(locks) => locks.run(&client()?, output),
            Command::Roles(roles) => roles.run(&client()?, output),
            Command::Tuples(tuples) => tuples.run(&client()?, output),
            Command::Watch(watch) => watch.run(&client()?, output),
            Command::Watchers(watchers) => watchers.run(&client()?, output),
            Command::Import(import) => import.run(&client()?, output),
            Command::Export(export) => export.run(&client()?, output),
            Command::Bench(bench) => bench.run(&client()?, output),
            Command::Health(health) => health.run(&client()?, output),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable() {
        fn walk(command: &clap::Command, seen: &mut usize) {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                if matches!(long, "help" | "version") {
                    continue;
                }
                let variable = arg
                    .get_env()
                    .map(|name| name.to_string_lossy().into_owned());
                assert_eq!(variable, Some(super::variable(long)), "{long}");
                *seen += 1;
            }
            for inner in command.get_subcommands() {
                walk(inner, seen);
            }
        }
        let mut command = grammar();
        command.build();
        let mut seen = 0;
        walk(&command, &mut seen);
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn a_wrong_command_line_is_64_and_help_is_0() {
        let check = |line: &str, code: u8| {
            let words = line.split(' ').map(OsString::from);
            assert_eq!(main(words), ExitCode::from(code), "{line}");
        };
        check("portcullis", 64);
        check("portcullis --help", 0);
        check("portcullis --version", 0);
        check("portcullis check --help", 0);
        check("portcullis chekc", 64);
        check("portcullis check user:a deploy", 64);
        check("portcullis check alice deploy environment:prod", 64);
        check(
            "portcullis check user:a deploy environment:prod --context [1]",
            64,
        );
        check(
            "portcullis check user:a deploy environment:prod --at-least 7",
            64,
        );
        check("portcullis grant environment:prod#guest", 64);
        check("portcullis grant doc:a#viewer@user:bob --expires soon", 64);
        check("portcullis revoke", 64);
        check("portcullis tuples environment", 64);
        check("portcullis templates nonsense", 64);
        check("portcullis serve --template nonsense", 64);
        check("portcullis serve --memory --data x", 64);
        check("portcullis serve --listen nonsense", 64);
        check("portcullis --server ftp://x health", 64);
        check("portcullis sidecar", 64);
        check("portcullis sidecar --upstream ftp://x", 64);
        check("portcullis sidecar --upstream unix:/x --slots 0", 64);
        check(
            "portcullis sidecar --upstream unix:/x --listen 10.0.0.1:1",
            64,
        );
    }
}
