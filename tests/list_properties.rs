//! The lists against the oracle: random worlds, and every list in them equal to the checks that it
//! stands for.
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

use oracle::model::{Object, World};
use oracle::world::{Dice, Round};
use oracle::{Asker, Solution};
use portcullis::eval::{Limits, Question, list_permissions};
use real::{Real, agrees, setting, world_text};

/// What one subject asks in a world, with no tuples of its own.
fn round(dice: &mut Dice, world: &World) -> Round {
    Round {
        contextual: Vec::new(),
        ..dice.round(world)
    }
}

fn solve<'a>(world: &'a World, round: &'a Round) -> Solution<'a> {
    let asker = Asker {
        world,
        subject: round.subject,
        request: &round.request,
        now: round.now,
    };
    asker.solve()
}

/// Calls `judge` for some rounds of many worlds.
fn worlds(crowd: bool, judge: impl Fn(u64, &World, &Real, &Round)) {
    let first = setting("PORTCULLIS_SEED", 0);
    let count = setting("PORTCULLIS_LISTS", 600);
    for seed in first..first + count {
        let mut dice = Dice::new(seed);
        let world = match crowd {
            true => dice.crowd(),
            false => dice.world(),
        };
        let real = Real::new(&world);
        for _ in 0..3 {
            let round = round(&mut dice, &world);
            judge(seed, &world, &real, &round);
        }
    }
}

#[test]
fn list_permissions_equals_single_checks() {
    worlds(false, |seed, world, real, round| {
        let solution = solve(world, round);
        let context = real::context(&round.request);
        let subject = real::subject(&world.subject_text(round.subject));
        for kind in 0..world.types.len() {
            let object = Object { kind, id: 0 };
            let resource: portcullis::tuple::Object = world.object_text(object).parse().unwrap();
            let question = Question {
                subject: subject.as_ref(),
                permission: "",
                resource: resource.as_ref(),
                context: &context,
                contextual: &[],
                with_dependencies: false,
            };
            let (now, limits) = (real::instant(round.now), Limits::default());
            let entries = list_permissions(real.facts(), &question, now, &limits).unwrap();
            let mut names: Vec<_> = world.members(kind);
            names.sort_by_key(|name| world.names[*name].clone());
            assert_eq!(entries.len(), names.len());
            for (entry, name) in entries.iter().zip(names) {
                assert_eq!(*entry.permission, *world.names[name]);
                let verdict = solution.verdict(object, name);
                assert!(
                    agrees(verdict, &entry.outcome),
                    "seed {seed}\n{}\n{resource}#{}@{subject}: {:?}, not {verdict:?}",
                    world_text(world),
                    entry.permission,
                    entry.outcome
                );
            }
        }
    });
}
