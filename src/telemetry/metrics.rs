//! What the process counts, for Prometheus to read.
//!
//! Hides how metrics are named and written, and the HTTP endpoint. Whoever counts keeps the
//! numbers: they are read when somebody asks, so that nobody who is answered pays for it.

use std::fmt;
use std::future::IntoFuture as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::counter::Spans;
use crate::server::Listener;

mod engine;
mod sidecar;

pub use engine::OfEngine;
pub use sidecar::OfSidecar;

/// The most readings at a time: one of many watchers is megabytes of text.
const AT_ONCE: usize = 2;

/// Answers `GET /metrics` on `listener` for as long as the future is polled.
pub async fn serve(listener: Listener, numbers: impl Collector) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(numbers));
    let shared = Shared {
        registry: Arc::new(registry),
        turns: Arc::new(Semaphore::new(AT_ONCE)),
    };
    let router = Router::new()
        .route("/metrics", get(read))
        .with_state(shared);
    let ended = match listener {
        Listener::Tcp(listener) => axum::serve(listener, router).into_future().await,
        Listener::Unix(listener, _file) => axum::serve(listener, router).into_future().await,
    };
    if let Err(error) = ended {
        tracing::error!(%error, "the metrics are no longer served");
    }
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    turns: Arc<Semaphore>,
}

async fn read(State(shared): State<Shared>) -> Response {
    let Ok(turn) = shared.turns.try_acquire_owned() else {
        let message = format!("{AT_ONCE} readings are under way: try again\n");
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    // Where many watch it takes milliseconds.
    let text = tokio::task::spawn_blocking(move || {
        let text = text(&shared.registry);
        drop(turn);
        text
    });
    match text.await {
        Ok(Ok(text)) => {
            let kind = [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)];
            (kind, text).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry)?;
    Ok(text)
}

/// Writes metrics, one after another.
struct Page<'a>(DescriptorEncoder<'a>);

/// Names and values of labels.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Page<'_> {
    /// One number that only grows; `_total` is added to its name.
    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    /// The same for each of some labels.
    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in counts {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    /// One number that comes and goes.
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// The same for each of some labels.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// How long something took.
    fn spans(&mut self, name: &str, help: &str, spans: &Spans) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        let (buckets, sum) = spans.get();
        let count = buckets.iter().map(|(_, count)| count).sum();
        metric.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }
}

/// As a gauge has it: exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float, and nobody counts so far"
)]
fn float(number: u64) -> f64 {
    number as f64
}
