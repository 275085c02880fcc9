//! Leases and acknowledgements without an interleaving: how long, by which clock, how often.

use std::time::Duration;

use portcullis::sidecar::cache::Stale;
use portcullis::sidecar::rhythm::Rhythm;

use crate::named::warm;
use crate::server::LEASE;
use crate::world::{Got, World};

const UNLEASED: Got = Got::Stale(Stale::Unleased);

#[test]
fn a_reply_to_an_ack_that_comes_late() {
    let mut world = warm(&["a"]);
    world.ack_send(0);
    world.ack_arrives(0, 0);
    world.pass(2_000);
    world.ack_returns(0);
    world.pass(961);
    assert_eq!(world.ask(0, 0), UNLEASED, "it counts from the sending");
}

#[test]
fn a_lease_that_is_shorter_by_the_lag() {
    let mut world = warm(&["a"]);
    world.commit(&[1]);
    world.pass(1_000);
    assert_eq!(world.ack(0), 2_000);
    // Were it the whole lease, the commit would be waited for beyond a lease.
    world.pass(1_961);
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn clocks_of_different_speed() {
    let mut world = World::new(&["a"]);
    world.nodes[0].rate = 995;
    world.join(0);
    world.fill(0, 0);
    world.pass(100);
    world.commit(&[0]);
    world.barrier();
    let revision = world.server.head().at.revision;
    world.pass(100);
    assert_eq!(world.ack(0), 2_900);
    // The cache's clock is slow, and the server's wait ends by its own.
    while !world.settle(revision) {
        assert!(matches!(world.ask(0, 0), Got::Answer(_) | UNLEASED));
        world.pass(1);
    }
    assert_eq!(world.ask(0, 0), UNLEASED);
}

#[test]
fn a_cache_that_nobody_asks_keeps_its_lease_with_few_acks() {
    let check = |asks: bool, commits: bool, fails: &dyn Fn(u32) -> bool, most: u32| {
        let mut world = warm(&["a"]);
        let look = Rhythm::of(Duration::from_nanos(LEASE)).look();
        let mut tried = 0;
        for _ in 0..60 {
            for _ in 0..look.as_millis() {
                world.pass(1);
                let end = world.nodes[0].cache.generation().end();
                assert!(world.clock(0).is_before(end), "after {tried} acks");
            }
            if asks {
                assert_eq!(world.ask(0, 0), world.right(0));
            }
            if commits {
                world.commit(&[1]);
                world.deliver_all(0);
            }
            if world.is_due(0) {
                tried += 1;
                world.ack_send(0);
                match fails(tried) {
                    true => world.nodes[0].acks.clear(),
                    false => drop(world.ack_arrives(0, 0)),
                }
                world.ack_returns(0);
            }
        }
        assert_eq!(tried, most, "{asks} {commits}");
    };
    // Thirty seconds of leases of three.
    check(false, false, &|_| false, 15);
    check(true, false, &|_| false, 60);
    check(false, true, &|_| false, 60);
    // One in two fails, and is repeated at the next look.
    check(false, false, &|number| number % 2 == 1, 24);
}
