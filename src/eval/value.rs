//! The three values of an evaluation, with what an undecided one lacks.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

/// A decision in the making. `Undecided` carries the place of its [`Cause`] in [`Causes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Denied,
    Allowed,
    Undecided(u32),
}

/// Why a value is undecided.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Cause {
    /// Parameters that are missing, sorted.
    pub missing: SmallVec<[Arc<str>; 2]>,
    /// A caveat that failed: its name and why.
    pub failure: Option<(Arc<str>, Arc<str>)>,
    /// A goal whose negation it depends on, by its place in the table.
    pub cycle: Option<u32>,
}

/// All causes that one question has met, each once.
#[derive(Default)]
pub(super) struct Causes {
    all: Vec<Cause>,
    /// Failures may name values of tuples, so that there can be as many causes as tuples.
    places: HashMap<Cause, u32>,
}

impl Causes {
    /// The undecided value of this cause.
    pub fn undecided(&mut self, cause: Cause) -> Value {
        if let Some(place) = self.places.get(&cause) {
            return Value::Undecided(*place);
        }
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(cause.clone());
        self.places.insert(cause, place);
        Value::Undecided(place)
    }

    /// The cause of an undecided value.
    #[expect(
        clippy::indexing_slicing,
        reason = "`undecided` hands out places in this list only"
    )]
    pub fn get(&self, place: u32) -> &Cause {
        &self.all[place as usize]
    }

    /// Whether `value` depends on a negation of itself.
    pub fn cycles(&self, value: Value) -> bool {
        matches!(value, Value::Undecided(place) if self.get(place).cycle.is_some())
    }

    pub fn or(&mut self, a: Value, b: Value) -> Value {
        match (a, b) {
            (Value::Allowed, _) | (_, Value::Allowed) => Value::Allowed,
            (Value::Denied, other) | (other, Value::Denied) => other,
            (Value::Undecided(a), Value::Undecided(b)) => self.unite(a, b),
        }
    }

    pub fn and(&mut self, a: Value, b: Value) -> Value {
        match (a, b) {
            (Value::Denied, _) | (_, Value::Denied) => Value::Denied,
            (Value::Allowed, other) | (other, Value::Allowed) => other,
            (Value::Undecided(a), Value::Undecided(b)) => self.unite(a, b),
        }
    }

    pub fn minus(&mut self, a: Value, b: Value) -> Value {
        let without = match b {
            Value::Denied => Value::Allowed,
            Value::Allowed => Value::Denied,
            Value::Undecided(_) => b,
        };
        self.and(a, without)
    }

    fn unite(&mut self, a: u32, b: u32) -> Value {
        if a == b {
            return Value::Undecided(a);
        }
        let mut cause = self.get(a).clone();
        let other = self.get(b);
        for name in &other.missing {
            if let Err(at) = cause.missing.binary_search(name) {
                cause.missing.insert(at, name.clone());
            }
        }
        // The least of each, so that the result does not depend on the order of evaluation.
        cause.failure = least(cause.failure.take(), other.failure.clone());
        cause.cycle = least(cause.cycle, other.cycle);
        self.undecided(cause)
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn many_causes_are_told_apart_in_linear_time() {
        let mut causes = Causes::default();
        let begun = Instant::now();
        let undecided = |causes: &mut Causes, n: u32| {
            let failure = Some(("c".into(), n.to_string().into()));
            causes.undecided(Cause {
                failure,
                ..Cause::default()
            })
        };
        for n in 0..100_000 {
            assert_eq!(undecided(&mut causes, n), Value::Undecided(n));
        }
        assert_eq!(undecided(&mut causes, 7), Value::Undecided(7));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
