//! Locks and run-time roles by hand: each case with the attack or the mistake that it stands for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod oracle;
mod real;

use portcullis::eval::{Answer, CheckError, Decision};
use portcullis::state::Change;
use real::Real;

/// The instant of all questions, in seconds since 1970.
const NOW: i64 = 1_000_000;

/// `allowed`, `denied`, `locked l1,l2`, `needs a`, or the error.
fn word(said: &Result<Answer, CheckError>) -> String {
    match said {
        Ok(answer) => {
            let locks: Vec<&str> = answer.locks.iter().map(|lock| &*lock.id).collect();
            match answer.decision {
                Decision::Allowed => "allowed".to_owned(),
                Decision::Denied if locks.is_empty() => "denied".to_owned(),
                Decision::Denied => format!("locked {}", locks.join(",")),
                Decision::Conditional => format!("needs {}", answer.missing_context.join(",")),
            }
        }
        Err(problem) => problem.to_string(),
    }
}

/// A tuple, `lock …` or a role `role …`; with `-` before it, its end.
fn change(text: &str, real: &Real) -> Change {
    let (gone, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (word, rest) = text.split_once(' ').unwrap_or(("", text));
    match (word, gone) {
        ("lock", false) => real::lock(rest),
        ("lock", true) => Change::Unlocked(real.state.locks.get(rest).unwrap().clone()),
        ("role", false) => real::role(rest),
        ("role", true) => Change::RoleDeleted(rest.parse().unwrap()),
        (_, false) => Change::Granted(text.parse().unwrap()),
        (_, true) => Change::Revoked(text.parse().unwrap()),
    }
}

struct Story {
    schema: &'static str,
    /// What stands.
    given: &'static [&'static str],
    /// In this order: `+ …` a commit, `= question: answer`.
    steps: &'static [&'static str],
}

/// Every answer is as it says, and whatever a commit changes, the keys of the answer had said.
fn tell(name: &str, story: &Story) {
    let mut real = Real::of(story.schema, &[]);
    for text in story.given {
        let change = change(text, &real);
        real.apply(&[change]);
    }
    let asked: Vec<(&str, &str)> = (story.steps.iter())
        .filter_map(|step| step.strip_prefix("= "))
        .map(|step| step.split_once(": ").unwrap())
        .collect();
    let ask = |real: &Real, question: &str| {
        let (question, at) = question.split_once(" at ").unwrap_or((question, ""));
        real.say(question, "{}", at.parse().unwrap_or(NOW))
    };
    for (place, step) in story.steps.iter().enumerate() {
        if let Some(commit) = step.strip_prefix("+ ") {
            let before: Vec<_> = asked
                .iter()
                .map(|(question, _)| ask(&real, question))
                .collect();
            let change = change(commit, &real);
            let keys = real.keys(std::slice::from_ref(&change)).unwrap();
            real.apply(&[change]);
            for ((question, _), before) in asked.iter().zip(before) {
                let after = ask(&real, question);
                let Ok(old) = &before else { continue };
                let met = old.dependencies.iter().any(|key| keys.contains(key));
                assert!(
                    met || word(&before) == word(&after),
                    "{name}, step {place}: {question} did not rest on {commit}"
                );
            }
            continue;
        }
        let (question, expected) = step.strip_prefix("= ").unwrap().split_once(": ").unwrap();
        let said = ask(&real, question);
        assert_eq!(word(&said), expected, "{name}, step {place}: {question}");
    }
}

const FREEZE: &str = "
definition user {}
definition team { relation member: user | team#member }
definition org { relation admin: user }
definition app {
    relation org: org
    relation parent: app
    relation developer: user | user:* | team#member
    relation banned: user
    permission administer = org->admin
    permission deploy = developer + administer
    permission calm = developer - deploy
    permission view = deploy + parent->view
    permission ship = developer & view
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

const LOCKS: &[(&str, Story)] = &[
    (
        "a developer waits, an admin does not",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#org@org:o",
                "org:o#admin@user:ann",
                "app:a#developer@user:dev",
            ],
            steps: &[
                "= app:a#deploy@user:dev: allowed",
                "= app:a#deploy@user:ann: allowed",
                "= app:a#deploy@user:zed: denied",
                "+ lock l1 freeze app:a",
                "= app:a#deploy@user:dev: locked l1",
                "= app:a#deploy@user:ann: allowed",
                "= app:a#deploy@user:zed: denied",
                "+ org:o#admin@user:dev",
                "= app:a#deploy@user:dev: allowed",
                "+ -lock l1",
                "= app:a#deploy@user:dev: allowed",
            ],
        },
    ),
    (
        "the right side of a minus has no locks: a lock must give nobody anything",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#developer@user:dev",
                "env:e#app@app:a",
                "env:e#guest@user:dev",
            ],
            steps: &[
                "= app:a#calm@user:dev: denied",
                "= env:e#debug@user:dev: allowed",
                "+ lock l1 freeze app:a",
                "= app:a#calm@user:dev: denied",
                "+ lock l2 hush app:a",
                "= app:a#calm@user:dev: denied",
            ],
        },
    ),
    (
        "a lock arrives below, over any number of levels and round a cycle",
        Story {
            schema: FREEZE,
            given: &[
                "app:c#developer@user:dev",
                "app:c#parent@app:b",
                "app:b#parent@app:a",
                "app:a#parent@app:b",
                "env:e#app@app:c",
            ],
            steps: &[
                "= env:e#deploy@user:dev: allowed",
                "+ lock l1 freeze app:a",
                "= app:c#deploy@user:dev: locked l1",
                "= env:e#deploy@user:dev: locked l1",
                "+ -app:c#parent@app:b",
                "= app:c#deploy@user:dev: allowed",
                "+ app:c#parent@app:a",
                "= app:c#deploy@user:dev: locked l1",
            ],
        },
    ),
    (
        "locks stack: each has to be passed",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#developer@user:dev",
                "app:a#developer@team:t#member",
                "team:t#member@user:tim",
            ],
            steps: &[
                "+ lock l1 freeze app:a for user:dev",
                "= app:a#deploy@user:dev: allowed",
                "= app:a#deploy@user:tim: locked l1",
                "+ lock l2 freeze app:a for team:t#member",
                "= app:a#deploy@user:dev: locked l2",
                "= app:a#deploy@user:tim: locked l1",
                "+ team:t#member@user:dev",
                "= app:a#deploy@user:dev: allowed",
                "+ lock l3 hush app:a for user:*",
                "= app:a#deploy@user:dev: allowed",
                "+ lock l4 hush app:a for user:tim",
                "= app:a#deploy@user:dev: locked l4",
                "= app:a#developer@user:dev: locked l4",
            ],
        },
    ),
    (
        "all of one type are not all of another",
        Story {
            schema: FREEZE,
            given: &["app:a#developer@user:dev"],
            steps: &[
                "= app:a#deploy@user:dev: allowed",
                "+ lock l1 freeze app:a for team:*",
                "= app:a#deploy@user:dev: locked l1",
            ],
        },
    ),
    (
        "a lock never decides about itself: what it lets pass is seen without locks",
        Story {
            schema: "definition user {}
                     definition app {
                         relation lead: user
                         permission run = lead
                         permission chief = lead
                         lock hold { blocks *  except chief }
                     }",
            given: &["app:a#lead@user:lea"],
            steps: &[
                "= app:a#run@user:lea: allowed",
                "+ lock l1 hold app:a",
                "= app:a#run@user:lea: allowed",
                "= app:a#chief@user:lea: allowed",
                "= app:a#lead@user:lea: allowed",
                "+ lock l2 hold app:a for user:eve",
                "= app:a#run@user:lea: allowed",
            ],
        },
    ),
    (
        "an exempt group that nobody has ever named can get members later",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#developer@user:dev",
                "lock l1 freeze app:a for team:new#member",
            ],
            steps: &[
                "= app:a#deploy@user:dev: locked l1",
                "= app:a#deploy@team:new#member: denied",
                "+ team:new#member@user:dev",
                "= app:a#deploy@user:dev: allowed",
                "+ app:a#developer@team:new#member",
                "= app:a#deploy@team:new#member: allowed",
            ],
        },
    ),
    (
        "the blocked value is what others see: permissions, arrows both ways, subject sets",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#developer@user:dev",
                "app:b#parent@app:a",
                "app:b#developer@user:dev",
                "doc:d#reader@app:a#deploy",
                "env:e#app@app:a",
            ],
            steps: &[
                "= app:a#view@user:dev: allowed",
                "= doc:d#read@user:dev: allowed",
                "+ lock l1 freeze app:a",
                "= app:a#view@user:dev: locked l1",
                "= app:b#view@user:dev: locked l1",
                "= app:b#ship@user:dev: locked l1",
                "= doc:d#read@user:dev: locked l1",
                "= env:e#deploy@user:dev: locked l1",
                "+ doc:d#reader@user:dev",
                "= doc:d#read@user:dev: allowed",
            ],
        },
    ),
    (
        "a subject set keeps what it is a member of by itself, and a wildcard asks for all",
        Story {
            schema: FREEZE,
            given: &["app:a#developer@user:*", "app:a#developer@team:t#member"],
            steps: &[
                "= app:a#deploy@user:*: allowed",
                "+ lock l1 freeze app:a for user:dev",
                "= app:a#deploy@user:*: locked l1",
                "= app:a#deploy@user:dev: allowed",
                "= app:a#deploy@user:new: locked l1",
                "= app:a#deploy@team:t#member: locked l1",
                "+ lock l2 freeze app:a for user:*,team:t#member",
                "= app:a#deploy@team:t#member: locked l1",
                "+ -lock l1",
                "= app:a#deploy@user:*: allowed",
                "= app:a#deploy@team:t#member: allowed",
            ],
        },
    ),
    (
        "a lock ends to the instant",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#developer@user:dev",
                "lock l1 freeze app:a until 1000005",
            ],
            steps: &[
                "= app:a#deploy@user:dev at 1000004: locked l1",
                "= app:a#deploy@user:dev at 1000005: allowed",
            ],
        },
    ),
    (
        "a lock elsewhere, or of another mode, is none here",
        Story {
            schema: FREEZE,
            given: &[
                "app:a#developer@user:dev",
                "app:b#parent@app:a",
                "lock l1 freeze app:b",
                "lock l2 hush app:b",
            ],
            steps: &[
                "= app:a#deploy@user:dev: allowed",
                "= app:a#view@user:dev: allowed",
            ],
        },
    ),
    (
        "only the locks that matter are named: not those on a branch that grants nothing",
        Story {
            schema: FREEZE,
            given: &[
                "env:e#app@app:a",
                "env:e#guest@user:gus",
                "lock l1 freeze app:a",
                "lock l2 freeze env:e",
            ],
            steps: &[
                "= env:e#deploy@user:gus: locked l1,l2",
                "+ -env:e#app@app:a",
                "= env:e#deploy@user:gus: locked l2",
                "= env:e#deploy@user:zed: denied",
            ],
        },
    ),
];

#[test]
fn locks() {
    for (name, story) in LOCKS {
        tell(name, story);
    }
}

const WIDE: &str = "
definition user {}
definition team {
    relation member: user | team#member
    lock hush { blocks member }
}
definition doc {
    relation reader: user | team#member
    permission read = reader
    permission unread = reader - reader
}
";

const WIDE_STORIES: &[(&str, Story)] = &[(
    "what a search from the subject's side is sure of is still blocked by a lock on the way",
    Story {
        schema: WIDE,
        given: &[
            "doc:d#reader@team:t0#member",
            "doc:d#reader@team:t1#member",
            "doc:d#reader@team:t2#member",
            "doc:d#reader@team:t3#member",
            "doc:d#reader@team:t4#member",
            "doc:d#reader@team:t5#member",
            "team:t5#member@team:u#member",
            "team:u#member@user:dev",
        ],
        steps: &[
            "= doc:d#read@user:dev: allowed",
            "= doc:d#unread@user:dev: denied",
            "+ lock l0 hush team:t1",
            "= doc:d#read@user:dev: allowed",
            "+ lock l1 hush team:u",
            "= doc:d#read@user:dev: locked l1",
            "= doc:d#unread@user:dev: denied",
            "+ team:t4#member@user:dev",
            "= doc:d#read@user:dev: allowed",
            "+ lock l2 hush team:t4",
            "= doc:d#read@user:dev: locked l1,l2",
        ],
    },
)];

#[test]
fn locks_behind_long_lists() {
    for (name, story) in WIDE_STORIES {
        tell(name, story);
    }
}

const ROLES: &str = "
definition user {}
definition team { relation member: user }
definition org {
    relation owner: user
    permission create = owner + any role
    permission belong = owner + some role
    permission own = owner + role admin
    permission view = belong + app.org<-view
    assigns role
}
definition app {
    relation org: org
    permission deploy = any role
    permission view = deploy + any role
    permission rare = org->own + (any role & org->belong)
    permission kept = org->owner - any role
    assigns role inherits org
}
definition env {
    relation app: app
    permission deploy = app->deploy + any role
    assigns role inherits app
    lock freeze { blocks deploy except role admin inherits app }
}
roles role of org {
    held by user | team#member | user:*
    builtin admin includes *
    builtin member includes org.create
}
";

const ROLE_STORIES: &[(&str, Story)] = &[
    (
        "a role gives what it includes, where it is assigned and below",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "env:e#app@app:a",
                "role role:o/dep app.deploy",
            ],
            steps: &[
                "= app:a#deploy@user:dan: denied",
                "+ app:a#role=o/dep@user:dan",
                "= app:a#deploy@user:dan: allowed",
                "= app:a#view@user:dan: allowed",
                "= env:e#deploy@user:dan: allowed",
                "= org:o#create@user:dan: denied",
                "= org:o#belong@user:dan: denied",
                "= org:o#view@user:dan: allowed",
                "+ -app:a#role=o/dep@user:dan",
                "= app:a#deploy@user:dan: denied",
                "+ org:o#role=o/dep@team:t#member",
                "+ team:t#member@user:dan",
                "= app:a#deploy@user:dan: allowed",
                "= env:e#deploy@user:dan: allowed",
                "= org:o#belong@user:dan: allowed",
            ],
        },
    ),
    (
        "an edit is in force for whoever holds it, a deletion too",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "role role:o/dep app.view",
                "org:o#role=o/dep@user:dan",
            ],
            steps: &[
                "= app:a#deploy@user:dan: denied",
                "+ role role:o/dep app.deploy,app.view",
                "= app:a#deploy@user:dan: allowed",
                "+ role role:o/dep app.rare",
                "= app:a#deploy@user:dan: denied",
                "= app:a#rare@user:dan: allowed",
                "+ -role role:o/dep",
                "= app:a#rare@user:dan: denied",
            ],
        },
    ),
    (
        "a role counts only below its owner: after a move the old owner's is without force",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "role role:o/dep app.deploy",
                "app:a#role=o/dep@user:dan",
            ],
            steps: &[
                "= app:a#deploy@user:dan: allowed",
                "+ app:a#org@org:p",
                "= app:a#deploy@user:dan: allowed",
                "+ -app:a#org@org:o",
                "= app:a#deploy@user:dan: denied",
                "+ app:a#role=p/dep@user:dan",
                "+ role role:p/dep app.deploy",
                "= app:a#deploy@user:dan: allowed",
            ],
        },
    ),
    (
        "a role of somebody else's organization gives nothing",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "org:o#role=evil/admin@user:eve",
                "app:a#role=evil/admin@user:eve",
            ],
            steps: &[
                "= app:a#deploy@user:eve: denied",
                "= org:o#own@user:eve: denied",
                "= org:o#belong@user:eve: denied",
            ],
        },
    ),
    (
        "built-in roles are there without a call, and change once edited",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "org:o#role=o/admin@user:ann",
                "org:o#role=o/member@user:mo",
            ],
            steps: &[
                "= app:a#deploy@user:ann: allowed",
                "= org:o#own@user:ann: allowed",
                "= org:o#own@user:mo: denied",
                "= org:o#create@user:mo: allowed",
                "+ role role:o/member app.deploy",
                "= org:o#create@user:mo: denied",
                "= app:a#deploy@user:mo: allowed",
                "+ role role:o/admin app.deploy",
                "= org:o#create@user:ann: allowed",
            ],
        },
    ),
    (
        "an assignment ends, and on the right of a minus it takes away",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "org:o#owner@user:ow",
                "role role:o/k app.kept",
                "app:a#role=o/k@user:ow[expiration:1970-01-12T13:46:45Z]",
            ],
            steps: &[
                "= app:a#kept@user:ow at 1000004: denied",
                "= app:a#kept@user:ow at 1000005: allowed",
            ],
        },
    ),
    (
        "everybody may hold a role, and all of them are asked for by the wildcard",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "role role:o/dep app.deploy",
                "app:a#role=o/dep@user:*",
            ],
            steps: &[
                "= app:a#deploy@user:new: allowed",
                "= app:a#deploy@user:*: allowed",
                "= app:a#deploy@team:t#member: denied",
            ],
        },
    ),
    (
        "locks and roles together: the exception is a role",
        Story {
            schema: ROLES,
            given: &[
                "app:a#org@org:o",
                "env:e#app@app:a",
                "role role:o/dep app.deploy",
                "org:o#role=o/dep@user:dan",
                "org:o#role=o/admin@user:ann",
                "lock l1 freeze env:e",
            ],
            steps: &[
                "= env:e#deploy@user:dan: locked l1",
                "= env:e#deploy@user:ann: allowed",
                "+ -org:o#role=o/admin@user:ann",
                "= env:e#deploy@user:ann: denied",
                "+ org:o#role=o/admin@user:dan",
                "= env:e#deploy@user:dan: allowed",
            ],
        },
    ),
];

#[test]
fn roles() {
    for (name, story) in ROLE_STORIES {
        tell(name, story);
    }
}

#[test]
fn a_denial_by_a_lock_reads_well() {
    let mut real = Real::of(FREEZE, &["app:a#developer@user:dev"]);
    real.apply(&[real::lock("l1 freeze app:a until 1000005")]);
    let answer = real.say("app:a#deploy@user:dev", "{}", NOW).unwrap();
    assert_eq!(
        answer.detail,
        "user:dev would have deploy on app:a, but a lock is in the way: freeze on app:a (a test), \
         until 1970-01-12T13:46:45Z"
    );
    assert_eq!(answer.valid_until, Some(real::instant(1_000_005)));
}
