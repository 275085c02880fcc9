//! Requests of imports and exports.

use std::sync::Arc;

use tonic::Status;

use super::{Malformed, Problem, consistency, each, filters, optional_subject, tuple_by, values};
use crate::api::proto;
use crate::revision::Consistency;
use crate::state::{HeldLock, RoleRecord};
use crate::tuple::{SharedNames, Tuple, TupleFilter, is_id};

/// One message of an import, as far as it could be understood.
#[derive(Debug, Default)]
pub struct Piece {
    /// What only the first message has.
    pub first: Option<First>,
    /// Its tuples, up to one that is at fault.
    pub tuples: Vec<Tuple>,
    /// Why the stream ends behind them, where it does.
    pub end: Option<Stop>,
}

/// Why a stream ends before its sender ends it.
#[derive(Debug)]
pub enum Stop {
    /// A message could not be understood.
    Malformed(Malformed),
    /// No message came.
    Broken(Box<Status>),
}

/// What an import begins with.
#[derive(Debug, Default)]
pub struct First {
    /// The schema's text.
    pub schema: Option<Arc<str>>,
    /// Roles, as an export has them.
    pub roles: Vec<RoleRecord>,
    /// Locks, as an export has them.
    pub locks: Vec<HeldLock>,
}

impl Piece {
    /// The stream broke.
    pub(crate) fn broken(status: Status) -> Self {
        Self {
            end: Some(Stop::Broken(Box::new(status))),
            ..Self::default()
        }
    }
}

/// One message of an import.
pub fn piece(from: proto::ImportRequest, is_first: bool) -> Piece {
    let proto::ImportRequest {
        tuples,
        schema,
        roles,
        locks,
    } = from;
    let mut piece = Piece::default();
    match first(schema, roles, locks, is_first) {
        Ok(first) => piece.first = first,
        Err(malformed) => {
            piece.end = Some(Stop::Malformed(malformed));
            return piece;
        }
    }
    piece.tuples.reserve_exact(tuples.len());
    // Kept for one message only: names that two threads count references to at a time cost more
    // than copies.
    let mut names = SharedNames::default();
    for (place, from) in tuples.into_iter().enumerate() {
        let tuple = tuple_by(from, |resource, relation, subject| {
            Tuple::with_names(resource, relation, subject, &mut names)
        });
        match tuple {
            Ok(tuple) => piece.tuples.push(tuple),
            Err(malformed) => {
                let malformed = malformed.within(format_args!("tuples[{place}]"));
                piece.end = Some(Stop::Malformed(malformed));
                break;
            }
        }
    }
    piece
}

fn first(
    schema: String,
    roles: Vec<proto::Role>,
    locks: Vec<proto::HeldLock>,
    is_first: bool,
) -> Result<Option<First>, Malformed> {
    let given = [
        ("schema", !schema.is_empty()),
        ("roles", !roles.is_empty()),
        ("locks", !locks.is_empty()),
    ];
    let late = given.iter().find(|(_, given)| *given && !is_first);
    if let Some((field, _)) = late {
        let problem = Problem::Invalid("belongs into the first message of the stream");
        return Err(Malformed::at(field, problem));
    }
    if !is_first {
        return Ok(None);
    }
    Ok(Some(First {
        schema: (!schema.is_empty()).then(|| schema.into()),
        roles: each("roles", roles, role)?,
        locks: each("locks", locks, held_lock)?,
    }))
}

/// A role as an export has it.
fn role(from: proto::Role) -> Result<RoleRecord, Malformed> {
    let proto::Role {
        role,
        owner,
        title,
        permissions,
        // The schema says which are.
        builtin: _,
    } = from;
    let malformed =
        |field: &'static str| move |problem| Malformed::at(field, Problem::Reference(problem));
    let mut permissions: Vec<Arc<str>> = permissions.into_iter().map(Into::into).collect();
    permissions.sort();
    permissions.dedup();
    Ok(RoleRecord {
        role: role.parse().map_err(malformed("role"))?,
        owner: owner.parse().map_err(malformed("owner"))?,
        title: title.into(),
        permissions,
    })
}

/// A lock as an export has it; its fencing token is made anew.
fn held_lock(from: proto::HeldLock) -> Result<HeldLock, Malformed> {
    let proto::HeldLock {
        lock_id,
        resource,
        mode,
        exempt,
        actor,
        reason,
        created_at,
        expires_at,
        fencing_token,
    } = from;
    let malformed =
        |field: &'static str| move |problem| Malformed::at(field, Problem::Reference(problem));
    if !is_id(&lock_id) {
        return Err(Malformed::at(
            "lock_id",
            Problem::Invalid("is no id of a lock"),
        ));
    }
    let mut exempt = each("exempt", exempt, |text| {
        text.parse()
            .map_err(|problem| Malformed::here(Problem::Reference(problem)))
    })?;
    exempt.sort();
    exempt.dedup();
    let time = |field: &'static str, from: Option<_>| {
        let read = from.map(values::timestamp).transpose();
        read.map_err(|malformed| malformed.within(field))
    };
    Ok(HeldLock {
        id: lock_id.into(),
        resource: resource.parse().map_err(malformed("resource"))?,
        mode: mode.into(),
        exempt,
        actor: optional_subject("actor", &actor)?,
        reason: reason.into(),
        created_at: time("created_at", created_at)?.unwrap_or_default(),
        expires_at: time("expires_at", expires_at)?,
        fencing_token,
    })
}

/// What to export.
#[derive(Debug)]
pub struct ExportWanted {
    /// Which tuples.
    pub filter: TupleFilter,
    /// Of which state.
    pub at: Consistency,
}

/// What to export.
///
/// # Errors
/// Which field is malformed.
pub fn export(from: proto::ExportRequest) -> Result<ExportWanted, Malformed> {
    let proto::ExportRequest {
        filter,
        consistency: at,
    } = from;
    let filter = filters::filter(filter.unwrap_or_default());
    Ok(ExportWanted {
        filter: filter.map_err(|malformed| malformed.within("filter"))?,
        at: consistency(at)?,
    })
}
