//! Whether the tuples close a cycle through a `-` at all, decided or not: beside one, an evaluator
//! may call an undecided caveat conditional or name the cycle.

use super::model::{Body, Expr, Level, Object, Subject};
use super::{Asker, Node, place};

impl Asker<'_> {
    /// Whether any node depends on its own negation by tuples that may hold.
    pub(super) fn closes_a_negation(&self, nodes: &[Node]) -> bool {
        let mut reads = vec![
            Vec::new();
            nodes
                .iter()
                .map(|node| self.at(*node) + 1)
                .max()
                .unwrap_or(0)
        ];
        let mut negations = Vec::new();
        for node in nodes {
            let (object, name, odd) = *node;
            let from = self.at(*node);
            match self.world.body(object.kind, name) {
                Some(Body::Relation(_)) => {
                    for (subject, condition) in self.tuples(object, name) {
                        if let (Subject::Set(set, name), true) =
                            (subject, condition.level > Level::Denied)
                        {
                            reads[from].push(self.at((set, name, odd)));
                        }
                    }
                }
                Some(Body::Permission(expr)) => {
                    self.reads(expr, object, odd, &mut reads[from]);
                    self.negates(expr, (object, odd), from, &mut reads, &mut negations);
                }
                None => {}
            }
        }
        negations
            .iter()
            .any(|(from, to)| reaches(&reads, *to, *from))
    }

    fn at(&self, node: Node) -> usize {
        place(self.world, node)
    }

    fn negates(
        &self,
        expr: &Expr,
        (x, odd): (Object, bool),
        from: usize,
        reads: &mut [Vec<usize>],
        negations: &mut Vec<(usize, usize)>,
    ) {
        match expr {
            Expr::Union(a, b) | Expr::Intersection(a, b) => {
                self.negates(a, (x, odd), from, reads, negations);
                self.negates(b, (x, odd), from, reads, negations);
            }
            Expr::Exclusion(a, _, hidden) => {
                self.negates(a, (x, odd), from, reads, negations);
                let to = self.at((x, *hidden, !odd));
                reads[from].push(to);
                negations.push((from, to));
            }
            _ => {}
        }
    }

    /// What is read but for the right sides of `-`.
    fn reads(&self, expr: &Expr, x: Object, odd: bool, found: &mut Vec<usize>) {
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(name) => found.push(self.at((x, *name, odd))),
            Expr::Roles { block, which } => {
                for (subject, condition) in self.holders(x, *block, *which) {
                    if let (Subject::Set(set, name), true) =
                        (subject, condition.level > Level::Denied)
                    {
                        found.push(self.at((set, name, odd)));
                    }
                }
            }
            Expr::Union(a, b) | Expr::Intersection(a, b) => {
                self.reads(a, x, odd, found);
                self.reads(b, x, odd, found);
            }
            Expr::Exclusion(a, _, _) => self.reads(a, x, odd, found),
            Expr::Arrow { via, target, .. } => {
                for (subject, condition) in self.tuples(x, *via) {
                    let object = subject.object().filter(|_| condition.level > Level::Denied);
                    found.extend(object.map(|object| self.at((object, *target, odd))));
                }
            }
            Expr::Backward { kind, via, target } => {
                for id in 0..self.world.ids.len() {
                    let from = Object { kind: *kind, id };
                    for (subject, condition) in self.tuples(from, *via) {
                        if subject.object() == Some(x) && condition.level > Level::Denied {
                            found.push(self.at((from, *target, odd)));
                        }
                    }
                }
            }
        }
    }
}

/// For a subject that is no wildcard both signs of a node are the same, and neither leaves the
/// copy that it is in but by `-`; so the cycle is looked for over both.
fn reaches(reads: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; reads.len()];
    let mut open = vec![from / 2];
    while let Some(at) = open.pop() {
        if at == to / 2 {
            return true;
        }
        for sign in [2 * at, 2 * at + 1] {
            if seen.get(sign).is_some_and(|seen| !seen) {
                seen[sign] = true;
                open.extend(reads[sign].iter().map(|next| next / 2));
            }
        }
    }
    false
}
