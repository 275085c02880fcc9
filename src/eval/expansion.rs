//! The search from the resource's side: which subjects its permission can come to at all.
//!
//! The counterpart of the closure, along the same ways in the other direction. What it proposes
//! without doubt is allowed; all else the checking machine decides. Where a wildcard is among
//! what is granted, subjects that no grant names can have more or less than all others have: the
//! search of the `whole` tree follows every operand, the right sides of `-` included, and so comes
//! to all whom anything there names.

use hashbrown::HashMap;

use crate::index::{Edge, Group, NodeId};
use crate::schema::program::{Op, Program};
use crate::schema::{MemberId, RelId, RolesId, TypeId};
use crate::tuple::Subject;

use super::candidates::{Candidate, Last};
use super::climb::Climb;
use super::closure::Ground;
use super::machine::standing;

/// What of a type is looked for: objects, or the sets of a relation.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub kind: TypeId,
    pub relation: RelId,
}

/// The search from one permission of one object.
pub(super) struct Expansion<'a> {
    ground: Ground<'a>,
    form: Form,
    /// Whether what stands on the right of `-` and beside `&` is followed too.
    whole: bool,
    facts: Vec<(NodeId, MemberId, bool)>,
    places: HashMap<(NodeId, MemberId), usize>,
    found: Vec<Candidate>,
    last: Vec<Last<'a>>,
    spent: u64,
}

/// More steps than allowed.
pub(super) struct TooWide;

impl<'a> Expansion<'a> {
    /// Searches to the end, or for at most about `limit` steps.
    pub fn of(
        ground: Ground<'a>,
        form: Form,
        root: (NodeId, MemberId),
        whole: bool,
        limit: u64,
    ) -> Result<Self, TooWide> {
        let mut expansion = Self {
            ground,
            form,
            whole,
            facts: Vec::new(),
            places: HashMap::new(),
            found: Vec::new(),
            last: Vec::new(),
            spent: 0,
        };
        expansion.add(root.0, root.1, !whole);
        let mut open = vec![0];
        let mut next = 1;
        while let Some(place) = open.pop() {
            expansion.expand(place, &mut open);
            open.extend(next..expansion.facts.len());
            next = expansion.facts.len();
            if expansion.spent > limit {
                return Err(TooWide);
            }
        }
        Ok(expansion)
    }

    /// What it has found: one by one, and as whole groups of tuples.
    pub fn into_candidates(self) -> (Vec<Candidate>, Vec<Last<'a>>) {
        (self.found, self.last)
    }

    /// What the permission can come from, in the order in which it was found.
    pub fn facts(&self) -> impl Iterator<Item = (NodeId, MemberId)> {
        self.facts.iter().map(|(node, member, _)| (*node, *member))
    }

    /// Whether a tuple that stands names `node`.
    pub fn names(&self, node: NodeId) -> bool {
        let now = self.ground.now;
        self.last.iter().any(|last| {
            let edge = last.group.get(node);
            edge.is_some_and(|edge| standing(edge.restriction, now).0)
        })
    }

    /// Notes what the permission can come from; gives the place of a fact that is now sure, and
    /// was not.
    fn add(&mut self, node: NodeId, member: MemberId, sure: bool) -> Option<usize> {
        // What a lock may block is proposed here and decided by its program.
        let sure = sure && !self.ground.may_block(member);
        let fresh = self.facts.len();
        match self.places.entry((node, member)) {
            hashbrown::hash_map::Entry::Vacant(entry) => {
                entry.insert(fresh);
                self.facts.push((node, member, sure));
                None
            }
            hashbrown::hash_map::Entry::Occupied(entry) => {
                let place = *entry.get();
                let fact = self.facts.get_mut(place)?;
                let rose = sure && !fact.2;
                fact.2 |= sure;
                rose.then_some(place)
            }
        }
    }

    fn expand(&mut self, place: usize, again: &mut Vec<usize>) {
        let Some((node, member, sure)) = self.facts.get(place).copied() else {
            return;
        };
        self.spent += 1;
        let Form { kind, relation } = self.form;
        let (owner, rel) = {
            let member = self.ground.schema.member(member);
            (member.owner, member.rel)
        };
        let program = self.ground.programs.get(member);
        if owner == kind && rel == relation {
            // A set is a member of itself.
            self.find(node, sure);
        }
        if owner == kind
            && relation == RelId::NONE
            && let Some(itself) = program.itself
        {
            self.find(node, sure && itself);
        }
        match self.whole {
            true => self.expand_whole(node, member, program, again),
            false => self.expand_ways(node, member, sure, again),
        }
    }

    fn find(&mut self, node: NodeId, sure: bool) {
        self.found.push(Candidate {
            node,
            sure,
            proposed: !self.whole,
            has: None,
        });
    }

    /// Along the ways by which facts propose this one, backwards.
    fn expand_ways(&mut self, node: NodeId, member: MemberId, sure: bool, again: &mut Vec<usize>) {
        let Ground {
            schema, programs, ..
        } = self.ground;
        if schema.member(member).relation().is_some() {
            return self.expand_tuples(node, member, sure, again);
        }
        for from in programs.sources(member) {
            let program = programs.get(from);
            for way in program.same.iter().filter(|way| way.to == member) {
                again.extend(self.add(node, from, sure && way.sure));
            }
            for way in program.arrows.iter().filter(|way| way.to == member) {
                self.forward(node, way.via, from, sure && way.sure, again);
            }
            for way in program.backwards.iter().filter(|way| way.to == member) {
                self.backward(node, way.via, from, sure && way.sure, again);
            }
        }
    }

    /// Along every operand of the permission.
    fn expand_whole(
        &mut self,
        node: NodeId,
        member: MemberId,
        program: &'a Program,
        again: &mut Vec<usize>,
    ) {
        let schema = self.ground.schema;
        self.expand_locks(node, member, again);
        for op in &program.ops {
            match *op {
                Op::Tuples => self.expand_tuples(node, member, false, again),
                Op::Call(called, _) => drop(self.add(node, called, false)),
                Op::Arrow { via, target, .. } => {
                    let relation = schema.member(via).rel;
                    for group in self.ground.index.subject_groups(node, relation) {
                        if let Some(member) = schema.member_id(group.kind, target) {
                            self.through(group, member, false, again);
                        }
                    }
                }
                Op::Backward { via, target, .. } => {
                    self.backward(node, via, target, false, again);
                }
                Op::Roles { roles, .. } => self.expand_roles(node, member, roles, again),
                Op::Itself(_) if schema.member(member).owner == self.form.kind => {
                    if self.form.relation == RelId::NONE {
                        self.find(node, false);
                    }
                }
                Op::Itself(_)
                | Op::Nobody
                | Op::IfAllowed(_)
                | Op::IfDenied(_)
                | Op::Or
                | Op::And
                | Op::Minus => {}
            }
        }
    }

    /// Whoever holds any role of a block, on the object or on what it inherits from.
    fn expand_roles(
        &mut self,
        node: NodeId,
        member: MemberId,
        roles: RolesId,
        again: &mut Vec<usize>,
    ) {
        let ground = self.ground;
        let Some(block) = ground.schema.roles.get(usize::from(roles.0)) else {
            return;
        };
        let kind = ground.schema.member(member).owner;
        let inherits = |kind| ground.roles_inherit(kind, roles);
        let above = Climb::from(ground, node, kind, inherits, u64::MAX);
        self.spent += above.reads;
        for (node, _) in above.nodes {
            for group in (ground.index).subject_groups(node, block.sites.relation) {
                if group.kind == block.sites.kind {
                    self.through(group, block.sites.member, false, again);
                }
            }
        }
    }

    /// Whoever a lock lets pass: they can have what others have not.
    fn expand_locks(&mut self, node: NodeId, member: MemberId, again: &mut Vec<usize>) {
        let ground = self.ground;
        let kind = ground.schema.member(member).owner;
        for place in &ground.programs.get(member).locks {
            let mode = ground.mode(kind, *place);
            let Some(mode) = mode.filter(|mode| ground.locks.has_mode(&mode.name)) else {
                continue;
            };
            let climb = ground.locked_places(node, kind, &mode.name, u64::MAX);
            self.spent += climb.reads;
            // An object that the index does not know has no tuple whose grant could be blocked.
            let hash = |node| ground.index.hash_of(node);
            let locks = ground.locks_of(&climb, &mode.name, hash, None);
            if let Some(except) = mode.except.filter(|_| !locks.is_empty()) {
                again.extend(self.add(node, except, false));
            }
            for exempt in locks.iter().flat_map(|lock| &lock.exempt) {
                self.expand_exempt(exempt, again);
            }
        }
    }

    fn expand_exempt(&mut self, exempt: &Subject, again: &mut Vec<usize>) {
        let Ground { schema, index, .. } = self.ground;
        let Some(kind) = schema.type_named(exempt.kind()).map(|kind| kind.id) else {
            return;
        };
        let Some(node) = index.node(kind, exempt.id()) else {
            return;
        };
        self.spent += 1;
        let relation = exempt.relation().map(|name| schema.names.rel_id(name));
        match relation {
            None if (kind, RelId::NONE) == (self.form.kind, self.form.relation) => {
                self.find(node, false);
            }
            Some(Some(relation)) => {
                if let Some(member) = schema.member_id(kind, relation) {
                    again.extend(self.add(node, member, false));
                }
            }
            _ => {}
        }
    }

    /// The tuples of a relation: who is named, and whose sets are.
    fn expand_tuples(
        &mut self,
        node: NodeId,
        member: MemberId,
        sure: bool,
        again: &mut Vec<usize>,
    ) {
        let schema = self.ground.schema;
        let relation = schema.member(member).rel;
        for group in self.ground.index.subject_groups(node, relation) {
            self.spent += 1;
            let set = group.subject_relation;
            if group.kind == self.form.kind && set == self.form.relation {
                self.last.push(Last {
                    group,
                    sure,
                    proposed: !self.whole,
                    gives: None,
                });
            }
            if set != RelId::NONE
                && let Some(member) = schema.member_id(group.kind, set)
            {
                self.through(group, member, sure, again);
            }
        }
    }

    /// The objects that tuples of `via` lead to.
    fn forward(
        &mut self,
        node: NodeId,
        via: MemberId,
        to: MemberId,
        sure: bool,
        again: &mut Vec<usize>,
    ) {
        let schema = self.ground.schema;
        let (relation, owner) = (schema.member(via).rel, schema.member(to).owner);
        for group in self.ground.index.subject_groups(node, relation) {
            if group.kind == owner {
                self.through(group, to, sure, again);
            }
        }
    }

    /// The objects whose tuples of `via` lead here.
    fn backward(
        &mut self,
        node: NodeId,
        via: MemberId,
        to: MemberId,
        sure: bool,
        again: &mut Vec<usize>,
    ) {
        let via = self.ground.schema.member(via);
        for group in self.ground.index.resource_groups(node) {
            if group.relation == via.rel && group.kind == via.owner {
                self.through(group, to, sure, again);
            }
        }
    }

    fn through(&mut self, group: Group<'a>, to: MemberId, sure: bool, again: &mut Vec<usize>) {
        for Edge { node, restriction } in group.iter() {
            self.spent += 1;
            let (live, plain, _) = standing(restriction, self.ground.now);
            if live {
                again.extend(self.add(node, to, sure && plain));
            }
        }
    }
}
