//! The oracle of rules: LANGUAGE.md section 2 once more, on a set of tuples and with nothing shared,
//! and random schemas, worlds and writes on which it has to say what the engine says.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::engine::EngineError;
use portcullis::plan::Refusal;
use portcullis::revision::Consistency::Newest;
use portcullis::rules::Violation;

use crate::tuples::by;
use crate::world::{TestClock, schema, store, stored, write};

/// An expression. All arrows walk `parent`.
#[derive(Clone)]
enum Expr {
    Has(&'static str),
    Up(&'static str, bool),
    Or(Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Not(Box<Expr>, Box<Expr>),
}
use Expr::{And, Has, Not, Or, Up};

#[derive(Default)]
struct Relation {
    subjects: &'static str,
    min: usize,
    granted: Option<Expr>,
    revoked: Option<Expr>,
    requires: Option<Expr>,
}

type Name = (String, &'static str, String);
/// Each tuple's traits, as an index into [`TRAITS`].
type Tuples = BTreeMap<Name, usize>;

/// Traits and what they are worth without context: 0 for no, 1 for perhaps, 2 for yes.
const TRAITS: [(&str, u8); 5] = [
    ("", 2),
    ("[expiration:2090-01-01T00:00:00Z]", 2),
    ("[odd:{\"n\":1}]", 2),
    ("[odd:{\"n\":2}]", 0),
    ("[odd]", 1),
];

#[derive(Default)]
struct Schema {
    relations: BTreeMap<(&'static str, &'static str), Relation>,
    permissions: BTreeMap<(&'static str, &'static str), Expr>,
}

struct Update {
    grants: bool,
    name: Name,
    traits: usize,
}

fn kind(object: &str) -> &'static str {
    let found = ["group", "folder", "doc"].into_iter();
    let mut found = found.filter(|kind| object.starts_with(*kind));
    found.next().unwrap_or("user")
}

// What follows up to `judge` is the oracle.

impl Schema {
    fn member(
        &self,
        tuples: &Tuples,
        who: &str,
        on: &str,
        name: &'static str,
        path: &mut Vec<(String, &'static str)>,
    ) -> u8 {
        let here = (on.to_owned(), name);
        if path.contains(&here) {
            return 0;
        }
        path.push(here);
        let value = match self.permissions.get(&(kind(on), name)) {
            Some(expr) => self.value(tuples, who, on, expr, path),
            None if who == format!("{on}#{name}") => 2,
            None => of(tuples, on, name)
                .map(|(subject, worth)| match subject.split_once('#') {
                    _ if subject == who => worth,
                    Some((set, _)) => worth.min(self.member(tuples, who, set, "member", path)),
                    None => 0,
                })
                .max()
                .unwrap_or(0),
        };
        path.pop();
        value
    }

    fn value(
        &self,
        tuples: &Tuples,
        who: &str,
        on: &str,
        expr: &Expr,
        path: &mut Vec<(String, &'static str)>,
    ) -> u8 {
        let mut of_part = |part: &Expr| self.value(tuples, who, on, part, path);
        match expr {
            Has(name) => self.member(tuples, who, on, name, path),
            Or(a, b) => of_part(a).max(of_part(b)),
            And(a, b) => of_part(a).min(of_part(b)),
            Not(a, b) => of_part(a).min(2 - of_part(b)),
            Up(name, all) => {
                let above = of(tuples, on, "parent")
                    .map(|(parent, worth)| worth.min(self.member(tuples, who, parent, name, path)));
                match all {
                    true => above.min().unwrap_or(0),
                    false => above.max().unwrap_or(0),
                }
            }
        }
    }

    fn surely(&self, tuples: &Tuples, who: &str, on: &str, expr: &Expr) -> bool {
        self.value(tuples, who, on, expr, &mut Vec::new()) == 2
    }

    /// Whether an expression comes to walk `parent`, without leaving the type.
    fn walks(&self, kind: &'static str, expr: &Expr) -> bool {
        match expr {
            Up(..) => true,
            Has(name) => {
                (self.permissions.get(&(kind, *name))).is_some_and(|e| self.walks(kind, e))
            }
            Or(a, b) | And(a, b) | Not(a, b) => self.walks(kind, a) || self.walks(kind, b),
        }
    }

    /// What is read on the right of some `-`, or walked by some `.all`.
    fn keeping_out(&self) -> BTreeSet<(&'static str, &'static str)> {
        let mut found = BTreeSet::new();
        for ((kind, _), expr) in &self.permissions {
            self.read(kind, expr, false, &mut found);
        }
        for ((kind, _), r) in &self.relations {
            for expr in [&r.granted, &r.revoked, &r.requires].into_iter().flatten() {
                self.read(kind, expr, false, &mut found);
            }
        }
        found
    }

    fn read(
        &self,
        kind: &'static str,
        expr: &Expr,
        right: bool,
        found: &mut BTreeSet<(&'static str, &'static str)>,
    ) {
        match expr {
            Up(_, all) if right || *all => {
                found.insert((kind, "parent"));
            }
            _ => {}
        }
        match expr {
            Or(a, b) | And(a, b) => {
                self.read(kind, a, right, found);
                self.read(kind, b, right, found);
            }
            Not(a, b) => {
                self.read(kind, a, right, found);
                self.read(kind, b, true, found);
            }
            Has(name) if right => self.read_member((kind, name), found),
            Up(name, _) if right => self.read_member(("folder", name), found),
            Has(_) | Up(..) => {}
        }
    }

    fn read_member(
        &self,
        member: (&'static str, &'static str),
        found: &mut BTreeSet<(&'static str, &'static str)>,
    ) {
        if !found.insert(member) {
            return;
        }
        match self.permissions.get(&member) {
            Some(expr) => self.read(member.0, expr, true, found),
            None if self.relations[&member].subjects.contains("group#member") => {
                self.read_member(("group", "member"), found);
            }
            None => {}
        }
    }

    fn may(&self, before: &Tuples, after: &Tuples, actor: &str, update: &Update) -> bool {
        let (on, name, subject) = &update.name;
        let member = (kind(on), *name);
        let relation = &self.relations[&member];
        let Some(granted) = &relation.granted else {
            return false;
        };
        if !update.grants && subject == actor && !self.keeping_out().contains(&member) {
            return true;
        }
        let rule = match update.grants {
            true => granted,
            false => relation.revoked.as_ref().unwrap_or(granted),
        };
        self.holds_twice(before, after, actor, update, rule)
    }

    fn holds_twice(
        &self,
        before: &Tuples,
        after: &Tuples,
        actor: &str,
        update: &Update,
        rule: &Expr,
    ) -> bool {
        let (on, name, subject) = &update.name;
        let within = |text: &str| text.split('#').next() == Some(on);
        let new = !before.keys().any(|(o, _, s)| within(o) || within(s));
        let base = if new { after } else { before };
        if *name != "parent" || !self.walks(kind(on), rule) {
            return self.surely(base, actor, on, rule);
        }
        let mut alone = base.clone();
        alone.retain(|(o, n, _), _| (o, n) != (on, name));
        let traits = if update.grants { update.traits } else { 0 };
        alone.insert((on.clone(), name, subject.clone()), traits);
        (new || self.surely(base, actor, on, rule)) && self.surely(&alone, actor, on, rule)
    }

    /// What comes of a write, and the tuples after it.
    fn judge(&self, before: &Tuples, actor: &str, updates: &[Update]) -> (&'static str, Tuples) {
        let mut after = before.clone();
        for update in updates {
            match update.grants {
                true => after.insert(update.name.clone(), update.traits),
                false => after.remove(&update.name),
            };
        }
        if !actor.is_empty() && !updates.iter().all(|u| self.may(before, &after, actor, u)) {
            return ("ACTOR_NOT_ALLOWED", after);
        }
        for Update {
            name: (on, name, subject),
            ..
        } in updates
            .iter()
            .filter(|u| u.grants && before.get(&u.name) != Some(&u.traits))
        {
            let requires = &self.relations[&(kind(on), *name)].requires;
            if requires
                .as_ref()
                .is_some_and(|rule| !self.surely(&after, subject, on, rule))
            {
                return ("REQUIREMENT_NOT_MET", after);
            }
        }
        let short = updates.iter().any(
            |Update {
                 name: (on, name, _),
                 ..
             }| {
                let left = counted(&after, on, name);
                left < counted(before, on, name) && left < self.relations[&(kind(on), *name)].min
            },
        );
        (if short { "MINIMUM_VIOLATED" } else { "done" }, after)
    }
}

fn of<'t>(tuples: &'t Tuples, on: &str, name: &str) -> impl Iterator<Item = (&'t str, u8)> {
    let of_it = tuples
        .iter()
        .filter(move |((o, n, _), _)| o == on && *n == name);
    of_it.map(|((_, _, subject), traits)| (subject.as_str(), TRAITS[*traits].1))
}

fn counted(tuples: &Tuples, on: &str, name: &str) -> usize {
    let counts =
        |((o, n, s), t): &(&Name, &usize)| o == on && *n == name && !s.contains('#') && **t == 0;
    tuples.iter().filter(counts).count()
}

// Random schemas and writes.

/// A small generator of random numbers (splitmix64), the same for the same seed everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

const OWNERS: &str = "user | group#member | user with odd | user with expiration";
const MEMBERS: [(&str, &str, &str); 10] = [
    (
        "group",
        "member",
        "user | group#member | user with expiration",
    ),
    ("group", "admin", "user"),
    ("folder", "parent", "folder | folder with odd"),
    ("folder", "owner", OWNERS),
    ("folder", "editor", "user | group#member"),
    ("folder", "banned", "user | group#member"),
    ("doc", "parent", "folder | folder with odd"),
    ("doc", "owner", OWNERS),
    ("doc", "editor", "user | group#member"),
    ("doc", "banned", "user | group#member"),
];

fn expr(dice: &mut Dice, kind: &str, depth: usize, permissions: &[&'static str]) -> Expr {
    if depth == 0 || dice.once_in(2) {
        return match (kind, dice.below(10)) {
            ("group", _) if dice.once_in(2) => Has("member"),
            ("group", _) => Has("admin"),
            (_, 0..=2) => Has("owner"),
            (_, 3) => Has("editor"),
            (_, 4 | 5) if !permissions.is_empty() => Has(dice.pick(permissions)),
            (_, 6) => Up("q", true),
            (_, 7) => Up("owner", false),
            _ => Up(dice.pick(&["p", "q"]), false),
        };
    }
    let left = Box::new(expr(dice, kind, depth - 1, permissions));
    match dice.below(5) {
        0 if kind == "group" => Not(left, Box::new(Has("member"))),
        0 => Not(
            left,
            Box::new(dice.pick(&[Has("banned"), Up("banned", false)])),
        ),
        1 => And(left, Box::new(expr(dice, kind, depth - 1, permissions))),
        _ => Or(left, Box::new(expr(dice, kind, depth - 1, permissions))),
    }
}

fn random_schema(dice: &mut Dice) -> Schema {
    let mut schema = Schema::default();
    for kind in ["folder", "doc"] {
        schema
            .permissions
            .insert((kind, "p"), expr(dice, kind, 2, &[]));
        schema
            .permissions
            .insert((kind, "q"), expr(dice, kind, 2, &["p"]));
    }
    for (kind, name, subjects) in MEMBERS {
        let mut rule = |once_in: usize, but: bool| {
            (dice.once_in(once_in) != but).then(|| expr(dice, kind, 1, &["p", "q"]))
        };
        let granted = rule(8, true);
        let revoked = rule(4, false);
        let requires = rule(4, false).filter(|_| name != "parent");
        let min = if name != "parent" && dice.once_in(3) {
            1 + dice.below(2)
        } else {
            0
        };
        let relation = Relation {
            subjects,
            min,
            granted,
            revoked,
            requires,
        };
        schema.relations.insert((kind, name), relation);
    }
    schema
}

fn text(expr: &Expr) -> String {
    match expr {
        Has(name) => (*name).to_owned(),
        Up(name, true) => format!("parent.all({name})"),
        Up(name, false) => format!("parent->{name}"),
        Or(a, b) => format!("({} + {})", text(a), text(b)),
        And(a, b) => format!("({} & {})", text(a), text(b)),
        Not(a, b) => format!("({} - {})", text(a), text(b)),
    }
}

fn schema_text(schema: &Schema) -> String {
    let mut lines = vec![
        "use expiration".to_owned(),
        "caveat odd(n int) { n % 2 == 1 }".to_owned(),
        "definition user {}".to_owned(),
    ];
    for kind in ["group", "folder", "doc"] {
        lines.push(format!("definition {kind} {{"));
        let relations = schema.relations.iter().filter(|((k, _), _)| *k == kind);
        lines.extend(relations.map(|((_, name), relation)| relation_text(name, relation)));
        let permissions = schema.permissions.iter().filter(|((k, _), _)| *k == kind);
        lines.extend(
            permissions.map(|((_, name), rule)| format!("    permission {name} = {}", text(rule))),
        );
        lines.push("}".to_owned());
    }
    lines.join("\n")
}

fn relation_text(name: &str, relation: &Relation) -> String {
    let mut words = vec![format!("    relation {name}: {}", relation.subjects)];
    if relation.min > 0 {
        words.push(format!("min {}", relation.min));
    }
    for (word, rule) in [
        ("granted by", &relation.granted),
        ("revoked by", &relation.revoked),
        ("requires", &relation.requires),
    ] {
        words.extend(rule.iter().map(|rule| format!("{word} {}", text(rule))));
    }
    words.join(" ")
}

fn random_update(dice: &mut Dice, tuples: &Tuples) -> Update {
    let standing: Vec<&Name> = tuples.keys().collect();
    let grants = !dice.once_in(3);
    let (name, subjects) = if !standing.is_empty() && dice.once_in(if grants { 4 } else { 2 }) {
        let name = dice.pick(&standing).clone();
        let member = MEMBERS
            .iter()
            .find(|(k, n, _)| (*k, *n) == (kind(&name.0), name.1));
        (name, member.unwrap().2)
    } else {
        let (kind, name, subjects) = dice.pick(&MEMBERS);
        let subject = match subjects.starts_with("folder") {
            true => format!("folder:{}", dice.below(4)),
            false if subjects.contains("group") && dice.once_in(4) => {
                format!("group:{}#member", dice.below(3))
            }
            false => format!("user:{}", dice.below(4)),
        };
        (
            (format!("{kind}:{}", dice.below(4)), name, subject),
            subjects,
        )
    };
    let direct = !name.2.contains('#');
    let traits = match dice.below(4) {
        0 if direct && subjects.contains("expiration") => 1,
        1 if direct && subjects.contains("odd") => 2 + dice.below(3),
        _ => 0,
    };
    Update {
        grants,
        name,
        traits,
    }
}

fn random_write(dice: &mut Dice, trusted: bool, tuples: &Tuples) -> (String, Vec<Update>) {
    let actor = match trusted {
        true => String::new(),
        false => format!("user:{}", dice.below(4)),
    };
    let many = if dice.once_in(2) {
        1
    } else {
        1 + dice.below(4)
    };
    let mut updates: Vec<Update> = (0..many).map(|_| random_update(dice, tuples)).collect();
    let mut seen = BTreeSet::new();
    updates.retain(|update| seen.insert(update.name.clone()));
    (actor, updates)
}

fn line(update: &Update) -> String {
    let (on, name, subject) = &update.name;
    match update.grants {
        true => format!("+{on}#{name}@{subject}{}", TRAITS[update.traits].0),
        false => format!("-{on}#{name}@{subject}"),
    }
}

const HISTORIES: u64 = 200;
const WRITES: usize = 40;

#[tokio::test]
async fn the_oracle_of_rules_says_the_same() {
    let mut counts = BTreeMap::new();
    for seed in 0..HISTORIES {
        history(seed, &mut counts).await;
    }
    println!("{HISTORIES} histories: {counts:?}");
    for reason in [
        "done by",
        "ACTOR_NOT_ALLOWED by",
        "REQUIREMENT_NOT_MET by",
        "MINIMUM_VIOLATED by",
        "done of",
        "MINIMUM_VIOLATED of",
    ] {
        let seen = counts
            .iter()
            .filter(|(word, _)| word.starts_with(reason))
            .map(|(_, n)| n);
        assert!(
            seen.sum::<usize>() >= 30,
            "too few are {reason}: {counts:?}"
        );
    }
}

/// Judges a history by both; and whatever has its `min` keeps it.
async fn history(seed: u64, counts: &mut BTreeMap<String, usize>) {
    let dice = &mut Dice(seed << 32);
    let rules = random_schema(dice);
    let rules_text = schema_text(&rules);
    let options = TestClock::at(1_000).options();
    let engine = portcullis::engine::Engine::open(Box::new(store()), options).unwrap();
    engine
        .write(schema(&rules_text), None)
        .await
        .unwrap_or_else(|e| panic!("{e}\n{rules_text}"));
    let mut tuples = Tuples::new();
    for place in 0..WRITES {
        // Trusted callers build a world first. Most writes of actors are drawn again until they
        // have the right, or nearly all would end there.
        let trusted = place < 15 || dice.once_in(8);
        let (mut actor, mut updates) = random_write(dice, trusted, &tuples);
        let steered = if dice.once_in(3) { 0 } else { 30 };
        for _ in 0..steered {
            if rules.judge(&tuples, &actor, &updates).0 != "ACTOR_NOT_ALLOWED" {
                break;
            }
            (actor, updates) = random_write(dice, trusted, &tuples);
        }
        let lines: Vec<String> = updates.iter().map(line).collect();
        let parts: Vec<&str> = lines.iter().map(String::as_str).collect();
        let said = match engine.write(by(&actor, write(&parts)), None).await {
            Ok(_) => "done",
            Err(EngineError::Refused(Refusal::Rule(rule))) => match *rule {
                Violation::Denied(_) => "ACTOR_NOT_ALLOWED",
                Violation::RequirementNotMet { .. } => "REQUIREMENT_NOT_MET",
                Violation::MinimumViolated { .. } => "MINIMUM_VIOLATED",
                other => panic!("{other}"),
            },
            Err(other) => panic!("{other}"),
        };
        let (expected, after) = rules.judge(&tuples, &actor, &updates);
        assert_eq!(
            said, expected,
            "seed {seed}, write {place} by {actor:?}: {parts:?}\non {tuples:?}\n{rules_text}"
        );
        let who = if trusted { "of trusted" } else { "by an actor" };
        *counts.entry(format!("{said} {who}")).or_insert(0) += 1;
        if said == "done" {
            for ((on, name, _), min) in tuples
                .keys()
                .map(|n| (n, rules.relations[&(kind(&n.0), n.1)].min))
            {
                let held = counted(&tuples, on, name) >= min;
                assert!(
                    !held || counted(&after, on, name) >= min,
                    "seed {seed}: {on}#{name}"
                );
            }
            tuples = after;
        }
    }
    let ours = tuples.iter().map(|(name, traits)| {
        line(&Update {
            grants: true,
            name: name.clone(),
            traits: *traits,
        })[1..]
            .to_owned()
    });
    let mut ours: Vec<String> = ours.collect();
    ours.sort();
    assert_eq!(stored(&engine, Newest).await, ours, "seed {seed}");
}
