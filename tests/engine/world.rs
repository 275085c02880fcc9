//! What the tests share: a schema, a clock that they set, commands in one line.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use portcullis::engine::{Engine, EngineError, EngineOptions, Written};
use portcullis::plan::{Action, Command, Operation, Precondition, Update, WriteOptions};
use portcullis::revision::{Consistency, Epoch};
use portcullis::store::{MemoryStore, Store};
use portcullis::time::Timestamp;
use portcullis::tuple::{Tuple, TupleFilter};

pub const SCHEMA: &str = "use expiration
definition user {}
definition team { relation member: user | team#member }
definition doc {
    relation viewer: user | team#member | user:*
    relation guest: user with expiration
    permission view = viewer + guest
}";

/// Seconds since 1970, set by the test.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn at(seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(seconds)))
    }

    pub fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    pub fn options(&self) -> EngineOptions {
        let clock = self.clone();
        EngineOptions {
            clock: Arc::new(move || at(clock.0.load(Ordering::SeqCst))),
            expiry_poll: Duration::from_millis(5),
            longest_wait: Duration::from_millis(200),
            ..EngineOptions::default()
        }
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

pub fn store() -> MemoryStore {
    MemoryStore::new(Epoch(0x9f_3ac1), 7)
}

pub async fn open(store: &MemoryStore, clock: &TestClock) -> Engine {
    open_with(Box::new(store.reopen()), clock.options()).await
}

pub async fn open_with(store: Box<dyn Store>, options: EngineOptions) -> Engine {
    let engine = Engine::open(store, options).unwrap();
    if !engine.status().has_schema {
        engine.write(schema(SCHEMA), None).await.unwrap();
    }
    engine
}

pub fn command(action: Action) -> Command {
    Command {
        action,
        options: WriteOptions::default(),
        caller: "".into(),
    }
}

pub fn schema(text: &str) -> Command {
    command(Action::WriteSchema {
        text: text.into(),
        if_revision: None,
    })
}

/// `+tuple` grants, `!tuple` creates, `-tuple` revokes, `/tuple` deletes; `?filter` and
/// `?!filter` are preconditions, a filter being `type:id#relation`.
pub fn write(parts: &[&str]) -> Command {
    let (mut updates, mut preconditions) = (Vec::new(), Vec::new());
    for part in parts {
        if let Some(text) = part.strip_prefix('?') {
            let (must_match, text) = match text.strip_prefix('!') {
                Some(text) => (false, text),
                None => (true, text),
            };
            preconditions.push(Precondition {
                filter: filter(text),
                must_match,
            });
            continue;
        }
        let (sign, text) = part.split_at(1);
        let operation = match sign {
            "+" => Operation::Grant,
            "!" => Operation::Create,
            "-" => Operation::Revoke,
            "/" => Operation::Delete,
            other => panic!("no operation {other}"),
        };
        updates.push(Update {
            operation,
            tuple: text.parse().unwrap(),
        });
    }
    command(Action::Write {
        updates,
        preconditions,
    })
}

pub fn keyed(mut command: Command, caller: &str, key: &str) -> Command {
    command.caller = caller.into();
    command.options.idempotency_key = Some(key.into());
    command
}

pub fn filter(text: &str) -> TupleFilter {
    let (object, relation) = match text.split_once('#') {
        Some((object, relation)) => (object, Some(relation.into())),
        None => (text, None),
    };
    let (kind, id) = object.split_once(':').unwrap();
    TupleFilter {
        resource_type: Some(kind.into()),
        resource_id: (!id.is_empty()).then(|| id.into()),
        relation,
        ..TupleFilter::default()
    }
}

pub async fn did(engine: &Engine, parts: &[&str]) -> Written {
    engine.write(write(parts), None).await.unwrap()
}

pub async fn refused(engine: &Engine, parts: &[&str]) -> EngineError {
    engine.write(write(parts), None).await.unwrap_err()
}

/// All stored tuples as text, sorted.
pub async fn stored(engine: &Engine, at: Consistency) -> Vec<String> {
    let mut rows = engine
        .read_tuples(TupleFilter::default(), at, 0, None, None)
        .await
        .unwrap();
    let mut all: Vec<Tuple> = Vec::new();
    loop {
        let piece = rows.next(7).await.unwrap();
        if piece.is_empty() {
            break;
        }
        all.extend(piece.into_iter().map(|row| row.tuple));
    }
    let mut texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}
