//! What each command changes, or why it is refused: one table.

use portcullis::engine::{Engine, EngineError};
use portcullis::eval::{Decision, Question};
use portcullis::plan::{Action, Operation, Refusal, Update};
use portcullis::revision::Consistency::{Exactly, Newest};
use portcullis::tuple::{ObjectRef, SubjectRef};

use crate::world::{
    SCHEMA, TestClock, at, command, did, filter, keyed, open, refused, schema, store, stored, write,
};

/// Tuples before, a write, and what comes of it: `granted/revoked` or the beginning of the
/// refusal; then the tuples after.
async fn check(before: &[&str], parts: &[&str], expected: &str, after: &[&str]) {
    let engine = open(&store(), &TestClock::at(1_000)).await;
    if !before.is_empty() {
        did(&engine, before).await;
    }
    let outcome = match engine.write(write(parts), None).await {
        Ok(written) => format!("{}/{}", written.granted, written.revoked),
        Err(error) => error.to_string(),
    };
    assert!(
        outcome.starts_with(expected),
        "{parts:?}: {outcome}, not {expected}"
    );
    assert_eq!(stored(&engine, Newest).await, after, "{parts:?}");
}

#[tokio::test]
async fn a_write_changes_what_it_names_or_nothing() {
    let bob = "doc:1#viewer@user:bob";
    let eve = "doc:1#viewer@user:eve";
    let past = "doc:1#guest@user:bob[expiration:1970-01-01T00:00:01Z]";
    let later = "doc:1#guest@user:bob[expiration:2030-01-01T00:00:00Z]";
    let latest = "doc:1#guest@user:bob[expiration:2031-01-01T00:00:00Z]";
    let plus = |text: &str| format!("+{text}");
    let (grant_bob, grant_past, grant_later) = (&*plus(bob), &*plus(past), &*plus(later));

    check(&[], &[grant_bob], "1/0", &[bob]).await;
    check(&[grant_bob], &[grant_bob], "1/0", &[bob]).await;
    check(
        &[grant_bob],
        &["!doc:1#viewer@user:bob"],
        "doc:1#viewer@user:bob stands already",
        &[bob],
    )
    .await;
    check(&[], &["!doc:1#viewer@user:bob"], "1/0", &[bob]).await;
    check(&[grant_bob], &["-doc:1#viewer@user:bob"], "0/1", &[]).await;
    check(&[], &["-doc:1#viewer@user:bob"], "0/0", &[]).await;
    check(&[grant_bob], &["/doc:1#viewer@user:bob"], "0/1", &[]).await;
    check(
        &[],
        &["/doc:1#viewer@user:bob"],
        "doc:1#viewer@user:bob does not stand",
        &[],
    )
    .await;
    check(
        &[grant_bob],
        &["+doc:1#viewer@user:eve", "-doc:1#viewer@user:bob"],
        "1/1",
        &[eve],
    )
    .await;
    check(
        &[grant_bob],
        &["+doc:1#viewer@user:eve", "/doc:2#viewer@user:bob"],
        "doc:2#viewer@user:bob does not stand",
        &[bob],
    )
    .await;
    check(
        &[],
        &[grant_bob, "-doc:1#viewer@user:bob"],
        "updates 0 and 1 both name doc:1#viewer@user:bob",
        &[],
    )
    .await;
    // Replaced, and what is over counts as absent.
    check(&[grant_later], &[&plus(latest)], "1/0", &[latest]).await;
    check(&[], &[grant_past], "1/0", &[]).await;
    check(
        &[grant_past],
        &["!doc:1#guest@user:bob[expiration:2030-01-01T00:00:00Z]"],
        "1/0",
        &[later],
    )
    .await;
    check(&[grant_past], &["-doc:1#guest@user:bob"], "0/0", &[]).await;
    check(
        &[grant_past],
        &["/doc:1#guest@user:bob"],
        "doc:1#guest@user:bob does not stand",
        &[],
    )
    .await;
    check(&[grant_later], &["-doc:1#guest@user:bob"], "0/1", &[]).await;
    // Preconditions.
    check(
        &[grant_bob],
        &["?doc:1#viewer", "+doc:1#viewer@user:eve"],
        "1/0",
        &[bob, eve],
    )
    .await;
    check(
        &[],
        &["?doc:1#viewer", grant_bob],
        "precondition 0: no tuple matches",
        &[],
    )
    .await;
    check(&[], &["?!doc:1#viewer", grant_bob], "1/0", &[bob]).await;
    check(
        &[grant_bob],
        &["?!doc:1#viewer", "+doc:1#viewer@user:eve"],
        "precondition 0: doc:1#viewer@user:bob matches",
        &[bob],
    )
    .await;
    check(
        &[grant_past],
        &["?doc:1#guest", grant_bob],
        "precondition 0: no tuple",
        &[],
    )
    .await;
    check(&[], &[], "the write names no tuple", &[]).await;
}

#[tokio::test]
async fn a_tuple_that_does_not_fit_is_refused_with_what_would() {
    let table = [
        (
            "+dok:1#viewer@user:bob",
            "the schema has no type \"dok\"; did you mean \"doc\"?",
        ),
        (
            "+doc:1#viewr@user:bob",
            "type \"doc\" has no relation \"viewr\"; did you mean \"viewer\"?",
        ),
        (
            "+doc:1#view@user:bob",
            "tuples are written to relations; \"view\" of type \"doc\" is a permission",
        ),
        (
            "-doc:1#view@user:bob",
            "tuples are written to relations; \"view\" of type \"doc\" is a permission",
        ),
        (
            "+doc:1#viewer@usr:bob",
            "the schema has no type \"usr\"; did you mean \"user\"?",
        ),
        (
            "+doc:1#viewer@team:core",
            "doc#viewer takes no subject like team; it takes user | team#member | user:*",
        ),
        (
            "+doc:1#viewer@team:core#membr",
            "type \"team\" has no relation \"membr\"; did you mean \"member\"?",
        ),
        (
            "+doc:1#guest@user:bob",
            "doc#guest takes user only with an expiration; it takes user with expiration",
        ),
        (
            "+doc:1#viewer@user:bob[expiration:2030-01-01T00:00:00Z]",
            "doc#viewer does not take user with an expiration; it takes user",
        ),
        (
            "+doc:1#viewer@user:bob[late]",
            "the schema has no caveat \"late\"",
        ),
        (
            "+doc:1#role=acme/dev@user:bob",
            "\"role=acme/dev\" is generated",
        ),
    ];
    let engine = open(&store(), &TestClock::at(0)).await;
    for (part, expected) in table {
        let message = refused(&engine, &[part]).await.to_string();
        assert!(message.contains(expected), "{part}: {message}");
    }
    assert_eq!(engine.status().token.revision.0, 1, "nothing was committed");
}

#[tokio::test]
async fn revoke_by_filter_takes_all_or_nothing() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let tuples: Vec<String> = (0..25_000)
        .map(|n| format!("+doc:{n}#viewer@user:u"))
        .collect();
    for part in tuples.chunks(10_000) {
        did(
            &engine,
            &part.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
    }
    did(&engine, &["+team:a#member@user:u"]).await;
    let before = engine.status().token.revision.0;
    let revoke = |text, limit| {
        command(Action::RevokeMatching {
            filter: filter(text),
            limit,
        })
    };
    let over = engine.write(revoke("doc:", 24_999), None).await;
    assert_eq!(
        over,
        Err(EngineError::Refused(Refusal::LimitExceeded {
            limit: 24_999
        }))
    );
    let unknown = engine.write(revoke("dok:", 0), None).await.unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean \"doc\"?"),
        "{unknown}"
    );
    assert_eq!(engine.status().token.revision.0, before);

    let written = engine.write(revoke("doc:", 25_000), None).await.unwrap();
    // In parts of 1,000, so that others' writes come between.
    assert_eq!(
        (written.revoked, written.token.revision.0),
        (25_000, before + 25)
    );
    assert_eq!(stored(&engine, Newest).await, ["team:a#member@user:u"]);
    let again = engine.write(revoke("doc:", 1), None).await.unwrap();
    assert_eq!((again.revoked, again.token.revision.0), (0, before + 25));
    let all = command(Action::RevokeMatching {
        filter: portcullis::tuple::TupleFilter::default(),
        limit: 0,
    });
    let all = engine.write(all, None).await.unwrap_err();
    assert!(
        matches!(all, EngineError::Refused(Refusal::FilterEmpty { .. })),
        "{all}"
    );
}

#[tokio::test]
async fn sizes_are_bounded() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let many: Vec<String> = (0..=10_000)
        .map(|n| format!("+doc:{n}#viewer@user:u"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = refused(&engine, &many).await;
    assert_eq!(
        error.to_string(),
        "updates has 10001, and at most 10000 are allowed"
    );
    let mut long = write(&["+doc:1#viewer@user:u"]);
    long.options.reason = "x".repeat(1 << 20);
    let error = engine.write(long, None).await.unwrap_err();
    assert!(
        error.to_string().starts_with("options.reason has 1048576"),
        "{error}"
    );
    let error = engine.write(schema(&" ".repeat((1 << 20) + 1)), None).await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("schema has 1048577")
    );
}

#[tokio::test]
async fn a_dry_run_judges_and_commits_nothing() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let mut dry = write(&["+doc:1#viewer@user:u"]);
    dry.options.dry_run = true;
    let written = engine.write(dry.clone(), None).await.unwrap();
    assert_eq!((written.granted, written.token.revision.0), (1, 1));
    assert_eq!(stored(&engine, Newest).await, Vec::<String>::new());
    // A key is not used up by it.
    let dry = keyed(dry, "c", "k");
    engine.write(dry, None).await.unwrap();
    let real = keyed(write(&["+doc:2#viewer@user:u"]), "c", "k");
    assert_eq!(engine.write(real, None).await.unwrap().granted, 1);
}

#[tokio::test]
async fn a_schema_is_replaced_where_it_leaves_no_tuple_behind() {
    let store = store();
    let engine = Engine::open(Box::new(store.reopen()), TestClock::at(5).options()).unwrap();
    let early = refused(&engine, &["+doc:1#viewer@user:u"]).await;
    assert_eq!(early, EngineError::Refused(Refusal::NoSchema));
    let wrong = engine
        .write(schema("definitio user {}"), None)
        .await
        .unwrap_err();
    assert!(
        matches!(wrong, EngineError::Refused(Refusal::SchemaInvalid(_))),
        "{wrong}"
    );

    let mut dry = schema(SCHEMA);
    dry.options.dry_run = true;
    let tried = engine.write(dry, None).await.unwrap();
    assert!(!tried.changes.is_empty());
    assert_eq!(tried.token.revision.0, 0);
    let first = engine.write(schema(SCHEMA), None).await.unwrap();
    assert_eq!((first.token.revision.0, first.changes), (1, tried.changes));
    let same = engine.write(schema(SCHEMA), None).await.unwrap();
    assert_eq!((same.token.revision.0, same.changes.len()), (1, 0));

    did(
        &engine,
        &[
            "+doc:1#viewer@user:u",
            "+doc:2#viewer@user:*",
            "+doc:3#viewer@user:*",
        ],
    )
    .await;
    let narrow = SCHEMA.replace(" | user:*", "");
    let orphaned = engine
        .write(schema(&narrow), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        orphaned.starts_with("2 tuples do not fit the new schema, such as doc:")
            && orphaned
                .contains("doc#viewer takes no subject like user:*; it takes user | team#member"),
        "{orphaned}"
    );
    did(&engine, &["-doc:2#viewer@user:*", "-doc:3#viewer@user:*"]).await;
    let written = engine.write(schema(&narrow), None).await.unwrap();
    let view = engine.schema(Newest, None).await.unwrap();
    assert_eq!(view.written_at, written.token);
    assert_eq!(&*view.schema.unwrap().text, narrow);

    let stale = command(Action::WriteSchema {
        text: SCHEMA.into(),
        if_revision: Some(first.token),
    });
    let error = engine.write(stale, None).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Refused(Refusal::SchemaChanged { .. })),
        "{error}"
    );
    let fitting = command(Action::WriteSchema {
        text: SCHEMA.into(),
        if_revision: Some(written.token),
    });
    engine.write(fitting, None).await.unwrap();
    assert_eq!(stored(&engine, Newest).await, ["doc:1#viewer@user:u"]);
    assert_eq!(engine.now(), at(5));
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer() {
    let clock = TestClock::at(0);
    let store = store();
    let engine = open(&store, &clock).await;
    let grant = |key| keyed(write(&["+doc:1#viewer@user:u"]), "c", key);
    let first = engine.write(grant("a"), None).await.unwrap();
    did(&engine, &["-doc:1#viewer@user:u"]).await;
    assert_eq!(engine.write(grant("a"), None).await.unwrap(), first);
    assert_eq!(stored(&engine, Newest).await, Vec::<String>::new());

    // Nobody else's, no other request's; what changed nothing is remembered too.
    let other = keyed(write(&["+doc:2#viewer@user:u"]), "c", "a");
    let error = engine.write(other.clone(), None).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Refused(Refusal::KeyReused { .. })),
        "{error}"
    );
    engine.write(keyed(other, "d", "a"), None).await.unwrap();
    let absent = keyed(write(&["-doc:9#viewer@user:u"]), "c", "b");
    let nothing = engine.write(absent.clone(), None).await.unwrap();
    assert_eq!(nothing.token, engine.status().token);
    did(&engine, &["+doc:9#viewer@user:u"]).await;
    assert_eq!(engine.write(absent, None).await.unwrap(), nothing);
    let kept = stored(&engine, Newest).await;

    // Across a restart, for a day.
    engine.close().await.unwrap();
    let engine = open(&store, &clock).await;
    assert_eq!(engine.write(grant("a"), None).await.unwrap(), first);
    clock.set(24 * 60 * 60);
    let again = engine.write(grant("a"), None).await.unwrap();
    assert!(again.token.revision > first.token.revision);
    assert_eq!(stored(&engine, Newest).await.len(), kept.len() + 1);
}

#[tokio::test]
async fn a_caller_has_so_many_keys() {
    let clock = TestClock::at(0);
    let mut options = clock.options();
    options.limits.keys_a_caller = 2;
    let engine = Engine::open(Box::new(store()), options).unwrap();
    engine.write(schema(SCHEMA), None).await.unwrap();
    let revoke =
        |caller, key| engine.write(keyed(write(&["-doc:1#viewer@user:u"]), caller, key), None);
    revoke("c", "1").await.unwrap();
    clock.set(10);
    revoke("c", "2").await.unwrap();
    let error = revoke("c", "3").await.unwrap_err();
    let EngineError::Refused(Refusal::QuotaExceeded { retry_after, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after.as_secs(), 24 * 60 * 60 - 10);
    revoke("d", "3").await.unwrap();
    revoke("c", "2").await.unwrap();
    clock.set(24 * 60 * 60);
    revoke("c", "3").await.unwrap();
}

#[tokio::test]
async fn questions_are_answered_from_one_state() {
    let engine = Engine::open(Box::new(store()), TestClock::at(1).options()).unwrap();
    let context = portcullis::tuple::Context::new();
    let question = |permission, resource| Question {
        subject: SubjectRef::parse("user:bob").unwrap(),
        permission,
        resource: ObjectRef::parse(resource).unwrap(),
        context: &context,
        contextual: &[],
        with_dependencies: false,
    };
    let early = engine.check(&question("view", "doc:1"), Newest, None).await;
    assert_eq!(early, Err(EngineError::NoSchema));
    engine.write(schema(SCHEMA), None).await.unwrap();
    let before = engine.status().token;
    did(
        &engine,
        &[
            "+doc:1#viewer@team:core#member",
            "+team:core#member@user:bob",
        ],
    )
    .await;
    let asked = [
        question("view", "doc:1"),
        question("view", "doc:2"),
        question("vew", "doc:1"),
    ];
    let (answers, token) = engine.batch_check(&asked, Newest, None).await.unwrap();
    assert_eq!(token, engine.status().token);
    let decisions: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().ok().map(|a| a.decision))
        .collect();
    assert_eq!(
        decisions,
        [Some(Decision::Allowed), Some(Decision::Denied), None]
    );
    let (old, token) = engine
        .check(&asked[0], Exactly(before), None)
        .await
        .unwrap();
    assert_eq!((old.decision, token), (Decision::Denied, before));
    let many = vec![question("view", "doc:1"); 10_001];
    let error = engine.batch_check(&many, Newest, None).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLarge { .. }), "{error}");
}

/// A schema whose caveat has these parameters, and whether it takes a tuple with `{"limit": 10}`.
async fn check_parameters(parameters: &str, condition: &str, expected: Option<&str>) {
    let engine = open(&store(), &TestClock::at(5)).await;
    let text = |parameters: &str, condition: &str| {
        format!(
            "definition user {{}}
caveat small({parameters}) {{ {condition} }}
definition doc {{ relation viewer: user | user with small }}"
        )
    };
    let old = text("limit int, size int", "size < limit");
    engine.write(schema(&old), None).await.unwrap();
    did(
        &engine,
        &[
            "+doc:1#viewer@user:u[small:{\"limit\":10}]",
            "+doc:2#viewer@user:u",
        ],
    )
    .await;
    let new = text(parameters, condition);
    let outcome = engine.write(schema(&new), None).await;
    match (outcome, expected) {
        (Ok(_), None) => {}
        (Err(error), Some(expected)) => {
            let error = error.to_string();
            assert!(
                error.starts_with("1 tuples do not fit the new schema, such as doc:1#viewer")
                    && error.contains(expected),
                "{error}"
            );
        }
        (outcome, expected) => panic!("{parameters}: {outcome:?}, not {expected:?}"),
    }
}

#[tokio::test]
async fn stored_contexts_must_fit_a_caveat_with_other_parameters() {
    check_parameters(
        "limit string, size int",
        "limit == \"\" && size < 3",
        Some("limit"),
    )
    .await;
    check_parameters("size int", "size < 3", Some("no such parameter")).await;
    check_parameters("limit int, size int", "size <= limit", None).await;
    check_parameters("limit any, size int", "size < limit", None).await;
    check_parameters("limit int, size int, more int", "size < limit + more", None).await;
}

#[tokio::test]
async fn a_template_comes_whole_or_not_at_all() {
    let grant = |text: &str| Update {
        operation: Operation::Grant,
        tuple: text.parse().unwrap(),
    };
    let begin = |text: &str| {
        command(Action::Begin {
            roles: Vec::new(),
            text: SCHEMA.into(),
            updates: vec![grant("doc:1#viewer@user:u"), grant(text)],
        })
    };
    let log = store();
    let mut options = TestClock::at(5).options();
    options.limits.updates = 1;
    let engine = Engine::open(Box::new(log.reopen()), options).unwrap();
    let wrong = engine.write(begin("doc:2#viewr@user:u"), None).await;
    assert!(wrong.unwrap_err().to_string().contains("viewr"));
    assert!(!engine.status().has_schema, "half of it stands");
    let written = engine.write(begin("doc:2#viewer@user:u"), None).await;
    let written = written.unwrap();
    assert_eq!((written.token.revision.0, written.granted), (1, 2));
    let again = engine.write(begin("doc:3#viewer@user:u"), None).await;
    assert!(again.unwrap_err().to_string().contains("revision 1"));
    engine.close().await.unwrap();
    let engine = open(&log, &TestClock::at(5)).await;
    let tuples = stored(&engine, Newest).await;
    assert_eq!(tuples, ["doc:1#viewer@user:u", "doc:2#viewer@user:u"]);
}
