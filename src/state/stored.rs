//! Tuples as the index holds them, and back: the one place of the state that knows its edits.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{ApplyError, Change, Commit, HeldLock, State};
use crate::index::{Edit, Index, Op, Restriction, ScanPosition, SiteRef, Stored, generated};
use crate::revision::Revision;
use crate::schema::{CaveatId, Names, RelId, Schema, SubjectType};
use crate::time::Timestamp;
use crate::tuple::{RoleRef, Tuple, TupleFilter};

impl State {
    /// What is stored under the tuple's name, its time over or not.
    pub fn find(&self, tuple: &Tuple) -> Option<Tuple> {
        let site = site_of(tuple);
        let edit = edit_of(tuple, site.as_deref(), Op::Remove, &self.names)?;
        let resource = self.index.node(edit.resource.0, edit.resource.1)?;
        let subject = self.index.node(edit.subject.0, edit.subject.1)?;
        let found = self
            .index
            .find(resource, edit.relation, subject, edit.subject_relation)?;
        let restriction = found.restriction;
        let caveat = restriction.and_then(|restriction| restriction.caveat.as_ref());
        Some(Tuple {
            caveat: caveat.map(|(id, context)| crate::tuple::CaveatRef {
                name: self.names.caveat_name(*id).into(),
                context: Arc::clone(context),
            }),
            expires_at: restriction.and_then(|restriction| restriction.expires_at),
            ..tuple.clone()
        })
    }

    /// The stored tuples that match, those whose time is over included.
    pub fn select<'a>(&'a self, filter: &'a TupleFilter) -> impl Iterator<Item = Tuple> + 'a {
        self.rows(filter, None).map(|stored| stored.to_tuple())
    }

    /// The same as rows that know their place and revision, behind `after`.
    pub fn rows<'a>(
        &'a self,
        filter: &'a TupleFilter,
        after: Option<&ScanPosition>,
    ) -> impl Iterator<Item = Stored<'a>> + 'a {
        self.index.scan(filter, after)
    }

    /// Those of them whose time is not over at `now`.
    pub fn live_rows<'a>(
        &'a self,
        filter: &'a TupleFilter,
        after: Option<&ScanPosition>,
        now: Timestamp,
    ) -> impl Iterator<Item = Stored<'a>> + 'a {
        self.rows(filter, after).filter(move |stored| {
            let end = stored.restriction().and_then(|r| r.expires_at);
            end.is_none_or(|end| now < end)
        })
    }

    /// At most `limit` of the tuples whose time is over at `now`, the earliest first.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<Tuple> {
        self.index.due(now, limit)
    }

    /// How many tuples are stored, those whose time is over included.
    pub fn tuple_count(&self) -> u64 {
        self.index.tuple_count()
    }

    /// Filters that select all that `new` does not take, and perhaps more.
    pub(crate) fn unfit_filters(&self, new: &Schema) -> Vec<TupleFilter> {
        let mut filters: Vec<TupleFilter> = Vec::new();
        for (shape, _) in self.index.shapes() {
            let wanted = SubjectType {
                kind: shape.subject,
                form: shape.form,
                caveat: shape.caveat,
                expiration: shape.expiration,
            };
            let member = new.member_id(shape.resource, shape.relation);
            let relation = member.and_then(|member| new.member(member).relation());
            let taken = relation.is_some_and(|relation| relation.subjects.contains(&wanted));
            let assigned = new.takes_assignment(shape.resource, shape.relation, &wanted);
            if (taken || assigned) && !self.redeclares(shape.caveat, new) {
                continue;
            }
            let filter = TupleFilter {
                resource_type: Some(self.names.type_name(shape.resource).into()),
                relation: Some(self.names.rel_name(shape.relation).into()),
                ..TupleFilter::default()
            };
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        filters
    }

    /// Whether `new` declares the caveat with other parameters, so that stored contexts may no
    /// longer fit.
    fn redeclares(&self, caveat: Option<CaveatId>, new: &Schema) -> bool {
        let declared = |schema: &Schema| {
            let def = caveat.and_then(|id| schema.caveat(id))?;
            Some(def.parameters.clone())
        };
        declared(new) != self.schema.as_deref().and_then(declared)
    }

    /// The same contents, with what has piled up merged: for replays, where nobody waits.
    #[must_use]
    pub fn merged_where_due(mut self) -> Self {
        while let Some(segment) = self.index.wants_merge() {
            self.index = self.index.install(self.index.merge_segment(segment));
        }
        self
    }

    /// Gives whomever a lock exempts a node: such a subject may have what nobody else has, and no
    /// tuple may name it.
    pub(super) fn name_exempt(&mut self, lock: &HeldLock) {
        let named = lock
            .exempt
            .iter()
            .filter(|exempt| !exempt.as_ref().is_wildcard());
        let mut named = named
            .filter_map(|exempt| Some((self.names.type_id(exempt.kind())?, exempt.id())))
            .filter(|(kind, id)| self.index.node(*kind, id).is_none())
            .peekable();
        if named.peek().is_some() {
            self.index = self.index.with_nodes(named);
        }
    }

    pub(super) fn apply_tuples(&mut self, commit: &Commit) -> Result<(), ApplyError> {
        let changes = commit.changes.iter();
        let writes = changes.filter_map(|change| {
            let granted = matches!(change, Change::Granted(_));
            Some((tuple_of(change)?, granted))
        });
        let index = written(&self.index, writes, commit.revision);
        self.index = index.map_err(|tuple| ApplyError::Tuple {
            revision: commit.revision,
            tuple: tuple.to_string(),
        })?;
        Ok(())
    }
}

/// The index after granting (`true`) or taking away tuples; an error is one of which some name was
/// never known.
pub(super) fn written<'t>(
    index: &Index,
    writes: impl Iterator<Item = (&'t Tuple, bool)>,
    revision: Revision,
) -> Result<Index, &'t Tuple> {
    let names = index.names();
    let writes: Vec<(&Tuple, bool, Option<String>)> = writes
        .map(|(tuple, granted)| (tuple, granted, site_of(tuple)))
        .collect();
    if writes.is_empty() {
        return Ok(index.clone());
    }
    let edits = writes.iter().map(|(tuple, granted, site)| {
        let op = match granted {
            true => put(tuple, names),
            false => Some(Op::Remove),
        };
        let edit = op.and_then(|op| edit_of(tuple, site.as_deref(), op, names));
        edit.ok_or(*tuple)
    });
    let edits: Vec<Edit<'_>> = edits.collect::<Result<_, _>>()?;
    Ok(index.apply(&edits, revision))
}

fn tuple_of(change: &Change) -> Option<&Tuple> {
    match change {
        Change::Granted(tuple) | Change::Revoked(tuple) | Change::Expired(tuple) => Some(tuple),
        Change::Schema(_)
        | Change::Locked(_)
        | Change::Unlocked(_)
        | Change::LockExpired(_)
        | Change::RoleWritten(_)
        | Change::RoleDeleted(_) => None,
    }
}

/// An index with one tuple more or less, assignments included: what would be. `None` where a
/// name of the tuple was never known.
pub(crate) fn imagined(index: &Index, tuple: &Tuple, granted: bool) -> Option<Index> {
    let names = index.names();
    let op = match granted {
        true => put(tuple, names)?,
        false => Op::Remove,
    };
    let site = site_of(tuple);
    let edit = edit_of(tuple, site.as_deref(), op, names)?;
    Some(index.apply(&[edit], crate::revision::Revision::default()))
}

/// An index in which the tuple's relation has the tuple alone on its resource. `None` where a name
/// or an object was never known.
pub(super) fn with_only(index: &Index, tuple: &Tuple) -> Option<Index> {
    let names = index.names();
    index.with_only(&edit_of(tuple, None, put(tuple, names)?, names)?)
}

/// The id of the site that an assignment is kept under; `None` for other tuples.
fn site_of(tuple: &Tuple) -> Option<String> {
    let role = RoleRef::of_relation(&tuple.relation)?;
    let site = SiteRef {
        role: role.as_str(),
        resource: tuple.resource.as_ref(),
    };
    Some(site.id())
}

/// `None` where some name was never known.
fn edit_of<'a>(tuple: &'a Tuple, site: Option<&'a str>, op: Op, names: &Names) -> Option<Edit<'a>> {
    let resource = (names.type_id(tuple.resource.kind())?, tuple.resource.id());
    let (resource, relation) = match (site, tuple.relation.split_once('=')) {
        (Some(site), Some((block, _))) => {
            let name = generated(block);
            ((names.type_id(&name)?, site), names.rel_id(&name)?)
        }
        _ => (resource, names.rel_id(&tuple.relation)?),
    };
    Some(Edit {
        resource,
        relation,
        subject: (names.type_id(tuple.subject.kind())?, tuple.subject.id()),
        subject_relation: match tuple.subject.relation() {
            None => RelId::NONE,
            Some(name) => names.rel_id(name)?,
        },
        op,
    })
}

fn put(tuple: &Tuple, names: &Names) -> Option<Op> {
    if tuple.caveat.is_none() && tuple.expires_at.is_none() {
        return Some(Op::Put(None));
    }
    let caveat = match &tuple.caveat {
        None => None,
        Some(caveat) => Some((names.caveat_id(&caveat.name)?, Arc::clone(&caveat.context))),
    };
    Some(Op::Put(Some(Arc::new(Restriction {
        caveat,
        expires_at: tuple.expires_at,
        ..Restriction::default()
    }))))
}

pub(super) fn write_index(index: Index, out: &mut dyn Write) -> io::Result<()> {
    index.write_to(out)
}

pub(super) fn read_index(input: &mut dyn Read, names: &Arc<Names>) -> io::Result<Index> {
    Ok(Index::read_from(input)?.with_names(Arc::clone(names)))
}
