//! Roles, as naively as can be done: which there are, what each includes, who holds which where.
//!
//! An assignment is a tuple of the world, whose relation is the role's generated one.

use super::Asker;
use super::model::{Alternative, Body, Expr, Kind, Name, Object, Subject, Value, World};

/// The first of the names of generated relations. They are no members: nothing asks for their value.
pub const ROLE_NAMES: Name = 1 << 16;

/// A `roles` block.
#[derive(Clone, Debug)]
pub struct Block {
    pub name: &'static str,
    pub owner: Kind,
    pub held_by: Vec<Alternative>,
    pub builtins: Vec<Builtin>,
}

#[derive(Clone, Debug)]
pub struct Builtin {
    pub key: &'static str,
    /// `None`: `*`.
    pub includes: Option<Vec<Permission>>,
}

/// A permission of a type, as roles include it.
pub type Permission = (Kind, Name);

/// That roles of a block are assigned on a type.
#[derive(Clone, Debug)]
pub struct Assigns {
    pub block: usize,
    pub inherits: Vec<Name>,
}

/// What a generated relation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub block: usize,
    /// The id of the owner.
    pub owner: usize,
    pub key: &'static str,
}

/// Which roles of a block an expression means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that include the permission of this name, in which it stands.
    Any(Name),
    Some,
    Builtin(&'static str),
}

impl World {
    /// A name in words: of a generated relation such as `role=i0/dev`.
    pub fn word(&self, name: Name) -> String {
        match self.roles.get(&name) {
            None => self.names[name].clone(),
            Some(Role { block, owner, key }) => {
                format!("{}={}/{key}", self.blocks[*block].name, self.ids[*owner])
            }
        }
    }

    /// The built-in role that a role is, where it is one.
    pub fn builtin(&self, role: Role) -> Option<&Builtin> {
        let mut builtins = self.blocks[role.block].builtins.iter();
        builtins.find(|one| one.key == role.key)
    }

    /// What a role includes; `None` where there is no such role.
    pub fn includes(&self, name: Name) -> Option<Vec<Permission>> {
        let role = self.roles[&name];
        let builtin = self.builtin(role).map(|one| one.includes.clone());
        match (builtin, self.records.get(&name)) {
            (Some(None), _) => Some(self.includable(role.block)),
            (_, Some(record)) => Some(record.clone()),
            (Some(Some(listed)), None) => Some(listed),
            (None, None) => None,
        }
    }

    /// The permissions that say `any` of a block.
    pub fn includable(&self, block: usize) -> Vec<Permission> {
        let mut found = Vec::new();
        for kind in 0..self.types.len() {
            for name in self.members(kind) {
                if let Some(Body::Permission(expr)) = self.body(kind, name)
                    && says_any(expr, block)
                {
                    found.push((kind, name));
                }
            }
        }
        found
    }
}

fn says_any(expr: &Expr, wanted: usize) -> bool {
    match expr {
        Expr::Roles { block, which } => *block == wanted && matches!(which, Which::Any(_)),
        Expr::Union(a, b) | Expr::Intersection(a, b) | Expr::Exclusion(a, b, _) => {
            says_any(a, wanted) || says_any(b, wanted)
        }
        _ => false,
    }
}

impl Asker<'_> {
    /// The subjects of all assignments that count on an object, with their conditions.
    pub(super) fn holders(&self, x: Object, block: usize, which: Which) -> Vec<(Subject, Value)> {
        let above = self.climb(x, |kind| {
            let assigns = self.world.types[kind].assigns.iter();
            let assigns = assigns.filter(|one| one.block == block);
            assigns.flat_map(|one| one.inherits.clone()).collect()
        });
        let owner_kind = self.world.blocks[block].owner;
        let mut found = Vec::new();
        for (name, role) in &self.world.roles {
            let owner = Object {
                kind: owner_kind,
                id: role.owner,
            };
            let means = match which {
                Which::Any(permission) => (self.world.includes(*name))
                    .is_some_and(|all| all.contains(&(x.kind, permission))),
                Which::Some => true,
                Which::Builtin(key) => role.key == key,
            };
            // It counts only below its owner.
            if role.block != block || !means || !above.contains(&owner) {
                continue;
            }
            for place in &above {
                if *place == x || which != Which::Some {
                    found.extend(self.tuples(*place, *name));
                }
            }
        }
        found
    }
}
