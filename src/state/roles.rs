//! The roles that were made or edited at run time, by their references.
//!
//! A built-in role has a record only once it was edited: until then it includes what the schema
//! says.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::tuple::{Object, RoleRef};

/// What a role is and what it includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRecord {
    /// Its name for good: `role:acme/deployer`.
    pub role: RoleRef,
    /// The object that it belongs to: `organization:acme`.
    pub owner: Object,
    /// What people call it.
    pub title: Arc<str>,
    /// `application.deploy`, sorted, each once.
    pub permissions: Vec<Arc<str>>,
}

impl RoleRecord {
    /// Whether it includes a permission, named `application.deploy`.
    pub fn includes(&self, permission: &str) -> bool {
        self.permissions
            .binary_search_by(|known| (**known).cmp(permission))
            .is_ok()
    }
}

/// All records. A clone shares what does not change.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    records: OrdMap<RoleRef, Arc<RoleRecord>>,
}

impl Roles {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record of a role, by its reference's text.
    pub fn get(&self, role: &str) -> Option<&Arc<RoleRecord>> {
        self.records.get(role)
    }

    /// All, by their references.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RoleRecord>> {
        self.records.values()
    }

    /// Those of one `roles` block that belong to the object of this id, by their keys.
    pub fn owned<'a>(
        &'a self,
        block: &str,
        owner_id: &'a str,
    ) -> impl Iterator<Item = &'a Arc<RoleRecord>> + 'a {
        let prefix = format!("{block}:{owner_id}/");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let from = self.records.range::<_, str>(from);
        from.take_while(move |(role, _)| role.as_str().starts_with(&prefix))
            // The owner `acme/x` begins like `acme`.
            .filter(move |(role, _)| role.owner_id() == owner_id)
            .map(|(_, record)| record)
    }

    /// The same with `record`, in the place of one of that reference.
    #[must_use]
    pub(super) fn with(&self, record: &Arc<RoleRecord>) -> Self {
        let records = (self.records).update(record.role.clone(), Arc::clone(record));
        Self { records }
    }

    /// The same without the record of this reference.
    #[must_use]
    pub(super) fn without(&self, role: &RoleRef) -> Self {
        let records = self.records.without(role);
        Self { records }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roles_are_found_by_reference_and_by_owner() {
        let record = |role: &str, owner: &str, permissions: &[&str]| {
            Arc::new(RoleRecord {
                role: role.parse().unwrap(),
                owner: owner.parse().unwrap(),
                title: "t".into(),
                permissions: permissions.iter().map(|p| (*p).into()).collect(),
            })
        };
        let records = [
            record("role:acme/b", "org:acme", &["app.a", "app.c"]),
            record("role:acme/a", "org:acme", &[]),
            record("role:acme/x/a", "org:acme/x", &[]),
            record("rolex:acme/a", "org:acme", &[]),
        ];
        let all = (records.iter()).fold(Roles::default(), |all, record| all.with(record));
        let owned = |block, owner| -> Vec<String> {
            let owned = all.owned(block, owner);
            owned.map(|record| record.role.to_string()).collect()
        };
        assert_eq!(owned("role", "acme"), ["role:acme/a", "role:acme/b"]);
        assert_eq!(owned("role", "acme/x"), ["role:acme/x/a"]);
        assert_eq!(owned("role", "ac"), [""; 0]);
        let b = all.get("role:acme/b").unwrap();
        assert!(b.includes("app.a") && b.includes("app.c") && !b.includes("app.b"));
        let less = all.without(&"role:acme/b".parse().unwrap());
        assert_eq!((less.len(), all.len()), (3, 4));
    }
}
