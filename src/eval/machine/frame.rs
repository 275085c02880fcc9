//! The values of a goal in progress, and what each rests on.

use super::{Frame, Rest, Value};

impl Frame<'_> {
    pub(super) fn begin(&self) -> u32 {
        u32::try_from(self.rests_on.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn push(&mut self, value: Value, begin: u32) {
        self.values.push((value, begin));
    }

    pub(super) fn top(&self) -> Value {
        self.values
            .last()
            .map_or(Value::Denied, |(value, _)| *value)
    }

    pub(super) fn pop_two(&mut self) -> ((Value, u32), (Value, u32)) {
        let b = self.values.pop().unwrap_or((Value::Denied, 0));
        let a = self.values.pop().unwrap_or((Value::Denied, 0));
        (a, b)
    }

    pub(super) fn rest(&mut self, track: bool, rest: Rest) {
        if track {
            self.rests_on.push(rest);
        }
    }

    pub(super) fn key(&mut self, key: Option<u64>) {
        self.rests_on.extend(key.map(Rest::Key));
    }
}
