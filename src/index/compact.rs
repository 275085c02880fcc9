//! Leaving behind nodes that no tuple names any more.
//!
//! While an index is in use its nodes keep their numbers, which everything names them by: those
//! that no tuple names stay, and cost what an id costs. As it is read from a file nothing names them
//! yet: then they go, where they are many.

use std::sync::Arc;

use super::NodeId;
use super::base::Side;
use super::group::{Granted, NodeSide};
use super::nodes::{Nodes, long_bytes};
use super::segment::Base;

/// Nodes are numbered anew where at least one in so many is dead: it takes as long again as reading.
const ONE_IN: usize = 4;

/// By segment: the new places of its nodes; `None` of those that are left behind.
type Moves = Vec<Vec<Option<u32>>>;

/// Leaves dead nodes behind, where they are many.
pub(super) fn compact(bases: &mut [Base]) {
    let moves: Moves = bases.iter().map(moves).collect();
    let all: usize = moves.iter().map(Vec::len).sum();
    let alive = moves.iter().flatten().flatten().count();
    if (all - alive) * ONE_IN < all.max(1) {
        return;
    }
    for (base, own) in bases.iter_mut().zip(&moves) {
        *base = Base {
            nodes: Arc::new(nodes(&base.nodes, own)),
            forward: side(&base.forward, own, &moves, true),
            backward: side(&base.backward, own, &moves, false),
        };
    }
}

/// A node is alive where a tuple names it: then it has a group on one side.
fn moves(base: &Base) -> Vec<Option<u32>> {
    let mut next = 0..;
    let is_alive =
        |local| [&base.forward, &base.backward].map(|side| !side.groups(local).is_empty());
    (0..base.nodes.len())
        .map(|local| is_alive(local).contains(&true).then(|| next.next())?)
        .collect()
}

/// The nodes that stay, in their order.
fn alive(moves: &[Option<u32>]) -> impl Iterator<Item = u32> {
    let stays = |(local, moved): (u32, &Option<u32>)| moved.map(|_| local);
    (0..).zip(moves).filter_map(stays)
}

fn nodes(from: &Nodes, moves: &[Option<u32>]) -> Nodes {
    let text = alive(moves)
        .filter_map(|local| from.id(local))
        .map(long_bytes);
    let mut nodes = Nodes::default();
    nodes.reserve(alive(moves).count(), text.sum());
    for local in alive(moves) {
        if let Some((kind, tag, id)) = from.get(local) {
            nodes.push(kind, tag, id);
        }
    }
    nodes
}

fn side(from: &Side, own: &[Option<u32>], moves: &Moves, with_revisions: bool) -> Side {
    let mut side = Side::default();
    side.reserve_like(from, 0);
    let mut edges: Vec<Granted<'_>> = Vec::new();
    for local in alive(own) {
        let node = NodeSide {
            side: from,
            local,
            delta: None,
        };
        for group in node.groups(None) {
            edges.clear();
            edges.extend(
                group
                    .granted(None)
                    .filter_map(|granted| moved(granted, moves)),
            );
            // Nodes of one segment stay in their order, those of two need not.
            edges.sort_unstable_by_key(|granted| granted.edge.node);
            side.push_group(group.head(), edges.iter().copied(), with_revisions);
        }
        side.end_node();
    }
    side.shrink();
    side
}

fn moved<'a>(mut granted: Granted<'a>, moves: &Moves) -> Option<Granted<'a>> {
    let (segment, local) = (granted.edge.node.segment(), granted.edge.node.local());
    let moved = (*moves.get(segment)?.get(local as usize)?)?;
    granted.edge.node = NodeId::new(moved, segment);
    Some(granted)
}
