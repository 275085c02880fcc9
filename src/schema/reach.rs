//! What rules and permissions can read, as far as the rules on writes need to know: over which
//! relations a rule walks, and which relations keep somebody out.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::program::arrow_targets;
use super::{Expr, MemberId, MemberKind, Relation, RolesId, Schema, SubjectForm};

/// What can be read, and from where. Both are over-approximations of what any data makes of it.
#[derive(Debug)]
pub(crate) struct Reach {
    /// By [`MemberId`]: the relations over which it can walk.
    walked: Vec<OnceLock<HashSet<MemberId>>>,
    negated: Found,
}

/// What a search through the schema has found.
#[derive(Debug, Default)]
struct Found {
    members: HashSet<MemberId>,
    /// Relations that an arrow, or a role that is inherited, walks from a resource.
    walked: HashSet<MemberId>,
    roles: HashSet<RolesId>,
}

impl Reach {
    pub(super) fn of(schema: &Schema) -> Self {
        let mut search = Search::new(schema);
        for member in &schema.members {
            if let MemberKind::Permission(expr) = &member.kind {
                search.negations(expr);
            }
        }
        Self {
            walked: schema.members.iter().map(|_| OnceLock::new()).collect(),
            negated: search.run(),
        }
    }

    /// Whether the value of `member` can depend on walking `via` from some resource.
    pub(crate) fn walks(&self, schema: &Schema, member: MemberId, via: MemberId) -> bool {
        let walked = self.walked.get(member.0 as usize);
        walked.is_some_and(|walked| {
            let found = walked.get_or_init(|| {
                let mut search = Search::new(schema);
                search.open.push(member);
                search.run().walked
            });
            found.contains(&via)
        })
    }

    /// Whether taking a tuple of `relation` away can give something to somebody: it is read on
    /// the right of a `-`, or an arrow asks all of them.
    pub(crate) fn keeps_out(&self, relation: MemberId) -> bool {
        self.negated.members.contains(&relation)
    }

    /// The same of the assignments of these roles.
    pub(crate) fn roles_keep_out(&self, roles: RolesId) -> bool {
        self.negated.roles.contains(&roles)
    }
}

struct Search<'s> {
    schema: &'s Schema,
    open: Vec<MemberId>,
    /// Those that were followed; [`Found::members`] has more: an arrow reads a relation's tuples
    /// and not who is in its subject sets.
    followed: HashSet<MemberId>,
    found: Found,
}

impl<'s> Search<'s> {
    fn new(schema: &'s Schema) -> Self {
        Self {
            schema,
            open: Vec::new(),
            followed: HashSet::new(),
            found: Found::default(),
        }
    }

    fn run(mut self) -> Found {
        let schema = self.schema;
        while let Some(member) = self.open.pop() {
            self.found.members.insert(member);
            if !self.followed.insert(member) {
                continue;
            }
            match &schema.member(member).kind {
                MemberKind::Relation(relation) => self.sets(relation),
                MemberKind::Permission(expr) => self.expr(expr),
            }
        }
        self.found
    }

    /// Begins at every right side of a `-`, and at what `.all` walks.
    fn negations(&mut self, expr: &Expr) {
        match expr {
            Expr::Arrow { via, all: true, .. } => {
                self.found.members.insert(*via);
            }
            Expr::Union(parts) | Expr::Intersection(parts) => {
                for part in parts {
                    self.negations(part);
                }
            }
            Expr::Exclusion(left, right) => {
                self.negations(left);
                self.expr(right);
            }
            _ => {}
        }
    }

    /// Notes all that an expression reads. The parser has bounded how deep it nests.
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(member) => self.open.push(*member),
            Expr::Arrow { via, target, .. } => {
                self.found.members.insert(*via);
                self.found.walked.insert(*via);
                self.open.extend(arrow_targets(self.schema, *via, *target));
            }
            Expr::Backward { via, target } => {
                self.found.members.insert(*via);
                self.open.push(*target);
            }
            Expr::AnyRole(roles) | Expr::SomeRole(roles) | Expr::Role(roles, _) => {
                self.roles(*roles);
            }
            Expr::Union(parts) | Expr::Intersection(parts) => {
                for part in parts {
                    self.expr(part);
                }
            }
            Expr::Exclusion(left, right) => {
                self.expr(left);
                self.expr(right);
            }
        }
    }

    /// Roles are held by their assignments, and on whatever leads to where they are assigned.
    fn roles(&mut self, roles: RolesId) {
        if !self.found.roles.insert(roles) {
            return;
        }
        let schema = self.schema;
        let assigns = schema.types.iter().flat_map(|kind| &kind.assigns);
        for inherits in assigns
            .filter(|a| a.roles == roles)
            .flat_map(|a| &a.inherits)
        {
            self.found.members.insert(*inherits);
            self.found.walked.insert(*inherits);
        }
        if let Some(block) = schema.roles.get(usize::from(roles.0)) {
            let held = Relation {
                subjects: block.held_by.clone(),
                ..Relation::default()
            };
            self.sets(&held);
        }
    }

    fn sets(&mut self, relation: &Relation) {
        for subject in &relation.subjects {
            if let SubjectForm::Set(rel) = subject.form {
                self.open.extend(self.schema.member_id(subject.kind, rel));
            }
        }
    }
}
