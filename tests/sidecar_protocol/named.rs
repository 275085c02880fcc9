//! The interleavings that break simpler protocols, one test each.

use std::time::Duration;

use portcullis::revision::{Epoch, Revision, Token};
use portcullis::sidecar::cache::Stale;
use portcullis::sidecar::follower::{Broken, Step};

use crate::server::MS;
use crate::world::{Got, World, commit_event};

const CHANGED: Got = Got::Stale(Stale::Changed);
const UNLEASED: Got = Got::Stale(Stale::Unleased);

/// A world whose caches follow, have a lease, and keep the answer to question 0.
pub(crate) fn warm(names: &[&str]) -> World {
    let mut world = World::new(names);
    for node in 0..names.len() {
        world.join(node);
        world.fill(node, 0);
        assert_eq!(world.ask(node, 0), world.right(0));
    }
    world
}

#[test]
fn a_commit_that_is_applied_ends_the_answers_that_rest_on_it() {
    let mut world = warm(&["a"]);
    world.fill(0, 2);
    world.commit(&[0]);
    world.deliver_all(0);
    assert_eq!(world.ask(0, 0), CHANGED);
    assert_eq!(world.ask(0, 2), world.right(2));
    world.fill(0, 0);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn without_a_lease_nothing_is_answered() {
    let mut world = World::new(&["a"]);
    world.connect(0);
    world.deliver_all(0);
    world.fill(0, 0);
    assert_eq!(world.ask(0, 0), UNLEASED);
    world.ack(0);
    assert_eq!(world.ask(0, 0), world.right(0));
    world.pass(2_959);
    assert_eq!(world.ask(0, 0), world.right(0));
    world.pass(2);
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn a_barrier_waits_for_a_lease_that_runs_and_no_longer() {
    let mut world = warm(&["a", "b"]);
    let revision = world.commit(&[0]);
    world.barrier();
    world.deliver_all(0);
    world.ack(0);
    assert!(!world.settle(revision));
    world.deliver_all(1);
    world.ack(1);
    assert!(world.settle(revision));
    assert_eq!((world.ask(0, 0), world.ask(1, 0)), (CHANGED, CHANGED));
    // The second one stands still.
    let revision = world.commit(&[0]);
    world.barrier();
    world.deliver_all(0);
    world.ack(0);
    world.pass(2_900);
    assert!(!world.settle(revision));
    world.pass(101);
    assert!(world.settle(revision));
}

#[test]
fn a_lapsed_cache_that_comes_back_after_complete() {
    let mut world = warm(&["a"]);
    world.pass(4_000);
    let revision = world.commit(&[0]);
    world.barrier();
    assert!(world.settle(revision), "its lease has run out");
    // It was asleep: its stream still holds the commit, and it acknowledges what it had applied.
    assert_eq!(world.ack(0), 0);
    assert_eq!(world.ask(0, 0), UNLEASED);
    world.deliver_all(0);
    assert!(world.ack(0) > 0);
    assert_eq!(world.ask(0, 0), CHANGED);
}

#[test]
fn a_server_that_restarts_and_has_forgotten_its_leases() {
    let mut world = warm(&["a"]);
    world.restart();
    let revision = world.commit(&[0]);
    world.barrier();
    assert!(!world.settle(revision), "leases from before may run");
    // The cache has not noticed, and answers by the lease that it was granted.
    assert!(matches!(world.ask(0, 0), Got::Answer(_)));
    world.pass(2_999);
    assert!(!world.settle(revision));
    world.pass(1);
    assert!(world.settle(revision));
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn a_server_that_restarts_keeps_the_cache() {
    let mut world = warm(&["a"]);
    world.restart();
    world.join(0);
    assert_eq!(world.ask(0, 0), world.right(0));
    assert_eq!(world.seen.resets, 0);
}

#[test]
fn the_wall_clock_set_back_with_the_stream_stalled_and_acks_flowing() {
    let mut world = warm(&["a"]);
    // A stamp by the wall that is an hour in the future now.
    world.nodes[0].wall = -3_600_000 * i64::try_from(MS).unwrap();
    world.commit(&[0]);
    for _ in 0..6 {
        world.pass(500);
        world.ack(0);
    }
    // The head was never applied, so that what is kept may be as old as the last F.
    assert_eq!(world.ask(0, 0), UNLEASED);
    world.deliver_all(0);
    assert_eq!(world.ask(0, 0), CHANGED);
}

#[test]
fn the_wall_clock_set_back_with_everything_stalled() {
    let mut world = warm(&["a"]);
    world.nodes[0].wall = -3_600_000 * i64::try_from(MS).unwrap();
    world.pass(3_000);
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn acks_flow_and_the_stream_is_stalled() {
    let mut world = warm(&["a"]);
    for _ in 0..9 {
        world.pass(300);
        world.commit(&[1]);
        world.ack(0);
    }
    world.pass(300);
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn the_wall_clock_set_forward_ends_the_lease_until_the_next_ack() {
    let mut world = warm(&["a"]);
    world.nodes[0].wall = 3_600_000 * i64::try_from(MS).unwrap();
    assert_eq!(world.ask(0, 0), UNLEASED);
    world.ack(0);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn two_caches_under_one_id_one_of_them_behind() {
    let mut world = warm(&["a", "a"]);
    let revision = world.commit(&[0]);
    world.barrier();
    world.deliver_all(0);
    world.ack(0);
    assert!(!world.settle(revision), "the other one has not applied it");
    assert_eq!(world.ask(0, 0), CHANGED);
    world.ack(1);
    assert!(!world.settle(revision));
    world.deliver_all(1);
    world.ack(1);
    assert!(world.settle(revision));
    assert_eq!(world.ask(1, 0), CHANGED);
}

#[test]
fn a_newer_stream_of_the_id_while_the_lease_of_the_old_one_runs() {
    let mut world = warm(&["a"]);
    // The process that had the first stream still answers, and another one has taken its name.
    let old = std::mem::replace(&mut world.nodes[0], World::new(&["a"]).nodes.remove(0));
    world.join(0);
    world.nodes.push(old);
    world.streams.push(Vec::new());
    let revision = world.commit(&[0]);
    world.barrier();
    world.deliver_all(0);
    world.ack(0);
    assert!(!world.settle(revision));
    assert!(matches!(world.ask(1, 0), Got::Answer(_)));
    world.pass(3_000);
    assert!(world.settle(revision));
    assert_eq!(world.ask(1, 0), UNLEASED);
}

#[test]
fn an_ack_of_another_epoch() {
    let mut world = warm(&["a"]);
    world.ack_send(0);
    world.restore(0);
    world.connect(0);
    // What was acknowledged is no revision of the new epoch.
    assert_eq!(world.ack_arrives(0, 0), Duration::ZERO);
    world.ack_returns(0);
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn an_ack_above_the_head() {
    let mut world = warm(&["a"]);
    world.commit(&[1]);
    world.deliver_all(0);
    world.lose(1);
    world.connect(0);
    let session = world.streams[0][0].session.to_string();
    world.nodes[0].session = Some(session);
    assert!(world.ack_send(0));
    assert_eq!(world.ack_arrives(0, 0), Duration::ZERO);
}

#[test]
fn an_ack_of_a_stranger() {
    let mut world = warm(&["a", "b"]);
    world.nodes[1].session = world.nodes[0].session.clone();
    assert_eq!(world.ack(1), 0, "the session is another's");
    world.nodes[1].session = Some("0000000000000001-99".to_owned());
    assert_eq!(world.ack(1), 0);
    world.nodes[1].session = Some("nonsense".to_owned());
    assert_eq!(world.ack(1), 0);
    assert_eq!(world.ask(1, 0), UNLEASED);
}

#[test]
fn a_request_that_joins_an_upstream_call_from_before_the_commit() {
    let mut world = warm(&["a"]);
    world.fill_send(0, 1);
    world.fill_arrives(0, None);
    let revision = world.commit(&[1]);
    world.barrier();
    world.deliver_all(0);
    world.ack(0);
    assert!(world.settle(revision));
    // It comes after `complete`, and finds the call under way.
    let reader = world.arrive(0, 1);
    world.nodes[0].fills[0].waiting.push(reader);
    assert_eq!(world.fill_returns(0), [CHANGED, CHANGED]);
}

#[test]
fn a_request_that_joins_gets_no_less_than_what_was_applied_when_it_came() {
    let mut world = warm(&["a"]);
    world.fill_send(0, 1);
    world.fill_arrives(0, None);
    world.commit(&[2]);
    world.deliver_all(0);
    let reader = world.arrive(0, 1);
    world.nodes[0].fills[0].waiting.push(reader);
    let behind = Got::Stale(Stale::Behind);
    assert_eq!(world.fill_returns(0), [world.right(1), behind]);
}

#[test]
fn a_fill_in_flight_over_a_reset() {
    let mut world = warm(&["a"]);
    world.fill_send(0, 1);
    world.fill_arrives(0, None);
    // The stream comes back too late, and what it missed is trimmed.
    world.commit(&[1]);
    world.commit(&[2]);
    world.server.oldest = world.server.head().at.revision.0;
    world.connect(0);
    world.deliver_all(0);
    world.ack(0);
    assert_eq!(world.fill_returns(0), [CHANGED]);
    assert_eq!((world.ask(0, 0), world.ask(0, 1)), (Got::Nothing, CHANGED));
}

#[test]
fn a_fill_in_flight_over_a_schema_change() {
    let mut world = warm(&["a"]);
    world.fill_send(0, 1);
    world.fill_arrives(0, None);
    world.stamp(None, 1);
    let revision = world.publish();
    world.barrier();
    world.deliver_all(0);
    world.ack(0);
    assert!(world.settle(revision));
    assert_eq!(world.fill_returns(0), [CHANGED]);
    assert_eq!((world.ask(0, 0), world.ask(0, 1)), (CHANGED, CHANGED));
    world.fill(0, 1);
    assert_eq!(world.ask(0, 1), world.right(1));
}

#[test]
fn a_fill_in_flight_over_a_restore() {
    let mut world = warm(&["a"]);
    world.fill_send(0, 1);
    world.fill_arrives(0, None);
    // The same revision, under another epoch.
    world.restore(0);
    world.join(0);
    assert_eq!(world.fill_returns(0), [CHANGED]);
    assert_eq!((world.ask(0, 0), world.ask(0, 1)), (Got::Nothing, CHANGED));
}

#[test]
fn a_hello_of_another_epoch_empties_the_cache_before_the_reset_does() {
    let mut world = warm(&["a"]);
    world.restore(0);
    world.connect(0);
    world.deliver(0).unwrap().unwrap();
    assert_eq!(world.ask(0, 0), Got::Nothing);
    let epoch = world.nodes[0].cache.generation().epoch();
    assert_eq!(epoch, Some(world.server.head().at.epoch));
}

#[test]
fn a_fill_in_flight_over_the_first_hello() {
    let mut world = World::new(&["a"]);
    world.fill_send(0, 0);
    world.fill_arrives(0, None);
    world.commit(&[0]);
    world.join(0);
    world.fill_returns(0);
    assert!(!matches!(world.ask(0, 0), Got::Answer(_)));
}

#[test]
fn an_answer_from_before_the_first_hello_that_comes_after_it() {
    let mut world = World::new(&["a"]);
    world.connect(0);
    // Hello says how far the stream is, and is still on its way when the answer is made.
    world.commit(&[1]);
    world.deliver_all(0);
    world.ack(0);
    let at = world.server.head().at;
    let older = Token {
        revision: Revision(at.revision.0 - 1),
        ..at
    };
    // A node that is behind: older than what the stream began with.
    world.fill_send(0, 1);
    let mut state = world.timeline[0].1.clone();
    assert_eq!(state.at, older);
    std::mem::swap(&mut world.server.log.last_mut().unwrap().state, &mut state);
    world.fill_arrives(0, None);
    std::mem::swap(&mut world.server.log.last_mut().unwrap().state, &mut state);
    assert_eq!(world.fill_returns(0), [CHANGED]);
    assert_eq!(world.ask(0, 1), CHANGED);
}

#[test]
fn two_appliers_around_a_reconnect() {
    let mut world = warm(&["a"]);
    let at = world.server.head().at;
    let old = world.nodes[0].stream.unwrap();
    let generation = world.nodes[0].cache.generation();
    world.connect(0);
    world.deliver_all(0);
    world.commit(&[1]);
    world.fill(0, 1);
    world.commit(&[1]);
    world.deliver_all(0);
    // The task of the first stream wakes up with a commit that it had read.
    let next = |count: u64| Token {
        revision: Revision(at.revision.0 + count),
        ..at
    };
    let late = world.nodes[0]
        .follower
        .take(old, commit_event(next(1), &[], false));
    assert_eq!(late, Err(Broken::Replaced));
    // And were it in the midst of one: nothing goes back.
    generation.invalidate([101], next(1).revision);
    generation.publish(next(1).revision);
    assert_eq!(generation.applied(), next(2).revision);
    assert_eq!(world.ask(0, 1), CHANGED);
    world.fill(0, 1);
    assert_eq!(world.ask(0, 1), world.right(1));
    world.restore(1);
    world.connect(0);
    world.deliver_all(0);
    world.fill(0, 1);
    world.ack(0);
    // One of the generation before harms nobody.
    generation.raise_floor(Revision(1_000));
    generation.publish(Revision(1_000));
    let here = world.nodes[0].cache.generation();
    assert_eq!(here.applied(), world.server.head().at.revision);
    assert_eq!(world.ask(0, 1), world.right(1));
}

#[test]
fn a_reader_descheduled_between_slots_and_lease() {
    let mut world = warm(&["a"]);
    let mut reader = world.arrive(0, 0);
    assert_eq!(world.judge(0, &mut reader), None);
    // Longer than a lease; meanwhile the cache goes on, and its lease is renewed.
    for _ in 0..9 {
        world.pass(400);
        world.commit(&[0]);
        world.deliver_all(0);
        world.ack(0);
    }
    assert_eq!(world.finish(0, reader), UNLEASED);
}

#[test]
fn a_reader_descheduled_between_revision_and_slots() {
    let mut world = warm(&["a"]);
    let mut reader = world.arrive(0, 0);
    world.commit(&[0]);
    world.deliver_all(0);
    assert_eq!(world.judge(0, &mut reader), Some(CHANGED));
}

#[test]
fn slots_and_floor_before_the_revision() {
    let world = warm(&["a"]);
    let generation = world.nodes[0].cache.generation();
    let next = generation.applied().next();
    // While the keys of a commit go in, nobody may see its revision.
    let keys = (0..3).inspect(|_| assert!(generation.applied() < next));
    generation.invalidate(keys, next);
    assert!(generation.applied() < next);
    generation.publish(next);
    assert_eq!(generation.applied(), next);
}

#[test]
fn a_lost_log_tail_written_anew_under_the_same_revision_numbers() {
    let mut world = warm(&["a"]);
    world.commit(&[0]);
    world.deliver_all(0);
    world.fill(0, 0);
    // The commit is lost, and another takes its number.
    world.lose(1);
    world.commit(&[1]);
    world.connect(0);
    world.deliver_all(0);
    assert_eq!(world.seen.resets, 1, "the chain is another one");
    world.ack(0);
    assert_eq!(world.ask(0, 0), Got::Nothing);
    world.fill(0, 0);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn an_answer_from_a_lost_tail_that_the_stream_never_reached() {
    let mut world = warm(&["a"]);
    // The answer is ahead of the stream, which breaks before it gets there.
    world.commit(&[1]);
    world.fill(0, 1);
    assert_eq!(world.ask(0, 1), world.right(1));
    world.lose(1);
    world.commit(&[1]);
    world.commit(&[2]);
    world.connect(0);
    world.deliver_all(0);
    world.ack(0);
    assert_eq!(
        world.seen.resets, 0,
        "what was applied is of both histories"
    );
    assert_eq!(world.ask(0, 1), CHANGED);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn a_history_that_is_shorter_than_what_was_applied() {
    let mut world = warm(&["a"]);
    world.commit(&[0]);
    world.deliver_all(0);
    world.fill(0, 0);
    world.lose(1);
    world.join(0);
    assert_eq!(world.seen.resets, 1);
    assert_eq!(world.ask(0, 0), Got::Nothing);
    world.fill(0, 0);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn a_restored_server_whose_revisions_are_lower() {
    let mut world = World::new(&["a"]);
    world.commit(&[0]);
    world.join(0);
    world.commit(&[0]);
    world.deliver_all(0);
    world.fill(0, 0);
    world.restore(1);
    world.join(0);
    assert_eq!(world.ask(0, 0), Got::Nothing);
    // Slots and floor of the old history do not stand in the way of the new one.
    world.fill(0, 0);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn keys_after_a_restart() {
    let mut world = warm(&["a"]);
    world.restart();
    world.commit(&[0]);
    world.join(0);
    // The keys are the same ones, so that the commit hits what was kept before.
    assert_eq!(world.ask(0, 0), CHANGED);
    world.fill(0, 0);
    // A version that computes others finds nothing.
    world.server.key_version += 1;
    world.restart();
    world.join(0);
    assert_eq!(world.ask(0, 0), Got::Nothing);
    world.fill(0, 0);
    assert_eq!(world.ask(0, 0), world.right(0));
}

#[test]
fn a_commit_too_large_for_one_message() {
    let mut world = warm(&["a"]);
    world.stamp(Some(vec![0]), 3);
    let revision = world.publish();
    world.barrier();
    let before = world.nodes[0].cache.generation().applied();
    for _ in 0..2 {
        assert_eq!(world.deliver(0), Some(Ok(Step::Nothing)));
        assert_eq!(world.nodes[0].cache.generation().applied(), before);
        world.ack(0);
        assert!(!world.settle(revision));
    }
    assert_eq!(world.deliver(0), Some(Ok(Step::Applied { ack_now: false })));
    world.ack(0);
    assert!(world.settle(revision));
    assert_eq!(world.ask(0, 0), CHANGED);
}

#[test]
fn a_stream_that_breaks_within_a_commit() {
    let mut world = warm(&["a"]);
    world.stamp(Some(vec![0]), 3);
    world.publish();
    world.deliver(0).unwrap().unwrap();
    world.connect(0);
    world.deliver_all(0);
    let applied = world.nodes[0].cache.generation().applied();
    assert_eq!(applied, world.server.head().at.revision);
    assert_eq!(world.ask(0, 0), CHANGED);
}

#[test]
fn a_gap_a_repeat_and_a_stranger_break_the_stream() {
    let check = |count: u64, foreign: bool, expected: fn(&Broken) -> bool| {
        let mut world = warm(&["a"]);
        let at = world.server.head().at;
        let stream = world.nodes[0].stream.unwrap();
        let at = Token {
            revision: Revision(at.revision.0 + count),
            epoch: if foreign { Epoch(0xbad_bad) } else { at.epoch },
        };
        let follower = &mut world.nodes[0].follower;
        let broken = follower.take(stream, commit_event(at, &[], false));
        assert!(expected(broken.as_ref().unwrap_err()), "{broken:?}");
        let after = follower.take(stream, commit_event(at, &[], false));
        assert!(after.is_err(), "nothing more is taken");
        // Another one goes on where this one ended.
        world.commit(&[0]);
        world.connect(0);
        world.deliver_all(0);
        assert_eq!(world.ask(0, 0), CHANGED);
    };
    check(2, false, |broken| matches!(broken, Broken::Gap { .. }));
    check(0, false, |broken| matches!(broken, Broken::Gap { .. }));
    check(1, true, |broken| matches!(broken, Broken::Foreign { .. }));
}

#[test]
fn a_missing_commit_shows_at_the_next_heartbeat() {
    use portcullis::api::proto;
    let mut world = warm(&["a"]);
    world.commit(&[0]);
    world.streams[0].last_mut().unwrap().queue.clear();
    let beat = proto::Heartbeat {
        revision: world.server.head().at.to_string(),
        sent_at: None,
    };
    let event = proto::WatchChangesResponse {
        event: Some(proto::watch_changes_response::Event::Heartbeat(beat)),
    };
    let stream = world.nodes[0].stream.unwrap();
    let broken = world.nodes[0].follower.take(stream, event);
    assert!(matches!(broken, Err(Broken::Gap { .. })), "{broken:?}");
}

#[test]
fn valid_until_with_the_sidecars_clock_ten_seconds_off() {
    for off in [-10_000, 0, 10_000] {
        let mut world = World::new(&["a"]);
        world.nodes[0].wall = off * i64::try_from(MS).unwrap();
        world.join(0);
        world.fill_send(0, 0);
        // The answer takes its time: what is left of it counts from the sending.
        world.pass(200);
        world.fill_arrives(0, Some(Duration::from_secs(1)));
        world.pass(200);
        assert_eq!(world.fill_returns(0), [world.right(0)], "{off}");
        world.pass(599);
        assert_eq!(world.ask(0, 0), world.right(0), "{off}");
        world.pass(1);
        assert_eq!(world.ask(0, 0), Got::Stale(Stale::Over), "{off}");
    }
}

#[test]
fn a_head_that_was_confirmed_some_time_ago() {
    let mut world = warm(&["a"]);
    world.pass(1_000);
    world.commit(&[1]);
    world.pass(1_000);
    world.deliver_all(0);
    // A node that confirmed its head 900 ms ago: what is younger may be missing.
    world.ack_send(0);
    world.ack_arrives(0, 900 * MS);
    world.ack_returns(0);
    world.pass(2_058);
    assert_eq!(world.ask(0, 0), world.right(0));
    world.pass(3);
    assert_eq!(world.ask(0, 0), UNLEASED);
}
