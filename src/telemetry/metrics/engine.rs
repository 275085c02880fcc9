//! A server's numbers.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, Page, float};
use crate::engine::{Engine, Watcher};

/// The numbers of one engine.
pub struct OfEngine(pub Engine);

impl fmt::Debug for OfEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfEngine")
    }
}

impl Collector for OfEngine {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        self.questions(&mut page)?;
        self.writes(&mut page)?;
        self.state(&mut page)?;
        watchers(&self.0.watchers(), &mut page)
    }
}

impl OfEngine {
    fn questions(&self, page: &mut Page<'_>) -> fmt::Result {
        let counts = self.0.counts();
        let by = [
            ("allowed", &counts.allowed),
            ("denied", &counts.denied),
            ("conditional", &counts.conditional),
            ("error", &counts.unanswered),
        ];
        page.counters(
            "portcullis_checks",
            "Questions of Check and BatchCheck by what was answered",
            by.map(|(decision, count)| (vec![("decision", decision)], count.get())),
        )
    }

    fn writes(&self, page: &mut Page<'_>) -> fmt::Result {
        let counts = self.0.counts();
        let by = [
            ("written", &counts.written),
            ("refused", &counts.refused),
            ("failed", &counts.failed),
        ];
        page.counters(
            "portcullis_writes",
            "Writes by what became of them",
            by.map(|(outcome, count)| (vec![("outcome", outcome)], count.get())),
        )?;
        page.counter(
            "portcullis_commits",
            "Commits that became durable",
            counts.writer.commits.get(),
        )?;
        page.spans(
            "portcullis_append_seconds",
            "How long the log took to make a batch of commits durable",
            &counts.writer.appends,
        )
    }

    fn state(&self, page: &mut Page<'_>) -> fmt::Result {
        let status = self.0.status();
        let revision = float(status.token.revision.0);
        page.gauge("portcullis_revision", "The newest revision", revision)?;
        page.gauge(
            "portcullis_tuples",
            "Tuples that stand",
            float(status.tuples),
        )?;
        let writable = if status.writable { 1.0 } else { 0.0 };
        page.gauge("portcullis_writable", "1 while writes are taken", writable)
    }
}

fn watchers(watchers: &[Watcher], page: &mut Page<'_>) -> fmt::Result {
    let caches: Vec<&Watcher> = (watchers.iter())
        .filter(|watcher| !watcher.watcher_id.is_empty())
        .collect();
    let kinds = [
        ("cache", caches.len()),
        ("plain", watchers.len() - caches.len()),
    ];
    let count = |count| float(u64::try_from(count).unwrap_or(u64::MAX));
    page.gauges(
        "portcullis_watchers",
        "Open streams of changes",
        kinds.map(|(kind, open)| (vec![("kind", kind)], count(open))),
    )?;
    let mut each = |name, help, value: fn(&Watcher) -> f64| {
        let values = caches
            .iter()
            .map(|watcher| (labels(watcher), value(watcher)));
        page.gauges(name, help, values)
    };
    each(
        "portcullis_watcher_lag_seconds",
        "How old the oldest commit is that a cache has not acknowledged",
        |watcher| watcher.lag.as_secs_f64(),
    )?;
    each(
        "portcullis_watcher_lease_seconds",
        "What is left of a cache's lease",
        |watcher| watcher.lease.as_secs_f64(),
    )?;
    each(
        "portcullis_watcher_sent_revision",
        "Up to where a cache was sent commits",
        |watcher| float(watcher.sent.revision.0),
    )?;
    each(
        "portcullis_watcher_acknowledged_revision",
        "Up to where a cache has applied commits; 0 before it said so",
        |watcher| float(watcher.acknowledged.map_or(0, |token| token.revision.0)),
    )
}

fn labels(watcher: &Watcher) -> Labels<'_> {
    vec![
        ("watcher_id", &watcher.watcher_id),
        ("session", &watcher.session),
        ("caller", &watcher.caller),
        ("address", &watcher.address),
    ]
}
