//! Locks: who may place and lift them, what they seal, and that nobody gets round one.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::schema::{LockDef, MemberId, Schema};
use crate::state::{HeldLock, State};
use crate::time::Timestamp;
use crate::tuple::{Object, ObjectRef, Subject, Tuple};

use super::violation::{Denied, Sealed};
use super::{Broken, Rules, Violation, When};

/// The lock of this name of a type.
pub(crate) fn lock_def<'s>(schema: &'s Schema, kind: &str, mode: &str) -> Option<&'s LockDef> {
    let locks = &schema.type_named(kind)?.locks;
    locks.iter().find(|lock| *lock.name == *mode)
}

/// All locks that are held on a resource, whatever their mode: where it sits itself, and with
/// `inherited` from wherever it leads; sorted by their ids.
pub(crate) fn all_held_on(
    state: &State,
    schema: &Schema,
    resource: &Object,
    inherited: bool,
    now: Timestamp,
) -> Vec<Arc<HeldLock>> {
    let modes = schema.type_named(resource.kind());
    let mut locks: Vec<Arc<HeldLock>> = match inherited {
        true => (modes.iter().flat_map(|kind| &kind.locks))
            .flat_map(|mode| held_on(state, schema, resource, &mode.name, now))
            .collect(),
        false => (state.locks_on(resource.as_ref()))
            .filter(|lock| lock.is_held(now))
            .cloned()
            .collect(),
    };
    locks.sort_by(|a, b| a.id.cmp(&b.id));
    locks
}

/// The locks of a mode that are held on a resource, over any number of levels; a cycle of parents
/// hides none.
fn held_on(
    state: &State,
    schema: &Schema,
    resource: &Object,
    mode: &str,
    now: Timestamp,
) -> Vec<Arc<HeldLock>> {
    let mut held = Vec::new();
    if !state.locks.has_mode(mode) {
        return held;
    }
    let mut seen: HashSet<Object> = HashSet::from([resource.clone()]);
    let mut open = VecDeque::from([resource.clone()]);
    while let Some(object) = open.pop_front() {
        let Some(def) = lock_def(schema, object.kind(), mode) else {
            continue;
        };
        let here = state.locks_on(object.as_ref());
        held.extend(
            here.filter(|lock| *lock.mode == *mode && lock.is_held(now))
                .cloned(),
        );
        for via in &def.inherits {
            for parent in behind(state, schema, object.as_ref(), *via) {
                if seen.insert(parent.clone()) {
                    open.push_back(parent);
                }
            }
        }
    }
    held
}

/// The objects to which a relation leads.
pub(super) fn behind(
    state: &State,
    schema: &Schema,
    object: ObjectRef<'_>,
    via: MemberId,
) -> Vec<Object> {
    let relation = schema.member(via).rel;
    let index = &state.index;
    let kind = schema.type_named(object.kind()).map(|kind| kind.id);
    let node = kind.and_then(|kind| index.node(kind, object.id()));
    let groups = node
        .into_iter()
        .flat_map(|node| index.subject_groups(node, relation));
    let objects = groups.flat_map(|group| {
        let kind = index.names().type_name(group.kind);
        let edges = group.iter();
        edges.map(move |edge| ObjectRef::known(kind, index.id_of(edge.node)).to_object())
    });
    objects.collect()
}

impl<'a> Rules<'a> {
    /// Whether the actor may place, lift or renew a lock of this mode there.
    pub(crate) fn may_lock(
        &self,
        deed: &str,
        resource: &Object,
        mode: &str,
        def: &LockDef,
    ) -> Result<(), Broken> {
        let Some(actor) = self.actor else {
            return Ok(());
        };
        if self.lifts(def, resource, actor)? {
            return Ok(());
        }
        let needed = def.granted_by;
        Err(Box::new(Violation::Denied(Denied {
            update: None,
            actor: actor.clone(),
            deed: deed.to_owned(),
            resource: resource.clone(),
            what: mode.to_owned(),
            needed: needed.map(|rule| self.needed(rule, resource, actor, self.state)),
        })))
    }

    fn lifts(&self, def: &LockDef, resource: &Object, actor: &'a Subject) -> Result<bool, Broken> {
        match def.granted_by {
            Some(rule) => self.has_free(rule, resource, actor.as_ref(), When::Before),
            None => Ok(false),
        }
    }

    /// Judges every resource that is written, before and after the commit, and every tuple by
    /// which a lock arrives. `edited` are resources whose roles are written.
    pub(crate) fn seals(&self, edited: &[Object]) -> Result<(), Broken> {
        if self.state.locks.is_empty() {
            return Ok(());
        }
        let touched = self.touches.iter().map(|touch| &touch.tuple.resource);
        let moving = self.moving();
        let mut seen = HashSet::new();
        for resource in touched.chain(edited) {
            if seen.insert(resource) {
                self.sealed(resource, &moving)?;
            }
        }
        self.ways_round()
    }

    fn sealed(&self, resource: &Object, moving: &HashSet<&str>) -> Result<(), Broken> {
        let kind = self.schema.type_named(resource.kind());
        for def in kind
            .iter()
            .flat_map(|kind| &kind.locks)
            .filter(|def| def.seals)
        {
            if !self.state.locks.has_mode(&def.name) {
                continue;
            }
            let held = |state| held_on(state, self.schema, resource, &def.name, self.now);
            let before = held(self.state);
            for lock in &before {
                self.passes(def, lock, resource, When::Before)?;
            }
            if !moving.contains(&*def.name) {
                continue;
            }
            // A write that brings the resource under a lock is under it already.
            let known: HashSet<&Arc<str>> = before.iter().map(|lock| &lock.id).collect();
            for lock in held(self.after()) {
                if !known.contains(&lock.id) {
                    self.passes(def, &lock, resource, When::After)?;
                }
            }
        }
        Ok(())
    }

    /// The modes whose locks arrive over anything that is written: of all others the same are held
    /// after the write as before it.
    fn moving(&self) -> HashSet<&'a str> {
        let mut modes = HashSet::new();
        for touch in self.touches {
            let Some(member) = touch.member() else {
                continue;
            };
            let kind = self.schema.type_named(touch.tuple.resource.kind());
            let locks = kind.into_iter().flat_map(|kind| &kind.locks);
            let arriving = locks.filter(|def| def.inherits.contains(&member));
            modes.extend(arriving.map(|def| &*def.name));
        }
        modes
    }

    fn passes(
        &self,
        def: &LockDef,
        lock: &Arc<HeldLock>,
        resource: &Object,
        when: When,
    ) -> Result<(), Broken> {
        let passes = match (self.actor, def.except) {
            (Some(actor), _) if self.is_exempt(lock, actor, when)? => true,
            (Some(actor), Some(except)) => self.has_free(except, resource, actor.as_ref(), when)?,
            _ => false,
        };
        match passes {
            true => Ok(()),
            false => Err(Box::new(Violation::Sealed(Box::new(Sealed {
                resource: resource.to_string(),
                lock: Arc::clone(lock),
                way_round: None,
                no_actor: self.actor.is_none(),
                needed: def.except.map(|except| self.schema.text_of(except)),
            })))),
        }
    }

    /// Whether a lock names an actor, or a set that it is in, as not touched by it.
    fn is_exempt(&self, lock: &HeldLock, actor: &'a Subject, when: When) -> Result<bool, Broken> {
        for exempt in &lock.exempt {
            let same_type = exempt.kind() == actor.kind();
            if exempt == actor || (same_type && exempt.as_ref().is_wildcard()) {
                return Ok(true);
            }
            let set = self.set_of(exempt);
            if let Some((member, object)) = set
                && self.has_free(member, &object, actor.as_ref(), when)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn set_of(&self, subject: &Subject) -> Option<(MemberId, Object)> {
        let relation = self.schema.names.rel_id(subject.relation()?)?;
        let kind = self.schema.type_named(subject.kind())?;
        let member = self.schema.member_id(kind.id, relation)?;
        Some((
            member,
            ObjectRef::known(subject.kind(), subject.id()).to_object(),
        ))
    }

    /// A lock that arrives over a tuple would be lifted by taking the tuple away.
    fn ways_round(&self) -> Result<(), Broken> {
        let Some(actor) = self.actor else {
            return Ok(());
        };
        for touch in self.touches {
            let Some(member) = touch.member() else {
                continue;
            };
            let replaced = || {
                self.state
                    .find(touch.tuple)
                    .is_some_and(|old| old != *touch.tuple)
            };
            let stands = || self.state.find(touch.tuple).is_some();
            let kind = self.schema.type_named(touch.tuple.resource.kind());
            for def in kind.iter().flat_map(|kind| &kind.locks) {
                let goes = def.inherits.contains(&member)
                    && match touch.act {
                        super::Act::Revoke => stands(),
                        super::Act::Grant => replaced(),
                    };
                if goes {
                    self.way_round(touch.tuple, &def.name, actor)?;
                }
            }
        }
        Ok(())
    }

    fn way_round(&self, tuple: &Tuple, mode: &str, actor: &'a Subject) -> Result<(), Broken> {
        let parent = ObjectRef::known(tuple.subject.kind(), tuple.subject.id()).to_object();
        for lock in held_on(self.state, self.schema, &parent, mode, self.now) {
            let def = lock_def(self.schema, lock.resource.kind(), mode);
            let lifts = match def {
                Some(def) => self.lifts(def, &lock.resource, actor)?,
                None => false,
            };
            if !lifts {
                let rule = def.and_then(|def| def.granted_by);
                return Err(Box::new(Violation::Sealed(Box::new(Sealed {
                    resource: tuple.resource.to_string(),
                    lock,
                    way_round: Some(tuple.name()),
                    no_actor: false,
                    needed: rule.map(|rule| self.schema.text_of(rule)),
                }))));
            }
        }
        Ok(())
    }
}
