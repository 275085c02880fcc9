//! Sites: how the assignments of roles lie among the tuples.
//!
//! An assignment is one tuple, `application:shop#role=acme/deployer@user:bob`. Names of relations
//! are numbers for good and of 16 bits, so a role can't be one: its assignments on a resource are
//! kept under a node of their own, the *site*, `role:acme/deployer#application:shop`, of a
//! generated type `role=`. The generated relation `role=` leads from the resource to its sites and
//! from a site to its subjects. The first edge, the *link*, stands as long as the site has a
//! subject; it is no tuple, and neither counts nor shows.

use crate::schema::{Names, RelId, TypeId};
use crate::tuple::ObjectRef;

/// The name of the type of sites, and of the relation to and from them, for a `roles` block.
pub fn generated(block: &str) -> String {
    format!("{block}=")
}

/// What the id of a site says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SiteRef<'a> {
    /// The reference of the role: `role:acme/deployer`.
    pub role: &'a str,
    /// Where it is assigned.
    pub resource: ObjectRef<'a>,
}

impl<'a> SiteRef<'a> {
    /// Reads the id of a site.
    pub fn parse(id: &'a str) -> Option<Self> {
        let (role, resource) = id.split_once('#')?;
        let (kind, id) = resource.split_once(':')?;
        let resource = ObjectRef::known(kind, id);
        Some(Self { role, resource })
    }

    /// The id of the site, which [`SiteRef::parse`] reads.
    pub fn id(self) -> String {
        format!("{}#{}", self.role, self.resource)
    }
}

/// Whether a type is one of sites: no schema can have such a name.
pub(super) fn is_site(names: &Names, kind: TypeId) -> bool {
    is_generated(names.type_name(kind))
}

/// Whether some type is.
pub(super) fn has_sites(names: &Names) -> bool {
    names.type_names().any(is_generated)
}

fn is_generated(name: &str) -> bool {
    name.ends_with('=')
}

/// The relation of the links to sites of a type, and from the sites on.
pub(super) fn relation_of(names: &Names, kind: TypeId) -> Option<RelId> {
    names.rel_id(names.type_name(kind))
}
