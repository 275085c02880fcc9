//! The two streams of `GrantService`: imports and exports of any size.
//!
//! Hides how messages become batches. As with single writes, a batch is what came while the one
//! before it was being committed, so that nobody waits for company, and a fast sender gets large
//! batches.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{self, error::TryRecvError};
use tonic::{Status, Streaming};

use super::convert::bulk::{First, Piece, Stop, piece};
use super::convert::changes::{held_lock, role};
use super::convert::to_tuple;
use super::outbox::{Outbox, Outgoing, Over};
use super::proto;
use super::status::{Failure, Shape, write_failure};
use crate::engine::{Engine, Export, Import, ImportError, StreamTurn};

/// How many messages wait for the writer. Each is at most as large as any message.
const PIECES: usize = 16;
/// How many messages wait for a slow client.
const ANSWERS: usize = 1;
/// About how many bytes a message of an export has: clients that never read may be many, and each
/// costs a few of them. Tuples that are fetched at a time.
const BYTES: usize = 32 << 10;
const TUPLES: usize = 500;

pub(super) type Imported = Result<proto::ImportResponse, Status>;

/// Takes the stream in; the answers come as batches are committed.
pub(super) fn import(
    engine: &Engine,
    stream: Streaming<proto::ImportRequest>,
    deadline: Option<Instant>,
) -> mpsc::Receiver<Imported> {
    let (pieces, waiting) = mpsc::channel(PIECES);
    let (answers, receiver) = mpsc::channel(ANSWERS);
    tokio::spawn(read(stream, pieces));
    let importing = Importing {
        import: engine.import(deadline),
        begins: Vec::new(),
        taken: 0,
        answered: false,
    };
    tokio::spawn(importing.run(waiting, answers));
    receiver
}

/// Reads messages until one is at fault or nobody wants more: the writer's pace is the stream's.
async fn read(mut stream: Streaming<proto::ImportRequest>, pieces: mpsc::Sender<Piece>) {
    let mut is_first = true;
    loop {
        let read = match stream.message().await {
            Ok(Some(message)) => piece(message, is_first),
            Ok(None) => return,
            Err(status) => Piece::broken(status),
        };
        is_first = false;
        let ends = read.end.is_some();
        if pieces.send(read).await.is_err() || ends {
            return;
        }
    }
}

/// Why an import ends before its stream does.
enum End {
    Refused(Box<Status>),
    /// Nobody waits for the rest.
    Gone,
}

/// An import, and where its messages begin.
struct Importing {
    import: Import,
    /// The places in the stream at which the messages begin whose tuples wait.
    begins: Vec<u64>,
    /// Tuples of the stream that were taken in.
    taken: u64,
    answered: bool,
}

impl Importing {
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>, answers: mpsc::Sender<Imported>) {
        let last = match self.commit_all(&mut pieces, &answers).await {
            Err(End::Refused(status)) => Err(*status),
            // A stream without tuples is answered, too.
            Ok(()) if !self.answered => Ok(self.answer()),
            Ok(()) | Err(End::Gone) => return,
        };
        // A client that has gone asks no more.
        drop(answers.send(last).await);
    }

    async fn commit_all(
        &mut self,
        pieces: &mut mpsc::Receiver<Piece>,
        answers: &mpsc::Sender<Imported>,
    ) -> Result<(), End> {
        loop {
            let ended = self.fill(pieces).await?;
            // One batch, or at the end all that is left.
            while self.import.waiting() > 0 {
                let before = self.import.position();
                let committed = self.import.commit().await;
                if self.import.position() > before {
                    self.answered = true;
                    (answers.send(Ok(self.answer())).await).map_err(|_| End::Gone)?;
                }
                committed.map_err(|error| self.refused(error))?;
                if ended.is_none() {
                    break;
                }
            }
            match ended {
                Some(Ok(())) => return Ok(()),
                Some(Err(status)) => return Err(End::Refused(status)),
                None => {}
            }
        }
    }

    /// Takes in what has come, at least one message and at most about a batch; how the stream
    /// ended, where it did.
    async fn fill(
        &mut self,
        pieces: &mut mpsc::Receiver<Piece>,
    ) -> Result<Option<Result<(), Box<Status>>>, End> {
        while self.import.waiting() < self.import.batch() {
            let next = match pieces.try_recv() {
                Err(TryRecvError::Empty) if self.import.waiting() > 0 => break,
                Err(TryRecvError::Empty) => pieces.recv().await,
                Err(TryRecvError::Disconnected) => None,
                Ok(next) => Some(next),
            };
            let Some(next) = next else {
                return Ok(Some(Ok(())));
            };
            if let Some(status) = self.take(next).await? {
                return Ok(Some(Err(status)));
            }
        }
        Ok(None)
    }

    /// Takes a message in; gives the status that the stream ends with behind its tuples.
    async fn take(&mut self, piece: Piece) -> Result<Option<Box<Status>>, End> {
        let Piece { first, tuples, end } = piece;
        if let Some(first) = first {
            self.begin(first).await?;
        }
        let position = self.import.position();
        let begun = self.begins.iter().filter(|begin| **begin <= position).max();
        let oldest = begun.copied().unwrap_or(0);
        self.begins.retain(|begin| *begin >= oldest);
        self.begins.push(self.taken);
        self.taken += tuples.len() as u64;
        self.import.add(tuples);
        Ok(end.map(|end| match end {
            Stop::Broken(status) => status,
            Stop::Malformed(malformed) => {
                let failure = Failure::from(malformed).with("position", self.taken);
                Box::new(failure.after(&standing(self.taken)).into())
            }
        }))
    }

    /// What the tuples need: their schema, the roles that they assign, the locks on them.
    async fn begin(&mut self, first: First) -> Result<(), End> {
        let refused = |error: ImportError, shape: Shape<'_>| {
            let failure = write_failure(error.error, shape);
            End::Refused(Box::new(failure.with("position", 0).into()))
        };
        let First {
            schema,
            roles,
            locks,
        } = first;
        if let Some(text) = schema {
            let written = self.import.write_schema(Arc::clone(&text)).await;
            written.map_err(|error| refused(error, Shape::Schema(&text)))?;
        }
        let written = self.import.write_roles_and_locks(roles, locks).await;
        written.map_err(|error| refused(error, Shape::Tuples))
    }

    fn answer(&self) -> proto::ImportResponse {
        proto::ImportResponse {
            position: self.import.position(),
            revision: self.import.token().to_string(),
        }
    }

    fn refused(&self, error: ImportError) -> End {
        let position = self.import.position();
        let of_tuple = error.of_tuple;
        let begins = self.begins.iter().filter(|begin| **begin <= position);
        let place = position - begins.max().copied().unwrap_or(position);
        let error = error.at_place(usize::try_from(place).unwrap_or(usize::MAX));
        let failure = write_failure(error.error, Shape::Tuples).with("position", position);
        let failure = match of_tuple {
            true => failure.after(&standing(position)),
            false => failure,
        };
        End::Refused(Box::new(failure.into()))
    }
}

/// How errors begin that are of the tuple at this place.
fn standing(position: u64) -> String {
    let nth = position + 1;
    format!("tuple {nth} of the stream (those before it stand): ")
}

/// Sends the export, at the client's pace.
pub(super) fn export(
    export: Export,
    turn: StreamTurn,
    deadline: Option<Instant>,
) -> Outgoing<proto::ExportResponse> {
    Outgoing::of(turn, ANSWERS, deadline, |out| send(export, out))
}

async fn send(mut export: Export, out: Outbox<proto::ExportResponse>) -> Result<(), Over> {
    let (roles, schema) = export.roles();
    let mut message = proto::ExportResponse {
        roles: roles.map(|record| role(record, Some(schema))).collect(),
        locks: export.locks().map(|lock| held_lock(lock)).collect(),
        revision: export.token().to_string(),
        schema: export.schema().to_owned(),
        total: export.total().unwrap_or(0),
        ..proto::ExportResponse::default()
    };
    let revision = message.revision.clone();
    let mut bytes = message.schema.len();
    loop {
        let tuples = export.next(TUPLES).await.map_err(Failure::from)?;
        let over = tuples.is_empty();
        for tuple in &tuples {
            let tuple = to_tuple(tuple);
            bytes += prost::Message::encoded_len(&tuple) + 4;
            message.tuples.push(tuple);
            if bytes < BYTES {
                continue;
            }
            out.send(std::mem::take(&mut message)).await?;
            message.revision.clone_from(&revision);
            bytes = 0;
        }
        let unsent = !message.tuples.is_empty() || !message.schema.is_empty();
        if over && unsent {
            return out.send(message).await;
        }
        if over || out.is_closed() {
            return Ok(());
        }
    }
}
