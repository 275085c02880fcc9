//! What is wrong with a schema, and where: hides how places are counted and how they are shown.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::ops::Range;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Severity {
    /// The schema is refused.
    Error,
    /// The schema is accepted, and probably does not say what was meant.
    Warning,
}

/// One thing that is wrong with a schema's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Whether the schema is refused for it.
    pub severity: Severity,
    /// A word for programs, such as `unknown-name`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The line of `span.start`, from 1.
    pub line: usize,
    /// The column of `span.start` in characters, from 1.
    pub column: usize,
    /// The bytes of the text that it is about.
    pub span: Range<usize>,
    /// What could have stood there instead, for syntax errors.
    pub expected: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The known name that is most like the unknown one.
    pub nearest: Option<String>,
}

impl Diagnostic {
    /// A diagnostic for `span`, a range of bytes in `text`.
    pub fn new(
        severity: Severity,
        text: &str,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let (line, column) = position(text, span.start);
        Self {
            severity,
            code,
            message: message.into(),
            line,
            column,
            span,
            expected: None,
            help: None,
            nearest: None,
        }
    }

    /// As a compiler prints it for people: the message, the place, the source line with the span
    /// underlined, and what helps. Ends with a line break. `text` is what was compiled.
    pub fn render(&self, text: &str, file_name: &str) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let (source, lead, marks) = self.underlined(text);
        let mut out = format!("{word}[{}]: {}\n", self.code, self.message);
        let _ = writeln!(out, "{gutter}--> {file_name}:{}:{}", self.line, self.column);
        let _ = writeln!(out, "{gutter} |\n{number} | {source}");
        let expected = self
            .expected
            .as_ref()
            .map_or(String::new(), |expected| format!(" expected {expected}"));
        let _ = writeln!(out, "{gutter} | {lead}{marks}{expected}");
        if let Some(nearest) = &self.nearest {
            let _ = writeln!(out, "{gutter} = help: did you mean `{nearest}`?");
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{gutter} = help: {help}");
        }
        out
    }

    /// The source line, cut where it is very long, with what stands below it.
    fn underlined(&self, text: &str) -> (String, String, String) {
        const BEFORE: usize = 120;
        const WIDTH: usize = 240;
        let source = text.lines().nth(self.line - 1).unwrap_or("");
        let at = self.column - 1;
        let skipped = at.saturating_sub(BEFORE);
        let shown: String = source.chars().skip(skipped).take(WIDTH).collect();
        let shown = shown.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
        let lead = (shown.chars().take(at - skipped))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let length = text.get(self.span.clone()).map_or(1, |marked| {
            marked.lines().next().unwrap_or("").chars().count()
        });
        let room = shown.chars().count().saturating_sub(at - skipped);
        (shown, lead, "^".repeat(length.min(room).max(1)))
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let mut end = at.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        line,
        before.get(start..).map_or(1, |s| s.chars().count() + 1),
    )
}

/// Collects diagnostics while a text is read; past a limit further ones are dropped, so that a
/// hostile text costs no more than a wrong one.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    text: &'a str,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

const MAX_DIAGNOSTICS: usize = 50;

impl<'a> Report<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// All that was reported, in the order of the text: errors, warnings.
    pub(crate) fn finish(self) -> [Vec<Diagnostic>; 2] {
        [self.errors, self.warnings].map(|mut list| {
            list.truncate(MAX_DIAGNOSTICS);
            list.sort_by_key(|diagnostic| diagnostic.span.start);
            list.dedup();
            list
        })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_DIAGNOSTICS
    }

    /// Adds an error and gives it back for its help.
    pub(crate) fn error(
        &mut self,
        span: impl Into<Range<usize>>,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Error, span.into(), code, message.into())
    }

    /// Adds a warning and gives it back for its help.
    pub(crate) fn warning(
        &mut self,
        span: impl Into<Range<usize>>,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, span.into(), code, message.into())
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the list was just made longer than `last`"
    )]
    fn push(
        &mut self,
        severity: Severity,
        span: Range<usize>,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        // Counting lines costs the length of the text, so what will be dropped is not placed.
        match list.len() {
            0..MAX_DIAGNOSTICS => {
                list.push(Diagnostic::new(severity, self.text, span, code, message));
            }
            MAX_DIAGNOSTICS => list.push(Diagnostic::new(severity, "", 0..0, code, "")),
            _ => {}
        }
        let newest = list.len() - 1;
        &mut list[newest]
    }
}

/// The one of `known` that `name` was probably meant to be; looks at so many of them only.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    const MOST: usize = 5_000;
    let limit = name.len().div_ceil(3).min(3);
    known
        .take(MOST)
        .filter(|k| k.len().abs_diff(name.len()) <= limit && *k != name)
        .map(|k| (distance(name, k), k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, k)| (*d, Reverse(shared_ends(name, k)), *k))
        .map(|(_, k)| k.to_owned())
}

/// How many bytes two names begin and end with alike: who writes `viewr` means `viewer`, although
/// `view` is as near.
fn shared_ends(a: &str, b: &str) -> usize {
    fn alike<T: PartialEq>(a: impl Iterator<Item = T>, b: impl Iterator<Item = T>) -> usize {
        a.zip(b).take_while(|(a, b)| a == b).count()
    }
    alike(a.bytes(), b.bytes()) + alike(a.bytes().rev(), b.bytes().rev())
}

/// How many letters to insert, delete, replace or swap with a neighbour; case is ignored.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut left_a = None;
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        let mut left_b = None;
        for (j, y) in b.bytes().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = get(&row, j) + usize::from(x != y);
            best = best.min(get(&row, j + 1) + 1).min(get(&next, j) + 1);
            if j > 0 && left_a == Some(y) && left_b == Some(x) {
                best = best.min(get(&before, j - 1) + 1);
            }
            next.push(best);
            left_b = Some(y);
        }
        before = std::mem::replace(&mut row, next);
        left_a = Some(x);
    }
    row.last().copied().unwrap_or(0)
}
