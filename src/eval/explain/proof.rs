//! The shortest proof of an allow: the fewest tuples, over all that the machine allows.
//!
//! Goals and what they can rest on form a graph of alternatives and conjunctions; sizes fall from
//! infinity until none falls further. (Knuth, A Generalization of Dijkstra's Algorithm, 1977, with
//! rounds instead of a queue.)

use hashbrown::HashMap;

use crate::index::{Edge, NodeId};
use crate::schema::program::which;
use crate::schema::{Expr, MemberId, MemberKind, RelId};
use crate::tuple::Tuple;

use super::super::closure::Ground;
use super::super::machine::{Machine, TooMuchWork};
use super::super::value::Value;

/// So many goals are looked at for a proof.
const GOALS: usize = 50_000;
/// No proof is known.
const NEVER: u64 = u64::MAX;
/// What a tuple adds to the size of a proof. A goal adds 1: by tuples alone a permission that names
/// itself would be as good a proof of itself as what it rests on.
const TUPLE: u64 = 1 << 20;

/// A relation or permission of an object; `odd` as for the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Goal {
    pub node: NodeId,
    pub member: MemberId,
    pub odd: bool,
    pub free: bool,
}

impl Goal {
    /// Its value.
    pub fn value(self, machine: &mut Machine<'_>) -> Result<Value, TooMuchWork> {
        machine.value_of_part((self.node, self.member), self.odd, self.free)
    }

    /// What stands on the right of a `-` here: no lock is applied there.
    pub fn free(self) -> Self {
        Self { free: true, ..self }
    }
}

/// A tuple that counts, and what it leads to.
#[derive(Clone, Copy)]
pub(super) struct Link {
    resource: NodeId,
    relation: RelId,
    subject: NodeId,
    set: RelId,
    /// What its caveat says.
    pub value: Value,
    /// What must hold behind it.
    pub goal: Option<Goal>,
}

impl Link {
    /// The tuple in words.
    pub fn tuple(&self, ground: Ground<'_>) -> Option<Tuple> {
        // The way to a role's assignments is no tuple.
        let Self {
            resource,
            relation,
            subject,
            set,
            ..
        } = *self;
        ground.index.stored(resource, relation, subject, set)
    }

    pub(super) fn key(&self) -> TupleKey {
        (self.resource, self.relation, self.subject, self.set)
    }
}

/// Resource, relation, subject and the subject's relation.
pub(super) type TupleKey = (NodeId, RelId, NodeId, RelId);

/// What an allow can rest on.
#[derive(Clone)]
pub(super) enum Proof<'a> {
    Nothing,
    Goal(usize),
    Tuple(TupleKey, Option<usize>),
    Any(Vec<Proof<'a>>),
    All(Vec<Proof<'a>>),
    /// What stands left of a `-`, while this does not hold.
    Without(Box<Proof<'a>>, Part<'a>),
    Never,
}

/// A part of a goal's expression.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub goal: Goal,
    pub expr: &'a Expr,
    pub odd: bool,
}

/// The proofs that were looked for.
#[derive(Default)]
pub(super) struct Proofs<'a> {
    places: HashMap<Goal, usize>,
    goals: Vec<(Goal, Proof<'a>, u64)>,
}

impl<'a> Proofs<'a> {
    /// The size of the shortest proof of an allowed part.
    pub fn cost_of(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        part: Part<'a>,
    ) -> Result<u64, TooMuchWork> {
        let proof = self.of_part(ground, machine, part)?;
        Ok(self.cost(&proof))
    }

    /// The link with the shortest proof behind it, of those that are allowed.
    pub fn best(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        links: &[Link],
    ) -> Result<Option<Link>, TooMuchWork> {
        let mut best: Option<(u64, Link)> = None;
        for link in links {
            if link.value != Value::Allowed {
                continue;
            }
            let cost = match link.goal {
                None => 0,
                Some(goal) => {
                    if goal.value(machine)? != Value::Allowed {
                        continue;
                    }
                    let first = self.goals.len();
                    let place = self.place(goal);
                    self.explore(ground, machine, first)?;
                    self.goals.get(place).map_or(NEVER, |(_, _, cost)| *cost)
                }
            };
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, *link));
            }
        }
        Ok(best.map(|(_, link)| link))
    }

    /// The shortest proof of an allowed part.
    pub fn of_part(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        Part { goal, expr, odd }: Part<'a>,
    ) -> Result<Proof<'a>, TooMuchWork> {
        let first = self.goals.len();
        let proof = self.of_expr(ground, machine, goal, expr, odd)?;
        self.explore(ground, machine, first)?;
        Ok(proof)
    }

    /// The proof of a goal as one to follow.
    pub fn of(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        goal: Goal,
    ) -> Result<Proof<'a>, TooMuchWork> {
        let first = self.goals.len();
        let place = self.place(goal);
        self.explore(ground, machine, first)?;
        Ok(Proof::Goal(place))
    }

    /// The goal of a place, and what it rests on.
    pub fn at(&self, place: usize) -> Option<(Goal, &Proof<'a>)> {
        let known = self.goals.get(place);
        known.map(|(goal, proof, _)| (*goal, proof))
    }

    fn place(&mut self, goal: Goal) -> usize {
        let fresh = self.goals.len();
        let place = *self.places.entry(goal).or_insert(fresh);
        if place == fresh {
            self.goals.push((goal, Proof::Never, NEVER));
        }
        place
    }

    /// Finds out what the goals from `first` on can rest on, and how much that is.
    fn explore(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        first: usize,
    ) -> Result<(), TooMuchWork> {
        let mut next = first;
        while next < self.goals.len().min(GOALS) {
            let Some((goal, ..)) = self.goals.get(next) else {
                break;
            };
            let goal = *goal;
            let proof = self.of_goal(ground, machine, goal)?;
            if let Some(known) = self.goals.get_mut(next) {
                known.1 = proof;
            }
            next += 1;
        }
        loop {
            let mut fell = false;
            // What was found last lies deepest.
            for place in (first..self.goals.len()).rev() {
                let Some((_, proof, before)) = self.goals.get(place) else {
                    continue;
                };
                let cost = self.cost(proof);
                if cost < *before {
                    fell = true;
                    if let Some(known) = self.goals.get_mut(place) {
                        known.2 = cost;
                    }
                }
            }
            if !fell {
                return Ok(());
            }
        }
    }

    pub(super) fn cost(&self, proof: &Proof<'a>) -> u64 {
        let goal = |place: &usize| self.goals.get(*place).map_or(NEVER, |(_, _, cost)| *cost);
        match proof {
            Proof::Nothing => 0,
            Proof::Never => NEVER,
            Proof::Without(left, _) => self.cost(left),
            Proof::Goal(place) => goal(place).saturating_add(1),
            Proof::Tuple(_, next) => next.as_ref().map_or(0, goal).saturating_add(TUPLE),
            Proof::Any(parts) => parts
                .iter()
                .map(|part| self.cost(part))
                .min()
                .unwrap_or(NEVER),
            Proof::All(parts) => {
                (parts.iter()).fold(0, |sum: u64, part| sum.saturating_add(self.cost(part)))
            }
        }
    }

    fn of_goal(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        goal: Goal,
    ) -> Result<Proof<'a>, TooMuchWork> {
        if machine.is_set(goal.node, goal.member) {
            return Ok(Proof::Nothing);
        }
        match &ground.schema.member(goal.member).kind {
            MemberKind::Permission(expr) => self.of_expr(ground, machine, goal, expr, goal.odd),
            MemberKind::Relation(_) => {
                let links = links(ground, machine, goal)?;
                self.of_links(machine, &links).map(Proof::Any)
            }
        }
    }

    fn of_links(
        &mut self,
        machine: &mut Machine<'_>,
        links: &[Link],
    ) -> Result<Vec<Proof<'a>>, TooMuchWork> {
        let mut parts = Vec::new();
        for link in links.iter().filter(|link| link.value == Value::Allowed) {
            let next = match link.goal {
                None => None,
                Some(goal) => match goal.value(machine)? {
                    Value::Allowed => Some(self.place(goal)),
                    _ => continue,
                },
            };
            parts.push(Proof::Tuple(link.key(), next));
        }
        Ok(parts)
    }

    fn of_expr(
        &mut self,
        ground: Ground<'a>,
        machine: &mut Machine<'a>,
        goal: Goal,
        expr: &'a Expr,
        odd: bool,
    ) -> Result<Proof<'a>, TooMuchWork> {
        if value(ground, machine, goal, expr, odd)? != Value::Allowed {
            return Ok(Proof::Never);
        }
        let mut parts_of = |parts: &'a [Expr]| {
            let proofs = parts.iter();
            let proofs = proofs.map(|part| self.of_expr(ground, machine, goal, part, odd));
            proofs.collect::<Result<Vec<_>, _>>()
        };
        Ok(match expr {
            Expr::Member(member) => Proof::Goal(self.place(Goal {
                member: *member,
                odd,
                ..goal
            })),
            Expr::Union(parts) => Proof::Any(parts_of(parts)?),
            Expr::Intersection(parts) => Proof::All(parts_of(parts)?),
            Expr::Exclusion(left, right) => {
                let left = self.of_expr(ground, machine, goal, left, odd)?;
                let without = Part {
                    goal: goal.free(),
                    expr: right,
                    odd: !odd,
                };
                Proof::Without(Box::new(left), without)
            }
            Expr::Arrow { all, .. } => {
                let links = behind(ground, machine, goal, expr, odd)?;
                match (all, self.of_links(machine, &links)?) {
                    (true, parts) => Proof::All(parts),
                    (false, parts) => Proof::Any(parts),
                }
            }
            Expr::Backward { .. } | Expr::AnyRole(_) | Expr::SomeRole(_) | Expr::Role(..) => {
                let links = behind(ground, machine, goal, expr, odd)?;
                Proof::Any(self.of_links(machine, &links)?)
            }
            Expr::Itself | Expr::Nil => Proof::Nothing,
        })
    }
}

/// The value of a part of a permission, made of what the machine says of its goals.
pub(super) fn value<'a>(
    ground: Ground<'a>,
    machine: &mut Machine<'a>,
    goal: Goal,
    expr: &Expr,
    odd: bool,
) -> Result<Value, TooMuchWork> {
    match expr {
        Expr::Nil => Ok(Value::Denied),
        Expr::Itself => Ok(machine.is_subject(goal.node, goal.member, odd)),
        Expr::Member(member) => Goal {
            member: *member,
            odd,
            ..goal
        }
        .value(machine),
        Expr::Union(parts) => {
            let mut whole = Value::Denied;
            for part in parts {
                let part = value(ground, machine, goal, part, odd)?;
                whole = machine.causes.or(whole, part);
            }
            Ok(whole)
        }
        Expr::Intersection(parts) => {
            let mut whole = Value::Allowed;
            for part in parts {
                let part = value(ground, machine, goal, part, odd)?;
                whole = machine.causes.and(whole, part);
            }
            Ok(whole)
        }
        Expr::Exclusion(left, right) => {
            let left = value(ground, machine, goal, left, odd)?;
            let right = value(ground, machine, goal.free(), right, !odd)?;
            Ok(machine.causes.minus(left, right))
        }
        Expr::Arrow { all, .. } => {
            let links = behind(ground, machine, goal, expr, odd)?;
            let mut whole = None;
            for link in links {
                let target = match link.goal {
                    Some(goal) => goal.value(machine)?,
                    None => Value::Denied,
                };
                let part = machine.causes.and(link.value, target);
                whole = Some(match (whole, all) {
                    (None, _) => part,
                    (Some(whole), true) => machine.causes.and(whole, part),
                    (Some(whole), false) => machine.causes.or(whole, part),
                });
            }
            Ok(whole.unwrap_or(Value::Denied))
        }
        Expr::Backward { .. } | Expr::AnyRole(_) | Expr::SomeRole(_) | Expr::Role(..) => {
            let links = behind(ground, machine, goal, expr, odd)?;
            let mut whole = Value::Denied;
            for link in links {
                if let Some(goal) = link.goal {
                    let target = goal.value(machine)?;
                    let part = machine.causes.and(link.value, target);
                    whole = machine.causes.or(whole, part);
                }
            }
            Ok(whole)
        }
    }
}

/// The tuples of a relation that concern the subject: its own, its wildcard's, and all sets.
pub(super) fn links<'a>(
    ground: Ground<'a>,
    machine: &mut Machine<'a>,
    goal: Goal,
) -> Result<Vec<Link>, TooMuchWork> {
    let relation = ground.schema.member(goal.member).rel;
    let Goal {
        node, odd, free, ..
    } = goal;
    let mut links = Vec::new();
    for group in ground.index.subject_groups(goal.node, relation) {
        let set = group.subject_relation;
        let own = machine.own(&group, goal.odd);
        let mut link = |edge: Edge<'a>, goal: Option<Goal>, value| {
            links.push(Link {
                resource: node,
                relation,
                subject: edge.node,
                set,
                value,
                goal,
            });
        };
        for edge in own.iter().filter_map(|node| group.get(*node)) {
            machine.read(1)?;
            if let Some(value) = machine.standing_value(edge.restriction)? {
                link(edge, None, value);
            }
        }
        let member = (set != RelId::NONE)
            .then(|| ground.schema.member_id(group.kind, set))
            .flatten();
        let Some(member) = member else { continue };
        for edge in group.iter().filter(|edge| !own.contains(&edge.node)) {
            machine.read(1)?;
            if let Some(value) = machine.standing_value(edge.restriction)? {
                let goal = Goal {
                    node: edge.node,
                    member,
                    odd,
                    free,
                };
                link(edge, Some(goal), value);
            }
        }
    }
    Ok(links)
}

/// The tuples that an arrow walks, either way, each with what is asked behind it.
pub(super) fn behind<'a>(
    ground: Ground<'a>,
    machine: &mut Machine<'a>,
    goal: Goal,
    expr: &Expr,
    odd: bool,
) -> Result<Vec<Link>, TooMuchWork> {
    let mut links = Vec::new();
    match expr {
        Expr::Arrow { via, target, all } => {
            let relation = ground.schema.member(*via).rel;
            for group in ground.index.subject_groups(goal.node, relation) {
                let member = ground.schema.member_id(group.kind, *target);
                // Nobody has it there: nothing to prove by, but it counts where all must hold.
                if member.is_none() && !all {
                    continue;
                }
                for edge in group.iter() {
                    machine.read(1)?;
                    let Some(value) = machine.standing_value(edge.restriction)? else {
                        continue;
                    };
                    let node = edge.node;
                    links.push(Link {
                        resource: goal.node,
                        relation,
                        subject: node,
                        set: group.subject_relation,
                        value,
                        goal: member.map(|member| Goal {
                            node,
                            member,
                            odd,
                            free: goal.free,
                        }),
                    });
                }
            }
        }
        Expr::Backward { via, target } => {
            let via = ground.schema.member(*via);
            for group in ground.index.resource_groups(goal.node) {
                if group.relation != via.rel || group.kind != via.owner {
                    continue;
                }
                for edge in group.iter() {
                    machine.read(1)?;
                    let Some(value) = machine.standing_value(edge.restriction)? else {
                        continue;
                    };
                    let (node, member) = (edge.node, *target);
                    links.push(Link {
                        resource: node,
                        relation: via.rel,
                        subject: goal.node,
                        set: group.subject_relation,
                        value,
                        goal: Some(Goal {
                            node,
                            member,
                            odd,
                            free: goal.free,
                        }),
                    });
                }
            }
        }
        Expr::AnyRole(roles) | Expr::SomeRole(roles) | Expr::Role(roles, _) => {
            let Some(which) = which(ground.schema, expr) else {
                return Ok(links);
            };
            let part = (goal.node, goal.member);
            for (node, member) in machine.sites(part, odd, (*roles, which))? {
                links.push(Link {
                    resource: goal.node,
                    relation: RelId::NONE,
                    subject: node,
                    set: RelId::NONE,
                    value: Value::Allowed,
                    goal: Some(Goal {
                        node,
                        member,
                        odd,
                        free: goal.free,
                    }),
                });
            }
        }
        _ => {}
    }
    Ok(links)
}
