//! What roles may include.

use super::{Expr, MemberId, MemberKind, RolesId, Schema};

impl Schema {
    /// The permissions that a role of this block may include, in the order of the schema.
    pub(crate) fn includable(&self, roles: RolesId) -> Vec<MemberId> {
        let members = self.types.iter().flat_map(|kind| &kind.members).copied();
        members
            .filter(|id| self.is_includable(roles, *id))
            .collect()
    }

    /// Whether a role of this block may include a permission: it has to say `any`.
    pub(crate) fn is_includable(&self, roles: RolesId, id: MemberId) -> bool {
        match &self.member(id).kind {
            MemberKind::Permission(expr) => says_any(expr, roles),
            MemberKind::Relation(_) => false,
        }
    }

    /// The includable permission of this name, `application.deploy`.
    pub(crate) fn includable_named(&self, roles: RolesId, name: &str) -> Option<MemberId> {
        let id = self.member_named(name)?;
        self.is_includable(roles, id).then_some(id)
    }

    /// The relation or permission of this name, `application.deploy`.
    pub(crate) fn member_named(&self, name: &str) -> Option<MemberId> {
        let (kind, name) = name.rsplit_once('.')?;
        let kind = self.type_named(kind)?.id;
        self.member_id(kind, self.names.rel_id(name)?)
    }

    /// The name of a relation or permission with its type: `application.deploy`.
    pub(crate) fn full_name(&self, id: MemberId) -> String {
        let member = self.member(id);
        format!("{}.{}", self.names.type_name(member.owner), member.name)
    }
}

/// Whether an expression says `any` of these roles; its depth was bounded by the parser.
pub(super) fn says_any(expr: &Expr, roles: RolesId) -> bool {
    match expr {
        Expr::AnyRole(id) => *id == roles,
        Expr::Union(parts) | Expr::Intersection(parts) => {
            parts.iter().any(|part| says_any(part, roles))
        }
        Expr::Exclusion(left, right) => says_any(left, roles) || says_any(right, roles),
        _ => false,
    }
}
