//! What roles mean: which of them an instruction is about, and where each counts.

use crate::schema::program::Which;
use crate::schema::{MemberId, RolesDef, RolesId, TypeId};
use crate::time::Timestamp;
use crate::tuple::{ObjectRef, role_parts};

use super::Facts;
use super::climb::Climb;
use super::closure::Ground;

/// Whether the roles of an owner count on a resource: it is the owner, or inherits them.
pub(crate) fn roles_count(
    facts: Facts<'_>,
    (roles, owner): (RolesId, ObjectRef<'_>),
    resource: ObjectRef<'_>,
    now: Timestamp,
) -> bool {
    if owner == resource {
        return true;
    }
    let ground = Ground::of(facts, now);
    let (names, index) = (&ground.schema.names, ground.index);
    let node = |object: ObjectRef<'_>| {
        let kind = names.type_id(object.kind())?;
        Some((index.node(kind, object.id())?, kind))
    };
    let (Some((from, kind)), Some((owner, _))) = (node(resource), node(owner)) else {
        return false;
    };
    let inherits = |kind| ground.roles_inherit(kind, roles);
    Climb::from(ground, from, kind, inherits, u64::MAX).has(owner)
}

impl<'a> Ground<'a> {
    /// Whether a role (its reference) is one of those that `which` means in the permission `to`.
    /// `site` is the relation of its block's sites.
    pub fn role_means(self, role: &str, to: MemberId, site: MemberId, which: Which) -> bool {
        let block = self.block_of(site);
        let key = role_parts(role).2;
        match which {
            Which::Assigned => true,
            Which::Builtin(place) => {
                let builtin = block.and_then(|block| block.builtins.get(usize::from(place)));
                builtin.is_some_and(|builtin| *builtin.name == *key)
            }
            Which::Including => block.is_some_and(|block| self.includes(block, role, key, to)),
        }
    }

    /// Whether a role includes a permission: as its record says, else as its block says.
    fn includes(self, block: &RolesDef, role: &str, key: &str, to: MemberId) -> bool {
        let builtin = block.builtins.iter().find(|one| *one.name == *key);
        let listed = match builtin.map(|builtin| &builtin.includes) {
            // `*`, now and later: no record takes it away.
            Some(None) => return true,
            Some(Some(listed)) => Some(listed),
            None => None,
        };
        match self.roles.get(role) {
            Some(record) => (self.programs.get(to).includable.as_ref())
                .is_some_and(|permission| record.includes(permission)),
            None => listed.is_some_and(|listed| listed.contains(&to)),
        }
    }

    fn block_of(self, site: MemberId) -> Option<&'a RolesDef> {
        let mut blocks = self.schema.roles.iter();
        blocks.find(|block| block.sites.member == site)
    }

    /// The relations over which roles of a block arrive on objects of a type.
    pub fn roles_inherit(self, kind: TypeId, roles: RolesId) -> &'a [MemberId] {
        let assigns = self.schema.assigns(kind, roles);
        assigns.map_or(&[], |assigns| &assigns.inherits)
    }

    /// Whether the owner of a role is among the objects of `above`.
    pub fn owner_is_among(self, block: &RolesDef, role: &str, above: &Climb) -> bool {
        let owner = self.index.node(block.owner, role_parts(role).1);
        owner.is_some_and(|owner| above.has(owner))
    }
}
