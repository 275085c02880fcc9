//! Random schedules of the world, in which each answer is held against the promises.

use std::time::Duration;

use crate::server::MS;
use crate::world::{Got, World};

/// Numbers that look random, the same for a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % most as u64).unwrap()
    }

    fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const NAMES: &[&[&str]] = &[&["a"], &["a", "b"], &["a", "b", "c"], &["a", "a"]];
/// Steps of one world.
const STEPS: u64 = 400;

#[test]
fn no_schedule_breaks_a_promise() {
    let steps: u64 = std::env::var("PORTCULLIS_SIM_STEPS")
        .map_or(100_000, |text| text.parse().expect("a number"));
    let first: u64 =
        std::env::var("PORTCULLIS_SIM_SEED").map_or(0, |text| text.parse().expect("a number"));
    let mut total = crate::world::Seen::default();
    for seed in first..first + steps / STEPS {
        let seen = std::panic::catch_unwind(|| run(seed));
        let seen = seen.unwrap_or_else(|_| panic!("seed {seed}: PORTCULLIS_SIM_SEED={seed}"));
        total.answers += seen.answers;
        total.refused += seen.refused;
        total.complete += seen.complete;
        total.awaited += seen.awaited;
        total.renewed += seen.renewed;
        total.resets += seen.resets;
    }
    println!("{steps} steps: {total:?}");
    let worlds = steps / STEPS;
    assert!(total.answers > 10 * worlds, "{total:?}");
    assert!(total.refused > worlds / 4, "{total:?}");
    assert!(total.complete > worlds, "{total:?}");
    assert!(total.awaited > worlds / 4, "{total:?}");
    assert!(total.resets > worlds / 50, "{total:?}");
}

fn run(seed: u64) -> crate::world::Seen {
    let mut dice = Dice(seed);
    let mut world = World::new(NAMES[dice.below(NAMES.len())]);
    for node in 0..world.nodes.len() {
        world.nodes[node].rate = 993 + dice.below(15) as u64;
        world.join(node);
    }
    // As a sidecar does it, or at any time.
    let in_rhythm = seed % 2 == 1;
    for _ in 0..STEPS {
        let node = dice.below(world.nodes.len());
        match dice.below(100) {
            0..30 => ask(&mut world, &mut dice, node),
            30..48 => fill(&mut world, &mut dice, node),
            48..64 if in_rhythm && !world.is_due(node) && world.nodes[node].acks.is_empty() => {}
            48..64 => ack(&mut world, &mut dice, node),
            64..78 => stream(&mut world, &mut dice, node),
            78..88 => write(&mut world, &mut dice),
            88..98 => time(&mut world, &mut dice, node),
            _ => fault(&mut world, &mut dice),
        }
    }
    world.seen
}

fn ask(world: &mut World, dice: &mut Dice, node: usize) {
    let question = dice.below(crate::server::QUESTIONS);
    if !dice.once_in(3) {
        if world.ask(node, question) == Got::Nothing {
            world.fill_send(node, question);
        }
        return;
    }
    // A reader whose steps come one by one, with whatever in between.
    if world.nodes[node].readers.len() < 4 {
        let reader = world.arrive(node, question);
        world.nodes[node].readers.push(reader);
    }
    let place = dice.below(world.nodes[node].readers.len());
    let mut reader = world.nodes[node].readers.swap_remove(place);
    if reader.is_judged() {
        world.finish(node, reader);
    } else if world.judge(node, &mut reader).is_none() {
        world.nodes[node].readers.push(reader);
    }
}

fn fill(world: &mut World, dice: &mut Dice, node: usize) {
    match dice.below(4) {
        0 => {
            let question = dice.below(crate::server::QUESTIONS);
            let under_way = |world: &World| {
                let mut fills = world.nodes[node].fills.iter();
                fills.position(|fill| fill.question == question)
            };
            match under_way(world) {
                Some(place) => {
                    let reader = world.arrive(node, question);
                    world.nodes[node].fills[place].waiting.push(reader);
                }
                None => world.fill_send(node, question),
            }
        }
        1 | 2 => {
            let timed = dice.once_in(4).then(|| Duration::from_millis(500));
            world.fill_arrives(node, timed);
        }
        _ => drop(world.fill_returns(node)),
    }
}

fn ack(world: &mut World, dice: &mut Dice, node: usize) {
    if dice.once_in(2) && world.nodes[node].session.is_some() {
        world.ack(node);
        return;
    }
    match dice.below(3) {
        0 if world.nodes[node].acks.is_empty() => drop(world.ack_send(node)),
        1 => {
            let age = match dice.once_in(4) {
                true => dice.below(800) as u64 * MS,
                false => 0,
            };
            world.ack_arrives(node, age);
        }
        _ => world.ack_returns(node),
    }
}

fn stream(world: &mut World, dice: &mut Dice, node: usize) {
    match dice.below(12) {
        0 => world.connect(node),
        1 if world.streams[node].len() > 1 => world.notice(node, 0),
        2..8 => while world.deliver(node).is_some() {},
        _ => drop(world.deliver(node)),
    }
    let is_gone = world.nodes[node].stream.is_none() || world.streams[node].is_empty();
    if is_gone && dice.once_in(2) {
        world.connect(node);
    }
}

fn write(world: &mut World, dice: &mut Dice) {
    match dice.below(8) {
        0..3 if world.server.pending.is_none() => {
            let question = dice.below(crate::server::QUESTIONS);
            let changed = (!dice.once_in(10)).then(|| vec![question]);
            let parts = if dice.once_in(5) { 3 } else { 1 };
            world.stamp(changed, parts);
        }
        0..5 if world.server.pending.is_some() => drop(world.publish()),
        5 => drop(world.barrier()),
        _ => {
            for (revision, _) in world.barriers.clone() {
                world.settle(revision);
            }
        }
    }
}

fn time(world: &mut World, dice: &mut Dice, node: usize) {
    match dice.below(40) {
        0 => world.pass(3_100),
        1 => world.pass(dice.below(3_000) as u64),
        2..4 => {
            let step = i64::try_from(dice.below(4_000)).unwrap() - 3_000;
            world.nodes[node].wall += step * i64::try_from(MS).unwrap();
        }
        _ => world.pass(dice.below(60) as u64),
    }
}

fn fault(world: &mut World, dice: &mut Dice) {
    let count = dice.below(3);
    match dice.below(24) {
        0 => world.lose(count),
        1 => world.restore(count),
        2 => {
            world.server.key_version += 1;
            world.restart();
        }
        3 => world.server.oldest = world.server.head().at.revision.0,
        4..7 => world.restart(),
        _ => return,
    }
    world.server.oldest = world.server.oldest.min(world.server.head().at.revision.0);
}
