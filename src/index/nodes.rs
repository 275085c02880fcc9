//! The nodes of a segment: from an object to its number, and back.
//!
//! Hides a table with the ids in it. To find a node takes one line of memory most of the time,
//! where a table of numbers, a list of nodes and a text behind it take four: with ten million
//! tuples each of them is in no cache, and neither is the way to its page.

use crate::schema::TypeId;

/// Bytes of an id that stand in its slot.
const SHORT: usize = 21;
/// The length of an id that does not.
const LONG: u8 = u8::MAX;
/// No node has this number.
const VACANT: u32 = u32::MAX;
/// Slots in a line of cache. The search for a node begins at the first of a line.
const IN_LINE: usize = 2;
/// A table gets larger where more than so many of so many slots are taken.
const FULL: (usize, usize) = (4, 5);
/// So many of so many are taken then.
const ROOMY: (usize, usize) = (7, 10);

/// The half of an object's hash that its segment does not follow from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Tag(u32);

impl Tag {
    pub fn of(hash: u64) -> Self {
        Self((hash >> 32) as u32)
    }
}

/// The nodes of a base or of a large commit, numbered as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    /// As many as lines hold, or none.
    slots: Vec<Slot>,
    /// Where the slot of each node is.
    places: Vec<u32>,
    /// Ids that are too long for a slot.
    text: String,
}

/// A node, or room for one: 32 bytes, half a line of cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Slot {
    tag: Tag,
    local: u32,
    kind: TypeId,
    length: u8,
    /// The id; of a long one, where in the text it begins and ends.
    id: [u8; SHORT],
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    const VACANT: Self = Self {
        tag: Tag(0),
        local: VACANT,
        kind: TypeId(0),
        length: 0,
        id: [0; SHORT],
    };
}

impl Nodes {
    pub fn len(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    pub fn find(&self, tag: Tag, kind: TypeId, id: &str) -> Option<u32> {
        let mut place = home(tag, self.slots.len());
        loop {
            let slot = self.slots.get(place)?;
            if slot.local == VACANT {
                return None;
            }
            if slot.tag == tag && slot.kind == kind && self.bytes_of(slot) == id.as_bytes() {
                return Some(slot.local);
            }
            place = behind(place, self.slots.len());
        }
    }

    /// Reads where the search for a node begins.
    pub fn touch(&self, tag: Tag) -> u32 {
        let slot = self.slots.get(home(tag, self.slots.len()));
        slot.map_or(VACANT, |slot| slot.local)
    }

    fn slot(&self, local: u32) -> Option<&Slot> {
        let place = self.places.get(local as usize)?;
        self.slots.get(*place as usize)
    }

    /// The type, the tag and the id of a node.
    pub fn get(&self, local: u32) -> Option<(TypeId, Tag, &str)> {
        let slot = self.slot(local)?;
        Some((slot.kind, slot.tag, self.id_in(slot)?))
    }

    pub fn kind(&self, local: u32) -> Option<TypeId> {
        self.slot(local).map(|slot| slot.kind)
    }

    pub fn id(&self, local: u32) -> Option<&str> {
        self.id_in(self.slot(local)?)
    }

    fn id_in<'a>(&'a self, slot: &'a Slot) -> Option<&'a str> {
        std::str::from_utf8(self.bytes_of(slot)).ok()
    }

    fn bytes_of<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        let bytes = match slot.length {
            LONG => self.text.as_bytes().get(range(&slot.id)),
            length => slot.id.get(..length.into()),
        };
        bytes.unwrap_or_default()
    }

    /// All nodes in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (TypeId, Tag, &str)> + Clone {
        let known = |local| self.get(local).unwrap_or((TypeId(0), Tag(0), ""));
        (0..self.len()).map(known)
    }

    /// Appends a node that there is not yet; its place.
    pub fn push(&mut self, kind: TypeId, tag: Tag, id: &str) -> u32 {
        let local = self.len();
        let count = self.places.len() + 1;
        if !fits(count, self.slots.len()) {
            self.resize(count + count / 2);
        }
        let mut slot = Slot {
            tag,
            local,
            kind,
            length: LONG,
            id: [0; SHORT],
        };
        if let Some(within) = slot.id.get_mut(..id.len()) {
            within.copy_from_slice(id.as_bytes());
            slot.length = u8::try_from(id.len()).unwrap_or(LONG);
        } else {
            let begin = self.text.len();
            self.text.push_str(id);
            note_range(&mut slot.id, begin, self.text.len());
        }
        let place = put(&mut self.slots, slot);
        self.places.push(place);
        local
    }

    /// Appends other nodes in their order.
    pub fn extend(&mut self, others: &Self) {
        for (kind, tag, id) in others.iter() {
            self.push(kind, tag, id);
        }
    }

    /// These, and `others` behind them.
    pub fn followed_by(&self, others: &Self) -> Self {
        let mut all = self.clone();
        all.reserve(others.places.len(), others.text.len());
        all.extend(others);
        all
    }

    /// Makes room for so many more nodes, whose long ids have so many bytes, once.
    pub fn reserve(&mut self, more: usize, text: usize) {
        self.text.reserve_exact(text);
        self.places.reserve_exact(more);
        let count = self.places.len() + more;
        if !fits(count, self.slots.len()) {
            self.resize(count);
        }
    }

    /// A table for so many nodes in which some room is left.
    fn resize(&mut self, count: usize) {
        let slots = (count * ROOMY.1 / ROOMY.0 + 1).next_multiple_of(IN_LINE);
        let old = std::mem::replace(&mut self.slots, vec![Slot::VACANT; slots]);
        for slot in old {
            if let Some(known) = self.places.get_mut(slot.local as usize) {
                *known = put(&mut self.slots, slot);
            }
        }
    }

    /// The bytes of the ids that [`Nodes::reserve`] makes room for.
    pub fn long_bytes(&self) -> usize {
        self.text.len()
    }

    /// The bytes of its arrays.
    pub fn bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Slot>();
        slots + self.places.capacity() * size_of::<u32>() + self.text.capacity()
    }
}

/// The bytes that an id needs beside its slot.
pub(super) fn long_bytes(id: &str) -> usize {
    if id.len() > SHORT { id.len() } else { 0 }
}

/// Where the search for a node begins.
fn home(tag: Tag, slots: usize) -> usize {
    let lines = (slots / IN_LINE) as u64;
    let line = (u64::from(tag.0) * lines) >> 32;
    usize::try_from(line).unwrap_or(0) * IN_LINE
}

/// Where it goes on.
fn behind(place: usize, slots: usize) -> usize {
    if place + 1 == slots { 0 } else { place + 1 }
}

/// Whether so many nodes leave slots enough.
fn fits(count: usize, slots: usize) -> bool {
    count * FULL.1 <= slots * FULL.0
}

/// Puts a slot into the first that is vacant, of which there is one; where that is.
fn put(slots: &mut [Slot], slot: Slot) -> u32 {
    let mut place = home(slot.tag, slots.len());
    while let Some(at) = slots.get_mut(place) {
        if at.local == VACANT {
            *at = slot;
            break;
        }
        place = behind(place, slots.len());
    }
    u32::try_from(place).unwrap_or(VACANT)
}

/// Where a long id lies in the text.
fn range(id: &[u8; SHORT]) -> std::ops::Range<usize> {
    let number = |at: usize| {
        let bytes = id.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default()) as usize
    };
    number(0)..number(4)
}

fn note_range(id: &mut [u8; SHORT], begin: usize, end: usize) {
    for (bytes, number) in id.chunks_exact_mut(4).zip([begin, end]) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        bytes.copy_from_slice(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::object_hash;

    /// Ids of every length around what a slot holds, by their number.
    fn id(number: u32) -> String {
        let length = 1 + number as usize % (SHORT + 4);
        format!("{number:0>length$}é")
    }

    fn tag(kind: TypeId, id: &str) -> Tag {
        Tag::of(object_hash(7, &kind.0.to_string(), id))
    }

    #[test]
    fn what_was_pushed_is_found_and_nothing_else() {
        let mut nodes = Nodes::default();
        for number in 0..5_000 {
            let (kind, id) = (TypeId(u16::from(number % 3 == 0)), id(number));
            assert_eq!(nodes.find(tag(kind, &id), kind, &id), None);
            assert_eq!(nodes.push(kind, tag(kind, &id), &id), number);
        }
        let more = nodes.followed_by(&nodes.clone());
        assert_eq!(more.len(), 10_000);
        for number in 0..5_000 {
            let (kind, id) = (TypeId(u16::from(number % 3 == 0)), id(number));
            let tag = tag(kind, &id);
            assert_eq!(nodes.find(tag, kind, &id), Some(number));
            assert_eq!(nodes.find(tag, TypeId(2), &id), None);
            assert_eq!(nodes.get(number), Some((kind, tag, &*id)));
            assert_eq!(more.id(number + 5_000), Some(&*id));
        }
    }

    #[test]
    fn nodes_of_one_tag_are_told_apart() {
        let mut nodes = Nodes::default();
        let tag = Tag(u32::MAX);
        for number in 0..100 {
            nodes.push(TypeId(0), tag, &id(number));
        }
        for number in 0..100 {
            assert_eq!(nodes.find(tag, TypeId(0), &id(number)), Some(number));
        }
        assert_eq!(nodes.find(tag, TypeId(0), "other"), None);
        assert_eq!(nodes.find(Tag(0), TypeId(0), "other"), None);
    }
}
