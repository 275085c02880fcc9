//! An index as bytes, for checkpoints: the flat arrays of each segment, as they lie in memory.
//!
//! Whoever stores the bytes proves that they come back whole; reading still trusts no length and
//! no number, since a list that is too long must not end the process.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::schema::{CaveatId, Names, RelId, SubjectForm, TypeId};
use crate::time::Timestamp;
use crate::tuple::{Context, TupleFilter};

use super::base::Side;
use super::compact::compact;
use super::group::Head;
use super::nodes::{Nodes, Tag, long_bytes};
use super::segment::{Base, Segment};
use super::shapes::{Shape, Shapes};
use super::{Index, NodeId, Restriction, SEGMENTS, TupleKey};

const MAGIC: [u8; 8] = *b"PCINDEX1";
/// How much of a list is read at a time: a wrong length costs no more than this.
const CHUNK: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    seed: u64,
    types: Vec<Arc<str>>,
    relations: Vec<Arc<str>>,
    caveats: Vec<Arc<str>>,
    /// Counts that older files lack.
    #[serde(default)]
    shapes: Option<Vec<StoredShape>>,
}

/// A shape and its count: the types of resource and subject, the relation, the relation of a
/// subject set, whether it is a wildcard's, the caveat, whether it ends.
type StoredShape = (u16, u16, u16, Option<u16>, bool, Option<u16>, bool, u64);

#[derive(Serialize, Deserialize)]
struct Stored {
    place: u32,
    caveat: Option<u16>,
    context: Option<Arc<Context>>,
    expires_at: Option<(i64, u32)>,
}

impl Index {
    /// Writes all tuples and names, and lets go of each segment as soon as it is written: one that
    /// was merged meanwhile stands in memory twice no longer than it has to.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(mut self, out: &mut dyn Write) -> io::Result<()> {
        let [types, relations, caveats] = self.names.lists();
        let header = Header {
            seed: self.seed,
            types,
            relations,
            caveats,
            shapes: Some(self.shapes().map(stored_shape).collect()),
        };
        out.write_all(&MAGIC)?;
        write_bytes(out, &serde_json::to_vec(&header)?)?;
        let empty = Self::new(self.seed).segments;
        for segment in Arc::unwrap_or_clone(std::mem::replace(&mut self.segments, empty)) {
            match segment.is_merged() {
                true => self.write_base(out, segment.base())?,
                false => self.write_base(out, &segment.merged())?,
            }
        }
        Ok(())
    }

    /// Reads what [`Index::write_to`] wrote.
    ///
    /// # Errors
    /// Those of `input`, and `InvalidData` where the bytes are no index.
    pub fn read_from(input: &mut dyn Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged("it does not begin as an index does"));
        }
        let header: Header = serde_json::from_slice(&read_bytes(input)?)?;
        let lists = [header.types, header.relations, header.caveats];
        let names = Names::from_lists(&lists).ok_or_else(|| damaged("a name stands twice"))?;
        let mut index = Self::new(header.seed).with_names(Arc::new(names));
        let bases: io::Result<Vec<Base>> = (0..SEGMENTS).map(|_| read_base(input)).collect();
        let mut bases = bases?;
        compact(&mut bases);
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(SEGMENTS);
        for (place, base) in bases.into_iter().enumerate() {
            index.tuples += base.forward.target_count() as u64 - index.links(&base.forward);
            index.note_expiries(place, &base);
            index.sites.note(&index.names, place, &base);
            segments.push(Arc::new(Segment::from_base(base)));
        }
        let segments: Box<[Arc<Segment>; SEGMENTS]> = (segments.into_boxed_slice().try_into())
            .map_err(|_| damaged("it has too few segments"))?;
        index.segments = Arc::from(segments);
        index.shapes = match header.shapes {
            Some(stored) => Shapes::of(stored.into_iter().map(shape)),
            None => index.counted(),
        };
        Ok(index)
    }

    fn write_base(&self, out: &mut dyn Write, base: &Base) -> io::Result<()> {
        let nodes = base.nodes.iter();
        write_list(out, nodes.clone(), |(kind, ..)| kind.0.to_le_bytes())?;
        let hash = |(kind, _, id)| self.object_hash(kind, id).to_le_bytes();
        write_list(out, nodes.clone(), hash)?;
        let mut text = String::new();
        let ends: Vec<u32> = (nodes.map(|(_, _, id)| {
            text.push_str(id);
            u32::try_from(text.len()).unwrap_or(u32::MAX)
        }))
        .collect();
        write_numbers(out, &ends)?;
        write_bytes(out, text.as_bytes())?;
        write_side(out, &base.forward)?;
        write_side(out, &base.backward)
    }

    /// The shapes of a file that does not say them. Reads every tuple.
    fn counted(&self) -> Shapes {
        let mut shapes = Shapes::default();
        let all = TupleFilter::default();
        for stored in self.scan(&all, None) {
            shapes.add(stored.shape());
        }
        shapes
    }

    /// How many edges of a side are links to sites, which count as no tuples.
    fn links(&self, forward: &Side) -> u64 {
        let mut links = 0;
        let mut begin = 0;
        for (head, end) in forward.ends() {
            if super::site::is_site(&self.names, head.kind) {
                links += u64::from(end.saturating_sub(begin));
            }
            begin = end;
        }
        links
    }

    fn note_expiries(&mut self, place: usize, base: &Base) {
        if base
            .forward
            .restrictions
            .iter()
            .all(|(_, r)| r.expires_at.is_none())
        {
            return;
        }
        for local in 0..base.nodes.len() {
            for group in base.forward.groups(local) {
                let found = base.forward.head(group).zip(base.forward.targets_of(group));
                let Some((head, (first, targets))) = found else {
                    continue;
                };
                for (nth, target) in targets.iter().enumerate() {
                    let restriction = base.forward.restriction(first as usize + nth);
                    if let Some(end) = restriction.and_then(|r| r.expires_at) {
                        let key = TupleKey {
                            resource: NodeId::new(local, place),
                            relation: head.relation,
                            subject: NodeId(*target),
                            set: head.set,
                        };
                        self.expiries.insert((end, key));
                    }
                }
            }
        }
    }
}

fn stored_shape((shape, count): (Shape, u64)) -> StoredShape {
    let (set, wildcard) = match shape.form {
        SubjectForm::Object => (None, false),
        SubjectForm::Wildcard => (None, true),
        SubjectForm::Set(set) => (Some(set.0), false),
    };
    let Shape {
        resource,
        relation,
        subject,
        caveat,
        expiration,
        ..
    } = shape;
    let caveat = caveat.map(|caveat| caveat.0);
    let kinds = (resource.0, subject.0);
    (
        kinds.0, kinds.1, relation.0, set, wildcard, caveat, expiration, count,
    )
}

fn shape(stored: StoredShape) -> (Shape, u64) {
    let (resource, subject, relation, set, wildcard, caveat, expiration, count) = stored;
    let shape = Shape {
        resource: TypeId(resource),
        relation: RelId(relation),
        subject: TypeId(subject),
        form: match (set, wildcard) {
            (Some(set), _) => SubjectForm::Set(RelId(set)),
            (None, true) => SubjectForm::Wildcard,
            (None, false) => SubjectForm::Object,
        },
        caveat: caveat.map(CaveatId),
        expiration,
    };
    (shape, count)
}

fn write_side(out: &mut dyn Write, side: &Side) -> io::Result<()> {
    let lists = side.lists();
    write_numbers(out, lists.starts)?;
    write_list(out, side.ends(), |(head, _)| {
        let parts = [head.relation.0, head.kind.0, head.set.0].map(u16::to_le_bytes);
        let mut bytes = [0; 6];
        bytes.copy_from_slice(parts.as_flattened());
        bytes
    })?;
    write_list(out, side.ends(), |(_, end)| end.to_le_bytes())?;
    write_numbers(out, lists.targets)?;
    write_numbers(out, lists.revisions)?;
    let restrictions: Vec<Stored> = (side.restrictions.iter())
        .map(|(place, restriction)| Stored {
            place: *place,
            caveat: restriction.caveat.as_ref().map(|(caveat, _)| caveat.0),
            context: restriction
                .caveat
                .as_ref()
                .map(|(_, context)| Arc::clone(context)),
            expires_at: restriction
                .expires_at
                .map(|end| (end.seconds(), end.nanos())),
        })
        .collect();
    write_bytes(out, &serde_json::to_vec(&restrictions)?)
}

fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn write_numbers(out: &mut dyn Write, list: &[u32]) -> io::Result<()> {
    write_list(out, list.iter(), |number| number.to_le_bytes())
}

fn write_list<T, const N: usize>(
    out: &mut dyn Write,
    list: impl ExactSizeIterator<Item = T>,
    encode: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let length = list.len() * N;
    out.write_all(&(length as u64).to_le_bytes())?;
    let mut bytes = Vec::with_capacity(CHUNK.min(length));
    for item in list {
        bytes.extend_from_slice(&encode(item));
        if bytes.len() + N > CHUNK {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)
}

fn read_base(input: &mut dyn Read) -> io::Result<Base> {
    let kinds = read_list(input, |bytes| TypeId(u16::from_le_bytes(bytes)))?;
    let hashes = read_list(input, u64::from_le_bytes)?;
    let ends = read_list(input, u32::from_le_bytes)?;
    let text = String::from_utf8(read_bytes(input)?).map_err(|_| damaged("an id is no text"))?;
    if kinds.len() != hashes.len() || kinds.len() != ends.len() {
        return Err(damaged("its lists of nodes differ in length"));
    }
    let mut begin = 0;
    let ids = ends.iter().map(|end| {
        let range = std::mem::replace(&mut begin, *end as usize)..*end as usize;
        text.get(range)
    });
    let ids: Option<Vec<&str>> = ids.collect();
    let ids = ids.ok_or_else(|| damaged("an id ends before it begins"))?;
    let mut nodes = Nodes::default();
    nodes.reserve(ids.len(), ids.iter().map(|id| long_bytes(id)).sum());
    for ((kind, hash), id) in kinds.iter().zip(hashes).zip(ids) {
        nodes.push(*kind, Tag::of(hash), id);
    }
    Ok(Base {
        nodes: Arc::new(nodes),
        forward: read_side(input)?,
        backward: read_side(input)?,
    })
}

fn read_side(input: &mut dyn Read) -> io::Result<Side> {
    let starts = read_list(input, u32::from_le_bytes)?;
    let heads = read_list(input, |bytes: [u8; 6]| {
        let [relation, kind, set] = numbers(bytes);
        Head {
            relation: RelId(relation),
            kind: TypeId(kind),
            set: RelId(set),
        }
    })?;
    let ends = read_list(input, u32::from_le_bytes)?;
    let targets = read_list(input, u32::from_le_bytes)?;
    let revisions = read_list(input, u32::from_le_bytes)?;
    let stored: Vec<Stored> = serde_json::from_slice(&read_bytes(input)?)?;
    let restrictions = (stored.into_iter())
        .map(|stored| {
            let caveat = stored.caveat.map(CaveatId);
            let expires_at = (stored.expires_at)
                .map(|(seconds, nanos)| {
                    Timestamp::new(seconds, nanos).ok_or_else(|| damaged("an expiry is no time"))
                })
                .transpose()?;
            let restriction = Restriction {
                caveat: caveat.zip(stored.context),
                expires_at,
                also: None,
            };
            Ok((stored.place, Arc::new(restriction)))
        })
        .collect::<io::Result<_>>()?;
    if heads.len() != ends.len() {
        return Err(damaged("its lists of groups differ in length"));
    }
    let ends = heads.into_iter().zip(ends);
    Ok(Side::of(starts, ends, targets, revisions, restrictions))
}

/// Three little-endian numbers.
fn numbers(bytes: [u8; 6]) -> [u16; 3] {
    let number = |at: usize| {
        let low = bytes.get(at).copied().unwrap_or(0);
        let high = bytes.get(at + 1).copied().unwrap_or(0);
        u16::from_le_bytes([low, high])
    };
    [number(0), number(2), number(4)]
}

fn read_length(input: &mut dyn Read) -> io::Result<usize> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    usize::try_from(u64::from_le_bytes(length)).map_err(|_| damaged("a list is too long"))
}

fn read_bytes(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let length = read_length(input)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let begin = bytes.len();
        bytes.reserve_exact((length - begin).min(CHUNK.max(begin)));
        bytes.resize((begin + CHUNK.max(begin)).min(length), 0);
        let (_, part) = bytes.split_at_mut(begin);
        input.read_exact(part)?;
    }
    Ok(bytes)
}

fn read_list<T, const N: usize>(
    input: &mut dyn Read,
    decode: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let bytes = read_bytes(input)?;
    let (items, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(damaged("a list ends within an item"));
    }
    Ok(items.iter().map(|item| decode(*item)).collect())
}

fn damaged(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
