//! Instants as the log and the wire hold them, without a clock: reading one is the business of
//! whoever stands around the pure core.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant in UTC with nanosecond precision, ordered by time.
///
/// The range is that of `google.protobuf.Timestamp`: the years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// Why a text or a pair of numbers is no [`Timestamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: RFC 3339 is expected, such as 2030-01-31T12:00:00Z")]
pub struct TimestampError(String);

/// An instant of a machine's own clock, counted from its start: it never steps, and counts while the
/// machine sleeps. Not comparable between machines, nor over a restart of one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BootTime(Duration);

impl BootTime {
    /// The instant this long after the machine's start.
    pub fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long it is from `earlier` until `self`; zero where `self` is not later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant `span` later, or the last one there is.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;

impl Timestamp {
    /// Seconds and nanoseconds since 1970, as protobuf gives them; `None` outside its range.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        let valid = (FIRST_SECOND..=LAST_SECOND).contains(&seconds) && nanos < 1_000_000_000;
        valid.then_some(Self { seconds, nanos })
    }

    /// Whole seconds since 1970; negative before.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second, below 10^9.
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// How long it is from `earlier` until `self`; zero where `self` is not later.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = (i128::from(self.seconds) - i128::from(earlier.seconds)) * 1_000_000_000
            + i128::from(self.nanos)
            - i128::from(earlier.nanos);
        let nanos = u128::try_from(nanos).unwrap_or(0);
        Duration::new(
            u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX),
            u32::try_from(nanos % 1_000_000_000).unwrap_or(0),
        )
    }

    /// The instant `span` later, or the last one there is.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let nanos = self.nanos + span.subsec_nanos();
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let seconds = self
            .seconds
            .saturating_add(seconds)
            .saturating_add(i64::from(nanos / 1_000_000_000));
        Self {
            seconds: seconds.min(LAST_SECOND),
            nanos: nanos % 1_000_000_000,
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = DateTime::parse_from_rfc3339(text).ok();
        parsed
            .and_then(|time| Self::new(time.timestamp(), time.timestamp_subsec_nanos()))
            .ok_or_else(|| TimestampError(text.to_owned()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp(self.seconds, self.nanos) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}.{:09}s", self.seconds, self.nanos),
        }
    }
}

/// Parses `24h`, `1h30m`, `7d`, `250ms`: numbers, each with its unit.
pub fn span(text: &str) -> Result<Duration, String> {
    let expected = || "expected a span such as 24h, 90m or 7d".to_owned();
    if text.starts_with('-') {
        return Err("is in the past; expected a span such as 24h, 90m or 7d".to_owned());
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(expected)?;
        let (number, tail) = rest.split_at(digits);
        let unit_ends = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(expected()),
        };
        let piece = number.checked_mul(millis).ok_or_else(expected)?;
        total = total
            .checked_add(Duration::from_millis(piece))
            .ok_or_else(expected)?;
        rest = tail;
    }
    let nothing = || "is no time at all; expected a span such as 24h, 90m or 7d".to_owned();
    match (text.is_empty(), total.is_zero()) {
        (true, _) => Err(expected()),
        (false, true) => Err(nothing()),
        (false, false) => Ok(total),
    }
}
