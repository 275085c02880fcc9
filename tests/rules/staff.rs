//! The oracle of rules on roles: LANGUAGE.md section 3 once more, and random schemas, worlds and
//! commands on which it has to say what the engine says: who makes, edits, deletes and assigns
//! roles, and that nobody gives what they lack.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::engine::{Engine, EngineError};
use portcullis::plan::{Command, Refusal};
use portcullis::revision::Consistency::Newest;
use portcullis::rules::Violation;

use crate::oracle::Dice;
use crate::tuples::by;
use crate::world::{TestClock, schema, store, stored};

mod random;
use random::{build, command_of, random_deed, random_schema, schema_text};

/// What all types have: `up` leads from an `org` to one, from an `app` to an `org`, from an `env`
/// to an `app`.
const KINDS: [&str; 3] = ["org", "app", "env"];
const PERMISSIONS: [&str; 3] = ["p", "q", "r"];
/// The first two are built in.
const KEYS: [&str; 4] = ["admin", "member", "dev", "ops"];

#[derive(Clone)]
enum Expr {
    Has(&'static str),
    Up(&'static str),
    /// `any`, `some` and `role KEY`.
    Any,
    Some,
    Role(&'static str),
    Or(Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Not(Box<Expr>, Box<Expr>),
}
use Expr::{And, Any, Has, Not, Or, Role, Up};

type Permission = (&'static str, &'static str);

#[derive(Clone, Default)]
struct Assigns {
    granted: Option<Expr>,
    capped: bool,
    inherits: bool,
}

#[derive(Clone, Default)]
struct Lock {
    except: Option<Expr>,
    inherits: bool,
}

#[derive(Clone, Default)]
struct Builtin {
    /// `None`: `*`.
    includes: Option<BTreeSet<Permission>>,
    granted: Option<Expr>,
    min: usize,
}

#[derive(Clone, Default)]
struct Schema {
    permissions: BTreeMap<Permission, Expr>,
    assigns: BTreeMap<&'static str, Assigns>,
    locks: BTreeMap<&'static str, Lock>,
    granted: Option<Expr>,
    capped: bool,
    builtins: BTreeMap<&'static str, Builtin>,
}

/// Whose, by the id of the owner, and its key.
type RoleName = (usize, &'static str);

#[derive(Clone, Default)]
struct World {
    tuples: BTreeSet<(String, &'static str, String)>,
    /// Those that were made or edited.
    records: BTreeMap<RoleName, BTreeSet<Permission>>,
    /// By resource, role and subject: whether it ends some day.
    given: BTreeMap<(String, RoleName, String), bool>,
    locks: BTreeSet<String>,
}

#[derive(Clone)]
struct Given {
    takes: bool,
    /// Refused where it is not there.
    must: bool,
    name: (String, RoleName, String),
    ends: bool,
}

enum Deed {
    Create(RoleName, BTreeSet<Permission>),
    Edit(RoleName, BTreeSet<Permission>, BTreeSet<Permission>),
    Delete(RoleName),
    Assign(Vec<Given>),
}

fn kind(object: &str) -> &'static str {
    let mut kinds = KINDS.into_iter();
    kinds
        .find(|kind| object.starts_with(*kind))
        .unwrap_or("user")
}

// What follows up to `judge` is the oracle.

/// One who asks in one world; `free`: no lock is applied.
#[derive(Clone, Copy)]
struct Asks<'a> {
    schema: &'a Schema,
    world: &'a World,
    who: &'a str,
    free: bool,
}

impl<'w> Asks<'w> {
    fn is(self, subject: &str) -> bool {
        let set = subject.strip_suffix("#member");
        subject == self.who || set.is_some_and(|team| self.of(team, "member").contains(&self.who))
    }

    fn of(self, on: &str, relation: &str) -> Vec<&'w str> {
        let all = self.world.tuples.iter();
        let all = all.filter(|(o, r, _)| o == on && *r == relation);
        all.map(|(_, _, subject)| subject.as_str()).collect()
    }

    fn has(self, on: &str, name: &'static str, path: &mut Vec<(String, &'static str)>) -> bool {
        let Some(expr) = self.schema.permissions.get(&(kind(on), name)) else {
            return self
                .of(on, name)
                .into_iter()
                .any(|subject| self.is(subject));
        };
        let here = (on.to_owned(), name);
        if path.contains(&here) {
            return false;
        }
        path.push(here);
        let body = self.value(on, name, expr, path);
        path.pop();
        body && (self.free || name != "p" || self.passes(on))
    }

    /// Whether each lock that is held there lets pass.
    fn passes(self, on: &str) -> bool {
        let free = Self { free: true, ..self };
        let places = self.climb(on, |kind| self.schema.locks[kind].inherits);
        let held = places.iter().any(|place| self.world.locks.contains(place));
        let except = &self.schema.locks[kind(on)].except;
        !held || except.as_ref().is_some_and(|rule| free.surely(on, rule))
    }

    fn climb(self, on: &str, inherits: impl Fn(&'static str) -> bool) -> Vec<String> {
        let mut places = vec![on.to_owned()];
        let mut at = 0;
        while let Some(place) = places.get(at).cloned() {
            at += 1;
            for above in self.of(&place, "up") {
                if inherits(kind(&place)) && !places.iter().any(|known| known == above) {
                    places.push(above.to_owned());
                }
            }
        }
        places
    }

    fn inherited(self, on: &str) -> Vec<String> {
        self.climb(on, |kind| self.schema.assigns[kind].inherits)
    }

    fn surely(self, on: &str, expr: &Expr) -> bool {
        self.value(on, "", expr, &mut Vec::new())
    }

    fn value(
        self,
        on: &str,
        within: &'static str,
        expr: &Expr,
        path: &mut Vec<(String, &'static str)>,
    ) -> bool {
        match expr {
            Has(name) => self.has(on, name, path),
            Up(name) => {
                let above = self.of(on, "up");
                above.into_iter().any(|above| self.has(above, name, path))
            }
            Any => self.holds(on, |role| {
                let includes = self.includes(role);
                includes.is_some_and(|all| all.contains(&(kind(on), within)))
            }),
            Role(key) => self.holds(on, |role| role.1 == *key),
            Expr::Some => {
                let above = self.inherited(on);
                let mut given = self.world.given.keys();
                given.any(|(at, role, who)| {
                    at == on && above.contains(&format!("org:{}", role.0)) && self.is(who)
                })
            }
            Or(a, b) => self.value(on, within, a, path) || self.value(on, within, b, path),
            And(a, b) => self.value(on, within, a, path) && self.value(on, within, b, path),
            // What is on the right is read with no lock applied.
            Not(a, b) => {
                let free = Self { free: true, ..self };
                self.value(on, within, a, path) && !free.value(on, within, b, &mut Vec::new())
            }
        }
    }

    /// Whether a role that counts here is held, of those that are meant.
    fn holds(self, on: &str, means: impl Fn(RoleName) -> bool) -> bool {
        let above = self.inherited(on);
        let mut given = self.world.given.keys();
        given.any(|(at, role, who)| {
            let owner = format!("org:{}", role.0);
            above.contains(at) && above.contains(&owner) && means(*role) && self.is(who)
        })
    }

    fn includes(self, role: RoleName) -> Option<BTreeSet<Permission>> {
        let builtin = self.schema.builtins.get(role.1);
        match (
            builtin.map(|one| &one.includes),
            self.world.records.get(&role),
        ) {
            (Some(None), _) => Some(self.schema.includable()),
            (_, Some(record)) => Some(record.clone()),
            (Some(Some(listed)), None) => Some(listed.clone()),
            (None, None) => None,
        }
    }

    /// Whether nothing is known of an object.
    fn is_new(self, on: &str) -> bool {
        let World {
            tuples,
            records,
            given,
            locks,
        } = self.world;
        let within = |text: &str| text.split('#').next() == Some(on);
        let named = tuples.iter().any(|(o, _, s)| within(o) || within(s));
        let given = given.keys().any(|(at, _, who)| at == on || within(who));
        let owns = records.keys().any(|(id, _)| format!("org:{id}") == on);
        !(named || given || owns || locks.contains(on))
    }

    /// Whether somebody lacks any of these: on the object, and on what hangs below it. What is
    /// neither there nor below no assignment gives; an edit is refused.
    fn lacks(self, on: &str, permissions: &BTreeSet<Permission>, edit: bool) -> bool {
        let mut imagined = self.world.clone();
        let mut level = vec![(kind(on), on.to_owned())];
        let mut below: Vec<&str> = Vec::new();
        while !level.is_empty() {
            let mut next = Vec::new();
            for (above, place) in level {
                for (child, parent) in [("org", "org"), ("app", "org"), ("env", "app")] {
                    let hangs = parent == above && self.schema.assigns[child].inherits;
                    if hangs && !below.contains(&child) {
                        let here = format!("{child}:imagined");
                        imagined.tuples.insert((here.clone(), "up", place.clone()));
                        below.push(child);
                        next.push((child, here));
                    }
                }
            }
            level = next;
        }
        let there = Asks {
            world: &imagined,
            ..self
        };
        permissions.iter().any(|(of, name)| {
            let (here, is_below) = (*of == kind(on), below.contains(of));
            let on_it = !here || self.has(on, name, &mut Vec::new());
            let on_them = !is_below || there.has(&format!("{of}:imagined"), name, &mut Vec::new());
            !(on_it && on_them && (here || is_below || !edit))
        })
    }
}

impl Schema {
    fn includable(&self) -> BTreeSet<Permission> {
        let all = self.permissions.iter();
        all.filter(|(_, expr)| says_any(expr))
            .map(|(one, _)| *one)
            .collect()
    }

    fn keeps_out(&self) -> bool {
        self.permissions
            .values()
            .any(|expr| some_right(expr, false))
    }

    fn may_edit(
        &self,
        world: &World,
        who: &str,
        role: RoleName,
        added: &BTreeSet<Permission>,
    ) -> bool {
        let asks = Asks {
            schema: self,
            world,
            who,
            free: false,
        };
        let owner = format!("org:{}", role.0);
        let granted = self.granted.as_ref();
        granted.is_some_and(|rule| asks.surely(&owner, rule))
            && !(self.capped && asks.lacks(&owner, added, true))
    }

    fn may_assign(&self, before: &World, after: &World, who: &str, one: &Given) -> bool {
        let (on, role, subject) = &one.name;
        let owner = format!("org:{}", role.0);
        let asks = |on: &str| {
            let asks = Asks {
                schema: self,
                world: before,
                who,
                free: false,
            };
            match asks.is_new(on) {
                true => Asks {
                    world: after,
                    ..asks
                },
                false => asks,
            }
        };
        let own_rule = self
            .builtins
            .get(role.1)
            .and_then(|one| one.granted.as_ref());
        let assigns = &self.assigns[kind(on)];
        let (rule, judged_on) = match own_rule {
            Some(rule) => (Some(rule), &owner),
            None => (assigns.granted.as_ref(), on),
        };
        let Some(rule) = rule else { return false };
        if one.takes && subject == who && !self.keeps_out() {
            return true;
        }
        if !asks(judged_on).surely(judged_on, rule) {
            return false;
        }
        if own_rule.is_some() {
            let counts = asks(on).inherited(on).contains(&owner);
            let there = || {
                assigns
                    .granted
                    .as_ref()
                    .is_some_and(|rule| asks(on).surely(on, rule))
            };
            return one.takes || counts || there();
        }
        let included = asks(on).includes(*role).unwrap_or_default();
        one.takes || !assigns.capped || !asks(on).lacks(on, &included, false)
    }

    /// What comes of a deed, and the world after it.
    fn judge(&self, before: &World, who: &str, deed: &Deed) -> (&'static str, World) {
        let mut after = before.clone();
        let trusted = who.is_empty();
        let asks = Asks {
            schema: self,
            world: before,
            who,
            free: false,
        };
        let refused = |reason| (reason, before.clone());
        match deed {
            Deed::Create(role, permissions) => {
                if !trusted && !self.may_edit(before, who, *role, permissions) {
                    return refused("ACTOR_NOT_ALLOWED");
                }
                if asks.includes(*role).is_some() {
                    return refused("ROLE_EXISTS");
                }
                after.records.insert(*role, permissions.clone());
            }
            Deed::Edit(role, allow, disallow) => {
                if !trusted && !self.may_edit(before, who, *role, allow) {
                    return refused("ACTOR_NOT_ALLOWED");
                }
                let Some(mut includes) = asks.includes(*role) else {
                    return refused("ROLE_NOT_FOUND");
                };
                if self
                    .builtins
                    .get(role.1)
                    .is_some_and(|one| one.includes.is_none())
                {
                    return refused("ROLE_BUILTIN");
                }
                includes.retain(|one| !disallow.contains(one));
                includes.extend(allow);
                after.records.insert(*role, includes);
            }
            Deed::Delete(role) => {
                if !trusted && !self.may_edit(before, who, *role, &BTreeSet::new()) {
                    return refused("ACTOR_NOT_ALLOWED");
                }
                if asks.includes(*role).is_none() {
                    return refused("ROLE_NOT_FOUND");
                }
                if self.builtins.contains_key(role.1) {
                    return refused("ROLE_BUILTIN");
                }
                after.records.remove(role);
                after.given.retain(|(_, held, _), _| held != role);
            }
            Deed::Assign(all) => {
                for one in all {
                    match one.takes {
                        true => after.given.remove(&one.name),
                        false => after.given.insert(one.name.clone(), one.ends),
                    };
                }
                let may = |one| self.may_assign(before, &after, who, one);
                if !trusted && !all.iter().all(may) {
                    return refused("ACTOR_NOT_ALLOWED");
                }
                for one in all {
                    if asks.includes(one.name.1).is_none() {
                        return refused("ROLE_NOT_FOUND");
                    }
                    if one.must && !before.given.contains_key(&one.name) {
                        return refused("TUPLE_NOT_FOUND");
                    }
                }
                if all.iter().any(|one| self.short(before, &after, one.name.1)) {
                    return refused("MINIMUM_VIOLATED");
                }
            }
        }
        ("done", after)
    }

    fn short(&self, before: &World, after: &World, role: RoleName) -> bool {
        let min = self.builtins.get(role.1).map_or(0, |one| one.min);
        let left = counted(after, role);
        left < counted(before, role) && left < min
    }
}

fn counted(world: &World, role: RoleName) -> usize {
    let owner = format!("org:{}", role.0);
    let counts = |((on, held, who), ends): &(&(String, RoleName, String), &bool)| {
        *on == owner && *held == role && !who.contains('#') && !**ends
    };
    world.given.iter().filter(counts).count()
}

fn says_any(expr: &Expr) -> bool {
    match expr {
        Any => true,
        Or(a, b) | And(a, b) | Not(a, b) => says_any(a) || says_any(b),
        _ => false,
    }
}

/// Whether a role is read on the right of some `-`.
fn some_right(expr: &Expr, right: bool) -> bool {
    match expr {
        Any | Expr::Some | Role(_) => right,
        Has(_) | Up(_) => false,
        Or(a, b) | And(a, b) => some_right(a, right) || some_right(b, right),
        Not(a, b) => some_right(a, right) || some_right(b, true),
    }
}

async fn said(engine: &Engine, command: Command) -> (&'static str, String) {
    let reason = |refusal: &Refusal| match refusal {
        Refusal::Rule(rule) => match **rule {
            Violation::Denied(_) => "ACTOR_NOT_ALLOWED",
            Violation::MinimumViolated { .. } => "MINIMUM_VIOLATED",
            _ => "another rule",
        },
        Refusal::RoleExists(_) => "ROLE_EXISTS",
        Refusal::RoleNotFound { .. } => "ROLE_NOT_FOUND",
        Refusal::RoleBuiltin { .. } => "ROLE_BUILTIN",
        Refusal::TupleNotFound { .. } => "TUPLE_NOT_FOUND",
        _ => "something else",
    };
    match engine.write(command, None).await {
        Ok(_) => ("done", String::new()),
        Err(EngineError::Refused(refusal)) => (reason(&refusal), refusal.to_string()),
        Err(other) => panic!("{other}"),
    }
}

const HISTORIES: u64 = 150;
const DEEDS: usize = 50;

#[tokio::test]
async fn the_oracle_of_roles_says_the_same() {
    let mut counts = BTreeMap::new();
    for seed in 0..HISTORIES {
        history(seed, &mut counts).await;
    }
    println!("{HISTORIES} histories: {counts:?}");
    for wanted in [
        "done by",
        "done of",
        "ACTOR_NOT_ALLOWED by",
        "capped by",
        "ROLE_EXISTS by",
        "ROLE_NOT_FOUND by",
        "ROLE_BUILTIN by",
        "MINIMUM_VIOLATED by",
        "TUPLE_NOT_FOUND by",
    ] {
        let seen: usize = counts.get(wanted).copied().unwrap_or(0);
        assert!(seen >= 30, "too few are {wanted}: {counts:?}");
    }
}

async fn history(seed: u64, counts: &mut BTreeMap<String, usize>) {
    let dice = &mut Dice(seed << 32 | 5);
    let rules = random_schema(dice);
    let rules_text = schema_text(&rules);
    let options = TestClock::at(1_000).options();
    let engine = Engine::open(Box::new(store()), options).unwrap();
    (engine.write(schema(&rules_text), None).await).unwrap_or_else(|e| panic!("{e}\n{rules_text}"));
    // The same without caps: what these alone refuse is drawn too seldom.
    let mut uncapped = rules.clone();
    uncapped.capped = false;
    uncapped
        .assigns
        .values_mut()
        .for_each(|one| one.capped = false);
    let mut world = World::default();
    build(dice, &engine, &mut world).await;
    for place in 0..DEEDS {
        let trusted = place < 15 || dice.once_in(8);
        let mut actor = String::new();
        let mut deed = random_deed(dice, &rules, &world);
        let steered = if dice.once_in(3) { 1 } else { 30 };
        for _ in 0..steered {
            if trusted {
                break;
            }
            actor = format!("user:{}", dice.below(4));
            let judged = |rules: &Schema| rules.judge(&world, &actor, &deed).0;
            let refused = judged(&rules) == "ACTOR_NOT_ALLOWED";
            if !refused || judged(&uncapped) != "ACTOR_NOT_ALLOWED" && dice.once_in(2) {
                break;
            }
            deed = random_deed(dice, &rules, &world);
        }
        let command = by(&actor, command_of(&deed));
        let (said, why) = said(&engine, command.clone()).await;
        let (expected, after) = rules.judge(&world, &actor, &deed);
        assert_eq!(
            said, expected,
            "seed {seed}, deed {place} by {actor:?}: {:?}\n{why}\non {:?}\n{:?}\n{:?} locked {:?}\n{rules_text}",
            command.action, world.tuples, world.records, world.given, world.locks
        );
        let who = if trusted { "of" } else { "by" };
        let word = if why.contains("`capped`") {
            "capped"
        } else {
            said
        };
        *counts.entry(format!("{word} {who}")).or_insert(0) += 1;
        world = after;
    }
    let given = world.given.iter().map(|((on, (owner, key), who), ends)| {
        let end = if *ends {
            "[expiration:2096-10-02T07:06:40Z]"
        } else {
            ""
        };
        format!("{on}#role={owner}/{key}@{who}{end}")
    });
    let tuples = world
        .tuples
        .iter()
        .map(|(on, relation, who)| format!("{on}#{relation}@{who}"));
    let mut ours: Vec<String> = given.chain(tuples).collect();
    ours.sort();
    assert_eq!(stored(&engine, Newest).await, ours, "seed {seed}");
}
