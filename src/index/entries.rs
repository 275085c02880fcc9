//! The changed tuples of one group. Most groups have one or two of them, for which a node of a
//! persistent map is fifty times too large.

use imbl::OrdMap;
use imbl::ordmap::RangedIter;
use smallvec::SmallVec;

use super::NodeId;
use super::delta::Entry;

/// So many are kept as a sorted list, which a change copies whole.
const FEW: usize = 16;

/// Changed tuples by the other side.
#[derive(Clone, Debug)]
pub(super) struct Entries(Form);

#[derive(Clone, Debug)]
enum Form {
    Few(SmallVec<[(NodeId, Entry); 1]>),
    Many(OrdMap<NodeId, Entry>),
}

/// Entries in order.
pub(super) enum EntriesIter<'a> {
    Few(std::slice::Iter<'a, (NodeId, Entry)>),
    Many(RangedIter<'a, NodeId, Entry, imbl::shared_ptr::DefaultSharedPtr>),
}

impl Entries {
    /// One.
    pub fn unit(other: NodeId, entry: Entry) -> Self {
        Self(Form::Few(SmallVec::from_buf([(other, entry)])))
    }

    /// Of entries in order, each of another node.
    pub fn of(entries: impl Iterator<Item = (NodeId, Entry)>) -> Self {
        let list: SmallVec<[(NodeId, Entry); 1]> = entries.collect();
        Self(match list.len() <= FEW {
            true => Form::Few(list),
            false => Form::Many(list.into_iter().collect()),
        })
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Few(list) => list.len(),
            Form::Many(map) => map.len(),
        }
    }

    /// What it takes in memory beside itself, in bytes, roughly.
    pub fn bytes(&self) -> usize {
        let entries = match &self.0 {
            Form::Few(list) if list.spilled() => list.capacity(),
            Form::Few(_) => 0,
            // Shared with other versions for the most part.
            Form::Many(_) => FEW,
        };
        entries * size_of::<(NodeId, Entry)>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, node: NodeId) -> Option<&Entry> {
        match &self.0 {
            Form::Few(list) => {
                let found = list.iter().find(|(other, _)| *other == node);
                found.map(|(_, entry)| entry)
            }
            Form::Many(map) => map.get(&node),
        }
    }

    /// Those behind `node`, or all.
    pub fn after(&self, node: Option<NodeId>) -> EntriesIter<'_> {
        use std::ops::Bound::{Excluded, Unbounded};
        match &self.0 {
            Form::Few(list) => {
                let before = |(other, _): &(NodeId, Entry)| node.is_some_and(|node| *other <= node);
                let from = list.iter().take_while(|entry| before(entry)).count();
                EntriesIter::Few(list.get(from..).unwrap_or_default().iter())
            }
            Form::Many(map) => {
                EntriesIter::Many(map.range((node.map_or(Unbounded, Excluded), Unbounded)))
            }
        }
    }

    /// Says whether the entry is new.
    pub fn insert(&mut self, other: NodeId, entry: Entry) -> bool {
        match &mut self.0 {
            Form::Many(map) => map.insert(other, entry).is_none(),
            Form::Few(list) => match list.binary_search_by_key(&other, |(other, _)| *other) {
                Ok(place) => {
                    if let Some(old) = list.get_mut(place) {
                        old.1 = entry;
                    }
                    false
                }
                Err(place) if list.len() < FEW => {
                    list.insert(place, (other, entry));
                    true
                }
                Err(_) => {
                    let mut map: OrdMap<_, _> = std::mem::take(list).into_iter().collect();
                    map.insert(other, entry);
                    self.0 = Form::Many(map);
                    true
                }
            },
        }
    }
}

impl<'a> Iterator for EntriesIter<'a> {
    type Item = (NodeId, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(list) => list.next().map(|(node, entry)| (*node, entry)),
            Self::Many(map) => map.next().map(|(node, entry)| (*node, entry)),
        }
    }
}
