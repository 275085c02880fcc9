//! The schema: what types, relations, permissions, caveats, locks and roles there are.
//!
//! Hides the language. Text goes through `lexer`, `parser` (text to [`ast`]), `check` and
//! `compile` (to the [`Schema`] below, all names resolved to small integers); `format` prints a
//! tree back, `diff` says what changed between two schemas, `diagnostic` prints what is wrong.

use std::sync::Arc;

pub mod admit;

pub mod cel;

pub mod program;

pub(crate) mod reach;

mod includable;

pub mod lexer;

pub mod ast;

pub mod diagnostic;

mod doc;

pub mod parser;

mod check;

pub mod compile;

pub mod format;

pub mod diff;

/// The most bytes that the text of a schema may have.
pub const MAX_BYTES: usize = 1 << 20;

/// A type of objects, by its place in [`Names`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TypeId(pub u16);

/// The name of a relation or permission, whatever the type, by its place in [`Names`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RelId(pub u16);

/// A caveat, by its place in [`Names`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CaveatId(pub u16);

/// A relation or permission of one type, by its place in [`Schema::members`]; it is valid within
/// one compiled schema only, where the three ids above outlive every change of schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MemberId(pub u32);

impl RelId {
    /// No relation: a subject that is an object itself.
    pub const NONE: Self = Self(u16::MAX);
    /// Of a rule (see [`Member::is_rule`]), which has no name that anything could refer to. Not
    /// [`RelId::NONE`]: an object itself is a subject, a rule on it never is.
    pub const RULE: Self = Self(u16::MAX - 1);
}

/// All names that any schema of this store has ever had, each with its number for good.
///
/// Append-only: the index holds these numbers, so a new schema keeps those of the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    types: Interned,
    relations: Interned,
    caveats: Interned,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interned {
    names: Vec<Arc<str>>,
    numbers: hashbrown::HashMap<Arc<str>, u16>,
}

impl Interned {
    fn number(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: u16) -> &str {
        self.names.get(usize::from(number)).map_or("", |name| name)
    }

    fn intern(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.number(name) {
            return Some(number);
        }
        let number = u16::try_from(self.names.len())
            .ok()
            .filter(|n| *n < RelId::RULE.0)?;
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        Some(number)
    }
}

/// The three kinds of [`Names`], each list in the order of its numbers: for checkpoints.
pub type NameLists = [Vec<Arc<str>>; 3];

impl Names {
    /// The number of a type's name.
    pub fn type_id(&self, name: &str) -> Option<TypeId> {
        self.types.number(name).map(TypeId)
    }

    /// The number of a relation's or permission's name.
    pub fn rel_id(&self, name: &str) -> Option<RelId> {
        self.relations.number(name).map(RelId)
    }

    /// The number of a caveat's name.
    pub fn caveat_id(&self, name: &str) -> Option<CaveatId> {
        self.caveats.number(name).map(CaveatId)
    }

    /// The name of a type.
    pub fn type_name(&self, id: TypeId) -> &str {
        self.types.name(id.0)
    }

    /// The name of a relation or permission; empty for [`RelId::NONE`].
    pub fn rel_name(&self, id: RelId) -> &str {
        self.relations.name(id.0)
    }

    /// The name of a caveat.
    pub fn caveat_name(&self, id: CaveatId) -> &str {
        self.caveats.name(id.0)
    }

    /// Finds or adds a type's name; `None` once there are 65,534.
    pub fn intern_type(&mut self, name: &str) -> Option<TypeId> {
        self.types.intern(name).map(TypeId)
    }

    /// Finds or adds a relation's or permission's name; `None` once there are 65,534.
    pub fn intern_rel(&mut self, name: &str) -> Option<RelId> {
        self.relations.intern(name).map(RelId)
    }

    /// Finds or adds a caveat's name; `None` once there are 65,534.
    pub fn intern_caveat(&mut self, name: &str) -> Option<CaveatId> {
        self.caveats.intern(name).map(CaveatId)
    }

    /// The names of all types, in the order of their numbers.
    pub fn type_names(&self) -> impl Iterator<Item = &str> {
        self.types.names.iter().map(|name| &**name)
    }

    /// How many names of types there are: numbers are below it.
    pub fn type_count(&self) -> usize {
        self.types.names.len()
    }

    /// Types, relations, caveats, each in the order of its numbers.
    pub fn lists(&self) -> NameLists {
        [&self.types, &self.relations, &self.caveats].map(|interned| interned.names.clone())
    }

    /// The inverse of [`Names::lists`]; `None` where a list is too long or repeats a name.
    pub fn from_lists(lists: &NameLists) -> Option<Self> {
        let [types, relations, caveats] = lists.each_ref().map(|names| {
            let mut interned = Interned::default();
            for name in names {
                interned.intern(name)?;
            }
            (interned.names.len() == names.len()).then_some(interned)
        });
        Some(Self {
            types: types?,
            relations: relations?,
            caveats: caveats?,
        })
    }
}

/// A schema, checked and compiled: every name in it is known.
#[derive(Debug)]
pub struct Schema {
    /// The text it was compiled from, as written.
    pub text: Arc<str>,
    /// All names, those of earlier schemas included.
    pub names: Arc<Names>,
    /// In the order of the text.
    pub types: Vec<TypeDef>,
    /// Relations and permissions of all types, then the rules on writes and locks.
    pub members: Vec<Member>,
    /// In the order of the text.
    pub caveats: Vec<Arc<CaveatDef>>,
    /// In the order of the text.
    pub roles: Vec<RolesDef>,
    /// `type_places[TypeId]`: the place in `types`; behind its end for the types of sites.
    pub(crate) type_places: Vec<Option<u16>>,
    /// `member_places[place in types][RelId]`: the place in `members`.
    pub(crate) member_places: Vec<Vec<Option<u32>>>,
    /// `caveat_places[CaveatId]`: the place in `caveats`.
    pub(crate) caveat_places: Vec<Option<u16>>,
    /// Made when first asked for.
    pub(crate) programs: std::sync::OnceLock<program::Programs>,
    /// Made when first asked for.
    pub(crate) reach: std::sync::OnceLock<reach::Reach>,
}

/// A `definition`.
#[derive(Debug, Clone)]
pub struct TypeDef {
    /// Its name's number.
    pub id: TypeId,
    /// Its name.
    pub name: Arc<str>,
    /// What stands before it.
    pub doc: Doc,
    /// Relations and permissions, in the order of the text.
    pub members: Vec<MemberId>,
    /// The rules that are judged on its objects: see [`Member::is_rule`].
    pub rules: Vec<MemberId>,
    /// The lock modes, in the order of the text.
    pub locks: Vec<LockDef>,
    /// Which roles may be assigned on it.
    pub assigns: Vec<AssignsDef>,
}

/// A doc comment, without its stars, and what its tags say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doc {
    /// The text without the tags.
    pub text: String,
    /// `@group NAME`: the words up to the end of the line or the next tag.
    pub group: Option<String>,
    /// `@sensitive`.
    pub sensitive: bool,
}

/// A relation or permission of one type, or a rule: what stands behind `granted by`, `revoked by`,
/// `requires` and `except`, as a permission that nothing refers to by name.
#[derive(Debug, Clone)]
pub struct Member {
    /// The type it belongs to.
    pub owner: TypeId,
    /// Its name's number.
    pub rel: RelId,
    /// Its name.
    pub name: Arc<str>,
    /// What stands before it.
    pub doc: Doc,
    /// What it is.
    pub kind: MemberKind,
}

/// What tuples state, or what the schema derives.
#[derive(Debug, Clone)]
pub enum MemberKind {
    /// What tuples state.
    Relation(Relation),
    /// What the schema derives from relations and other permissions.
    Permission(Expr),
}

/// A `relation`, and who may write its tuples.
#[derive(Debug, Clone, Default)]
pub struct Relation {
    /// The subjects that its tuples may have.
    pub subjects: Vec<SubjectType>,
    /// `min N`; 0 where there is none.
    pub min: u64,
    /// `granted by`.
    pub granted_by: Option<MemberId>,
    /// `revoked by`.
    pub revoked_by: Option<MemberId>,
    /// `requires`.
    pub requires: Option<MemberId>,
}

/// One alternative of a relation's type: `user`, `user:*`, `team#member`, with what its tuples
/// must carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubjectType {
    /// The type of the subject.
    pub kind: TypeId,
    /// What of that type.
    pub form: SubjectForm,
    /// `with caveat`: its tuples carry just this caveat; `None`: they carry none.
    pub caveat: Option<CaveatId>,
    /// `with expiration`: its tuples carry an expiry.
    pub expiration: bool,
}

/// Which subjects of a type a [`SubjectType`] admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectForm {
    /// `user`
    Object,
    /// `user:*`
    Wildcard,
    /// `team#member`
    Set(RelId),
}

/// What a permission, or a rule on writes, is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// `nil`: nobody.
    Nil,
    /// `self`: the resource itself, as a subject.
    Itself,
    /// A relation or permission of the same object.
    Member(MemberId),
    /// `via->target`, `via.any(target)`; `via.all(target)` where `all` is set. Counts on those
    /// types of `via`'s subjects that have `target`.
    Arrow {
        /// A relation of the same object.
        via: MemberId,
        /// A name on the objects that it leads to.
        target: RelId,
        /// Whether all of them must hold, and at least one.
        all: bool,
    },
    /// `kind.via<-target`: whoever has `target` on some object whose `via` leads here.
    Backward {
        /// A relation of the other type.
        via: MemberId,
        /// A relation or permission of the other type.
        target: MemberId,
    },
    /// `any ROLES`: whoever holds here a role that includes this permission.
    AnyRole(RolesId),
    /// `some ROLES`: whoever was assigned any role on this very object.
    SomeRole(RolesId),
    /// `role NAME`: whoever holds that built-in role here.
    Role(RolesId, Arc<str>),
    /// `a + b + …`
    Union(Vec<Expr>),
    /// `a & b & …`
    Intersection(Vec<Expr>),
    /// `a - b`
    Exclusion(Box<Expr>, Box<Expr>),
}

/// A `roles` block, by its place in [`Schema::roles`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RolesId(pub u16);

/// A `roles` block.
#[derive(Debug, Clone)]
pub struct RolesDef {
    /// The word that names it: `role`.
    pub name: Arc<str>,
    /// What stands before it.
    pub doc: Doc,
    /// The type whose objects own such roles.
    pub owner: TypeId,
    /// Who may be assigned one.
    pub held_by: Vec<SubjectType>,
    /// Who may create, change and delete them.
    pub granted_by: Option<MemberId>,
    /// Nobody gives what they do not have.
    pub capped: bool,
    /// In the order of the text.
    pub builtins: Vec<BuiltinDef>,
    /// How the index keeps their assignments.
    pub sites: Sites,
}

/// The generated names under which the index keeps the assignments of one `roles` block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sites {
    /// The type of sites, which is none that the schema defines.
    pub kind: TypeId,
    /// The relation from a resource to its sites, and from a site to its subjects.
    pub relation: RelId,
    /// That relation of a site: whom its tuples may name.
    pub member: MemberId,
}

/// A `builtin` role.
#[derive(Debug, Clone)]
pub struct BuiltinDef {
    /// Its key.
    pub name: Arc<str>,
    /// What stands before it.
    pub doc: Doc,
    /// `None`: `*`, every permission that says `any`.
    pub includes: Option<Vec<MemberId>>,
    /// Replaces the `assigns` rule for it.
    pub granted_by: Option<MemberId>,
    /// `min N`; 0 where there is none.
    pub min: u64,
}

/// `assigns ROLES …` in a definition.
#[derive(Debug, Clone)]
pub struct AssignsDef {
    /// Which roles.
    pub roles: RolesId,
    /// Who may assign them.
    pub granted_by: Option<MemberId>,
    /// Nobody gives what they do not have.
    pub capped: bool,
    /// Relations over which roles held elsewhere hold here too.
    pub inherits: Vec<MemberId>,
    /// Stands for roles that arrive on objects of the type, in searches from the subject's side.
    pub(crate) carrier: MemberId,
}

/// `lock NAME { … }` in a definition.
#[derive(Debug, Clone)]
pub struct LockDef {
    /// The mode.
    pub name: Arc<str>,
    /// What stands before it.
    pub doc: Doc,
    /// `None`: `*`, all relations and permissions.
    pub blocks: Option<Vec<MemberId>>,
    /// Who is not touched.
    pub except: Option<MemberId>,
    /// Who may place and lift it.
    pub granted_by: Option<MemberId>,
    /// Relations over which one held elsewhere arrives here.
    pub inherits: Vec<MemberId>,
    /// Whether tuples of the resource can't be written while it is held.
    pub seals: bool,
}

/// `caveat NAME(parameters) { CEL }`.
#[derive(Debug)]
pub struct CaveatDef {
    /// Its name's number.
    pub id: CaveatId,
    /// Its name.
    pub name: Arc<str>,
    /// What stands before it.
    pub doc: Doc,
    /// In the order of the text.
    pub parameters: Vec<Parameter>,
    /// The condition, type-checked.
    pub expression: cel::Expression,
}

/// A parameter of a caveat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: Arc<str>,
    /// What its values are.
    pub kind: CaveatType,
}

/// The type of a caveat's parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CaveatType {
    /// `any`
    Any,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`, checked as `int`, as SpiceDB does.
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `duration`
    Duration,
    /// `timestamp`
    Timestamp,
    /// `ipaddress`
    IpAddress,
    /// `list<T>`
    List(Box<CaveatType>),
    /// `map<T>`, its keys strings.
    Map(Box<CaveatType>),
}

impl Schema {
    /// The type with this number, where this schema has it.
    pub fn type_def(&self, id: TypeId) -> Option<&TypeDef> {
        let place = (*self.type_places.get(usize::from(id.0))?)?;
        self.types.get(usize::from(place))
    }

    /// Whether any relation or built-in role may never have fewer than so many subjects.
    pub(crate) fn has_minimums(&self) -> bool {
        let relations = self.members.iter().filter_map(Member::relation);
        let mut builtins = self.roles.iter().flat_map(|block| &block.builtins);
        { relations }.any(|relation| relation.min > 0) || builtins.any(|role| role.min > 0)
    }

    /// The type of this name.
    pub fn type_named(&self, name: &str) -> Option<&TypeDef> {
        self.type_def(self.names.type_id(name)?)
    }

    /// The relation or permission `rel` of the type `kind`.
    pub fn member_id(&self, kind: TypeId, rel: RelId) -> Option<MemberId> {
        let place = (*self.type_places.get(usize::from(kind.0))?)?;
        let members = self.member_places.get(usize::from(place))?;
        (*members.get(usize::from(rel.0))?).map(MemberId)
    }

    /// The programs of its relations and permissions.
    pub fn programs(&self) -> &program::Programs {
        self.programs
            .get_or_init(|| program::Programs::compile(self))
    }

    /// What its rules and permissions can read.
    pub(crate) fn reach(&self) -> &reach::Reach {
        self.reach.get_or_init(|| reach::Reach::of(self))
    }

    /// A permission or rule as the schema might write it: `administer + organization->own`.
    pub(crate) fn text_of(&self, id: MemberId) -> String {
        match &self.member(id).kind {
            MemberKind::Permission(expr) => diff::show(self, expr),
            MemberKind::Relation(_) => self.member(id).name.to_string(),
        }
    }

    /// The relation or permission with this number.
    #[expect(
        clippy::indexing_slicing,
        reason = "the compiler hands out places in this list only"
    )]
    pub fn member(&self, id: MemberId) -> &Member {
        &self.members[id.0 as usize]
    }

    /// The `roles` block of this name.
    pub fn roles_named(&self, block: &str) -> Option<(RolesId, &RolesDef)> {
        let place = self.roles.iter().position(|roles| *roles.name == *block)?;
        let id = RolesId(u16::try_from(place).ok()?);
        Some((id, self.roles.get(place)?))
    }

    /// How roles of a block may be assigned on objects of a type, where they may.
    pub fn assigns(&self, kind: TypeId, roles: RolesId) -> Option<&AssignsDef> {
        let definition = self.type_def(kind)?;
        definition.assigns.iter().find(|one| one.roles == roles)
    }

    /// The caveat with this number, where this schema has it.
    pub fn caveat(&self, id: CaveatId) -> Option<&Arc<CaveatDef>> {
        let place = (*self.caveat_places.get(usize::from(id.0))?)?;
        self.caveats.get(usize::from(place))
    }

    /// The caveat of this name.
    pub fn caveat_named(&self, name: &str) -> Option<&Arc<CaveatDef>> {
        self.caveat(self.names.caveat_id(name)?)
    }
}

impl Member {
    /// Whether it is a rule and no relation or permission: its name is for people only, such as
    /// `owner (granted by)`.
    pub fn is_rule(&self) -> bool {
        self.rel == RelId::RULE
    }

    /// The relation that it is, where it is one.
    pub fn relation(&self) -> Option<&Relation> {
        match &self.kind {
            MemberKind::Relation(relation) => Some(relation),
            MemberKind::Permission(_) => None,
        }
    }
}

/// What changed between two schemas, one line each; everything, where there was none before.
pub fn changes_between(old: Option<&Schema>, new: &Schema) -> Vec<String> {
    match old {
        Some(old) => diff::diff(old, new),
        None => Schema::compile("", &Names::default())
            .map_or_else(|_| Vec::new(), |empty| diff::diff(&empty.schema, new)),
    }
}
