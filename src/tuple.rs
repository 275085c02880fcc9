//! References, tuples and filters: parsed once at the border, valid ever after.
//!
//! Hides the text form (`environment:prod#guest@user:bob[caveat:{…}][expiration:…]`) and its
//! limits. `ObjectRef` and `SubjectRef` borrow from the text they were parsed from, so that a
//! check makes no string; `Object`, `Subject` and `Tuple` own theirs.

mod filter;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::time::Timestamp;

pub use self::filter::TupleFilter;

/// The most bytes that the id of an object may have.
pub const MAX_ID_BYTES: usize = 1_024;
/// The most bytes that the name of a type, relation or caveat may have.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a text is no reference or tuple. The message says what was expected instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}")]
pub struct MalformedReference {
    text: String,
    problem: &'static str,
}

impl MalformedReference {
    /// The text that is at fault; cut short where it is long.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn malformed(text: &str, problem: &'static str) -> MalformedReference {
    let mut text = text.to_owned();
    if text.len() > 200 {
        let end = (0..=200).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    MalformedReference { text, problem }
}

/// An object, `type:id`, borrowed from the text that names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObjectRef<'a> {
    kind: &'a str,
    id: &'a str,
}

/// A subject, `type:id`, `type:id#relation` or `type:*`, borrowed from the text that names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SubjectRef<'a> {
    kind: &'a str,
    id: &'a str,
    relation: Option<&'a str>,
}

impl<'a> ObjectRef<'a> {
    /// Parses `type:id`, split at the first `:`.
    ///
    /// # Errors
    /// What is wrong with the text, where it is no reference.
    pub fn parse(text: &'a str) -> Result<Self, MalformedReference> {
        let (kind, id) = split_object(text)?;
        if id == "*" {
            return Err(malformed(
                text,
                "is a wildcard, where one object is expected",
            ));
        }
        if !is_id(id) {
            return Err(bad_id(text, id));
        }
        Ok(Self { kind, id })
    }

    /// An object whose parts were parsed before.
    pub(crate) fn known(kind: &'a str, id: &'a str) -> Self {
        Self { kind, id }
    }

    /// The name of its type.
    pub fn kind(self) -> &'a str {
        self.kind
    }

    /// Its id within the type.
    pub fn id(self) -> &'a str {
        self.id
    }

    /// The same, owning its text.
    pub fn to_object(self) -> Object {
        Object {
            kind: self.kind.into(),
            id: self.id.into(),
        }
    }
}

impl<'a> SubjectRef<'a> {
    /// Parses `type:id`, `type:id#relation` or `type:*`; `#...` says that there is no relation.
    ///
    /// # Errors
    /// What is wrong with the text, where it is no subject.
    pub fn parse(text: &'a str) -> Result<Self, MalformedReference> {
        let (object, relation) = match cut(text, b'#') {
            None => (text, None),
            Some((object, "...")) => (object, None),
            Some((object, relation)) => (object, Some(relation)),
        };
        let (kind, id) = split_object(object)?;
        if let Some(relation) = relation {
            if !is_relation(relation) {
                return Err(malformed(text, "names no relation after '#'"));
            }
            if id == "*" {
                return Err(malformed(text, "has a relation behind a wildcard"));
            }
        }
        if id != "*" && !is_id(id) {
            return Err(bad_id(text, id));
        }
        Ok(Self { kind, id, relation })
    }

    /// A subject whose parts were parsed before.
    pub(crate) fn known(kind: &'a str, id: &'a str, relation: Option<&'a str>) -> Self {
        Self { kind, id, relation }
    }

    /// The name of its type.
    pub fn kind(self) -> &'a str {
        self.kind
    }

    /// Its id within the type; `*` for a wildcard.
    pub fn id(self) -> &'a str {
        self.id
    }

    /// Whether it stands for all objects of its type.
    pub fn is_wildcard(self) -> bool {
        self.id == "*"
    }

    /// The relation of a subject set.
    pub fn relation(self) -> Option<&'a str> {
        self.relation
    }

    /// The same, owning its text.
    pub fn to_subject(self) -> Subject {
        Subject {
            kind: self.kind.into(),
            id: self.id.into(),
            relation: self.relation.map(Into::into),
        }
    }
}

/// An object, `type:id`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Object {
    kind: Arc<str>,
    id: Arc<str>,
}

impl Object {
    /// Borrows it.
    pub fn as_ref(&self) -> ObjectRef<'_> {
        ObjectRef {
            kind: &self.kind,
            id: &self.id,
        }
    }

    /// The name of its type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its id within the type.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A subject: `type:id`, a subject set `type:id#relation` or a wildcard `type:*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Subject {
    kind: Arc<str>,
    id: Arc<str>,
    relation: Option<Arc<str>>,
}

impl Subject {
    /// Borrows it.
    pub fn as_ref(&self) -> SubjectRef<'_> {
        SubjectRef {
            kind: &self.kind,
            id: &self.id,
            relation: self.relation.as_deref(),
        }
    }

    /// The name of its type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its id within the type; `*` for a wildcard.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The relation of a subject set.
    pub fn relation(&self) -> Option<&str> {
        self.relation.as_deref()
    }
}

/// A role that is made at run time, or a built-in one of some owner: `block:owner/key`, such as
/// `role:acme/deployer`, which belongs to the object `acme` of the type that the block names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RoleRef(Arc<str>);

impl RoleRef {
    /// The role `key` of the owner with this id, in a `roles` block of the schema.
    ///
    /// # Errors
    /// What is wrong with the parts.
    pub fn new(block: &str, owner_id: &str, key: &str) -> Result<Self, MalformedReference> {
        let text = format!("{block}:{owner_id}/{key}");
        match key.contains('/') {
            true => Err(malformed(
                key,
                "has a '/', which the key of a role can't have",
            )),
            false => text.parse(),
        }
    }

    /// The role whose assignments are tuples of this relation, `role=acme/deployer`.
    pub fn of_relation(relation: &str) -> Option<Self> {
        let (block, role) = relation.split_once('=')?;
        format!("{block}:{role}").parse().ok()
    }

    /// The relation of its assignments: `role=acme/deployer`.
    pub fn relation(&self) -> String {
        self.0.replacen(':', "=", 1)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its `roles` block.
    pub fn block(&self) -> &str {
        self.0.split_once(':').map_or("", |(block, _)| block)
    }

    /// The id of its owner; the type is the block's.
    pub fn owner_id(&self) -> &str {
        role_parts(&self.0).1
    }

    /// What it is called among those of its owner: all behind the last `/`.
    pub fn key(&self) -> &str {
        role_parts(&self.0).2
    }
}

/// Block, owner id and key of a role's reference; empty where it is none.
pub(crate) fn role_parts(text: &str) -> (&str, &str, &str) {
    let (block, rest) = text.split_once(':').unwrap_or(("", ""));
    let (owner, key) = rest.rsplit_once('/').unwrap_or(("", ""));
    (block, owner, key)
}

impl std::borrow::Borrow<str> for RoleRef {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RoleRef {
    type Err = MalformedReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (block, owner, key) = role_parts(text);
        if !is_word(block) || owner.is_empty() || key.is_empty() {
            let expected = "is no role; expected block:owner/key, such as role:acme/deployer";
            return Err(malformed(text, expected));
        }
        // What names a role also names the relation of its assignments.
        if !is_relation(&text.replacen(':', "=", 1)) {
            let problem = "names no role: owner and key together have at most 1,024 bytes, \
                           without spaces, control characters, '#' and '@'";
            return Err(malformed(text, problem));
        }
        Ok(Self(text.into()))
    }
}

/// Values for the parameters of caveats, as JSON.
pub type Context = Map<String, Value>;

/// The caveat of a tuple: its name, and the parameters that the tuple itself fixes.
#[derive(Clone, PartialEq, Debug)]
pub struct CaveatRef {
    /// Names a `caveat` of the schema.
    pub name: Arc<str>,
    /// Wins over the context of a request.
    pub context: Arc<Context>,
}

/// A relationship: `resource#relation@subject`, with what restricts it.
#[derive(Clone, PartialEq, Debug)]
pub struct Tuple {
    /// What is granted on.
    pub resource: Object,
    /// The relation that the subject has.
    pub relation: Arc<str>,
    /// Who has it.
    pub subject: Subject,
    /// The tuple holds only where its caveat is true.
    pub caveat: Option<CaveatRef>,
    /// At this instant it no longer holds.
    pub expires_at: Option<Timestamp>,
}

impl Tuple {
    /// A tuple without caveat and expiry.
    ///
    /// # Errors
    /// Where `relation` is no name of a relation.
    pub fn new(
        resource: ObjectRef<'_>,
        relation: &str,
        subject: SubjectRef<'_>,
    ) -> Result<Self, MalformedReference> {
        if !is_relation(relation) {
            return Err(malformed(relation, "is no name of a relation"));
        }
        Ok(Self {
            resource: resource.to_object(),
            relation: relation.into(),
            subject: subject.to_subject(),
            caveat: None,
            expires_at: None,
        })
    }

    /// The same as [`Tuple::new`], with the names of types and relations from `names`.
    ///
    /// # Errors
    /// Where `relation` is no name of a relation.
    pub fn with_names(
        resource: ObjectRef<'_>,
        relation: &str,
        subject: SubjectRef<'_>,
        names: &mut SharedNames,
    ) -> Result<Self, MalformedReference> {
        if !is_relation(relation) {
            return Err(malformed(relation, "is no name of a relation"));
        }
        Ok(Self {
            resource: Object {
                kind: names.share(resource.kind),
                id: resource.id.into(),
            },
            relation: names.share(relation),
            subject: Subject {
                kind: names.share(subject.kind),
                id: subject.id.into(),
                relation: subject.relation.map(|name| names.share(name)),
            },
            caveat: None,
            expires_at: None,
        })
    }

    /// The tuple without caveat and expiry, which its name does not depend on.
    pub fn name(&self) -> String {
        format!("{}#{}@{}", self.resource, self.relation, self.subject)
    }

    /// Whether it has the resource, relation and subject of another one.
    pub(crate) fn same_name(&self, other: &Self) -> bool {
        self.resource == other.resource
            && self.subject == other.subject
            && self.relation == other.relation
    }

    /// Whether it names one object and holds always: such tuples are what `min` counts.
    pub fn is_plain(&self) -> bool {
        self.caveat.is_none()
            && self.expires_at.is_none()
            && self.subject.relation.is_none()
            && !self.subject.as_ref().is_wildcard()
    }
}

/// Names of types and relations, each kept once for all tuples that are made with it.
#[derive(Debug, Default)]
pub struct SharedNames(Vec<Arc<str>>);

impl SharedNames {
    fn share(&mut self, name: &str) -> Arc<str> {
        /// More than most schemas use; looking through more takes longer than a copy.
        const MOST: usize = 32;
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        if self.0.len() < MOST {
            self.0.push(Arc::clone(&name));
        }
        name
    }
}

/// Whether `name` can name a type: words of letters, digits and `_`, with `/` between them.
pub fn is_type_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && (is_word(name) || name.split('/').all(is_word))
}

/// Whether `word` is one name: a letter or `_`, then letters, digits and `_`.
pub fn is_word(word: &str) -> bool {
    let mut bytes = word.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` can stand as a relation: a word, or a generated `roles=owner/key`.
pub fn is_relation(name: &str) -> bool {
    match cut(name, b'=') {
        None => name.len() <= MAX_NAME_BYTES && is_word(name),
        Some((block, role)) => {
            is_word(block) && role.len() <= MAX_ID_BYTES && is_id(role) && !role.contains('@')
        }
    }
}

/// Whether `id` can name an object within its type.
pub fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'#';
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && c != '#';
    !id.is_empty()
        && id.len() <= MAX_ID_BYTES
        && id != "*"
        && (id.bytes().all(plain) || id.chars().all(allowed))
}

/// What stands before and behind the first of a byte of ASCII. The texts are short: to search them
/// as long ones are searched takes longer.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let place = text.bytes().position(|byte| byte == at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

fn split_object(text: &str) -> Result<(&str, &str), MalformedReference> {
    let Some((kind, id)) = cut(text, b':') else {
        let problem = match text {
            "" => "is empty; expected type:id, such as user:bob",
            _ => "has no ':'; expected type:id, such as user:bob",
        };
        return Err(malformed(text, problem));
    };
    if !is_type_name(kind) {
        return Err(malformed(
            text,
            "does not begin with the name of a type; expected type:id, such as user:bob",
        ));
    }
    Ok((kind, id))
}

fn bad_id(text: &str, id: &str) -> MalformedReference {
    let problem = match id {
        "" => "has no id after ':'",
        _ if id.len() > MAX_ID_BYTES => "has an id of more than 1,024 bytes",
        _ if id.contains('#') => "has a '#', where an object without a relation is expected",
        _ => "has an id with a space or a control character",
    };
    malformed(text, problem)
}

impl FromStr for Tuple {
    type Err = MalformedReference;

    /// Parses `resource#relation@subject`, which may end in `[caveat]`, `[caveat:{json}]` and
    /// `[expiration:RFC 3339]`, in any order.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "is no tuple; expected resource#relation@subject, such as \
                        environment:prod#guest@user:bob";
        let (resource, rest) = text
            .split_once('#')
            .ok_or_else(|| malformed(text, expected))?;
        let (relation, rest) = rest
            .split_once('@')
            .ok_or_else(|| malformed(text, expected))?;
        let (subject, caveat, expires_at) = split_traits(rest);
        if has_malformed_traits(subject) {
            return Err(malformed(
                text,
                "ends in […] that is neither [caveat], [caveat:{json}] nor \
                 [expiration:TIME], such as [expiration:2030-01-31T12:00:00Z]",
            ));
        }
        let mut tuple = Self::new(
            ObjectRef::parse(resource)?,
            relation,
            SubjectRef::parse(subject)?,
        )?;
        tuple.caveat = caveat;
        tuple.expires_at = expires_at;
        Ok(tuple)
    }
}

/// Splits off the trailing `[…]`; an id may hold brackets too, so that only a tail that is
/// valid as a whole counts.
fn split_traits(text: &str) -> (&str, Option<CaveatRef>, Option<Timestamp>) {
    if text.ends_with(']') {
        for (at, _) in text.match_indices('[') {
            let (subject, tail) = text.split_at(at);
            if let Some((caveat, expires_at)) = parse_traits(tail) {
                return (subject, caveat, expires_at);
            }
        }
    }
    (text, None, None)
}

/// What people write for it who do not remember the word.
const EXPIRATIONS: [&str; 5] = ["expiration", "expires", "expires_at", "expiry", "expire"];

/// Whether a subject ends in what was meant as a caveat or an expiration. An id may hold brackets,
/// but to take `bob[expiration:tomorrow]` for somebody's name would grant to nobody in silence.
fn has_malformed_traits(subject: &str) -> bool {
    subject.ends_with(']')
        && subject.match_indices('[').any(|(at, bracket)| {
            let inner = subject.get(at + bracket.len()..).unwrap_or_default();
            let word = inner.split_once(':').map(|(word, _)| word);
            word.is_some_and(|word| EXPIRATIONS.contains(&word))
                || (inner.split_once(":{")).is_some_and(|(name, _)| is_type_name(name))
        })
}

fn parse_traits(mut tail: &str) -> Option<(Option<CaveatRef>, Option<Timestamp>)> {
    let (mut caveat, mut expires_at) = (None, None);
    while !tail.is_empty() {
        let inner = tail.strip_prefix('[')?;
        if let Some(time) = inner.strip_prefix("expiration:") {
            let (time, rest) = time.split_once(']')?;
            if expires_at.replace(time.parse().ok()?).is_some() {
                return None;
            }
            tail = rest;
        } else {
            let (parsed, rest) = parse_caveat(inner)?;
            if caveat.replace(parsed).is_some() {
                return None;
            }
            tail = rest;
        }
    }
    Some((caveat, expires_at))
}

fn parse_caveat(inner: &str) -> Option<(CaveatRef, &str)> {
    let end = inner.find([':', ']'])?;
    let (name, rest) = inner.split_at(end);
    if !is_type_name(name) {
        return None;
    }
    let (context, rest) = match rest.strip_prefix(':') {
        None => (Context::new(), rest),
        Some(json) => {
            let mut values = serde_json::Deserializer::from_str(json).into_iter::<Context>();
            let context = values.next()?.ok()?;
            (context, json.get(values.byte_offset()..)?)
        }
    };
    let caveat = CaveatRef {
        name: name.into(),
        context: Arc::new(context),
    };
    Some((caveat, rest.strip_prefix(']')?))
}

impl fmt::Display for ObjectRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(f, &[self.kind, ":", self.id])
    }
}

impl fmt::Display for SubjectRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(f, &[self.kind, ":", self.id])?;
        self.relation
            .map_or(Ok(()), |relation| joined(f, &["#", relation]))
    }
}

/// Without the machinery of formats: each tuple of an import is written several times.
fn joined(f: &mut fmt::Formatter<'_>, parts: &[&str]) -> fmt::Result {
    parts.iter().try_for_each(|part| f.write_str(part))
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.resource, self.relation, self.subject)?;
        if let Some(caveat) = &self.caveat {
            match caveat.context.is_empty() {
                true => write!(f, "[{}]", caveat.name)?,
                false => {
                    let json = serde_json::to_string(&*caveat.context).map_err(|_| fmt::Error)?;
                    write!(f, "[{}:{json}]", caveat.name)?;
                }
            }
        }
        if let Some(end) = self.expires_at {
            write!(f, "[expiration:{end}]")?;
        }
        Ok(())
    }
}

impl FromStr for Object {
    type Err = MalformedReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ObjectRef::parse(text).map(ObjectRef::to_object)
    }
}

impl FromStr for Subject {
    type Err = MalformedReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        SubjectRef::parse(text).map(SubjectRef::to_subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_as_an_expiration_is_nobodys_name() {
        for tail in ["expiration:tomorrow", "expires:2030-01-31T12:00:00Z"] {
            let text = format!("doc:a#viewer@user:bob[{tail}]");
            let problem = text.parse::<Tuple>().map_err(|error| error.to_string());
            assert!(problem.is_err_and(|said| said.contains("such as [expiration:")));
        }
        let odd = "doc:a#viewer@user:bob[1:2]".parse::<Tuple>();
        assert!(odd.is_ok_and(|tuple| tuple.subject.id() == "bob[1:2]"));
    }
}
