//! The newest commits, in memory, for watchers that keep up; the others read the log.
//!
//! Hides that it is replaced as a whole by the writer, so that no watcher ever holds it up.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::Vector;

use super::live::LiveCommit;
use crate::revision::Revision;

/// The most commits that are kept, and the most that they may weigh together.
const MOST: usize = 4_096;
const MOST_WEIGHT: usize = 8 << 20;

/// The most that is given out together: a watcher that does not read holds it.
const MOST_AT_ONCE: usize = 1 << 20;

/// Written by the writer alone.
#[derive(Debug, Default)]
pub(super) struct Ring(ArcSwap<Recent>);

/// Commits without a gap, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    commits: Vector<Arc<LiveCommit>>,
    weight: usize,
}

impl Ring {
    /// Adds what follows the newest, or forgets everything where nobody watches. Gives back what
    /// it was before, to be freed elsewhere.
    pub(super) fn push(&self, commits: Vec<Arc<LiveCommit>>, is_watched: bool) -> Arc<Recent> {
        let mut next = match is_watched {
            true => Recent::clone(&self.0.load()),
            false => Recent::default(),
        };
        for commit in commits.into_iter().filter(|_| is_watched) {
            next.push(commit);
        }
        self.0.swap(Arc::new(next))
    }

    /// At most `most` of the commits after `after`, in order; `None` where the first of them is
    /// not kept, or is not there.
    pub(super) fn after(&self, after: Revision, most: usize) -> Option<Vec<Arc<LiveCommit>>> {
        let recent = self.0.load();
        let first = recent.commits.front()?.position.revision;
        let skipped = after.next().0.checked_sub(first.0)?;
        let skipped = usize::try_from(skipped).ok()?;
        if skipped >= recent.commits.len() {
            return None;
        }
        let mut weight = 0;
        let wanted = recent.commits.iter().skip(skipped).take(most);
        // The first goes out whatever it weighs.
        let light = wanted.take_while(|commit| {
            let before = weight;
            weight += commit.weight();
            before == 0 || weight <= MOST_AT_ONCE
        });
        Some(light.cloned().collect())
    }
}

impl Recent {
    fn push(&mut self, commit: Arc<LiveCommit>) {
        self.weight += commit.weight();
        self.commits.push_back(commit);
        while self.commits.len() > MOST || (self.weight > MOST_WEIGHT && self.commits.len() > 1) {
            if let Some(old) = self.commits.pop_front() {
                self.weight -= old.weight();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::state::Commit;
    use crate::store::Position;
    use crate::time::Timestamp;

    fn commit(number: u64, reason: &str) -> Arc<LiveCommit> {
        let revision = Revision(number);
        let commit = Commit {
            revision,
            time: Timestamp::default(),
            actor: None,
            reason: reason.to_owned(),
            metadata: None,
            changes: Vec::new(),
            remembered: None,
        };
        let position = Position { revision, chain: 0 };
        Arc::new(LiveCommit::new(commit, position, false))
    }

    fn after(ring: &Ring, after: u64, most: usize) -> Option<Vec<u64>> {
        let commits = ring.after(Revision(after), most)?;
        Some(commits.iter().map(|c| c.position.revision.0).collect())
    }

    #[test]
    fn it_gives_what_follows_or_says_that_it_can_not() {
        let ring = Ring::default();
        assert_eq!(after(&ring, 0, 9), None);
        drop(ring.push(vec![commit(6, ""), commit(7, "")], true));
        drop(ring.push(vec![commit(8, "")], true));
        let cases = [
            (4, 9, None),
            (5, 9, Some(vec![6, 7, 8])),
            (5, 2, Some(vec![6, 7])),
            (7, 9, Some(vec![8])),
            (8, 9, None),
            (9, 9, None),
        ];
        for (behind, most, expected) in cases {
            assert_eq!(after(&ring, behind, most), expected, "{behind} {most}");
        }
        drop(ring.push(vec![commit(9, "")], false));
        assert_eq!(after(&ring, 7, 9), None);
        drop(ring.push(vec![commit(10, "")], true));
        assert_eq!(after(&ring, 8, 9), None);
        assert_eq!(after(&ring, 9, 9), Some(vec![10]));
    }

    #[test]
    fn it_is_bounded_by_number_and_by_weight() {
        let ring = Ring::default();
        for number in 1..=10_000 {
            drop(ring.push(vec![commit(number, "")], true));
        }
        assert_eq!(after(&ring, 10_000 - 4_097, 1), None);
        assert_eq!(after(&ring, 10_000 - 4_096, 1), Some(vec![10_000 - 4_095]));
        let heavy = "x".repeat(5 << 20);
        for number in 10_001..10_004 {
            drop(ring.push(vec![commit(number, &heavy)], true));
        }
        assert_eq!(after(&ring, 10_001, 9), None);
        assert_eq!(after(&ring, 10_002, 9), Some(vec![10_003]));
    }
}
