//! Random worlds: schemas in the whole evaluated language, tuples that fit them, and who asks.

use super::model::{
    Alternative, Body, CAVEATS, Expr, Form, Given, Kind, Lock, Mode, Name, Object, Subject, Tuple,
    Type, World,
};

/// The instant around which tuples end, in seconds since 1970.
pub const NOW: i64 = 1_000_000;

/// A small generator of random numbers (splitmix64), the same for the same seed everywhere.
pub struct Dice(u64);

/// One who asks: any question may be put to it.
#[derive(Clone, Debug)]
pub struct Round {
    pub subject: Subject,
    pub request: Given,
    pub now: i64,
    pub contextual: Vec<Tuple>,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// A number below `end`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below a usize"
    )]
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A world: its last id is in no tuple.
    pub fn world(&mut self) -> World {
        let shape = match self.once_in(50) {
            true => Shape::Wide,
            false => Shape::Small,
        };
        self.shaped(shape, false)
    }

    /// The same with roles in it.
    pub fn staffed(&mut self) -> World {
        self.shaped(Shape::Small, true)
    }

    /// A world of the seed's kind: every third has roles.
    pub fn drawn(&mut self, seed: u64) -> World {
        match seed % 3 {
            0 => self.staffed(),
            _ => self.world(),
        }
    }

    /// A world of long lists with few answers behind them, which are searched from the subject's
    /// side. Whether no wildcard stands in it yet is a coin.
    pub fn crowd(&mut self) -> World {
        let mut world = self.shaped(Shape::Crowd, false);
        if !self.once_in(4) {
            let plain = |one: &Tuple| !matches!(one.subject, Subject::Wildcard(_));
            world.tuples.retain(plain);
        }
        world
    }

    fn shaped(&mut self, shape: Shape, staffed: bool) -> World {
        let mut world = World {
            caveats: CAVEATS.to_vec(),
            ..World::default()
        };
        let kinds = match shape {
            Shape::Small => 2 + self.below(4),
            Shape::Wide => 2,
            Shape::Crowd => 3 + self.below(2),
        };
        for name in ["user", "doc", "folder", "group", "org"].iter().take(kinds) {
            let name = (*name).to_owned();
            world.types.push(Type {
                name,
                members: Vec::new(),
                modes: Vec::new(),
                assigns: Vec::new(),
            });
        }
        let ids = match shape {
            Shape::Small => 2 + self.below(3),
            Shape::Wide => 50,
            Shape::Crowd => CROWD,
        };
        for id in 0..ids {
            world.id(&format!("i{id}"));
        }
        world.id("unseen");
        let style = Style {
            crowd: shape == Shape::Crowd,
            caveats: self.once_in(2),
            expiry: self.once_in(2),
            exclusion: !self.once_in(3),
            self_word: self.once_in(3),
            within: None,
        };
        let plan: Vec<(usize, usize)> = (0..kinds)
            .map(|_| (1 + self.below(3), self.below(4)))
            .collect();
        for (kind, (relations, _)) in plan.iter().enumerate().skip(1) {
            for at in 0..*relations {
                let name = world.name(&format!("r{at}"));
                let alternatives = self.alternatives(&mut world, kind, &plan, style);
                world.types[kind]
                    .members
                    .push((name, Body::Relation(alternatives)));
            }
        }
        if staffed {
            self.blocks(&mut world, &plan, style);
        }
        for (kind, (_, permissions)) in plan.iter().enumerate().skip(1) {
            self.permissions(&mut world, kind, *permissions, style);
        }
        drop_dangling(&mut world);
        let most = match shape {
            Shape::Small => [20, 40, 80, 120][self.below(4)],
            Shape::Wide => 300,
            Shape::Crowd => 90,
        };
        let tuples = 5 + self.below(most);
        for _ in 0..tuples {
            if let Some(tuple) = self.tuple(&world, ids) {
                put(&mut world.tuples, tuple);
            }
        }
        if staffed {
            self.staff(&mut world, ids);
        }
        if self.once_in(2) {
            self.lock_modes(&mut world, style);
            drop_dangling(&mut world);
            for _ in 0..self.below(6) {
                let lock = self.lock(&world);
                world.locks.push(lock);
            }
        }
        world
    }

    /// Lock modes on some types, which block and inherit at random.
    fn lock_modes(&mut self, world: &mut World, style: Style) {
        for kind in 1..world.types.len() {
            for name in ["freeze", "hush"] {
                if self.once_in(3) {
                    continue;
                }
                let members = world.members(kind);
                let blocks = (!self.once_in(3)).then(|| {
                    let mut some = members.clone();
                    some.retain(|_| self.once_in(2));
                    if some.is_empty() {
                        vec![members[0]]
                    } else {
                        some
                    }
                });
                let except = self.once_in(2).then(|| {
                    let expr = self.expr(world, kind, &[], 2, style);
                    let hidden = world.name(&format!("~{}", world.types[kind].members.len()));
                    world.types[kind]
                        .members
                        .push((hidden, Body::Permission(expr)));
                    hidden
                });
                let plain = |all: &[Alternative]| {
                    walks(all)
                        && all
                            .iter()
                            .all(|one| one.caveat.is_none() && !one.expiration)
                };
                let mut inherits = relations(world, kind, plain);
                inherits.retain(|_| !self.once_in(4));
                world.types[kind].modes.push(Mode {
                    name,
                    blocks,
                    except,
                    inherits,
                });
            }
        }
    }

    /// A lock that fits the schema, where a type that is drawn has any mode.
    pub fn lock(&mut self, world: &World) -> Option<Lock> {
        let kind = 1 + self.below(world.types.len() - 1);
        if world.types[kind].modes.is_empty() {
            return None;
        }
        let mode = self.pick(&world.types[kind].modes).name;
        let id = self.below(world.ids.len().min(5));
        let mut exempt = Vec::new();
        for _ in 0..self.below(3) {
            let kind = if self.once_in(2) {
                0
            } else {
                self.below(world.types.len())
            };
            let id = self.below(world.ids.len());
            let object = Object { kind, id };
            let members = world.members(kind);
            exempt.push(match self.below(6) {
                0 => Subject::Wildcard(kind),
                1..=3 if !members.is_empty() => Subject::Set(object, *self.pick(&members)),
                _ => Subject::Object(object),
            });
        }
        Some(Lock {
            mode,
            resource: Object { kind, id },
            exempt,
            expires_at: self.once_in(3).then(|| self.instant()),
        })
    }

    pub(super) fn alternatives(
        &mut self,
        world: &mut World,
        kind: Kind,
        plan: &[(usize, usize)],
        style: Style,
    ) -> Vec<Alternative> {
        let mut all: Vec<Alternative> = Vec::new();
        // Few relations take wildcards: no arrow may walk these.
        let wildcards = self.once_in(if style.crowd { 2 } else { 3 });
        for _ in 0..=self.below(3) {
            let to = match self.below(3) {
                0 => 0,
                // What holds the crowd is another type.
                1 if style.crowd => 1 + self.below(plan.len() - 1),
                1 => kind,
                _ => self.below(plan.len()),
            };
            let form = match self.below(5) {
                0 if wildcards => Form::Wildcard,
                0..=2 if to > 0 => {
                    let (relations, permissions) = plan[to];
                    let at = self.below(relations + permissions);
                    let text = match at.checked_sub(relations) {
                        None => format!("r{at}"),
                        Some(at) => format!("p{at}"),
                    };
                    Form::Set(world.name(&text))
                }
                _ => Form::Object,
            };
            let one = Alternative {
                kind: to,
                form,
                caveat: (style.caveats && self.once_in(if style.crowd { 5 } else { 2 }))
                    .then(|| self.below(CAVEATS.len())),
                expiration: style.expiry && self.once_in(3),
            };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    fn permissions(&mut self, world: &mut World, kind: Kind, count: usize, style: Style) {
        let before = world.types[kind].members.len();
        let names: Vec<Name> = (0..count).map(|at| world.name(&format!("p{at}"))).collect();
        loop {
            world.types[kind].members.truncate(before);
            for at in 0..count {
                let within = Some(names[at]);
                let expr = self.expr(world, kind, &names, 3, Style { within, ..style });
                world.types[kind]
                    .members
                    .push((names[at], Body::Permission(expr)));
            }
            if !negates_itself(world, kind) {
                return;
            }
        }
    }

    fn expr(
        &mut self,
        world: &mut World,
        kind: Kind,
        permissions: &[Name],
        depth: usize,
        style: Style,
    ) -> Expr {
        let sub = |dice: &mut Self, world: &mut World| {
            dice.expr(world, kind, permissions, depth - 1, style)
        };
        match self.below(if depth == 0 { 10 } else { 20 }) {
            0 if self.once_in(4) => Expr::Nil,
            1 if style.self_word => Expr::Itself,
            1..=4 => self.arrow(world, kind),
            5 => self.backward(world, kind),
            6 if !permissions.is_empty() => Expr::Member(*self.pick(permissions)),
            7..=9 if !world.blocks.is_empty() => {
                (self.roles_word(world, kind, style)).unwrap_or_else(|| self.relation(world, kind))
            }
            10..=13 => Expr::Union(Box::new(sub(self, world)), Box::new(sub(self, world))),
            14..=16 => Expr::Intersection(Box::new(sub(self, world)), Box::new(sub(self, world))),
            17..=19 if style.exclusion => {
                let a = sub(self, world);
                let b = match self.once_in(3) {
                    true => self.arrow(world, kind), // so that data can close a cycle through it
                    false => sub(self, world),
                };
                world.exclusion(kind, a, b)
            }
            _ => self.relation(world, kind),
        }
    }

    fn relation(&mut self, world: &World, kind: Kind) -> Expr {
        let relations = relations(world, kind, |_| true);
        Expr::Member(*self.pick(&relations))
    }

    /// An arrow over a relation without wildcards; a relation where there is none.
    fn arrow(&mut self, world: &mut World, kind: Kind) -> Expr {
        let walkable = relations(world, kind, walks);
        if walkable.is_empty() {
            return self.relation(world, kind);
        }
        let via = *self.pick(&walkable);
        let Some(Body::Relation(leads)) = world.body(kind, via) else {
            return Expr::Nil;
        };
        let objects: Vec<_> = leads
            .iter()
            .map(|one| one.kind)
            .filter(|kind| *kind > 0)
            .collect();
        let target = match self.below(8) {
            0 => world.name(&format!("r{}", self.below(3))),
            1..=3 if !objects.is_empty() => {
                let to = *self.pick(&objects);
                *self.pick(&relations(world, to, |_| true))
            }
            _ => world.name(&format!("p{}", self.below(3))),
        };
        Expr::Arrow {
            via,
            target,
            all: self.once_in(3),
        }
    }

    /// A backward arrow from a relation that leads here; a relation where there is none.
    fn backward(&mut self, world: &mut World, kind: Kind) -> Expr {
        let mut leading = Vec::new();
        for from in 1..world.types.len() {
            let here = |all: &[Alternative]| walks(all) && all.iter().any(|one| one.kind == kind);
            for via in relations(world, from, here) {
                leading.push((from, via));
            }
        }
        if leading.is_empty() {
            return self.relation(world, kind);
        }
        let (from, via) = *self.pick(&leading);
        // Permissions come later than this; `drop_dangling` takes away what never comes.
        let target = match self.once_in(2) {
            true => *self.pick(&relations(world, from, |_| true)),
            false => world.name(&format!("p{}", self.below(3))),
        };
        Expr::Backward {
            kind: from,
            via,
            target,
        }
    }

    /// A tuple that fits the schema, of the first `ids` ids.
    pub fn tuple(&mut self, world: &World, ids: usize) -> Option<Tuple> {
        let kind = 1 + self.below(world.types.len() - 1);
        let relation = *self.pick(&relations(world, kind, |_| true));
        self.tuple_of(world, kind, relation, ids)
    }

    /// The same of one relation.
    pub(super) fn tuple_of(
        &mut self,
        world: &World,
        kind: Kind,
        relation: Name,
        ids: usize,
    ) -> Option<Tuple> {
        let Some(Body::Relation(alternatives)) = world.body(kind, relation) else {
            return None;
        };
        let one = *self.pick(alternatives);
        let (id, to) = self.ends(ids);
        let object = Object {
            kind: one.kind,
            id: to,
        };
        Some(Tuple {
            resource: Object { kind, id },
            relation,
            subject: Subject::of(object, one.form),
            caveat: one.caveat.map(|at| (at, self.fixed(at))),
            expires_at: one.expiration.then(|| self.instant()),
        })
    }

    /// The ids of resource and subject. Of many ids a few are at one end of most tuples, so that
    /// some lists are long.
    fn ends(&mut self, ids: usize) -> (usize, usize) {
        let (few, all) = (ids.min(2), ids);
        let (resources, subjects) = match self.below(6) {
            0..=2 if ids >= CROWD => (few, all),
            3 if ids >= CROWD => (all, few),
            _ => (all, all),
        };
        (self.below(resources), self.below(subjects))
    }

    /// What a tuple fixes of a caveat's parameters.
    pub(super) fn fixed(&mut self, caveat: usize) -> Given {
        self.given(CAVEATS[caveat].parameters, 4)
    }

    pub(super) fn instant(&mut self) -> i64 {
        NOW + [-10, 0, 1, 5, 10, 100][self.below(6)]
    }

    /// Values for one in `n` of these parameters.
    fn given(&mut self, parameters: &[&'static str], n: usize) -> Given {
        let mut given = Given::new();
        for name in parameters {
            if self.once_in(n) {
                let value = match *name {
                    "b" => self.below(2),
                    _ => self.below(12),
                };
                let zero = *name == "a" && self.once_in(4);
                given.insert(
                    name,
                    if zero {
                        0
                    } else {
                        i64::try_from(value).unwrap()
                    },
                );
            }
        }
        given
    }

    /// Somebody who asks.
    pub fn round(&mut self, world: &World) -> Round {
        let ids = world.ids.len();
        let mut kind = self.below(world.types.len());
        if self.once_in(2) {
            kind = 0;
        }
        let object = Object {
            kind,
            id: self.below(ids),
        };
        let members = world.members(kind);
        let named: Vec<_> = world.tuples.iter().map(|tuple| tuple.subject).collect();
        let subject = match self.below(10) {
            0 => Subject::Wildcard(kind),
            1..=4 if !named.is_empty() => *self.pick(&named),
            5..=7 if !members.is_empty() => Subject::Set(object, *self.pick(&members)),
            _ => Subject::Object(object),
        };
        let contextual = match self.once_in(4) {
            true => (0..=self.below(3))
                .filter_map(|_| self.tuple(world, ids))
                .collect(),
            false => Vec::new(),
        };
        let density = 1 + self.below(4);
        Round {
            subject,
            request: self.given(&super::model::PARAMETERS, density),
            now: self.instant() - 1,
            contextual,
        }
    }
}

/// How many ids a crowd has.
const CROWD: usize = 11;

/// How large a world is.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Small,
    Wide,
    Crowd,
}

/// What a schema may contain.
#[expect(clippy::struct_excessive_bools, reason = "five coins")]
#[derive(Clone, Copy)]
pub(super) struct Style {
    crowd: bool,
    caveats: bool,
    expiry: bool,
    exclusion: bool,
    self_word: bool,
    /// The permission whose expression is drawn.
    pub(super) within: Option<Name>,
}

/// Writes a tuple over the one of the same resource, relation and subject.
pub fn put(tuples: &mut Vec<Tuple>, tuple: Tuple) -> Option<Tuple> {
    let same = |one: &Tuple| {
        (one.resource, one.relation, one.subject) == (tuple.resource, tuple.relation, tuple.subject)
    };
    let place = tuples.iter().position(same);
    let before = place.map(|at| tuples.remove(at));
    tuples.push(tuple);
    before
}

pub(super) fn walks(alternatives: &[Alternative]) -> bool {
    alternatives.iter().all(|one| one.form != Form::Wildcard)
}

pub(super) fn relations(
    world: &World,
    kind: Kind,
    fits: impl Fn(&[Alternative]) -> bool,
) -> Vec<Name> {
    let members = world.types[kind].members.iter();
    let fitting = members.filter(|(_, body)| matches!(body, Body::Relation(all) if fits(all)));
    fitting.map(|(name, _)| *name).collect()
}

/// Makes `nil` of backward arrows to permissions that their type did not come to have, and drops
/// what is said of them.
fn drop_dangling(world: &mut World) {
    let known: Vec<Vec<Name>> = (0..world.types.len())
        .map(|kind| world.members(kind))
        .collect();
    for definition in &mut world.types {
        for (_, body) in &mut definition.members {
            if let Body::Permission(expr) = body {
                mend(expr, &known);
            }
        }
    }
}

fn mend(expr: &mut Expr, known: &[Vec<Name>]) {
    match expr {
        Expr::Backward { kind, target, .. } if !known[*kind].contains(target) => {
            *expr = Expr::Nil;
        }
        Expr::Union(a, b) | Expr::Intersection(a, b) | Expr::Exclusion(a, b, _) => {
            mend(a, known);
            mend(b, known);
        }
        _ => {}
    }
}

/// Whether a permission depends on its own negation by members alone: such schemas are rejected.
fn negates_itself(world: &World, kind: Kind) -> bool {
    let mut edges = Vec::new();
    for (name, body) in &world.types[kind].members {
        if let Body::Permission(expr) = body {
            reads(expr, *name, &mut edges);
        }
    }
    let negations = edges.iter().filter(|(_, _, negated)| *negated);
    negations
        .into_iter()
        .any(|(from, to, _)| reaches(&edges, *to, *from))
}

/// What a body reads of the same object; the hidden right side of a `-` is a node of its own.
fn reads(expr: &Expr, from: Name, edges: &mut Vec<(Name, Name, bool)>) {
    match expr {
        Expr::Member(to) => edges.push((from, *to, false)),
        Expr::Union(a, b) | Expr::Intersection(a, b) => {
            reads(a, from, edges);
            reads(b, from, edges);
        }
        Expr::Exclusion(a, _, hidden) => {
            reads(a, from, edges);
            edges.push((from, *hidden, true));
        }
        _ => {}
    }
}

fn reaches(edges: &[(Name, Name, bool)], from: Name, to: Name) -> bool {
    let mut seen = vec![from];
    let mut at = 0;
    while at < seen.len() {
        if seen[at] == to {
            return true;
        }
        for (a, b, _) in edges {
            if *a == seen[at] && !seen.contains(b) {
                seen.push(*b);
            }
        }
        at += 1;
    }
    false
}
