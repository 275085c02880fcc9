//! `portcullis serve`

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::metrics::Metrics;
use super::output::Output;
use super::{Exit, Usage, banner, read_file, values};
use crate::engine::{Engine, EngineError, EngineOptions, Keeping};
use crate::eval;
use crate::plan::{self, Action, Command, Operation, Update, WriteOptions};
use crate::revision::{Consistency, Epoch};
use crate::server::{self, ListenAddress, ServeOptions};
use crate::store::{MemoryStore, Store, sled::SledStore};
use crate::telemetry::{self, metrics::OfEngine};
use crate::templates::{self, Template};

/// Serves: answers questions and takes writes over gRPC.
#[derive(Args, Debug)]
#[command(after_help = "\
portcullis serve                                a demo world on 127.0.0.1:50051, kept in ./portcullis-data
portcullis serve --memory --template none       nothing in it, and nothing kept
portcullis serve --schema my.zed --data /var/lib/portcullis")]
pub(super) struct Serve {
    /// Where to listen: HOST:PORT, or unix:PATH; may be given several times
    #[arg(long, value_name = "ADDRESS", default_value = server::DEFAULT_ADDRESS, value_delimiter = ',')]
    listen: Vec<ListenAddress>,
    /// The directory of the log; made where it is not there
    #[arg(long, value_name = "DIR", default_value = "./portcullis-data")]
    data: PathBuf,
    /// Keeps everything in memory, and nothing on disk
    #[arg(long, conflicts_with = "data")]
    memory: bool,
    /// The schema to serve; written as `schema write` would where the store has another
    #[arg(long, value_name = "FILE", conflicts_with = "template")]
    schema: Option<PathBuf>,
    /// What an empty store begins with: a ready-made schema and its demo world, or none
    #[arg(long, value_name = "NAME", default_value = templates::DEFAULT, value_parser = template())]
    template: String,
    /// Allows listening beyond this machine although no callers are configured
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    log_kept: LogKept,
    /// How long a cache may answer without hearing from this server, and a write wait for one that
    /// has died; at most 30s
    #[arg(long, value_name = "SPAN", default_value = "3s", value_parser = lease)]
    lease: Duration,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    metrics: Metrics,
    /// What to log, to standard error: error, warn, info, debug, or portcullis=debug,info
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: telemetry::Filter,
}

/// How far back the log goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Log")]
struct LogKept {
    /// Commits from one checkpoint to the next; a start reads the newest and what came after it
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = values::at_least_one_of_many())]
    checkpoint_every: u64,
    /// The newest commits that stay in the log behind a checkpoint, for those who lag behind
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    keep_commits: u64,
    /// How old they may be; older ones go with the next checkpoint [default: any age]
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    keep_for: Option<Duration>,
}

/// How much one request may ask.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Tuple reads of one check
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_check_reads: u64,
    /// Dependency keys of one answer, for caches; past it the answer is uncacheable
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = values::at_least_one())]
    max_dependencies: usize,
    /// Questions of one BatchCheck
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = values::at_least_one())]
    max_batch: usize,
    /// Updates of one write
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = values::at_least_one())]
    max_updates: usize,
    /// Bytes of a schema
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = values::at_least_one())]
    max_schema: usize,
    /// Bytes of one message
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = values::bytes_of_messages())]
    max_message: usize,
    /// Writes that may wait for the writer
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = values::at_least_one())]
    max_queue: usize,
    /// Streams of changes that are open at the same time
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = values::at_least_one())]
    max_watchers: usize,
    /// Snapshots that are being read at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = values::at_least_one())]
    max_snapshots: usize,
    /// Lists, reads of tuples, exports and imports that are open at the same time
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = values::at_least_one())]
    max_streams: usize,
    /// How long requests under way may take to end when the server is told to stop
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = values::span)]
    drain: Duration,
}

fn template() -> PossibleValuesParser {
    let names = templates::ALL.iter().map(|template| template.name);
    PossibleValuesParser::new(names.chain(["none"]))
}

/// The span of a lease.
fn lease(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(30);
    const SHORTEST: Duration = Duration::from_millis(100);
    let span = values::span(text)?;
    match (SHORTEST..=LONGEST).contains(&span) {
        true => Ok(span),
        false => Err("a lease takes from 100ms to 30s".to_owned()),
    }
}

impl Serve {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Exit> {
        telemetry::start(self.log.clone())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serve(output))
    }

    async fn serve(self, output: Output) -> anyhow::Result<Exit> {
        let open = server::may_listen(&self.listen, false, self.open)
            .map_err(|error| Usage(error.to_string()))?;
        let metrics = self.metrics.bind(self.open).await?;
        let wanted = self.wanted_schema()?;
        let ended = server::signals()?;
        let mut listeners = Vec::new();
        for address in &self.listen {
            listeners.push(address.bind().await?);
        }
        let bound: Result<Vec<_>, _> = listeners.iter().map(server::Listener::address).collect();
        let (addresses, options) = (bound?, self.serve_options());
        let mut failed = None;
        let opening = async {
            let at = metrics.as_ref().map(|endpoint| &endpoint.row);
            let opened = (self.open_engine(wanted, (&addresses, at), open, output)).await;
            let engine = opened.map_err(|error| failed = Some(error)).ok()?;
            if let Some(endpoint) = metrics {
                endpoint.give(OfEngine(engine.clone()));
            }
            Some(engine)
        };
        server::serve_opening(opening, listeners, options, ended).await?;
        failed.map_or(Ok(Exit::Done), Err)
    }

    /// Opens the store, gives it what it begins with, and says what there is.
    async fn open_engine(
        &self,
        wanted: Option<Arc<str>>,
        (addresses, metrics): (&[ListenAddress], Option<&banner::Row>),
        open: Option<&'static str>,
        output: Output,
    ) -> anyhow::Result<Engine> {
        let (kept, options) = (self.kept(), self.engine_options());
        let opened =
            tokio::task::spawn_blocking(move || anyhow::Ok(Engine::open(kept.store()?, options)?));
        let engine = opened.await??;
        let told = async {
            self.begin(&engine, wanted).await?.tell(output)?;
            let kept = self.kept().to_string();
            let mut rows = banner::rows(&engine, addresses, &kept, open).await?;
            rows.extend(metrics.cloned());
            banner::give(&rows, output)
        };
        if let Err(error) = told.await {
            engine.close().await?;
            return Err(error);
        }
        Ok(engine)
    }

    fn kept(&self) -> Kept {
        match self.memory {
            true => Kept::InMemory,
            false => Kept::In(self.data.clone()),
        }
    }

    fn serve_options(&self) -> ServeOptions {
        ServeOptions {
            max_message_bytes: self.limits.max_message,
            drain: self.limits.drain,
        }
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            limits: plan::Limits {
                updates: self.limits.max_updates,
                schema_bytes: self.limits.max_schema,
                ..plan::Limits::default()
            },
            checks: eval::Limits {
                work: self.limits.max_check_reads,
                dependencies: self.limits.max_dependencies,
            },
            batch_items: self.limits.max_batch,
            queue: self.limits.max_queue,
            lease: self.lease,
            watchers: self.limits.max_watchers,
            snapshots: self.limits.max_snapshots,
            streams: self.limits.max_streams,
            keeping: Keeping {
                checkpoint_every: self.log_kept.checkpoint_every,
                commits: self.log_kept.keep_commits,
                age: self.log_kept.keep_for,
                ..Keeping::default()
            },
            ..EngineOptions::default()
        }
    }

    /// The text of `--schema`, read before anything is opened.
    fn wanted_schema(&self) -> anyhow::Result<Option<Arc<str>>> {
        let Some(file) = &self.schema else {
            return Ok(None);
        };
        let text = read_file(file)?;
        super::schema::compile(&text, file)?;
        Ok(Some(text.into()))
    }

    /// Gives the store the schema that was asked for, or an empty one its template.
    async fn begin(&self, engine: &Engine, wanted: Option<Arc<str>>) -> anyhow::Result<Begun> {
        if let Some(text) = wanted {
            return self.begin_with_schema(engine, text).await;
        }
        let status = engine.status();
        let template = templates::named(&self.template);
        match template {
            Some(template) if status.token.revision.0 == 0 => {
                load(engine, template)
                    .await
                    .context("loading the template failed")?;
                Ok(Begun::default())
            }
            _ => Ok(Begun::default()),
        }
    }

    async fn begin_with_schema(&self, engine: &Engine, text: Arc<str>) -> anyhow::Result<Begun> {
        let standing = engine.schema(Consistency::Newest, None).await?;
        if standing.schema.is_some_and(|schema| schema.text == text) {
            return Ok(Begun::default());
        }
        let action = Action::WriteSchema {
            text: text.clone(),
            if_revision: None,
        };
        let file = self.schema.as_deref().unwrap_or(Path::new("--schema"));
        let written =
            (engine.write(command(action, "serve --schema"), None).await).with_context(|| {
                format!(
                    "the store keeps the schema it has, and does not take that of {} \
                     (to begin anew, name an empty directory with --data)",
                    file.display()
                )
            })?;
        let name = file.display().to_string();
        let warnings = written
            .warnings
            .iter()
            .map(|warning| warning.render(&text, &name));
        Ok(Begun {
            changes: written.changes,
            warnings: warnings.collect(),
        })
    }
}

/// Where the log is kept.
enum Kept {
    InMemory,
    In(PathBuf),
}

impl Kept {
    fn store(&self) -> anyhow::Result<Box<dyn Store>> {
        match self {
            Self::In(directory) => Ok(Box::new(SledStore::open(directory)?)),
            Self::InMemory => {
                let mut random = [0; 11];
                getrandom::fill(&mut random).map_err(|error| {
                    anyhow::anyhow!("the system gives no random bytes: {error}")
                })?;
                let [a, b, c, seed @ ..] = random;
                let epoch = u64::from_be_bytes([0, 0, 0, 0, 0, a | 0x80, b, c]);
                Ok(Box::new(MemoryStore::new(
                    Epoch(epoch),
                    u64::from_be_bytes(seed),
                )))
            }
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InMemory => f.write_str("in memory: gone when this process ends"),
            Self::In(directory) => write!(f, "{}", directory.display()),
        }
    }
}

/// So many changes of the schema are told one by one.
const FEW_CHANGES: usize = 8;

/// What serving changed before it began.
#[derive(Default)]
struct Begun {
    changes: Vec<String>,
    warnings: Vec<String>,
}

impl Begun {
    fn tell(&self, output: Output) -> anyhow::Result<()> {
        for line in &self.warnings {
            output.document(&json!({ "warning": line }), line)?;
        }
        let told = match self.changes.len() {
            0..=FEW_CHANGES => self.changes.len(),
            _ if output.is_json() => self.changes.len(),
            _ => FEW_CHANGES - 1,
        };
        for change in self.changes.iter().take(told) {
            output.give(
                &json!({ "change": change }),
                format_args!("schema: {change}"),
            )?;
        }
        if told < self.changes.len() {
            let more = self.changes.len() - told;
            let more = format!("and {more} more changes");
            output.give(&json!({ "change": more }), format_args!("schema: {more}"))?;
        }
        Ok(())
    }
}

fn command(action: Action, reason: &str) -> Command {
    Command {
        action,
        options: WriteOptions {
            reason: reason.to_owned(),
            ..WriteOptions::default()
        },
        caller: "".into(),
    }
}

async fn load(engine: &Engine, template: &Template) -> Result<(), EngineError> {
    let reason = format!("template {}", template.name);
    let updates = template.tuples().into_iter().map(|tuple| Update {
        operation: Operation::Grant,
        tuple,
    });
    let begin = Action::Begin {
        text: template.schema.into(),
        roles: template.roles(),
        updates: updates.collect(),
    };
    engine.write(command(begin, &reason), None).await?;
    Ok(())
}
