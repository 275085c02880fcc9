//! Rules on writes of tuples.

use portcullis::engine::Engine;
use portcullis::plan::{Action, Command};
use portcullis::revision::Consistency::Newest;

use crate::world::{TestClock, command, filter, schema, store, stored, write};

const ORGANIZATIONS: &str = "use expiration
caveat odd(n int) { n % 2 == 1 }
definition user {}
definition team {
    relation member: user | team#member    granted by member
    relation lead: user
}
definition organization {
    relation owner: user | team#member | user with odd | user with expiration
        min 1  granted by own
    relation admin: user | team#member     granted by own
    relation member: user | user:*         granted by administer
    relation suspended: user               granted by administer
    relation auditor: user                 granted by administer  revoked by own
    permission own = owner
    permission administer = (owner + admin) - suspended
    permission belong = administer + member
}
definition application {
    relation organization: organization
        granted by organization->administer  revoked by organization->own
    relation developer: user | team#member | user:*
        granted by organization->administer  requires organization->belong
    relation reader: user                    granted by belongs
    relation note: user
    relation tip: user                       revoked by organization->own
    permission belongs = organization->belong
    permission every = organization.all(belong)
}
definition folder {
    relation parent: folder     granted by edit
    relation editor: user       granted by edit
    permission edit = editor + parent->edit
}";

pub(crate) async fn engine(text: &str) -> Engine {
    let clock = TestClock::at(1_000);
    let engine = Engine::open(Box::new(store()), clock.options()).unwrap();
    engine.write(schema(text), None).await.unwrap();
    engine
}

pub(crate) fn by(actor: &str, mut command: Command) -> Command {
    command.options.actor = (!actor.is_empty()).then(|| actor.parse().unwrap());
    command
}

/// What comes of a command: `granted/revoked`, or the refusal. A dry run has to say the same.
pub(crate) async fn outcome(engine: &Engine, command: Command) -> String {
    let mut dry = command.clone();
    dry.options.dry_run = true;
    let tried = engine.write(dry, None).await;
    let done = engine.write(command, None).await;
    let text = |outcome: Result<portcullis::engine::Written, _>| match outcome {
        Ok(portcullis::engine::Written {
            lock: Some(lock), ..
        }) => {
            let end = lock
                .expires_at
                .map_or("ever".to_owned(), |end| end.to_string());
            format!("{} #{} until {end}", lock.id, lock.fencing_token)
        }
        Ok(portcullis::engine::Written {
            role: Some(role), ..
        }) => {
            format!(
                "{} {:?} {}",
                role.record.role,
                &*role.record.title,
                role.record.permissions.join(" ")
            )
        }
        Ok(written) => format!("{}/{}", written.granted, written.revoked),
        Err(error) => format!("{error}"),
    };
    let (tried, done) = (text(tried), text(done));
    assert_eq!(tried, done, "a dry run judges the same");
    done
}

/// A world, and writes on top of it one after the other: who, what, and what is in the outcome.
async fn check(world: &[&str], writes: &[(&str, &[&str], &str)]) {
    let engine = engine(ORGANIZATIONS).await;
    let world: Vec<String> = world.iter().map(|tuple| format!("+{tuple}")).collect();
    let world: Vec<&str> = world.iter().map(String::as_str).collect();
    let built = outcome(&engine, write(&world)).await;
    assert_eq!(built, format!("{}/0", world.len()));
    for (actor, parts, expected) in writes {
        let outcome = outcome(&engine, by(actor, write(parts))).await;
        assert!(
            outcome.contains(expected),
            "{actor} {parts:?}: {outcome}\n  expected {expected}"
        );
    }
}

const ACME: &[&str] = &[
    "organization:acme#owner@user:alice",
    "organization:acme#admin@user:adam",
    "organization:acme#member@user:mia",
    "organization:evil#owner@user:eve",
    "application:shop#organization@organization:acme",
];

#[tokio::test]
async fn who_may_grant_and_revoke() {
    check(
        ACME,
        &[
            ("user:alice", &["+organization:acme#owner@user:bob"], "1/0"),
            (
                "user:adam",
                &["+organization:acme#owner@user:adam"],
                "user:adam may not grant organization:acme#owner@user:adam: `owner (granted by)` \
                 needs `own` on organization:acme; user:alice and user:bob have that",
            ),
            (
                "user:adam",
                &["-organization:acme#owner@user:alice"],
                "user:adam may not revoke",
            ),
            ("user:adam", &["+organization:acme#member@user:new"], "1/0"),
            ("user:adam", &["-organization:acme#member@user:new"], "0/1"),
            // One update without right and nothing is written.
            (
                "user:adam",
                &[
                    "+organization:acme#member@user:x",
                    "+organization:acme#admin@user:x",
                ],
                "needs `own`",
            ),
            (
                "",
                &[
                    "?!organization:acme#suspended",
                    "-organization:acme#member@user:x",
                ],
                "0/0",
            ),
            // `revoked by` stands beside `granted by`: it alone judges revocations.
            ("user:adam", &["+organization:acme#auditor@user:mia"], "1/0"),
            (
                "user:adam",
                &["-organization:acme#auditor@user:mia"],
                "`auditor (revoked by)` needs `own`",
            ),
            (
                "user:alice",
                &["-organization:acme#auditor@user:mia"],
                "0/1",
            ),
            // Without `granted by` only trusted callers write.
            (
                "user:alice",
                &["+application:shop#note@user:alice"],
                "the schema says nobody by whom `note` of application is granted",
            ),
            ("", &["+application:shop#note@user:alice"], "1/0"),
            // Nor do others revoke it, whatever `revoked by` says.
            ("", &["+application:shop#tip@user:alice"], "1/0"),
            (
                "user:alice",
                &["-application:shop#tip@user:alice"],
                "the schema says nobody by whom `tip` of application is granted",
            ),
            // Nobody hangs from somebody else's word: an unknown actor, and one of a wrong type.
            (
                "user:nobody",
                &["+organization:acme#member@user:x"],
                "user:nobody may not grant",
            ),
            (
                "team:core",
                &["+organization:acme#member@user:x"],
                "team:core may not grant",
            ),
            (
                "usr:alice",
                &["+organization:acme#member@user:x"],
                "did you mean \"user\"?",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn who_has_no_right_learns_nothing_else() {
    let engine = engine(ORGANIZATIONS).await;
    for tuple in ACME {
        outcome(&engine, write(&[&format!("+{tuple}")])).await;
    }
    let refused = async |parts: &[&str]| outcome(&engine, by("user:eve", write(parts))).await;
    // Whether it stands or not, whatever the preconditions, requirements and minimums say.
    for parts in [
        &["/organization:acme#owner@user:alice"][..],
        &["/organization:acme#owner@user:nobody"],
        &["!organization:acme#owner@user:alice"],
        &["-organization:acme#owner@user:alice"],
        &[
            "?organization:acme#nobody",
            "+organization:acme#owner@user:eve",
        ],
        &[
            "?organization:acme#suspended",
            "+organization:acme#owner@user:eve",
        ],
        &[
            "?!organization:acme#owner",
            "+organization:acme#owner@user:eve",
        ],
        &["+application:shop#developer@user:stranger"],
        &["+application:shop#developer@user:mia"],
        // Right for one, not for the other, in whichever order.
        &[
            "!organization:evil#owner@user:eve",
            "+organization:acme#owner@user:eve",
        ],
    ] {
        let outcome = refused(parts).await;
        let well_formed = !parts.contains(&"?organization:acme#nobody");
        assert_eq!(
            outcome.contains("may not"),
            well_formed,
            "{parts:?}: {outcome}"
        );
    }
}

#[tokio::test]
async fn a_new_resource_is_its_creators() {
    check(
        ACME,
        &[
            ("user:bob", &["+organization:new#owner@user:bob"], "1/0"),
            // Taken once it stands.
            (
                "user:eve",
                &["+organization:new#owner@user:eve"],
                "may not grant",
            ),
            // Whoever creates it, and nobody for somebody else.
            (
                "user:bob",
                &["+organization:other#owner@user:eve"],
                "may not grant",
            ),
            (
                "user:bob",
                &[
                    "+organization:both#owner@user:bob",
                    "+organization:both#admin@user:eve",
                ],
                "2/0",
            ),
            // Named within a subject, it is no longer new.
            ("", &["+team:core#member@user:bob"], "1/0"),
            (
                "user:eve",
                &["+organization:acme#admin@team:core#member"],
                "may not grant",
            ),
            ("user:eve", &["+team:core#member@user:eve"], "may not grant"),
            ("user:eve", &["+team:fresh#member@user:eve"], "1/0"),
            // A revoked one is new again: nothing of it is left.
            ("user:eve", &["-team:fresh#member@user:eve"], "0/1"),
            ("user:bob", &["+team:fresh#member@user:bob"], "1/0"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_child_hangs_only_under_a_parent_that_lets_it() {
    check(
        ACME,
        &[
            // Of a new resource, each parent is asked for itself.
            ("user:adam", &["+application:a#organization@organization:acme"], "1/0"),
            (
                "user:eve",
                &["+application:b#organization@organization:acme"],
                "needs `organization->administer` on application:b by way of organization:acme alone; \
                 user:adam and user:alice have that",
            ),
            (
                "user:eve",
                &[
                    "+application:b#organization@organization:evil",
                    "+application:b#organization@organization:acme",
                ],
                "by way of organization:acme alone",
            ),
            ("user:eve", &["+application:b#organization@organization:evil"], "1/0"),
            // Of one that stands, as things stand and by way of the parent alone.
            (
                "user:eve",
                &["+application:b#organization@organization:acme"],
                "by way of organization:acme alone",
            ),
            (
                "user:eve",
                &["+application:shop#organization@organization:evil"],
                "needs `organization->administer` on application:shop; ",
            ),
            // Nobody takes away what hangs under somebody else's.
            ("", &["+application:b#organization@organization:acme"], "1/0"),
            ("user:eve", &["-application:b#organization@organization:acme"], "alone"),
            ("user:adam", &["-application:b#organization@organization:acme"], "needs `organization->own`"),
            ("user:alice", &["-application:b#organization@organization:acme"], "0/1"),
            // Through permissions of the same object, and recursion.
            ("user:eve", &["+folder:mine#editor@user:eve"], "1/0"),
            ("user:mia", &["+folder:root#editor@user:mia"], "1/0"),
            ("user:mia", &["+folder:below#parent@folder:root"], "1/0"),
            ("user:mia", &["+folder:deep#parent@folder:below"], "1/0"),
            ("user:eve", &["+folder:low#parent@folder:below"], "by way of folder:below alone; user:mia has that"),
            ("user:eve", &["+folder:low#parent@folder:mine"], "1/0"),
            ("user:eve", &["+folder:low#parent@folder:below"], "by way of folder:below alone"),
            ("user:mia", &["+folder:low#parent@folder:root"], "needs `edit` on folder:low; user:eve has that"),
            ("user:eve", &["-folder:deep#parent@folder:below"], "may not revoke"),
            // Whoever has the rule on the child itself needs no parent: the schema says so.
            ("user:eve", &["+folder:mine#parent@folder:root"], "1/0"),
            // Not by itself: a cycle gives nothing.
            ("user:eve", &["+folder:loop#parent@folder:loop"], "may not grant"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_ones_own_may_be_given_up() {
    check(
        ACME,
        &[
            ("user:mia", &["-organization:acme#member@user:mia"], "0/1"),
            ("user:mia", &["-organization:acme#member@user:mia"], "0/0"),
            (
                "user:mia",
                &["-organization:acme#member@user:adam"],
                "may not revoke",
            ),
            // A ban is not lifted by the banned.
            (
                "user:alice",
                &["+organization:acme#suspended@user:adam"],
                "1/0",
            ),
            (
                "user:adam",
                &["-organization:acme#suspended@user:adam"],
                "may not revoke",
            ),
            // Not where nobody grants it, and not as a replacement.
            ("", &["+application:shop#note@user:mia"], "1/0"),
            (
                "user:mia",
                &["-application:shop#note@user:mia"],
                "may not revoke",
            ),
            // Not of a set that one is in.
            (
                "",
                &[
                    "+team:core#member@user:adam",
                    "+organization:acme#admin@team:core#member",
                ],
                "2/0",
            ),
            (
                "user:adam",
                &["-organization:acme#admin@team:core#member"],
                "may not revoke",
            ),
            ("user:adam", &["-organization:acme#admin@user:adam"], "0/1"),
            // The minimum holds for oneself too.
            (
                "user:alice",
                &["-organization:acme#owner@user:alice"],
                "`min 1`",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_subject_needs_what_is_required_after_the_commit() {
    let developer = "+application:shop#developer@user:new";
    check(
        ACME,
        &[
            (
                "user:adam",
                &[developer],
                "application:shop#developer@user:new: `requires organization->belong` is not met: \
                 user:new does not have it on application:shop",
            ),
            // Trusted callers too.
            ("", &[developer], "is not met"),
            (
                "user:adam",
                &["+organization:acme#member@user:new", developer],
                "2/0",
            ),
            // It judges what is granted: not what stands, nor what goes.
            ("user:adam", &["-organization:acme#member@user:new"], "0/1"),
            ("user:adam", &[developer], "1/0"),
            (
                "user:adam",
                &["-application:shop#developer@user:new"],
                "0/1",
            ),
            ("user:adam", &[developer], "is not met"),
            // Not with what the same commit takes away.
            (
                "user:adam",
                &[
                    "+application:shop#developer@user:mia",
                    "-organization:acme#member@user:mia",
                ],
                "is not met",
            ),
            // A set is asked as itself, and so is everybody.
            ("", &["+team:core#member@user:mia"], "1/0"),
            (
                "",
                &["+application:shop#developer@team:core#member"],
                "team:core#member does not have it",
            ),
            ("", &["+organization:acme#admin@team:core#member"], "1/0"),
            ("", &["+application:shop#developer@team:core#member"], "1/0"),
            (
                "",
                &["+application:shop#developer@user:*"],
                "user:* does not have it",
            ),
            (
                "",
                &[
                    "+organization:acme#member@user:*",
                    "+application:shop#developer@user:*",
                ],
                "2/0",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_last_one_stays() {
    let odd = "+organization:acme#owner@user:alice[odd]";
    let ends = "+organization:acme#owner@user:alice[expiration:2040-01-01T00:00:00Z]";
    check(
        ACME,
        &[
            (
                "",
                &["-organization:acme#owner@user:alice"],
                "organization:acme#owner has `min 1` and would be left with 0",
            ),
            ("user:alice", &[odd], "`min 1`"),
            ("user:alice", &[ends], "`min 1`"),
            // Sets, caveats and expiries do not count.
            (
                "",
                &[
                    "+team:core#member@user:bob",
                    "+organization:acme#owner@team:core#member",
                ],
                "2/0",
            ),
            ("", &["+organization:acme#owner@user:bob[odd]"], "1/0"),
            ("", &["-organization:acme#owner@user:alice"], "`min 1`"),
            (
                "",
                &[
                    "+organization:acme#owner@user:bob",
                    "-organization:acme#owner@user:alice",
                ],
                "1/1",
            ),
            ("", &["+organization:acme#owner@user:alice"], "1/0"),
            (
                "",
                &[
                    "-organization:acme#owner@user:bob",
                    "-organization:acme#owner@user:alice",
                ],
                "left with 0",
            ),
            ("user:alice", &["-organization:acme#owner@user:bob"], "0/1"),
            // Below it from the start is no reason to refuse what raises the count or leaves it.
            ("", &["+organization:low#admin@user:x"], "1/0"),
            ("", &["-organization:low#owner@user:x"], "0/0"),
        ],
    )
    .await;
}

#[tokio::test]
async fn by_filter_each_tuple_needs_its_right_and_the_last_goes_with_its_resource() {
    let engine = engine(ORGANIZATIONS).await;
    let world: Vec<String> = ACME.iter().map(|tuple| format!("+{tuple}")).collect();
    outcome(
        &engine,
        write(&world.iter().map(String::as_str).collect::<Vec<_>>()),
    )
    .await;
    let revoke = async |actor: &str, text: &str, limit| {
        let filter = filter(text);
        outcome(
            &engine,
            by(actor, command(Action::RevokeMatching { filter, limit })),
        )
        .await
    };
    let check = |outcome: String, expected: &str| assert!(outcome.contains(expected), "{outcome}");
    check(
        revoke("user:adam", "organization:acme", 0).await,
        "may not revoke",
    );
    // The right is judged before the limit.
    check(
        revoke("user:adam", "organization:acme", 1).await,
        "may not revoke",
    );
    check(
        revoke("user:alice", "organization:acme", 1).await,
        "more than 1 tuples",
    );
    check(
        revoke("user:alice", "organization:acme#owner", 0).await,
        "`min 1`",
    );
    check(revoke("", "organization:acme#owner", 0).await, "`min 1`");
    check(revoke("", "organization:", 0).await, "`min 1`");
    check(revoke("user:alice", "organization:acme", 0).await, "0/3");
    assert_eq!(
        stored(&engine, Newest).await,
        [
            "application:shop#organization@organization:acme",
            "organization:evil#owner@user:eve"
        ]
    );
}

#[tokio::test]
async fn a_condition_is_no_right() {
    check(
        ACME,
        &[
            ("", &["+organization:acme#owner@user:cara[odd]"], "1/0"),
            (
                "user:cara",
                &["+organization:acme#admin@user:x"],
                "may not grant",
            ),
            (
                "",
                &["+organization:acme#owner@user:dan[odd:{\"n\":3}]"],
                "1/0",
            ),
            ("user:dan", &["+organization:acme#admin@user:x"], "1/0"),
            (
                "",
                &["+organization:acme#owner@user:ed[expiration:1970-01-01T00:00:01Z]"],
                "1/0",
            ),
            (
                "user:ed",
                &["+organization:acme#admin@user:y"],
                "may not grant",
            ),
            // An expired tuple still says that the resource is not new.
            (
                "",
                &["+organization:old#owner@user:ed[expiration:1970-01-01T00:00:01Z]"],
                "1/0",
            ),
        ],
    )
    .await;
}
