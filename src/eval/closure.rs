//! The search from the subject's side: of what kind of sets the subject can be a member at all.
//!
//! A closure follows the ways of [`crate::schema::program`] from the subject upwards, lazily and
//! only along kinds that lead to the one that is demanded. Once complete it holds every object
//! on which the subject can have the demanded relation or permission, under whatever conditions:
//! what it lacks is denied, what it holds as `sure` is allowed, the rest is decided by the
//! object's own program.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::index::{Group, Index, NodeId};
use crate::schema::program::{Finals, KindSet, Programs};
use crate::schema::{MemberId, RelId, Schema, SubjectForm, TypeId};
use crate::state::{Locks, Roles};
use crate::time::Timestamp;

use super::candidates::{Candidate, Last};
use super::{Facts, dependencies};

/// So many facts are looked at one by one; and most searches find fewer than so many.
const FEW: usize = 24;
const USUAL: usize = 8;
/// Tuples of one list that are walked before the budget is looked at.
const AT_ONCE: usize = 32;

/// What all closures of one question share.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub schema: &'a Schema,
    pub programs: &'a Programs,
    pub index: &'a Index,
    pub locks: &'a Locks,
    pub roles: &'a Roles,
    pub now: Timestamp,
}

impl<'a> Ground<'a> {
    /// What questions are answered from, at an instant.
    pub fn of(facts: Facts<'a>, now: Timestamp) -> Self {
        let Facts {
            schema,
            index,
            locks,
            roles,
        } = facts;
        Self {
            schema,
            programs: schema.programs(),
            index,
            locks,
            roles,
            now,
        }
    }
}

impl Ground<'_> {
    /// Whether a lock is held anywhere, of a mode that blocks this relation or permission.
    pub fn may_block(&self, member: MemberId) -> bool {
        if self.locks.is_empty() {
            return false;
        }
        let modes = &self.programs.get(member).locks;
        let definition = self.schema.type_def(self.schema.member(member).owner);
        modes.iter().any(|place| {
            let mode = definition.and_then(|kind| kind.locks.get(usize::from(*place)));
            mode.is_some_and(|mode| self.locks.has_mode(&mode.name))
        })
    }

    /// The same of any in a set.
    fn may_block_any(&self, kinds: &KindSet) -> bool {
        !self.locks.is_empty() && kinds.iter().any(|kind| self.may_block(kind))
    }

    /// Whether a member is the relation of the sites of some block.
    pub fn is_site(&self, member: MemberId) -> bool {
        self.schema
            .type_def(self.schema.member(member).owner)
            .is_none()
    }
}

/// The subject of a question, as the index knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    /// Its node; [`super::machine::NO_SUBJECT`] where no tuple names it.
    pub node: NodeId,
    /// Its type.
    pub kind: TypeId,
    /// The relation of a subject set, or [`RelId::NONE`].
    pub relation: RelId,
    /// The wildcard of its type, where it is a plain object and some tuple has it.
    pub wildcard: Option<NodeId>,
    /// Whether it is a wildcard itself.
    pub is_wildcard: bool,
}

/// One thing that the subject can have: `member` on `node`.
struct Fact {
    node: NodeId,
    /// `None` for the subject itself, where the search begins.
    member: Option<MemberId>,
    /// The relation that subject sets name it by.
    relation: RelId,
    sure: bool,
    /// The fact that it was reached from.
    parent: u32,
    /// Whether that step read a tuple of the parent's own relation (a backward arrow).
    step: Step,
}

/// How a fact was reached from its parent, for the keys of a proof.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// On the same object.
    Same,
    /// By a tuple whose subject is the parent's node.
    Up,
    /// By a tuple whose resource is the parent's node, of this relation.
    Down(RelId),
}

/// One list of tuples that is being walked.
struct Road<'a> {
    group: Group<'a>,
    to: MemberId,
    sure: bool,
    step: Step,
}

/// The search for one kind.
pub(super) struct Closure<'a> {
    demand: MemberId,
    /// Whether no lock is applied.
    free: bool,
    feeds: &'a KindSet,
    /// In the order in which they were found, which is that in which they are followed.
    facts: Vec<Fact>,
    /// Where each is, once they are more than a few.
    places: HashMap<(NodeId, MemberId), u32>,
    /// The first that was not followed.
    next: u32,
    /// To be followed once more.
    again: Vec<u32>,
    roads: Vec<Road<'a>>,
    on: u32,
    after: Option<NodeId>,
    complete: bool,
    /// Nodes that may have the demanded kind.
    found: Vec<NodeId>,
    /// Kinds at which it stops: tuples that lead to these are kept as they are, in `last`.
    finals: Option<&'a Finals>,
    /// Whether a lock may block one of these.
    blockable: bool,
    last: Vec<Last<'a>>,
    /// Steps taken so far.
    pub spent: u64,
    /// The first end of a tuple that was read.
    pub ends: Option<Timestamp>,
    /// How many facts were looked at to find or note others: time that no bound counts.
    #[cfg(test)]
    looked: std::cell::Cell<usize>,
}

/// Which types have relations that lead on in a search, by the subjects that these admit: of a type,
/// and of a relation of it or [`RelId::NONE`].
struct Takers(Vec<(TypeId, RelId, TypeId)>);

/// Types, each perhaps more than once.
type Types = SmallVec<[TypeId; 8]>;

impl Takers {
    fn of(ground: Ground<'_>, feeds: &KindSet) -> Self {
        let mut all = Vec::new();
        for member in feeds.iter().map(|kind| ground.schema.member(kind)) {
            for subject in member.relation().iter().flat_map(|one| &one.subjects) {
                let relation = match subject.form {
                    SubjectForm::Object | SubjectForm::Wildcard => RelId::NONE,
                    SubjectForm::Set(relation) => relation,
                };
                all.push((subject.kind, relation, member.owner));
            }
        }
        Self(all)
    }

    fn of_subject(&self, kind: TypeId, relation: RelId) -> Types {
        let taken = self
            .0
            .iter()
            .filter(|one| (one.0, one.1) == (kind, relation));
        taken.map(|one| one.2).collect()
    }
}

/// The key of what an object is in, as far as resources of these types go: never more than one, so
/// that the finer keys don't make answers rest on more of them.
fn membership(ground: Ground<'_>, object: u64, mut within: Types) -> Option<u64> {
    within.sort_unstable_by_key(|kind| kind.0);
    within.dedup();
    match within.as_slice() {
        // Nothing that is searched here takes it.
        [] => None,
        [only] => Some(dependencies::membership_within_key(
            ground.index,
            object,
            *only,
        )),
        _ => Some(dependencies::membership_key(object)),
    }
}

/// What a complete closure knows of an object.
pub(super) enum Known {
    /// The subject can't have it.
    Denied,
    /// The subject has it: the fact's place.
    Sure(u32),
    /// Its program decides.
    Open,
}

impl<'a> Closure<'a> {
    /// A search for all objects on which `who` can have `demand`.
    pub fn new(ground: Ground<'a>, who: Who, demand: MemberId, free: bool) -> Self {
        Self::toward(ground, who, (demand, free), None)
    }

    /// The same search, which leaves the tuples that lead to `finals` to whoever wants them.
    pub fn toward(
        ground: Ground<'a>,
        who: Who,
        (demand, free): (MemberId, bool),
        finals: Option<&'a Finals>,
    ) -> Self {
        let mut closure = Self {
            demand,
            free,
            feeds: ground.programs.feeds(demand),
            facts: Vec::with_capacity(USUAL),
            places: HashMap::new(),
            next: 0,
            again: Vec::new(),
            roads: Vec::new(),
            on: 0,
            after: None,
            complete: false,
            found: Vec::with_capacity(USUAL),
            finals,
            blockable: !free && finals.is_some_and(|finals| ground.may_block_any(&finals.kinds)),
            last: Vec::new(),
            spent: 0,
            ends: None,
            #[cfg(test)]
            looked: std::cell::Cell::default(),
        };
        closure.seed(who.node);
        if let Some(wildcard) = who.wildcard {
            closure.seed(wildcard);
        }
        closure.begin_itself(ground, who);
        closure
    }

    /// The kind that it searches, and whether no lock is applied.
    pub fn demand(&self) -> (MemberId, bool) {
        (self.demand, self.free)
    }

    /// Whether it has been searched to its end.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// All nodes that may have the demanded kind, sorted, once complete.
    pub fn found(&self) -> &[NodeId] {
        &self.found
    }

    /// What may have the demanded kind, once complete: found, and behind tuples that were left.
    pub fn into_candidates(self) -> (Vec<Candidate>, Vec<Last<'a>>) {
        let demand = self.demand;
        let found = self.facts.iter().filter(|fact| fact.member == Some(demand));
        let found = found.map(|fact| Candidate {
            node: fact.node,
            sure: fact.sure,
            proposed: true,
            has: None,
        });
        (found.collect(), self.last)
    }

    /// What is known of `node`, once complete.
    pub fn known(&self, node: NodeId) -> Known {
        match self.place_of(node, self.demand) {
            None => Known::Denied,
            Some(place) => match self.fact(place).sure {
                true => Known::Sure(place),
                false => Known::Open,
            },
        }
    }

    fn place_of(&self, node: NodeId, member: MemberId) -> Option<u32> {
        if self.facts.len() > FEW {
            return self.places.get(&(node, member)).copied();
        }
        let mut facts = self.noted();
        let found = facts.find(|(fact, _)| fact.node == node && fact.member == Some(member));
        found.map(|(_, place)| place)
    }

    /// The facts one by one, each with its place: there must be few of them, or this is done once.
    fn noted(&self) -> impl Iterator<Item = (&Fact, u32)> {
        let facts = self.facts.iter().zip(0..);
        #[cfg(test)]
        let facts = facts.inspect(|_| self.looked.set(self.looked.get() + 1));
        facts
    }

    fn push(&mut self, fact: Fact) {
        let place = self.next_place();
        let few = place as usize == FEW;
        if place as usize >= FEW
            && let Some(member) = fact.member
        {
            self.places.insert((fact.node, member), place);
        }
        self.facts.push(fact);
        if few {
            let all = self.noted();
            let named = all.filter_map(|(fact, place)| Some(((fact.node, fact.member?), place)));
            let named: Vec<_> = named.collect();
            self.places.extend(named);
        }
    }

    fn seed(&mut self, node: NodeId) {
        self.push(Fact {
            node,
            member: None,
            relation: RelId::NONE,
            sure: true,
            parent: 0,
            step: Step::Same,
        });
    }

    fn next_place(&self) -> u32 {
        u32::try_from(self.facts.len()).unwrap_or(u32::MAX)
    }

    /// A set is a member of itself, and `self` holds on the subject's own object.
    fn begin_itself(&mut self, ground: Ground<'a>, who: Who) {
        if who.relation != RelId::NONE {
            self.next = self.next_place();
            if let Some(member) = ground.schema.member_id(who.kind, who.relation) {
                self.add(ground, who.node, member, true, 0, Step::Same);
            }
            return;
        }
        if who.is_wildcard {
            return;
        }
        let kind = ground.schema.type_def(who.kind);
        for member in kind
            .iter()
            .flat_map(|kind| kind.members.iter().chain(&kind.rules))
        {
            if let Some(sure) = ground.programs.get(*member).itself {
                self.add(ground, who.node, *member, sure, 0, Step::Same);
            }
        }
    }

    /// Notes a fact; one that was open and now is sure is followed again.
    fn add(
        &mut self,
        ground: Ground<'a>,
        node: NodeId,
        member: MemberId,
        sure: bool,
        parent: u32,
        step: Step,
    ) {
        if !self.feeds.has(member) {
            return;
        }
        // What a lock may block is proposed here and decided by its program.
        let sure = sure && (self.free || !ground.may_block(member));
        let Some(place) = self.place_of(node, member) else {
            self.push(Fact {
                node,
                member: Some(member),
                relation: ground.schema.member(member).rel,
                sure,
                parent,
                step,
            });
            if member == self.demand {
                self.found.push(node);
            }
            return;
        };
        let Some(fact) = self.facts.get_mut(place as usize) else {
            return;
        };
        if sure && !fact.sure {
            (fact.sure, fact.parent, fact.step) = (true, parent, step);
            if place < self.next {
                self.again.push(place);
            }
        }
    }

    /// Searches on for at most about `budget` steps.
    pub fn advance(&mut self, ground: Ground<'a>, budget: u64) {
        let stop = self.spent.saturating_add(budget);
        while !self.complete && self.spent < stop {
            if let Some(road) = self.roads.pop() {
                self.walk(ground, road);
            } else if (self.next as usize) < self.facts.len() {
                self.next += 1;
                self.begin(ground, self.next - 1);
            } else if let Some(place) = self.again.pop() {
                self.begin(ground, place);
            } else {
                // Here, since every walk looks at what was found.
                self.found.sort_unstable();
                self.complete = true;
            }
        }
    }

    /// Lists the roads that lead on from a fact.
    fn begin(&mut self, ground: Ground<'a>, place: u32) {
        self.on = place;
        self.after = None;
        self.spent += 1;
        let Fact {
            node,
            member,
            relation,
            sure,
            ..
        } = *self.fact(place);
        let site = member.is_some_and(|member| ground.is_site(member));
        let given = !site || member.is_some_and(|member| self.gives(ground, node, member));
        for group in ground.index.resource_groups(node) {
            if group.subject_relation == relation {
                self.road_of_tuples(ground, group, sure);
            }
            if let Some(member) = member.filter(|_| given) {
                self.road_of_arrows(ground, group, member, sure);
            }
        }
        if let Some(member) = member {
            self.same_object(ground, node, member, sure, place);
            self.roads_down(ground, node, member, sure);
        }
    }

    /// Whether the role of a site gives anything that is searched here.
    fn gives(&self, ground: Ground<'a>, site: NodeId, member: MemberId) -> bool {
        let Some(site) = ground.index.site(site) else {
            return false;
        };
        let mut given = ground.programs.get(member).given.iter();
        given.any(|(to, which)| {
            self.feeds.has(*to) && ground.role_means(site.role, *to, member, *which)
        })
    }

    fn road_of_tuples(&mut self, ground: Ground<'a>, group: Group<'a>, sure: bool) {
        if let Some(to) = ground.schema.member_id(group.kind, group.relation)
            && self.feeds.has(to)
        {
            let road = Road {
                group,
                to,
                sure,
                step: Step::Up,
            };
            self.road(ground, road);
        }
    }

    fn road(&mut self, ground: Ground<'a>, road: Road<'a>) {
        let Road {
            group, to, sure, ..
        } = road;
        match self.finals.filter(|finals| finals.kinds.has(to)) {
            Some(finals) => self.last.push(Last {
                group,
                sure: sure && finals.sure.has(to) && !self.blockable,
                proposed: true,
                gives: (sure && (self.free || !ground.may_block(to))).then_some(to),
            }),
            None if road.group.len_hint() < AT_ONCE => self.walk(ground, road),
            None => self.roads.push(road),
        }
    }

    fn road_of_arrows(&mut self, ground: Ground<'a>, group: Group<'a>, from: MemberId, sure: bool) {
        for way in &ground.programs.get(from).arrows {
            let via = ground.schema.member(way.via);
            if via.rel == group.relation && via.owner == group.kind && self.feeds.has(way.to) {
                let road = Road {
                    group,
                    to: way.to,
                    sure: sure && way.sure,
                    step: Step::Up,
                };
                self.road(ground, road);
            }
        }
    }

    fn same_object(
        &mut self,
        ground: Ground<'a>,
        node: NodeId,
        member: MemberId,
        sure: bool,
        place: u32,
    ) {
        for way in &ground.programs.get(member).same {
            self.add(ground, node, way.to, sure && way.sure, place, Step::Same);
        }
    }

    fn roads_down(&mut self, ground: Ground<'a>, node: NodeId, member: MemberId, sure: bool) {
        for way in &ground.programs.get(member).backwards {
            if !self.feeds.has(way.to) {
                continue;
            }
            let via = ground.schema.member(way.via).rel;
            let kind = ground.schema.member(way.to).owner;
            for group in ground.index.subject_groups(node, via) {
                if group.kind == kind {
                    let road = Road {
                        group,
                        to: way.to,
                        sure: sure && way.sure,
                        step: Step::Down(via),
                    };
                    self.road(ground, road);
                }
            }
        }
    }

    fn walk(&mut self, ground: Ground<'a>, road: Road<'a>) {
        let parent = self.on;
        if road.group.len_hint() < AT_ONCE
            && let Some(nodes) = road.group.plain()
        {
            for node in nodes {
                self.spent += 1;
                self.add(ground, node, road.to, road.sure, parent, road.step);
            }
            return;
        }
        let edges = road.group.iter_from(self.after.take());
        let (mut last, mut walked) = (None, 0);
        for edge in edges.take(AT_ONCE) {
            self.spent += 1;
            last = Some(edge.node);
            walked += 1;
            let (live, plain, end) = super::machine::standing(edge.restriction, ground.now);
            if !live {
                continue;
            }
            self.ends = super::machine::earlier(self.ends, end);
            self.add(
                ground,
                edge.node,
                road.to,
                road.sure && plain,
                parent,
                road.step,
            );
        }
        if walked == AT_ONCE {
            self.after = last;
            self.roads.push(road);
        }
    }

    /// The keys that its absences rest on, once complete.
    pub fn keys(
        &self,
        ground: Ground<'a>,
        who: Who,
        hash: impl Fn(NodeId) -> u64,
        keys: &mut Vec<u64>,
    ) {
        let takers = Takers::of(ground, self.feeds);
        for fact in &self.facts {
            if let Some(site) = (fact.member.filter(|member| ground.is_site(*member)))
                .and_then(|_| ground.index.site(fact.node))
            {
                keys.push(dependencies::role_key(ground.index.seed(), site.role));
                continue;
            }
            let object = hash(fact.node);
            let kind = (fact.member).map_or(who.kind, |member| ground.schema.member(member).owner);
            let mut within = takers.of_subject(kind, fact.relation);
            for way in (fact.member.iter()).flat_map(|m| &ground.programs.get(*m).arrows) {
                if self.feeds.has(way.to) {
                    within.push(ground.schema.member(way.via).owner);
                }
            }
            keys.extend(membership(ground, object, within));
            for way in (fact.member.iter()).flat_map(|m| &ground.programs.get(*m).backwards) {
                if self.feeds.has(way.to) {
                    let via = ground.schema.member(way.via).rel;
                    keys.push(dependencies::subjects_key(ground.index, object, via));
                }
            }
        }
        if who.relation == RelId::NONE && !who.is_wildcard {
            let within = takers.of_subject(who.kind, RelId::NONE);
            keys.extend(membership(
                ground,
                ground.index.object_hash(who.kind, "*"),
                within,
            ));
        }
    }

    /// The keys of the tuples that prove a sure fact.
    pub fn proof(
        &self,
        ground: Ground<'a>,
        mut place: u32,
        hash: impl Fn(NodeId) -> u64 + Copy,
        keys: &mut Vec<u64>,
    ) {
        loop {
            let fact = self.fact(place);
            let Some(member) = fact.member else {
                return;
            };
            if !self.free {
                super::locks::keys(ground, (fact.node, member), &hash, keys);
            }
            let parent = hash(self.fact(fact.parent).node);
            match fact.step {
                Step::Same => {}
                Step::Up => {
                    let within = ground.schema.member(member).owner;
                    let key = dependencies::membership_within_key(ground.index, parent, within);
                    keys.push(key);
                }
                Step::Down(via) => {
                    keys.push(dependencies::subjects_key(ground.index, parent, via));
                }
            }
            if fact.parent == place {
                return;
            }
            place = fact.parent;
        }
    }

    #[expect(clippy::indexing_slicing, reason = "places are those of pushed facts")]
    fn fact(&self, place: u32) -> &Fact {
        &self.facts[place as usize]
    }
}

#[cfg(test)]
mod tests;
