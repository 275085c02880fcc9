//! Faults between sidecar and server, and clocks that step. Whatever happens, no answer is older
//! than a lease, and service returns by itself.
//!
//! A caller's question that was sent a lease after the revocation stood was looked at later still,
//! so that an allow is a fault however slow the machine is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use portcullis::api::proto::Decision;
use portcullis::sidecar::clock::{Clock, Moment};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{Beside, Server, eventually, question};

const LEASE: Duration = Duration::from_millis(700);
const TUPLE: &str = "doc:1#viewer@user:a";

/// What becomes of what a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Flows,
    /// Each piece waits for so many milliseconds.
    Late(u64),
    /// Connections wait differently, so that what is sent later on another arrives before.
    Reordered,
    /// Nothing goes either way; connections stay open, and new ones are taken.
    Stalled,
    /// Nothing comes back.
    HalfOpen,
    /// Nothing goes there.
    Mute,
    /// Connections are cut, new ones too.
    Cut,
}

/// Between a sidecar and its server.
pub struct Proxy {
    pub uri: String,
    pub way: watch::Sender<Way>,
}

impl Proxy {
    pub async fn new(server: &str) -> Self {
        let target = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let way = watch::Sender::new(Way::Flows);
        let ways = way.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (here, _) = listener.accept().await.unwrap();
                tokio::spawn(join(number, here, target.clone(), ways.subscribe()));
            }
        });
        Self { uri, way }
    }
}

async fn join(number: u64, here: TcpStream, target: String, way: watch::Receiver<Way>) {
    let mut cut = way.clone();
    if *way.borrow() == Way::Cut {
        return;
    }
    let Ok(there) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (here.set_nodelay(true), there.set_nodelay(true));
    let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
    tokio::select! {
        () = carry(number, from_here, to_there, way.clone(), false) => {}
        () = carry(number, from_there, to_here, way, true) => {}
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn carry(
    number: u64,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    comes_back: bool,
) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        let stops = move |way: &Way| match way {
            Way::Stalled => true,
            Way::HalfOpen => comes_back,
            Way::Mute => !comes_back,
            _ => false,
        };
        if way.wait_for(|way| !stops(way)).await.is_err() {
            return;
        }
        let now = *way.borrow();
        match now {
            Way::Late(span) => tokio::time::sleep(Duration::from_millis(span)).await,
            Way::Reordered => {
                tokio::time::sleep(Duration::from_millis(150 * (number % 3))).await;
            }
            _ => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// A sidecar that keeps an allow, behind a proxy.
async fn warm(clock: Clock) -> (Server, Proxy, Beside) {
    let server = Server::with_schema(u64::try_from(LEASE.as_millis()).unwrap()).await;
    let proxy = Proxy::new(&server.uri).await;
    let mut options = crate::options(&proxy.uri);
    options.clock = clock;
    let beside = Beside::with(options).await;
    let granted = server.grant(TUPLE).await;
    beside.until_leased().await;
    beside.until_applied(&granted.revision).await;
    until_hit(&beside).await;
    (server, proxy, beside)
}

async fn until_hit(beside: &Beside) {
    eventually(async || {
        let before = beside.counters.hits.get();
        beside.check(question("user:a", "doc:1")).await.ok()?;
        (beside.counters.hits.get() > before).then_some(())
    })
    .await;
}

/// Asks for `span`, and fails where an allow comes for a question sent a lease after `revoked`.
pub async fn watch_for_stale(
    channel: &tonic::transport::Channel,
    revoked: Instant,
    lease: Duration,
    span: Duration,
) {
    let until = Instant::now() + span;
    let mut asked = Vec::new();
    while Instant::now() < until {
        // Not one after another: where one waits, others still are asked.
        let (channel, sent) = (channel.clone(), Instant::now());
        asked.push(tokio::spawn(async move {
            let mut request = tonic::Request::new(question("user:a", "doc:1"));
            request.set_timeout(Duration::from_secs(2));
            let mut client =
                portcullis::api::proto::check_service_client::CheckServiceClient::new(channel);
            (sent, client.check(request).await)
        }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for one in asked {
        let (sent, said) = one.await.unwrap();
        let is_stale = sent > revoked + lease;
        match said {
            Ok(said) if is_stale => {
                let late = sent - revoked;
                assert_ne!(
                    said.get_ref().decision(),
                    Decision::Allowed,
                    "{late:?} after"
                );
            }
            Ok(_) => {}
            Err(status) => assert!(
                matches!(
                    status.code(),
                    tonic::Code::Unavailable
                        | tonic::Code::DeadlineExceeded
                        | tonic::Code::Cancelled
                ),
                "{status:?}"
            ),
        }
    }
}

/// Service is back: the denial comes, and comes from the cache.
pub async fn until_back(channel: &tonic::transport::Channel) {
    eventually(async || {
        let said = crate::check(channel, question("user:a", "doc:1"))
            .await
            .ok()?;
        (said.decision() == Decision::Denied).then_some(())
    })
    .await;
}

async fn survives(way: Way) {
    let (server, proxy, beside) = warm(Clock::system()).await;
    proxy.way.send_replace(way);
    server.revoke(TUPLE, None).await;
    let revoked = Instant::now();
    watch_for_stale(&beside.channel, revoked, LEASE, LEASE * 3).await;
    proxy.way.send_replace(Way::Flows);
    until_back(&beside.channel).await;
    until_hit(&beside).await;
    assert_eq!(beside.counters.differences.get(), 0);
}

macro_rules! faults {
    ($($name:ident: $way:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            survives($way).await;
        })*
    };
}

faults! {
    a_short_delay: Way::Late(50);
    a_delay_near_the_lease: Way::Late(500);
    a_delay_beyond_the_lease: Way::Late(1_000);
    connections_that_overtake_each_other: Way::Reordered;
    a_stall: Way::Stalled;
    nothing_comes_back: Way::HalfOpen;
    nothing_goes_there: Way::Mute;
    a_cut: Way::Cut;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wall_clock_steps_while_the_connection_is_stalled() {
    for step in [-3_600, -1, 1, 3_600] {
        let wall = Arc::new(AtomicI64::new(0));
        let (own, real) = (Arc::clone(&wall), Clock::system());
        let clock = Clock::of(move || {
            let Moment { boot, wall } = real.now();
            let off = own.load(Ordering::SeqCst) * 1_000_000_000;
            Moment {
                boot,
                wall: wall.checked_add_signed(off).unwrap(),
            }
        });
        let (server, proxy, beside) = warm(clock).await;
        proxy.way.send_replace(Way::Stalled);
        server.revoke(TUPLE, None).await;
        let revoked = Instant::now();
        wall.store(step, Ordering::SeqCst);
        watch_for_stale(&beside.channel, revoked, LEASE, LEASE * 2).await;
        proxy.way.send_replace(Way::Flows);
        until_back(&beside.channel).await;
        until_hit(&beside).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_holds_while_connections_break_and_come_back() {
    let (server, proxy, beside) = warm(Clock::system()).await;
    for turn in 0..30_u64 {
        let way = [
            Way::Cut,
            Way::Late(30),
            Way::Stalled,
            Way::Reordered,
            Way::Flows,
        ];
        proxy
            .way
            .send_replace(way[usize::try_from(turn).unwrap() % way.len()]);
        let (written, expected) = match turn % 2 {
            0 => {
                let done = server.revoke(TUPLE, Some(LEASE * 5)).await;
                (done.propagation, Decision::Denied)
            }
            _ => {
                let done = crate::grant(&server.channel, TUPLE, Some(LEASE * 5)).await;
                (done.propagation, Decision::Allowed)
            }
        };
        assert!(written.unwrap().complete, "a lease ends by itself");
        proxy.way.send_replace(Way::Flows);
        for _ in 0..5 {
            if let Ok(said) = beside.check(question("user:a", "doc:1")).await {
                assert_eq!(said.decision(), expected, "{turn}");
            }
        }
    }
    until_hit(&beside).await;
}
