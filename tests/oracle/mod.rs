//! The oracle: what every question's answer must be, computed as naively as can be done.
//!
//! It knows a small [`model`] of its own, reads nothing of the evaluator, the compiler or the
//! caveats, and is never optimised: for one subject it computes *all* values, round after round,
//! until none changes. `world` makes random models, `reader` reads the conformance data.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, of which each test uses a part; a wrong index shall end it"
)]

mod cycles;
mod locks;
pub mod model;
pub mod reader;
pub mod roles;
mod staff;
pub mod world;

use model::{Body, Expr, Given, Kind, Level, Name, Object, Subject, Value, World};

/// All that an answer depends on but for what is asked about.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    /// The tuples that count, contextual ones included.
    pub world: &'a World,
    /// Who asks.
    pub subject: Subject,
    /// The parameters that the request gives.
    pub request: &'a Given,
    /// Seconds since 1970.
    pub now: i64,
}

/// Whether a name of an object holds. `odd`: asked on the right of an odd number of `-`.
type Node = (Object, Name, bool);

/// The values of all nodes between two bounds; they differ where a negation depends on itself.
pub struct Solution<'a> {
    world: &'a World,
    asker: Asker<'a>,
    low: Vec<Value>,
    high: Vec<Value>,
    /// The same with no lock applied: what stands right of `-`, `except` and `exempt` read these.
    free: [Vec<Value>; 2],
    /// Whether any two bounds differ.
    pub negation_cycle: bool,
    /// Whether some tuple's caveat is undecided, and the tuples close a cycle through a `-`.
    mixed: bool,
}

impl Solution<'_> {
    /// The bounds of what is asked. Missing parameters are exact where there is no cycle.
    pub fn of(&self, object: Object, name: Name) -> (Value, Value) {
        let at = place(self.world, (object, name, false));
        (self.low[at], self.high[at])
    }
}

fn place(world: &World, (object, name, odd): Node) -> usize {
    let object = object.kind * world.ids.len() + object.id;
    (object * world.names.len() + name) * 2 + usize::from(odd)
}

impl<'a> Asker<'a> {
    /// The well-founded values: lower and upper bounds closing in on one another, where each
    /// bound reads the right side of `-` from the other.
    pub fn solve(&self) -> Solution<'a> {
        let nodes = self.nodes();
        let size = self.world.types.len() * self.world.ids.len() * self.world.names.len() * 2;
        let mut low = self.least(&nodes, &vec![Value::ALLOWED; size], None);
        let mut high = self.least(&nodes, &low, None);
        loop {
            let next = self.least(&nodes, &high, None);
            let done = same(&next, &low);
            (low, high) = (next.clone(), self.least(&nodes, &next, None));
            if done {
                break;
            }
        }
        let negation_cycle = !same(&low, &high);
        if !negation_cycle {
            self.fill_missing(&nodes, &mut low, None);
            high.clone_from(&low);
        }
        let free = [low.clone(), high.clone()];
        if self.world.locks.iter().any(Option::is_some) {
            // Locks read nothing but what is free of them, so that one round is enough.
            low = self.least(&nodes, &free[1], Some(&free[0]));
            if negation_cycle {
                high = self.least(&nodes, &free[0], Some(&free[1]));
            } else {
                self.fill_missing(&nodes, &mut low, Some(&free[0]));
                high.clone_from(&low);
            }
        }
        let mixed = nodes.iter().any(|(object, name, _)| {
            let tuples = self.tuples(*object, *name);
            tuples
                .iter()
                .any(|(_, condition)| condition.level == Level::Conditional)
        }) && self.closes_a_negation(&nodes);
        Solution {
            world: self.world,
            asker: self.clone(),
            low,
            high,
            free,
            negation_cycle,
            mixed,
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (kind, definition) in self.world.types.iter().enumerate() {
            for id in 0..self.world.ids.len() {
                for (name, _) in &definition.members {
                    nodes.push((Object { kind, id }, *name, false));
                    nodes.push((Object { kind, id }, *name, true));
                }
            }
        }
        nodes
    }

    /// The least fixpoint where the right sides of `-` are what `negated` says.
    fn least(&self, nodes: &[Node], negated: &[Value], free: Option<&[Value]>) -> Vec<Value> {
        let mut table = vec![Value::DENIED; negated.len()];
        loop {
            let mut rose = false;
            for node in nodes {
                let value = self.value(*node, &table, negated, free);
                let known = &mut table[place(self.world, *node)];
                rose |= value.level > known.level;
                *known = value;
            }
            if !rose {
                return table;
            }
        }
    }

    /// With all levels known: what the conditional ones lack, the least fixpoint again.
    fn fill_missing(&self, nodes: &[Node], table: &mut Vec<Value>, free: Option<&[Value]>) {
        for value in table.iter_mut() {
            value.missing = 0;
        }
        loop {
            let before = table.clone();
            for node in nodes {
                table[place(self.world, *node)] =
                    self.value(*node, table, free.unwrap_or(&before), free);
            }
            if *table == before {
                return;
            }
        }
    }

    /// `free`: the values that locks read; with none no lock is applied.
    fn value(
        &self,
        node: Node,
        table: &[Value],
        negated: &[Value],
        free: Option<&[Value]>,
    ) -> Value {
        let (object, name, odd) = node;
        if self.subject == Subject::Set(object, name) {
            return Value::ALLOWED; // a subject set is a member of itself
        }
        let body = match self.world.body(object.kind, name) {
            None => Value::DENIED,
            Some(Body::Relation(_)) => self.among(self.tuples(object, name), odd, table),
            Some(Body::Permission(expr)) => self.expr(expr, object, odd, table, negated),
        };
        // On the right of `-` no lock is applied.
        let free = free.filter(|_| !odd);
        let passes = free.map_or(Vec::new(), |free| self.passes(object, name, free));
        passes
            .into_iter()
            .fold(body, |value, (_, pass)| value.and(pass))
    }

    /// Whether the one who asks is among these subjects.
    fn among(&self, subjects: Vec<(Subject, Value)>, odd: bool, table: &[Value]) -> Value {
        let mut value = Value::DENIED;
        for (subject, condition) in subjects {
            value = value.or(condition.and(self.is(subject, odd, table)));
        }
        value
    }

    fn is(&self, subject: Subject, odd: bool, table: &[Value]) -> Value {
        match (subject, self.subject) {
            (tuple, asked) if tuple == asked => Value::ALLOWED,
            (Subject::Wildcard(kind), Subject::Object(asked)) if kind == asked.kind => {
                Value::ALLOWED
            }
            // On the right of `-`, "all" are stopped by any.
            (Subject::Object(one), Subject::Wildcard(kind)) if odd && kind == one.kind => {
                Value::ALLOWED
            }
            (Subject::Set(set, name), _) => table[place(self.world, (set, name, odd))],
            _ => Value::DENIED,
        }
    }

    fn expr(&self, expr: &Expr, x: Object, odd: bool, table: &[Value], negated: &[Value]) -> Value {
        let sub = |expr: &Expr| self.expr(expr, x, odd, table, negated);
        let read = |object, name| table[place(self.world, (object, name, odd))];
        match expr {
            Expr::Nil => Value::DENIED,
            Expr::Itself => match self.subject {
                Subject::Object(asked) if asked == x => Value::ALLOWED,
                Subject::Wildcard(kind) if odd && kind == x.kind => Value::ALLOWED,
                _ => Value::DENIED,
            },
            Expr::Member(name) => read(x, *name),
            Expr::Roles { block, which } => self.among(self.holders(x, *block, *which), odd, table),
            Expr::Union(a, b) => sub(a).or(sub(b)),
            Expr::Intersection(a, b) => sub(a).and(sub(b)),
            Expr::Exclusion(a, _, hidden) => {
                sub(a).and(negated[place(self.world, (x, *hidden, !odd))].not())
            }
            Expr::Arrow { via, target, all } => {
                // A type without the target has nobody there: `.all` over one of it is denied.
                let behind = self
                    .tuples(x, *via)
                    .into_iter()
                    .filter_map(|(subject, condition)| {
                        Some(condition.and(read(subject.object()?, *target)))
                    });
                match all {
                    true => behind.reduce(Value::and).unwrap_or(Value::DENIED),
                    false => behind.fold(Value::DENIED, Value::or),
                }
            }
            Expr::Backward { kind, via, target } => {
                let mut value = Value::DENIED;
                for id in 0..self.world.ids.len() {
                    let from = Object { kind: *kind, id };
                    for (subject, condition) in self.tuples(from, *via) {
                        if subject.object() == Some(x) {
                            value = value.or(condition.and(read(from, *target)));
                        }
                    }
                }
                value
            }
        }
    }

    /// The object and all that these relations of each type lead to, over any number of levels.
    fn climb(&self, x: Object, inherits: impl Fn(Kind) -> Vec<Name>) -> Vec<Object> {
        let mut places = vec![x];
        let mut at = 0;
        while let Some(object) = places.get(at).copied() {
            at += 1;
            for via in inherits(object.kind) {
                for (subject, _) in self.tuples(object, via) {
                    let above = subject.object().unwrap();
                    if !places.contains(&above) {
                        places.push(above);
                    }
                }
            }
        }
        places
    }

    /// The subjects of a relation that have not expired, each with the condition it holds under.
    fn tuples(&self, object: Object, name: Name) -> Vec<(Subject, Value)> {
        let mut found: Vec<(Subject, Value)> = Vec::new();
        for tuple in &self.world.tuples {
            if tuple.resource != object
                || tuple.relation != name
                || tuple.expires_at.is_some_and(|end| end <= self.now)
            {
                continue;
            }
            let condition = tuple
                .caveat
                .as_ref()
                .map_or(Value::ALLOWED, |(caveat, fixed)| {
                    let given = |name: &str| fixed.get(name).or(self.request.get(name)).copied();
                    (self.world.caveats[*caveat].resolve)(&given)
                });
            // A contextual tuple unites with the stored one of the same subject.
            match found
                .iter_mut()
                .find(|(subject, _)| *subject == tuple.subject)
            {
                Some((_, known)) => *known = known.or(condition),
                None => found.push((tuple.subject, condition)),
            }
        }
        found
    }
}

fn same(a: &[Value], b: &[Value]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.level == b.level)
}

/// What an evaluator may say to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Just this; the names that a conditional answer lacks are the bits of `model::PARAMETERS`.
    Exactly(Value),
    /// A failed caveat decides, and no parameter is missing.
    CaveatFailed,
    /// A negation depends on itself, and caveats have no say in it.
    NegationCycle,
    /// Caveats and a cycle mix: conditional, or the error of either, and never anything else.
    Undecided,
    /// The decision, with a cycle somewhere: what is missing may count that or not.
    Level(Level),
}

impl Solution<'_> {
    /// What an evaluator may say of `name` on `object`.
    pub fn verdict(&self, object: Object, name: Name) -> Verdict {
        let (low, high) = self.of(object, name);
        match (low.level, high.level) {
            (Level::Denied, Level::Allowed) if !self.mixed => Verdict::NegationCycle,
            (low, high) if low != high => Verdict::Undecided,
            (Level::Conditional, _) if self.mixed => Verdict::Undecided,
            (Level::Conditional, _) if low.missing == 0 => Verdict::CaveatFailed,
            (level, _) if self.negation_cycle => Verdict::Level(level),
            _ => Verdict::Exactly(low),
        }
    }
}
