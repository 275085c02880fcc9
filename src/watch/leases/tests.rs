#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const EPOCH: Epoch = Epoch(0x9f_3ac1);
const L: u64 = 3_000;

/// A table of which revision 5 is the head at the start, at 10 s, and what happens to it; the
/// clock is in milliseconds after that.
struct World {
    leases: Leases,
    head: Revision,
    now: u64,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl World {
    fn new() -> Self {
        let (head, longest) = (Revision(5), ms(L));
        let start = BootTime::new(Duration::from_secs(10));
        Self {
            leases: Leases::new(EPOCH, 0xabc, longest, head, start),
            head,
            now: 0,
        }
    }

    fn time(&self) -> BootTime {
        BootTime::new(Duration::from_secs(10)).plus(ms(self.now))
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self
    }

    fn commit(&mut self) -> Revision {
        self.head = self.head.next();
        self.leases.committed(self.head, self.time());
        self.head
    }

    fn open(&mut self, watcher_id: &str) -> String {
        let now = self.time();
        self.leases.open("", watcher_id, now).to_string()
    }

    fn close(&mut self, session: &str) {
        let now = self.time();
        self.leases.close(session.parse().unwrap(), now);
    }

    /// The lease in milliseconds.
    fn ack(&mut self, watcher_id: &str, session: &str, revision: u64) -> u64 {
        self.ack_as("", watcher_id, Some(session), revision, EPOCH)
    }

    fn ack_as(
        &mut self,
        caller: &str,
        watcher_id: &str,
        session: Option<&str>,
        revision: u64,
        epoch: Epoch,
    ) -> u64 {
        let ack = Ack {
            caller,
            watcher_id,
            session,
            applied: Token {
                revision: Revision(revision),
                epoch,
            },
        };
        let lease = self.leases.ack(&ack, self.head, self.time());
        u64::try_from(lease.as_millis()).unwrap()
    }

    /// Waits for the head, and says for whom, and until when.
    fn barrier(&mut self) -> (Vec<String>, Option<u64>) {
        self.leases.barrier(self.head);
        self.waits()
    }

    fn waits(&mut self) -> (Vec<String>, Option<u64>) {
        let (awaited, now) = (self.leases.awaited(), self.time());
        let until = self.leases.waits_for(awaited, now);
        let ids = self.leases.laggards(awaited, now);
        let left = until.map(|until| u64::try_from(until.since(now).as_millis()).unwrap());
        assert_eq!(left.is_some(), !ids.is_empty());
        (
            ids.iter().map(ToString::to_string).collect(),
            left.map(|left| self.now + left),
        )
    }
}

fn free() -> (Vec<String>, Option<u64>) {
    (Vec::new(), None)
}

fn waiting(ids: &[&str], until: u64) -> (Vec<String>, Option<u64>) {
    let ids = ids.iter().map(ToString::to_string).collect();
    (ids, Some(until))
}

#[test]
fn a_lease_is_as_much_shorter_as_its_cache_lags() {
    let mut world = World::new();
    let a = world.open("a");
    assert_eq!(world.ack("a", &a, 5), L);
    world.at(100).commit();
    world.at(200).commit();
    assert_eq!(world.at(300).ack("a", &a, 7), L);
    assert_eq!(world.at(400).ack("a", &a, 6), L - 200);
    assert_eq!(world.at(400).ack("a", &a, 5), L - 300);
    // Whoever lacks a commit as old as the longest lease gets nothing.
    assert_eq!(world.at(100 + L).ack("a", &a, 5), 0);
}

#[test]
fn the_age_of_what_was_before_the_start_or_is_long_ago_is_unknown() {
    let mut world = World::new();
    let a = world.open("a");
    assert_eq!(world.ack("a", &a, 5), L);
    assert_eq!(world.ack("a", &a, 4), 0);
    world.at(1_000).commit();
    world.at(1_000 + L).commit();
    // Its stamp is gone, and it counts as infinitely old although the lease still ran.
    let b = world.open("b");
    world.leases.awaited = Revision(0);
    assert_eq!(world.ack("b", &b, 5), 0);
    assert_eq!(world.ack("b", &b, 6), L);
    assert_eq!(
        world.leases.lag(Revision(5), world.time()),
        Lag::AtLeast(ms(L))
    );
}

#[test]
fn a_barrier_waits_until_each_running_lease_has_acknowledged() {
    let mut world = World::new();
    let (a, b) = (world.open("a"), world.open("b"));
    assert_eq!(world.barrier(), free());
    assert_eq!((world.ack("a", &a, 5), world.ack("b", &b, 5)), (L, L));
    world.at(100).commit();
    assert_eq!(world.barrier(), waiting(&["a", "b"], L));
    world.at(200).ack("a", &a, 6);
    assert_eq!(world.waits(), waiting(&["b"], L));
    world.ack("b", &b, 6);
    assert_eq!(world.waits(), free());
}

#[test]
fn a_cache_that_dies_is_waited_for_no_longer_than_its_lease() {
    let mut world = World::new();
    let (a, b) = (world.open("a"), world.open("b"));
    world.ack("a", &a, 5);
    world.at(500).ack("b", &b, 5);
    world.at(600).commit();
    assert_eq!(world.barrier(), waiting(&["a", "b"], L));
    assert_eq!(world.at(L - 1).waits(), waiting(&["a", "b"], L));
    assert_eq!(world.at(L).waits(), waiting(&["b"], 500 + L));
    assert_eq!(world.at(500 + L).waits(), free());
}

#[test]
fn a_lagging_cache_that_goes_on_acknowledging_does_not_hold_a_barrier_up_for_ever() {
    let mut world = World::new();
    let a = world.open("a");
    world.ack("a", &a, 5);
    world.at(100).commit();
    world.barrier();
    for now in (200..100 + L).step_by(100) {
        let lease = world.at(now).ack("a", &a, 5);
        assert_eq!(lease, 100 + L - now);
        assert_eq!(world.waits(), waiting(&["a"], 100 + L));
    }
    assert_eq!(world.at(100 + L).ack("a", &a, 5), 0);
    assert_eq!(world.waits(), free());
}

#[test]
fn a_lapsed_cache_comes_back_only_above_all_that_was_waited_for() {
    let mut world = World::new();
    let a = world.open("a");
    world.ack("a", &a, 5);
    world.at(L).commit();
    assert_eq!(world.barrier(), free());
    // Its lag of 0 would allow it a lease; the write was told that nobody answers from before.
    assert_eq!(world.ack("a", &a, 5), 0);
    let b = world.open("b");
    assert_eq!(world.ack("b", &b, 5), 0);
    assert_eq!(world.waits(), free());
    assert_eq!((world.ack("a", &a, 6), world.ack("b", &b, 6)), (L, L));
}

#[test]
fn without_a_barrier_a_lapsed_cache_may_come_back_a_little_behind() {
    let mut world = World::new();
    let a = world.open("a");
    world.at(10).commit();
    assert_eq!(world.at(30).ack("a", &a, 5), L - 20);
}

#[test]
fn after_a_start_a_lease_begins_only_at_the_head_of_then() {
    let mut world = World::new();
    let a = world.open("a");
    world.leases.ages = Ages::new(Revision(0), BootTime::default());
    assert_eq!(world.ack("a", &a, 4), 0);
    assert_eq!(world.ack("a", &a, 5), L);
}

#[test]
fn strangers_get_nothing_and_count_for_nothing() {
    let mut world = World::new();
    let (a, b) = (world.open("a"), world.open("b"));
    let other = Epoch(0x11_1111);
    assert_eq!(world.ack("a", &a, 5), L);
    world.at(100).commit();
    let head = world.head.0;
    assert_eq!(world.barrier(), waiting(&["a"], L));
    // Another epoch, above the head, of an unknown session, of another cache's, of another
    // caller's, of an earlier process, of no session at all.
    let earlier = a.replace("abc", "abd");
    assert_ne!(a, earlier);
    assert_eq!(world.ack_as("", "a", Some(&a), head, other), 0);
    assert_eq!(world.ack("a", &a, head + 1), 0);
    assert_eq!(world.ack("a", "0000000000000abc-99", head), 0);
    assert_eq!(world.ack("a", &b, head), 0);
    assert_eq!(world.ack_as("mallory", "a", Some(&a), head, EPOCH), 0);
    assert_eq!(world.ack("a", &earlier, head), 0);
    assert_eq!(world.ack("a", "nonsense", head), 0);
    assert_eq!(world.ack_as("", "c", None, head, EPOCH), 0);
    assert_eq!(world.waits(), waiting(&["a"], L));
    assert_eq!(world.ack_as("", "a", None, head, EPOCH), L);
    assert_eq!(world.waits(), free());
}

#[test]
fn two_caches_under_one_id_are_two_sessions() {
    let mut world = World::new();
    let (first, second) = (world.open("a"), world.open("a"));
    assert_eq!(
        (world.ack("a", &first, 5), world.ack("a", &second, 5)),
        (L, L)
    );
    // Which of the two is meant can't be said.
    assert_eq!(world.ack_as("", "a", None, 5, EPOCH), 0);
    world.at(100).commit();
    world.barrier();
    world.ack("a", &second, 6);
    assert_eq!(world.waits(), waiting(&["a"], L));
    world.ack("a", &first, 6);
    assert_eq!(world.waits(), free());
}

#[test]
fn a_closed_session_gets_nothing_more_and_its_lease_is_waited_for() {
    let mut world = World::new();
    let old = world.open("a");
    world.ack("a", &old, 5);
    world.close(&old);
    let new = world.open("a");
    world.at(100).commit();
    assert_eq!(world.barrier(), waiting(&["a"], L));
    assert_eq!(world.ack("a", &old, 6), 0);
    assert_eq!(world.ack("a", &new, 6), L);
    assert_eq!(world.waits(), waiting(&["a"], L));
    assert_eq!(world.at(L).waits(), free());
    assert_eq!(world.leases.len(), 1);
}

#[test]
fn revision_and_end_only_grow() {
    let mut world = World::new();
    let a = world.open("a");
    world.at(10).commit();
    assert_eq!(world.at(20).ack("a", &a, 6), L);
    // One that was under way for long arrives last.
    assert_eq!(world.at(1_000).ack("a", &a, 5), L - 990);
    let id = a.parse().unwrap();
    let standing = world.leases.standing(id, world.time()).unwrap();
    assert_eq!(standing.acknowledged, Some(Revision(6)));
    assert_eq!(standing.lease, ms(L - 980));
    assert_eq!(world.barrier(), free());
}

#[test]
fn what_is_over_is_forgotten() {
    let mut world = World::new();
    for round in 0..1_000 {
        world.at(round * 100);
        let id = world.open("a");
        world.ack("a", &id, 5);
        world.close(&id);
        world.commit();
        world.head = Revision(5);
    }
    let most = usize::try_from(L / 100).unwrap() + 1;
    assert!(world.leases.len() <= most, "{}", world.leases.len());
    assert!(world.leases.leased.len() <= most);
}
