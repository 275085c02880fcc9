//! Large commits: each node is looked up and changed once for all of its tuples, in order, and the
//! delta takes them in as sorted runs.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::revision::Revision;
use crate::schema::TypeId;

use super::delta::{Changed, Entry, Put};
use super::nodes::{Nodes, Tag};
use super::segment::Segment;
use super::{Edge, Edit, Index, NodeId, Op, SEGMENTS, Shape, TupleKey, segment_of, site};

/// From so many edits on a commit is large.
pub(super) const LARGE: usize = 1_024;

type Segments = [Arc<Segment>; SEGMENTS];

/// An edit by the numbers of its parts.
struct Numbered {
    key: TupleKey,
    /// The types of the resource and the subject.
    kinds: (TypeId, TypeId),
    /// Its place among the edits.
    place: u32,
}

impl Numbered {
    /// By the node of the resource, then by tuple, then as they came.
    fn order(&self) -> (u32, super::Head, NodeId, u32) {
        let head = self.key.forward(self.kinds.1);
        (
            self.key.resource.local(),
            head,
            self.key.subject,
            self.place,
        )
    }
}

impl Index {
    /// As [`Index::apply`], for many edits.
    pub(super) fn edit_many(&self, edits: &[Edit<'_>], revision: Revision) -> Self {
        let mut next = self.clone();
        next.sequence += 1;
        let mut segments = (*self.segments).clone();
        let numbered = next.number(&mut segments, edits);
        let backward = next.put_forward(&mut segments, numbered, edits, revision);
        for (segment, changes) in segments.iter_mut().zip(backward) {
            if !changes.is_empty() {
                Arc::make_mut(segment).put_all_backward(changes);
            }
        }
        let links = edits
            .iter()
            .filter(|edit| site::is_site(&self.names, edit.resource.0));
        let sites: HashSet<_> = links.map(|edit| (edit.resource, edit.relation)).collect();
        for (site, relation) in sites {
            next.keep_link(&mut segments, site, relation, revision);
        }
        next.segments = Arc::new(segments);
        next
    }

    /// The edits by the segment of their resource, each list in order.
    fn number(&self, segments: &mut Segments, edits: &[Edit<'_>]) -> Vec<Vec<Numbered>> {
        let mut new = vec![Nodes::default(); SEGMENTS];
        let mut lists: Vec<Vec<Numbered>> = Vec::new();
        lists.resize_with(SEGMENTS, Vec::new);
        for (edit, place) in edits.iter().zip(0..) {
            let key = TupleKey {
                resource: self.number_node(segments, &mut new, edit.resource),
                relation: edit.relation,
                subject: self.number_node(segments, &mut new, edit.subject),
                set: edit.subject_relation,
            };
            let kinds = (edit.resource.0, edit.subject.0);
            if let Some(list) = lists.get_mut(key.resource.segment()) {
                list.push(Numbered { key, kinds, place });
            }
        }
        for (segment, new) in segments.iter_mut().zip(new) {
            if new.len() > 0 {
                Arc::make_mut(segment).add_nodes(new);
            }
        }
        for list in &mut lists {
            list.sort_unstable_by_key(Numbered::order);
        }
        lists
    }

    /// Finds an object, or adds it to those that are new to its segment.
    #[expect(clippy::indexing_slicing, reason = "a hash's segment is below 64")]
    fn number_node(
        &self,
        segments: &Segments,
        new: &mut [Nodes],
        (kind, id): (TypeId, &str),
    ) -> NodeId {
        let hash = self.object_hash(kind, id);
        let place = segment_of(hash);
        let (segment, new, tag) = (&segments[place], &mut new[place], Tag::of(hash));
        let known = segment.find_node(tag, kind, id);
        let local = known.unwrap_or_else(|| {
            let added = new.find(tag, kind, id);
            segment.node_count() + added.unwrap_or_else(|| new.push(kind, tag, id))
        });
        NodeId::new(local, place)
    }

    /// Changes the side of the resources; what that of the subjects is to hear of, by segment and
    /// in order.
    fn put_forward(
        &mut self,
        segments: &mut Segments,
        numbered: Vec<Vec<Numbered>>,
        edits: &[Edit<'_>],
        revision: Revision,
    ) -> Vec<Vec<Changed>> {
        let mut backward: Vec<Vec<Changed>> = Vec::new();
        backward.resize_with(SEGMENTS, Vec::new);
        for (segment, list) in segments.iter_mut().zip(numbered) {
            let mut forward = Vec::with_capacity(list.len());
            // The last edit of a tuple is what becomes of it.
            for same in list.chunk_by(|a, b| a.key == b.key) {
                let Some(last) = same.last() else { continue };
                let Some(edit) = edits.get(last.place as usize) else {
                    continue;
                };
                let Some(entry) = self.entry(segment, last, edit, revision) else {
                    continue;
                };
                let (key, (resource, subject)) = (last.key, last.kinds);
                if let Some(list) = backward.get_mut(key.subject.segment()) {
                    list.push(Changed {
                        local: key.subject.local(),
                        head: key.backward(resource),
                        other: key.resource,
                        entry: entry.clone(),
                    });
                }
                forward.push(Changed {
                    local: key.resource.local(),
                    head: key.forward(subject),
                    other: key.subject,
                    entry,
                });
            }
            if !forward.is_empty() {
                Arc::make_mut(segment).put_all_forward(forward);
            }
        }
        for list in &mut backward {
            list.sort_unstable_by_key(|change| (change.local, change.head, change.other));
        }
        backward
    }

    /// What an edit makes of its tuple, and of what is counted; `None` where it changes nothing.
    fn entry(
        &mut self,
        resource: &Segment,
        Numbered { key, kinds, .. }: &Numbered,
        edit: &Edit<'_>,
        revision: Revision,
    ) -> Option<Entry> {
        let group = resource
            .forward(key.resource.local())
            .group(key.forward(kinds.1));
        let old = group.and_then(|group| group.get(key.subject));
        let put = match &edit.op {
            Op::Put(new) => Put::Stands(new.clone()),
            Op::Remove if old.is_some() => Put::Removed,
            Op::Remove => return None,
        };
        self.count(*key, self.shape_of(edit), old, &put);
        Some(Entry {
            put,
            revision,
            sequence: self.sequence,
        })
    }

    /// What a tuple counts as, its restriction apart; a link to a site is no tuple.
    pub(super) fn shape_of(&self, edit: &Edit<'_>) -> Option<Shape> {
        let is_link = site::is_site(&self.names, edit.subject.0);
        (!is_link).then(|| {
            let (resource, subject) = (edit.resource, edit.subject);
            let set = edit.subject_relation;
            Shape::plain(&self.names, resource, edit.relation, subject, set)
        })
    }

    /// Counts what stands, and notes when it ends.
    pub(super) fn count(
        &mut self,
        key: TupleKey,
        shape: Option<Shape>,
        old: Option<Edge<'_>>,
        put: &Put,
    ) {
        if let Some(end) = old.and_then(|edge| edge.restriction?.expires_at) {
            self.expiries.remove(&(end, key));
        }
        if let Put::Stands(Some(restriction)) = put
            && let Some(end) = restriction.expires_at
        {
            self.expiries.insert((end, key));
        }
        let Some(shape) = shape else { return };
        let before = old.map(|edge| shape.under(edge.restriction));
        let after = match put {
            Put::Stands(restriction) => Some(shape.under(restriction.as_deref())),
            Put::Removed => None,
        };
        self.tuples = self.tuples + u64::from(after.is_some()) - u64::from(before.is_some());
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.shapes.take(&before);
        }
        if let Some(after) = after {
            self.shapes.add(after);
        }
    }
}
