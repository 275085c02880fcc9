//! Conditions of caveats: the type checker for CEL expressions.
//!
//! Hides how a condition becomes something that can be resolved: `scan` refuses what the parser of
//! the `cel` crate can't take, the crate parses, `check` types its tree against the declared
//! parameters, `prepare` makes the tree safe to resolve while parameters are missing.
//!
//! Types are those of the CEL language definition, with two allowances: numbers compare with
//! numbers of another type, and a list may hold values of several types, which makes it a list of
//! `any`.

use std::sync::LazyLock;

use ::cel::{Env, IdedExpr};

use super::Parameter;
pub(crate) use prepare::{Condition, Leaf};
pub(crate) use prepare::{DURATION, MATCHES, ORDERS, TIMESTAMP, pattern, variable};

mod check;
mod functions;
mod prepare;
mod scan;
#[cfg(test)]
mod tests;
mod types;

/// Address space; what is not touched takes no memory.
const LARGE_STACK: usize = 64 << 20;

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CelError {
    /// What was found and what was expected.
    pub message: String,
    /// The first byte at fault, in the source of the condition.
    pub start: usize,
    /// The byte after the last at fault.
    pub end: usize,
}

impl CelError {
    pub(crate) fn new(message: String, start: usize, end: usize) -> Self {
        Self {
            message,
            start,
            end,
        }
    }
}

/// A checked condition: it is true or false once all of its parameters are known, or it fails.
#[derive(Debug)]
pub struct Expression {
    pub(crate) condition: Condition,
    /// Whether resolving it takes a larger stack than threads have.
    pub(crate) deep: bool,
}

/// Parses and checks a condition; it uses all of `parameters` and is a bool.
pub fn compile(source: &str, parameters: &[Parameter]) -> Result<Expression, CelError> {
    scan::scan(source)?;
    // `scan` refuses all that is known to make the crate's parser panic; a panic that is left ends
    // that thread only, and is an error here.
    on_a_large_stack(|| {
        let parsed = Parsed::parse(source)?;
        check::check(&parsed, parameters)?;
        Ok(prepare::prepare(parsed.root, parameters))
    })
    .unwrap_or_else(|| {
        Err(CelError::new(
            "this condition can't be parsed".into(),
            0,
            source.len(),
        ))
    })
}

/// Runs `work` on a thread of its own, since what the crate does recurses, with up to 40 KiB for
/// each of the levels that `scan` lets pass. `None` where there is no thread, or where it panics.
pub(crate) fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(LARGE_STACK);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

/// The tree of the crate, with what it takes to say where its nodes were written.
struct Parsed<'a> {
    source: &'a str,
    root: IdedExpr,
    info: ::cel::common::ast::SourceInfo,
}

static PARSER: LazyLock<Env> = LazyLock::new(|| Env::stdlib().with_optional_support(false));

impl<'a> Parsed<'a> {
    fn parse(source: &'a str) -> Result<Self, CelError> {
        match PARSER.parser().parse_with_source_info(source) {
            Ok((root, info)) => Ok(Self { source, root, info }),
            Err(errors) => Err(syntax_error(source, &errors)),
        }
    }

    fn error(&self, node: u64, message: String) -> CelError {
        let (start, end) = match self.info.offset_for(node) {
            Some((first, last)) => (first as usize, last as usize + 1),
            None => (0, self.source.len()),
        };
        match self.source.get(start..end) {
            Some(_) => CelError::new(message, start, end),
            None => CelError::new(message, 0, self.source.len()),
        }
    }
}

/// The byte where the `n`th character starts.
fn byte_of(source: &str, n: usize) -> usize {
    source
        .char_indices()
        .nth(n)
        .map_or(source.len(), |(at, _)| at)
}

fn syntax_error(source: &str, errors: &::cel::ParseErrors) -> CelError {
    let Some(first) = errors.errors.first().filter(|first| first.pos.1 > 0) else {
        let message = errors.errors.first().map_or("", |error| &error.msg);
        return CelError::new(plain_words(message), 0, source.len());
    };
    let line = usize::try_from(first.pos.0).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(first.pos.1).unwrap_or(1).max(1) - 1;
    let line_start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = source.get(line_start..).unwrap_or("");
    let start = line_start + byte_of(rest, column);
    let length = source
        .get(start..)
        .and_then(|rest| rest.chars().next())
        .map_or(0, char::len_utf8);
    CelError::new(plain_words(&first.msg), start, start + length)
}

/// The message of the parser, without its list of all tokens that could have followed.
fn plain_words(message: &str) -> String {
    if message.contains("Recursion limit") {
        return "operators nest too deep".into();
    }
    let line = message.lines().next().unwrap_or("").trim();
    let line = line.strip_prefix("Syntax error: ").unwrap_or(line);
    let found = [
        "extraneous input ",
        "mismatched input ",
        "no viable alternative at input ",
    ]
    .iter()
    .find_map(|start| line.strip_prefix(start));
    let found = found.map(|rest| {
        rest.split_once(" expecting ")
            .map_or(rest, |(found, _)| found)
    });
    match found.map(|found| found.trim_matches('\'')) {
        Some("<EOF>") => "expected an expression, found the end of the condition".into(),
        Some(found) => format!("unexpected `{found}`"),
        None if line.is_empty() => "this is no condition".into(),
        None => line.to_owned(),
    }
}

/// The name of `known` that `wanted` was most likely meant to be.
pub(crate) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wanted.chars().count().max(3) / 3;
    known
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// How many letters differ: Levenshtein's distance, of the first 64 letters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for (to, pair) in b.iter().zip(row.windows(2)) {
            let (&[diagonal, above], Some(&left)) = (pair, next.last()) else {
                continue;
            };
            next.push(
                (diagonal + usize::from(from != *to))
                    .min(above + 1)
                    .min(left + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
