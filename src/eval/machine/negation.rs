//! What holds where the tuples close a cycle through a `-`: the well-founded values.
//!
//! The evaluation proper leaves undecided what reads its own negation, in whatever order it came
//! to it. Here two bounds close in on each other instead: the lower one reads every right side of
//! `-` from the upper, the upper one from the lower, so that no evaluation meets itself through a
//! `-`. What the bounds agree on holds in any order; where they stay apart, the tuples contradict
//! themselves. (Van Gelder, The Alternating Fixpoint of Logic Programs with Negation, 1989.)

use hashbrown::HashMap;

use crate::schema::program::Sign;

use super::super::value::Value;
use super::{Goal, Machine, TooMuchWork};

type Values = HashMap<Goal, Value>;

/// The values that the right sides of `-` are taken to have.
pub(super) struct Assumed {
    /// Of the other bound: for what stands under an odd number of `-`.
    other: Values,
    /// Of the same bound, a round ago: for what stands under an even number of them.
    own: Values,
    /// Whether the lower bound is computed.
    low: bool,
    /// The right sides that were read.
    read: Vec<Goal>,
}

impl Assumed {
    pub fn read(&mut self, goal: Goal, sign: Sign) -> Value {
        self.read.push(goal);
        let known = if sign.odd { &self.other } else { &self.own };
        known
            .get(&goal)
            .copied()
            .unwrap_or(match self.low == sign.odd {
                true => Value::Allowed,
                false => Value::Denied,
            })
    }
}

impl Machine<'_> {
    /// The well-founded value of a goal that was left undecided; `None` where it has none.
    pub(super) fn well_founded(&mut self, root: Goal) -> Result<Option<Value>, TooMuchWork> {
        let before = std::mem::take(&mut self.goals);
        let bounds = self.bounds(root);
        self.assumed = None;
        self.goals = before;
        let (low, high) = bounds?;
        Ok((level(low) == level(high)).then_some(low))
    }

    fn bounds(&mut self, root: Goal) -> Result<(Value, Value), TooMuchWork> {
        let (mut low, mut high) = (Values::new(), Values::new());
        loop {
            // What one bound has read first becomes known to both in the next round.
            let goals: Vec<Goal> = low
                .keys()
                .chain(high.keys())
                .chain([&root])
                .copied()
                .collect();
            let next_low = self.pass(goals.clone(), high.clone(), low.clone(), true)?;
            let next_high = self.pass(goals, next_low.clone(), high.clone(), false)?;
            if same(&next_low, &low) && same(&next_high, &high) {
                let of = |values: &Values| values.get(&root).copied().unwrap_or(Value::Denied);
                return Ok((of(&next_low), of(&next_high)));
            }
            (low, high) = (next_low, next_high);
        }
    }

    /// The values of goals and of all right sides of `-` that they lead to, under assumptions.
    fn pass(
        &mut self,
        mut open: Vec<Goal>,
        other: Values,
        own: Values,
        low: bool,
    ) -> Result<Values, TooMuchWork> {
        self.goals.clear();
        self.assumed = Some(Assumed {
            other,
            own,
            low,
            read: Vec::new(),
        });
        let mut values = Values::new();
        while let Some(goal) = open.pop() {
            if values.contains_key(&goal) {
                continue;
            }
            self.spend(1)?;
            values.insert(goal, self.solve(goal)?);
            if let Some(assumed) = &mut self.assumed {
                open.append(&mut assumed.read);
            }
        }
        Ok(values)
    }
}

fn level(value: Value) -> u8 {
    match value {
        Value::Denied => 0,
        Value::Undecided(_) => 1,
        Value::Allowed => 2,
    }
}

fn same(a: &Values, b: &Values) -> bool {
    let agrees =
        |(goal, value): (&Goal, &Value)| b.get(goal).map(|v| level(*v)) == Some(level(*value));
    a.len() == b.len() && a.iter().all(agrees)
}
