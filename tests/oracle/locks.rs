//! Locks, as naively as can be done: which are held, what lets a subject pass, which are in the way.

use std::collections::BTreeSet;

use super::model::{Body, Expr, Level, Name, Object, Subject, Value};
use super::{Asker, Solution, place};

/// What a part comes to when free of locks, and the nodes by which locks take it away.
type Part = (Value, Vec<(Object, Name)>);

impl Asker<'_> {
    /// The locks that block a name of an object, and whether each lets the subject pass.
    pub(super) fn passes(&self, x: Object, name: Name, free: &[Value]) -> Vec<(usize, Value)> {
        let mut passes = Vec::new();
        for mode in self.world.blocking(x.kind, name) {
            let locks = self.world.locks.iter().enumerate();
            let held = locks.filter_map(|(id, lock)| Some((id, lock.as_ref()?)));
            let mut held = held.filter(|(_, lock)| {
                lock.mode == mode.name && lock.expires_at.is_none_or(|end| end > self.now)
            });
            let Some(first) = held.next() else { continue };
            let places = self.inherits_from(x, mode.name);
            for (id, lock) in [first].into_iter().chain(held) {
                if !places.contains(&lock.resource) {
                    continue;
                }
                let read = |object, name| free[place(self.world, (object, name, false))];
                let except = mode.except.map_or(Value::DENIED, |name| read(x, name));
                let exempt = lock
                    .exempt
                    .iter()
                    .map(|exempt| match (*exempt, self.subject) {
                        (exempt, subject) if exempt == subject => Value::ALLOWED,
                        (Subject::Wildcard(kind), Subject::Object(one)) if kind == one.kind => {
                            Value::ALLOWED
                        }
                        (Subject::Set(object, name), _) => read(object, name),
                        _ => Value::DENIED,
                    });
                passes.push((id, exempt.fold(except, Value::or)));
            }
        }
        passes
    }

    /// The object and all that the mode's `inherits` lead to.
    pub(super) fn inherits_from(&self, x: Object, mode: &str) -> Vec<Object> {
        self.climb(x, |kind| {
            let modes = self.world.types[kind].modes.iter();
            let modes = modes.filter(|one| one.name == mode);
            modes.flat_map(|mode| mode.inherits.clone()).collect()
        })
    }
}

impl Solution<'_> {
    /// Whether a denial would be none without locks, and then the locks in the way: those that
    /// deny at the root or at a node by which it would be had.
    pub fn locks_in_the_way(&self, object: Object, name: Name) -> BTreeSet<usize> {
        let mut locks = BTreeSet::new();
        let mut open = self.node(object, name).1;
        let mut seen = BTreeSet::new();
        while let Some((object, name)) = open.pop() {
            if !seen.insert((object, name)) {
                continue;
            }
            for (id, pass) in self.asker.passes(object, name, &self.free[0]) {
                if pass.level == Level::Denied {
                    locks.insert(id);
                }
            }
            open.extend(match self.world.body(object.kind, name) {
                Some(Body::Permission(expr)) => self.part(expr, object).1,
                Some(Body::Relation(_)) => self.sets(object, name),
                None => Vec::new(),
            });
        }
        locks
    }

    fn node(&self, object: Object, name: Name) -> Part {
        let at = place(self.world, (object, name, false));
        let free = self.free[0][at];
        let taken = free.level > Level::Denied && self.low[at].level == Level::Denied;
        (
            free,
            if taken {
                vec![(object, name)]
            } else {
                Vec::new()
            },
        )
    }

    fn sets(&self, object: Object, name: Name) -> Vec<(Object, Name)> {
        let tuples = self.asker.tuples(object, name).into_iter();
        let standing = tuples.filter(|(_, condition)| condition.level > Level::Denied);
        let sets = standing.filter_map(|(subject, _)| match subject {
            Subject::Set(set, name) => Some(self.node(set, name).1),
            _ => None,
        });
        sets.flatten().collect()
    }

    fn part(&self, expr: &Expr, x: Object) -> Part {
        let read = |hidden| self.free[0][place(self.world, (x, hidden, true))];
        let behind = |(condition, (value, nodes)): (Value, Part)| {
            let value = condition.and(value);
            (
                value,
                if value.level > Level::Denied {
                    nodes
                } else {
                    Vec::new()
                },
            )
        };
        match expr {
            Expr::Nil | Expr::Itself => {
                let empty = vec![Value::DENIED; self.low.len()];
                let value = self.asker.expr(expr, x, false, &empty, &empty);
                (value, Vec::new())
            }
            Expr::Member(name) => self.node(x, *name),
            Expr::Roles { block, which } => {
                let holders = self.asker.holders(x, *block, *which).into_iter();
                let parts = holders.map(|(subject, condition)| {
                    let part = match subject {
                        Subject::Set(set, name) if self.asker.subject != subject => {
                            self.node(set, name)
                        }
                        _ => (self.asker.is(subject, false, &self.free[0]), Vec::new()),
                    };
                    behind((condition, part))
                });
                let parts = parts.reduce(either);
                parts.unwrap_or((Value::DENIED, Vec::new()))
            }
            Expr::Union(a, b) => either(self.part(a, x), self.part(b, x)),
            Expr::Intersection(a, b) => both(self.part(a, x), self.part(b, x)),
            Expr::Exclusion(a, _, hidden) => {
                both(self.part(a, x), (read(*hidden).not(), Vec::new()))
            }
            Expr::Arrow { via, target, all } => {
                let tuples = self.asker.tuples(x, *via).into_iter();
                let parts = tuples.filter_map(|(subject, condition)| {
                    Some(behind((condition, self.node(subject.object()?, *target))))
                });
                let parts = parts.reduce(if *all { both } else { either });
                parts.unwrap_or((Value::DENIED, Vec::new()))
            }
            Expr::Backward { kind, via, target } => {
                let from = (0..self.world.ids.len()).map(|id| Object { kind: *kind, id });
                let parts = from.flat_map(|from| {
                    let tuples = self.asker.tuples(from, *via).into_iter();
                    let here = tuples.filter(|(subject, _)| subject.object() == Some(x));
                    here.map(move |(_, condition)| (condition, self.node(from, *target)))
                });
                let parts = parts.map(behind).reduce(either);
                parts.unwrap_or((Value::DENIED, Vec::new()))
            }
        }
    }
}

fn either(a: Part, b: Part) -> Part {
    (a.0.or(b.0), [a.1, b.1].concat())
}

fn both(a: Part, b: Part) -> Part {
    let value = a.0.and(b.0);
    let nodes = if value.level > Level::Denied {
        [a.1, b.1].concat()
    } else {
        Vec::new()
    };
    (value, nodes)
}
