//! Check against the oracle: random worlds, random questions, every answer compared.
//!
//! `PORTCULLIS_CHECKS` says how many answers; `PORTCULLIS_SEED` begins with another world.

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

use oracle::model::{Level, Name, Object, Value, World};
use oracle::world::{Dice, Round, put};
use oracle::{Asker, Solution, Verdict};
use real::{Real, agrees, names_the_locks, question_text, setting, world_text};

const ROUNDS: usize = 4;
const QUESTIONS: usize = 30;

/// The tuples that count in a round.
fn united(world: &World, round: &Round) -> World {
    let mut united = world.clone();
    united.tuples.extend(round.contextual.iter().cloned());
    united
}

fn solve<'a>(world: &'a World, round: &'a Round, now: i64) -> Solution<'a> {
    let asker = Asker {
        world,
        subject: round.subject,
        request: &round.request,
        now,
    };
    asker.solve()
}

/// Why the evaluator is wrong about one question, if it is.
fn wrong(world: &World, round: &Round, asked: (Object, Name)) -> Option<String> {
    let united = united(world, round);
    let verdict = solve(&united, round, round.now).verdict(asked.0, asked.1);
    let said = Real::new(world).ask(world, round, asked, false);
    let solution = solve(&united, round, round.now);
    if !agrees(verdict, &said) || !names_the_locks(&solution, asked, &said) {
        return Some(format!("said {said:?}\nbut it is {verdict:?}"));
    }
    let until = said.ok()?.valid_until;
    for end in ends(&united, round.now) {
        if until.is_some_and(|until| until <= real::instant(end)) {
            break;
        }
        let then = solve(&united, round, end).verdict(asked.0, asked.1);
        if !still(verdict, then) {
            let end = real::instant(end);
            return Some(format!(
                "valid until {until:?}, but at {end} it is {then:?}"
            ));
        }
    }
    None
}

/// Whether an answer still holds; where cycles come and go, as far as that can be said.
fn still(before: Verdict, now: Verdict) -> bool {
    let level = |verdict| match verdict {
        Verdict::Exactly(value) => Some(value.level),
        Verdict::Level(level) => Some(level),
        Verdict::Undecided => Some(Level::Conditional),
        _ => None,
    };
    match (before, now) {
        (Verdict::Exactly(before), Verdict::Exactly(now)) => {
            before.level == now.level
                && (before.level != Level::Conditional || before.missing == now.missing)
        }
        (before, now) => level(before) == level(now),
    }
}

/// The instants after `now` at which tuples end, in order.
fn ends(world: &World, now: i64) -> Vec<i64> {
    let ends = world.tuples.iter().filter_map(|tuple| tuple.expires_at);
    let locks = world
        .locks
        .iter()
        .flatten()
        .filter_map(|lock| lock.expires_at);
    let ends = ends.chain(locks);
    let mut ends: Vec<_> = ends.filter(|end| *end > now).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Takes away what the mistake does not need, and says how to repeat it.
fn report(seed: u64, world: &World, round: &Round, asked: (Object, Name)) -> String {
    let (mut world, mut round) = (world.clone(), round.clone());
    while let Some(smaller) = smaller(&world, &round, asked) {
        (world, round) = smaller;
    }
    format!(
        "seed {seed}\n{}\n{}\n{}",
        world_text(&world),
        question_text(&world, &round, asked),
        wrong(&world, &round, asked).unwrap_or_else(|| "but right when asked alone".to_owned()),
    )
}

fn smaller(world: &World, round: &Round, asked: (Object, Name)) -> Option<(World, Round)> {
    let without = |list: &[_], at| {
        let mut list = list.to_vec();
        list.remove(at);
        list
    };
    let worlds = (0..world.tuples.len()).map(|at| {
        let mut smaller = world.clone();
        smaller.tuples = without(&world.tuples, at);
        (smaller, round.clone())
    });
    let rounds = (0..round.contextual.len()).map(|at| {
        let mut smaller = round.clone();
        smaller.contextual = without(&round.contextual, at);
        (world.clone(), smaller)
    });
    let mut all = worlds.chain(rounds);
    all.find(|(world, round)| wrong(world, round, asked).is_some())
}

/// Everything that can be asked in a world.
fn questions(world: &World) -> Vec<(Object, Name)> {
    let mut all = Vec::new();
    for kind in 0..world.types.len() {
        for name in world.members(kind) {
            all.extend((0..world.ids.len()).map(|id| (Object { kind, id }, name)));
        }
    }
    all
}

/// Compares some answers of one world; counts what they were.
fn compare(seed: u64, counts: &mut BTreeMap<&'static str, u64>) -> u64 {
    let mut dice = Dice::new(seed);
    let world = dice.drawn(seed);
    let real = Real::new(&world);
    let all = questions(&world);
    let permission = |name: Name| world.names[name].starts_with('p');
    let mut derived: Vec<_> = all
        .iter()
        .copied()
        .filter(|(_, name)| permission(*name))
        .collect();
    if derived.is_empty() {
        derived.clone_from(&all);
    }
    let mut checks = 0;
    for _ in 0..ROUNDS {
        let round = dice.round(&world);
        let united = united(&world, &round);
        let solution = solve(&united, &round, round.now);
        let unstaffed = without_assignments(&united);
        let bare = (!world.blocks.is_empty()).then(|| solve(&unstaffed, &round, round.now));
        let later: Vec<_> = ends(&united, round.now)
            .into_iter()
            .map(|end| (end, solve(&united, &round, end)))
            .collect();
        let batch = real.ask_all(&world, &round, &all);
        let single = all
            .iter()
            .map(|asked| real.ask(&world, &round, *asked, false));
        assert!(batch.into_iter().eq(single), "a batch of world {seed}");
        for _ in 0..QUESTIONS {
            let mut asked = *dice.pick(&all);
            // Most random questions are denied for want of anything: half are chosen by answer.
            for _ in 0..dice.below(8) {
                if solution.verdict(asked.0, asked.1) != Verdict::Exactly(Value::DENIED) {
                    break;
                }
                asked = *dice.pick(&derived);
            }
            let verdict = solution.verdict(asked.0, asked.1);
            let said = real.ask(&world, &round, asked, false);
            let until = said.as_ref().map_or(None, |answer| answer.valid_until);
            let kept = said.is_err()
                || later.iter().all(|(end, then)| {
                    until.is_some_and(|until| until <= real::instant(*end))
                        || still(verdict, then.verdict(asked.0, asked.1))
                });
            assert!(
                kept && agrees(verdict, &said) && names_the_locks(&solution, asked, &said),
                "{}",
                report(seed, &world, &round, asked)
            );
            *counts.entry(kind(verdict)).or_default() += 1;
            let locked = said.as_ref().is_ok_and(|answer| !answer.locks.is_empty());
            *counts.entry("locked").or_default() += u64::from(locked);
            let by_role = bare
                .as_ref()
                .is_some_and(|bare| bare.verdict(asked.0, asked.1) != verdict);
            *counts.entry("decided by a role").or_default() += u64::from(by_role);
            *counts.entry("with an end").or_default() += u64::from(until.is_some());
            checks += 1;
        }
    }
    checks
}

/// The same with nobody in any role.
fn without_assignments(world: &World) -> World {
    let mut bare = world.clone();
    (bare.tuples).retain(|tuple| !world.roles.contains_key(&tuple.relation));
    bare
}

fn kind(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Exactly(value) => match value.level {
            Level::Denied => "denied",
            Level::Conditional => "conditional",
            Level::Allowed => "allowed",
        },
        Verdict::Level(_) => "beside a negation cycle",
        Verdict::CaveatFailed => "caveat failed",
        Verdict::NegationCycle => "negation cycle",
        Verdict::Undecided => "caveat and cycle mixed",
    }
}

#[test]
fn check_says_what_the_oracle_says() {
    let wanted = setting("PORTCULLIS_CHECKS", 100_000);
    let mut seed = setting("PORTCULLIS_SEED", 0);
    let (mut checks, mut counts) = (0, BTreeMap::new());
    while checks < wanted {
        checks += compare(seed, &mut counts);
        seed += 1;
    }
    println!("{checks} checks in {seed} worlds: {counts:?}");
    for outcome in [
        "allowed",
        "denied",
        "conditional",
        "caveat failed",
        "negation cycle",
        "locked",
        "decided by a role",
    ] {
        // Some are rare: a short run may miss them.
        assert!(
            checks < 100_000 || counts.contains_key(outcome),
            "no answer was {outcome}"
        );
    }
}

#[test]
fn a_contextual_tuple_counts_like_a_stored_one() {
    let mut compared = 0;
    for seed in 0..setting("PORTCULLIS_CHECKS", 100_000) / 500 {
        let mut dice = Dice::new(!seed);
        let world = dice.drawn(seed);
        let mut round = dice.round(&world);
        // Only tuples that stand nowhere yet: others would be replaced, not united.
        let mut stored = world.clone();
        round.contextual.clear();
        for tuple in std::iter::from_fn(|| Some(dice.tuple(&world, world.ids.len())))
            .take(4)
            .flatten()
        {
            if put(&mut stored.tuples, tuple.clone()).is_none() {
                round.contextual.push(tuple);
            } else {
                stored.clone_from(&world);
                round.contextual.clear();
            }
        }
        let mut plain = round.clone();
        plain.contextual.clear();
        let (beside, within) = (Real::new(&world), Real::new(&stored));
        for asked in questions(&world) {
            let beside = beside.ask(&world, &round, asked, false);
            let within = within.ask(&stored, &plain, asked, false);
            let reduced = |said: Result<portcullis::eval::Answer, _>| {
                said.map(|answer| (answer.decision, answer.missing_context, answer.valid_until))
            };
            let same = match (reduced(beside.clone()), reduced(within.clone())) {
                (Ok(a), Ok(b)) => (a.0, a.1) == (b.0, b.1),
                (a, b) => a.is_err() && b.is_err(),
            };
            assert!(
                same,
                "seed {seed}\n{}\n{}\nbeside {beside:?}\nwithin {within:?}",
                world_text(&world),
                question_text(&world, &round, asked)
            );
            compared += 1;
        }
    }
    println!("{compared} answers with contextual tuples compared");
}

/// Where no lock is held all is as it would be if the schema knew none.
#[test]
fn without_locks_all_is_as_before() {
    let mut compared = 0;
    for seed in 0..setting("PORTCULLIS_CHECKS", 100_000) / 500 {
        let mut dice = Dice::new(seed ^ 0x4e0);
        let mut world = dice.drawn(seed);
        world.locks.clear();
        let round = dice.round(&world);
        let mut bare = world.clone();
        bare.types.iter_mut().for_each(|kind| kind.modes.clear());
        let (real, without) = (Real::new(&world), Real::new(&bare));
        let questions = questions(&world);
        for _ in 0..40 {
            let asked = *dice.pick(&questions);
            let said = [(&real, &world), (&without, &bare)]
                .map(|(real, world)| real.ask(world, &round, asked, false));
            assert_eq!(said[0], said[1], "seed {seed}\n{}", world_text(&world));
            compared += 1;
        }
    }
    println!("{compared} answers compared");
}

/// Adding a lock never gives anything, and its end takes nothing away; in which order locks were
/// placed makes no difference.
#[test]
fn locks_only_take_away() {
    let (mut compared, mut taken) = (0, 0);
    for seed in 0..setting("PORTCULLIS_CHECKS", 100_000) / 500 {
        let mut dice = Dice::new(seed ^ 0x10c4);
        let mut world = dice.drawn(seed);
        world.locks.clear();
        let mut round = dice.round(&world);
        round.contextual.clear();
        let questions = questions(&world);
        let ask = |world: &World, at| Real::new(world).ask(world, &round, at, false);
        let Some(lock) = dice.lock(&world) else {
            continue;
        };
        let more = Some(lock);
        let other = dice.lock(&world);
        let with = |locks: &[&Option<oracle::model::Lock>]| World {
            locks: locks.iter().map(|lock| (*lock).clone()).collect(),
            ..world.clone()
        };
        let worlds = [
            with(&[&other]),
            with(&[&other, &more]),
            with(&[&more, &other]),
        ];
        let reals = worlds.each_ref().map(Real::new);
        for _ in 0..40 {
            let asked = *dice.pick(&questions);
            let said = [0, 1, 2].map(|at| reals[at].ask(&worlds[at], &round, asked, false));
            let level = |said: &Result<portcullis::eval::Answer, _>| {
                said.as_ref().ok().map(|answer| answer.decision)
            };
            let [before, after, swapped] = said.each_ref().map(level);
            let never_more = match (before, after) {
                (Some(before), Some(after)) => after <= before,
                _ => true,
            };
            assert!(
                never_more && after == swapped,
                "{}\n{}\n{said:?}\nwithout any {:?}",
                world_text(&worlds[1]),
                question_text(&world, &round, asked),
                ask(&world, asked),
            );
            compared += 1;
            taken += u64::from(before != after);
        }
    }
    println!("{compared} answers compared, of which a lock took {taken}");
    assert!(compared < 2_000 || taken > 0, "no lock took anything away");
}
