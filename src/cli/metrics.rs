//! `--metrics`, of `serve` and `sidecar`.

use clap::Args;
use prometheus_client::collector::Collector;

use super::{Usage, banner};
use crate::server::{self, ListenAddress, Listener};
use crate::telemetry;

/// Whether numbers are served, and where.
#[derive(Args, Debug)]
pub(super) struct Metrics {
    /// Where to serve metrics for Prometheus over HTTP, at /metrics: HOST:PORT, or unix:PATH
    #[arg(long = "metrics", value_name = "ADDRESS")]
    address: Option<ListenAddress>,
}

/// A socket that nobody answers at yet.
pub(super) struct Endpoint {
    listener: Listener,
    /// The line that says where it is.
    pub(super) row: banner::Row,
}

impl Metrics {
    /// Opens the socket, where one is wanted. It tells who watches, and so stays on this machine
    /// unless `open` is said.
    pub(super) async fn bind(&self, open: bool) -> anyhow::Result<Option<Endpoint>> {
        let Some(address) = &self.address else {
            return Ok(None);
        };
        server::may_listen(std::slice::from_ref(address), false, open)
            .map_err(|error| Usage(error.to_string()))?;
        let listener = address.bind().await?;
        let reached = banner::reached_at(&listener.address()?);
        let page = match address {
            ListenAddress::Tcp(_) => format!("{reached}/metrics"),
            ListenAddress::Unix(_) => reached,
        };
        Ok(Some(Endpoint {
            listener,
            row: ("metrics", page),
        }))
    }
}

impl Endpoint {
    /// Answers with `numbers` for as long as the process runs.
    pub(super) fn give(self, numbers: impl Collector) {
        tokio::spawn(telemetry::metrics::serve(self.listener, numbers));
    }
}
