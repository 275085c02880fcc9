//! `portcullis import`

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::Args;
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Client, Refused};
use super::formats::{Bad, Format, Item, Place};
use super::output::Output;
use super::progress::{Progress, thousands};
use super::{Exit, Usage};
use crate::api::convert::to_tuple;
use crate::api::proto::schema_service_client::SchemaServiceClient;
use crate::api::proto::{self, grant_service_client::GrantServiceClient};
use crate::eval::caveats::check_context;
use crate::schema::{Names, Schema};
use crate::tuple::{RoleRef, Tuple};
use crate::validation::Problem;

/// Imports tuples, and a schema where the file has one.
#[derive(Args, Debug)]
#[command(after_help = "\
portcullis export all.jsonl && portcullis --server http://other:50051 import all.jsonl
                                                 schema, roles, locks and tuples, into an empty store
portcullis import tuples.txt                     one tuple a line, as `grant` takes them
portcullis import world.yaml                     SpiceDB's validation YAML: schema and relationships
portcullis import tuples.jsonl --check-first

What stands before a bad line stays; after a broken connection go on with --resume, as the error
says. A tuple that stands already is no change, so that an import can also be run again whole.")]
pub(super) struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// How it says tuples [default: by its name or first line]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Reads and judges the whole file before anything is written: a bad line keeps all of it out
    #[arg(long)]
    check_first: bool,
    /// Goes on behind the file's first N tuples, where an earlier import ended
    #[arg(long, value_name = "N", default_value_t = 0)]
    resume: u64,
}

/// Of one message.
const TUPLES: usize = 1_000;
const BYTES: usize = 512 << 10;
/// Messages that wait to be sent.
const WAITING: usize = 8;

type Items = Box<dyn Iterator<Item = anyhow::Result<Item>> + Send>;

/// What was sent and is not yet answered: the place in the stream of its first tuple, where its
/// tuples stand in the file, and how much of the file was read then.
#[derive(Default)]
struct Unanswered(Mutex<VecDeque<(u64, Vec<Place>, u64)>>);

/// What was in the file beside its tuples.
#[derive(Default)]
struct Beside {
    schema: bool,
    roles: u64,
    locks: u64,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema.then(|| "a schema".to_owned());
        let counted = [(self.roles, "roles"), (self.locks, "locks")];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(count, what)| format!("{count} {what}"));
        let told: Vec<String> = schema.into_iter().chain(counted).collect();
        match told.is_empty() {
            true => Ok(()),
            false => write!(f, ", with {}", told.join(", ")),
        }
    }
}

/// An error in the file, and what became of the rest of it.
#[derive(Debug)]
struct BadFile {
    file: String,
    problem: String,
    rest: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}\n  {}", self.file, self.problem, self.rest)
    }
}

impl std::error::Error for BadFile {}

impl Import {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        if self.check_first {
            self.check(client)?;
        }
        let (items, size, read) = self.open()?;
        let progress = Progress::of_bytes(size);
        let (sender, receiver) = mpsc::channel(WAITING);
        let unanswered = Arc::new(Unanswered::default());
        let reader = {
            let (resume, unanswered) = (self.resume, Arc::clone(&unanswered));
            let work = move || send(items, resume, &read, &sender, &unanswered);
            thread::Builder::new()
                .name("reader".to_owned())
                .spawn(work)?
        };
        let mut stands = (0, String::new());
        let ended = stream(client, receiver, |position, revision| {
            let bytes = unanswered.answered(position);
            progress.at(position, bytes.unwrap_or(0));
            stands = (position, revision);
        });
        let took = progress.end(stands.0);
        if let Err(error) = ended {
            // The reader is left where it is: it may wait for room that nobody makes any more.
            return Err(self.failed(error, &stands, &unanswered));
        }
        let was_read = (reader.join()).map_err(|_| anyhow::anyhow!("the reader failed"))?;
        let beside = was_read.map_err(|error| self.bad(&error, &self.kept(&stands)))?;
        let (count, revision) = stands;
        let value = json!({
            "imported": count,
            "schema": beside.schema,
            "roles": beside.roles,
            "locks": beside.locks,
            "revision": revision,
        });
        let text = format!("imported {} tuples in {took}{beside}", thousands(count));
        output.give(&value, format_args!("{text}; revision {revision}"))?;
        Ok(Exit::Done)
    }

    /// The items, the file's size, and how much of it was read.
    fn open(&self) -> anyhow::Result<(Items, Option<u64>, Arc<AtomicU64>)> {
        let read = Arc::new(AtomicU64::new(0));
        let (input, size): (Box<dyn Read + Send>, _) = match self.is_stdin() {
            true => (Box::new(io::stdin()), None),
            false => {
                let opened = File::open(&self.file);
                let file = opened
                    .map_err(|error| anyhow::anyhow!("can't read {}: {error}", self.name()))?;
                let size = file.metadata().ok().filter(std::fs::Metadata::is_file);
                (Box::new(file), size.map(|metadata| metadata.len()))
            }
        };
        let counted = Counted(input, Arc::clone(&read));
        let mut input = BufReader::with_capacity(1 << 18, counted);
        let begins = input.fill_buf()?;
        let format = self
            .format
            .unwrap_or_else(|| Format::of(&self.file, begins));
        Ok((format.read(&self.file, Box::new(input)), size, read))
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    fn name(&self) -> String {
        self.file.display().to_string()
    }

    /// Reads the file to its end, and judges each tuple by the schema that it will have.
    fn check(&self, client: &Client) -> anyhow::Result<()> {
        if self.is_stdin() {
            let problem = "--check-first reads the file twice, and standard input is read once";
            return Err(Usage(problem.to_owned()).into());
        }
        let mut schema: Option<Schema> = None;
        let rest = "nothing was imported";
        for item in self.open()?.0 {
            match item.map_err(|error| self.bad(&error, rest))? {
                Item::Schema(text) => schema = Some(self.compiled(&text)?),
                // The server judges them before any tuple.
                Item::Role(_) | Item::Lock(_) => {}
                Item::Tuple(tuple, place) => {
                    let schema = match &mut schema {
                        Some(schema) => schema,
                        none => none.insert(self.compiled(&standing(client)?)?),
                    };
                    fits(schema, &tuple, &place).map_err(|bad| self.bad(&bad.into(), rest))?;
                }
            }
        }
        Ok(())
    }

    fn compiled(&self, text: &str) -> anyhow::Result<Schema> {
        match Schema::compile(text, &Names::default()) {
            Ok(compiled) => Ok(compiled.schema),
            Err(problems) => {
                let first = problems
                    .first()
                    .map(|problem| problem.render(text, "schema"));
                let first = first.unwrap_or_default();
                anyhow::bail!("the schema of {} is not valid:\n{first}", self.name())
            }
        }
    }

    fn kept(&self, (count, revision): &(u64, String)) -> String {
        let all = self.resume + count;
        match revision.as_str() {
            "" => format!("nothing was imported; once it is mended: --resume {all}"),
            _ => format!(
                "{} tuples before it stand, at revision {revision}; once it is mended: --resume {all}",
                thousands(*count)
            ),
        }
    }

    /// An error of the file itself, with the file's name in front.
    fn bad(&self, error: &anyhow::Error, rest: &str) -> anyhow::Error {
        let known = error.is::<Bad>() || error.is::<Problem>();
        let beside = error
            .downcast_ref::<Problem>()
            .and_then(|problem| problem.file.as_ref());
        let file = match (known, beside) {
            (true, None) => self.name(),
            // Its message begins with the other file's name.
            _ => "error".to_owned(),
        };
        BadFile {
            file,
            problem: error.to_string(),
            rest: rest.to_owned(),
        }
        .into()
    }

    /// An error of the server: at the line that it is about, where it is about one.
    fn failed(
        &self,
        error: anyhow::Error,
        stands: &(u64, String),
        unanswered: &Unanswered,
    ) -> anyhow::Error {
        let Some(refused) = error.downcast_ref::<Refused>() else {
            return error;
        };
        let position = refused
            .metadata("position")
            .and_then(|text| text.parse().ok());
        let place = position.and_then(|position| unanswered.place(position));
        let (Some(place), Some(field)) = (place, refused.field()) else {
            let kept = stands.0 + self.resume;
            let count = thousands(stands.0);
            return error.context(format!(
                "{count} tuples were imported; go on with --resume {kept}"
            ));
        };
        let bad = place.bad(field, refused.told());
        self.bad(&bad.into(), &self.kept(stands))
    }
}

/// Sends the file's tuples behind the first `resume`, and its schema in the first message.
fn send(
    items: Items,
    resume: u64,
    read: &AtomicU64,
    sender: &mpsc::Sender<proto::ImportRequest>,
    unanswered: &Unanswered,
) -> anyhow::Result<Beside> {
    let mut message = proto::ImportRequest::default();
    let mut beside = Beside::default();
    let mut places = Vec::new();
    let (mut bytes, mut skipped, mut first) = (0, 0, 0);
    let mut flush = |message: &mut proto::ImportRequest, places: &mut Vec<Place>| {
        let count = message.tuples.len() as u64;
        unanswered.sent(first, std::mem::take(places), read.load(Ordering::Relaxed));
        first += count;
        // The stream is over: its end says why.
        sender.blocking_send(std::mem::take(message)).is_ok()
    };
    let mut bad = None;
    for item in items {
        match item {
            Err(error) => {
                bad = Some(error);
                break;
            }
            Ok(Item::Schema(text)) => {
                beside.schema = true;
                message.schema = text;
            }
            Ok(Item::Role(role)) => {
                beside.roles += 1;
                message.roles.push(*role);
            }
            Ok(Item::Lock(lock)) => {
                beside.locks += 1;
                message.locks.push(*lock);
            }
            Ok(Item::Tuple(..)) if skipped < resume => skipped += 1,
            Ok(Item::Tuple(tuple, place)) => {
                let tuple = to_tuple(&tuple);
                bytes += tuple.encoded_len() + 4;
                message.tuples.push(tuple);
                places.push(place);
                if message.tuples.len() < TUPLES && bytes < BYTES {
                    continue;
                }
                bytes = 0;
                if !flush(&mut message, &mut places) {
                    return Ok(beside);
                }
            }
        }
    }
    if message != proto::ImportRequest::default() {
        flush(&mut message, &mut places);
    }
    bad.map_or(Ok(beside), Err)
}

/// Runs the stream to its end; tells of each answer.
fn stream(
    client: &Client,
    messages: mpsc::Receiver<proto::ImportRequest>,
    mut answered: impl FnMut(u64, String),
) -> anyhow::Result<()> {
    let mut service = GrantServiceClient::new(client.channel());
    let stream = ReceiverStream::new(messages);
    let mut answers = client.call(service.import(stream))?.into_inner();
    while let Some(answer) = client.call(answers.message())? {
        answered(answer.position, answer.revision);
    }
    Ok(())
}

/// The schema of the server.
fn standing(client: &Client) -> anyhow::Result<String> {
    let mut service = SchemaServiceClient::new(client.channel());
    let request = proto::ReadSchemaRequest::default();
    Ok(client
        .call(service.read_schema(request))?
        .into_inner()
        .schema)
}

fn fits(schema: &Schema, tuple: &Tuple, place: &Place) -> Result<(), Bad> {
    let admitted = match RoleRef::of_relation(&tuple.relation) {
        None => schema.admit(tuple).map(drop),
        Some(_) => schema.admit_assignment(tuple).map(drop),
    };
    admitted.map_err(|problem| place.bad(problem.field(), problem.to_string()))?;
    let Some(caveat) = &tuple.caveat else {
        return Ok(());
    };
    let Some(declared) = schema.caveat_named(&caveat.name) else {
        return Ok(());
    };
    check_context(declared, &caveat.context).map_err(|problem| {
        let name = &caveat.name;
        let message = format!("the context of caveat {name:?} does not fit: {problem}");
        place.bad("caveat", message)
    })
}

impl Unanswered {
    fn sent(&self, first: u64, places: Vec<Place>, bytes: u64) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((first, places, bytes));
    }

    /// Forgets what is answered; how much of the file it was, where that is known.
    fn answered(&self, position: u64) -> Option<u64> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = None;
        while let Some((first, places, bytes)) = waiting.front() {
            if first + places.len() as u64 > position {
                break;
            }
            read = Some(*bytes);
            waiting.pop_front();
        }
        read
    }

    fn place(&self, position: u64) -> Option<Place> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().find_map(|(first, places, _)| {
            let nth = usize::try_from(position.checked_sub(*first)?).ok()?;
            places.get(nth).copied()
        })
    }
}

/// Counts what is read.
struct Counted(Box<dyn Read + Send>, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
