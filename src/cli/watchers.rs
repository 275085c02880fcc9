//! `portcullis watchers`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Exit;
use super::client::Client;
use super::output::Output;
use crate::api::convert::values;
use crate::api::proto;
use crate::api::proto::list_watchers_response::Watcher;
use crate::api::proto::watch_service_client::WatchServiceClient;

/// Lists who watches: caches with their leases, and plain streams.
#[derive(Args, Debug)]
pub(super) struct Watchers {}

const TITLES: [&str; 6] = ["WATCHER", "ADDRESS", "SENT", "ACKNOWLEDGED", "LAG", "LEASE"];

impl Watchers {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let Self {} = self;
        let mut service = WatchServiceClient::new(client.channel());
        let listed = client.call(service.list_watchers(proto::ListWatchersRequest {}))?;
        let watchers = listed.into_inner().watchers;
        if output.is_json() {
            for watcher in &watchers {
                output.give(&value(watcher)?, "")?;
            }
            return Ok(Exit::Done);
        }
        let mut rows = vec![TITLES.map(str::to_owned)];
        for watcher in watchers {
            rows.push(row(watcher)?);
        }
        for line in table(&rows) {
            output.give(&json!(null), line)?;
        }
        Ok(Exit::Done)
    }
}

fn span(of: Option<prost_types::Duration>) -> anyhow::Result<Duration> {
    Ok(values::duration(of.unwrap_or_default())?)
}

/// With a tenth of a second: finer than it stays true until it is read.
fn shown(span: Duration) -> String {
    format!("{:.1}s", span.as_secs_f64())
}

fn row(watcher: Watcher) -> anyhow::Result<[String; 6]> {
    let or_dash = |text: String| match text.is_empty() {
        true => "-".to_owned(),
        false => text,
    };
    let lease = span(watcher.lease)?;
    Ok([
        or_dash(watcher.watcher_id),
        or_dash(watcher.address),
        watcher.revision,
        or_dash(watcher.acknowledged),
        shown(span(watcher.lag)?),
        match lease.is_zero() {
            true => "-".to_owned(),
            false => shown(lease),
        },
    ])
}

fn value(watcher: &Watcher) -> anyhow::Result<serde_json::Value> {
    Ok(json!({
        "watcher_id": watcher.watcher_id,
        "session": watcher.session,
        "caller": watcher.caller,
        "address": watcher.address,
        "revision": watcher.revision,
        "acknowledged": watcher.acknowledged,
        "lag_seconds": span(watcher.lag)?.as_secs_f64(),
        "lease_seconds": span(watcher.lease)?.as_secs_f64(),
    }))
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 6]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths);
        let padded = cells.map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
