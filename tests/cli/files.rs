//! Files that are imported and exported.

use super::Server;

#[test]
fn an_import_that_is_refused_early_does_not_wait_for_the_rest_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--memory", "--template", "none"]);
    let schema = "{\"schema\":\"definition user {} definition doc { relation viewer: user }\"}\n";
    let line = |n: u32| {
        let relation = if n == 2 { "owner" } else { "viewer" };
        format!(
            "{{\"resource\":\"doc:f{n}\",\"relation\":\"{relation}\",\"subject\":\"user:tom\"}}\n"
        )
    };
    let path = folder.path().join("long.jsonl");
    let lines: String = (1..100_000).map(line).collect();
    std::fs::write(&path, [schema, &lines].concat()).unwrap();
    server.check(&format!("import {}", path.display()), 1, "long.jsonl:3:");
}

#[test]
fn files_go_in_and_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        path(name)
    };
    let world = file(
        "world.yaml",
        "schema: |-\n  use expiration\n  caveat open(hour int) { hour > 8 }\n  definition user {}\n  \
         definition doc {\n    relation viewer: user | user with open | user with expiration\n  }\n\
         relationships: |-\n  // who\n  doc:a#viewer@user:tom\n  doc:a#viewer@user:ann[open:{\"hour\":9}]\n  \
         doc:b#viewer@user:tom[expiration:2999-01-01T00:00:00Z]\nassertions: {}\n",
    );
    let server = Server::start(&["--memory", "--template", "none"]);
    let bare = file("bare.txt", "doc:a#viewer@user:tom\n");
    server.check(&format!("import {bare}"), 1, "NO_SCHEMA");
    // What the server says, and what the command adds to it.
    server.check(
        &format!("import {bare}"),
        1,
        "0 tuples were imported; go on with --resume 0",
    );
    server.check(&format!("import {world}"), 0, "imported 3 tuples in");
    server.check("check user:tom viewer doc:b", 0, "ALLOWED");
    // Out in each form, and into another server.
    let (_, plain) = server.run(&["export", "-"]);
    assert!(plain.starts_with("// exported at revision 2@"), "{plain}");
    for name in ["all.jsonl", "all.yaml"] {
        let file = path(name);
        server.check(&format!("export {file}"), 0, "exported 3 tuples in");
        let other = Server::start(&["--memory", "--template", "none"]);
        other.check(
            &format!("import {file} --check-first"),
            0,
            "imported 3 tuples in",
        );
        let (_, again) = other.run(&["export", "-"]);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&again), sorted(&plain), "{name}");
    }
    server.check(
        "export - --matching @user:ann",
        0,
        "doc:a#viewer@user:ann[open:{\"hour\":9}]",
    );

    // Bad lines: found here, or by the server.
    let here = file(
        "here.txt",
        "doc:c#viewer@user:tom\n\n  doc:c#viewer@user bob\n",
    );
    server.check(
        &format!("import {here} --check-first"),
        1,
        "here.txt:3:16: ",
    );
    server.check(
        &format!("import {here} --check-first"),
        1,
        "nothing was imported",
    );
    server.check("check user:tom viewer doc:c", 1, "DENIED");
    server.check(
        &format!("import {here}"),
        1,
        "1 tuples before it stand, at revision 3@",
    );
    server.check("check user:tom viewer doc:c", 0, "ALLOWED");
    let there = file(
        "there.txt",
        "doc:d#viewer@user:tom\ndoc:d#owner@user:tom\ndoc:e#viewer@user:tom\n",
    );
    server.check(
        &format!("import {there} --check-first"),
        1,
        "there.txt:2:7: ",
    );
    server.check("check user:tom viewer doc:d", 1, "DENIED");
    server.check(&format!("import {there}"), 1, "there.txt:2:7: ");
    server.check("check user:tom viewer doc:d", 0, "ALLOWED");
    server.check("check user:tom viewer doc:e", 1, "DENIED");
    server.check(&format!("import {there}"), 1, "--resume 1");
    server.check(
        &format!("import {there} --resume 2"),
        0,
        "imported 1 tuples",
    );
    server.check("check user:tom viewer doc:e", 0, "ALLOWED");
    server.check("import - --check-first", 64, "standard input is read once");
    server.check("import no-such-file", 1, "can't read no-such-file");
    server.check(
        &format!("export {}/x/y", folder.path().display()),
        1,
        "can't write",
    );
    server.check("import - --format yaml", 64, "spicedb");
}
