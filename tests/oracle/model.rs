//! The oracle's own picture of a schema and its tuples, and how it is written as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::roles::{Assigns, Block, Permission, Role, Which};

/// A type, by its place in [`World::types`].
pub type Kind = usize;
/// A relation's or permission's name, by its place in [`World::names`].
pub type Name = usize;
/// Values of parameters; a bool is 0 or 1.
pub type Given = BTreeMap<&'static str, i64>;

/// The parameters of all caveats; bit N of [`Value::missing`] is the Nth of these.
pub const PARAMETERS: [&str; 4] = ["a", "b", "limit", "n"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Denied,
    Conditional,
    Allowed,
}

/// One of three truth values; what a conditional one lacks, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    pub level: Level,
    pub missing: u32,
}

impl Value {
    pub const DENIED: Self = Self::new(Level::Denied, 0);
    pub const ALLOWED: Self = Self::new(Level::Allowed, 0);

    pub const fn new(level: Level, missing: u32) -> Self {
        Self { level, missing }
    }

    /// Undecided for want of these; of none where it failed.
    pub fn lacking(names: &[&str]) -> Self {
        let bit = |name: &&str| PARAMETERS.iter().position(|known| known == name).unwrap();
        let missing = names.iter().fold(0, |bits, name| bits | 1 << bit(name));
        Self::new(Level::Conditional, missing)
    }

    pub fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub fn and(self, other: Self) -> Self {
        match self.level.cmp(&other.level) {
            std::cmp::Ordering::Less => self,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal => Self::new(self.level, self.missing | other.missing),
        }
    }

    pub fn not(self) -> Self {
        let level = match self.level {
            Level::Denied => Level::Allowed,
            Level::Conditional => Level::Conditional,
            Level::Allowed => Level::Denied,
        };
        Self::new(level, self.missing)
    }

    pub fn missing_names(self) -> Vec<&'static str> {
        let has = |at: &usize| self.missing & (1 << at) != 0;
        (0..PARAMETERS.len())
            .filter(has)
            .map(|at| PARAMETERS[at])
            .collect()
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        if holds { Self::ALLOWED } else { Self::DENIED }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    pub kind: Kind,
    pub id: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Object(Object),
    Set(Object, Name),
    Wildcard(Kind),
}

impl Subject {
    pub fn of(object: Object, form: Form) -> Self {
        match form {
            Form::Object => Self::Object(object),
            Form::Set(name) => Self::Set(object, name),
            Form::Wildcard => Self::Wildcard(object.kind),
        }
    }

    /// The object that an arrow walks to.
    pub fn object(self) -> Option<Object> {
        match self {
            Self::Object(object) | Self::Set(object, _) => Some(object),
            Self::Wildcard(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tuple {
    pub resource: Object,
    pub relation: Name,
    pub subject: Subject,
    /// Its place in [`World::caveats`], and what the tuple fixes.
    pub caveat: Option<(usize, Given)>,
    /// Seconds since 1970.
    pub expires_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Set(Name),
    Wildcard,
}

/// One alternative of a relation's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    pub kind: Kind,
    pub form: Form,
    pub caveat: Option<usize>,
    pub expiration: bool,
}

#[derive(Clone, Debug)]
pub enum Expr {
    Nil,
    Itself,
    Member(Name),
    Arrow {
        via: Name,
        target: Name,
        all: bool,
    },
    Backward {
        kind: Kind,
        via: Name,
        target: Name,
    },
    /// `any`, `some` or `role NAME` of a block.
    Roles {
        block: usize,
        which: Which,
    },
    Union(Box<Expr>, Box<Expr>),
    Intersection(Box<Expr>, Box<Expr>),
    /// The name is a hidden member whose body is the right side: so each negation reads a node.
    Exclusion(Box<Expr>, Box<Expr>, Name),
}

#[derive(Clone, Debug)]
pub enum Body {
    Relation(Vec<Alternative>),
    Permission(Expr),
}

#[derive(Clone, Debug)]
pub struct Type {
    pub name: String,
    pub members: Vec<(Name, Body)>,
    pub modes: Vec<Mode>,
    pub assigns: Vec<Assigns>,
}

/// A lock mode of a type.
#[derive(Clone, Debug)]
pub struct Mode {
    pub name: &'static str,
    /// `None`: `*`.
    pub blocks: Option<Vec<Name>>,
    /// A hidden member.
    pub except: Option<Name>,
    pub inherits: Vec<Name>,
}

/// A lock that is held; its place in [`World::locks`] is its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Lock {
    pub mode: &'static str,
    pub resource: Object,
    pub exempt: Vec<Subject>,
    pub expires_at: Option<i64>,
}

/// The value of a parameter, where it is known.
pub type Known<'a> = &'a dyn Fn(&str) -> Option<i64>;

/// A caveat as text for the real thing, and as a function for the oracle.
#[derive(Clone, Copy, Debug)]
pub struct Caveat {
    pub name: &'static str,
    pub parameters: &'static [&'static str],
    pub text: &'static str,
    pub resolve: fn(Known<'_>) -> Value,
}

/// A schema and its tuples.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub types: Vec<Type>,
    pub names: Vec<String>,
    pub ids: Vec<String>,
    pub caveats: Vec<Caveat>,
    pub tuples: Vec<Tuple>,
    /// A place that is `None` was lifted.
    pub locks: Vec<Option<Lock>>,
    pub blocks: Vec<Block>,
    /// All roles that can ever be, by the names of their generated relations.
    pub roles: BTreeMap<Name, Role>,
    /// Those that were made or edited, and what they include.
    pub records: BTreeMap<Name, Vec<Permission>>,
}

/// The caveats that worlds use. A failing one is `lacking(&[])`.
pub const CAVEATS: [Caveat; 7] = [
    Caveat {
        name: "c_int",
        parameters: &["a", "limit"],
        text: "(a int, limit int) { a < limit }",
        resolve: |given| match (given("a"), given("limit")) {
            (Some(a), Some(limit)) => (a < limit).into(),
            (a, limit) => {
                let missing = [("a", a), ("limit", limit)].into_iter();
                let missing = missing.filter(|(_, value)| value.is_none());
                Value::lacking(&missing.map(|(name, _)| name).collect::<Vec<_>>())
            }
        },
    },
    Caveat {
        name: "c_bool",
        parameters: &["b"],
        text: "(b bool) { b }",
        resolve: holds,
    },
    Caveat {
        name: "c_and",
        parameters: &["a", "b"],
        text: "(a int, b bool) { a > 3 && b }",
        resolve: |given| above_three(given).and(holds(given)),
    },
    Caveat {
        name: "c_or",
        parameters: &["a", "b"],
        text: "(a int, b bool) { a > 3 || !b }",
        resolve: |given| above_three(given).or(holds(given).not()),
    },
    Caveat {
        name: "c_div",
        parameters: &["a"],
        text: "(a int) { 10 / a > 1 }",
        resolve: quotient,
    },
    Caveat {
        name: "c_mix",
        parameters: &["a", "b"],
        text: "(a int, b bool) { 10 / a > 1 && b }",
        resolve: |given| quotient(given).and(holds(given)),
    },
    Caveat {
        name: "small",
        parameters: &["n"],
        text: "(n int) { n < 5 }",
        resolve: |given| given("n").map_or(Value::lacking(&["n"]), |n| (n < 5).into()),
    },
];

fn holds(given: Known<'_>) -> Value {
    given("b").map_or(Value::lacking(&["b"]), |b| (b != 0).into())
}

fn above_three(given: Known<'_>) -> Value {
    given("a").map_or(Value::lacking(&["a"]), |a| (a > 3).into())
}

fn quotient(given: Known<'_>) -> Value {
    match given("a") {
        None => Value::lacking(&["a"]),
        Some(0) => Value::lacking(&[]),
        Some(a) => (10 / a > 1).into(),
    }
}

impl World {
    /// What a name of a type is.
    pub fn body(&self, kind: Kind, name: Name) -> Option<&Body> {
        let mut members = self.types[kind].members.iter();
        members
            .find(|(known, _)| *known == name)
            .map(|(_, body)| body)
    }

    /// Finds or adds a name.
    pub fn name(&mut self, text: &str) -> Name {
        intern(&mut self.names, text)
    }

    /// Finds or adds an id.
    pub fn id(&mut self, text: &str) -> usize {
        intern(&mut self.ids, text)
    }

    /// `a - b` in the type `kind`, whose right side becomes a hidden member.
    pub fn exclusion(&mut self, kind: Kind, a: Expr, b: Expr) -> Expr {
        let hidden = self.name(&format!("~{}", self.types[kind].members.len()));
        self.types[kind]
            .members
            .push((hidden, Body::Permission(b.clone())));
        Expr::Exclusion(Box::new(a), Box::new(b), hidden)
    }

    /// The names that a type's text defines.
    pub fn members(&self, kind: Kind) -> Vec<Name> {
        let members = self.types[kind].members.iter().map(|(name, _)| *name);
        members
            .filter(|name| !self.names[*name].starts_with('~'))
            .collect()
    }

    /// The schema as text.
    pub fn schema_text(&self) -> String {
        let mut text = "use expiration\nuse self\n".to_owned();
        for caveat in &self.caveats {
            writeln!(text, "caveat {}{}", caveat.name, caveat.text).unwrap();
        }
        for (kind, definition) in self.types.iter().enumerate() {
            writeln!(text, "definition {} {{", definition.name).unwrap();
            for name in self.members(kind) {
                let word = &self.names[name];
                match self.body(kind, name).unwrap() {
                    Body::Relation(alternatives) => {
                        let types: Vec<_> = alternatives
                            .iter()
                            .map(|one| self.alternative_text(one))
                            .collect();
                        writeln!(text, "  relation {word}: {}", types.join(" | ")).unwrap();
                    }
                    Body::Permission(expr) => {
                        writeln!(text, "  permission {word} = {}", self.expr_text(expr)).unwrap();
                    }
                }
            }
            for mode in &definition.modes {
                text.push_str(&self.mode_text(kind, mode));
            }
            for one in &definition.assigns {
                write!(text, "  assigns {}", self.blocks[one.block].name).unwrap();
                if !one.inherits.is_empty() {
                    write!(text, " inherits {}", self.words(&one.inherits)).unwrap();
                }
                text.push('\n');
            }
            text.push_str("}\n");
        }
        for block in &self.blocks {
            text.push_str(&self.block_text(block));
        }
        text
    }

    fn block_text(&self, block: &Block) -> String {
        let owner = &self.types[block.owner].name;
        let held: Vec<_> = (block.held_by.iter())
            .map(|one| self.alternative_text(one))
            .collect();
        let held = held.join(" | ");
        let mut text = format!("roles {} of {owner} {{\n  held by {held}\n", block.name);
        for builtin in &block.builtins {
            write!(text, "  builtin {}", builtin.key).unwrap();
            let listed = builtin
                .includes
                .as_ref()
                .map(|all| self.permissions_text(all));
            match listed.as_deref() {
                None => text += " includes *",
                Some([]) => {}
                Some(all) => write!(text, " includes {}", all.join(", ")).unwrap(),
            }
            text.push('\n');
        }
        text + "}\n"
    }

    /// Such as `doc.p0`.
    pub fn permissions_text(&self, all: &[Permission]) -> Vec<String> {
        let named = all.iter();
        let named =
            named.map(|(kind, name)| format!("{}.{}", self.types[*kind].name, self.names[*name]));
        named.collect()
    }

    fn words(&self, names: &[Name]) -> String {
        let words: Vec<_> = (names.iter())
            .map(|name| self.names[*name].as_str())
            .collect();
        words.join(", ")
    }

    fn mode_text(&self, kind: Kind, mode: &Mode) -> String {
        let list = |names: &[Name]| self.words(names);
        let mut text = format!("  lock {} {{ blocks ", mode.name);
        text += &mode.blocks.as_deref().map_or("*".to_owned(), list);
        if let Some(Body::Permission(expr)) = mode.except.and_then(|name| self.body(kind, name)) {
            write!(text, " except {}", self.expr_text(expr)).unwrap();
        }
        if !mode.inherits.is_empty() {
            write!(text, " inherits {}", list(&mode.inherits)).unwrap();
        }
        text + " }\n"
    }

    /// The lock modes that block a name of a type.
    pub fn blocking(&self, kind: Kind, name: Name) -> impl Iterator<Item = &Mode> {
        let modes = self.types[kind].modes.iter();
        modes.filter(move |mode| {
            let named = |list: &Vec<Name>| list.contains(&name);
            !self.names[name].starts_with('~') && mode.blocks.as_ref().is_none_or(named)
        })
    }

    fn alternative_text(&self, one: &Alternative) -> String {
        let kind = &self.types[one.kind].name;
        let subject = match one.form {
            Form::Object => kind.clone(),
            Form::Set(name) => format!("{kind}#{}", self.names[name]),
            Form::Wildcard => format!("{kind}:*"),
        };
        match (one.caveat, one.expiration) {
            (None, false) => subject,
            (None, true) => format!("{subject} with expiration"),
            (Some(at), false) => format!("{subject} with {}", self.caveats[at].name),
            (Some(at), true) => format!("{subject} with {} and expiration", self.caveats[at].name),
        }
    }

    fn expr_text(&self, expr: &Expr) -> String {
        let name = |at: &Name| self.names[*at].as_str();
        match expr {
            Expr::Nil => "nil".to_owned(),
            Expr::Itself => "self".to_owned(),
            Expr::Member(at) => name(at).to_owned(),
            Expr::Arrow {
                via,
                target,
                all: true,
            } => {
                format!("{}.all({})", name(via), name(target))
            }
            Expr::Arrow {
                via,
                target,
                all: false,
            } if (via + target) % 2 == 0 => {
                format!("{}.any({})", name(via), name(target))
            }
            Expr::Arrow { via, target, .. } => format!("{}->{}", name(via), name(target)),
            Expr::Backward { kind, via, target } => {
                format!("{}.{}<-{}", self.types[*kind].name, name(via), name(target))
            }
            Expr::Roles { block, which } => {
                let block = self.blocks[*block].name;
                match which {
                    Which::Any(_) => format!("any {block}"),
                    Which::Some => format!("some {block}"),
                    Which::Builtin(key) => format!("role {key}"),
                }
            }
            Expr::Union(a, b) => format!("({} + {})", self.expr_text(a), self.expr_text(b)),
            Expr::Intersection(a, b) => format!("({} & {})", self.expr_text(a), self.expr_text(b)),
            Expr::Exclusion(a, b, _) => format!("({} - {})", self.expr_text(a), self.expr_text(b)),
        }
    }

    pub fn object_text(&self, object: Object) -> String {
        format!("{}:{}", self.types[object.kind].name, self.ids[object.id])
    }

    pub fn subject_text(&self, subject: Subject) -> String {
        match subject {
            Subject::Object(object) => self.object_text(object),
            Subject::Set(object, name) => {
                format!("{}#{}", self.object_text(object), self.names[name])
            }
            Subject::Wildcard(kind) => format!("{}:*", self.types[kind].name),
        }
    }

    pub fn tuple_text(&self, tuple: &Tuple) -> String {
        let mut text = format!(
            "{}#{}@{}",
            self.object_text(tuple.resource),
            self.word(tuple.relation),
            self.subject_text(tuple.subject)
        );
        if let Some((caveat, fixed)) = &tuple.caveat {
            let name = self.caveats[*caveat].name;
            match fixed.is_empty() {
                true => write!(text, "[{name}]").unwrap(),
                false => write!(text, "[{name}:{}]", given_text(fixed)).unwrap(),
            }
        }
        if let Some(end) = tuple.expires_at {
            let end = chrono::DateTime::from_timestamp(end, 0).unwrap();
            let end = end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            write!(text, "[expiration:{end}]").unwrap();
        }
        text
    }
}

/// Parameters as a JSON object.
pub fn given_text(given: &Given) -> String {
    let one = |(name, value): (&&str, &i64)| match *name {
        "b" => format!("\"{name}\":{}", *value != 0),
        _ => format!("\"{name}\":{value}"),
    };
    format!(
        "{{{}}}",
        given.iter().map(one).collect::<Vec<_>>().join(",")
    )
}

fn intern(list: &mut Vec<String>, text: &str) -> usize {
    list.iter()
        .position(|known| known == text)
        .unwrap_or_else(|| {
            list.push(text.to_owned());
            list.len() - 1
        })
}
