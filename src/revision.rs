//! Revisions, epochs and tokens: how a moment of the log is named on the wire.

use std::fmt;
use std::str::FromStr;

/// The number of a commit: 1, 2, 3 …; 0 is the empty state before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The number of the commit after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Names one history: a restored or foreign store has another epoch. Never zero, 24 bits or more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Epoch(pub u64);

/// A consistency token: `1042@9f3ac1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    /// The commit's number.
    pub revision: Revision,
    /// The history that the number counts in.
    pub epoch: Epoch,
}

/// What a read asks of the state that answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// The newest revision that this node has.
    #[default]
    Newest,
    /// Waits, within the deadline, until this revision is visible.
    AtLeast(Token),
    /// This revision and no other.
    Exactly(Token),
    /// The newest revision, confirmed with the store first.
    Full,
}

/// Why a text is no [`Token`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no revision; expected <number>@<epoch>, such as 1042@9f3ac1")]
pub struct MalformedToken(String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.revision, self.epoch)
    }
}

impl FromStr for Token {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (number, epoch) = text.split_once('@')?;
            let digits = |s: &str| {
                s.bytes()
                    .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
            };
            if !number.bytes().all(|b| b.is_ascii_digit()) || !digits(epoch) {
                return None;
            }
            let revision = Revision(number.parse().ok()?);
            let epoch = Epoch(u64::from_str_radix(epoch, 16).ok()?);
            Some(Self { revision, epoch })
        };
        parse().ok_or_else(|| MalformedToken(text.chars().take(80).collect()))
    }
}
