//! Validation files: a schema, tuples, what checks on them must answer, and who may write what.
//!
//! Hides the format: SpiceDB's (`schema`, `relationships`, `assertions`, `validation`) and what
//! stands beside it here, `permissions`, `expectations` and `writes`. Whatever the form in which a
//! file states it, each statement comes out as an [`Expectation`] about one check, or as a
//! [`Story`] of writes and checks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::eval::Decision;
use crate::time::Timestamp;
use crate::tuple::{Context, MalformedReference, Object, Subject, Tuple};

mod claims;
mod deeds;
mod judge;
mod roles;
mod world;
mod writes;

pub use judge::{Failure, Report};
pub use roles::{StatedRole, in_file as roles_in_file};
pub use world::{NotWritten, World};
pub use writes::{Attempt, Outcome, Step, Story};

/// A validation file, read: what is left is to compile its schema and to ask its questions.
#[derive(Clone, Debug)]
pub struct ValidationFile {
    /// The schema's text.
    pub schema: String,
    schema_origin: Origin,
    tuples_file: Option<String>,
    /// The tuples, each with the place where it stands.
    pub tuples: Vec<Placed<Tuple>>,
    /// The run-time roles that there are, each with the place where it stands.
    pub roles: Vec<Placed<StatedRole>>,
    roles_file: Option<String>,
    /// What the checks must answer.
    pub expectations: Vec<Expectation>,
    /// Who writes what, and what becomes of it. Each begins with the tuples above.
    pub stories: Vec<Story>,
    /// What the clock says; `None`: what it says where the file is judged.
    pub now: Option<Timestamp>,
}

/// Where the schema's lines stand: in a file of its own, or indented in the validation file.
#[derive(Clone, Debug)]
struct Origin {
    file: Option<String>,
    lines_before: u32,
    indent: u32,
}

/// Something with its line and column in the file, both from 1.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What stands there.
    pub value: T,
}

/// What one check must answer.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Where the file states it; from 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// The sentence that it stands for, where the file has one.
    pub says: Option<Arc<str>>,
    /// On what.
    pub resource: Object,
    /// A permission or relation.
    pub permission: Arc<str>,
    /// Who.
    pub subject: Subject,
    /// Parameters of caveats.
    pub context: Arc<Context>,
    /// The answer.
    pub want: Decision,
    /// Whether it has to be locks that deny it, without which it would be allowed.
    pub locked: bool,
}

/// What is wrong with a validation file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The file beside the validation file that it is in; `None`: the validation file itself.
    pub file: Option<String>,
    /// From 1; 0 where it has no place.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What, and what was expected.
    pub message: String,
    /// The same as a compiler would print it, with the source line, where there is one.
    pub rendered: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// A problem that is of the whole file.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self::at(0, 0, message)
    }

    fn at(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self {
            file: None,
            line,
            column,
            message: message.into(),
            rendered: None,
        }
    }

    fn at_location(location: Location, message: impl Into<String>) -> Self {
        Self::at(number(location.line()), number(location.column()), message)
    }
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    schema: Option<Spanned<String>>,
    schema_file: Option<Spanned<String>>,
    relationships: Option<Spanned<String>>,
    relationships_file: Option<Spanned<String>>,
    #[serde(default)]
    roles: roles::Roles,
    roles_file: Option<Spanned<String>>,
    #[serde(default)]
    assertions: Option<Assertions>,
    #[serde(default)]
    validation: Option<BTreeMap<String, Option<Vec<Spanned<String>>>>>,
    #[serde(default)]
    permissions: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    expectations: Vec<Stated>,
    #[serde(default)]
    writes: Vec<Spanned<writes::Told>>,
    now: Option<Spanned<String>>,
}

type Lines = Option<Vec<Spanned<String>>>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are the format's names"
)]
struct Assertions {
    #[serde(default)]
    assert_true: Lines,
    #[serde(default)]
    assert_caveated: Lines,
    #[serde(default)]
    assert_false: Lines,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    says: Spanned<String>,
    #[serde(default)]
    allowed: Vec<Spanned<String>>,
    #[serde(default)]
    conditional: Vec<Spanned<String>>,
    #[serde(default)]
    denied: Vec<Spanned<String>>,
    subject: Option<Spanned<String>>,
    #[serde(default)]
    may: May,
}

/// What a subject may, resource by resource.
type May = BTreeMap<String, Spanned<Extent>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Extent {
    Word(String),
    List(Vec<String>),
}

impl ValidationFile {
    /// Reads a validation file. `read` gives the text of what `schemaFile` and
    /// `relationshipsFile` name, or says why it can't.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and column.
    pub fn parse(
        text: &str,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, Problem> {
        let document: Document = serde_saphyr::from_str(text).map_err(|error| malformed(&error))?;
        let (schema, schema_origin) = schema_of(&document, text, read)?;
        let (tuples, tuples_file) = tuples_of(&document, text, read)?;
        let (roles, roles_file) = roles::of(&document, read)?;
        let expectations = claims::expectations(&document, &tuples)?;
        let stories = writes::stories(&document)?;
        Ok(Self {
            schema,
            schema_origin,
            tuples_file,
            tuples,
            roles,
            roles_file,
            expectations,
            stories,
            now: document.now.as_ref().map(instant).transpose()?,
        })
    }
}

fn malformed(error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let text = error.to_string();
    let message = (text.rfind(" at line ").and_then(|at| text.get(..at))).unwrap_or(&text);
    match error.location() {
        Some(place) => Problem::at_location(place, message),
        None => Problem::at(0, 0, message),
    }
}

fn instant(text: &Spanned<String>) -> Result<Timestamp, Problem> {
    (text.value.parse()).map_err(|bad| Problem::at_location(text.defined, format!("{bad}")))
}

type Reader<'a> = &'a dyn Fn(&str) -> Result<String, String>;

fn read_named(name: &Spanned<String>, read: Reader<'_>) -> Result<String, Problem> {
    read(&name.value).map_err(|why| Problem::at_location(name.defined, why))
}

fn schema_of(
    document: &Document,
    text: &str,
    read: Reader<'_>,
) -> Result<(String, Origin), Problem> {
    match (&document.schema, &document.schema_file) {
        (Some(schema), None) => {
            let (lines_before, indent) = block_offset(text, schema);
            let origin = Origin {
                file: None,
                lines_before,
                indent,
            };
            Ok((schema.value.clone(), origin))
        }
        (None, Some(name)) => {
            let origin = Origin {
                file: Some(name.value.clone()),
                lines_before: 0,
                indent: 0,
            };
            Ok((read_named(name, read)?, origin))
        }
        (Some(_), Some(name)) => Err(Problem::at_location(
            name.defined,
            "both schema and schemaFile are given; keep one of them",
        )),
        (None, None) => Err(Problem::at(
            1,
            1,
            "the file has no schema; give schema (its text) or schemaFile (a path)",
        )),
    }
}

/// How many lines of the file stand before the block's first, and by how much it is indented:
/// found by the block's first line, since a parser names only where the scalar begins.
fn block_offset(text: &str, block: &Spanned<String>) -> (u32, u32) {
    let from = usize::try_from(block.defined.line().saturating_sub(1)).unwrap_or(0);
    let first = |line: &&str| !line.trim().is_empty();
    let Some((at, wanted)) = (block.value.lines().enumerate()).find(|(_, line)| first(line)) else {
        return (number(block.defined.line()), 0);
    };
    let found = (text.lines().enumerate().skip(from)).find(|(_, line)| line.ends_with(wanted));
    found.map_or((number(block.defined.line()), 0), |(line, whole)| {
        let before = u32::try_from(line.saturating_sub(at)).unwrap_or(0);
        let indent = u32::try_from(whole.len() - wanted.len()).unwrap_or(0);
        (before, indent)
    })
}

type PlacedTuples = (Vec<Placed<Tuple>>, Option<String>);

fn tuples_of(document: &Document, text: &str, read: Reader<'_>) -> Result<PlacedTuples, Problem> {
    let mut tuples = Vec::new();
    if let Some(block) = &document.relationships {
        tuples = relationships(&block.value)
            .map_err(|bad| in_file(text, block, bad.line, &bad.value.to_string()))?;
        let mut rows = Rows::of(text, block);
        for tuple in &mut tuples {
            (tuple.line, tuple.column) = rows.place(tuple.line);
        }
    }
    let Some(name) = &document.relationships_file else {
        return Ok((tuples, None));
    };
    if !tuples.is_empty() {
        return Err(Problem::at_location(
            name.defined,
            "both relationships and relationshipsFile are given; keep one of them",
        ));
    }
    let rows = relationships(&read_named(name, read)?).map_err(|bad| Problem {
        file: Some(name.value.clone()),
        ..Problem::at(bad.line, bad.column, bad.value.to_string())
    })?;
    Ok((rows, Some(name.value.clone())))
}

fn in_file(text: &str, block: &Spanned<String>, line: u32, message: &str) -> Problem {
    let (line, column) = Rows::of(text, block).place(line);
    Problem::at(line, column, message)
}

/// The rows of a block, and the lines of the file that they are from. A folded block (`>-`) has
/// fewer lines than its source, so that a row is found by its words: behind the one before it,
/// else by the first line that has them.
struct Rows<'a> {
    lines: Vec<&'a str>,
    block: Vec<&'a str>,
    /// Where the block begins, and where to look next; from 0.
    begin: usize,
    next: usize,
}

impl<'a> Rows<'a> {
    fn of(text: &'a str, block: &'a Spanned<String>) -> Self {
        let begin = block.defined.line().saturating_sub(1);
        let begin = usize::try_from(begin).unwrap_or(0);
        Self {
            lines: text.lines().collect(),
            block: block.value.lines().collect(),
            begin,
            next: begin,
        }
    }

    /// Line and column, from 1, of the row of this number.
    fn place(&mut self, number: u32) -> (u32, u32) {
        let from_one = |value: usize| u32::try_from(value + 1).unwrap_or(u32::MAX);
        let row = usize::try_from(number.saturating_sub(1)).ok();
        let row = row.and_then(|at| self.block.get(at)).map(|row| row.trim());
        let Some((at, column)) =
            row.and_then(|row| (self.find(row, self.next)).or_else(|| self.find(row, self.begin)))
        else {
            return (from_one(self.begin), 1);
        };
        self.next = at + 1;
        (from_one(at), from_one(column))
    }

    fn find(&self, row: &str, from: usize) -> Option<(usize, usize)> {
        let lines = self.lines.iter().enumerate().skip(from);
        { lines }.find_map(|(at, whole)| Some((at, whole.find(row)?)))
    }
}

/// Reads tuples, one a line; empty lines and those that begin with `//` are skipped.
///
/// # Errors
/// The first line that is no tuple.
pub fn relationships(text: &str) -> Result<Vec<Placed<Tuple>>, Placed<MalformedReference>> {
    let mut tuples = Vec::new();
    for (at, whole) in text.lines().enumerate() {
        let row = whole.trim();
        if row.is_empty() || row.starts_with("//") {
            continue;
        }
        let line = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let column = u32::try_from(whole.len() - whole.trim_start().len() + 1).unwrap_or(1);
        match row.parse() {
            Ok(value) => tuples.push(Placed {
                line,
                column,
                value,
            }),
            Err(value) => {
                return Err(Placed {
                    line,
                    column,
                    value,
                });
            }
        }
    }
    Ok(tuples)
}

#[cfg(test)]
mod tests;
