//! Reading tuples by filter, in an order that is fixed at a revision.

use std::sync::Arc;

use crate::revision::Revision;
use crate::schema::{RelId, TypeId};
use crate::tuple::{Tuple, TupleFilter};

use super::group::{Granted, Group, Head};
use super::shapes::Shape;
use super::site::{SiteRef, generated, is_site, relation_of};
use super::{Index, NodeId, Restriction, SEGMENTS, TupleKey};

/// A place in the order of a scan, good for the snapshot that it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanPosition(TupleKey);

/// A tuple as a scan finds it.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    index: &'a Index,
    key: TupleKey,
    restriction: Option<&'a Restriction>,
    revision: Revision,
}

impl ScanPosition {
    /// Its bytes, for cursors.
    pub fn to_bytes(self) -> [u8; 12] {
        let key = self.0;
        let nodes = (u64::from(key.resource.0) << 32) | u64::from(key.subject.0);
        let names = (u32::from(key.relation.0) << 16) | u32::from(key.set.0);
        let mut bytes = [0; 12];
        let (left, right) = bytes.split_at_mut(8);
        left.copy_from_slice(&nodes.to_be_bytes());
        right.copy_from_slice(&names.to_be_bytes());
        bytes
    }

    /// The inverse of [`ScanPosition::to_bytes`].
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let number = |from: usize, to: usize| {
            let digits = bytes.get(from..to).unwrap_or(&[]);
            digits
                .iter()
                .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte))
        };
        let name = |from| RelId(u16::try_from(number(from, from + 2)).unwrap_or(u16::MAX));
        Self(TupleKey {
            resource: NodeId(number(0, 4)),
            subject: NodeId(number(4, 8)),
            relation: name(8),
            set: name(10),
        })
    }
}

impl Stored<'_> {
    /// Where a scan goes on behind it.
    pub fn position(&self) -> ScanPosition {
        ScanPosition(self.key)
    }

    /// The commit that granted it, where that is still known.
    pub fn granted_at(&self) -> Option<Revision> {
        (self.revision.0 > 0 && self.revision.0 < u64::from(u32::MAX)).then_some(self.revision)
    }

    /// What keeps it from holding always.
    pub fn restriction(&self) -> Option<&Restriction> {
        self.restriction
    }

    /// What it has in common with others.
    pub(super) fn shape(&self) -> Shape {
        let TupleKey {
            resource,
            relation,
            subject,
            set,
        } = self.key;
        let index = self.index;
        let object = |node| (index.kind_of(node), index.id_of(node));
        let (names, resource) = (index.names(), object(resource));
        Shape::plain(names, resource, relation, object(subject), set).under(self.restriction)
    }

    /// The tuple in words.
    pub fn to_tuple(&self) -> Tuple {
        self.index.named(self.key, self.restriction)
    }
}

/// A filter, with its names as numbers; `None` where one is not known, so that nothing matches.
struct Wanted<'a> {
    resource_kind: Option<TypeId>,
    resource_id: Option<&'a str>,
    prefix: Option<&'a str>,
    relation: Option<RelId>,
    /// Only assignments of this role: its reference without the block, `acme/deployer`.
    role: Option<&'a str>,
    subject_kind: Option<TypeId>,
    subject_id: Option<&'a str>,
    set: Option<RelId>,
}

impl<'a> Wanted<'a> {
    fn new(index: &Index, filter: &'a TupleFilter) -> Option<Self> {
        let names = index.names();
        let kind = |name: &Option<Arc<str>>| match name {
            Some(name) => names.type_id(name).map(Some),
            None => Some(None),
        };
        // `role=acme/deployer` is a part of the generated relation `role=`.
        let assigned = filter.relation.as_deref().and_then(|r| r.split_once('='));
        let relation = match assigned {
            Some((block, _)) => Some(generated(block).into()),
            None => filter.relation.clone(),
        };
        Some(Self {
            resource_kind: kind(&filter.resource_type)?,
            resource_id: filter.resource_id.as_deref(),
            prefix: filter.resource_id_prefix.as_deref(),
            relation: match &relation {
                Some(name) => Some(names.rel_id(name)?),
                None => None,
            },
            role: assigned
                .map(|(_, role)| role)
                .filter(|role| !role.is_empty()),
            subject_kind: kind(&filter.subject_type)?,
            subject_id: filter.subject_id.as_deref(),
            set: match &filter.subject_relation {
                Some(Some(name)) => Some(names.rel_id(name)?),
                Some(None) => Some(RelId::NONE),
                None => None,
            },
        })
    }

    fn takes_resource(&self, index: &Index, node: NodeId) -> bool {
        let kind = index.kind_of(node);
        let id = index.id_of(node);
        let site = is_site(&index.names, kind).then(|| SiteRef::parse(id));
        let Some(site) = site.flatten() else {
            return self.takes(|wanted| wanted == kind, id);
        };
        let role = || site.role.split_once(':').map(|(_, role)| role);
        self.role.is_none_or(|wanted| Some(wanted) == role())
            && self.takes(
                |wanted| index.names.type_name(wanted) == site.resource.kind(),
                site.resource.id(),
            )
    }

    fn takes(&self, kind: impl Fn(TypeId) -> bool, id: &str) -> bool {
        self.resource_kind.is_none_or(kind)
            && self.resource_id.is_none_or(|wanted| wanted == id)
            && self.prefix.is_none_or(|prefix| id.starts_with(prefix))
    }

    fn takes_subject(&self, index: &Index, node: NodeId) -> bool {
        self.subject_kind
            .is_none_or(|kind| kind == index.kind_of(node))
            && self.subject_id.is_none_or(|id| id == index.id_of(node))
    }
}

impl Index {
    /// The tuples that `filter` selects, behind `after`: searched from the resource or from the
    /// subject where the filter names one by type and id, from the role where it names one, else in
    /// the order of the nodes.
    pub fn scan<'a>(
        &'a self,
        filter: &'a TupleFilter,
        after: Option<&ScanPosition>,
    ) -> Box<dyn Iterator<Item = Stored<'a>> + Send + 'a> {
        let Some(wanted) = Wanted::new(self, filter) else {
            return Box::new(std::iter::empty());
        };
        let after = after.map(|position| position.0);
        let one = |kind: Option<TypeId>, id: Option<&str>| Some(self.node(kind?, id?));
        if let Some(node) = one(wanted.resource_kind, wanted.resource_id) {
            return Box::new(
                node.into_iter()
                    .flat_map(move |node| self.with_sites(node, after))
                    .filter(self.selects(filter)),
            );
        }
        if let Some(node) = one(wanted.subject_kind, wanted.subject_id) {
            return Box::new(
                node.into_iter().flat_map(move |node| {
                    self.backward_of(node, after).filter(self.selects(filter))
                }),
            );
        }
        if let (Some(_), Some(relation)) = (wanted.role, filter.relation.as_deref()) {
            return self.assigned(relation, filter, after);
        }
        let begin = after.map_or((0, 0), |key| (key.resource.segment(), key.resource.local()));
        let nodes = (begin.0..SEGMENTS).flat_map(move |segment| {
            let first = if segment == begin.0 { begin.1 } else { 0 };
            let count = self.segment(segment).node_count();
            (first..count).map(move |local| NodeId::new(local, segment))
        });
        Box::new(
            nodes
                .filter(move |node| wanted.takes_resource(self, *node))
                .flat_map(move |node| {
                    self.forward_of(node, after.filter(|key| key.resource == node))
                })
                .filter(self.selects(filter)),
        )
    }

    /// The assignments of one role that `filter` selects, in the order of its sites.
    fn assigned<'a>(
        &'a self,
        relation: &str,
        filter: &'a TupleFilter,
        after: Option<TupleKey>,
    ) -> Box<dyn Iterator<Item = Stored<'a>> + Send + 'a> {
        let role = relation.replacen('=', ":", 1);
        let from = after.map_or(NodeId(0), |key| key.resource);
        let sites = self.sites.of(&role, from);
        let tuples = sites.flat_map(move |site| {
            let after = after.filter(|key| key.resource == site);
            self.forward_of(site, after)
        });
        Box::new(tuples.filter(self.selects(filter)))
    }

    /// The tuples of a resource, in the order of its edges: behind a link stand those of its site.
    fn with_sites(
        &self,
        node: NodeId,
        after: Option<TupleKey>,
    ) -> impl Iterator<Item = Stored<'_>> + Send {
        // Behind a tuple of a site comes the rest of the site, then what comes behind its link.
        let site = after.filter(|key| key.resource != node);
        let after = match site {
            None => after,
            Some(key) => {
                relation_of(&self.names, self.kind_of(key.resource)).map(|relation| TupleKey {
                    resource: node,
                    relation,
                    subject: key.resource,
                    set: RelId::NONE,
                })
            }
        };
        let rest = site.map(|key| self.forward_of(key.resource, Some(key)));
        let edges = self.forward_of(node, after).flat_map(move |stored| {
            let site = is_site(&self.names, self.kind_of(stored.key.subject));
            let within = site.then(|| self.forward_of(stored.key.subject, None));
            let own = (!site).then_some(stored);
            own.into_iter().chain(within.into_iter().flatten())
        });
        rest.into_iter().flatten().chain(edges)
    }

    /// Whether a stored tuple is one of those that `filter` selects; links are none.
    fn selects<'a>(&'a self, filter: &'a TupleFilter) -> impl FnMut(&Stored<'a>) -> bool + Send {
        let wanted = Wanted::new(self, filter);
        move |stored| {
            wanted.as_ref().is_some_and(|wanted| {
                wanted
                    .relation
                    .is_none_or(|relation| relation == stored.key.relation)
                    && wanted.set.is_none_or(|set| set == stored.key.set)
                    && wanted.takes_resource(self, stored.key.resource)
                    && wanted.takes_subject(self, stored.key.subject)
                    && !is_site(&self.names, self.kind_of(stored.key.subject))
            })
        }
    }

    fn forward_of(
        &self,
        node: NodeId,
        after: Option<TupleKey>,
    ) -> impl Iterator<Item = Stored<'_>> + Send {
        let after = after.map(|key| (key.forward(self.kind_of(key.subject)), key.subject));
        behind(self.all_subject_groups(node), after).map(move |(group, granted)| Stored {
            index: self,
            key: TupleKey {
                resource: node,
                relation: group.relation,
                subject: granted.edge.node,
                set: group.subject_relation,
            },
            restriction: granted.edge.restriction,
            revision: granted.revision,
        })
    }

    fn backward_of(
        &self,
        node: NodeId,
        after: Option<TupleKey>,
    ) -> impl Iterator<Item = Stored<'_>> + Send {
        let after = after.map(|key| (key.backward(self.kind_of(key.resource)), key.resource));
        behind(self.resource_groups(node), after).map(move |(group, granted)| {
            let key = TupleKey {
                resource: granted.edge.node,
                relation: group.relation,
                subject: node,
                set: group.subject_relation,
            };
            Stored {
                index: self,
                key,
                restriction: granted.edge.restriction,
                revision: self.revision_of(key),
            }
        })
    }

    /// The commit that granted a tuple: only its forward side knows.
    fn revision_of(&self, key: TupleKey) -> Revision {
        let side = self
            .segment(key.resource.segment())
            .forward(key.resource.local());
        let group = side.group(key.forward(self.kind_of(key.subject)));
        let before = key.subject.0.checked_sub(1).map(NodeId);
        let found = group.and_then(|group| group.granted(before).next());
        found.map_or(Revision(0), |granted| granted.revision)
    }
}

/// The tuples of `groups`, which are sorted by head, behind a head and node.
fn behind<'a>(
    groups: impl Iterator<Item = Group<'a>> + Send,
    after: Option<(Head, NodeId)>,
) -> impl Iterator<Item = (Group<'a>, Granted<'a>)> + Send {
    let first = after.map(|(head, _)| head);
    let groups = groups.filter(move |group| first.is_none_or(|first| group.head() >= first));
    groups.flat_map(move |group| {
        let from = after
            .filter(|(head, _)| *head == group.head())
            .map(|(_, node)| node);
        group.granted(from).map(move |granted| (group, granted))
    })
}
