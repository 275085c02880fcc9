//! The tree of a schema's text: names as written, each with its place; nothing is resolved.

use super::Doc;
use super::lexer::Span;

/// A name as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// A whole schema.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    /// In the order of the text.
    pub items: Vec<Item>,
}

/// What stands at the top level.
#[expect(clippy::large_enum_variant, reason = "short-lived; few of them")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// `use NAME`
    Use(Name),
    /// `definition NAME { … }`
    Definition(Definition),
    /// `partial NAME { … }`
    Partial(Definition),
    /// `caveat NAME(…) { … }`
    Caveat(Caveat),
    /// `roles NAME of TYPE { … }`
    Roles(Roles),
}

/// A definition or partial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Definition {
    /// Its name.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// In the order of the text.
    pub statements: Vec<Statement>,
}

/// What stands in a definition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Statement {
    /// `relation …`
    Relation(Relation),
    /// `permission …`
    Permission(Permission),
    /// `lock …`
    Lock(Lock),
    /// `assigns …`
    Assigns(Assigns),
    /// `...NAME`
    Include(Name),
}

/// A `relation`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relation {
    /// Its name.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// Its alternatives.
    pub subjects: Vec<SubjectType>,
    /// What follows.
    pub clauses: Clauses,
}

/// The clauses of a statement; which may stand is the parser's matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Clauses {
    /// `min N`
    pub min: Option<u64>,
    /// `granted by`
    pub granted_by: Option<Expr>,
    /// `revoked by`
    pub revoked_by: Option<Expr>,
    /// `requires`
    pub requires: Option<Expr>,
    /// `except`
    pub except: Option<Expr>,
    /// `capped`
    pub capped: bool,
    /// `seals`
    pub seals: bool,
    /// `inherits`
    pub inherits: Vec<Name>,
    /// `blocks`
    pub blocks: Option<Choice<Name>>,
    /// `includes`
    pub includes: Option<Choice<(Name, Name)>>,
    /// `held by`
    pub held_by: Vec<SubjectType>,
}

/// `*`, or a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice<T> {
    /// `*`
    All,
    /// In the order of the text.
    Of(Vec<T>),
}

/// One alternative of a type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectType {
    /// The type.
    pub kind: Name,
    /// What of it.
    pub form: SubjectForm,
    /// `with NAME`
    pub caveat: Option<Name>,
    /// `with expiration`
    pub expiration: bool,
    /// All of it.
    pub span: Span,
}

/// What of a type an alternative admits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubjectForm {
    /// `user`
    Object,
    /// `user:*`
    Wildcard,
    /// `team#member`
    Set(Name),
}

/// A `permission`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permission {
    /// Its name.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// `permission p: user | team = …`
    pub annotation: Vec<SubjectType>,
    /// What it is.
    pub expr: Expr,
}

/// A `lock`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// The mode.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// Its clauses.
    pub clauses: Clauses,
}

/// An `assigns`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assigns {
    /// Which roles.
    pub roles: Name,
    /// Its clauses.
    pub clauses: Clauses,
}

/// A `roles` block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roles {
    /// The word that names it.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// `of TYPE`
    pub owner: Name,
    /// Its clauses.
    pub clauses: Clauses,
    /// In the order of the text.
    pub builtins: Vec<Builtin>,
}

/// A `builtin` role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Builtin {
    /// Its key.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// Its clauses.
    pub clauses: Clauses,
}

/// A `caveat`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caveat {
    /// Its name.
    pub name: Name,
    /// What stands before it.
    pub doc: Doc,
    /// In the order of the text.
    pub parameters: Vec<(Name, super::CaveatType)>,
    /// The condition's text.
    pub body: Name,
}

/// An expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its place, without parentheses around it.
    pub span: Span,
    /// Whether parentheses stand around it.
    pub parenthesised: bool,
}

/// What an expression is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExprKind {
    /// `nil`
    Nil,
    /// A relation or permission; `self` too, since a relation may have that name.
    Name(String),
    /// `via->target`, `via.any(target)`, `via.all(target)`
    Arrow {
        /// The left side.
        via: Name,
        /// The right side.
        target: Name,
        /// `.all`
        all: bool,
    },
    /// `kind.via<-target`
    Backward {
        /// The type.
        kind: Name,
        /// Its relation.
        via: Name,
        /// What is needed there.
        target: Name,
    },
    /// `any ROLES`
    AnyRole(Name),
    /// `some ROLES`
    SomeRole(Name),
    /// `role NAME`
    Role(Name),
    /// `a + b`
    Union(Vec<Expr>),
    /// `a & b`
    Intersection(Vec<Expr>),
    /// `a - b`
    Exclusion(Box<Expr>, Box<Expr>),
}
