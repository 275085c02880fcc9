//! Permissions as small integer programs, and which kinds of facts can lead to which.
//!
//! Hides how an expression is laid out for the evaluator: postfix instructions over three-valued
//! values, with jumps where a side has already decided. Beside them stands the graph that a
//! search from the subject's side follows: an over-approximation in which a fact *proposes*
//! another one, and is enough for it where the way is `sure`.

use std::sync::OnceLock;

use smallvec::SmallVec;

use super::{Expr, MemberId, MemberKind, RelId, RolesId, Schema, SubjectForm, TypeId};

/// One instruction. Values stand on a stack; a program leaves exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Pushes what the tuples of this relation say.
    Tuples,
    /// Pushes a denial.
    Nobody,
    /// Pushes whether the subject is the resource itself.
    Itself(Sign),
    /// Pushes the value of a relation or permission of the same object.
    Call(MemberId, Sign),
    /// Pushes the union (or, with `all`, the intersection) over what `via` leads to.
    Arrow {
        /// A relation of the same object.
        via: MemberId,
        /// A name on the objects that it leads to.
        target: RelId,
        /// Whether all must hold.
        all: bool,
        /// Whether it stands under `-`.
        sign: Sign,
    },
    /// Pushes the union over the objects whose `via` leads here.
    Backward {
        /// A relation of the other type.
        via: MemberId,
        /// A relation or permission of the other type.
        target: MemberId,
        /// Whether it stands under `-`.
        sign: Sign,
    },
    /// Pushes whether the subject holds here such a role of this block.
    Roles {
        /// The block.
        roles: RolesId,
        /// Which of its roles.
        which: Which,
        /// Whether it stands under `-`.
        sign: Sign,
    },
    /// Jumps where the top is an allow.
    IfAllowed(u32),
    /// Jumps where the top is a denial.
    IfDenied(u32),
    /// Takes two, pushes their union.
    Or,
    /// Takes two, pushes their intersection.
    And,
    /// Takes two, pushes the first without the second.
    Minus,
}

/// Which roles of a block an instruction means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that include the permission, held on the object or inherited.
    Including,
    /// Any at all that was assigned on the very object.
    Assigned,
    /// The built-in one of this place in the block, held on the object or inherited.
    Builtin(u16),
}

/// How an instruction stands to the `-` around it in its own permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sign {
    /// Whether it stands on the right of an odd number of them.
    pub odd: bool,
    /// Whether it stands on the right of any.
    pub under: bool,
}

/// A way from a fact about one kind to a fact about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The relation that leads there; the kind itself for one on the same object.
    pub via: MemberId,
    /// What is proposed.
    pub to: MemberId,
    /// Whether the fact alone is enough.
    pub sure: bool,
}

/// What one relation or permission compiles to.
#[derive(Debug, Default)]
pub struct Program {
    /// Its instructions.
    pub ops: Vec<Op>,
    /// Permissions of the same object that it proposes.
    pub same: Vec<Way>,
    /// Permissions of objects from which an arrow over `via` leads here.
    pub arrows: Vec<Way>,
    /// Permissions of objects to which `via`, a relation of this object, leads.
    pub backwards: Vec<Way>,
    /// Whether `self` alone is enough for it (`Some(true)`), or proposes it.
    pub itself: Option<bool>,
    /// For a relation: whether its tuples may have subject sets.
    pub admits_sets: bool,
    /// For a relation: whether its tuples may have wildcards.
    pub admits_wildcards: bool,
    /// Places of the lock modes of its type that block it.
    pub locks: Vec<u16>,
    /// Whether it is a rule that is judged with no lock applied.
    pub free: bool,
    /// Its name as roles include it, `application.deploy`, where they can.
    pub includable: Option<std::sync::Arc<str>>,
    /// For the relation of a block's sites: the permissions that roles of the block can give, each
    /// with those that it means.
    pub given: Vec<(MemberId, Which)>,
    /// Kinds whose facts propose it directly.
    sources: Vec<MemberId>,
    feeds: OnceLock<KindSet>,
    finals: OnceLock<Finals>,
}

/// Kinds of one type from which facts lead to a target on the same object only.
#[derive(Debug, Default)]
pub struct Finals {
    /// All of them.
    pub kinds: KindSet,
    /// Those of which a fact is enough for the target.
    pub sure: KindSet,
}

/// A set of kinds.
#[derive(Debug, Default)]
pub struct KindSet(Vec<u64>);

impl KindSet {
    /// Whether `kind` is in it.
    pub fn has(&self, kind: MemberId) -> bool {
        let word = self.0.get(kind.0 as usize / 64).copied().unwrap_or(0);
        word >> (kind.0 % 64) & 1 == 1
    }

    /// All that are in it.
    pub fn iter(&self) -> impl Iterator<Item = MemberId> {
        let end = u32::try_from(self.0.len() * 64).unwrap_or(u32::MAX);
        (0..end).map(MemberId).filter(|kind| self.has(*kind))
    }

    fn remove(&mut self, kind: MemberId) -> bool {
        let held = self.has(kind);
        if let Some(word) = self.0.get_mut(kind.0 as usize / 64) {
            *word &= !(1 << (kind.0 % 64));
        }
        held
    }

    fn insert(&mut self, kind: MemberId) -> bool {
        let fresh = !self.has(kind);
        if let Some(word) = self.0.get_mut(kind.0 as usize / 64) {
            *word |= 1 << (kind.0 % 64);
        }
        fresh
    }
}

/// The programs of a schema, by [`MemberId`].
#[derive(Debug, Default)]
pub struct Programs {
    all: Vec<Program>,
    /// Types of which a tuple may name the wildcard.
    wildcards: Vec<TypeId>,
    /// Those that are a union and nothing else, and so is all that they are made of.
    plain: KindSet,
    /// Whether `self` stands anywhere.
    any_itself: bool,
}

impl Programs {
    /// Compiles all relations and permissions of `schema`.
    pub fn compile(schema: &Schema) -> Self {
        let mut programs = Self {
            all: schema.members.iter().map(|_| Program::default()).collect(),
            wildcards: Vec::new(),
            plain: KindSet::default(),
            any_itself: false,
        };
        programs.carriers(schema);
        for rule in rules_free_of_locks(schema) {
            programs.at(rule).free = true;
        }
        for (place, member) in schema.members.iter().enumerate() {
            let id = MemberId(u32::try_from(place).unwrap_or(u32::MAX));
            match &member.kind {
                MemberKind::Relation(_) => programs.relation(schema, id),
                MemberKind::Permission(expr) => {
                    let mut ops = Vec::new();
                    emit(schema, expr, Sign::default(), &mut ops);
                    let says_any = ops.iter().any(Op::includes);
                    let program = programs.at(id);
                    program.ops = ops;
                    program.includable = says_any.then(|| name_of(schema, id));
                    programs.propose(schema, id, expr, true);
                }
            }
            programs.blocked(schema, id);
        }
        programs.plain = programs.find_plain();
        programs.any_itself = programs.all.iter().any(|one| one.itself.is_some());
        programs
    }

    /// The unions of unions: all that are not made of anything else.
    fn find_plain(&self) -> KindSet {
        let mut plain = KindSet(vec![0; self.all.len() / 64 + 1]);
        let mut parts_of = vec![Vec::new(); self.all.len()];
        let mut others = Vec::new();
        for (kind, program) in (0..).map(MemberId).zip(&self.all) {
            plain.insert(kind);
            if !program.ops.iter().all(Op::is_plain) {
                others.push(kind);
            }
            for part in &program.sources {
                if let Some(wholes) = parts_of.get_mut(part.0 as usize) {
                    wholes.push(kind);
                }
            }
        }
        while let Some(other) = others.pop() {
            if plain.remove(other) {
                others.extend(parts_of.get(other.0 as usize).into_iter().flatten());
            }
        }
        plain
    }

    /// Notes the lock modes that block a relation or permission; rules are never blocked.
    fn blocked(&mut self, schema: &Schema, id: MemberId) {
        let member = schema.member(id);
        let Some(definition) = schema.type_def(member.owner).filter(|_| !member.is_rule()) else {
            return;
        };
        for (lock, place) in definition.locks.iter().zip(0..) {
            if lock.blocks.as_ref().is_none_or(|list| list.contains(&id)) {
                self.at(id).locks.push(place);
            }
        }
    }

    /// The ways of roles from the subject's side: from a site over its link to the resource, and
    /// from there down the `inherits` relations. What is carried there is which member stands for
    /// roles on a type's objects; it proposes all permissions of these that roles can give.
    fn carriers(&mut self, schema: &Schema) {
        for definition in &schema.types {
            for assigns in &definition.assigns {
                let Some(block) = schema.roles.get(usize::from(assigns.roles.0)) else {
                    continue;
                };
                let (site, here) = (block.sites.member, assigns.carrier);
                self.way_up(site, here, here);
                for via in &assigns.inherits {
                    let relation = schema.member(*via).relation();
                    for subject in relation.iter().flat_map(|relation| &relation.subjects) {
                        if let Some(above) = schema.assigns(subject.kind, assigns.roles) {
                            self.way_up(above.carrier, *via, here);
                        }
                    }
                }
            }
        }
    }

    /// From a fact of `from`, over `via`, `to` is proposed.
    fn way_up(&mut self, from: MemberId, via: MemberId, to: MemberId) {
        let sure = false;
        let way = Way { via, to, sure };
        if !self.get(from).arrows.contains(&way) {
            self.at(from).arrows.push(way);
            self.at(to).sources.push(from);
        }
    }

    /// Notes that roles can give a permission of a type that assigns them.
    fn gives(&mut self, schema: &Schema, roles: RolesId, to: MemberId, which: Which) {
        let member = schema.member(to);
        let (Some(block), Some(assigns)) = (
            schema.roles.get(usize::from(roles.0)),
            schema.assigns(member.owner, roles),
        ) else {
            return;
        };
        let (site, carrier) = (block.sites.member, assigns.carrier);
        self.at(site).given.push((to, which));
        if which == Which::Assigned {
            return self.way_up(site, carrier, to);
        }
        self.at(carrier).same.push(Way {
            via: carrier,
            to,
            sure: false,
        });
        self.at(to).sources.push(carrier);
    }

    /// The program of one relation or permission.
    #[expect(
        clippy::indexing_slicing,
        reason = "one program a member, in the same order"
    )]
    pub fn get(&self, id: MemberId) -> &Program {
        &self.all[id.0 as usize]
    }

    /// The kinds from which facts can lead to `target`, itself included.
    pub fn feeds(&self, target: MemberId) -> &KindSet {
        self.get(target).feeds.get_or_init(|| {
            let mut set = KindSet(vec![0; self.all.len() / 64 + 1]);
            let mut open = vec![target];
            while let Some(kind) = open.pop() {
                if set.insert(kind) {
                    open.extend(&self.get(kind).sources);
                }
            }
            set
        })
    }

    /// The kinds from which facts lead to `target` in one step, each once.
    pub fn sources(&self, target: MemberId) -> SmallVec<[MemberId; 8]> {
        let mut sources = SmallVec::from_slice(&self.get(target).sources);
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The kinds whose facts end a search for `target`: they lead to it on the same object, and
    /// to no other object from which anything leads to it.
    pub fn finals(&self, schema: &Schema, target: MemberId) -> &Finals {
        let program = self.get(target);
        program
            .finals
            .get_or_init(|| self.find_finals(schema, target))
    }

    fn find_finals(&self, schema: &Schema, target: MemberId) -> Finals {
        let feeds = self.feeds(target);
        let all = (0..self.all.len()).filter_map(|id| u32::try_from(id).ok().map(MemberId));
        let all: Vec<MemberId> = all.filter(|kind| feeds.has(*kind)).collect();
        let steps = |rounds: &mut dyn FnMut(MemberId, MemberId) -> bool| {
            let all = &all;
            while (all.iter()).fold(false, |more, to| {
                let sources = self.sources(*to).into_iter();
                sources.fold(more, |more, from| rounds(from, *to) || more)
            }) {}
        };
        let mut onward = KindSet(vec![0; self.all.len() / 64 + 1]);
        steps(&mut |from, to| {
            let stays = schema.member(to).relation().is_none() && self.stays(from, to);
            (!stays || onward.has(to)) && onward.insert(from)
        });
        let mut finals = Finals {
            kinds: KindSet(vec![0; self.all.len() / 64 + 1]),
            sure: KindSet(vec![0; self.all.len() / 64 + 1]),
        };
        for kind in all.iter().filter(|kind| !onward.has(**kind)) {
            finals.kinds.insert(*kind);
        }
        if finals.kinds.has(target) {
            finals.sure.insert(target);
        }
        steps(&mut |from, to| {
            let mut same = self.get(from).same.iter();
            let sure = same.any(|way| way.to == to && way.sure);
            sure && finals.sure.has(to) && finals.kinds.has(from) && finals.sure.insert(from)
        });
        finals
    }

    /// Whether the only ways from one kind to another lead to the same object.
    fn stays(&self, from: MemberId, to: MemberId) -> bool {
        let leads = |ways: &[Way]| ways.iter().any(|way| way.to == to);
        let program = self.get(from);
        leads(&program.same) && !leads(&program.arrows) && !leads(&program.backwards)
    }

    /// Whether any tuple may name the wildcard of a type.
    pub fn admits_wildcard_of(&self, kind: TypeId) -> bool {
        self.wildcards.contains(&kind)
    }

    /// Whether a relation or permission is a union and nothing else, and so is all that it is made of.
    pub fn is_plain(&self, id: MemberId) -> bool {
        self.plain.has(id)
    }

    /// Whether any relation or permission asks for the object itself.
    pub fn any_itself(&self) -> bool {
        self.any_itself
    }

    /// The relations that any forward arrow walks.
    pub fn walked(&self) -> KindSet {
        let mut walked = KindSet(vec![0; self.all.len() / 64 + 1]);
        for op in self.all.iter().flat_map(|program| &program.ops) {
            if let Op::Arrow { via, .. } = op {
                walked.insert(*via);
            }
        }
        walked
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "one program a member, in the same order"
    )]
    fn at(&mut self, id: MemberId) -> &mut Program {
        &mut self.all[id.0 as usize]
    }

    fn relation(&mut self, schema: &Schema, id: MemberId) {
        let Some(relation) = schema.member(id).relation() else {
            return;
        };
        let mut wildcards = Vec::new();
        let program = self.at(id);
        program.ops.push(Op::Tuples);
        for subject in &relation.subjects {
            match subject.form {
                SubjectForm::Object => {}
                SubjectForm::Wildcard => {
                    program.admits_wildcards = true;
                    wildcards.push(subject.kind);
                }
                SubjectForm::Set(rel) => {
                    program.admits_sets = true;
                    program.sources.extend(schema.member_id(subject.kind, rel));
                }
            }
        }
        self.wildcards.append(&mut wildcards);
    }

    /// Notes which facts propose `to`, whose body (or a part of it that must hold) is `expr`.
    fn propose(&mut self, schema: &Schema, to: MemberId, expr: &Expr, sure: bool) {
        match expr {
            Expr::Nil => {}
            Expr::AnyRole(roles) | Expr::SomeRole(roles) | Expr::Role(roles, _) => {
                if let Some(which) = which(schema, expr) {
                    self.gives(schema, *roles, to, which);
                }
            }
            Expr::Itself => {
                let itself = &mut self.at(to).itself;
                *itself = Some(sure || itself.unwrap_or(false));
            }
            Expr::Member(from) => {
                let way = Way {
                    via: *from,
                    to,
                    sure,
                };
                self.at(*from).same.push(way);
                self.at(to).sources.push(*from);
            }
            Expr::Arrow { via, target, all } => {
                let sure = sure && !all;
                for from in arrow_targets(schema, *via, *target) {
                    self.at(from).arrows.push(Way {
                        via: *via,
                        to,
                        sure,
                    });
                    self.at(to).sources.push(from);
                }
            }
            Expr::Backward { via, target } => {
                let way = Way {
                    via: *via,
                    to,
                    sure,
                };
                self.at(*target).backwards.push(way);
                self.at(to).sources.push(*target);
            }
            Expr::Union(parts) => {
                for part in parts {
                    self.propose(schema, to, part, sure);
                }
            }
            // Every part must hold, so whatever proposes one of them finds all answers.
            Expr::Intersection(parts) => {
                if let Some(part) = parts.first() {
                    self.propose(schema, to, part, false);
                }
            }
            Expr::Exclusion(left, _) => self.propose(schema, to, left, false),
        }
    }
}

/// `requires`, `except` and a lock's own `granted by`: a lock never decides about itself.
fn rules_free_of_locks(schema: &Schema) -> impl Iterator<Item = MemberId> {
    let relations = schema.members.iter().filter_map(|member| member.relation());
    let requires = relations.filter_map(|relation| relation.requires);
    let locks = schema.types.iter().flat_map(|definition| &definition.locks);
    requires.chain(locks.flat_map(|lock| lock.except.into_iter().chain(lock.granted_by)))
}

impl Op {
    /// Whether it has a part in unions alone.
    fn is_plain(&self) -> bool {
        match self {
            Self::Arrow { all, .. } => !all,
            Self::Roles { .. } | Self::And | Self::IfDenied(_) | Self::Minus => false,
            _ => true,
        }
    }

    fn includes(&self) -> bool {
        let which = Which::Including;
        matches!(self, Self::Roles { which: found, .. } if *found == which)
    }
}

/// A permission as roles name it.
fn name_of(schema: &Schema, id: MemberId) -> std::sync::Arc<str> {
    let member = schema.member(id);
    format!("{}.{}", schema.names.type_name(member.owner), member.name).into()
}

/// The kinds that `via->target` walks to.
pub(super) fn arrow_targets(schema: &Schema, via: MemberId, target: RelId) -> Vec<MemberId> {
    let subjects = (schema.member(via).relation()).map_or(&[][..], |relation| &relation.subjects);
    let mut kinds: Vec<MemberId> = (subjects.iter())
        .filter_map(|subject| schema.member_id(subject.kind, target))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Which roles an expression means, where it means any that there are.
pub fn which(schema: &Schema, expr: &Expr) -> Option<Which> {
    match expr {
        Expr::AnyRole(_) => Some(Which::Including),
        Expr::SomeRole(_) => Some(Which::Assigned),
        Expr::Role(roles, name) => {
            let block = schema.roles.get(usize::from(roles.0))?;
            let place = block.builtins.iter().position(|one| one.name == *name)?;
            Some(Which::Builtin(u16::try_from(place).ok()?))
        }
        _ => None,
    }
}

fn emit(schema: &Schema, expr: &Expr, sign: Sign, ops: &mut Vec<Op>) {
    match expr {
        Expr::Nil => ops.push(Op::Nobody),
        Expr::AnyRole(roles) | Expr::SomeRole(roles) | Expr::Role(roles, _) => {
            let roles = *roles;
            ops.push(match which(schema, expr) {
                Some(which) => Op::Roles { roles, which, sign },
                None => Op::Nobody,
            });
        }
        Expr::Itself => ops.push(Op::Itself(sign)),
        Expr::Member(member) => ops.push(Op::Call(*member, sign)),
        Expr::Arrow { via, target, all } => ops.push(Op::Arrow {
            via: *via,
            target: *target,
            all: *all,
            sign,
        }),
        Expr::Backward { via, target } => ops.push(Op::Backward {
            via: *via,
            target: *target,
            sign,
        }),
        Expr::Union(parts) => emit_parts(schema, parts, sign, ops, (Op::IfAllowed, Op::Or)),
        Expr::Intersection(parts) => emit_parts(schema, parts, sign, ops, (Op::IfDenied, Op::And)),
        Expr::Exclusion(left, right) => {
            emit(schema, left, sign, ops);
            let jump = ops.len();
            ops.push(Op::IfDenied(0));
            let right_sign = Sign {
                odd: !sign.odd,
                under: true,
            };
            emit(schema, right, right_sign, ops);
            ops.push(Op::Minus);
            patch(ops, jump, Op::IfDenied);
        }
    }
}

fn emit_parts(
    schema: &Schema,
    parts: &[Expr],
    sign: Sign,
    ops: &mut Vec<Op>,
    (skip, join): (fn(u32) -> Op, Op),
) {
    let Some((first, rest)) = parts.split_first() else {
        return ops.push(Op::Nobody);
    };
    emit(schema, first, sign, ops);
    let mut jumps = Vec::new();
    for part in rest {
        jumps.push(ops.len());
        ops.push(skip(0));
        emit(schema, part, sign, ops);
        ops.push(join);
    }
    for jump in jumps {
        patch(ops, jump, skip);
    }
}

fn patch(ops: &mut [Op], jump: usize, skip: fn(u32) -> Op) {
    let end = u32::try_from(ops.len()).unwrap_or(u32::MAX);
    if let Some(op) = ops.get_mut(jump) {
        *op = skip(end);
    }
}
