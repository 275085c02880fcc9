//! The values of goals in progress, and what each rests on.

use super::goals::number;
use super::{Frame, Machine, Rest, Value};

impl Machine<'_> {
    pub(super) fn push(&mut self, value: Value, begin: u32) {
        self.values.push((value, begin));
    }

    /// The last value of the frame at hand.
    pub(super) fn top(&self, frame: &Frame<'_>) -> Value {
        let own = self.values.get(frame.base as usize..);
        let last = own.and_then(<[_]>::last);
        last.map_or(Value::Denied, |(value, _)| *value)
    }

    pub(super) fn pop_two(&mut self) -> ((Value, u32), (Value, u32)) {
        let b = self.values.pop().unwrap_or((Value::Denied, 0));
        let a = self.values.pop().unwrap_or((Value::Denied, 0));
        (a, b)
    }
}

impl Frame<'_> {
    pub(super) fn begin(&self) -> u32 {
        number(self.rests_on.len())
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
