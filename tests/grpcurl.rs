//! The README's commands, as they stand there: grpcurl against the binary, and the binary itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portcullis::templates;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const README: &str = include_str!("../README.md");
const ADDRESS: &str = "127.0.0.1:50051";
const INSTALL: &str = "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest";

/// A template's demo world on a port of its own, until the test ends.
struct Server {
    process: Child,
    address: String,
}

/// One server for each template that the README speaks of, begun when it is first asked.
#[derive(Default)]
struct Servers(BTreeMap<String, Server>);

impl Servers {
    fn of(&mut self, template: &str) -> &Server {
        let server = self.0.entry(template.to_owned());
        server.or_insert_with(|| Server::start(template))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(template: &str) -> Self {
        let mut process = Command::new(BINARY)
            .args(["serve", "--memory", "--listen", "127.0.0.1:0"])
            .args(["--template", template])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let printed = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = printed
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("http://")?.1.to_owned()));
        let server = Self {
            process,
            address: address.expect("it says where it listens"),
        };
        server.wait();
        server
    }

    /// It listens before it has loaded its data.
    fn wait(&self) {
        for _ in 0..1_000 {
            let health = Command::new(BINARY)
                .args(["health", "--server", &format!("http://{}", self.address)])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if health.unwrap().success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the server does not begin to serve");
    }

    /// Runs a line of the README in a shell, in which `portcullis` is the binary and the server
    /// this one. Gives the exit code and what was printed, both streams after another.
    fn sh(&self, folder: &Path, line: &str) -> (i32, String) {
        let output = self.shell(folder, line).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().expect("no signal ended it");
        (code, String::from_utf8(text).unwrap())
    }

    fn shell(&self, folder: &Path, line: &str) -> Command {
        let line = line.replace(ADDRESS, &self.address);
        // What was exported goes back where it came from, which changes nothing.
        let line = line.replace("other:50051", &self.address);
        let line = line.replace("cargo run --release --", "portcullis");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &line])
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("PORTCULLIS_SERVER", format!("http://{}", self.address));
        shell
    }

    /// Starts the sidecar that a line of the README starts, and waits until it passes calls on.
    fn sidecar(&self, folder: &Path, line: &str) -> Self {
        let (_, behind) = line.split_once("--listen ").expect("it says where");
        let address = behind.split(' ').next().unwrap_or_default();
        // Any port will do for its metrics.
        let line = line.replace("127.0.0.1:9465", "127.0.0.1:0");
        let mut shell = self.shell(folder, &format!("exec {line}"));
        let silent = shell.stdout(Stdio::null()).stderr(Stdio::null());
        let sidecar = Self {
            process: silent.spawn().unwrap(),
            address: address.to_owned(),
        };
        for _ in 0..1_000 {
            let health = format!("portcullis --server {address} health");
            if self.sh(folder, &health).0 == 0 {
                return sidecar;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the sidecar does not begin to serve");
    }
}

/// A folder with `portcullis` and the sources in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(BINARY, folder.path().join("portcullis")).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    std::os::unix::fs::symlink(sources, folder.path().join("src")).unwrap();
    folder
}

/// Lines of code in the README.
struct Block {
    /// The template whose section it stands in: `### NAME`; else the default one.
    template: String,
    /// Without their indentation. A line that ends in a backslash is one with the next.
    code: Vec<String>,
    /// What stands behind the code.
    prose: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut in_code = false;
    let mut template = templates::DEFAULT;
    for line in README.replace("\\\n", "").lines() {
        match line.strip_prefix("    ") {
            Some(code) if in_code => blocks.last_mut().unwrap().code.push(code.to_owned()),
            Some(code) => {
                blocks.push(Block {
                    template: template.to_owned(),
                    code: vec![code.to_owned()],
                    prose: String::new(),
                });
                in_code = true;
            }
            None if in_code && line.is_empty() => {
                blocks.last_mut().unwrap().code.push(String::new());
            }
            None => {
                in_code = false;
                if let Some(heading) = line.strip_prefix('#') {
                    let name = heading.trim_start_matches('#').trim();
                    template = templates::named(name).map_or(templates::DEFAULT, |t| t.name);
                }
                if let Some(block) = blocks.last_mut() {
                    block.prose.push_str(line);
                    block.prose.push(' ');
                }
            }
        }
    }
    blocks
}

fn has_grpcurl() -> bool {
    let found = Command::new("grpcurl").arg("-version").output().is_ok();
    if !found {
        // Not `println`, which the test harness keeps to itself where nothing fails.
        let _ = writeln!(
            std::io::stderr(),
            "ignored: grpcurl is not there; {INSTALL}"
        );
    }
    found
}

/// What the prose says that the commands answer with: the code spans behind "answers with", up to
/// the end of the clause.
fn promised(prose: &str) -> Vec<&str> {
    let Some((_, rest)) = prose.split_once("answers with ") else {
        return Vec::new();
    };
    let mut spans = Vec::new();
    for (at, piece) in rest.split('`').enumerate() {
        let is_code = at % 2 == 1;
        if is_code {
            spans.push(piece);
        } else if piece.contains(['.', ':']) {
            break;
        }
    }
    spans
}

#[test]
fn grpcurl_gets_the_answer_that_the_readme_gives() {
    if !has_grpcurl() {
        return;
    }
    let (mut servers, folder) = (Servers::default(), folder());
    let mut asked = 0;
    for Block {
        template,
        code,
        prose,
    } in blocks()
    {
        let server = servers.of(&template);
        for line in code.iter().filter(|line| line.starts_with("grpcurl ")) {
            let (exit, text) = server.sh(folder.path(), line);
            assert_eq!(exit, 0, "{line}\n{text}");
            let question = line.contains("-d ");
            for part in promised(&prose).iter().filter(|_| question) {
                assert!(text.contains(part), "{line}\n{text}\nhas no {part}");
                asked += 1;
            }
        }
    }
    assert!(asked > 0, "the README asks nothing, or promises nothing");
}

#[test]
fn grpcurl_shows_why_a_question_has_no_answer() {
    if !has_grpcurl() {
        return;
    }
    let (server, folder) = (Server::start(templates::DEFAULT), folder());
    let check = |line: &str, parts: &[&str]| {
        let (_, text) = server.sh(folder.path(), line);
        for part in parts {
            assert!(text.contains(part), "{line}\n{text}\nhas no {part}");
        }
    };
    let ask = |question: &str| {
        format!("grpcurl -plaintext -d '{question}' {ADDRESS} portcullis.v1.CheckService/Check")
    };
    check(
        &ask(r#"{"subject":"user:alice","permission":"deplyo","resource":"environment:prod"}"#),
        &[
            "did you mean \"deploy\"?",
            "google.rpc.ErrorInfo",
            "UNKNOWN_PERMISSION",
            "google.rpc.BadRequest",
            "\"field\": \"permission\"",
        ],
    );
    check(&ask("{}"), &["InvalidArgument", "subject"]);
    check(
        &format!("grpcurl -plaintext {ADDRESS} list"),
        &["portcullis.v1.CheckService", "grpc.health.v1.Health"],
    );
    check(
        &format!("grpcurl -plaintext {ADDRESS} describe portcullis.v1.CheckRequest"),
        &["// The resource, \"type:id\"."],
    );
}

#[test]
fn the_commands_of_the_readme_work() {
    let (mut servers, folder) = (Servers::default(), folder());
    let (mut run, mut sidecars) = (0, Vec::new());
    for Block { template, code, .. } in blocks() {
        let server = servers.of(&template);
        for line in code.iter().filter(|line| line.starts_with("portcullis ")) {
            if line.starts_with("portcullis sidecar") {
                sidecars.push(server.sidecar(folder.path(), line));
                continue;
            }
            // What serves does not end: whether the line is understood is seen by its help.
            let endless = ["serve", "sidecar", "watch"].iter().any(|command| {
                let rest = line.strip_prefix("portcullis ");
                rest.and_then(|rest| rest.split(' ').next()) == Some(command)
            });
            let line = match (endless, line.split_once('#')) {
                (true, Some((command, _))) => format!("{command} --help"),
                (true, None) => format!("{line} --help"),
                _ => line.clone(),
            };
            let (exit, text) = server.sh(folder.path(), &line);
            // A denial is an answer, which has an exit code of its own.
            let denied = line.starts_with("portcullis explain") && text.starts_with("DENIED");
            assert_eq!(exit, i32::from(denied), "{line}\n{text}");
            run += 1;
        }
    }
    assert!(run > 10, "{run} commands found");
}

#[test]
fn the_sessions_of_the_readme_are_real() {
    let (mut servers, folder) = (Servers::default(), folder());
    let mut run = 0;
    for Block { template, code, .. } in blocks() {
        let server = servers.of(&template);
        let mut lines = code.iter().peekable();
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                continue;
            };
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                expected.push(line.as_str());
            }
            let (_, text) = server.sh(folder.path(), command);
            let expected = expected.join("\n");
            assert_eq!(
                epochs_aside(text.trim()),
                epochs_aside(expected.trim()),
                "{command}"
            );
            run += 1;
        }
    }
    assert!(run > 2, "{run} sessions found");
}

/// The text with every `@fd4b2e` behind a revision, which differs from store to store, as `@`.
fn epochs_aside(text: &str) -> String {
    let mut pieces = text.split('@');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let behind_revision = out.ends_with(|c: char| c.is_ascii_digit());
        let hex = piece.find(|c: char| !c.is_ascii_hexdigit());
        let cut = hex.unwrap_or(piece.len());
        out.push('@');
        out.push_str(if behind_revision {
            &piece[cut..]
        } else {
            piece
        });
    }
    out
}

#[test]
fn the_schema_of_the_readme_is_valid() {
    let (server, folder) = (Server::start(templates::DEFAULT), folder());
    let schemas: Vec<String> = blocks()
        .into_iter()
        .map(|block| block.code.join("\n"))
        .filter(|code| code.contains("definition user {}"))
        .collect();
    assert!(!schemas.is_empty());
    for schema in schemas {
        std::fs::write(folder.path().join("readme.zed"), schema).unwrap();
        let (exit, text) = server.sh(folder.path(), "portcullis schema check readme.zed");
        assert_eq!((exit, text.as_str()), (0, "readme.zed: valid\n"));
    }
}
