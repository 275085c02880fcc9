//! What kinds of tuples there are, counted as they come and go, and which sites each role has: so
//! that neither a new schema nor the end of a role has to read what is stored.

use imbl::{OrdMap, OrdSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::schema::{CaveatId, Names, RelId, SubjectForm, TypeId};

use super::segment::Base;
use super::site::{SiteRef, has_sites, is_site};
use super::{Index, NodeId, Restriction};

/// What some tuples have in common, as far as a schema decides whether they fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shape {
    /// The type of the resources.
    pub resource: TypeId,
    /// The relation; `role=` for all assignments of a `roles` block.
    pub relation: RelId,
    /// The type of the subjects.
    pub subject: TypeId,
    /// What of that type.
    pub form: SubjectForm,
    /// The caveat that they carry.
    pub caveat: Option<CaveatId>,
    /// Whether they carry an expiry.
    pub expiration: bool,
}

/// How many tuples there are of each shape. There are as many shapes as schemas have had
/// alternatives, however many tuples.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes(OrdMap<Shape, u64>);

/// The sites that have a subject, by a hash of their role's reference.
#[derive(Clone, Debug, Default)]
pub(super) struct Sites(OrdSet<(u64, NodeId)>);

impl Shape {
    /// The shape of tuples with this restriction.
    pub(super) fn under(self, restriction: Option<&Restriction>) -> Self {
        let caveat = restriction.and_then(|restriction| restriction.caveat.as_ref());
        Self {
            caveat: caveat.map(|(caveat, _)| *caveat),
            expiration: restriction.is_some_and(|r| r.expires_at.is_some()),
            ..self
        }
    }

    /// Of tuples without one. The resource is named as edits name it: assignments by their site.
    pub(super) fn plain(
        names: &Names,
        resource: (TypeId, &str),
        relation: RelId,
        subject: (TypeId, &str),
        set: RelId,
    ) -> Self {
        let site = is_site(names, resource.0).then(|| SiteRef::parse(resource.1));
        let site = site.flatten();
        let sited = site.and_then(|site| names.type_id(site.resource.kind()));
        Self {
            resource: sited.unwrap_or(resource.0),
            relation,
            subject: subject.0,
            form: match (set, subject.1) {
                (RelId::NONE, "*") => SubjectForm::Wildcard,
                (RelId::NONE, _) => SubjectForm::Object,
                (set, _) => SubjectForm::Set(set),
            },
            caveat: None,
            expiration: false,
        }
    }
}

impl Shapes {
    pub fn add(&mut self, shape: Shape) {
        *self.0.entry(shape).or_insert(0) += 1;
    }

    pub fn take(&mut self, shape: &Shape) {
        let left = self.0.get(shape).map_or(0, |count| count - 1);
        match left {
            0 => self.0.remove(shape),
            _ => self.0.insert(*shape, left),
        };
    }

    pub fn iter(&self) -> impl Iterator<Item = (Shape, u64)> {
        self.0.iter().map(|(shape, count)| (*shape, *count))
    }

    pub fn of(counted: impl Iterator<Item = (Shape, u64)>) -> Self {
        Self(counted.collect())
    }
}

impl Sites {
    pub fn keep(&mut self, role: &str, site: NodeId, filled: bool) {
        let place = (role_hash(role), site);
        match filled {
            true => self.0.insert(place),
            false => self.0.remove(&place),
        };
    }

    /// The sites of a role from a node on, in the order of the nodes. Another role of the same
    /// hash may be among them.
    pub fn of(&self, role: &str, from: NodeId) -> impl Iterator<Item = NodeId> + Send + use<'_> {
        let hash = role_hash(role);
        let nodes = self.0.range((hash, from)..=(hash, NodeId(u32::MAX)));
        nodes.map(|(_, node)| *node)
    }

    /// Notes those of a segment's base.
    pub fn note(&mut self, names: &Names, segment: usize, base: &Base) {
        if !has_sites(names) {
            return;
        }
        for ((kind, _, id), local) in base.nodes.iter().zip(0_u32..) {
            if is_site(names, kind)
                && base.forward.groups(local).next().is_some()
                && let Some(site) = SiteRef::parse(id)
            {
                self.keep(site.role, NodeId::new(local, segment), true);
            }
        }
    }
}

fn role_hash(role: &str) -> u64 {
    xxh3_64(role.as_bytes())
}

impl Index {
    /// What kinds of tuples there are, and how many of each.
    pub fn shapes(&self) -> impl Iterator<Item = (Shape, u64)> {
        self.shapes.iter()
    }
}
