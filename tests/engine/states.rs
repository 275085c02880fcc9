//! Which state answers: consistency, old states, cursors; and restarts.

use std::time::{Duration, Instant};

use portcullis::engine::{Engine, EngineError};
use portcullis::revision::Consistency::{AtLeast, Exactly, Full, Newest};
use portcullis::revision::{Epoch, Revision, Token};
use portcullis::state::State;
use portcullis::state::checkpoint::Origin;
use portcullis::store::{MemoryStore, Store};
use portcullis::tuple::TupleFilter;

use crate::world::{SCHEMA, TestClock, did, filter, keyed, open, schema, store, stored, write};

fn token(engine: &Engine, revision: u64) -> Token {
    Token {
        revision: Revision(revision),
        ..engine.status().token
    }
}

#[tokio::test]
async fn a_read_waits_for_what_it_asks_for() {
    let engine = open(&store(), &TestClock::at(0)).await;
    let next = token(&engine, 2);
    let reader = {
        let engine = engine.clone();
        tokio::spawn(async move { stored(&engine, AtLeast(next)).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    did(&engine, &["+doc:1#viewer@user:u"]).await;
    assert_eq!(reader.await.unwrap(), ["doc:1#viewer@user:u"]);
    assert_eq!(stored(&engine, Full).await.len(), 1);

    for at in [AtLeast(token(&engine, 3)), Exactly(token(&engine, 3))] {
        let begun = Instant::now();
        let deadline = Some(begun + Duration::from_millis(30));
        let ahead = engine.schema(at, deadline).await.unwrap_err();
        assert!(
            matches!(ahead, EngineError::RevisionAhead { .. }),
            "{ahead}"
        );
        assert!(
            begun.elapsed() < Duration::from_millis(150),
            "not within the deadline"
        );
        // Without a deadline it does not wait for ever.
        let ahead = engine.schema(at, None).await.unwrap_err();
        assert!(
            matches!(ahead, EngineError::RevisionAhead { .. }),
            "{ahead}"
        );
    }
    let foreign = Token {
        epoch: Epoch(1),
        ..token(&engine, 1)
    };
    for at in [AtLeast(foreign), Exactly(foreign)] {
        let error = engine.schema(at, None).await.unwrap_err();
        assert!(
            matches!(error, EngineError::EpochMismatch { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn old_states_are_found_again_for_a_while() {
    let clock = TestClock::at(0);
    let engine = open(&store(), &clock).await;
    // Ten commits a second for half a minute, then a pause.
    for n in 0..300_i64 {
        clock.set(n / 10);
        did(&engine, &[&format!("+doc:{n}#viewer@user:u")]).await;
    }
    for revision in [1, 2, 3, 57, 100, 199, 237, 238, 300, 301] {
        let tuples = stored(&engine, Exactly(token(&engine, revision))).await;
        assert_eq!(tuples.len() as u64, revision - 1, "at {revision}");
    }
    clock.set(200);
    for n in 0..65 {
        did(&engine, &[&format!("-doc:{n}#viewer@user:u")]).await;
    }
    let old = engine
        .schema(Exactly(token(&engine, 57)), None)
        .await
        .unwrap_err();
    assert!(matches!(old, EngineError::RevisionTrimmed { .. }), "{old}");
    let near = stored(&engine, Exactly(token(&engine, 365))).await;
    assert_eq!(near.len(), 300 - 64);
}

#[tokio::test]
async fn a_cursor_goes_on_where_and_when_it_was() {
    let clock = TestClock::at(0);
    let store = store();
    let engine = open(&store, &clock).await;
    // Whoever creates something here grants it to itself.
    let rules = (SCHEMA.replace("| user:*", "| user:* granted by viewer"))
        .replace("with expiration", "with expiration granted by guest")
        .replace("team#member }", "team#member granted by member }");
    engine.write(schema(&rules), None).await.unwrap();
    let mut first = write(&[
        "+doc:1#viewer@user:a",
        "+doc:2#viewer@user:a",
        "+doc:3#viewer@user:a",
        "+doc:4#guest@user:a[expiration:1970-01-01T00:01:00Z]",
        "+team:1#member@user:a",
    ]);
    first.options.actor = Some("user:a".parse().unwrap());
    let granted = engine.write(first, None).await.unwrap().token;
    let docs = || filter("doc:");
    let mut rows = engine
        .read_tuples(docs(), Newest, 2, None, None)
        .await
        .unwrap();
    let page = rows.next(10).await.unwrap();
    assert_eq!(page.len(), 2);
    assert!(
        rows.next(10).await.unwrap().is_empty(),
        "the limit holds over pieces"
    );
    assert_eq!(page[0].granted_at, Some(granted));
    assert_eq!(page[0].granted_by.as_deref(), Some("user:a"));

    clock.set(100);
    did(&engine, &["-doc:3#viewer@user:a", "+doc:9#viewer@user:a"]).await;
    let cursor = &page[1].cursor;
    let mut rows = engine
        .read_tuples(docs(), Full, 0, Some(cursor), None)
        .await
        .unwrap();
    assert_eq!(rows.token(), granted);
    let mut all: Vec<String> = page.iter().map(|row| row.tuple.to_string()).collect();
    all.extend(
        rows.next(10)
            .await
            .unwrap()
            .iter()
            .map(|row| row.tuple.to_string()),
    );
    all.sort();
    assert_eq!(
        all,
        [
            "doc:1#viewer@user:a",
            "doc:2#viewer@user:a",
            "doc:3#viewer@user:a",
            "doc:4#guest@user:a[expiration:1970-01-01T00:01:00Z]",
        ]
    );

    for (text, filter) in [
        (cursor.as_str(), filter("team:")),
        ("nonsense!", docs()),
        ("AAAA", docs()),
        (&cursor[..cursor.len() / 2], docs()),
    ] {
        let error = engine
            .read_tuples(filter, Newest, 0, Some(text), None)
            .await;
        let error = error.err().expect(text);
        assert!(
            matches!(error, EngineError::MalformedCursor { .. }),
            "{text}: {error}"
        );
    }
    engine.close().await.unwrap();
    let engine = open(&store, &clock).await;
    let error = engine
        .read_tuples(docs(), Newest, 0, Some(cursor), None)
        .await;
    let error = error.err().unwrap();
    assert!(
        matches!(error, EngineError::RevisionTrimmed { .. }),
        "{error}"
    );
}

/// Everything that a restart must keep, as one text.
fn picture(state: &State) -> String {
    let all = TupleFilter::default();
    let mut tuples: Vec<String> = state
        .rows(&all, None)
        .map(|row| format!("{} by {:?}", row.to_tuple(), row.granted_at()))
        .collect();
    tuples.sort();
    let answers: Vec<_> = state.remembered.iter().collect();
    format!(
        "{:?}",
        (
            state.token(),
            state.time,
            state.chain,
            state.schema.as_ref().map(|schema| schema.text.clone()),
            state.schema_revision,
            state.names().lists(),
            tuples,
            answers,
        )
    )
}

fn replayed(store: &MemoryStore) -> State {
    let loaded = store.reopen().load().unwrap();
    let mut state = match loaded.checkpoint {
        None => State::empty(loaded.epoch, loaded.seed, loaded.position.chain),
        Some(mut saved) => {
            let origin = Origin {
                epoch: loaded.epoch,
                seed: loaded.seed,
                revision: saved.position.revision,
                time: saved.time,
                chain: saved.position.chain,
            };
            State::read_from(&mut *saved.reader, origin).unwrap()
        }
    };
    for item in loaded.commits {
        let (commit, position) = item.unwrap();
        state = state.apply(&commit).unwrap();
        state.chain = position.chain;
    }
    state
}

#[tokio::test]
async fn a_checkpoint_and_what_follows_is_the_whole_log() {
    let clock = TestClock::at(3);
    let store = store();
    let engine = open(&store, &clock).await;
    for n in 0..40 {
        let grant = format!("+doc:{}#viewer@team:{n}#member", n % 7);
        let revoke = format!("-doc:{}#viewer@team:{}#member", n % 5, n / 2);
        let guest = format!("+doc:{n}#guest@user:g[expiration:2030-01-01T00:00:00Z]");
        let command = match grant.split_at(1).1 == revoke.split_at(1).1 {
            true => write(&[&grant, &guest]),
            false => write(&[&grant, &revoke, &guest]),
        };
        engine
            .write(keyed(command, "c", &n.to_string()), None)
            .await
            .unwrap();
    }
    let whole = replayed(&store);
    let position = |state: &State| portcullis::store::Position {
        revision: state.revision,
        chain: state.chain,
    };
    for revision in [Revision(0), Revision(1), Revision(17), Revision(41)] {
        let mut state = State::empty(whole.epoch, whole.seed, 0);
        for (commit, position) in store.read(Revision(0), 1_000).unwrap() {
            if commit.revision > revision {
                break;
            }
            state = state.apply(&commit).unwrap();
            state.chain = position.chain;
        }
        if revision == Revision(0) {
            continue;
        }
        store
            .checkpoint(position(&state), state.time, &mut |out| {
                state.clone().write_to(out)
            })
            .unwrap();
        assert_eq!(
            picture(&replayed(&store)),
            picture(&whole),
            "from {revision}"
        );
    }
    let damaged = State::read_from(
        &mut &b"\x05\0\0\0\0\0\0\0nonsense"[..],
        Origin {
            epoch: whole.epoch,
            seed: 0,
            revision: Revision(1),
            time: whole.time,
            chain: 0,
        },
    );
    assert!(damaged.is_err());
}

#[tokio::test]
async fn a_commit_that_does_not_follow_is_refused() {
    let store = store();
    let engine = open(&store, &TestClock::at(3)).await;
    did(&engine, &["+doc:1#viewer@user:u"]).await;
    let state = replayed(&store);
    let (mut commit, _) = store.read(Revision(1), 1).unwrap().remove(0);
    assert!(state.apply(&commit).is_err(), "it was applied before");
    commit.revision = Revision(3);
    assert!(state.apply(&commit).is_ok());
    commit.time = crate::world::at(2);
    assert!(state.apply(&commit).is_err(), "time runs back");
}
