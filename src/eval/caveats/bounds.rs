//! Refuses to resolve a condition over values so large that it would take long.
//!
//! Hides an estimate, made before anything is resolved, since the `cel` crate can't be stopped once
//! it runs. It goes over the condition with the sizes of values in place of values and is an upper
//! bound: a list within a list counts with the longest there is.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use serde_json::Value;

use crate::schema::cel::{Leaf, MATCHES};

/// Sizes of lists multiplied along the nesting of comprehensions.
const MAX_NESTING: u64 = 100_000;
/// Steps, of which an operator on values of up to 64 elements or bytes is one.
const MAX_WORK: u64 = 1_000_000;
/// Elements or bytes that are compared, copied or searched in the time of a step.
const STEP: u64 = 64;
/// Steps to compile a pattern that is not written out in the condition.
const PATTERN: u64 = 1_000;

const LEVELS: usize = 5;

/// The length of the longest list, map, string or bytes at each level of a value; on the last one,
/// all that is there or below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size([u64; LEVELS]);

impl Size {
    fn of(value: &Value) -> Self {
        let mut size = Self::default();
        size.measure(value, 0);
        size
    }

    /// Recursion is as deep as the value, which is bounded by its conversion.
    fn measure(&mut self, value: &Value, level: usize) {
        match value {
            Value::String(text) => self.note(level, text.len()),
            Value::Array(values) => {
                self.note(level, values.len());
                for value in values {
                    self.measure(value, level + 1);
                }
            }
            Value::Object(values) => {
                self.note(level, values.len());
                for (key, value) in values {
                    self.note(level + 1, key.len());
                    self.measure(value, level + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn note(&mut self, level: usize, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if let Some(slot) = self.0.get_mut(level) {
            *slot = length.max(*slot);
        } else if let Some(last) = self.0.last_mut() {
            *last = last.saturating_add(length).saturating_add(1);
        }
    }

    fn length(self) -> u64 {
        self.0.first().copied().unwrap_or(0)
    }

    /// A list of `length` such values.
    fn within(self, length: u64) -> Self {
        let [first, second, third, fourth, last] = self.0;
        let last = fourth.max(1).saturating_mul(last.max(1));
        Self([length, first, second, third, last])
    }

    /// An element of such a list, or a value of such a map.
    fn element(self) -> Self {
        let [_, second, third, fourth, last] = self.0;
        Self([second, third, fourth, last, last])
    }

    fn or(self, other: Self) -> Self {
        let mut both = self;
        for (slot, other) in both.0.iter_mut().zip(other.0) {
            *slot = other.max(*slot);
        }
        both
    }

    fn and(self, other: Self) -> Self {
        let mut both = self.or(other);
        if let Some(first) = both.0.first_mut() {
            *first = self.length().saturating_add(other.length());
        }
        both
    }

    /// Steps to go through all of it.
    fn steps(self) -> u64 {
        let lengths = self.0.iter().map(|length| (*length).max(1));
        lengths.fold(1, u64::saturating_mul) / STEP
    }
}

/// What resolving takes.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    work: u64,
    nesting: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.work = self.work.saturating_add(other.work);
        self.nesting = self.nesting.max(other.nesting);
    }
}

/// The estimate of one resolution: leaves spend from the same budget.
pub(super) struct Estimate<'a> {
    /// Parameters, and the variables of comprehensions around, the innermost last.
    variables: Vec<(&'a str, Size)>,
    spent: u64,
    /// What of it may be refused: leaves that take no more than a step for each operator never are.
    looped: u64,
}

impl<'a> Estimate<'a> {
    /// Knows each parameter that is given by its name in the trees of leaves.
    pub(super) fn new(values: &'a [(String, &'a Value)]) -> Self {
        let mut estimate = Self {
            variables: Vec::with_capacity(values.len()),
            spent: 0,
            looped: 0,
        };
        for (name, value) in values {
            let size = Size::of(value);
            estimate.spent = estimate.spent.saturating_add(converting(value));
            estimate.variables.push((name, size));
        }
        estimate
    }

    /// What all that was admitted or refused can have taken.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// Refuses what is too much, in words for the author of the condition.
    pub(super) fn admit(&mut self, leaf: &'a Leaf) -> Result<(), String> {
        let mut cost = Cost::default();
        self.node(&leaf.expression, &mut cost);
        self.spent = self.spent.saturating_add(cost.work.min(MAX_WORK));
        if !leaf.loops {
            return Ok(());
        }
        self.looped = self.looped.saturating_add(cost.work);
        if cost.nesting > MAX_NESTING {
            return Err(format!(
                "the sizes of the lists that it goes through multiply to {}, of at most {MAX_NESTING}",
                cost.nesting
            ));
        }
        if self.looped > MAX_WORK {
            return Err(format!(
                "it would take up to {} steps, of at most {MAX_WORK}",
                self.looped
            ));
        }
        Ok(())
    }

    /// The size of the node's value; adds to `cost` what it takes to resolve it.
    fn node(&mut self, node: &'a IdedExpr, cost: &mut Cost) -> Size {
        cost.add(Cost {
            work: 1,
            nesting: 0,
        });
        match &node.expr {
            Expr::Literal(literal) => literal_size(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.node(&select.operand, cost).element(),
            Expr::Call(call) => self.call(call, cost),
            Expr::List(list) => self.copies(list.elements.iter(), cost),
            Expr::Map(map) => {
                let pairs = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(pair) => Some([&pair.key, &pair.value]),
                    EntryExpr::StructField(_) => None,
                });
                self.copies(pairs.flatten(), cost)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, cost),
            Expr::Struct(_) | Expr::Unspecified => Size::default(),
        }
    }

    fn variable(&self, name: &str) -> Size {
        let found = self
            .variables
            .iter()
            .rev()
            .find(|variable| variable.0 == name);
        found.map_or(Size::default(), |variable| variable.1)
    }

    /// A list or map of copies of `nodes`.
    fn copies(&mut self, nodes: impl Iterator<Item = &'a IdedExpr>, cost: &mut Cost) -> Size {
        let (mut largest, mut length) = (Size::default(), 0);
        for node in nodes {
            let size = self.node(node, cost);
            cost.add(Cost {
                work: size.steps(),
                nesting: 0,
            });
            largest = largest.or(size);
            length += 1;
        }
        largest.within(length)
    }

    fn call(&mut self, call: &'a CallExpr, cost: &mut Cost) -> Size {
        let (mut joined, mut first, mut steps) = (Size::default(), None, 0_u64);
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            let size = self.node(argument, cost);
            steps = steps.saturating_add(size.steps());
            first = first.or(Some(size));
            joined = if call.func_name == operators::ADD {
                joined.and(size)
            } else {
                joined.or(size)
            };
        }
        let steps = match call.func_name.as_str() {
            operators::INDEX | operators::CONDITIONAL => 0,
            MATCHES if !matches!(call.args.last().map(|a| &a.expr), Some(Expr::Literal(_))) => {
                steps.saturating_mul(16).saturating_add(PATTERN)
            }
            MATCHES => steps.saturating_mul(16),
            _ => steps,
        };
        cost.add(Cost {
            work: steps,
            nesting: 0,
        });
        match call.func_name.as_str() {
            operators::INDEX => first.unwrap_or_default().element(),
            _ => joined,
        }
    }

    fn comprehension(&mut self, found: &'a ComprehensionExpr, cost: &mut Cost) -> Size {
        let range = self.node(&found.iter_range, cost);
        let depth = self.variables.len();
        self.variables.push((&found.accu_var, Size::default()));
        self.variables.push((&found.iter_var, range.element()));
        let mut body = Cost {
            work: 1 + range.element().steps(),
            nesting: 1,
        };
        let step = self.node(&found.loop_step, &mut body);
        self.variables.truncate(depth);
        let times = |n: u64| n.saturating_mul(range.length());
        cost.add(Cost {
            work: times(body.work),
            nesting: times(body.nesting),
        });
        let mut result = step;
        if let Some(first) = result.0.first_mut() {
            *first = times(*first);
        }
        result
    }
}

/// Steps to convert a value. Recursion is as deep as the value, which has been converted.
fn converting(value: &Value) -> u64 {
    let copied = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX) / STEP;
    match value {
        Value::String(text) => 1 + copied(text),
        Value::Array(values) => 1 + values.iter().map(converting).sum::<u64>(),
        Value::Object(values) => {
            let pairs = values.iter();
            1 + pairs
                .map(|(key, v)| copied(key) + converting(v))
                .sum::<u64>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

fn literal_size(literal: &LiteralValue) -> Size {
    let mut size = Size::default();
    match literal {
        LiteralValue::String(text) => size.note(0, text.inner().len()),
        LiteralValue::Bytes(bytes) => size.note(0, bytes.inner().len()),
        _ => {}
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_longest_at_each_level() {
        let size = |json: &str| Size::of(&serde_json::from_str(json).unwrap_or_default()).0;
        assert_eq!(size("1"), [0; 5]);
        assert_eq!(size(r#""abc""#), [3, 0, 0, 0, 0]);
        assert_eq!(size(r#"[[1, 2], ["abc"]]"#), [2, 2, 3, 0, 0]);
        assert_eq!(size(r#"{"key": [1, 2]}"#), [1, 3, 0, 0, 0]);
        assert_eq!(size("[[[[[[1, 2, 3], [1]]]]]]"), [1, 1, 1, 1, 8]);
    }
}
