//! The tuples of a proof: with these and no others the answer is the same.
//!
//! Hides that a proof also rests on what does not hold. Mostly that needs no tuple, since with fewer
//! tuples less holds; but what has a `-` or `.all()` in it can hold because tuples are missing, and
//! then those that stand against it belong to the proof.

use std::collections::HashSet;

use crate::schema::{Expr, MemberId, MemberKind, Schema};
use crate::tuple::Tuple;

use super::super::closure::Ground;
use super::super::machine::{Machine, TooMuchWork};
use super::super::value::Value;
use super::proof::{Goal, Part, Proof, Proofs, TupleKey, behind, links, value};

/// What is still to be shown.
enum Open<'a> {
    Holds(Proof<'a>),
    /// A denied part, and that it stays denied.
    Fails(Part<'a>),
    GoalFails(Goal),
}

/// The tuples that show it, being gathered.
struct Evidence<'p, 'm, 'a> {
    ground: Ground<'a>,
    machine: &'m mut Machine<'a>,
    proofs: &'p mut Proofs<'a>,
    open: Vec<Open<'a>>,
    shown: HashSet<(Goal, bool)>,
    keys: Vec<TupleKey>,
}

/// The tuples of the shortest proof of an allowed goal, each once.
pub(super) fn of_goal<'a>(
    ground: Ground<'a>,
    machine: &mut Machine<'a>,
    proofs: &mut Proofs<'a>,
    goal: Goal,
) -> Result<Vec<Tuple>, TooMuchWork> {
    let proof = proofs.of(ground, machine, goal)?;
    gather(ground, machine, proofs, Open::Holds(proof))
}

/// The tuples by which a part stays denied where most tuples are left out, each once.
pub(super) fn against<'a>(
    ground: Ground<'a>,
    machine: &mut Machine<'a>,
    proofs: &mut Proofs<'a>,
    part: Part<'a>,
) -> Result<Vec<Tuple>, TooMuchWork> {
    gather(ground, machine, proofs, Open::Fails(part))
}

fn gather<'a>(
    ground: Ground<'a>,
    machine: &mut Machine<'a>,
    proofs: &mut Proofs<'a>,
    first: Open<'a>,
) -> Result<Vec<Tuple>, TooMuchWork> {
    let mut evidence = Evidence {
        ground,
        machine,
        proofs,
        open: vec![first],
        shown: HashSet::new(),
        keys: Vec::new(),
    };
    while let Some(open) = evidence.open.pop() {
        match open {
            Open::Holds(proof) => evidence.holds(proof),
            Open::Fails(part) => evidence.fails(part)?,
            Open::GoalFails(goal) => evidence.goal_fails(goal)?,
        }
    }
    let mut keys = evidence.keys;
    keys.sort_unstable();
    keys.dedup();
    let stored = |(resource, relation, subject, set)| {
        (ground.index).stored(resource, relation, subject, set)
    };
    Ok(keys.into_iter().filter_map(stored).collect())
}

impl<'a> Evidence<'_, '_, 'a> {
    fn holds(&mut self, proof: Proof<'a>) {
        let place = match proof {
            Proof::Nothing | Proof::Never => return,
            Proof::Goal(place) => place,
            Proof::Tuple(key, place) => {
                self.keys.push(key);
                let Some(place) = place else { return };
                place
            }
            Proof::Any(parts) => {
                let best = (parts.into_iter()).min_by_key(|part| self.proofs.cost(part));
                self.open.extend(best.map(Open::Holds));
                return;
            }
            Proof::All(parts) => {
                self.open.extend(parts.into_iter().map(Open::Holds));
                return;
            }
            Proof::Without(left, right) => {
                self.open.push(Open::Holds(*left));
                self.open.push(Open::Fails(right));
                return;
            }
        };
        if let Some((goal, proof)) = self.proofs.at(place)
            && self.shown.insert((goal, true))
        {
            self.open.push(Open::Holds(proof.clone()));
        }
    }

    fn goal_fails(&mut self, goal: Goal) -> Result<(), TooMuchWork> {
        let schema = self.ground.schema;
        if !holds_by_absence(schema, goal.member) || !self.shown.insert((goal, false)) {
            return Ok(());
        }
        match &schema.member(goal.member).kind {
            MemberKind::Relation(_) => {
                let links = links(self.ground, self.machine, goal)?;
                let goals = links.into_iter().filter_map(|link| link.goal);
                self.open.extend(goals.map(Open::GoalFails));
            }
            MemberKind::Permission(expr) => self.open.push(Open::Fails(Part {
                goal,
                expr,
                odd: goal.odd,
            })),
        }
        Ok(())
    }

    fn fails(&mut self, Part { goal, expr, odd }: Part<'a>) -> Result<(), TooMuchWork> {
        let part = |expr| Part { goal, expr, odd };
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(member) => self.open.push(Open::GoalFails(Goal {
                member: *member,
                odd,
                ..goal
            })),
            Expr::Union(parts) => {
                self.open.extend(parts.iter().map(part).map(Open::Fails));
            }
            Expr::Intersection(parts) => {
                for part in parts.iter().map(part) {
                    if self.value(part)? == Value::Denied {
                        self.open.push(Open::Fails(part));
                        break;
                    }
                }
            }
            Expr::Exclusion(left, right) => {
                if self.value(part(left))? == Value::Denied {
                    self.open.push(Open::Fails(part(left)));
                    return Ok(());
                }
                let right = Part {
                    goal: goal.free(),
                    expr: right,
                    odd: !odd,
                };
                let proof = self.proofs.of_part(self.ground, self.machine, right)?;
                self.open.push(Open::Holds(proof));
            }
            Expr::Arrow { all: true, .. } => self.not_all(part(expr))?,
            Expr::Arrow { .. }
            | Expr::Backward { .. }
            | Expr::AnyRole(_)
            | Expr::SomeRole(_)
            | Expr::Role(..) => {
                let links = behind(self.ground, self.machine, goal, expr, odd)?;
                let goals = links.into_iter().filter_map(|link| link.goal);
                self.open.extend(goals.map(Open::GoalFails));
            }
        }
        Ok(())
    }

    /// One tuple behind which it does not hold keeps `.all()` from holding.
    fn not_all(&mut self, Part { goal, expr, odd }: Part<'a>) -> Result<(), TooMuchWork> {
        for link in behind(self.ground, self.machine, goal, expr, odd)? {
            let behind = match link.goal {
                Some(next) => next.value(self.machine)?,
                None => Value::Denied,
            };
            if self.machine.causes.and(link.value, behind) == Value::Denied {
                self.keys.push(link.key());
                if behind == Value::Denied {
                    self.open.extend(link.goal.map(Open::GoalFails));
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn value(&mut self, Part { goal, expr, odd }: Part<'a>) -> Result<Value, TooMuchWork> {
        value(self.ground, self.machine, goal, expr, odd)
    }
}

/// Whether something can hold there because tuples are missing.
fn holds_by_absence(schema: &Schema, member: MemberId) -> bool {
    let feeds = schema.programs().feeds(member);
    let all = (0_u32..).map(MemberId).zip(&schema.members);
    let mut fed = all.filter(|(id, _)| feeds.has(*id));
    fed.any(|(_, member)| match &member.kind {
        MemberKind::Relation(_) => false,
        MemberKind::Permission(expr) => has_absence(expr),
    })
}

fn has_absence(expr: &Expr) -> bool {
    match expr {
        Expr::Exclusion(..) | Expr::Arrow { all: true, .. } => true,
        Expr::Union(parts) | Expr::Intersection(parts) => parts.iter().any(has_absence),
        _ => false,
    }
}
