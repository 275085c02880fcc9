//! Random roles: blocks, what is assigned where, roles that are made, edited and deleted, and
//! assignments.

use super::model::{Alternative, Body, Expr, Form, Kind, Name, Object, Subject, Tuple, World};
use super::roles::{Assigns, Block, Builtin, Permission, ROLE_NAMES, Role, Which};
use super::world::{Dice, Style, put, relations, walks};

/// The blocks that there may be, and the keys of their roles: the first two are built in.
const BLOCKS: [(&str, [&str; 4]); 2] = [
    ("role", ["chief", "mate", "dev", "ops"]),
    ("duty", ["head", "hand", "dev", "ops"]),
];

/// How many ids of an owner's type have roles.
const OWNERS: usize = 3;

impl Dice {
    /// Blocks and where their roles are assigned: before there are permissions.
    pub(super) fn blocks(&mut self, world: &mut World, plan: &[(usize, usize)], style: Style) {
        let kinds = world.types.len();
        let mut owners: Vec<Kind> = (1..kinds).collect();
        let count = 1 + usize::from(self.once_in(3));
        for (name, keys) in BLOCKS.iter().take(count) {
            if owners.is_empty() {
                return;
            }
            let owner = owners.remove(self.below(owners.len()));
            let block = world.blocks.len();
            let held_by = self.held_by(world, owner, plan, style);
            let builtins = keys.iter().take(2).map(|key| Builtin {
                key,
                includes: Some(Vec::new()),
            });
            world.blocks.push(Block {
                name,
                owner,
                held_by,
                builtins: builtins.collect(),
            });
            for kind in 1..kinds {
                if self.once_in(if kind == owner { 6 } else { 3 }) {
                    continue;
                }
                let plain = |all: &[Alternative]| {
                    walks(all)
                        && all
                            .iter()
                            .all(|one| one.caveat.is_none() && !one.expiration)
                };
                let mut inherits = relations(world, kind, plain);
                inherits.retain(|_| !self.once_in(4));
                inherits.extend(self.way_up(world, kind, block));
                world.types[kind].assigns.push(Assigns { block, inherits });
            }
            for owner in 0..OWNERS.min(world.ids.len()) {
                for key in keys {
                    let name = ROLE_NAMES + world.roles.len();
                    world.roles.insert(name, Role { block, owner, key });
                }
            }
        }
    }

    /// A relation to the owners, or to what is assigned such roles too: of what hangs nowhere
    /// nobody holds a role.
    fn way_up(&mut self, world: &mut World, kind: Kind, block: usize) -> Option<Name> {
        let owner = world.blocks[block].owner;
        if self.once_in(if kind == owner { 2 } else { 5 }) {
            return None;
        }
        let to = |kind| Alternative {
            kind,
            form: Form::Object,
            caveat: None,
            expiration: false,
        };
        let mut above = vec![to(owner)];
        let assigned = |kind: &Kind| {
            let mut assigns = world.types[*kind].assigns.iter();
            *kind != owner && assigns.any(|one| one.block == block)
        };
        let below: Vec<Kind> = (1..world.types.len()).filter(assigned).collect();
        if !below.is_empty() && self.once_in(2) {
            above.push(to(*self.pick(&below)));
        }
        let name = world.name(&format!("{}_up", BLOCKS[block].0));
        let members = &mut world.types[kind].members;
        members.push((name, Body::Relation(above)));
        Some(name)
    }

    /// Whom roles are assigned to: any of these may end, and none says so.
    fn held_by(
        &mut self,
        world: &mut World,
        owner: Kind,
        plan: &[(usize, usize)],
        style: Style,
    ) -> Vec<Alternative> {
        let mut all: Vec<Alternative> = Vec::new();
        let mut drawn = self.alternatives(world, owner, plan, style);
        if !self.once_in(4) {
            drawn.push(Alternative {
                kind: 0,
                form: Form::Object,
                caveat: None,
                expiration: false,
            });
        }
        for mut one in drawn {
            one.expiration = false;
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// `any`, `some` or `role NAME`, most often of a block that the type assigns.
    pub(super) fn roles_word(&mut self, world: &World, kind: Kind, style: Style) -> Option<Expr> {
        let here: Vec<usize> = (world.types[kind].assigns.iter())
            .map(|one| one.block)
            .collect();
        let all: Vec<usize> = (0..world.blocks.len()).collect();
        let blocks = match here.is_empty() || self.once_in(8) {
            true => &all,
            false => &here,
        };
        if blocks.is_empty() {
            return None;
        }
        let block = *self.pick(blocks);
        let which = match (self.below(6), style.within) {
            (0..=2, Some(permission)) => Which::Any(permission),
            (3 | 4, _) => Which::Builtin(self.pick(&world.blocks[block].builtins).key),
            _ => Which::Some,
        };
        Some(Expr::Roles { block, which })
    }

    /// What built-in roles include, the roles that there are, and who holds which.
    pub(super) fn staff(&mut self, world: &mut World, ids: usize) {
        for block in 0..world.blocks.len() {
            let includable = world.includable(block);
            let lists = [
                (!self.once_in(2)).then(|| self.some_of(&includable)),
                Some(self.some_of(&includable)),
            ];
            for (builtin, list) in world.blocks[block].builtins.iter_mut().zip(lists) {
                builtin.includes = list;
            }
        }
        for _ in 0..self.below(8) {
            if let Some((name, includes)) = self.record(world) {
                world.records.insert(name, includes);
            }
        }
        for _ in 0..self.below(12) {
            if let Some(tuple) = self.way(world, ids) {
                put(&mut world.tuples, tuple);
            }
        }
        for _ in 0..self.below(24) {
            if let Some(tuple) = self.assignment(world, ids) {
                put(&mut world.tuples, tuple);
            }
        }
    }

    /// A tuple by which roles arrive.
    fn way(&mut self, world: &World, ids: usize) -> Option<Tuple> {
        let mut ways = Vec::new();
        for kind in 1..world.types.len() {
            for via in world.types[kind]
                .assigns
                .iter()
                .flat_map(|one| &one.inherits)
            {
                ways.push((kind, *via));
            }
        }
        if ways.is_empty() {
            return None;
        }
        let (kind, via) = *self.pick(&ways);
        self.tuple_of(world, kind, via, ids)
    }

    fn some_of(&mut self, all: &[Permission]) -> Vec<Permission> {
        let mut some = all.to_vec();
        some.retain(|_| self.once_in(2));
        some
    }

    /// A role that is made or edited, and what it includes from then on.
    pub fn record(&mut self, world: &World) -> Option<(Name, Vec<Permission>)> {
        let may_be = |role: &Role| {
            let builtin = world.builtin(*role);
            builtin.is_none_or(|one| one.includes.is_some())
        };
        let all = world.roles.iter().filter(|(_, role)| may_be(role));
        let all: Vec<_> = all.collect();
        if all.is_empty() {
            return None;
        }
        let (name, role) = *self.pick(&all);
        Some((*name, self.some_of(&world.includable(role.block))))
    }

    /// An assignment of a role that there is, on the first `ids` ids.
    pub fn assignment(&mut self, world: &World, ids: usize) -> Option<Tuple> {
        let kinds: Vec<Kind> = (0..world.types.len())
            .filter(|kind| !world.types[*kind].assigns.is_empty())
            .collect();
        if kinds.is_empty() {
            return None;
        }
        let kind = *self.pick(&kinds);
        let block = self.pick(&world.types[kind].assigns).block;
        let standing = world.roles.iter();
        let standing: Vec<(Name, Role)> = standing
            .filter(|(name, role)| role.block == block && world.includes(**name).is_some())
            .map(|(name, role)| (*name, *role))
            .collect();
        let (relation, role) = *self.pick(&standing);
        let one = *self.pick(&world.blocks[block].held_by);
        // On its owner or below, more often than chance would have it.
        let id = match kind == world.blocks[block].owner && self.once_in(2) {
            true => role.owner,
            false => self.below(ids),
        };
        let subject = Object {
            kind: one.kind,
            id: self.below(ids),
        };
        Some(Tuple {
            resource: Object { kind, id },
            relation,
            subject: Subject::of(subject, one.form),
            caveat: one.caveat.map(|at| (at, self.fixed(at))),
            expires_at: self.once_in(5).then(|| self.instant()),
        })
    }
}
