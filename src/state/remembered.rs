//! The answers to writes under idempotency keys, for as long as a repeat gets them.

use std::sync::Arc;
use std::time::Duration;

use super::{HeldLock, RoleRecord};
use crate::revision::Revision;
use crate::time::Timestamp;

/// How long an answer is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The most answers that are kept for one caller.
pub const KEPT_A_CALLER: usize = 100_000;

/// What a repeat of a write is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The commit of the write.
    pub revision: Revision,
    /// When it was made.
    pub time: Timestamp,
    /// Of the request without its key and its wait.
    pub request_hash: u64,
    /// How many tuples it granted.
    pub granted: u64,
    /// How many tuples it revoked.
    pub revoked: u64,
    /// Whether nothing had to be changed.
    pub unchanged: bool,
    /// What a new schema changed.
    pub changes: Arc<[String]>,
    /// The lock that it placed, renewed or lifted.
    pub lock: Option<Arc<HeldLock>>,
    /// The role that it made or edited.
    pub role: Option<Arc<RoleRecord>>,
}

/// A caller, and a key of it.
type Id = (Arc<str>, Arc<str>);

/// All answers that are kept; a clone shares what does not change.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    by_id: imbl::HashMap<Id, Kept>,
    /// A commit has one key, so that its number orders them by age.
    by_age: imbl::OrdMap<Revision, Id>,
    counts: imbl::HashMap<Arc<str>, usize>,
}

impl Answers {
    /// The answer that was given under this key and is kept at `now`.
    pub fn find(&self, caller: &Arc<str>, key: &Arc<str>, now: Timestamp) -> Option<&Kept> {
        let id = (Arc::clone(caller), Arc::clone(key));
        self.by_id
            .get(&id)
            .filter(|kept| now < kept.time.plus(KEPT_FOR))
    }

    /// How many answers of this caller are kept; those that are over may still be counted.
    pub fn count(&self, caller: &str) -> usize {
        self.counts.get(caller).copied().unwrap_or(0)
    }

    /// When the oldest answer of this caller is over.
    pub fn oldest_end(&self, caller: &str) -> Option<Timestamp> {
        let mut ids = self.by_age.values();
        let oldest = ids.find(|(owner, _)| &**owner == caller)?;
        self.by_id.get(oldest).map(|kept| kept.time.plus(KEPT_FOR))
    }

    /// The same with one more, and without those that are over when it was made.
    #[must_use]
    pub fn with(&self, caller: &Arc<str>, key: &Arc<str>, kept: Kept) -> Self {
        let id = (Arc::clone(caller), Arc::clone(key));
        let mut answers = self.without_over(kept.time);
        // A key that is used again after its answer is over takes the old one's place.
        if let Some(old) = answers.by_id.get(&id).map(|old| old.revision) {
            answers.forget(old);
        }
        *answers.counts.entry(Arc::clone(caller)).or_insert(0) += 1;
        answers.by_age.insert(kept.revision, id.clone());
        answers.by_id.insert(id, kept);
        answers
    }

    /// The same without those that are over at `now`.
    #[must_use]
    pub fn without_over(&self, now: Timestamp) -> Self {
        let mut answers = self.clone();
        while let Some((revision, id)) = answers.by_age.get_min() {
            let over = answers
                .by_id
                .get(id)
                .is_none_or(|kept| kept.time.plus(KEPT_FOR) <= now);
            if !over {
                break;
            }
            let revision = *revision;
            answers.forget(revision);
        }
        answers
    }

    fn forget(&mut self, revision: Revision) {
        let Some(id) = self.by_age.remove(&revision) else {
            return;
        };
        self.by_id.remove(&id);
        let left = self.count(&id.0).saturating_sub(1);
        match left {
            0 => self.counts.remove(&id.0),
            _ => self.counts.insert(Arc::clone(&id.0), left),
        };
    }

    /// All, oldest first, each with its caller and key.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Kept)> {
        self.by_age
            .values()
            .filter_map(|id| self.by_id.get(id).map(|kept| (&id.0, &id.1, kept)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept(revision: u64, seconds: i64) -> Kept {
        Kept {
            revision: Revision(revision),
            time: Timestamp::new(seconds, 0).unwrap(),
            request_hash: revision,
            granted: 0,
            unchanged: false,
            revoked: 0,
            changes: Arc::new([]),
            lock: None,
            role: None,
        }
    }

    #[test]
    fn an_answer_is_kept_for_a_day_and_then_makes_room() {
        let (caller, a, b): (Arc<str>, Arc<str>, Arc<str>) = ("c".into(), "a".into(), "b".into());
        let day = 24 * 60 * 60;
        let at = |seconds| Timestamp::new(seconds, 0).unwrap();
        let one = Answers::default().with(&caller, &a, kept(1, 0));
        assert_eq!(one.find(&caller, &a, at(day - 1)), Some(&kept(1, 0)));
        assert_eq!(one.find(&caller, &a, at(day)), None);
        assert_eq!(one.find(&"other".into(), &a, at(0)), None);
        assert_eq!(one.oldest_end("c"), Some(at(day)));

        let two = one.with(&caller, &b, kept(2, 10));
        assert_eq!(two.count("c"), 2);
        let three = two.with(&caller, &a, kept(3, day + 5));
        assert_eq!(three.count("c"), 2, "the first was over");
        assert_eq!(
            three.find(&caller, &a, at(day + 6)),
            Some(&kept(3, day + 5))
        );
        assert_eq!(one.count("c"), 1, "older states are not touched");
        assert_eq!(three.without_over(at(3 * day)).count("c"), 0);
    }
}
