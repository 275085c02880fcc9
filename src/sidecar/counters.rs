//! What a sidecar counts.

use std::fmt;

pub use crate::counter::Counter;

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// Since the start.
        #[derive(Debug, Default)]
        pub struct Counters { $(#[doc = $doc] pub $name: Counter,)* }

        impl Counters {
            /// Each one's name, what it counts, and how many there are.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
                [$((stringify!($name), $doc.trim_ascii(), self.$name.get())),*].into_iter()
            }
        }

        impl fmt::Display for Counters {
            /// All that are not zero.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut seen = self.each().filter(|(_, _, count)| *count > 0);
                if let Some((name, _, count)) = seen.next() {
                    write!(f, "{name}={count}")?;
                }
                seen.try_for_each(|(name, _, count)| write!(f, " {name}={count}"))
            }
        }
    };
}

counters! {
    /// Questions that were answered from the cache.
    hits,
    /// Questions that were not kept.
    absent,
    /// Kept answers whose keys had changed.
    changed,
    /// Kept answers that were older than the caller wanted.
    behind,
    /// Kept answers whose time was over.
    over,
    /// Kept answers that were not given since no lease ran.
    unleased,
    /// Questions that no cache can answer: contextual tuples, `exactly`, `full`.
    bypassed,
    /// Questions that waited for another one's upstream call.
    joined,
    /// Answers that were too old on arrival and were asked for again.
    asked_again,
    /// Questions that went upstream alone.
    alone,
    /// Batches that were answered from the cache.
    batch_hits,
    /// Questions of those.
    batched_hits,
    /// Batches that went upstream.
    batch_misses,
    /// Calls of other methods, passed through.
    passed,
    /// Calls that could not be passed on.
    unreachable,
    /// Commits that were applied.
    commits,
    /// Times that all was forgotten.
    resets,
    /// Streams that ended.
    streams_ended,
    /// Acknowledgements that were answered with a lease.
    leases,
    /// Acknowledgements without.
    refused_leases,
    /// Hits that were asked again upstream, and were right.
    verified,
    /// Hits that were asked again upstream, and were not: a defect.
    differences,
}

impl Counters {
    /// Questions and batches that a cache is there for.
    pub(super) fn asked(&self) -> u64 {
        let Self {
            hits,
            absent,
            changed,
            behind,
            over,
            unleased,
            batch_hits,
            batch_misses,
            ..
        } = self;
        let found = [hits, absent, changed, behind, over, unleased];
        let batches = [batch_hits, batch_misses];
        found.iter().chain(&batches).map(|count| count.get()).sum()
    }
}
