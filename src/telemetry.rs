//! What the process says about itself: readable on a terminal, JSON where it isn't one.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::TryInitError;

pub mod metrics;

/// What is logged: a level, or a list such as `info,portcullis=debug`.
#[derive(Clone, Debug)]
pub struct Filter(EnvFilter);

/// A text that is no [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} says no level: expected error, warn, info, debug or trace, or a list such as info,portcullis=debug"
)]
pub struct MalformedFilter(String);

impl FromStr for Filter {
    type Err = MalformedFilter;

    /// A misspelt level would be read as the name of a module, and nothing be logged.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_level = |level: &str| level.trim().parse::<LevelFilter>().is_ok();
        let mut pieces = text.split(',');
        let read = pieces.all(|piece| piece.rsplit('=').next().is_some_and(is_level));
        let filter = read.then(|| EnvFilter::try_new(text).ok()).flatten();
        filter
            .map(Self)
            .ok_or_else(|| MalformedFilter(text.to_owned()))
    }
}

/// Starts logging to standard error, once a process.
///
/// # Errors
/// Where logging was started before.
pub fn start(filter: Filter) -> Result<(), TryInitError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let Filter(filter) = filter;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        lines.with_target(false).finish().try_init()
    } else {
        lines.json().flatten_event(true).finish().try_init()
    }
}
