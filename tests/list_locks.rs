//! Lists and explanations where locks are held and roles assigned: equal to single checks, which
//! the oracle judges, over random worlds of one schema.
//!
//! `PORTCULLIS_LISTS` says how many worlds; `PORTCULLIS_SEED` begins with another one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod oracle;
mod real;

use std::collections::{BTreeMap, BTreeSet};

use oracle::world::Dice;
use portcullis::eval::{
    Decision, Limits, Question, ResourceList, ResourcesQuestion, Row, Step, SubjectList,
    SubjectsQuestion, Suggestion, check, explain,
};
use portcullis::state::Change;
use portcullis::tuple::{Context, Object, Subject};
use real::{Real, instant, setting};

const NOW: i64 = 1_000_000;

const SCHEMA: &str = "
definition user {}
definition team { relation member: user | team#member }
definition org {
    relation admin: user
    permission administer = admin
    permission run = any role
    permission belong = some role + admin
    assigns role
}
roles role of org {
    held by user | team#member
    builtin chief includes *
}
definition app {
    relation org: org
    relation parent: app
    relation developer: user | user:* | team#member
    permission administer = org->administer
    permission deploy = developer + any role
    permission calm = developer - deploy
    permission view = deploy + parent->view
    permission led = role chief
    permission ship = developer & view
    assigns role inherits org
    lock freeze { blocks deploy except administer inherits parent }
    lock hush { blocks * }
}
definition env {
    relation app: app
    relation guest: user
    permission deploy = app->deploy + guest
    permission debug = deploy - app->calm
    lock freeze { blocks deploy except app->administer inherits app }
}
definition doc {
    relation reader: app#deploy | user
    permission read = reader + app.parent<-deploy
}
";

const IDS: [(&str, &[&str]); 6] = [
    ("user", &["u0", "u1", "u2", "new"]),
    ("team", &["t0", "t1"]),
    ("org", &["o0", "o1"]),
    ("app", &["a0", "a1", "a2"]),
    ("env", &["e0", "e1"]),
    ("doc", &["a0", "d1"]),
];

fn objects(kind: &str) -> Vec<String> {
    let (_, ids) = IDS.iter().find(|(known, _)| *known == kind).unwrap();
    ids.iter().map(|id| format!("{kind}:{id}")).collect()
}

fn subjects() -> Vec<String> {
    let mut all = objects("user");
    all.push("user:*".to_owned());
    all.extend(objects("team").iter().map(|team| format!("{team}#member")));
    all
}

/// A random tuple, lock or role.
fn change(dice: &mut Dice, turn: usize) -> Change {
    let mut any = |list: &[&str]| (*dice.pick(list)).to_owned();
    let user = any(&["user:u0", "user:u1", "user:u2"]);
    let who = any(&["team:t0#member", "team:t1#member", &user, &user]);
    let app = any(&["app:a0", "app:a1", "app:a2"]);
    let org = any(&["org:o0", "org:o1"]);
    let role = any(&["o0/dev", "o1/dev", "o0/chief", "o1/chief"]);
    let env = any(&["env:e0", "env:e1"]);
    let text = match dice.below(16) {
        0 => format!("{app}#org@{org}"),
        1 => format!("{app}#parent@app:a{}", dice.below(3)),
        2 | 3 => format!("{app}#developer@{who}"),
        4 => format!("{app}#developer@user:*"),
        5 => format!("{app}#role={role}@{who}"),
        6 => format!("{org}#role={role}@{who}"),
        7 => format!("{org}#admin@{user}"),
        8 => format!("{env}#app@{app}"),
        9 => format!("{env}#guest@{user}"),
        10 => format!("doc:d1#reader@{app}#deploy"),
        11 => format!("team:t0#member@{user}"),
        12 => format!("team:t1#member@{}", dice.pick(&["team:t0#member", &user])),
        13 => return real::role(&format!("role:{org}/dev app.deploy,org.run").replace("org:", "")),
        14 => return real::lock(&format!("l{turn} freeze {app} for {who}")),
        _ => {
            let (mode, on) = *dice.pick(&[("freeze", &env), ("freeze", &app), ("hush", &app)]);
            return real::lock(&format!("l{turn} {mode} {on}"));
        }
    };
    Change::Granted(text.parse().unwrap_or_else(|problem| panic!("{problem}")))
}

struct World {
    real: Real,
    changes: Vec<Change>,
}

fn world(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let mut real = Real::of(SCHEMA, &[]);
    let mut changes = Vec::new();
    for turn in 0..6 + dice.below(18) {
        let change = change(&mut dice, turn);
        real.apply(std::slice::from_ref(&change));
        changes.push(change);
    }
    World { real, changes }
}

fn decision(real: &Real, subject: &str, permission: &str, resource: &str) -> Decision {
    ask(subject, permission, resource, |question| {
        let answer = check(real.facts(), question, instant(NOW), &Limits::default());
        answer.unwrap().decision
    })
}

fn ask<T>(
    subject: &str,
    permission: &str,
    resource: &str,
    ask: impl FnOnce(&Question<'_>) -> T,
) -> T {
    let subject: Subject = subject.parse().unwrap();
    let resource: Object = resource.parse().unwrap();
    ask(&Question {
        subject: subject.as_ref(),
        permission,
        resource: resource.as_ref(),
        context: &Context::new(),
        contextual: &[],
        with_dependencies: false,
    })
}

fn rows(mut step: impl FnMut() -> Step) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        match step() {
            Step::Row(row) => rows.push(row),
            Step::End => return rows,
            Step::Nothing | Step::Busy => {}
        }
    }
}

/// The relations and permissions of all types.
fn members(real: &Real) -> Vec<(String, String)> {
    let schema = real.facts().schema;
    let kinds = schema.types.iter().filter(|kind| &*kind.name != "user");
    kinds
        .flat_map(|kind| {
            let names = kind
                .members
                .iter()
                .map(|id| schema.member(*id).name.to_string());
            names.map(|name| (kind.name.to_string(), name))
        })
        .collect()
}

#[test]
fn lists_equal_checks_under_locks_and_roles() {
    let first = setting("PORTCULLIS_SEED", 0);
    let (context, limits, now) = (Context::new(), Limits::default(), instant(NOW));
    let mut listed = 0;
    for seed in first..first + setting("PORTCULLIS_LISTS", 40) {
        let World { real, changes } = &world(seed);
        for (kind, permission) in members(real) {
            for text in subjects() {
                let subject: Subject = text.parse().unwrap();
                let question = ResourcesQuestion {
                    subject: subject.as_ref(),
                    permission: &permission,
                    kind: &kind,
                    context: &context,
                    within: None,
                };
                let list = ResourceList::new(real.facts(), question, now, &limits, None);
                let mut list = list.unwrap();
                let have: BTreeSet<_> = rows(|| list.step().unwrap())
                    .into_iter()
                    .map(|row| row.item)
                    .collect();
                let want: BTreeSet<_> = (objects(&kind).into_iter())
                    .filter(|one| decision(real, &text, &permission, one) == Decision::Allowed)
                    .collect();
                listed += want.len();
                assert_eq!(
                    have, want,
                    "seed {seed}: {text} {permission} {kind}\n{changes:#?}"
                );
            }
            for resource in objects(&kind) {
                let object: Object = resource.parse().unwrap();
                for (of, relation) in [("user", None), ("team", Some("member"))] {
                    let question = SubjectsQuestion {
                        resource: object.as_ref(),
                        permission: &permission,
                        kind: of,
                        relation,
                        context: &context,
                    };
                    let list = SubjectList::new(real.facts(), question, now, &limits, None);
                    let mut list = list.unwrap();
                    let have = rows(|| list.step().unwrap());
                    let all = have.iter().find(|row| row.item == "user:*");
                    for one in objects(of) {
                        let one = relation.map_or(one.clone(), |name| format!("{one}#{name}"));
                        let named = have.iter().any(|row| row.item == one);
                        let stands = all.is_some_and(|all| !all.except.contains(&one));
                        let want = decision(real, &one, &permission, &resource);
                        assert_eq!(
                            named || stands,
                            want == Decision::Allowed,
                            "seed {seed}: {one} {permission} {resource}: {have:?}\n{changes:#?}"
                        );
                    }
                }
            }
        }
    }
    assert!(listed > 0);
}

#[test]
fn explanations_hold_under_locks_and_roles() {
    let first = setting("PORTCULLIS_SEED", 0);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + setting("PORTCULLIS_LISTS", 40) {
        let World { real, changes } = &world(seed);
        for (kind, permission) in members(real) {
            for subject in ["user:u0", "user:new", "team:t0#member"] {
                let resource = &objects(&kind)[0];
                let told = format!("seed {seed}: {subject} {permission} {resource}\n{changes:#?}");
                let said = ask(subject, &permission, resource, |question| {
                    explain(real.facts(), question, instant(NOW), &Limits::default()).unwrap()
                });
                let want = decision(real, subject, &permission, resource);
                assert_eq!(
                    (said.answer.decision, said.root.result),
                    (want, want),
                    "{told}"
                );
                let (kind, change) = match said.suggestion {
                    None => continue,
                    Some(Suggestion::Grant(tuple)) => ("grant", Change::Granted(tuple)),
                    Some(Suggestion::Revoke(tuple)) => ("revoke", Change::Revoked(tuple)),
                    Some(Suggestion::Unlock(id)) => {
                        let lock = real.state.locks.get(&id).unwrap().clone();
                        ("unlock", Change::Unlocked(lock))
                    }
                    Some(Suggestion::Assign {
                        role,
                        subject,
                        resource,
                    }) => {
                        let relation = role.replacen(':', "=", 1);
                        let tuple = format!("{resource}#{relation}@{subject}");
                        ("assign", Change::Granted(tuple.parse().unwrap()))
                    }
                };
                let mut then = Real::of(SCHEMA, &[]);
                for earlier in changes {
                    then.apply(std::slice::from_ref(earlier));
                }
                then.apply(&[change]);
                let then = decision(&then, subject, &permission, resource);
                assert_eq!(then, Decision::Allowed, "{kind}\n{told}");
                *counts.entry(kind).or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    for kind in ["grant", "unlock", "assign"] {
        assert!(counts.contains_key(kind), "no {kind}: {counts:?}");
    }
}
