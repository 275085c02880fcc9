//! Expressions: names resolved, arrows judged.

use std::sync::Arc;

use super::super::ast::{Expr as Tree, ExprKind, Name};
use super::super::diagnostic::nearest;
use super::super::lexer::Span;
use super::super::{Expr, MemberId, RolesId, SubjectForm, TypeId};
use super::Compiler;

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The type whose members its names are.
    pub(super) owner: TypeId,
    /// Whether it is a permission's, so that `any ROLES` has something to be included.
    pub(super) permission: bool,
}

impl Compiler<'_, '_> {
    /// Compiles an expression; [`Expr::Nil`] stands where an error was reported. The parser has
    /// bounded how deep it nests.
    pub(super) fn expr(&mut self, place: Place, tree: &Tree) -> Expr {
        match &tree.kind {
            ExprKind::Nil => Some(Expr::Nil),
            ExprKind::Name(text) => self.name(place, text, tree.span),
            ExprKind::Arrow { via, target, all } => self.arrow(place, via, target, *all),
            ExprKind::Backward { kind, via, target } => self.backward(place, kind, via, target),
            ExprKind::AnyRole(name) => self.any_role(place, name, tree.span),
            ExprKind::SomeRole(name) => self.roles_id(name).map(Expr::SomeRole),
            ExprKind::Role(name) => self.role(place, name),
            ExprKind::Union(parts) => Some(Expr::Union(self.parts(place, parts))),
            ExprKind::Intersection(parts) => Some(Expr::Intersection(self.parts(place, parts))),
            ExprKind::Exclusion(left, right) => Some(Expr::Exclusion(
                Box::new(self.expr(place, left)),
                Box::new(self.expr(place, right)),
            )),
        }
        .unwrap_or(Expr::Nil)
    }

    fn parts(&mut self, place: Place, parts: &[Tree]) -> Vec<Expr> {
        parts.iter().map(|part| self.expr(place, part)).collect()
    }

    fn name(&mut self, place: Place, text: &str, span: Span) -> Option<Expr> {
        let found = self.find_member(place.owner, text);
        if text == "self" && (self.uses_self || found.is_none()) {
            return Some(Expr::Itself);
        }
        if found.is_none() && !self.report.is_full() {
            let text = text.to_owned();
            self.unknown_member(place.owner, &Name { text, span });
        }
        found.map(Expr::Member)
    }

    /// A relation of a type that an arrow can walk.
    fn walked(&mut self, owner: TypeId, via: &Name) -> Option<MemberId> {
        let id = self.member_id(owner, via)?;
        let Some(relation) = self.schema.member(id).relation() else {
            let message = format!(
                "`{}` is a permission; an arrow begins at a relation",
                via.text
            );
            self.report
                .error(via.span, "arrow-over-permission", message)
                .help = Some(
                "put the arrow over the relations that the permission is made of, one by one"
                    .into(),
            );
            return None;
        };
        let wildcard = |subject: &super::SubjectType| subject.form == SubjectForm::Wildcard;
        if relation.subjects.iter().any(wildcard) {
            let message = format!(
                "`{}` takes wildcards, and an arrow can't begin at all objects of a type",
                via.text
            );
            self.report
                .error(via.span, "arrow-over-wildcard", message)
                .help = Some("keep the wildcard in a relation of its own".into());
            return None;
        }
        Some(id)
    }

    fn arrow(&mut self, place: Place, via: &Name, target: &Name, all: bool) -> Option<Expr> {
        let id = self.walked(place.owner, via)?;
        let rel = self.names.intern_rel(&target.text);
        let Some(rel) = rel else {
            self.too_many(target.span);
            return None;
        };
        let relation = self.schema.member(id).relation()?;
        let kinds: Vec<TypeId> = relation.subjects.iter().map(|s| s.kind).collect();
        if !kinds
            .iter()
            .any(|kind| self.schema.member_id(*kind, rel).is_some())
        {
            self.warn_dead_arrow(&kinds, via, target);
        }
        Some(Expr::Arrow {
            via: id,
            target: rel,
            all,
        })
    }

    fn warn_dead_arrow(&mut self, kinds: &[TypeId], via: &Name, target: &Name) {
        let definitions = kinds.iter().filter_map(|kind| self.schema.type_def(*kind));
        let known = definitions.flat_map(|definition| &definition.members);
        let near = nearest(&target.text, known.map(|id| &*self.schema.member(*id).name));
        let message = format!(
            "none of the types that `{}` leads to has a relation or permission `{}`: this arrow finds nobody",
            via.text, target.text
        );
        let warning = self.report.warning(target.span, "dead-arrow", message);
        warning.nearest = near;
    }

    fn backward(&mut self, place: Place, kind: &Name, via: &Name, target: &Name) -> Option<Expr> {
        let owner = self.type_id(kind)?;
        let (found, target) = (self.walked(owner, via), self.member_id(owner, target));
        let (found, target) = (found?, target?);
        let relation = self.schema.member(found).relation()?;
        if !relation.subjects.iter().any(|s| s.kind == place.owner) {
            let here = self.schema.type_def(place.owner);
            let here = here.map_or("", |definition| &definition.name);
            let message = format!(
                "`{}.{}` never leads to `{here}`: this arrow finds nobody",
                kind.text, via.text
            );
            self.report.warning(via.span, "dead-arrow", message);
        }
        Some(Expr::Backward { via: found, target })
    }

    pub(super) fn roles_id(&mut self, name: &Name) -> Option<RolesId> {
        let mut roles = self.schema.roles.iter();
        let place = roles.position(|roles| *roles.name == *name.text);
        let Some(place) = place else {
            let near = nearest(&name.text, self.schema.roles.iter().map(|r| &*r.name));
            let message = format!("there is no `roles` block `{}`", name.text);
            let error = self.report.error(name.span, "unknown-name", message);
            error.nearest = near;
            return None;
        };
        u16::try_from(place).ok().map(RolesId)
    }

    fn any_role(&mut self, place: Place, name: &Name, span: Span) -> Option<Expr> {
        let id = self.roles_id(name)?;
        if !place.permission {
            let message = format!(
                "`any {}` says who holds a role that includes this permission, and stands in permissions only",
                name.text
            );
            self.report
                .error(span, "any-outside-permission", message)
                .help = Some("name a permission here that says it".into());
            return None;
        }
        Some(Expr::AnyRole(id))
    }

    /// The built-in role of that name, of the block that this type assigns, else of the only one.
    fn role(&mut self, place: Place, name: &Name) -> Option<Expr> {
        let blocks = &self.schema.roles;
        let has = |place: &usize| {
            let block = blocks.get(*place);
            block.is_some_and(|b| b.builtins.iter().any(|builtin| *builtin.name == *name.text))
        };
        let candidates: Vec<usize> = (0..blocks.len()).filter(has).collect();
        let definition = self.schema.type_def(place.owner);
        let assigned = |at: &usize| {
            definition.is_some_and(|d| d.assigns.iter().any(|a| usize::from(a.roles.0) == *at))
        };
        let here: Vec<usize> = candidates.iter().copied().filter(assigned).collect();
        let found = match (here.as_slice(), candidates.as_slice()) {
            ([one], _) | ([], [one]) => *one,
            ([], []) => {
                let builtins = blocks.iter().flat_map(|block| &block.builtins);
                let near = nearest(&name.text, builtins.map(|builtin| &*builtin.name));
                let message = format!("there is no built-in role `{}`", name.text);
                let error = self.report.error(name.span, "unknown-name", message);
                error.nearest = near;
                return None;
            }
            _ => {
                let message = format!("more than one `roles` block has a `{}`", name.text);
                self.report.error(name.span, "ambiguous", message).help =
                    Some("rename one of them".into());
                return None;
            }
        };
        let roles = RolesId(u16::try_from(found).ok()?);
        Some(Expr::Role(roles, Arc::from(name.text.as_str())))
    }
}
