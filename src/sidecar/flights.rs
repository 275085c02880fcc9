//! Upstream calls that several callers wait for.
//!
//! Hides which callers share a call. What they get of it is not decided here: a caller may have
//! come after a change that the call does not know, so that each judges the reply for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tonic::Status;

use super::entry::Key;
use super::reply::Reply;
use crate::revision::Revision;

/// The most calls that can be joined; past it callers go alone.
const MOST: usize = 65_536;

/// Equal questions that ask for the same revision at least share a call.
pub(super) type FlightKey = (Key, Option<Revision>);

/// What became of a call.
pub(super) type Landed = Result<Arc<Reply>, Status>;

type Landing = watch::Receiver<Option<Landed>>;

/// The calls that are under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<FlightKey, Landing>>);

/// A caller's place.
pub(super) enum Seat {
    /// There was no such call: the caller makes it, and all get what comes of it.
    First(Flight),
    /// There is one.
    Joined(Landing),
    /// There are too many.
    None,
}

/// A call that is made; it ends when this goes.
pub(super) struct Flight {
    flights: Arc<Flights>,
    key: FlightKey,
    outcome: watch::Sender<Option<Landed>>,
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: FlightKey) -> Seat {
        let mut open = self.open();
        if let Some(landing) = open.get(&key) {
            return Seat::Joined(landing.clone());
        }
        if open.len() >= MOST {
            return Seat::None;
        }
        let (outcome, landing) = watch::channel(None);
        open.insert(key.clone(), landing);
        Seat::First(Flight {
            flights: Arc::clone(self),
            key,
            outcome,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<FlightKey, Landing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    pub(super) fn landing(&self) -> Landing {
        self.outcome.subscribe()
    }

    /// Nobody joins any more, and those who did get `landed`.
    pub(super) fn land(self, landed: Landed) {
        self.flights.open().remove(&self.key);
        self.outcome.send_replace(Some(landed));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Had it landed, another one may be under the key by now.
        if self.outcome.borrow().is_none() {
            self.flights.open().remove(&self.key);
        }
    }
}

/// Waits for a call; `None` where it ended without an outcome.
pub(super) async fn landed(mut landing: Landing) -> Option<Landed> {
    let outcome = landing.wait_for(Option::is_some).await.ok()?;
    outcome.clone()
}
