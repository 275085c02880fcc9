//! `portcullis sidecar`

use std::time::Duration;

use clap::Args;

use super::metrics::Metrics;
use super::output::Output;
use super::{Exit, Usage, banner, values};
use crate::server::{self, ListenAddress, Listener};
use crate::sidecar::cache::Size;
use crate::sidecar::{self, SidecarOptions};
use crate::telemetry::{self, metrics::OfSidecar};

/// Answers Check and BatchCheck next to the application, from a cache; passes all else on.
#[derive(Args, Debug)]
#[command(after_help = "\
portcullis sidecar --upstream http://10.0.0.7:50051 --listen unix:/run/portcullis.sock
portcullis sidecar --upstream unix:/run/server.sock --listen 127.0.0.1:50052

Ask it as you would ask the server: portcullis --server unix:/run/portcullis.sock check …")]
pub(super) struct Sidecar {
    /// The server: http://HOST:PORT, or unix:PATH
    #[arg(long, value_name = "URL")]
    upstream: sidecar::Address,
    /// Where to listen: HOST:PORT, or unix:PATH; may be given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "unix:/run/portcullis.sock",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,
    /// Allows listening beyond this machine
    #[arg(long)]
    open: bool,
    /// Bytes of memory for answers and the table of slots
    #[arg(long, value_name = "BYTES", default_value_t = Size::default().bytes, value_parser = values::at_least_one())]
    cache_bytes: usize,
    /// Slots of the table that says what has changed, 8 bytes each; rounded up to a power of two
    #[arg(long, value_name = "N", default_value_t = Size::default().slots, value_parser = values::at_least_one())]
    slots: usize,
    /// Asks the server again about one of so many answers from the cache; 0: about none
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    verify_one_in: u64,
    /// Names this cache to the server; left out: this machine's name and a random part
    #[arg(long, value_name = "ID")]
    watcher_id: Option<String>,
    /// Bytes of one question
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = values::bytes_of_messages())]
    max_message: usize,
    /// How long requests under way may take to end when the sidecar is told to stop
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = values::span)]
    drain: Duration,
    #[command(flatten)]
    metrics: Metrics,
    /// What to log, to standard error: error, warn, info, debug, or portcullis=debug,info
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: telemetry::Filter,
}

/// 2^28 slots are 2 GiB.
const MOST_SLOTS: usize = 1 << 28;

impl Sidecar {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Exit> {
        let options = self.options()?;
        telemetry::start(self.log.clone())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serve(options, output))
    }

    fn options(&self) -> anyhow::Result<SidecarOptions> {
        server::may_listen(&self.listen, false, self.open)
            .map_err(|error| Usage(error.to_string()))?;
        if self.slots > MOST_SLOTS {
            let problem = format!("--slots {} is more than {MOST_SLOTS}", self.slots);
            return Err(Usage(problem).into());
        }
        let watcher_id = match &self.watcher_id {
            Some(id) => id.clone(),
            None => own_name()?,
        };
        Ok(SidecarOptions {
            size: Size {
                bytes: self.cache_bytes,
                slots: self.slots,
            },
            verify_one_in: self.verify_one_in,
            max_message_bytes: self.max_message,
            drain: self.drain,
            ..SidecarOptions::new(self.upstream.clone(), watcher_id)
        })
    }

    async fn serve(self, options: SidecarOptions, output: Output) -> anyhow::Result<Exit> {
        let metrics = self.metrics.bind(self.open).await?;
        let ended = server::signals()?;
        let mut listeners = Vec::new();
        for address in &self.listen {
            listeners.push(address.bind().await?);
        }
        let addresses: Vec<_> = listeners
            .iter()
            .map(Listener::address)
            .collect::<Result<_, _>>()?;
        let listening: Vec<_> = addresses.iter().map(banner::reached_at).collect();
        let mut rows = vec![
            ("listening", listening.join(", ")),
            ("upstream", self.upstream.to_string()),
            ("watcher", options.watcher_id.clone()),
        ];
        rows.extend(metrics.as_ref().map(|endpoint| endpoint.row.clone()));
        banner::give(&rows, output)?;
        let running = sidecar::Sidecar::start(options);
        if let Some(endpoint) = metrics {
            endpoint.give(OfSidecar(running.readings()));
        }
        running.serve(listeners, ended).await;
        Ok(Exit::Done)
    }
}

/// The machine's name, and what tells two sidecars on it apart.
fn own_name() -> anyhow::Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    Ok(format!("{machine}-{:08x}", u32::from_be_bytes(random)))
}
