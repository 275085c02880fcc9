//! Explain against the oracle and the checks: its proof alone still allows, and what it suggests
//! allows when it is done.
//!
//! `PORTCULLIS_EXPLAINS` says how many worlds; `PORTCULLIS_SEED` begins with another one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod oracle;
mod real;

use std::collections::BTreeMap;

use oracle::model::{Alternative, Form, Name, Object, Subject, World};
use oracle::world::{Dice, Round};
use oracle::{Asker, Verdict};
use portcullis::eval::{
    CheckError, Decision, Explanation, Limits, Node, Operator, Question, Suggestion, check, explain,
};
use portcullis::state::Change;
use real::{Real, agrees, question_text, setting, world_text};

/// Asks the evaluator in one way or another.
fn with_question<T>(
    world: &World,
    round: &Round,
    (resource, name): (Object, Name),
    ask: impl FnOnce(&Question<'_>) -> T,
) -> T {
    let subject = real::subject(&world.subject_text(round.subject));
    let resource: portcullis::tuple::Object = world.object_text(resource).parse().unwrap();
    let contextual = round.contextual.iter();
    let contextual: Vec<_> = contextual.map(|one| real::tuple(world, one)).collect();
    ask(&Question {
        subject: subject.as_ref(),
        permission: &world.names[name],
        resource: resource.as_ref(),
        context: &real::context(&round.request),
        contextual: &contextual,
        with_dependencies: false,
    })
}

/// The decision of a world of which some tuples are changed.
fn decision(world: &World, real: &Real, round: &Round, asked: (Object, Name)) -> Option<Decision> {
    let (now, limits) = (real::instant(round.now), Limits::default());
    let answer = with_question(world, round, asked, |question| {
        check(real.facts(), question, now, &limits)
    });
    answer.ok().map(|answer| answer.decision)
}

fn explained(
    world: &World,
    real: &Real,
    round: &Round,
    asked: (Object, Name),
) -> Result<Explanation, CheckError> {
    let (now, limits) = (real::instant(round.now), Limits::default());
    with_question(world, round, asked, |question| {
        explain(real.facts(), question, now, &limits)
    })
}

/// All tuples of a tree.
fn tuples(node: &Node, found: &mut BTreeMap<String, portcullis::tuple::Tuple>) {
    for tuple in &node.tuples {
        found.insert(tuple.to_string(), tuple.clone());
    }
    for child in &node.children {
        tuples(child, found);
    }
}

/// A world with these tuples and no others.
fn only(world: &World, tuples: &BTreeMap<String, portcullis::tuple::Tuple>) -> Real {
    let mut bare = world.clone();
    bare.tuples.clear();
    let mut real = Real::new(&bare);
    let changes: Vec<_> = tuples.values().cloned().map(Change::Granted).collect();
    real.apply(&changes);
    real
}

/// What a change leads to.
fn after(world: &World, change: Change) -> Real {
    let mut real = Real::new(world);
    real.apply(&[change]);
    real
}

/// Every assignment of a role that there is.
fn assignments(world: &World, subject: Subject) -> Vec<portcullis::tuple::Tuple> {
    let mut all = Vec::new();
    let standing = world.roles.iter();
    for (name, role) in standing.filter(|(name, _)| world.includes(**name).is_some()) {
        let held_by = world.blocks[role.block].held_by.iter();
        if !{ held_by }.any(|one| one.caveat.is_none() && fits(one, subject)) {
            continue;
        }
        for (kind, definition) in world.types.iter().enumerate() {
            let assigns = definition.assigns.iter();
            if !{ assigns }.any(|one| one.block == role.block) {
                continue;
            }
            for id in 0..world.ids.len() {
                all.push(tuple(world, Object { kind, id }, *name, subject));
            }
        }
    }
    all
}

fn fits(one: &Alternative, subject: Subject) -> bool {
    match subject {
        Subject::Object(object) => object.kind == one.kind && one.form == Form::Object,
        Subject::Wildcard(kind) => kind == one.kind && one.form == Form::Wildcard,
        Subject::Set(object, name) => object.kind == one.kind && one.form == Form::Set(name),
    }
}

fn tuple(
    world: &World,
    resource: Object,
    name: Name,
    subject: Subject,
) -> portcullis::tuple::Tuple {
    let text = format!(
        "{}#{}@{}",
        world.object_text(resource),
        world.word(name),
        world.subject_text(subject)
    );
    text.parse().unwrap()
}

/// Every tuple that could name the subject without more.
fn grants(world: &World, subject: Subject) -> Vec<portcullis::tuple::Tuple> {
    let mut all = Vec::new();
    for (kind, definition) in world.types.iter().enumerate() {
        for (name, body) in &definition.members {
            let oracle::model::Body::Relation(alternatives) = body else {
                continue;
            };
            let taken =
                |one: &Alternative| fits(one, subject) && one.caveat.is_none() && !one.expiration;
            let taken = alternatives.iter().any(taken);
            for id in (0..world.ids.len()).filter(|_| taken) {
                all.push(tuple(world, Object { kind, id }, *name, subject));
            }
        }
    }
    all.extend(assignments(world, subject));
    all
}

fn judge(
    world: &World,
    real: &Real,
    round: &Round,
    asked: (Object, Name),
    verdict: Verdict,
) -> &'static str {
    let said = explained(world, real, round, asked);
    let told = || {
        format!(
            "{}\n{}\n{said:?}",
            world_text(world),
            question_text(world, round, asked)
        )
    };
    let answer = said
        .as_ref()
        .map(|said| said.answer.clone())
        .map_err(Clone::clone);
    assert!(agrees(verdict, &answer), "not {verdict:?}\n{}", told());
    let Ok(said) = &said else { return "error" };
    assert_eq!(said.root.result, said.answer.decision, "{}", told());
    let Verdict::Exactly(_) = verdict else {
        return "beside a cycle";
    };
    match (said.answer.decision, &said.suggestion) {
        (Decision::Allowed, suggestion) => {
            assert_eq!(*suggestion, None, "{}", told());
            let mut proof = BTreeMap::new();
            tuples(&said.root, &mut proof);
            let alone = only(world, &proof);
            let replayed = decision(world, &alone, round, asked);
            assert_eq!(
                replayed,
                Some(Decision::Allowed),
                "alone: {proof:?}\n{}",
                told()
            );
            "allowed"
        }
        (Decision::Conditional, _) => {
            assert!(missing(&said.root), "{}", told());
            "conditional"
        }
        (Decision::Denied, Some(suggestion)) => {
            let (change, kind) = match suggestion {
                Suggestion::Grant(tuple) => {
                    (Change::Granted(tuple.clone()), "denied but for a grant")
                }
                Suggestion::Revoke(tuple) => {
                    (Change::Revoked(tuple.clone()), "denied but for a revoke")
                }
                Suggestion::Unlock(id) => {
                    let lock = real.state.locks.get(id).unwrap().clone();
                    (Change::Unlocked(lock), "denied but for a lock")
                }
                Suggestion::Assign {
                    role,
                    subject,
                    resource,
                } => {
                    let relation = role.replacen(':', "=", 1);
                    let tuple = format!("{resource}#{relation}@{subject}");
                    (
                        Change::Granted(tuple.parse().unwrap()),
                        "denied but for a role",
                    )
                }
            };
            let then = decision(world, &after(world, change), round, asked);
            assert_eq!(then, Some(Decision::Allowed), "{}", told());
            kind
        }
        (Decision::Denied, None) => {
            if let Subject::Object(Object { kind: 0, .. }) = round.subject {
                for tuple in grants(world, round.subject) {
                    let text = tuple.to_string();
                    let then = decision(world, &after(world, Change::Granted(tuple)), round, asked);
                    assert_ne!(then, Some(Decision::Allowed), "{text} would\n{}", told());
                }
            }
            "denied"
        }
    }
}

/// Whether some caveat in the tree says what it lacks.
fn missing(node: &Node) -> bool {
    let here = node.operator == Operator::Caveat && !node.missing_context.is_empty();
    here || node.children.iter().any(missing)
}

#[test]
fn explanations_hold() {
    let first = setting("PORTCULLIS_SEED", 0);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + setting("PORTCULLIS_EXPLAINS", 40) {
        let mut dice = Dice::new(seed);
        let world = dice.drawn(seed);
        let real = Real::new(&world);
        for _ in 0..3 {
            let round = Round {
                contextual: Vec::new(),
                ..dice.round(&world)
            };
            let asker = Asker {
                world: &world,
                subject: round.subject,
                request: &round.request,
                now: round.now,
            };
            let solution = asker.solve();
            for _ in 0..12 {
                let kind = 1 + dice.below(world.types.len() - 1);
                let names = world.members(kind);
                let asked = (
                    Object {
                        kind,
                        id: dice.below(world.ids.len()),
                    },
                    *dice.pick(&names),
                );
                let verdict = solution.verdict(asked.0, asked.1);
                *counts
                    .entry(judge(&world, &real, &round, asked, verdict))
                    .or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    for kind in [
        "allowed",
        "conditional",
        "denied",
        "denied but for a grant",
        "denied but for a revoke",
    ] {
        // Some are rare: a short run may miss them.
        assert!(
            setting("PORTCULLIS_EXPLAINS", 40) < 100 || counts.contains_key(kind),
            "no answer was {kind}: {counts:?}"
        );
    }
}

/// What is beside the stored tuples is explained as if it stood among them: the same answer, and
/// for an allow a proof that holds.
#[test]
fn a_contextual_tuple_is_explained_like_a_stored_one() {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..setting("PORTCULLIS_EXPLAINS", 40) {
        let mut dice = Dice::new(!seed);
        let world = dice.world();
        let mut fewer = world.clone();
        let stored = fewer.tuples.len() - fewer.tuples.len().min(3);
        let plain = Round {
            contextual: Vec::new(),
            ..dice.round(&world)
        };
        let beside = Round {
            contextual: fewer.tuples.split_off(stored),
            ..plain.clone()
        };
        let (within, without) = (Real::new(&world), Real::new(&fewer));
        for kind in 1..world.types.len() {
            for name in world.members(kind) {
                let asked = (Object { kind, id: 0 }, name);
                let told = || {
                    format!(
                        "{}\n{}",
                        world_text(&world),
                        question_text(&fewer, &beside, asked)
                    )
                };
                let said = explained(&fewer, &without, &beside, asked);
                let stored = explained(&world, &within, &plain, asked);
                let (Ok(said), Ok(stored)) = (&said, &stored) else {
                    assert_eq!(said.is_err(), stored.is_err(), "{}", told());
                    continue;
                };
                let outcome = said.answer.decision;
                assert_eq!(outcome, stored.answer.decision, "{}", told());
                if outcome == Decision::Allowed {
                    let mut proof = BTreeMap::new();
                    tuples(&said.root, &mut proof);
                    let alone = only(&world, &proof);
                    assert_eq!(
                        decision(&world, &alone, &plain, asked),
                        Some(outcome),
                        "{proof:?}\n{}\n{}",
                        said.text,
                        told()
                    );
                }
                *counts.entry(format!("{outcome:?}")).or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.len() == 3, "{counts:?}");
}
