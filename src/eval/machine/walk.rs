//! Walks over the objects behind a relation's subject sets or an arrow: forward over the tuples,
//! or, where that is shorter, over what the subject's side has found.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::{Edge, Group, NodeId, Restriction};
use crate::schema::program::{Op, Sign, Which};
use crate::schema::{MemberId, RelId, RolesId};

use super::super::climb::Climb;
use super::super::closure::Closure;
use super::super::dependencies::{membership_within_key, role_key};
use super::super::locks::read_keys;
use super::super::value::Value;
use super::{Frame, Goal, Machine, Rest, SHORT, Step, TooMuchWork, earlier, standing};

/// How many tuples of a long list are taken at a time.
const CHUNK: usize = 32;

/// Lists of tuples, each with what is asked of the objects there.
pub(super) type Groups<'a> = SmallVec<[(Group<'a>, MemberId); 2]>;

/// The objects behind a relation's sets or an arrow, one after the other.
pub(super) struct Walk<'a> {
    groups: Groups<'a>,
    at: usize,
    after: Option<NodeId>,
    pending: SmallVec<[Target<'a>; 2]>,
    /// What the tuple that led to the object in evaluation says.
    tuple: Value,
    target: Option<NodeId>,
    acc: Value,
    all: bool,
    /// Whether any tuple has counted.
    seen: bool,
    sign: Sign,
    how: Way,
    /// Where it walks over sites of roles.
    sites: Option<Sites>,
    /// Where the walk's part of the frame's `rests_on` begins, and that of the object at hand.
    pub(super) begin: u32,
    mark: u32,
    spent_at: u64,
}

/// Where the tuples of a walk come from, for the keys.
#[derive(Clone, Copy)]
enum Way {
    /// Forward along this relation of the frame's object.
    Forward(RelId),
    /// Backward along this relation of other objects.
    Backward(MemberId),
    /// Over the sites of roles, whose keys are noted as they are met.
    Roles,
}

/// How an instruction over tuples begins.
enum Begun<'a> {
    /// There is nothing to walk over.
    Done(Value),
    /// There is one object, and its value is the instruction's.
    One(Goal, Sign),
    Walk(Box<Walk<'a>>),
}

/// Which sites a walk counts.
struct Sites {
    roles: RolesId,
    which: Which,
    /// The object and what it inherits roles from.
    above: Arc<Climb>,
}

#[derive(Clone, Copy)]
struct Target<'a> {
    node: NodeId,
    member: MemberId,
    restriction: Option<&'a Restriction>,
}

impl<'a> Walk<'a> {
    /// Takes the next tuples of the group at hand, and says how many.
    fn take_chunk(&mut self, group: &Group<'a>, member: MemberId) -> usize {
        let before = self.pending.len();
        let target = |edge: Edge<'a>| Target {
            node: edge.node,
            member,
            restriction: edge.restriction,
        };
        match self.after {
            None => self.pending.extend(group.iter().take(CHUNK).map(target)),
            Some(node) => self
                .pending
                .extend(group.iter_after(node).take(CHUNK).map(target)),
        }
        let taken = self.pending.len() - before;
        match self.pending.last().filter(|_| taken == CHUNK) {
            Some(last) => self.after = Some(last.node),
            None => (self.at, self.after) = (self.at + 1, None),
        }
        taken
    }
}

impl<'a> Machine<'a> {
    /// Runs an instruction over tuples until it is done or needs another goal. Whoever is given a
    /// value without a walk had needed the one goal that there was.
    pub(super) fn over_tuples(
        &mut self,
        frame: &mut Frame<'a>,
        op: Op,
        delivered: Option<Value>,
    ) -> Result<Step, TooMuchWork> {
        if frame.walk.is_none() {
            if let Some(value) = delivered {
                return Ok(Step::Done(value));
            }
            match self.begin_walk(frame, op)? {
                Begun::Done(value) => return Ok(Step::Done(value)),
                Begun::One(goal, sign) => return self.resolve(frame, goal, sign),
                Begun::Walk(walk) => frame.walk = Some(walk),
            }
        }
        self.walk(frame, delivered)
    }

    /// Begins a walk, where there is something to walk over.
    fn begin_walk(&mut self, frame: &mut Frame<'a>, op: Op) -> Result<Begun<'a>, TooMuchWork> {
        let begin = frame.begin();
        let (goal, ground) = (frame.goal, self.ground);
        let mut groups = Groups::new();
        let (mut acc, mut all, mut walk_sign) = (Value::Denied, false, Sign::default());
        let mut sites = None;
        let how = match op {
            Op::Arrow {
                via,
                target,
                all: every,
                sign,
            } => {
                (all, walk_sign) = (every, sign);
                let relation = ground.schema.member(via).rel;
                for group in ground.index.subject_groups(goal.node, relation) {
                    match ground.schema.member_id(group.kind, target) {
                        Some(member) => groups.push((group, member)),
                        // Nobody has it there, so `.all` over an object of that type is denied.
                        None if all && self.any_live(&group)? => {
                            self.absent(frame, Way::Forward(relation), false);
                            return Ok(Begun::Done(Value::Denied));
                        }
                        None => {}
                    }
                }
                Way::Forward(relation)
            }
            Op::Backward { via, target, sign } => {
                walk_sign = sign;
                let (leads, via) = (via, ground.schema.member(via));
                for group in ground.index.resource_groups(goal.node) {
                    if group.relation == via.rel && group.kind == via.owner {
                        groups.push((group, target));
                    }
                }
                Way::Backward(leads)
            }
            Op::Roles { roles, which, sign } => {
                walk_sign = sign;
                groups = self.role_groups(frame, goal, (roles, which))?;
                let above = self.above(goal, roles)?;
                sites = Some(Sites {
                    roles,
                    which,
                    above,
                });
                Way::Roles
            }
            _ => {
                let relation = ground.schema.member(goal.member).rel;
                let mut own = None;
                for group in ground.index.subject_groups(goal.node, relation) {
                    if self.is_own(&group) {
                        own = Some(group);
                    }
                    if group.subject_relation == RelId::NONE {
                        continue;
                    }
                    if let Some(member) =
                        ground.schema.member_id(group.kind, group.subject_relation)
                    {
                        groups.push((group, member));
                    }
                }
                acc = self.direct(frame, goal, own.as_ref())?;
                if acc == Value::Allowed || !ground.programs.get(goal.member).admits_sets {
                    return Ok(Begun::Done(acc));
                }
                Way::Forward(relation)
            }
        };
        if groups.is_empty() {
            self.absent(frame, how, matches!(op, Op::Tuples));
            return Ok(Begun::Done(acc));
        }
        if let ([(group, member)], Value::Denied, None) = (groups.as_slice(), acc, &sites)
            && let Some(goal) = self.only_goal(frame.goal, group, *member, walk_sign)
        {
            self.spend(1)?;
            return Ok(Begun::One(goal, walk_sign));
        }
        Ok(Begun::Walk(Box::new(Walk {
            groups,
            at: 0,
            after: None,
            pending: SmallVec::new(),
            tuple: Value::Allowed,
            target: None,
            acc,
            all,
            seen: false,
            sign: walk_sign,
            how,
            sites,
            begin,
            mark: begin,
            spent_at: self.work,
        })))
    }

    /// What is asked of the one object behind the tuples of a group, where its value is that of
    /// the whole: there is nothing to join it with, and nothing to note.
    fn only_goal(
        &self,
        from: Goal,
        group: &Group<'a>,
        member: MemberId,
        sign: Sign,
    ) -> Option<Goal> {
        let edge = group.sole().filter(|edge| edge.restriction.is_none())?;
        (!self.track).then(|| self.call(from, edge.node, member, sign))
    }

    /// The object of a goal and what it inherits roles of a block from, once a question.
    pub(super) fn above(&mut self, goal: Goal, roles: RolesId) -> Result<Arc<Climb>, TooMuchWork> {
        if let Some(above) = self.above.get(&(goal.node, roles.0)) {
            return Ok(Arc::clone(above));
        }
        let (ground, left) = (self.ground, self.limit.saturating_sub(self.work));
        let kind = ground.schema.member(goal.member).owner;
        let inherits = |kind| ground.roles_inherit(kind, roles);
        let above = Arc::new(Climb::from(ground, goal.node, kind, inherits, left));
        self.spend(1 + above.reads)?;
        self.ends = earlier(self.ends, above.ends);
        let known = Arc::clone(&above);
        self.above.insert((goal.node, roles.0), known);
        Ok(above)
    }

    /// The sites of a block on an object and what it inherits from (for `some`, on itself alone);
    /// notes the keys of where they were looked for.
    pub(super) fn role_groups(
        &mut self,
        frame: &mut Frame<'a>,
        goal: Goal,
        (roles, which): (RolesId, Which),
    ) -> Result<Groups<'a>, TooMuchWork> {
        let above = self.above(goal, roles)?;
        let mut groups = SmallVec::new();
        let Some(block) = self.ground.schema.roles.get(usize::from(roles.0)) else {
            return Ok(groups);
        };
        let places = match which {
            Which::Assigned => 1,
            Which::Including | Which::Builtin(_) => above.nodes.len(),
        };
        for (node, _) in above.nodes.iter().take(places) {
            let found = (self.ground.index).subject_groups(*node, block.sites.relation);
            let found = found.filter(|group| group.kind == block.sites.kind);
            groups.extend(found.map(|group| (group, block.sites.member)));
            let key = (self.track).then(|| self.subjects_key(*node, block.sites.relation));
            frame.key(key);
        }
        self.climbed(frame, &above);
        Ok(groups)
    }

    /// Whether the role of a site counts for a goal.
    pub(super) fn site_counts(
        &mut self,
        frame: &mut Frame<'a>,
        goal: Goal,
        (roles, which): (RolesId, Which),
        site: NodeId,
    ) -> Result<bool, TooMuchWork> {
        let above = self.above(goal, roles)?;
        let sites = Sites {
            roles,
            which,
            above,
        };
        self.counts(frame, &sites, site)
    }

    /// Notes the key of all tuples that an instruction walks over.
    pub(super) fn walk_key(&mut self, frame: &mut Frame<'a>, goal: Goal, op: Op) {
        let schema = self.ground.schema;
        let how = match op {
            Op::Arrow { via, .. } => Way::Forward(schema.member(via).rel),
            Op::Backward { via, .. } => Way::Backward(via),
            Op::Roles { .. } => Way::Roles,
            _ => Way::Forward(schema.member(goal.member).rel),
        };
        if self.track {
            let key = self.tuples_key(goal.node, how);
            frame.key(key);
        }
    }

    /// Notes the keys of what a climb has read.
    fn climbed(&self, frame: &mut Frame<'a>, above: &Climb) {
        if self.track {
            let mut keys = Vec::new();
            read_keys(self.ground, above, &|node| self.hash(node), &mut keys);
            frame.rests_on.extend(keys.into_iter().map(Rest::Key));
        }
    }

    /// Whether the role of a site counts in a walk; notes the key of its record.
    fn counts(
        &mut self,
        frame: &mut Frame<'a>,
        sites: &Sites,
        site: NodeId,
    ) -> Result<bool, TooMuchWork> {
        self.spend(1)?;
        let ground = self.ground;
        let (Some(site), Some(block)) = (
            ground.index.site(site),
            ground.schema.roles.get(usize::from(sites.roles.0)),
        ) else {
            return Ok(false);
        };
        frame.key(
            (self.track && sites.which == Which::Including)
                .then(|| role_key(ground.index.seed(), site.role)),
        );
        Ok(ground.role_means(
            site.role,
            frame.goal.member,
            block.sites.member,
            sites.which,
        ) && ground.owner_is_among(block, site.role, &sites.above))
    }

    fn any_live(&mut self, group: &Group<'a>) -> Result<bool, TooMuchWork> {
        for edge in group.iter() {
            self.spend(1)?;
            let (live, _, end) = standing(edge.restriction, self.ground.now);
            if live {
                self.ends = earlier(self.ends, end);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes the key that the absence of further tuples rests on.
    fn absent(&mut self, frame: &mut Frame<'a>, how: Way, noted: bool) {
        if self.track && !noted {
            let key = self.tuples_key(frame.goal.node, how);
            frame.key(key);
        }
    }

    /// Goes on with a walk until it has decided or needs a goal.
    pub(super) fn walk(
        &mut self,
        frame: &mut Frame<'a>,
        mut delivered: Option<Value>,
    ) -> Result<Step, TooMuchWork> {
        let Some(mut walk) = frame.walk.take() else {
            return Ok(Step::Done(Value::Denied));
        };
        loop {
            if let Some(value) = delivered.take()
                && self.count(frame, &mut walk, value)
            {
                let acc = walk.acc;
                frame.walk = Some(walk);
                return Ok(Step::Done(acc));
            }
            let Some(target) = self.next_target(frame, &mut walk)? else {
                if self.refill(frame, &mut walk)? {
                    continue;
                }
                let (acc, how) = (walk.acc, walk.how);
                let noted = self.ground.programs.get(frame.goal.member).admits_sets
                    && matches!(how, Way::Forward(rel) if rel == self.ground.schema.member(frame.goal.member).rel);
                self.absent(frame, how, noted);
                frame.walk = Some(walk);
                return Ok(Step::Done(acc));
            };
            walk.tuple = self.tuple(target.restriction)?;
            (walk.mark, walk.target) = (frame.begin(), Some(target.node));
            if walk.tuple == Value::Denied {
                // An expired tuple is none; one whose caveat is false counts for `.all`.
                let live = standing(target.restriction, self.ground.now).0;
                if walk.all && live {
                    delivered = Some(Value::Denied);
                }
                continue;
            }
            let goal = self.call(frame.goal, target.node, target.member, walk.sign);
            match self.resolve(frame, goal, walk.sign)? {
                Step::Done(value) => delivered = Some(value),
                need @ Step::Need(..) => {
                    frame.walk = Some(walk);
                    return Ok(need);
                }
            }
        }
    }

    /// The next object that is pending and counts.
    fn next_target(
        &mut self,
        frame: &mut Frame<'a>,
        walk: &mut Walk<'a>,
    ) -> Result<Option<Target<'a>>, TooMuchWork> {
        while let Some(target) = walk.pending.pop() {
            match &walk.sites {
                Some(sites) if !self.counts(frame, sites, target.node)? => {}
                _ => return Ok(Some(target)),
            }
        }
        Ok(None)
    }

    /// Takes the value of an object behind the walk; says whether that decides it.
    fn count(&mut self, frame: &mut Frame<'a>, walk: &mut Walk<'a>, value: Value) -> bool {
        let value = self.causes.and(walk.tuple, value);
        let first = !std::mem::replace(&mut walk.seen, true);
        if walk.all {
            walk.acc = match first {
                true => value,
                false => self.causes.and(walk.acc, value),
            };
            if walk.acc == Value::Denied && self.track {
                let key = self.tuples_key(frame.goal.node, walk.how);
                frame.key(key);
            }
            return walk.acc == Value::Denied;
        }
        walk.acc = self.causes.or(walk.acc, value);
        if walk.acc != Value::Allowed {
            return false;
        }
        if self.track {
            frame
                .rests_on
                .drain(walk.begin as usize..walk.mark as usize);
            let key = match walk.how {
                Way::Forward(_) => self.tuples_key(frame.goal.node, walk.how),
                Way::Backward(via) => {
                    let relation = self.ground.schema.member(via).rel;
                    walk.target.map(|node| self.subjects_key(node, relation))
                }
                Way::Roles => {
                    let site = walk.target.and_then(|node| self.ground.index.site(node));
                    site.map(|site| role_key(self.ground.index.seed(), site.role))
                }
            };
            frame.key(key);
            if let Some(sites) = &walk.sites {
                self.climbed(frame, &sites.above);
            }
        }
        true
    }

    /// The key of all tuples that a walk over an object takes.
    fn tuples_key(&self, node: NodeId, how: Way) -> Option<u64> {
        match how {
            Way::Forward(relation) => Some(self.subjects_key(node, relation)),
            Way::Backward(via) => {
                let within = self.ground.schema.member(via).owner;
                let index = self.ground.index;
                Some(membership_within_key(index, self.hash(node), within))
            }
            Way::Roles => None,
        }
    }

    /// Takes more objects into a walk; says whether there were any.
    fn refill(&mut self, frame: &mut Frame<'a>, walk: &mut Walk<'a>) -> Result<bool, TooMuchWork> {
        while let Some((group, member)) = walk.groups.get(walk.at).copied() {
            let odd = frame.goal.odd ^ walk.sign.odd;
            if !walk.all && group.len_hint() > SHORT && self.searchable(odd) {
                let budget = CHUNK as u64 + (self.work - walk.spent_at);
                let free = self
                    .call(frame.goal, frame.goal.node, member, walk.sign)
                    .free;
                let place = self.search(member, free, budget)?;
                if self.meet(walk, &group, member, place) {
                    frame.rest(self.track, Rest::Absent(place));
                    (walk.at, walk.after) = (walk.at + 1, None);
                    if walk.pending.is_empty() {
                        continue;
                    }
                    return Ok(true);
                }
            }
            let taken = walk.take_chunk(&group, member);
            self.spend(taken as u64)?;
            walk.pending.reverse();
            if !walk.pending.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Searches on from the subject's side for `member`; gives the closure's place.
    fn search(&mut self, member: MemberId, free: bool, budget: u64) -> Result<u32, TooMuchWork> {
        let known = self
            .closures
            .iter()
            .position(|closure| closure.demand() == (member, free));
        let place = known.unwrap_or(self.closures.len());
        if known.is_none() {
            self.closures
                .push(Closure::new(self.ground, self.who, member, free));
        }
        let mut spent = 0;
        if let Some(closure) = self.closures.get_mut(place) {
            let before = closure.spent;
            closure.advance(self.ground, budget);
            spent = closure.spent - before;
        }
        self.spend(spent)?;
        Ok(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// Takes those objects of `group` that a complete closure holds, where they are the fewer.
    fn meet(&mut self, walk: &mut Walk<'a>, group: &Group<'a>, member: MemberId, at: u32) -> bool {
        let Some(closure) = self.closures.get(at as usize) else {
            return false;
        };
        if !closure.is_complete() || closure.found().len() > group.len_hint() {
            return false;
        }
        let after = walk.after;
        let nodes = closure
            .found()
            .iter()
            .filter(|node| after.is_none_or(|done| **node > done));
        for node in nodes {
            self.work += 1;
            walk.pending.extend(group.get(*node).map(|edge| Target {
                node: edge.node,
                member,
                restriction: edge.restriction,
            }));
        }
        true
    }
}
