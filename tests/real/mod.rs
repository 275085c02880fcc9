//! The real thing beside the oracle: a world's schema compiled, its tuples in an index, and a
//! question put to the evaluator.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, of which each test uses a part"
)]

use std::sync::Arc;

use portcullis::eval::{
    Answer, CheckError, Decision, Facts, Limits, Prepared, Question, check, check_prepared,
    dependencies, prepare,
};
use portcullis::revision::Epoch;
use portcullis::state::{Change, Commit, HeldLock, RoleRecord, State};
use portcullis::time::Timestamp;
use portcullis::tuple::{
    Context, Object as RealObject, RoleRef, Subject as RealSubject, Tuple as RealTuple,
};

use crate::oracle::Verdict;
use crate::oracle::model::{self, Given, Level, Name, Object, World};
use crate::oracle::world::Round;

/// A world as a state.
pub struct Real {
    pub state: State,
}

impl Real {
    pub fn new(world: &World) -> Self {
        let mut real = Self::of(&world.schema_text(), &[]);
        let roles = world.records.keys().map(|role| world_role(world, *role));
        real.apply(&roles.collect::<Vec<_>>());
        let granted = (world.tuples.iter()).map(|one| Change::Granted(tuple(world, one)));
        real.apply(&granted.collect::<Vec<_>>());
        let locks = world.locks.iter().zip(0..);
        let locked = locks.filter_map(|(lock, id)| Some(world_lock(world, id, lock.as_ref()?)));
        let locked: Vec<_> = locked.map(Change::Locked).collect();
        real.apply(&locked);
        real
    }

    /// A schema and tuples in their own words.
    pub fn of(schema: &str, tuples: &[&str]) -> Self {
        let mut real = Self {
            state: State::empty(Epoch(0), 42, 0),
        };
        real.apply(&[Change::Schema(schema.into())]);
        let changes = tuples
            .iter()
            .map(|text| Change::Granted(text.parse().unwrap()));
        real.apply(&changes.collect::<Vec<_>>());
        real
    }

    /// Asks `resource#name@subject` with a request context of JSON, at an instant in seconds.
    pub fn say(&self, question: &str, context: &str, now: i64) -> Result<Answer, CheckError> {
        let (resource, rest) = question.split_once('#').unwrap();
        let (permission, who) = rest.split_once('@').unwrap();
        let resource: RealObject = resource.parse().unwrap();
        let (subject, context) = (subject(who), serde_json::from_str(context).unwrap());
        let question = Question {
            subject: subject.as_ref(),
            permission,
            resource: resource.as_ref(),
            context: &context,
            contextual: &[],
            with_dependencies: true,
        };
        let limits = Limits::default();
        check(self.facts(), &question, instant(now), &limits)
    }

    /// Applies a commit.
    pub fn apply(&mut self, changes: &[Change]) {
        let commit = Commit {
            revision: self.state.revision.next(),
            time: Timestamp::default(),
            actor: None,
            reason: String::new(),
            metadata: None,
            changes: changes.to_vec(),
            remembered: None,
        };
        self.state = self.state.apply(&commit).unwrap();
    }

    /// What questions are answered from.
    pub fn facts(&self) -> Facts<'_> {
        Facts::of(&self.state).unwrap()
    }

    /// The keys that a commit invalidates: none where all are.
    pub fn keys(&self, changes: &[Change]) -> Option<Vec<u64>> {
        dependencies::invalidated(&self.state.index, changes)
    }

    /// Asks whether the round's subject has `name` on `resource`.
    pub fn ask(
        &self,
        world: &World,
        round: &Round,
        (resource, name): (Object, Name),
        with_dependencies: bool,
    ) -> Result<Answer, CheckError> {
        let subject: RealSubject = subject(&world.subject_text(round.subject));
        let resource: RealObject = world.object_text(resource).parse().unwrap();
        let context = context(&round.request);
        let contextual: Vec<_> = round
            .contextual
            .iter()
            .map(|one| tuple(world, one))
            .collect();
        let question = Question {
            subject: subject.as_ref(),
            permission: &world.names[name],
            resource: resource.as_ref(),
            context: &context,
            contextual: &contextual,
            with_dependencies,
        };
        let now = instant(round.now);
        check(self.facts(), &question, now, &Limits::default())
    }

    /// Asks several questions of the round's subject at once, as a batch does.
    #[allow(dead_code, reason = "not every test has batches")]
    pub fn ask_all(
        &self,
        world: &World,
        round: &Round,
        asked: &[(Object, Name)],
    ) -> Vec<Result<Answer, CheckError>> {
        let subject: RealSubject = subject(&world.subject_text(round.subject));
        let (context, now) = (context(&round.request), instant(round.now));
        let object = |(resource, _): &(Object, Name)| world.object_text(*resource);
        let resources: Vec<RealObject> = asked
            .iter()
            .map(|one| object(one).parse().unwrap())
            .collect();
        let tuples = round.contextual.iter().map(|one| tuple(world, one));
        let contextual: Vec<_> = tuples.collect();
        let named = resources.iter().zip(asked);
        let questions = named.map(|(resource, (_, name))| Question {
            subject: subject.as_ref(),
            permission: &world.names[*name],
            resource: resource.as_ref(),
            context: &context,
            contextual: &contextual,
            with_dependencies: false,
        });
        let questions: Vec<_> = questions.collect();
        let answer = |prepared: Result<Prepared<'_>, CheckError>| {
            check_prepared(self.facts(), &prepared?, now, &Limits::default())
        };
        prepare(self.facts(), &questions)
            .into_iter()
            .map(answer)
            .collect()
    }
}

pub fn subject(text: &str) -> RealSubject {
    text.parse().unwrap()
}

/// A tuple of a world as the real thing has it.
pub fn tuple(world: &World, one: &model::Tuple) -> RealTuple {
    world.tuple_text(one).parse().unwrap()
}

/// Seconds since 1970.
pub fn instant(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

pub fn context(given: &Given) -> Context {
    serde_json::from_str(&model::given_text(given)).unwrap()
}

/// Whether the evaluator said what the oracle says.
pub fn agrees(verdict: Verdict, said: &Result<Answer, CheckError>) -> bool {
    let level = match said {
        Ok(answer) => match answer.decision {
            Decision::Denied => Level::Denied,
            Decision::Conditional => Level::Conditional,
            Decision::Allowed => Level::Allowed,
        },
        Err(CheckError::CaveatFailed { .. }) => {
            return matches!(verdict, Verdict::CaveatFailed | Verdict::Undecided);
        }
        Err(CheckError::NegationCycle { .. }) => {
            return matches!(verdict, Verdict::NegationCycle | Verdict::Undecided);
        }
        Err(_) => return false,
    };
    match verdict {
        Verdict::Exactly(value) => {
            let missing = said
                .as_ref()
                .map(|answer| answer.missing_context.as_slice());
            let missing = missing.unwrap_or_default().iter().map(|name| &**name);
            let expected = match value.level {
                Level::Conditional => value.missing_names(),
                _ => Vec::new(),
            };
            value.level == level && missing.eq(expected)
        }
        Verdict::Level(expected) => expected == level,
        Verdict::Undecided => level == Level::Conditional,
        Verdict::CaveatFailed | Verdict::NegationCycle => false,
    }
}

/// A question as the command line would put it.
pub fn question_text(world: &World, round: &Round, (resource, name): (Object, Name)) -> String {
    let contextual: Vec<_> = round
        .contextual
        .iter()
        .map(|one| world.tuple_text(one))
        .collect();
    format!(
        "{}#{}@{} with {} at {} beside {contextual:?}",
        world.object_text(resource),
        world.names[name],
        world.subject_text(round.subject),
        model::given_text(&round.request),
        instant(round.now),
    )
}

/// A world as the text that a validation file would hold.
pub fn world_text(world: &World) -> String {
    let tuples: Vec<_> = world
        .tuples
        .iter()
        .map(|one| world.tuple_text(one))
        .collect();
    let locks: Vec<_> = (world.locks.iter().zip(0..))
        .filter_map(|(lock, id)| Some(format!("{:?}", world_lock(world, id, lock.as_ref()?))))
        .collect();
    let roles: Vec<_> = (world.records.iter())
        .map(|(name, all)| {
            format!(
                "{} {}",
                world.word(*name),
                world.permissions_text(all).join(",")
            )
        })
        .collect();
    let (tuples, locks, roles) = (tuples.join("\n"), locks.join("\n"), roles.join("\n"));
    format!("{}\n{tuples}\n{locks}\n{roles}\n", world.schema_text())
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A lock of a world as the real thing has it.
pub fn world_lock(world: &World, id: usize, lock: &model::Lock) -> Arc<HeldLock> {
    let mut exempt: Vec<RealSubject> = (lock.exempt.iter())
        .map(|one| subject(&world.subject_text(*one)))
        .collect();
    exempt.sort();
    exempt.dedup();
    Arc::new(HeldLock {
        id: format!("l{id}").into(),
        mode: lock.mode.into(),
        resource: world.object_text(lock.resource).parse().unwrap(),
        exempt,
        actor: None,
        reason: "a test".into(),
        created_at: Timestamp::default(),
        expires_at: lock.expires_at.map(instant),
        fencing_token: 1,
    })
}

/// A role of a world, made or edited, as the real thing has it.
pub fn world_role(world: &World, name: Name) -> Change {
    let role = world.roles[&name];
    let owner = Object {
        kind: world.blocks[role.block].owner,
        id: role.owner,
    };
    let mut permissions = world.permissions_text(&world.records[&name]);
    permissions.sort();
    Change::RoleWritten(Arc::new(RoleRecord {
        role: world.word(name).replacen('=', ":", 1).parse().unwrap(),
        owner: world.object_text(owner).parse().unwrap(),
        title: "t".into(),
        permissions: permissions.into_iter().map(Into::into).collect(),
    }))
}

/// Whether a denial names the locks that the oracle names; only where the values are exact.
pub fn names_the_locks(
    solution: &crate::oracle::Solution<'_>,
    (object, name): (Object, Name),
    said: &Result<Answer, CheckError>,
) -> bool {
    let Ok(answer) = said else { return true };
    let denied = answer.decision == Decision::Denied;
    if solution.negation_cycle || !denied {
        return denied || answer.locks.is_empty();
    }
    let wanted = solution.locks_in_the_way(object, name);
    let mut wanted: Vec<String> = wanted.iter().map(|id| format!("l{id}")).collect();
    wanted.sort();
    answer
        .locks
        .iter()
        .map(|lock| lock.id.to_string())
        .eq(wanted)
}

/// A lock in words, `l1 freeze app:shop`, where wanted with `for user:a,team:x#member` (its exempt
/// subjects) and `until 1000005` behind it.
pub fn lock(text: &str) -> Change {
    let words: Vec<&str> = text.split(' ').collect();
    let after = |word: &str| {
        let at = words.iter().position(|one| *one == word)?;
        words.get(at + 1).copied()
    };
    let exempt = after("for").into_iter().flat_map(|list| list.split(','));
    Change::Locked(Arc::new(HeldLock {
        id: words[0].into(),
        mode: words[1].into(),
        resource: words[2].parse().unwrap(),
        exempt: exempt.map(subject).collect(),
        actor: None,
        reason: "a test".into(),
        created_at: Timestamp::default(),
        expires_at: after("until").map(|end| instant(end.parse().unwrap())),
        fencing_token: 1,
    }))
}

/// A role in words: `role:acme/deployer app.deploy,app.view`, owned by an `org`.
pub fn role(text: &str) -> Change {
    let (role, permissions) = text.split_once(' ').unwrap();
    let role: RoleRef = role.parse().unwrap();
    let mut permissions: Vec<Arc<str>> = permissions
        .split(',')
        .filter(|permission| !permission.is_empty())
        .map(Into::into)
        .collect();
    permissions.sort();
    Change::RoleWritten(Arc::new(RoleRecord {
        owner: format!("org:{}", role.owner_id()).parse().unwrap(),
        role,
        title: "t".into(),
        permissions,
    }))
}
