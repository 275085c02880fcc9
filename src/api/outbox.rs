//! Streams that are filled by a task of their own, at their reader's pace.
//!
//! Hides what keeps them small: few messages wait, the streams are counted as long as somebody may
//! read of them, and none keeps a state for a reader that has stopped. Whatever ends one early is
//! its last message: a stream never looks complete and is not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use tonic::Status;

use super::status::{Failure, reason};
use crate::engine::StreamTurn;

type Message<T> = Result<T, Status>;

/// The messages of a stream, and its place among those that may be open.
#[derive(Debug)]
pub struct Outgoing<T> {
    messages: mpsc::Receiver<Message<T>>,
    _turn: StreamTurn,
}

/// Where the messages are put.
pub(super) struct Outbox<T> {
    messages: mpsc::Sender<Message<T>>,
    patience: Duration,
}

/// Why no more messages are wanted.
pub(super) enum Over {
    /// Nobody is there to read them.
    Gone,
    /// The stream ends with this.
    Failed(Failure),
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<T: Send + 'static> Outgoing<T> {
    /// A stream that `work` fills, in which `room` messages wait for a slow reader.
    pub(super) fn of<F>(
        turn: StreamTurn,
        room: usize,
        deadline: Option<Instant>,
        work: impl FnOnce(Outbox<T>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Over>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(room + 1);
        // The last place is for how it ends, whatever waits then.
        let end = sender.clone().try_reserve_owned();
        let filled = work(Outbox {
            messages: sender,
            patience: turn.patience(),
        });
        tokio::spawn(async move {
            let ended = match deadline {
                None => filled.await,
                Some(deadline) => timeout_at(deadline.into(), filled)
                    .await
                    .unwrap_or_else(|_| Err(late().into())),
            };
            if let (Err(Over::Failed(failure)), Ok(end)) = (ended, end) {
                drop(end.send(Err(failure.into())));
            }
        });
        Self {
            messages,
            _turn: turn,
        }
    }
}

impl<T> Outgoing<T> {
    /// A stream that is filled elsewhere, which holds nothing but its messages.
    pub(super) fn filled(messages: mpsc::Receiver<Message<T>>, turn: StreamTurn) -> Self {
        Self {
            messages,
            _turn: turn,
        }
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = Message<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message<T>>> {
        self.messages.poll_recv(context)
    }
}

impl<T> Outbox<T> {
    /// Puts a message behind the others, where there is room in time.
    pub(super) async fn send(&self, message: T) -> Result<(), Over> {
        match timeout(self.patience, self.messages.reserve()).await {
            Ok(Ok(room)) => {
                room.send(Ok(message));
                Ok(())
            }
            Ok(Err(_)) => Err(Over::Gone),
            Err(_) => Err(unread(self.patience).into()),
        }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }
}

fn late() -> Failure {
    let message = "the deadline passed before all was sent";
    Failure::new(reason::DEADLINE_EXCEEDED, message)
}

fn unread(patience: Duration) -> Failure {
    let message = format!(
        "nothing was read for {patience:?}, and the state that is sent is not kept for longer; begin anew"
    );
    Failure::new(reason::OVERLOADED, message)
}
