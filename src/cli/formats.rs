//! The files that `import` reads and `export` writes: tuples one a line, JSON lines, and SpiceDB's
//! validation files. Hides how each says a tuple, and where in it an error lies.

use std::io::{self, BufRead, Write};
use std::path::Path;

use clap::ValueEnum;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::read_file;
use crate::api::convert::values;
use crate::api::proto;
use crate::schema::{Names, Schema};
use crate::time::TimestampError;
use crate::tuple::{CaveatRef, MalformedReference, ObjectRef, SubjectRef, Tuple};
use crate::validation::{Placed, StatedRole, ValidationFile};

/// How a file says tuples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One tuple a line, as `grant` takes them; lines that begin with // are skipped
    Tuples,
    /// One JSON object a line, as `tuples --json` gives them; before them the schema, roles and locks
    Json,
    /// SpiceDB's validation YAML: schema and relationships; assertions are left aside
    Spicedb,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// The schema's text.
    Schema(String),
    /// A role.
    Role(Box<proto::Role>),
    /// A lock.
    Lock(Box<proto::HeldLock>),
    /// One tuple, and where its parts stand.
    Tuple(Box<Tuple>, Place),
}

/// Where a tuple stands; both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: u32,
    /// Of resource, relation, subject, and what follows it.
    columns: [u32; 4],
}

/// Something in a file that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub(super) struct Bad {
    /// From 1.
    pub(super) line: u32,
    /// From 1.
    pub(super) column: u32,
    /// What is wrong.
    pub(super) message: String,
}

impl Place {
    /// The error of a field of this tuple: `relation`, `tuples[3].subject`, `caveat.context.x`.
    pub(super) fn bad(&self, field: &str, message: impl Into<String>) -> Bad {
        let names = [
            ("resource", 0),
            ("relation", 1),
            ("subject", 2),
            ("caveat", 3),
        ];
        let path = field.rsplit_once("].").map_or(field, |(_, path)| path);
        let found = names.iter().find(|(name, _)| path.starts_with(name));
        let [first, relation, subject, rest] = self.columns;
        let column = match found.map(|(_, place)| place) {
            Some(1) => relation,
            Some(2) => subject,
            Some(3) => rest,
            _ => first,
        };
        Bad {
            line: self.line,
            column,
            message: message.into(),
        }
    }
}

impl Format {
    /// What a file's name says, or how its text begins.
    pub(super) fn of(path: &Path, begins: &[u8]) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("yaml" | "yml") => Self::Spicedb,
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            _ => match begins.iter().find(|byte| !byte.is_ascii_whitespace()) {
                Some(b'{') => Self::Json,
                _ if begins.starts_with(b"schema:") => Self::Spicedb,
                _ => Self::Tuples,
            },
        }
    }

    /// Reads a file's items in their order.
    pub(super) fn read(
        self,
        path: &Path,
        mut input: Box<dyn BufRead + Send>,
    ) -> Box<dyn Iterator<Item = anyhow::Result<Item>> + Send> {
        let parse = match self {
            Self::Tuples => tuple_line,
            Self::Json => json_line,
            Self::Spicedb => {
                let mut text = String::new();
                let read = input.read_to_string(&mut text).map_err(anyhow::Error::from);
                return match read.and_then(|_| validation_file(path, &text)) {
                    Ok(items) => Box::new(items.into_iter().map(Ok)),
                    Err(error) => Box::new(std::iter::once(Err(error))),
                };
            }
        };
        let lines = (1..).zip(input.lines());
        Box::new(lines.filter_map(move |(number, line)| match line {
            Err(error) => Some(Err(unreadable(number, &error))),
            Ok(line) => parse(number, &line).map_err(Into::into).transpose(),
        }))
    }

    /// Begins a file with what an export begins with; only JSON lines have a place for locks, and
    /// lines of tuples have none for roles.
    pub(super) fn begin(
        self,
        out: &mut dyn Write,
        first: &proto::ExportResponse,
    ) -> io::Result<()> {
        let (schema, revision) = (&first.schema, &first.revision);
        match self {
            Self::Tuples => writeln!(out, "// exported at revision {revision}"),
            Self::Json => {
                writeln!(out, "{}", json!({ "schema": schema, "revision": revision }))?;
                for role in &first.roles {
                    writeln!(out, "{}", json!({ "role": JsonRole::of(role) }))?;
                }
                for lock in &first.locks {
                    writeln!(out, "{}", json!({ "lock": JsonLock::of(lock) }))?;
                }
                Ok(())
            }
            Self::Spicedb => {
                // The sign keeps as many line ends as there are.
                let ends = schema.len() - schema.trim_end_matches('\n').len();
                let keep = ["-", "", "+"].get(ends).unwrap_or(&"+");
                writeln!(out, "# exported at revision {revision}\nschema: |2{keep}")?;
                for line in schema.trim_end_matches('\n').split('\n') {
                    match line {
                        "" => writeln!(out)?,
                        line => writeln!(out, "  {line}")?,
                    }
                }
                for _ in 1..ends {
                    writeln!(out)?;
                }
                if !first.roles.is_empty() {
                    writeln!(out, "roles:")?;
                }
                for role in &first.roles {
                    // What is written for JSON is read as YAML.
                    let told = json!({ "title": role.title, "permissions": role.permissions });
                    writeln!(out, "  {}: {told}", json!(role.role))?;
                }
                writeln!(out, "relationships: |-")
            }
        }
    }

    /// What of an export's beginning has no place in a file of this format.
    pub(super) fn leaves_out(self, first: &proto::ExportResponse) -> String {
        let (roles, locks) = (first.roles.len(), first.locks.len());
        match (self, roles, locks) {
            (Self::Json, ..) | (Self::Spicedb, _, 0) | (Self::Tuples, 0, 0) => String::new(),
            (Self::Spicedb, ..) | (Self::Tuples, 0, _) => format!("{locks} locks are"),
            (Self::Tuples, ..) => format!("{roles} roles and {locks} locks are"),
        }
    }

    /// Writes a tuple.
    pub(super) fn tuple(self, out: &mut dyn Write, tuple: &Tuple) -> io::Result<()> {
        match self {
            Self::Tuples => writeln!(out, "{tuple}"),
            Self::Spicedb => writeln!(out, "  {tuple}"),
            Self::Json => {
                serde_json::to_writer(&mut *out, &as_json(tuple))?;
                writeln!(out)
            }
        }
    }
}

fn unreadable(line: u32, error: &io::Error) -> anyhow::Error {
    let message = match error.kind() {
        io::ErrorKind::InvalidData => "is no UTF-8 text".to_owned(),
        _ => return anyhow::anyhow!("can't read line {line}: {error}"),
    };
    let column = 1;
    Bad {
        line,
        column,
        message,
    }
    .into()
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Where the parts of a tuple stand in its line, as far as it has them.
fn places(line: u32, whole: &str, begin: usize) -> Place {
    let after = |from: usize, sign: char| {
        let rest = whole.get(from..).unwrap_or_default();
        rest.find(sign).map_or(from, |at| from + at + 1)
    };
    let relation = after(begin, '#');
    let subject = after(relation, '@');
    let rest = after(subject, '[');
    Place {
        line,
        columns: [begin, relation, subject, rest].map(|at| number(at + 1)),
    }
}

fn tuple_line(line: u32, whole: &str) -> Result<Option<Item>, Bad> {
    let row = whole.trim();
    if row.is_empty() || row.starts_with("//") {
        return Ok(None);
    }
    let begin = whole.len() - whole.trim_start().len();
    let place = places(line, whole, begin);
    match row.parse() {
        Ok(tuple) => Ok(Some(Item::Tuple(Box::new(tuple), place))),
        Err(error) => Err(malformed(line, whole, begin, &error)),
    }
}

/// The error of a reference, at the text that it is about.
fn malformed(line: u32, whole: &str, begin: usize, error: &MalformedReference) -> Bad {
    let found = whole.get(begin..).and_then(|rest| rest.find(error.text()));
    Bad {
        line,
        column: number(begin + found.unwrap_or(0) + 1),
        message: error.to_string(),
    }
}

/// A line as `tuples --json` or `export` wrote it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    resource: Option<String>,
    relation: Option<String>,
    subject: Option<String>,
    caveat: Option<JsonCaveat>,
    expires_at: Option<String>,
    schema: Option<String>,
    role: Option<JsonRole>,
    lock: Option<JsonLock>,
    #[serde(rename = "revision")]
    _revision: Option<IgnoredAny>,
    #[serde(rename = "tuple")]
    _tuple: Option<IgnoredAny>,
    #[serde(rename = "granted_at")]
    _granted_at: Option<IgnoredAny>,
    #[serde(rename = "granted_by")]
    _granted_by: Option<IgnoredAny>,
    #[serde(rename = "cursor")]
    _cursor: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonCaveat {
    name: String,
    #[serde(default)]
    context: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRole {
    role: String,
    owner: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    permissions: Vec<String>,
}

impl JsonRole {
    fn of(from: &proto::Role) -> Self {
        let proto::Role {
            role,
            owner,
            title,
            permissions,
            // The schema says which are.
            builtin: _,
        } = from.clone();
        Self {
            role,
            owner,
            title,
            permissions,
        }
    }

    fn message(self) -> proto::Role {
        proto::Role {
            role: self.role,
            owner: self.owner,
            title: self.title,
            permissions: self.permissions,
            builtin: false,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLock {
    lock_id: String,
    resource: String,
    mode: String,
    #[serde(default)]
    exempt: Vec<String>,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    reason: String,
    created_at: Option<String>,
    expires_at: Option<String>,
}

impl JsonLock {
    fn of(from: &proto::HeldLock) -> Self {
        let text = |time: Option<prost_types::Timestamp>| {
            let read = time.and_then(|time| values::timestamp(time).ok());
            read.map(|time| time.to_string())
        };
        let proto::HeldLock {
            lock_id,
            resource,
            mode,
            exempt,
            actor,
            reason,
            created_at,
            expires_at,
            // Each store has its own.
            fencing_token: _,
        } = from.clone();
        Self {
            lock_id,
            resource,
            mode,
            exempt,
            actor,
            reason,
            created_at: text(created_at),
            expires_at: text(expires_at),
        }
    }

    fn message(self) -> Result<proto::HeldLock, TimestampError> {
        let time = |text: Option<String>| {
            let read = text.map(|text| text.parse()).transpose()?;
            Ok(read.map(values::to_timestamp))
        };
        Ok(proto::HeldLock {
            lock_id: self.lock_id,
            resource: self.resource,
            mode: self.mode,
            exempt: self.exempt,
            actor: self.actor,
            reason: self.reason,
            created_at: time(self.created_at)?,
            expires_at: time(self.expires_at)?,
            fencing_token: 0,
        })
    }
}

fn json_line(line: u32, whole: &str) -> Result<Option<Item>, Bad> {
    if whole.trim().is_empty() {
        return Ok(None);
    }
    let bad = |column: usize, message: String| Bad {
        line,
        column: number(column),
        message,
    };
    let read: Line = serde_json::from_str(whole).map_err(|error| {
        let text = error.to_string();
        let message = (text.rfind(" at line ").and_then(|at| text.get(..at))).unwrap_or(&text);
        bad(error.column().max(1), message.to_owned())
    })?;
    if let Some(schema) = read.schema {
        return Ok(Some(Item::Schema(schema)));
    }
    if let Some(role) = read.role {
        return Ok(Some(Item::Role(Box::new(role.message()))));
    }
    if let Some(lock) = read.lock {
        let lock = lock.message().map_err(|error| bad(1, error.to_string()))?;
        return Ok(Some(Item::Lock(Box::new(lock))));
    }
    let (Some(resource), Some(relation), Some(subject)) =
        (read.resource, read.relation, read.subject)
    else {
        let message = "expected resource, relation and subject, or schema, role or lock";
        return Err(bad(1, message.to_owned()));
    };
    let key = |name: &str| {
        whole
            .find(&format!("\"{name}\""))
            .map_or(1, |at| number(at + 1))
    };
    let place = Place {
        line,
        columns: ["resource", "relation", "subject", "caveat"].map(key),
    };
    let resource =
        ObjectRef::parse(&resource).map_err(|error| place.bad("resource", error.to_string()))?;
    let subject =
        SubjectRef::parse(&subject).map_err(|error| place.bad("subject", error.to_string()))?;
    let mut tuple = Tuple::new(resource, &relation, subject)
        .map_err(|error| place.bad("relation", error.to_string()))?;
    tuple.caveat = read.caveat.map(|caveat| CaveatRef {
        name: caveat.name.into(),
        context: caveat.context.into(),
    });
    if let Some(text) = read.expires_at {
        let end = text.parse();
        let column = whole.find("\"expires_at\"").map_or(1, |at| at + 1);
        tuple.expires_at =
            Some(end.map_err(|error: TimestampError| bad(column, error.to_string()))?);
    }
    Ok(Some(Item::Tuple(Box::new(tuple), place)))
}

fn as_json(tuple: &Tuple) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("resource", tuple.resource.to_string().into());
    put("relation", (*tuple.relation).into());
    put("subject", tuple.subject.to_string().into());
    if let Some(caveat) = &tuple.caveat {
        let value = json!({ "name": &*caveat.name, "context": &*caveat.context });
        put("caveat", value);
    }
    if let Some(end) = tuple.expires_at {
        put("expires_at", end.to_string().into());
    }
    object.into()
}

fn validation_file(path: &Path, text: &str) -> anyhow::Result<Vec<Item>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |name: &str| read_file(&folder.join(name)).map_err(|error| error.to_string());
    let file = ValidationFile::parse(text, &read)?;
    let roles = match file.roles.as_slice() {
        [] => Vec::new(),
        roles => stated(roles, &file.schema)?,
    };
    let mut items = vec![Item::Schema(file.schema)];
    items.extend(roles);
    items.extend(file.tuples.into_iter().map(|placed| {
        let begin = placed.column.saturating_sub(1) as usize;
        let written = format!("{:begin$}{}", "", placed.value);
        let place = places(placed.line, &written, begin);
        Item::Tuple(Box::new(placed.value), place)
    }));
    Ok(items)
}

/// A file's roles; whose they are says its schema. One that does not compile is refused by whoever
/// it is given to, in its own words.
fn stated(roles: &[Placed<StatedRole>], schema: &str) -> anyhow::Result<Vec<Item>> {
    let Ok(compiled) = Schema::compile(schema, &Names::default()) else {
        return Ok(Vec::new());
    };
    let roles = roles.iter().map(|placed| {
        let wanted = (placed.value.wanted(&compiled.schema)).map_err(|message| Bad {
            line: placed.line,
            column: placed.column,
            message,
        })?;
        Ok(Item::Role(Box::new(proto::Role {
            role: placed.value.role.to_string(),
            owner: wanted.owner.to_string(),
            title: wanted.title.to_string(),
            permissions: wanted.permissions.iter().map(ToString::to_string).collect(),
            builtin: false,
        })))
    });
    roles.collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    fn read(format: Format, text: &str) -> anyhow::Result<Vec<Item>> {
        let input = Box::new(io::Cursor::new(text.to_owned().into_bytes()));
        format.read(Path::new("x"), input).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tuples: Vec<Tuple> = [
            "doc:a#viewer@user:ü@b",
            "doc:a#viewer@team:x#member",
            "doc:[x]#viewer@user:*",
            "doc:a#viewer@user:b[at:{\"x\":\"}]\"}][expiration:2030-01-31T12:00:00Z]",
            "doc:a#viewer@user:c[at]",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        for schema in [
            "definition user {}",
            "// a\n\n  definition user {}\n",
            "x\n\n\n",
        ] {
            for format in [Format::Tuples, Format::Json, Format::Spicedb] {
                let mut out = Vec::new();
                let first = proto::ExportResponse {
                    schema: schema.to_owned(),
                    revision: "7@9f".to_owned(),
                    ..proto::ExportResponse::default()
                };
                format.begin(&mut out, &first).unwrap();
                for tuple in &tuples {
                    format.tuple(&mut out, tuple).unwrap();
                }
                let text = String::from_utf8(out).unwrap();
                let items = read(format, &text).unwrap();
                let mut schemas = Vec::new();
                let mut back = Vec::new();
                for item in items {
                    match item {
                        Item::Schema(schema) => schemas.push(schema),
                        Item::Tuple(tuple, _) => back.push(*tuple),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(back, tuples, "{text}");
                match format {
                    Format::Tuples => assert!(schemas.is_empty()),
                    _ => assert_eq!(schemas, [schema], "{text}"),
                }
            }
        }
    }

    #[test]
    fn errors_name_line_and_column() {
        let check = |format, text: &str, place: (u32, u32), part: &str| {
            let error = read(format, text).unwrap_err();
            let seen = match error.downcast_ref::<Bad>() {
                Some(bad) => (bad.line, bad.column),
                None => {
                    let problem: &crate::validation::Problem = error.downcast_ref().unwrap();
                    (problem.line, problem.column)
                }
            };
            assert_eq!(seen, place, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        let good = "doc:a#viewer@user:b\n// x\n\n";
        check(
            Format::Tuples,
            &format!("{good}  doc:a#viewer"),
            (4, 3),
            "is no tuple",
        );
        check(
            Format::Tuples,
            &format!("{good}doc:a#viewer@bob"),
            (4, 14),
            "has no ':'",
        );
        check(
            Format::Tuples,
            "doc:a#vie wer@user:b",
            (1, 7),
            "no name of a relation",
        );
        check(
            Format::Json,
            "{\"resource\":\"doc:a\"}",
            (1, 1),
            "expected resource, relation",
        );
        check(
            Format::Json,
            "\n{\"resource\": }",
            (2, 14),
            "expected value",
        );
        check(
            Format::Json,
            "{\"ressource\": \"a:b\"}",
            (1, 12),
            "unknown field",
        );
        let bad = "{\"resource\":\"a:b\",\"relation\":\"r\",\"subject\":\"bob\"}";
        check(Format::Json, bad, (1, 34), "has no ':'");
        check(
            Format::Spicedb,
            "schema: ''\nrelationships: |\n  doc:a#viewer\n",
            (3, 3),
            "is no tuple",
        );
        check(Format::Spicedb, "schema: [", (1, 9), "");
    }

    #[test]
    fn a_format_shows_in_the_name_or_the_text() {
        let check = |path: &str, begins: &str, format| {
            assert_eq!(
                Format::of(Path::new(path), begins.as_bytes()),
                format,
                "{path} {begins}"
            );
        };
        check("a.yaml", "", Format::Spicedb);
        check("a.YML", "", Format::Spicedb);
        check("a.jsonl", "", Format::Json);
        check("-", " {\"resource\":", Format::Json);
        check("-", "schema: |", Format::Spicedb);
        check("a.txt", "doc:a#b@c:d", Format::Tuples);
    }
}
