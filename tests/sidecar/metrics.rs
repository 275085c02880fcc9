//! What server and sidecar say about themselves, as Prometheus reads it.

use portcullis::server::{ListenAddress, Listener};
use portcullis::sidecar::Sidecar;
use portcullis::telemetry::metrics::{OfEngine, OfSidecar, serve};
use prometheus_client::collector::Collector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Beside, Server, question};

/// Serves `numbers` and reads them as somebody else would.
async fn page(numbers: impl Collector) -> (String, String) {
    let address: ListenAddress = "127.0.0.1:0".parse().unwrap();
    let listener = address.bind().await.unwrap();
    let Ok(ListenAddress::Tcp(address)) = Listener::address(&listener) else {
        panic!("no address");
    };
    let serving = tokio::spawn(serve(listener, numbers));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    };
    assert!(get("/other").await.0.starts_with("HTTP/1.1 404"));
    let read = get("/metrics").await;
    serving.abort();
    read
}

/// The value of a metric, by how its line begins.
fn value(body: &str, begins: &str) -> f64 {
    let line = body.lines().find(|line| line.starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("no {begins} in\n{body}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn check(body: &str, begins: &str, expected: u32) {
    let seen = value(body, begins);
    assert!(
        (seen - f64::from(expected)).abs() < 0.01,
        "{begins}: {seen}"
    );
}

#[tokio::test]
async fn the_server_counts_and_lists_its_caches() {
    let server = Server::with_schema(30_000).await;
    let beside = Beside::leased(&server.uri).await;
    let granted = server.grant("doc:1#viewer@user:a").await;
    beside.until_applied(&granted.revision).await;
    let before = page(OfEngine(server.engine.clone())).await.1;
    for user in ["user:a", "user:b", "user:c"] {
        crate::check(&server.channel, question(user, "doc:1"))
            .await
            .unwrap();
    }
    let (head, body) = page(OfEngine(server.engine.clone())).await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    // The cache asked before, too.
    let (allowed, denied) = ("{decision=\"allowed\"}", "{decision=\"denied\"}");
    for (decision, grown) in [(allowed, 1.0), (denied, 2.0)] {
        let name = format!("portcullis_checks_total{decision}");
        let seen = value(&body, &name) - value(&before, &name);
        assert!((seen - grown).abs() < 0.01, "{name} {seen}");
    }
    check(&body, "portcullis_commits_total", 2);
    check(&body, "portcullis_writes_total{outcome=\"written\"}", 2);
    check(&body, "portcullis_append_seconds_count", 2);
    check(&body, "portcullis_append_seconds_bucket{le=\"+Inf\"}", 2);
    check(&body, "portcullis_revision", 2);
    check(&body, "portcullis_tuples", 1);
    check(&body, "portcullis_writable", 1);
    check(&body, "portcullis_watchers{kind=\"cache\"}", 1);
    check(&body, "portcullis_watchers{kind=\"plain\"}", 0);
    let of_cache = |name: &str| value(&body, &format!("{name}{{watcher_id=\"test\""));
    assert!(of_cache("portcullis_watcher_lease_seconds") > 20.0);
    assert!(of_cache("portcullis_watcher_lag_seconds") < 20.0);
    assert!(of_cache("portcullis_watcher_sent_revision") > 1.5);
    assert!(of_cache("portcullis_watcher_acknowledged_revision") >= 1.0);
    let line = body.lines().find(|line| line.contains("lease_seconds{"));
    assert!(
        line.is_some_and(|line| line.contains("address=\"127.0.0.1:")),
        "{line:?}"
    );
}

#[tokio::test]
async fn a_sidecar_tells_what_it_counted_and_how_it_stands() {
    let server = Server::with_schema(30_000).await;
    let sidecar = Sidecar::start(crate::options(&server.uri));
    let (readings, counters) = (sidecar.readings(), sidecar.counters());
    crate::eventually(async || (counters.leases.get() > 0).then_some(())).await;
    counters.differences.add_many(3);
    let body = page(OfSidecar(readings)).await.1;
    check(&body, "portcullis_sidecar_differences_total", 3);
    check(&body, "portcullis_sidecar_hits_total", 0);
    check(&body, "portcullis_sidecar_connected", 1);
    check(&body, "portcullis_sidecar_applied_revision", 1);
    assert!(value(&body, "portcullis_sidecar_lease_seconds") > 20.0);
}
