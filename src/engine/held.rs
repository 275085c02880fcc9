//! What is held: locks, and the roles of an owner.

use std::sync::Arc;
use std::time::Instant;

use crate::plan::Refusal;
use crate::revision::{Consistency, Token};
use crate::rules::{self, RoleView};
use crate::schema::{BuiltinDef, MemberId, Schema};
use crate::state::HeldLock;
use crate::tuple::{Object, RoleRef};

use super::{Engine, EngineError};

/// The roles of an owner, and what they may include.
#[derive(Clone, Debug)]
pub struct RolesHeld {
    /// Built-in ones first, in the order of the schema; then by their references.
    pub roles: Vec<RoleView>,
    /// The rows of a matrix, in the order of the schema.
    pub assignable: Vec<MemberId>,
    /// What these are numbers of.
    pub schema: Arc<Schema>,
    /// The revision that was read.
    pub token: Token,
}

impl Engine {
    /// The locks that are held, by their ids: all, or those on one resource, with `inherited` also
    /// those that arrive there from elsewhere.
    ///
    /// # Errors
    /// Where the state can't be had, or the schema lacks the resource's type.
    pub async fn list_locks(
        &self,
        resource: Option<&Object>,
        inherited: bool,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<(Vec<Arc<HeldLock>>, Token), EngineError> {
        let state = self.state_at(at, deadline).await?;
        let schema = state.schema.as_deref().ok_or(EngineError::NoSchema)?;
        let now = self.now();
        let Some(resource) = resource else {
            let held = state.locks.iter().filter(|lock| lock.is_held(now));
            return Ok((held.cloned().collect(), state.token()));
        };
        schema
            .knows_object("resource", resource)
            .map_err(|problem| {
                EngineError::Refused(Refusal::Named {
                    field: "resource".to_owned(),
                    problem: Box::new(problem),
                })
            })?;
        let held = rules::all_held_on(&state, schema, resource, inherited, now);
        Ok((held, state.token()))
    }

    /// The roles of an owner.
    ///
    /// # Errors
    /// Where the state can't be had, or objects of that type own no roles.
    pub async fn list_roles(
        &self,
        owner: &Object,
        at: Consistency,
        deadline: Option<Instant>,
    ) -> Result<RolesHeld, EngineError> {
        let state = self.state_at(at, deadline).await?;
        let schema = state.schema.clone().ok_or(EngineError::NoSchema)?;
        let (id, block) = crate::plan::block_of(&schema, owner).map_err(EngineError::Refused)?;
        let builtin = |one: &BuiltinDef| {
            let role = RoleRef::new(&block.name, owner.id(), &one.name).ok()?;
            rules::role_of(&state, &schema, &role)
        };
        let mut roles: Vec<RoleView> = block.builtins.iter().filter_map(builtin).collect();
        let made = state.roles.owned(&block.name, owner.id());
        let made = made.filter(|record| record.owner == *owner);
        roles.extend(
            made.filter_map(|record| rules::role_of(&state, &schema, &record.role))
                .filter(|role| !role.builtin),
        );
        Ok(RolesHeld {
            roles,
            assignable: schema.includable(id),
            token: state.token(),
            schema,
        })
    }
}
