//! The binary as its users run it: a server on a port of its own, and commands that ask it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod files;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A server that ends with its test.
struct Server {
    process: Child,
    url: String,
    printed: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let mut process = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut printed = Vec::new();
        for line in lines {
            printed.push(line.unwrap());
            if printed.last().unwrap().trim().starts_with("try") {
                break;
            }
        }
        let listening = printed
            .iter()
            .find_map(|line| line.trim().strip_prefix("listening"));
        let url = listening
            .expect("it says where it listens")
            .trim()
            .split(", ")
            .next()
            .unwrap()
            .to_owned();
        let server = Self {
            process,
            url,
            printed,
        };
        server.wait();
        server
    }

    /// It tells where it listens before it answers.
    fn wait(&self) {
        for _ in 0..1_000 {
            if self.run(&["health"]).0 == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the server does not begin to serve");
    }

    /// Runs a command and gives its exit code and what it printed, both streams after another.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let output = Command::new(BINARY)
            .args(words)
            .env("PORTCULLIS_SERVER", &self.url)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    fn check(&self, line: &str, code: i32, part: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let (have, text) = self.run(&words);
        assert_eq!(have, code, "{line}\n{text}");
        assert!(text.contains(part), "{line}\n{text}");
    }
}

#[test]
fn a_fresh_server_answers_grants_and_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&["--data", data.to_str().unwrap()]);
    let printed = server.printed.join("\n");
    for part in [
        "data",
        "template scoped-groups",
        "tuples",
        "revision",
        "anyone on this machine",
        "grpcurl",
    ] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    server.check("health", 0, "SERVING");
    server.check("check user:alice deploy environment:prod", 0, "ALLOWED");
    server.check("check user:grace deploy environment:prod", 1, "DENIED: ");
    server.check(
        "check user:grace deplyo environment:prod",
        3,
        "did you mean \"deploy\"?",
    );
    server.check(
        "check user:grace deplyo environment:prod",
        3,
        "where:  permission",
    );
    server.check("check usr:grace deploy environment:prod", 3, "UNKNOWN_TYPE");
    server.check("check grace deploy environment:prod", 64, "has no ':'");
    server.check(
        "--json check user:alice deploy environment:prod",
        0,
        "\"decision\":\"ALLOWED\"",
    );

    server.check(
        "grant environment:prod#guest@user:bob --dry-run",
        0,
        "would have granted 1",
    );
    server.check("check user:bob inspect environment:prod", 1, "DENIED");
    server.check(
        "grant environment:prod#guest@user:bob --expires 24h",
        0,
        "granted 1 at revision 2@",
    );
    server.check("check user:bob inspect environment:prod", 0, "ALLOWED");
    server.check(
        "tuples @user:bob",
        0,
        "environment:prod#guest@user:bob[expiration:",
    );
    server.check("tuples user:bob", 0, "portcullis tuples @user:bob");
    server.check(
        "permissions environment:prod user:bob",
        0,
        "the subject comes first",
    );
    server.check("revoke environment:prod#guest@user:bob", 0, "revoked 1");
    server.check(
        "revoke environment:prod#guest@user:bob",
        0,
        "no such tuple stands",
    );
    server.check(
        "grant environment:prod#guest@user:bob[expiration:tomorrow]",
        64,
        "neither [caveat]",
    );
    server.check("revoke --matching user:bob", 0, "--matching @user:bob");
    server.check("health NoSuchService", 1, "no service \"NoSuchService\"");
    server.check("--json chekc", 64, "{\"error\":");
    server.check("check user:bob inspect environment:prod", 1, "DENIED");
    server.check(
        "grant environment:prod#gest@user:bob",
        1,
        "did you mean \"guest\"?",
    );
    server.check(
        "revoke --matching environment:prod# --limit 1",
        1,
        "LIMIT_EXCEEDED",
    );
    server.check("schema read", 0, "definition environment {");

    let second = Command::new(BINARY)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            data.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains("is open in another process"), "{told}");
}

/// What is said wrong is answered with what to say.
#[test]
fn locks_and_roles_help_who_errs() {
    let server = Server::start(&["--memory", "--template", "groups-and-locks"]);
    let lock = "lock environment:prod freeze --as user:ada --reason r";
    server.check("unlock relase", 1, "no lock \"relase\" is held");
    server.check("unlock relase", 1, "portcullis locks");
    server.check(&format!("{lock} --ttl -5s"), 64, "is in the past");
    server.check(&format!("{lock} --ttl 0s"), 64, "is no time at all");
    server.check(
        "lock environment:prod freeze --as user:dev",
        1,
        "user:dev may not lock",
    );
    server.check("lock environment:prod freeze", 1, "--reason 'release");
    server.check(
        "lock environment:prodd freeze --reason x --id l1 --wait-for-watchers 1s",
        0,
        "no tuple names environment:prodd",
    );
    server.check(
        "unlock l1 --wait-for-watchers 1s",
        0,
        "; no cache answers from before it",
    );
    server.check("locks environment:prod", 0, "--inherited shows");
    let server = Server::start(&["--memory", "--template", "permission-matrix"]);
    server.check(
        "roles create role:acme/qa x",
        1,
        "owner is a role; expected whose it is, such as workspace:acme",
    );
    server.check(
        "roles list workspace:nowhere",
        0,
        "no tuple names workspace:nowhere",
    );
    server.check(
        "roles delete role:acme/qa",
        1,
        "portcullis roles list OWNER",
    );
    let assign = "roles assign role:acme/member user:new workspace:acme";
    server.check(assign, 0, "assigned role:acme/member to user:new");
    server.check(assign, 0, "user:new holds it there already");
    let take = "roles unassign role:acme/member user:new workspace:acme";
    server.check(take, 0, "unassigned role:acme/member from user:new");
    server.check(take, 0, "user:new did not hold it there");
}

#[test]
fn questions_the_other_way_round() {
    let server = Server::start(&["--memory"]);
    server.check("explain user:alice deploy environment:prod", 0, "✓ deploy");
    server.check(
        "explain user:grace deploy environment:prod",
        1,
        "This alone would allow it: portcullis roles assign security_group:acme/release",
    );
    server.check(
        "--json explain user:grace deploy environment:prod",
        1,
        "\"suggestion\":{\"assign\":",
    );
    server.check(
        "explain user:grace deplyo environment:prod",
        3,
        "did you mean",
    );
    server.check("permissions user:alice environment:prod", 0, "deploy ");
    server.check(
        "--json permissions user:grace environment:prod",
        0,
        "\"permission\":\"deploy\"",
    );
    server.check(
        "list-resources user:alice deploy environment",
        0,
        "environment:prod",
    );
    server.check(
        "list-resources user:alice deploy environment --within application:shop",
        0,
        "environment:prod",
    );
    server.check(
        "--json list-subjects user deploy environment:prod",
        0,
        "\"subject\":\"user:alice\"",
    );
    server.check(
        "list-subjects user deplyo environment:prod",
        1,
        "did you mean \"deploy\"?",
    );
    server.check(
        "list-subjects us:er deploy environment:prod",
        64,
        "is no kind",
    );
    server.check("permissions user:alice env:prod", 1, "UNKNOWN_TYPE");
}

#[test]
fn a_schema_of_ones_own_is_served_and_orphans_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let caveat = "caveat open(hour int) { hour > 8 }\ndefinition user {}\n";
    let first = file(
        "a.zed",
        &format!("{caveat}definition doc {{ relation viewer: user with open }}\n"),
    );
    let other = file(
        "b.zed",
        &format!("{caveat}definition book {{ relation viewer: user }}\n"),
    );
    let server = Server::start(&["--memory", "--schema", &first]);
    server.check("check user:a viewer doc:x", 1, "DENIED");
    server.check("grant doc:x#viewer@user:a[open]", 0, "granted 1");
    server.check("check user:a viewer doc:x", 2, "CONDITIONAL");
    server.check(
        "check user:a viewer doc:x --context {\"hour\":9}",
        0,
        "ALLOWED",
    );
    server.check(
        "check user:a viewer doc:x --context {\"hour\":\"x\"}",
        3,
        "CAVEAT_CONTEXT_INVALID",
    );
    server.check(&format!("schema diff {other}"), 0, "doc");
    server.check(&format!("schema write {other}"), 1, "SCHEMA_WOULD_ORPHAN");
    server.check("revoke doc:x#viewer@user:a", 0, "revoked 1");
    server.check(&format!("schema write {other}"), 0, "written at revision");
}

#[test]
fn where_it_must_not_serve_it_says_why() {
    let check = |words: &[&str], code: i32, part: &str| {
        let output = Command::new(BINARY)
            .arg("serve")
            .args(words)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{told}");
        assert!(told.contains(part), "{words:?}\n{told}");
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(
        &["--memory", "--listen", &address],
        1,
        "choose another address with --listen",
    );
    check(&["--memory", "--listen", "0.0.0.0:0"], 64, "--open");
    check(
        &["--listen", "127.0.0.1:0", "--data", file.to_str().unwrap()],
        1,
        "is not a directory",
    );
    let socket = format!("unix:{}", file.display());
    check(&["--memory", "--listen", &socket], 1, "it is no socket");
    check(&["--memory", "--log", "infoo"], 64, "says no level");
    check(&["--memory", "--max-queue", "0"], 64, "--max-queue");
    check(
        &["--memory", "--schema", "no-such-file.zed"],
        1,
        "can't read no-such-file.zed",
    );
}

/// Prints a line a change, and goes on where it was when the server comes back.
#[test]
fn watching_survives_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let socket = format!("unix:{}", folder.path().join("s.sock").display());
    let flags = ["--data", data.to_str().unwrap(), "--listen", &socket];
    let server = Server::start(&flags);
    server.check("watchers", 0, "WATCHER");
    let watch = |words: &[&str]| {
        let mut process = Command::new(BINARY)
            .arg("watch")
            .args(words)
            .args(["--server", &socket])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        (process, lines)
    };
    let (mut plain, mut plain_lines) = watch(&["--type", "environment"]);
    let (mut json, mut json_lines) = watch(&["--json"]);
    let opened = |server: &Server| {
        while server.run(&["watchers"]).1.lines().count() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    opened(&server);
    let grant = |server: &Server, tuple: &str| {
        server.check(&format!("grant {tuple} --reason on-call"), 0, "granted");
    };
    grant(&server, "environment:prod#guest@user:zoe");
    let line = plain_lines.next().unwrap().unwrap();
    assert!(
        line.contains(" granted environment:prod#guest@user:zoe: on-call"),
        "{line}"
    );
    let line = json_lines.next().unwrap().unwrap();
    assert!(
        line.contains(r#""change":"granted","tuple":"environment:prod#guest@user:zoe""#),
        "{line}"
    );
    drop(server);
    let server = Server::start(&flags);
    grant(&server, "environment:prod#guest@user:yves");
    server.check("revoke environment:prod#guest@user:zoe", 0, "revoked");
    for (lines, parts) in [
        (
            &mut plain_lines,
            [
                "granted environment:prod#guest@user:yves",
                "revoked environment",
            ],
        ),
        (&mut json_lines, ["user:yves", "revoked"]),
    ] {
        for part in parts {
            let line = lines.next().unwrap().unwrap();
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
    for process in [&mut plain, &mut json] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    server.check("watch --type environmnt", 1, "did you mean");
    server.check("watch --after 1@111111 --typo", 64, "--typo");
}

#[test]
fn flags_come_from_a_file_where_nobody_says_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(BINARY)
            .args(words)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    };
    let check = |words: &[&str], variables: &[(&str, &str)], code: i32, part: &str| {
        let (have, text) = run(words, variables);
        assert_eq!(have, code, "{words:?}\n{text}");
        assert!(text.contains(part), "{words:?}\n{text}");
    };
    write(
        "a.yaml",
        "server: unix:/nowhere/a.sock\njson: true\nmax-updates: 7\n",
    );
    let file = path("a.yaml");
    check(&["--config", &file, "health"], &[], 1, "{\"error\":");
    check(&["--config", &file, "health"], &[], 1, "/nowhere/a.sock");
    check(
        &["health"],
        &[("PORTCULLIS_CONFIG", &file)],
        1,
        "/nowhere/a.sock",
    );
    let server = [("PORTCULLIS_SERVER", "unix:/nowhere/b.sock")];
    check(
        &["--config", &file, "health"],
        &server,
        1,
        "/nowhere/b.sock",
    );
    check(
        &["--config", &file, "health", "--server", "unix:/c.sock"],
        &server,
        1,
        "/c.sock",
    );
    write("b.yaml", "serverr: x\n");
    check(
        &["--config", &path("b.yaml"), "health"],
        &[],
        64,
        "there is no flag --serverr",
    );
    write("c.yaml", "server: [\n");
    check(
        &["--config", &path("c.yaml"), "health"],
        &[],
        64,
        "expected a flag a line",
    );
    write("d.yaml", "max-updates: none\nmemory: true\n");
    check(
        &["--config", &path("d.yaml"), "serve"],
        &[],
        64,
        "--max-updates",
    );
    check(
        &["--config", &path("no.yaml"), "health"],
        &[],
        64,
        "can't read",
    );
    write(
        "e.yaml",
        "listen: [\"127.0.0.1:0\", \"10.9.8.7:0\"]\nmemory: true\n",
    );
    check(
        &["--config", &path("e.yaml"), "serve"],
        &[],
        64,
        "10.9.8.7:0",
    );
}

#[test]
fn roles_go_out_and_come_in_with_their_assignments() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let server = Server::start(&["--memory"]);
    for name in ["all.jsonl", "all.yaml"] {
        let file = path(name);
        server.check(&format!("export {file}"), 0, "exported ");
        // Again where it came from, and where nothing is.
        server.check(
            &format!("import {file} --check-first"),
            0,
            "with a schema, ",
        );
        let other = Server::start(&["--memory", "--template", "none"]);
        other.check(&format!("import {file} --check-first"), 0, "roles");
        other.check("check user:rob deploy environment:prod", 0, "ALLOWED");
    }
    server.check(&format!("test {}", path("all.yaml")), 0, "");
}

#[test]
fn the_bench_loads_its_world_and_asks_it() {
    let server = Server::start(&["--memory", "--template", "none"]);
    server.check(
        "bench --world 1 --for 100ms --kind direct",
        1,
        "load the world first: portcullis bench --load --world 1",
    );
    let (code, text) = server.run(&["bench", "--load", "--world", "1", "--for", "100ms"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "loaded 8,",
        "direct: ",
        "nested: ",
        "tree: ",
        "wide: ",
        "mixed: ",
        "p99.9",
        "server CPU",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    server.check(
        "bench --world 1 --for 100ms --kind mixed --rate 200",
        0,
        "mixed: ",
    );
    server.check(
        "--json bench --world 1 --for 100ms --kind direct --batch 10",
        0,
        "\"server_cpu_us_a_check\":",
    );
    server.check("bench --kind nonsense", 64, "direct");
}
