//! The locks that are held: found by id, by the resource that they sit on, and by their end.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap, OrdSet};
use smallvec::SmallVec;

use crate::time::Timestamp;
use crate::tuple::{Object, ObjectRef, Subject};

/// A restriction on a resource, for as long as it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Names it for good: the caller's own id, or one that the server made.
    pub id: Arc<str>,
    /// Where it sits.
    pub resource: Object,
    /// A `lock` of the resource's type.
    pub mode: Arc<str>,
    /// Subjects whom it does not touch, beside the mode's `except`; sorted, each once.
    pub exempt: Vec<Subject>,
    /// Who placed it; `None` for a trusted caller that named nobody.
    pub actor: Option<Subject>,
    /// Why, in the words of who placed it.
    pub reason: Arc<str>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// From this instant on it is no longer held.
    pub expires_at: Option<Timestamp>,
    /// Grows with every lock that is placed.
    pub fencing_token: u64,
}

impl HeldLock {
    /// Whether it is still held at `now`, as far as time goes.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// The locks of one resource, by their ids.
type Stack = OrdMap<Arc<str>, Arc<HeldLock>>;

/// All locks, those whose time is over included. A clone shares what does not change.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    by_id: OrdMap<Arc<str>, Arc<HeldLock>>,
    /// By the hash of the resource, which whoever asks has at hand.
    by_resource: GenericHashMap<u64, Stack, BuildHasherDefault<AsItIs>, DefaultSharedPtr>,
    /// Those of which there are any, by their names: most questions need no more than this.
    modes: Arc<Vec<Mode>>,
    ends: OrdSet<(Timestamp, Arc<str>)>,
}

/// How many locks of one mode sit on resources of each type.
#[derive(Clone, Debug)]
struct Mode {
    name: Arc<str>,
    kinds: SmallVec<[(Arc<str>, usize); 2]>,
}

/// Keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Locks {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a lock of this mode is held anywhere.
    pub fn has_mode(&self, mode: &str) -> bool {
        self.mode(mode).is_some()
    }

    /// Whether a lock of this mode sits on a resource of this type.
    pub fn has_mode_on(&self, mode: &str, kind: &str) -> bool {
        let mut kinds = self.mode(mode).into_iter().flat_map(|mode| &mode.kinds);
        kinds.any(|(known, _)| **known == *kind)
    }

    fn mode(&self, name: &str) -> Option<&Mode> {
        let place = self.modes.binary_search_by(|mode| (*mode.name).cmp(name));
        self.modes.get(place.ok()?)
    }

    /// The lock of this id, its time over or not.
    pub fn get(&self, id: &str) -> Option<&Arc<HeldLock>> {
        self.by_id.get(id)
    }

    /// All, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HeldLock>> {
        self.by_id.values()
    }

    /// Those that sit on a resource, by their ids. `hash` is that of the resource under the
    /// store's seed: see [`crate::index::object_hash`].
    pub fn on<'a>(
        &'a self,
        hash: u64,
        resource: ObjectRef<'a>,
    ) -> impl Iterator<Item = &'a Arc<HeldLock>> + 'a {
        let stack = self.by_resource.get(&hash);
        let locks = stack.into_iter().flat_map(OrdMap::values);
        locks.filter(move |lock| lock.resource.as_ref() == resource)
    }

    /// Those whose end is at or before `now`, the earliest first, at most `limit`.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<Arc<HeldLock>> {
        let due = self.ends.iter().take_while(|(end, _)| *end <= now);
        due.take(limit)
            .filter_map(|(_, id)| self.by_id.get(id).cloned())
            .collect()
    }

    /// The earliest end of any.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.get_min().map(|(end, _)| *end)
    }

    /// The same with `lock`, in the place of one of that id.
    #[must_use]
    pub(super) fn with(&self, hash: impl Fn(&Object) -> u64, lock: &Arc<HeldLock>) -> Self {
        let mut locks = self.without(&hash, &lock.id);
        let stack = locks.by_resource.entry(hash(&lock.resource)).or_default();
        stack.insert(Arc::clone(&lock.id), Arc::clone(lock));
        locks.count(lock);
        if let Some(end) = lock.expires_at {
            locks.ends.insert((end, Arc::clone(&lock.id)));
        }
        locks.by_id.insert(Arc::clone(&lock.id), Arc::clone(lock));
        locks
    }

    /// The same without the lock of this id.
    #[must_use]
    pub(crate) fn without(&self, hash: impl Fn(&Object) -> u64, id: &Arc<str>) -> Self {
        let mut locks = self.clone();
        let Some(lock) = locks.by_id.remove(id) else {
            return locks;
        };
        let place = hash(&lock.resource);
        if let Some(stack) = locks.by_resource.get_mut(&place) {
            stack.remove(id);
            if stack.is_empty() {
                locks.by_resource.remove(&place);
            }
        }
        locks.uncount(&lock);
        if let Some(end) = lock.expires_at {
            locks.ends.remove(&(end, Arc::clone(id)));
        }
        locks
    }

    fn count(&mut self, lock: &HeldLock) {
        let modes = Arc::make_mut(&mut self.modes);
        let place = modes.partition_point(|mode| mode.name < lock.mode);
        if modes.get(place).is_none_or(|mode| mode.name != lock.mode) {
            let kinds = SmallVec::new();
            let name = Arc::clone(&lock.mode);
            modes.insert(place, Mode { name, kinds });
        }
        let Some(mode) = modes.get_mut(place) else {
            return;
        };
        let kind = lock.resource.kind();
        match mode.kinds.iter_mut().find(|(known, _)| **known == *kind) {
            Some((_, count)) => *count += 1,
            None => mode.kinds.push((kind.into(), 1)),
        }
    }

    fn uncount(&mut self, lock: &HeldLock) {
        let modes = Arc::make_mut(&mut self.modes);
        let kind = lock.resource.kind();
        for mode in modes.iter_mut().filter(|mode| mode.name == lock.mode) {
            for (_, count) in mode.kinds.iter_mut().filter(|(known, _)| **known == *kind) {
                *count -= 1;
            }
            mode.kinds.retain(|(_, count)| *count > 0);
        }
        modes.retain(|mode| !mode.kinds.is_empty());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lock(id: &str, resource: &str, mode: &str, end: Option<i64>) -> Arc<HeldLock> {
        Arc::new(HeldLock {
            id: id.into(),
            resource: resource.parse().unwrap(),
            mode: mode.into(),
            exempt: Vec::new(),
            actor: None,
            reason: "r".into(),
            created_at: Timestamp::default(),
            expires_at: end.map(at),
            fencing_token: 1,
        })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 0).unwrap()
    }

    fn ids<'a>(locks: impl IntoIterator<Item = &'a Arc<HeldLock>>) -> Vec<&'a str> {
        locks.into_iter().map(|lock| &*lock.id).collect()
    }

    #[test]
    fn locks_stack_end_and_are_replaced() {
        // All resources share a hash here: the names decide.
        let hash = |_: &Object| 7;
        let locks = [
            lock("b", "doc:a", "freeze", None),
            lock("a", "doc:a", "hold", Some(5)),
            lock("c", "doc:b", "freeze", Some(3)),
        ];
        let all = (locks.iter()).fold(Locks::default(), |all, lock| all.with(hash, lock));
        let doc = |text| ObjectRef::parse(text).unwrap();
        assert_eq!(ids(all.on(7, doc("doc:a"))), ["a", "b"]);
        assert_eq!(ids(all.on(7, doc("doc:b"))), ["c"]);
        assert_eq!(ids(all.on(8, doc("doc:b"))), [""; 0]);
        assert_eq!(ids(&all.due(at(4), 9)), ["c"]);
        assert_eq!(ids(&all.due(at(5), 9)), ["c", "a"]);
        assert_eq!(ids(&all.due(at(5), 1)), ["c"]);
        assert_eq!(all.next_end(), Some(at(3)));

        let renewed = all.with(hash, &lock("c", "doc:b", "freeze", Some(9)));
        assert_eq!((renewed.len(), renewed.next_end()), (3, Some(at(5))));
        let left = renewed
            .without(hash, &"a".into())
            .without(hash, &"b".into());
        assert!(left.has_mode("freeze") && !left.has_mode("hold"));
        assert!(left.has_mode_on("freeze", "doc") && !left.has_mode_on("freeze", "do"));
        let none = left.without(hash, &"c".into()).without(hash, &"c".into());
        assert!(none.is_empty() && !none.has_mode("freeze") && none.next_end().is_none());
        assert!(none.by_resource.is_empty(), "nothing is left behind");
        assert_eq!(all.len(), 3, "older states are not touched");
    }
}
