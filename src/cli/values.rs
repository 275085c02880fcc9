//! How values are written on the command line: references, spans of time, contexts.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;

use crate::time::Timestamp;
pub(super) use crate::time::span;
use crate::tuple::{Context, Object, Subject};

/// When a grant ends: after a span, or at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// From now.
    After(Duration),
    /// RFC 3339.
    At(Timestamp),
}

impl Ends {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let instant = text.parse().ok().map(Self::At);
        (instant.or_else(|| span(text).ok().map(Self::After))).ok_or_else(|| {
            "expected a span such as 24h, 90m or 7d, or a time such as 2030-01-31T12:00:00Z"
                .to_owned()
        })
    }

    pub(super) fn instant(self) -> Timestamp {
        match self {
            Self::At(instant) => instant,
            Self::After(span) => now().plus(span),
        }
    }
}

/// This machine's clock.
pub(super) fn now() -> Timestamp {
    let since =
        (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::new(seconds, since.subsec_nanos()).unwrap_or_default()
}

/// A limit that lets something through.
pub(super) fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// The same for what is counted across a whole log.
pub(super) fn at_least_one_of_many() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..)
}

/// A limit below which no message of ours could be read.
pub(super) fn bytes_of_messages() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1024..)
}

/// Parses a JSON object of caveat parameters.
pub(super) fn context(text: &str) -> Result<Context, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("expected a JSON object such as '{{\"ip\": \"10.0.0.1\"}}': {error}")
    })
}

/// Parses `type:id`.
pub(super) fn object(text: &str) -> Result<Object, String> {
    text.parse().map_err(|bad| format!("{bad}"))
}

/// Parses `type:id`, `type:id#relation` or `type:*`.
pub(super) fn subject(text: &str) -> Result<Subject, String> {
    text.parse().map_err(|bad| format!("{bad}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(span(text).ok(), seconds.map(Duration::from_secs), "{text}");
        };
        check("24h", Some(86_400));
        check("1h30m", Some(5_400));
        check("7d", Some(604_800));
        check("2000ms", Some(2));
        check("", None);
        check("0h", None);
        check("24", None);
        check("h", None);
        check("-1h", None);
        check("1y", None);
        check("99999999999999999999h", None);
        check("18446744073709551615d", None);
    }

    #[test]
    fn a_grant_ends_after_a_span_or_at_an_instant() {
        assert_eq!(
            Ends::parse("1h"),
            Ok(Ends::After(Duration::from_secs(3_600)))
        );
        let instant = Timestamp::new(1_893_456_000, 0).map(Ends::At);
        assert_eq!(Ends::parse("2030-01-01T00:00:00Z").ok(), instant);
        assert!(Ends::parse("tomorrow").is_err());
    }
}
