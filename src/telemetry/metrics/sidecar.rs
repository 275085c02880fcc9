//! A sidecar's numbers.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Page, float};
use crate::sidecar::Readings;

/// The numbers of one sidecar.
#[derive(Debug)]
pub struct OfSidecar(pub Readings);

impl Collector for OfSidecar {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let (mut page, readings) = (Page(encoder), &self.0);
        for (name, help, count) in readings.counters().each() {
            page.counter(&format!("portcullis_sidecar_{name}"), help, count)?;
        }
        let (kept, bytes) = readings.kept();
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        let connected = if readings.is_connected() { 1.0 } else { 0.0 };
        let gauges = [
            ("answers_kept", "Answers that are kept", float(kept)),
            ("answer_bytes", "Bytes that they take", float(bytes)),
            (
                "applied_revision",
                "Up to where commits were applied",
                float(readings.applied().0),
            ),
            (
                "lease_seconds",
                "How long it may go on answering without hearing from the server",
                readings.lease_left().as_secs_f64(),
            ),
            (
                "connected",
                "1 while the stream of changes stands",
                connected,
            ),
        ];
        for (name, help, value) in gauges {
            page.gauge(&format!("portcullis_sidecar_{name}"), help, value)?;
        }
        Ok(())
    }
}
