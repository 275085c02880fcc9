//! Assignments of roles beside plain tuples: read, counted, paged, removed, ended and restored as
//! what they look like on the wire. The model is a list of tuples and the filter's own text.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use portcullis::index::ScanPosition;
use portcullis::revision::{Epoch, Revision};
use portcullis::state::checkpoint::Origin;
use portcullis::state::{Change, Commit, HeldLock, RoleRecord, State};
use portcullis::time::Timestamp;
use portcullis::tuple::{Tuple, TupleFilter};
use proptest::prelude::*;

const SCHEMA: &str = "
definition user {}
definition team { relation member: user }
definition org {
    relation owner: user
    assigns role
}
definition app {
    relation org: org
    relation owner: user | team#member
    assigns role inherits org
}
roles role of org { held by user | team#member }
";

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

fn commit(state: &State, changes: Vec<Change>) -> State {
    let commit = Commit {
        revision: state.revision.next(),
        time: state.time,
        actor: None,
        reason: String::new(),
        metadata: None,
        changes,
        remembered: None,
    };
    state.apply(&commit).unwrap()
}

fn begin() -> State {
    commit(
        &State::empty(Epoch(1), 9, 0),
        vec![Change::Schema(SCHEMA.into())],
    )
}

/// Through bytes and back, as a restart does it.
fn restored(state: &State) -> State {
    let mut bytes = Vec::new();
    state.clone().write_to(&mut bytes).unwrap();
    State::read_from(&mut bytes.as_slice(), origin(state)).unwrap()
}

fn origin(state: &State) -> Origin {
    Origin {
        epoch: state.epoch,
        seed: state.seed,
        revision: state.revision,
        time: state.time,
        chain: state.chain,
    }
}

/// Restored from a file of before there were counts in it.
fn uncounted(state: &State) -> State {
    let mut bytes = Vec::new();
    state.clone().write_to(&mut bytes).unwrap();
    let length = |at: usize| {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        usize::try_from(length).unwrap()
    };
    // The state's header, then the index: eight bytes of its own, and a header of JSON.
    let index = 8 + length(0);
    let (begin, end) = (index + 16, index + 16 + length(index + 8));
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[begin..end]).unwrap();
    assert!(header.as_object_mut().unwrap().remove("shapes").is_some());
    let header = serde_json::to_vec(&header).unwrap();
    let mut older = bytes[..index + 8].to_vec();
    older.extend((header.len() as u64).to_le_bytes());
    older.extend(header);
    older.extend(&bytes[end..]);
    State::read_from(&mut older.as_slice(), origin(state)).unwrap()
}

fn tuple(number: u8) -> Tuple {
    let resource = ["org:a", "org:b", "app:a", "app:a1"][usize::from(number % 4)];
    let relation = ["role=a/x", "role=a/y", "role=b/x/x", "owner"][usize::from(number / 4 % 4)];
    let subject = ["user:a", "user:b", "team:a#member"][usize::from(number / 16 % 3)];
    let end = ["", "[expiration:1970-01-01T00:00:05Z]"][usize::from(number / 48 % 2)];
    format!("{resource}#{relation}@{subject}{end}")
        .parse()
        .unwrap()
}

fn name(tuple: &Tuple) -> String {
    format!("{}#{}@{}", tuple.resource, tuple.relation, tuple.subject)
}

fn filters() -> Vec<TupleFilter> {
    let parts: [(&str, &[&str]); 6] = [
        ("type", &["", "org", "app"]),
        ("id", &["", "a", "a1"]),
        ("prefix", &["", "a"]),
        ("relation", &["", "role=a/x", "role=b/x/x", "owner"]),
        ("subject", &["", "user:a", "team:a"]),
        ("set", &["", "none", "member"]),
    ];
    let mut filters = vec![TupleFilter::default()];
    for (field, values) in parts {
        let with = |filter: &TupleFilter, value: &str| {
            let mut filter = filter.clone();
            let some = (!value.is_empty()).then(|| value.into());
            match (field, value) {
                ("type", _) => filter.resource_type = some,
                ("id", _) => filter.resource_id = some,
                ("prefix", _) => filter.resource_id_prefix = some,
                ("relation", _) => filter.relation = some,
                ("set", "none") => filter.subject_relation = Some(None),
                ("set", "member") => filter.subject_relation = Some(Some("member".into())),
                ("subject", "") | ("set", _) => {}
                (_, value) => {
                    let (kind, id) = value.split_once(':').unwrap();
                    filter.subject_type = Some(kind.into());
                    filter.subject_id = Some(id.into());
                }
            }
            filter
        };
        filters = (filters.iter())
            .flat_map(|filter| values.iter().map(move |value| with(filter, value)))
            .collect();
    }
    filters
}

/// Each filter gives what the model says, each once, whole or from any place on.
fn agrees(state: &State, model: &BTreeMap<String, (Tuple, Revision)>) {
    assert_eq!(state.tuple_count(), model.len() as u64);
    for filter in filters() {
        let rows: Vec<_> = state.rows(&filter, None).collect();
        let mut found: Vec<String> = rows.iter().map(|row| row.to_tuple().to_string()).collect();
        let order = found.clone();
        found.sort();
        let matching = model.values().filter(|(tuple, _)| filter.matches(tuple));
        let mut wanted: Vec<String> = matching.map(|(tuple, _)| tuple.to_string()).collect();
        wanted.sort();
        assert_eq!(found, wanted, "{filter:?}");
        for (place, row) in rows.iter().enumerate() {
            let (_, granted) = &model[&name(&row.to_tuple())];
            assert_eq!(row.granted_at(), Some(*granted), "{filter:?}");
            let position = ScanPosition::from_bytes(row.position().to_bytes());
            let rest = state.rows(&filter, Some(&position));
            let rest: Vec<String> = rest.map(|row| row.to_tuple().to_string()).collect();
            assert_eq!(rest, order[place + 1..], "{filter:?} behind {place}");
        }
    }
    for (tuple, _) in model.values() {
        assert_eq!(state.find(tuple).as_ref(), Some(tuple));
    }
    let due = model
        .values()
        .filter(|(tuple, _)| tuple.expires_at.is_some());
    assert_eq!(state.due(at(5), 1_000).len(), due.count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn assignments_are_tuples(steps in proptest::collection::vec((any::<u8>(), 0_u8..3), 1..40)) {
        let mut state = begin();
        let mut model = BTreeMap::new();
        for (number, what) in &steps {
            let tuple = tuple(*number);
            let change = match what {
                0 => {
                    model.remove(&name(&tuple));
                    Change::Revoked(tuple)
                }
                _ => {
                    model.insert(name(&tuple), (tuple.clone(), state.revision.next()));
                    Change::Granted(tuple)
                }
            };
            state = commit(&state, vec![change]);
        }
        agrees(&state, &model);
        agrees(&restored(&state), &model);
        let counts = |state: &State| state.index.shapes().collect::<Vec<_>>();
        assert_eq!(counts(&restored(&state)), counts(&state));
        assert_eq!(counts(&uncounted(&state)), counts(&state));
        let total: u64 = counts(&state).iter().map(|(_, count)| count).sum();
        assert_eq!(total, model.len() as u64);
        for (object, part) in [("org:a", "a"), ("app:a1", "a1"), ("team:a", "")] {
            let object: portcullis::tuple::Object = object.parse().unwrap();
            let named = model.values().any(|(tuple, _)| {
                tuple.resource == object
                    || (tuple.subject.kind(), tuple.subject.id()) == (object.kind(), object.id())
            });
            assert_eq!(state.mentions(object.as_ref()), named, "{object} {part}");
        }
    }
}

#[test]
fn locks_and_roles_come_back_with_the_state() {
    let lock = std::sync::Arc::new(HeldLock {
        id: "l".into(),
        resource: "app:new".parse().unwrap(),
        mode: "freeze".into(),
        exempt: vec!["team:a#member".parse().unwrap()],
        actor: Some("user:a".parse().unwrap()),
        reason: "release".into(),
        created_at: at(1),
        expires_at: Some(at(5)),
        fencing_token: 400,
    });
    let role = std::sync::Arc::new(RoleRecord {
        role: "role:acme/deployer".parse().unwrap(),
        owner: "org:acme".parse().unwrap(),
        title: "Deployer".into(),
        permissions: vec!["app.deploy".into()],
    });
    let empty = begin();
    let state = commit(
        &empty,
        vec![
            Change::Locked(lock.clone()),
            Change::RoleWritten(role.clone()),
        ],
    );
    for state in [state.clone(), restored(&state)] {
        assert_eq!(state.locks.get("l"), Some(&lock));
        assert_eq!(state.roles.get("role:acme/deployer"), Some(&role));
        assert_eq!(state.next_expiry(), Some(at(5)));
        assert!(state.fencing_token(state.revision.next()) > lock.fencing_token);
        let mentioned = |object: &str| {
            let object: portcullis::tuple::Object = object.parse().unwrap();
            state.mentions(object.as_ref())
        };
        assert!(mentioned("app:new") && mentioned("org:acme"));
        assert!(!mentioned("app:acme") && !mentioned("org:new"));
        let gone = vec![
            Change::LockExpired(lock.clone()),
            Change::RoleDeleted(role.role.clone()),
        ];
        let state = commit(&state, gone);
        assert!(state.locks.is_empty() && state.roles.is_empty());
        assert_eq!(state.next_expiry(), None);
    }
}
