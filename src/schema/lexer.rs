//! Text to tokens. Hides comments, the body of a caveat (CEL, taken whole) and how deep
//! parentheses may nest.

use std::ops::Range;

use super::diagnostic::Report;

/// A range of bytes in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: other.end,
        }
    }
}

impl From<Span> for Range<usize> {
    fn from(span: Span) -> Self {
        span.start..span.end
    }
}

/// What a token is; its text is the span's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A name or keyword, `/` between words included.
    Word,
    /// Begins with a digit.
    Number,
    /// One of the fixed signs, such as `{` or `->`.
    Sign(&'static str),
    /// What stands between the braces of a caveat.
    Body,
    /// The end of the text.
    End,
}

/// A token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
    /// Whether a line ends between the token before and this one.
    pub after_newline: bool,
    /// How many comments stand before it, of all in the text.
    pub comments: usize,
}

/// A comment, its markers included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comment {
    /// Where it stands; a line comment ends before its line break.
    pub span: Span,
    /// Whether it ends with its line: `//`.
    pub line: bool,
}

/// The tokens of a text, the last one [`Kind::End`], and its comments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tokens {
    /// In the order of the text.
    pub tokens: Vec<Token>,
    /// In the order of the text.
    pub comments: Vec<Comment>,
}

/// How deep parentheses may nest.
pub const MAX_DEPTH: usize = 100;

const SIGNS: [&str; 20] = [
    "...", "->", "<-", "{", "}", "(", ")", ":", ";", "|", "#", "*", "=", "+", "-", "&", ",", ".",
    "<", ">",
];

/// Cuts a text into tokens; `None` after an error that makes the rest unreadable.
pub(crate) fn lex(text: &str, report: &mut Report<'_>) -> Option<Tokens> {
    let mut lexer = Lexer {
        text,
        at: 0,
        parentheses: 0,
        braces: 0,
        newline: false,
        out: Tokens::default(),
    };
    while lexer.step(report)? {}
    Some(lexer.out)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parentheses: usize,
    braces: usize,
    newline: bool,
    out: Tokens,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let end = self.at + length;
        self.out.tokens.push(Token {
            kind,
            span: Span {
                start: self.at,
                end,
            },
            after_newline: self.newline,
            comments: self.out.comments.len(),
        });
        self.at = end;
        self.newline = false;
    }

    /// Takes one token, comment or space; `Some(false)` at the end.
    fn step(&mut self, report: &mut Report<'_>) -> Option<bool> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            self.push(Kind::End, 0);
            return Some(false);
        };
        if first.is_whitespace() || (first == '\u{feff}' && self.at == 0) {
            self.newline |= first == '\n';
            self.at += first.len_utf8();
        } else if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            let length = rest.get(..length).map_or(length, |c| c.trim_end().len());
            self.comment(length, true);
        } else if rest.starts_with("/*") {
            let length = rest.get(2..).and_then(|inner| inner.find("*/"));
            let Some(length) = length else {
                let message = "this comment has no end";
                report.error(self.at..self.at + 2, "syntax", message).help =
                    Some("close it with `*/`".into());
                return None;
            };
            self.comment(length + 4, false);
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = word_length(rest);
            self.push(Kind::Word, length);
        } else if first.is_ascii_digit() {
            let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            let length = rest.find(ends).unwrap_or(rest.len());
            self.push(Kind::Number, length);
        } else {
            return self.sign(first, report);
        }
        Some(true)
    }

    fn comment(&mut self, length: usize, line: bool) {
        let span = Span {
            start: self.at,
            end: self.at + length,
        };
        let text = self.text.get(span.start..span.end).unwrap_or("");
        self.newline |= text.contains('\n');
        self.out.comments.push(Comment { span, line });
        self.at = span.end;
    }

    fn sign(&mut self, first: char, report: &mut Report<'_>) -> Option<bool> {
        let rest = self.rest();
        let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
            let span = self.at..self.at + first.len_utf8();
            // Here, since what is imported stands in quotes, which nothing else does.
            let last = self.out.tokens.last().map(|token| token.span);
            if let Some(last) = last.filter(|last| self.reads(*last, "import")) {
                refuse_import(last, report);
                return None;
            }
            let message = format!("{first:?} means nothing in a schema");
            report.error(span, "syntax", message);
            return None;
        };
        let is_body = *sign == "{" && self.braces == 0 && self.last_is(")");
        match *sign {
            "(" => self.parentheses += 1,
            ")" => self.parentheses = self.parentheses.saturating_sub(1),
            "{" => self.braces += 1,
            "}" => self.braces = self.braces.saturating_sub(1),
            _ => {}
        }
        if self.parentheses > MAX_DEPTH || self.braces > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            report.error(self.at..self.at + 1, "too-deep", message).help =
                Some("give a part of it a name, as a permission of its own".into());
            return None;
        }
        self.push(Kind::Sign(sign), sign.len());
        if is_body {
            let Some(length) = body_length(self.rest()) else {
                let span = self.at - 1..self.at;
                report.error(
                    span,
                    "syntax",
                    "the condition of this caveat has no closing `}`",
                );
                return None;
            };
            self.push(Kind::Body, length);
        }
        Some(true)
    }

    fn reads(&self, span: Span, word: &str) -> bool {
        self.text.get(span.start..span.end) == Some(word)
    }

    fn last_is(&self, sign: &'static str) -> bool {
        (self.out.tokens.last()).is_some_and(|token| token.kind == Kind::Sign(sign))
    }
}

/// Says that `import`, at `span`, is not there.
pub(super) fn refuse_import(span: Span, report: &mut Report<'_>) {
    let message = "`import` is not supported: a schema is one text";
    report.error(span, "import", message).help = Some("put the imported text into this one".into());
}

/// How long the name is that `text` begins with: words with single `/` between them.
fn word_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let joins = *byte == b'/' && bytes.get(at + 1).is_some_and(is_part);
        if !is_part(byte) && !joins {
            break;
        }
        at += 1;
    }
    at
}

/// How many bytes of CEL stand before the brace that closes them: braces within strings and
/// comments do not count.
fn body_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0_usize, 0_usize);
    loop {
        match *bytes.get(at)? {
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            b'{' => depth += 1,
            b'"' | b'\'' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                let rest = bytes.get(at..)?;
                at += rest.iter().position(|b| *b == b'\n')?;
            }
            _ => {}
        }
        at += 1;
    }
}

/// The place behind the CEL string literal that begins with the quote at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = *bytes.get(start)?;
    let is_name =
        |at: usize| (bytes.get(at)).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let prefix = (0..start).rev().take(3).take_while(|at| is_name(*at));
    let prefix: Vec<u8> = prefix.filter_map(|at| bytes.get(at).copied()).collect();
    let raw = prefix.len() <= 2 && prefix.iter().any(|b| matches!(b, b'r' | b'R'));
    let triple = [quote; 3];
    let close: &[u8] = match bytes.get(start..start + 3) {
        Some(opening) if opening == triple => &triple,
        _ => &[quote],
    };
    let mut at = start + close.len();
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(close) {
            return Some(at + close.len());
        }
        at += match rest.first()? {
            b'\\' if !raw => 2,
            b'\n' if close.len() == 1 => return Some(at),
            _ => 1,
        };
    }
}
