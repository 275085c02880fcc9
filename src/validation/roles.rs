//! The run-time roles that a file's world begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Document, Placed, Problem, Reader, malformed, number, read_named};
use crate::plan::RoleWanted;
use crate::schema::Schema;
use crate::tuple::{Object, RoleRef};

/// A role as it stands in a file. Whose it is follows from its name, once the schema is known.
#[derive(Clone, Debug)]
pub struct StatedRole {
    /// `role:acme/deployer`
    pub role: RoleRef,
    /// What people call it; its key unless said.
    pub title: Arc<str>,
    /// `application.deploy`, sorted, each once.
    pub permissions: Vec<Arc<str>>,
}

pub(super) type Roles = BTreeMap<String, Spanned<Told>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    title: Option<String>,
    #[serde(default)]
    permissions: Vec<String>,
}

type PlacedRoles = (Vec<Placed<StatedRole>>, Option<String>);

pub(super) fn of(document: &Document, read: Reader<'_>) -> Result<PlacedRoles, Problem> {
    let Some(name) = &document.roles_file else {
        return Ok((placed(&document.roles)?, None));
    };
    if !document.roles.is_empty() {
        return Err(Problem::at_location(
            name.defined,
            "both roles and rolesFile are given; keep one of them",
        ));
    }
    let roles = in_file(&read_named(name, read)?).map_err(|problem| Problem {
        file: Some(name.value.clone()),
        ..problem
    })?;
    Ok((roles, Some(name.value.clone())))
}

/// Reads a file of roles: a mapping of their references to title and permissions.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn in_file(text: &str) -> Result<Vec<Placed<StatedRole>>, Problem> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let roles: Roles = serde_saphyr::from_str(text).map_err(|error| malformed(&error))?;
    placed(&roles)
}

fn placed(roles: &Roles) -> Result<Vec<Placed<StatedRole>>, Problem> {
    roles.iter().map(|(role, told)| one(role, told)).collect()
}

fn one(role: &str, told: &Spanned<Told>) -> Result<Placed<StatedRole>, Problem> {
    let place = told.defined;
    let role: RoleRef =
        (role.parse()).map_err(|bad| Problem::at_location(place, format!("{bad}")))?;
    let mut permissions: Vec<Arc<str>> = (told
        .value
        .permissions
        .iter()
        .map(|name| name.as_str().into()))
    .collect();
    permissions.sort_unstable();
    permissions.dedup();
    Ok(Placed {
        line: number(place.line()),
        column: number(place.column()),
        value: StatedRole {
            title: told.value.title.as_deref().unwrap_or(role.key()).into(),
            role,
            permissions,
        },
    })
}

impl StatedRole {
    /// The role to make: its owner's type is what its block of the schema names.
    ///
    /// # Errors
    /// Where the schema has no such block.
    pub fn wanted(&self, schema: &Schema) -> Result<RoleWanted, String> {
        let block = (schema.roles.iter()).find(|block| *block.name == *self.role.block());
        let block =
            block.ok_or_else(|| format!("the schema has no roles {:?}", self.role.block()))?;
        let owner = format!(
            "{}:{}",
            schema.names.type_name(block.owner),
            self.role.owner_id()
        );
        let owner: Object = owner.parse().map_err(|bad| format!("{bad}"))?;
        Ok(RoleWanted {
            owner,
            key: self.role.key().into(),
            title: self.title.clone(),
            permissions: self.permissions.clone(),
        })
    }
}
