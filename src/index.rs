//! The index: which subjects a relation of a resource has, and what a subject is in; both ways,
//! in memory, as immutable snapshots that share what did not change.
//!
//! Hides how tuples lie in memory. Nodes are interned and spread over 64 segments by their hash;
//! a segment is a frozen base of flat arrays under a small persistent delta. A change makes a new
//! delta and shares the rest; a merge, off the writer, makes a new base of one segment at a time,
//! so that readers never wait and no more than a 64th of the index stands in memory twice.

use std::sync::Arc;

use imbl::OrdSet;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::revision::Revision;
use crate::schema::admit::Admitted;
use crate::schema::{CaveatId, Names, RelId, TypeId};
use crate::time::Timestamp;
use crate::tuple::{CaveatRef, Context, ObjectRef, SubjectRef, Tuple};

mod base;
mod bulk;
mod compact;
mod delta;
mod entries;
mod file;
mod group;
mod instead;
mod nodes;
mod scan;
mod segment;
mod shapes;
mod site;

pub use group::{Edge, Group};
pub use scan::{ScanPosition, Stored};
pub use segment::Merged;
pub use shapes::Shape;
pub use site::{SiteRef, generated};

use delta::Put;
use group::{Head, NodeSide};
use instead::Instead;
use nodes::Tag;
use segment::Segment;
use shapes::{Shapes, Sites};

/// The function that hashes objects and makes dependency keys; a new one gets a new number.
pub const KEY_VERSION: u32 = 3;

const SEGMENTS: usize = 64;
/// A delta is merged once it has a twentieth of the tuples, within these bounds.
const MERGE_BOUNDS: (u64, u64) = (16_384, 125_000);

/// An object (or a type's wildcard) that some tuple names, interned: its place within its
/// segment, times 64, plus the segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    fn new(local: u32, segment: usize) -> Self {
        let segment = u32::try_from(segment).unwrap_or(0);
        Self(local.saturating_mul(64).saturating_add(segment))
    }

    fn segment(self) -> usize {
        (self.0 % 64) as usize
    }

    fn local(self) -> u32 {
        self.0 / 64
    }
}

/// What keeps a tuple from holding always.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Restriction {
    /// It holds only where this caveat is true, with the parameters that the tuple fixes.
    pub caveat: Option<(CaveatId, Arc<Context>)>,
    /// At this instant it no longer holds.
    pub expires_at: Option<Timestamp>,
    /// The tuple holds also where this one lets it: a contextual tuple beside a stored one.
    pub also: Option<Arc<Restriction>>,
}

/// A change of one tuple.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// Type and id of the resource.
    pub resource: (TypeId, &'a str),
    /// The relation.
    pub relation: RelId,
    /// Type and id of the subject; the id of a wildcard is `*`.
    pub subject: (TypeId, &'a str),
    /// The relation of a subject set, or [`RelId::NONE`].
    pub subject_relation: RelId,
    /// What becomes of it.
    pub op: Op,
}

impl<'a> Edit<'a> {
    /// Puts a tuple that the schema has admitted.
    pub fn put(admitted: &Admitted, tuple: &'a Tuple) -> Self {
        let context = tuple
            .caveat
            .as_ref()
            .map(|given| Arc::clone(&given.context));
        let restriction = Restriction {
            caveat: admitted.caveat.zip(context),
            expires_at: tuple.expires_at,
            also: None,
        };
        let plain = restriction == Restriction::default();
        Self {
            resource: (admitted.resource_type, tuple.resource.id()),
            relation: admitted.relation,
            subject: (admitted.subject_type, tuple.subject.id()),
            subject_relation: admitted.subject_relation,
            op: Op::Put((!plain).then(|| Arc::new(restriction))),
        }
    }
}

/// What an [`Edit`] does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Adds the tuple or replaces it.
    Put(Option<Arc<Restriction>>),
    /// Removes it, whether it is there or not.
    Remove,
}

/// A tuple by the numbers of its parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct TupleKey {
    resource: NodeId,
    relation: RelId,
    subject: NodeId,
    set: RelId,
}

/// One snapshot of all tuples. Cloning it costs nothing.
#[derive(Clone, Debug)]
pub struct Index {
    seed: u64,
    names: Arc<Names>,
    /// What each type's objects are hashed with, by its number: half of an object's hash.
    kind_hashes: Arc<[u64]>,
    segments: Arc<[Arc<Segment>; SEGMENTS]>,
    /// Links to sites not counted.
    tuples: u64,
    shapes: Shapes,
    sites: Sites,
    expiries: OrdSet<(Timestamp, TupleKey)>,
    /// Counts `apply`, so that a merge knows what came after it.
    sequence: u64,
    /// What is imagined of a few nodes; nothing but questions is put to such an index.
    instead: Option<Arc<Instead>>,
}

/// The hash of an object, of its strings and the store's seed alone.
pub fn object_hash(seed: u64, kind: &str, id: &str) -> u64 {
    xxh3_64_with_seed(id.as_bytes(), kind_hash(seed, kind))
}

fn kind_hash(seed: u64, kind: &str) -> u64 {
    xxh3_64_with_seed(kind.as_bytes(), seed)
}

impl Index {
    /// An empty index. All its hashes follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            names: Arc::default(),
            kind_hashes: Arc::default(),
            segments: Arc::new(std::array::from_fn(|_| Arc::default())),
            tuples: 0,
            shapes: Shapes::default(),
            sites: Sites::default(),
            expiries: OrdSet::new(),
            sequence: 0,
            instead: None,
        }
    }

    /// The same tuples, with the names of the newest schema: those that there were, and more.
    #[must_use]
    pub fn with_names(&self, names: Arc<Names>) -> Self {
        let kinds = names.type_names();
        Self {
            kind_hashes: kinds.map(|kind| kind_hash(self.seed, kind)).collect(),
            names,
            ..self.clone()
        }
    }

    /// The names that the numbers of types, relations and caveats stand for.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// The seed of all hashes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many tuples there are, expired ones included.
    pub fn tuple_count(&self) -> u64 {
        self.tuples
    }

    /// The node of an object, where some tuple has ever named it; the id `*` is the wildcard.
    pub fn node(&self, kind: TypeId, id: &str) -> Option<NodeId> {
        let hash = self.object_hash(kind, id);
        let segment = segment_of(hash);
        let local = (self.segment(segment)).find_node(Tag::of(hash), kind, id)?;
        Some(NodeId::new(local, segment))
    }

    /// The nodes of resources and subjects, as [`Index::node`] gives them. What questions about
    /// them read first is read for all at once: a processor waits for many lines of memory at the
    /// same time where none is needed to know the next.
    pub fn pairs<'a>(
        &self,
        pairs: impl Iterator<Item = [(TypeId, &'a str); 2]>,
    ) -> SmallVec<[[Option<NodeId>; 2]; 16]> {
        let sought = |(kind, id)| {
            let hash = self.object_hash(kind, id);
            let place = segment_of(hash);
            std::hint::black_box(self.segment(place).touch_node(Tag::of(hash)));
            (place, Tag::of(hash), kind, id)
        };
        let sought: SmallVec<[_; 16]> = pairs.map(|pair| pair.map(sought)).collect();
        let find = |(place, tag, kind, id)| {
            let local = self.segment(place).find_node(tag, kind, id)?;
            Some(NodeId::new(local, place))
        };
        let found: SmallVec<[_; 16]> = sought.into_iter().map(|pair| pair.map(find)).collect();
        let resources = found.iter().filter_map(|[resource, _]| *resource);
        let segment = |node: NodeId| self.segment(node.segment());
        let targets: SmallVec<[_; 16]> = (resources.clone())
            .map(|node| segment(node).touch_groups(node.local()))
            .collect();
        for (node, target) in resources.zip(targets) {
            std::hint::black_box(segment(node).touch_target(target));
        }
        found
    }

    /// All nodes are below this number; not every number below it is one.
    pub fn node_bound(&self) -> u32 {
        let counts = self.segments.iter().map(|segment| segment.node_count());
        counts.max().unwrap_or(0).saturating_mul(64)
    }

    /// The type of a node; the first type for a node that there is not.
    pub fn kind_of(&self, node: NodeId) -> TypeId {
        let segment = self.segment(node.segment());
        segment.kind_of(node.local()).unwrap_or(TypeId(0))
    }

    /// The id of a node; empty for one that there is not.
    pub fn id_of(&self, node: NodeId) -> &str {
        let segment = self.segment(node.segment());
        segment.id_of(node.local()).unwrap_or("")
    }

    /// The hash of a node, as [`object_hash`] gives it; 0 for one that there is not.
    pub fn hash_of(&self, node: NodeId) -> u64 {
        let segment = self.segment(node.segment());
        let known = segment.node(node.local());
        known.map_or(0, |(kind, _, id)| self.object_hash(kind, id))
    }

    /// The same hash for an object that no tuple may have named yet.
    pub fn object_hash(&self, kind: TypeId, id: &str) -> u64 {
        match self.kind_hashes.get(usize::from(kind.0)) {
            Some(kind) => xxh3_64_with_seed(id.as_bytes(), *kind),
            None => object_hash(self.seed, self.names.type_name(kind), id),
        }
    }

    /// One tuple, searched from the side that has fewer.
    pub fn find(
        &self,
        resource: NodeId,
        relation: RelId,
        subject: NodeId,
        subject_relation: RelId,
    ) -> Option<Edge<'_>> {
        let head = |kind| Head {
            relation,
            kind,
            set: subject_relation,
        };
        let subject_kind = self.segment(subject.segment()).kind_of(subject.local())?;
        let forward = self.forward(resource).group(head(subject_kind))?;
        self.find_in(&forward, resource, subject)
    }

    /// The same within the group of the resource where it would stand.
    pub fn find_in<'a>(
        &'a self,
        forward: &Group<'a>,
        resource: NodeId,
        subject: NodeId,
    ) -> Option<Edge<'a>> {
        if forward.len_hint() > 64 {
            let head = |kind| Head {
                relation: forward.relation,
                kind,
                set: forward.subject_relation,
            };
            let resource_kind = self.segment(resource.segment()).kind_of(resource.local())?;
            let backward = self.backward(subject).group(head(resource_kind))?;
            if backward.len_hint() < forward.len_hint() {
                let edge = backward.get(resource)?;
                return Some(Edge {
                    node: subject,
                    restriction: edge.restriction,
                });
            }
        }
        forward.get(subject)
    }

    /// The subjects that `relation` of a resource has, by their kind.
    pub fn subject_groups(
        &self,
        resource: NodeId,
        relation: RelId,
    ) -> impl Iterator<Item = Group<'_>> {
        self.forward(resource).groups(Some(relation))
    }

    /// The subjects that all relations of a resource have, by relation and kind.
    pub fn all_subject_groups(&self, resource: NodeId) -> impl Iterator<Item = Group<'_>> {
        self.forward(resource).groups(None)
    }

    /// What a subject is in, as an object or as a subject set, by relation and kind.
    pub fn resource_groups(&self, subject: NodeId) -> impl Iterator<Item = Group<'_>> {
        self.backward(subject).groups(None)
    }

    /// What a subject is in, as far as it is `wanted`: by relation, type of the resource, and the
    /// relation of the subject set or [`RelId::NONE`].
    pub fn resource_groups_where<'a>(
        &'a self,
        subject: NodeId,
        wanted: impl Fn(RelId, TypeId, RelId) -> bool + 'a,
    ) -> impl Iterator<Item = Group<'a>> {
        let wanted = move |head: Head| wanted(head.relation, head.kind, head.set);
        self.backward(subject).groups_where(wanted)
    }

    /// Whether some tuple names this object as resource or within its subject.
    pub fn mentions(&self, kind: TypeId, id: &str) -> bool {
        self.node(kind, id).is_some_and(|node| {
            let filled = |group: Group<'_>| group.iter().next().is_some();
            self.all_subject_groups(node).any(filled) || self.resource_groups(node).any(filled)
        })
    }

    /// The index after `edits`, one after the other, which `revision` has made.
    #[must_use]
    pub fn apply(&self, edits: &[Edit<'_>], revision: Revision) -> Self {
        self.edit(edits, revision, false)
    }

    /// The same tuples, with nodes for these objects: so that lists can name them, though no tuple
    /// does.
    #[must_use]
    pub fn with_nodes<'a>(&self, objects: impl Iterator<Item = (TypeId, &'a str)>) -> Self {
        let mut segments = (*self.segments).clone();
        for object in objects {
            self.intern(&mut segments, object);
        }
        Self {
            segments: Arc::new(segments),
            ..self.clone()
        }
    }

    /// The index with `edits` beside what is stored: a tuple that stands there under a
    /// restriction holds where that or the added one lets it.
    #[must_use]
    pub fn united(&self, edits: &[Edit<'_>]) -> Self {
        self.edit(edits, Revision::default(), true)
    }

    fn edit(&self, edits: &[Edit<'_>], revision: Revision, unite: bool) -> Self {
        if edits.len() >= bulk::LARGE && !unite {
            return self.edit_many(edits, revision);
        }
        let mut next = self.clone();
        next.sequence += 1;
        let mut segments = (*self.segments).clone();
        let mut sites = hashbrown::HashSet::new();
        for edit in edits {
            next.edit_one(&mut segments, edit, revision, unite);
            if site::is_site(&self.names, edit.resource.0) {
                sites.insert((edit.resource, edit.relation));
            }
        }
        // Each once: whether a site is empty costs as much as has gone from it.
        for (site, relation) in sites {
            next.keep_link(&mut segments, site, relation, revision);
        }
        next.segments = Arc::new(segments);
        next
    }

    #[expect(clippy::indexing_slicing, reason = "a node's segment is below 64")]
    fn edit_one(
        &mut self,
        segments: &mut [Arc<Segment>; SEGMENTS],
        edit: &Edit<'_>,
        revision: Revision,
        unite: bool,
    ) {
        let key = TupleKey {
            resource: self.intern(segments, edit.resource),
            relation: edit.relation,
            subject: self.intern(segments, edit.subject),
            set: edit.subject_relation,
        };
        let forward = key.forward(edit.subject.0);
        let resource = &segments[key.resource.segment()];
        let group = resource.forward(key.resource.local()).group(forward);
        let old = group.and_then(|group| group.get(key.subject));
        let held = old.is_some();
        let old_restriction = old.and_then(|edge| edge.restriction);
        let put = match &edit.op {
            Op::Put(new) if unite && held => Put::Stands(united(old_restriction, new.as_ref())),
            Op::Put(new) => Put::Stands(new.clone()),
            Op::Remove if held => Put::Removed,
            Op::Remove => return,
        };
        self.count(key, self.shape_of(edit), old, &put);
        let entry = delta::Entry {
            put,
            revision,
            sequence: self.sequence,
        };
        let backward = key.backward(edit.resource.0);
        let resource = Arc::make_mut(&mut segments[key.resource.segment()]);
        resource.put_forward(key.resource.local(), forward, key.subject, entry.clone());
        let subject = Arc::make_mut(&mut segments[key.subject.segment()]);
        subject.put_backward(key.subject.local(), backward, key.resource, entry);
    }

    /// Links a site to its own resource as long as it has a subject.
    #[expect(clippy::indexing_slicing, reason = "a node's segment is below 64")]
    fn keep_link(
        &mut self,
        segments: &mut [Arc<Segment>; SEGMENTS],
        (kind, id): (TypeId, &str),
        relation: RelId,
        revision: Revision,
    ) {
        let site = self.intern(segments, (kind, id));
        let groups = segments[site.segment()].forward(site.local()).groups(None);
        let filled = { groups }.any(|group| group.iter().next().is_some());
        let Some(SiteRef { role, resource }) = SiteRef::parse(id) else {
            return;
        };
        self.sites.keep(role, site, filled);
        let Some(resource_kind) = self.names.type_id(resource.kind()) else {
            return;
        };
        let link = Edit {
            resource: (resource_kind, resource.id()),
            relation,
            subject: (kind, id),
            subject_relation: RelId::NONE,
            op: match filled {
                true => Op::Put(None),
                false => Op::Remove,
            },
        };
        self.edit_one(segments, &link, revision, false);
    }

    #[expect(clippy::indexing_slicing, reason = "a hash's segment is below 64")]
    fn intern(
        &self,
        segments: &mut [Arc<Segment>; SEGMENTS],
        (kind, id): (TypeId, &str),
    ) -> NodeId {
        let hash = self.object_hash(kind, id);
        let (place, tag) = (segment_of(hash), Tag::of(hash));
        let local = (segments[place].find_node(tag, kind, id))
            .unwrap_or_else(|| Arc::make_mut(&mut segments[place]).add_node(tag, kind, id));
        NodeId::new(local, place)
    }

    /// The segment that is to be merged next, where the delta has grown large.
    pub fn wants_merge(&self) -> Option<usize> {
        (self.pending() >= self.merge_bound()).then(|| self.fullest(None))?
    }

    /// Whether it has grown so large that whoever writes much has to wait for a merge.
    pub fn is_behind(&self) -> bool {
        self.pending() >= self.merge_bound().saturating_mul(2)
    }

    /// The segment that is to be merged next where it has grown so large that whoever writes at all
    /// has to merge before anything else, but for one that is being merged already.
    pub fn must_merge(&self, merging: Option<usize>) -> Option<usize> {
        (self.pending() >= self.merge_bound().saturating_mul(4)).then(|| self.fullest(merging))?
    }

    /// A segment in which look-ups take longer than they would after a merge: for when there is
    /// nothing else to do.
    pub fn may_merge(&self) -> Option<usize> {
        let left = (0..SEGMENTS).filter(|place| self.segment(*place).is_worth_merging());
        left.max_by_key(|place| self.segment(*place).pending())
    }

    fn pending(&self) -> u64 {
        self.segments.iter().map(|segment| segment.pending()).sum()
    }

    fn merge_bound(&self) -> u64 {
        let (least, most) = MERGE_BOUNDS;
        (self.tuples / 10).clamp(least * 2, most * 2)
    }

    fn fullest(&self, but: Option<usize>) -> Option<usize> {
        let others = (0..SEGMENTS).filter(|place| Some(*place) != but);
        others.max_by_key(|place| self.segment(*place).pending())
    }

    /// Makes a new base of one segment; slow, and meant to be run beside the writer.
    pub fn merge_segment(&self, segment: usize) -> Merged {
        let soon = self.wants_merge().is_some();
        self.segment(segment).merge(segment, self.sequence, soon)
    }

    /// Takes in a new base: what landed since it was begun stays in the delta.
    #[must_use]
    pub fn install(&self, merged: Merged) -> Self {
        let mut segments = (*self.segments).clone();
        if let Some(segment) = segments.get_mut(merged.segment) {
            *segment = Arc::new(segment.rebase(merged));
        }
        Self {
            segments: Arc::new(segments),
            ..self.clone()
        }
    }

    /// What of it nothing else holds where a newer one took its place, in bytes, roughly: bases
    /// that were merged since, and the changes of large commits.
    pub fn bytes_not_in(&self, newer: &Self) -> u64 {
        let pairs = self.segments.iter().zip(newer.segments.iter());
        let changed = pairs.filter(|(one, other)| !Arc::ptr_eq(one, other));
        changed.map(|(one, other)| one.bytes_not_in(other)).sum()
    }

    /// The bytes of its bases.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes()).sum()
    }

    /// Tuples whose end is at or before `now`, the earliest first, at most `limit`.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<Tuple> {
        let due = self.expiries.iter().take_while(|(end, _)| *end <= now);
        due.take(limit)
            .filter_map(|(_, key)| self.tuple(*key))
            .collect()
    }

    /// The earliest end of any tuple.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.get_min().map(|(end, _)| *end)
    }

    /// One tuple in words, where it stands.
    pub fn stored(
        &self,
        resource: NodeId,
        relation: RelId,
        subject: NodeId,
        subject_relation: RelId,
    ) -> Option<Tuple> {
        self.tuple(TupleKey {
            resource,
            relation,
            subject,
            set: subject_relation,
        })
    }

    fn tuple(&self, key: TupleKey) -> Option<Tuple> {
        let edge = self.find(key.resource, key.relation, key.subject, key.set)?;
        Some(self.named(key, edge.restriction))
    }

    /// The site that a node is, where it is one.
    pub fn site(&self, node: NodeId) -> Option<SiteRef<'_>> {
        match site::is_site(&self.names, self.kind_of(node)) {
            true => SiteRef::parse(self.id_of(node)),
            false => None,
        }
    }

    /// A tuple in words.
    fn named(&self, key: TupleKey, restriction: Option<&Restriction>) -> Tuple {
        let object = |node| {
            let kind = self.names.type_name(self.kind_of(node));
            (kind, self.id_of(node))
        };
        let (mut resource, subject) = (object(key.resource), object(key.subject));
        let mut relation = self.names.rel_name(key.relation).into();
        if let Some(site) = self.site(key.resource) {
            resource = (site.resource.kind(), site.resource.id());
            relation = site.role.replacen(':', "=", 1).into();
        }
        let set = (key.set != RelId::NONE).then(|| self.names.rel_name(key.set));
        let caveat = restriction.and_then(|restriction| restriction.caveat.as_ref());
        Tuple {
            resource: ObjectRef::known(resource.0, resource.1).to_object(),
            relation,
            subject: SubjectRef::known(subject.0, subject.1, set).to_subject(),
            caveat: caveat.map(|(caveat, context)| CaveatRef {
                name: self.names.caveat_name(*caveat).into(),
                context: Arc::clone(context),
            }),
            expires_at: restriction.and_then(|restriction| restriction.expires_at),
        }
    }

    fn forward(&self, node: NodeId) -> NodeSide<'_> {
        let side = self.segment(node.segment()).forward(node.local());
        match &self.instead {
            None => side,
            Some(instead) => instead.forward(node, side),
        }
    }

    fn backward(&self, node: NodeId) -> NodeSide<'_> {
        let side = self.segment(node.segment()).backward(node.local());
        match &self.instead {
            None => side,
            Some(instead) => instead.backward(node, side),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "callers give a segment below 64")]
    fn segment(&self, place: usize) -> &Segment {
        &self.segments[place]
    }
}

impl TupleKey {
    fn forward(self, subject_kind: TypeId) -> Head {
        Head {
            relation: self.relation,
            kind: subject_kind,
            set: self.set,
        }
    }

    fn backward(self, resource_kind: TypeId) -> Head {
        Head {
            relation: self.relation,
            kind: resource_kind,
            set: self.set,
        }
    }
}

fn segment_of(hash: u64) -> usize {
    (hash % 64) as usize
}

fn united(old: Option<&Restriction>, new: Option<&Arc<Restriction>>) -> Option<Arc<Restriction>> {
    let (old, new) = (old?, new?);
    let mut chain: SmallVec<[Restriction; 4]> = SmallVec::new();
    let mut next = Some(&**new);
    while let Some(one) = next {
        chain.push(Restriction {
            also: None,
            ..one.clone()
        });
        next = one.also.as_deref();
    }
    let last = Arc::new(old.clone());
    Some(chain.into_iter().rev().fold(last, |also, one| {
        Arc::new(Restriction {
            also: Some(also),
            ..one
        })
    }))
}
