//! Locks: who may place and lift them, what they seal, and that nobody gets round one.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::eval::{self, Facts};
use crate::schema::{LockDef, MemberId, Schema};
use crate::state::{HeldLock, State};
use crate::time::Timestamp;
use crate::tuple::{Object, ObjectRef, Subject, Tuple};

use super::violation::{Denied, Sealed};
use super::{Act, Broken, Judgements, Rules, Touch, Violation, When};

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
            .flat_map(|mode| held_on(state, resource.as_ref(), &mode.name, now))
            .cloned()
            .collect(),
        false => (state.locks_on(resource.as_ref()))
            .filter(|lock| lock.is_held(now))
            .cloned()
            .collect(),
    };
    locks.sort_by(|a, b| a.id.cmp(&b.id));
    locks
}

/// The locks of a mode that are held on a resource, over any number of levels.
fn held_on<'s>(
    state: &'s State,
    resource: ObjectRef<'s>,
    mode: &str,
    now: Timestamp,
) -> Vec<&'s Arc<HeldLock>> {
    let facts = Facts::of(state);
    facts.map_or_else(Vec::new, |facts| eval::held_on(facts, resource, mode, now))
}

impl Rules<'_> {
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
        if lifts(&mut self.of(actor), def, resource)? {
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

    /// Judges every resource that is written, before and after the commit, and every tuple by
    /// which a lock arrives. `edited` are resources whose roles are written.
    pub(crate) fn seals(&self, edited: &[Object]) -> Result<(), Broken> {
        if self.state.locks.is_empty() {
            return Ok(());
        }
        let touched = self.touches.iter().map(|touch| &touch.tuple.resource);
        let moving = self.moving();
        let mut judgements = self.actor.map(|actor| self.of(actor));
        let mut seen = HashSet::new();
        for resource in touched.chain(edited) {
            if seen.insert(resource) {
                self.sealed(&mut judgements, resource, &moving)?;
            }
        }
        match judgements {
            Some(mut judgements) => self.ways_round(&mut judgements),
            None => Ok(()),
        }
    }

    fn sealed(
        &self,
        judgements: &mut Option<Judgements<'_>>,
        resource: &Object,
        moving: &HashSet<&str>,
    ) -> Result<(), Broken> {
        let kind = self.schema.type_named(resource.kind());
        for def in kind
            .iter()
            .flat_map(|kind| &kind.locks)
            .filter(|def| def.seals)
        {
            if !self.state.locks.has_mode(&def.name) {
                continue;
            }
            let held = |state| held_on(state, resource.as_ref(), &def.name, self.now);
            let before = held(self.state);
            for lock in &before {
                self.passes(judgements, def, lock, (resource, When::Before))?;
            }
            if !moving.contains(&*def.name) {
                continue;
            }
            // A write that brings the resource under a lock is under it already.
            for lock in held(self.after()) {
                if !before.iter().any(|known| known.id == lock.id) {
                    self.passes(judgements, def, lock, (resource, When::After))?;
                }
            }
        }
        Ok(())
    }

    /// The modes of which the write brings locks where they were not: a way to a lock that it makes
    /// goes over a parent that it gives, and from the last of these on over what stood before. Of
    /// all other modes no more are held after the write than before it.
    fn moving(&self) -> HashSet<&str> {
        let mut modes = HashSet::new();
        let mut seen = HashSet::new();
        for touch in self.touches.iter().filter(|touch| touch.act == Act::Grant) {
            let Some(member) = touch.member() else {
                continue;
            };
            let Tuple {
                resource, subject, ..
            } = touch.tuple;
            let kind = self.schema.type_named(resource.kind());
            let locks = kind.into_iter().flat_map(|kind| &kind.locks);
            for def in locks.filter(|def| def.inherits.contains(&member)) {
                let mode = &*def.name;
                let parent = ObjectRef::known(subject.kind(), subject.id());
                if !modes.contains(mode)
                    && seen.insert((mode, parent))
                    && !held_on(self.state, parent, mode, self.now).is_empty()
                {
                    modes.insert(mode);
                }
            }
        }
        modes
    }

    fn passes(
        &self,
        judgements: &mut Option<Judgements<'_>>,
        def: &LockDef,
        lock: &Arc<HeldLock>,
        (resource, when): (&Object, When),
    ) -> Result<(), Broken> {
        let passes = match (judgements, def.except) {
            (None, _) => false,
            (Some(actor), None) => self.is_exempt(actor, lock, when)?,
            (Some(actor), Some(except)) => {
                self.is_exempt(actor, lock, when)? || actor.has_free(except, resource, when)?
            }
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
    fn is_exempt(
        &self,
        judgements: &mut Judgements<'_>,
        lock: &HeldLock,
        when: When,
    ) -> Result<bool, Broken> {
        let actor = judgements.subject;
        for exempt in &lock.exempt {
            let same_type = exempt.kind() == actor.kind();
            if exempt.as_ref() == actor || (same_type && exempt.as_ref().is_wildcard()) {
                return Ok(true);
            }
            if let Some((member, object)) = self.set_of(exempt)
                && judgements.has_free(member, &object, when)?
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
    fn ways_round(&self, judgements: &mut Judgements<'_>) -> Result<(), Broken> {
        for touch in self.touches {
            let Some(member) = touch.member() else {
                continue;
            };
            let kind = self.schema.type_named(touch.tuple.resource.kind());
            let arriving = kind.iter().flat_map(|kind| &kind.locks);
            let arriving = arriving.filter(|def| def.inherits.contains(&member));
            let mut arriving = arriving
                .filter(|def| self.state.locks.has_mode(&def.name))
                .peekable();
            if arriving.peek().is_none() || !self.takes_away(touch) {
                continue;
            }
            for def in arriving {
                self.way_round(judgements, touch.tuple, &def.name)?;
            }
        }
        Ok(())
    }

    /// Whether a tuple that stands is revoked, or replaced by another.
    fn takes_away(&self, touch: &Touch<'_>) -> bool {
        let stored = self.state.find(touch.tuple);
        match touch.act {
            Act::Revoke => stored.is_some(),
            Act::Grant => stored.is_some_and(|old| old != *touch.tuple),
        }
    }

    fn way_round(
        &self,
        judgements: &mut Judgements<'_>,
        tuple: &Tuple,
        mode: &str,
    ) -> Result<(), Broken> {
        let parent = ObjectRef::known(tuple.subject.kind(), tuple.subject.id());
        for lock in held_on(self.state, parent, mode, self.now) {
            let def = lock_def(self.schema, lock.resource.kind(), mode);
            let lifted = match def {
                Some(def) => lifts(judgements, def, &lock.resource)?,
                None => false,
            };
            if !lifted {
                let rule = def.and_then(|def| def.granted_by);
                return Err(Box::new(Violation::Sealed(Box::new(Sealed {
                    resource: tuple.resource.to_string(),
                    lock: Arc::clone(lock),
                    way_round: Some(tuple.name()),
                    no_actor: false,
                    needed: rule.map(|rule| self.schema.text_of(rule)),
                }))));
            }
        }
        Ok(())
    }
}

/// Whether a subject may lift locks of a mode that sit on a resource.
fn lifts(
    judgements: &mut Judgements<'_>,
    def: &LockDef,
    resource: &Object,
) -> Result<bool, Broken> {
    match def.granted_by {
        Some(rule) => judgements.has_free(rule, resource, When::Before),
        None => Ok(false),
    }
}
