//! Which member's value depends on which, and the cycles in that; nothing here recurses over the
//! graph, which may be one chain as long as the text.

use std::collections::{HashMap, HashSet};

use super::super::{Expr, MemberId, MemberKind, Relation, Schema, SubjectForm};

/// How one value leads to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Through {
    /// On the same object, by name.
    Same,
    /// By a subject set of a relation, or by the relation that an arrow walks.
    Set,
    /// By an arrow over this relation.
    Forward(MemberId),
    /// By a backward arrow over this relation.
    Backward(MemberId),
}

/// The value of one member is made of that of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Edge {
    /// The place of the other member.
    pub(super) to: usize,
    pub(super) through: Through,
    /// Whether it stands on the right of a `-`.
    pub(super) negative: bool,
}

/// `edges[place of a member]`
pub(super) struct Graph {
    pub(super) edges: Vec<Vec<Edge>>,
}

impl Graph {
    pub(super) fn of(schema: &Schema) -> Self {
        let edges = schema.members.iter().map(|member| {
            let mut edges = Vec::new();
            match &member.kind {
                MemberKind::Relation(relation) => sets_of(schema, relation, &mut edges),
                MemberKind::Permission(expr) => edges_of(schema, expr, false, &mut edges),
            }
            let mut seen = HashSet::new();
            edges.retain(|edge| seen.insert(*edge));
            edges
        });
        Self {
            edges: edges.collect(),
        }
    }

    /// The strongly connected component of each member, over the edges that `used` admits.
    pub(super) fn components(&self, used: impl Fn(&Edge) -> bool) -> Vec<usize> {
        let mut search = Search::new(self.edges.len());
        for root in 0..self.edges.len() {
            if !search.visited(root) {
                search.from(root, &self.edges, &used);
            }
        }
        search.component
    }

    /// Of each member whether its value depends on an exclusion.
    pub(super) fn reach_exclusion(&self, schema: &Schema) -> Vec<bool> {
        let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
        for (from, edges) in self.edges.iter().enumerate() {
            for edge in edges {
                users.entry(edge.to).or_default().push(from);
            }
        }
        let own = |member: &super::super::Member| match &member.kind {
            MemberKind::Permission(expr) => has_exclusion(expr),
            MemberKind::Relation(_) => false,
        };
        let mut reaches: Vec<bool> = schema.members.iter().map(own).collect();
        let places = reaches.iter().enumerate();
        let mut waiting: Vec<usize> = places.filter(|(_, is)| **is).map(|(at, _)| at).collect();
        while let Some(at) = waiting.pop() {
            for user in users.get(&at).into_iter().flatten() {
                if let Some(is @ false) = reaches.get_mut(*user) {
                    *is = true;
                    waiting.push(*user);
                }
            }
        }
        reaches
    }
}

/// Whether a `-` stands in an expression; the parser has bounded how deep it nests.
fn has_exclusion(expr: &Expr) -> bool {
    match expr {
        Expr::Exclusion(..) => true,
        Expr::Union(parts) | Expr::Intersection(parts) => parts.iter().any(has_exclusion),
        _ => false,
    }
}

fn sets_of(schema: &Schema, relation: &Relation, edges: &mut Vec<Edge>) {
    for subject in &relation.subjects {
        if let SubjectForm::Set(rel) = subject.form
            && let Some(member) = schema.member_id(subject.kind, rel)
        {
            edges.push(edge(member, Through::Set, false));
        }
    }
}

fn edge(to: MemberId, through: Through, negative: bool) -> Edge {
    Edge {
        to: to.0 as usize,
        through,
        negative,
    }
}

/// What an expression's value is made of. The parser has bounded how deep it nests.
fn edges_of(schema: &Schema, expr: &Expr, negative: bool, edges: &mut Vec<Edge>) {
    match expr {
        Expr::Nil | Expr::Itself => {}
        Expr::AnyRole(roles) | Expr::SomeRole(roles) | Expr::Role(roles, _) => {
            let roles = schema.roles.get(usize::from(roles.0));
            let mut sets = Vec::new();
            let held = Relation {
                subjects: roles.map(|roles| roles.held_by.clone()).unwrap_or_default(),
                ..Relation::default()
            };
            sets_of(schema, &held, &mut sets);
            edges.extend(sets.into_iter().map(|edge| Edge { negative, ..edge }));
        }
        Expr::Member(member) => edges.push(edge(*member, Through::Same, negative)),
        Expr::Arrow { via, target, .. } => {
            let relation = schema.member(*via).relation();
            for subject in relation.iter().flat_map(|relation| &relation.subjects) {
                if let Some(member) = schema.member_id(subject.kind, *target) {
                    edges.push(edge(member, Through::Forward(*via), negative));
                }
            }
        }
        Expr::Backward { via, target } => {
            edges.push(edge(*target, Through::Backward(*via), negative));
        }
        Expr::Union(parts) | Expr::Intersection(parts) => {
            for part in parts {
                edges_of(schema, part, negative, edges);
            }
        }
        Expr::Exclusion(left, right) => {
            edges_of(schema, left, negative, edges);
            edges_of(schema, right, true, edges);
        }
    }
}

/// Tarjan's search for strongly connected components, with a stack of its own.
struct Search {
    order: Vec<Option<usize>>,
    low: Vec<usize>,
    open: Vec<bool>,
    waiting: Vec<usize>,
    component: Vec<usize>,
    next: usize,
}

impl Search {
    fn new(size: usize) -> Self {
        Self {
            order: vec![None; size],
            low: vec![0; size],
            open: vec![false; size],
            waiting: Vec::new(),
            component: vec![usize::MAX; size],
            next: 0,
        }
    }

    fn visited(&self, at: usize) -> bool {
        self.order.get(at).is_none_or(Option::is_some)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "members are places in lists that were made as long as the list of members"
    )]
    fn from(&mut self, root: usize, graph: &[Vec<Edge>], used: &impl Fn(&Edge) -> bool) {
        let mut path: Vec<(usize, usize)> = Vec::new();
        self.enter(root);
        path.push((root, 0));
        while let Some((at, taken)) = path.last_mut() {
            let at = *at;
            let Some(edge) = graph[at].get(*taken) else {
                path.pop();
                if let Some((above, _)) = path.last() {
                    self.low[*above] = self.low[*above].min(self.low[at]);
                }
                self.close(at);
                continue;
            };
            *taken += 1;
            match self.order[edge.to] {
                _ if !used(edge) => {}
                None => {
                    self.enter(edge.to);
                    path.push((edge.to, 0));
                }
                Some(order) if self.open[edge.to] => self.low[at] = self.low[at].min(order),
                Some(_) => {}
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn enter(&mut self, at: usize) {
        self.order[at] = Some(self.next);
        self.low[at] = self.next;
        self.next += 1;
        self.open[at] = true;
        self.waiting.push(at);
    }

    /// Where `at` is the first of its component, the component is complete.
    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn close(&mut self, at: usize) {
        if self.order[at] != Some(self.low[at]) {
            return;
        }
        while let Some(member) = self.waiting.pop() {
            self.open[member] = false;
            self.component[member] = at;
            if member == at {
                return;
            }
        }
    }
}
