//! Roles: what they include, who may edit and assign them, and that nobody gives what they lack.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::eval::{self, Facts};
use crate::schema::{BuiltinDef, MemberId, RolesDef, RolesId, Schema, SubjectForm, TypeId};
use crate::state::{RoleRecord, State};
use crate::tuple::{Object, ObjectRef, RoleRef, Subject, SubjectRef, Tuple};

use super::rights::{denied, is_own};
use super::violation::{Denied, Needed};
use super::{Act, Broken, Judgements, Rules, Touch, Violation, When};

/// The id of objects that no tuple can name: a role is judged on what nobody has made yet.
const IMAGINED: &str = "\u{7f}imagined";

/// A role, made at run time or built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// What it is and includes.
    pub record: Arc<RoleRecord>,
    /// Whether the schema has it.
    pub builtin: bool,
}

/// The role of this reference, where there is one: each owner has all built-in ones.
pub(crate) fn role_of(state: &State, schema: &Schema, role: &RoleRef) -> Option<RoleView> {
    let (id, block) = schema.roles_named(role.block())?;
    let builtin = builtin_of(block, role);
    let stored = state.roles.get(role.as_str());
    let record = match (stored, builtin) {
        (_, Some(def)) if def.includes.is_none() => Arc::new(unedited(schema, id, role, def)),
        (Some(record), _) => Arc::clone(record),
        (None, Some(def)) => Arc::new(unedited(schema, id, role, def)),
        (None, None) => return None,
    };
    Some(RoleView {
        record,
        builtin: builtin.is_some(),
    })
}

fn builtin_of<'s>(block: &'s RolesDef, role: &RoleRef) -> Option<&'s BuiltinDef> {
    block.builtins.iter().find(|one| *one.name == *role.key())
}

fn unedited(schema: &Schema, id: RolesId, role: &RoleRef, def: &BuiltinDef) -> RoleRecord {
    let includes = def.includes.clone();
    let includes = includes.unwrap_or_else(|| schema.includable(id));
    let mut permissions: Vec<Arc<str>> = (includes.iter())
        .map(|member| schema.full_name(*member).into())
        .collect();
    permissions.sort();
    permissions.dedup();
    RoleRecord {
        role: role.clone(),
        owner: owner_of(schema, id, role),
        title: Arc::clone(&def.name),
        permissions,
    }
}

/// The object that a role belongs to.
fn owner_of(schema: &Schema, id: RolesId, role: &RoleRef) -> Object {
    let block = schema.roles.get(usize::from(id.0));
    let kind = block.map_or("", |block| schema.names.type_name(block.owner));
    ObjectRef::known(kind, role.owner_id()).to_object()
}

impl Rules<'_> {
    /// Whether the actor may assign or unassign a role.
    pub(super) fn assignment_right(
        &self,
        judgements: &mut Judgements<'_>,
        touch: &Touch<'_>,
        (role, roles): (&RoleRef, RolesId),
        actor: &Subject,
    ) -> Result<(), Broken> {
        let schema = self.schema;
        let (rule, judged_on) = self.assignment_rule((role, roles), &touch.tuple.resource);
        let own_rule = self.builtin_rule(role, roles);
        let kind = schema.type_named(touch.tuple.resource.kind());
        let assigns = kind.and_then(|kind| schema.assigns(kind.id, roles));
        let Some(rule) = rule else {
            return Err(denied(touch, &judged_on, actor, None));
        };
        if is_own(touch, actor) && !schema.reach().roles_keep_out(roles) {
            return Ok(());
        }
        let when = self.when(&judged_on);
        self.asks(judgements, rule, touch, (&judged_on, actor))?;
        let resource = &touch.tuple.resource;
        if own_rule.is_some()
            && touch.act == Act::Grant
            && !self.counts(&judged_on, roles, resource)
        {
            // On what is not the owner's the role is without force. Whoever puts it there needs
            // what any other role needs, else every owner could write to all resources.
            let Some(rule) = assigns.and_then(|assigns| assigns.granted_by) else {
                return Err(denied(touch, resource, actor, None));
            };
            self.asks(judgements, rule, touch, (resource, actor))?;
        }
        let capped = own_rule.is_none() && assigns.is_some_and(|assigns| assigns.capped);
        if capped && touch.act == Act::Grant {
            let included = role_of(self.state, schema, role).map(|role| role.record);
            let included = included.map_or(Vec::new(), |record| record.permissions.clone());
            let given = (roles, &*included, Scope::Assigned);
            let lacking = self.lacking(judgements, given, &judged_on, when)?;
            if let Some(permission) = lacking {
                let needed = capped_by(&permission);
                return Err(denied(touch, &judged_on, actor, Some(needed)));
            }
        }
        Ok(())
    }

    /// By which rule a role is assigned on a resource, and where that is judged: what a built-in
    /// role says of itself replaces what is said where it is assigned.
    pub(super) fn assignment_rule(
        &self,
        (role, roles): (&RoleRef, RolesId),
        resource: &Object,
    ) -> (Option<MemberId>, Object) {
        if let Some(rule) = self.builtin_rule(role, roles) {
            return (Some(rule), owner_of(self.schema, roles, role));
        }
        let kind = self.schema.type_named(resource.kind());
        let assigns = kind.and_then(|kind| self.schema.assigns(kind.id, roles));
        let rule = assigns.and_then(|assigns| assigns.granted_by);
        (rule, resource.clone())
    }

    fn builtin_rule(&self, role: &RoleRef, roles: RolesId) -> Option<MemberId> {
        let block = self.schema.roles.get(usize::from(roles.0))?;
        builtin_of(block, role)?.granted_by
    }

    fn asks(
        &self,
        judgements: &mut Judgements<'_>,
        rule: MemberId,
        touch: &Touch<'_>,
        (on, actor): (&Object, &Subject),
    ) -> Result<(), Broken> {
        let when = self.when(on);
        match judgements.has(rule, on, when)? {
            true => Ok(()),
            false => {
                let needed = self.needed(rule, on, actor, self.state_of(when));
                Err(denied(touch, on, actor, Some(needed)))
            }
        }
    }

    /// Whether the roles of an owner count on a resource: it is the owner, or leads to it.
    fn counts(&self, owner: &Object, roles: RolesId, resource: &Object) -> bool {
        let facts = Facts::of(self.state_of(self.when(resource)));
        let (owner, resource) = ((roles, owner.as_ref()), resource.as_ref());
        facts.is_some_and(|facts| eval::roles_count(facts, owner, resource, self.now))
    }

    /// Whether the actor may make, edit or delete a role of this owner, and give it `added`.
    pub(crate) fn may_edit_role(
        &self,
        deed: &str,
        role: &RoleRef,
        roles: RolesId,
        added: &[Arc<str>],
    ) -> Result<(), Broken> {
        let Some(actor) = self.actor else {
            return Ok(());
        };
        let owner = owner_of(self.schema, roles, role);
        let refuse = |needed| {
            Err(Box::new(Violation::Denied(Denied {
                update: None,
                actor: actor.clone(),
                deed: deed.to_owned(),
                resource: owner.clone(),
                what: role.block().to_owned(),
                needed,
            })))
        };
        let block = self.schema.roles.get(usize::from(roles.0));
        let Some(rule) = block.and_then(|block| block.granted_by) else {
            return refuse(None);
        };
        let mut judgements = self.of(actor);
        if !judgements.has(rule, &owner, When::Before)? {
            return refuse(Some(self.needed(rule, &owner, actor, self.state)));
        }
        if block.is_some_and(|block| block.capped) {
            let given = (roles, added, Scope::Owned);
            let lacking = self.lacking(&mut judgements, given, &owner, When::Before)?;
            if let Some(permission) = lacking {
                return refuse(Some(capped_by(&permission)));
            }
        }
        Ok(())
    }

    /// The first of these permissions that the actor does not have on a resource: of a type below
    /// on an imagined resource that hangs there by the relations over which roles are inherited.
    fn lacking(
        &self,
        judgements: &mut Judgements<'_>,
        (roles, permissions, scope): (RolesId, &[Arc<str>], Scope),
        on: &Object,
        when: When,
    ) -> Result<Option<Arc<str>>, Broken> {
        let below = self.imagined_below(roles, on);
        let imagined = OnceCell::new();
        for name in permissions {
            let Some(member) = self.schema.includable_named(roles, name) else {
                continue;
            };
            let kind = self
                .schema
                .names
                .type_name(self.schema.member(member).owner);
            let here = kind == on.kind();
            let is_below = below.iter().any(|tuple| tuple.resource.kind() == kind);
            let mut has = here || is_below || scope == Scope::Assigned;
            if here {
                has = judgements.has(member, on, when)?;
            }
            if has && is_below {
                let state = imagined.get_or_init(|| {
                    let tuples = below.iter().map(|tuple| (tuple, true));
                    self.state_of(when).with_tuples(tuples)
                });
                let resource = ObjectRef::known(kind, IMAGINED).to_object();
                has = self.judge(state, member, &resource, judgements.subject)?;
            }
            if !has {
                return Ok(Some(Arc::clone(name)));
            }
        }
        Ok(None)
    }

    /// The tuples by which one imagined resource of each type below hangs under `on`; below it may
    /// be its own type too.
    fn imagined_below(&self, roles: RolesId, on: &Object) -> Vec<Tuple> {
        let schema = self.schema;
        let Some(top) = schema.type_named(on.kind()) else {
            return Vec::new();
        };
        let mut level: Vec<TypeId> = vec![top.id];
        let mut reached: Vec<TypeId> = Vec::new();
        let mut tuples = Vec::new();
        while !level.is_empty() {
            let mut next = Vec::new();
            for kind in schema
                .types
                .iter()
                .filter(|kind| !reached.contains(&kind.id))
            {
                let assigns = schema.assigns(kind.id, roles);
                for via in assigns.iter().flat_map(|assigns| &assigns.inherits) {
                    for parent in level.iter().filter(|parent| leads(schema, *via, **parent)) {
                        let parent = match *parent == top.id {
                            true => SubjectRef::known(on.kind(), on.id(), None),
                            false => {
                                SubjectRef::known(schema.names.type_name(*parent), IMAGINED, None)
                            }
                        };
                        let child = ObjectRef::known(&kind.name, IMAGINED);
                        let relation = &schema.member(*via).name;
                        tuples.extend(Tuple::new(child, relation, parent).ok());
                        if !next.contains(&kind.id) {
                            next.push(kind.id);
                        }
                    }
                }
            }
            reached.extend(&next);
            level = next;
        }
        tuples
    }
}

/// What a role's permissions are judged for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// An edit: it may be assigned anywhere.
    Owned,
    /// An assignment, which reaches what is below.
    Assigned,
}

fn leads(schema: &Schema, via: MemberId, kind: TypeId) -> bool {
    let relation = schema.member(via).relation();
    let subjects = relation.map_or(&[][..], |relation| &relation.subjects);
    subjects
        .iter()
        .any(|subject| subject.kind == kind && subject.form != SubjectForm::Wildcard)
}

fn capped_by(permission: &str) -> Needed {
    Needed {
        rule: "capped".to_owned(),
        expression: permission.to_owned(),
        through: None,
        holders: Vec::new(),
    }
}
