//! A schema's text laid out anew. Works on tokens, not on the tree: what is not space stays, in
//! its order, so that no comment and no parenthesis can be lost.

use super::diagnostic::{Diagnostic, Report};
use super::lexer::{Comment, Kind, Token};
use super::parser::{self, Mark, Parsed};

/// Lays a schema's text out. Line breaks next to operators, and one blank line, stay where they
/// are; formatting the result again changes nothing.
///
/// # Errors
/// What keeps the text from being read.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut report = Report::new(text);
    let parsed = parser::read(text, &mut report);
    let [errors, _] = report.finish();
    match parsed {
        Some(parsed) if errors.is_empty() => Ok(Printer::new(text, &parsed).print()),
        _ => Err(errors),
    }
}

struct Printer<'a> {
    text: &'a str,
    parsed: &'a Parsed,
    out: String,
    /// Of each open brace: whether its block stays on one line.
    open: Vec<bool>,
    /// Whether the clauses of this statement stand on lines of their own.
    clauses_broken: bool,
    /// How far clauses are indented that stand on lines of their own.
    clause_level: usize,
    /// How far the statement or clause being printed is indented.
    level: usize,
    /// Whether the block that was just closed stays on one line.
    closed_on_one_line: bool,
}

impl<'a> Printer<'a> {
    fn new(text: &'a str, parsed: &'a Parsed) -> Self {
        Self {
            text,
            parsed,
            out: String::with_capacity(text.len()),
            open: Vec::new(),
            clauses_broken: false,
            clause_level: 0,
            level: 0,
            closed_on_one_line: false,
        }
    }

    fn token(&self, at: usize) -> Option<Token> {
        self.parsed.tokens.tokens.get(at).copied()
    }

    fn mark(&self, at: usize) -> Mark {
        self.parsed.marks.get(at).copied().unwrap_or_default()
    }

    fn source(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or("")
    }

    fn print(mut self) -> String {
        for at in 0..self.parsed.tokens.tokens.len() {
            self.step(at);
        }
        let mut out = self.out.trim_end().to_owned();
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }

    fn step(&mut self, at: usize) {
        let Some(token) = self.token(at) else { return };
        let previous = at.checked_sub(1).and_then(|at| self.token(at));
        self.enter(at);
        let wanted = self.line_break(at, token, previous);
        self.gap(at, token, previous, wanted);
        if token.kind == Kind::Body {
            self.body(token);
        } else {
            self.out
                .push_str(self.source(token.span.start, token.span.end));
        }
        if token.kind == Kind::Sign("{") {
            let one_line = self.stays_on_one_line(at);
            self.open.push(one_line);
        }
    }

    /// Keeps count of where in the text's structure the token stands.
    fn enter(&mut self, at: usize) {
        match self.mark(at) {
            Mark::Close => {
                self.closed_on_one_line = self.open.pop().unwrap_or(false);
                self.level = self.open.len();
            }
            Mark::Item | Mark::Statement => {
                self.level = self.open.len();
                self.clause_level = self.level + 1;
                self.clauses_broken = self.breaks_clauses(at);
            }
            Mark::Clause => {
                if self.is_first_in_block(at) {
                    self.clauses_broken = !self.open.last().copied().unwrap_or(false);
                    self.clause_level = self.open.len();
                }
                if self.clauses_broken {
                    self.level = self.clause_level;
                }
            }
            _ => {}
        }
    }

    fn is_first_in_block(&self, at: usize) -> bool {
        let previous = at.checked_sub(1).and_then(|at| self.token(at));
        previous.is_some_and(|token| token.kind == Kind::Sign("{"))
    }

    /// Whether a line has to end before this token, and how far the new one is indented.
    fn line_break(&self, at: usize, token: Token, previous: Option<Token>) -> Option<usize> {
        let Some(previous) = previous else {
            return (self.mark(at) == Mark::Item).then_some(0);
        };
        match self.mark(at) {
            _ if token.kind == Kind::End => Some(0),
            Mark::Item => Some(0),
            Mark::Close => match previous.kind {
                Kind::Sign("{") if token.comments == previous.comments => None,
                Kind::Body => None,
                _ if self.closed_on_one_line => None,
                _ => Some(self.open.len()),
            },
            Mark::Statement => Some(self.open.len()),
            Mark::Clause if self.clauses_broken => Some(self.level),
            Mark::Operator if token.after_newline => Some(self.level + 1),
            _ if token.after_newline && at > 0 && self.mark(at - 1) == Mark::Operator => {
                Some(self.level + 1)
            }
            _ => None,
        }
    }

    /// A lock that was written on one line stays on it.
    fn stays_on_one_line(&self, opening: usize) -> bool {
        if self.mark(opening + 1) != Mark::Clause || opening < 2 {
            return false;
        }
        if self.mark(opening - 2) != Mark::Statement {
            return false;
        }
        for at in opening + 1.. {
            let Some(token) = self.token(at) else {
                return false;
            };
            let comments = self.comments(at, self.token(at - 1));
            if token.after_newline || comments.iter().any(|comment| comment.line) {
                return false;
            }
            if token.kind == Kind::Sign("}") {
                return true;
            }
        }
        false
    }

    /// More than one clause, or one that was on a line of its own: each gets a line.
    fn breaks_clauses(&self, at: usize) -> bool {
        let mut clauses = 0;
        for at in at + 1.. {
            let Some(token) = self.token(at) else { break };
            match self.mark(at) {
                Mark::Item | Mark::Statement | Mark::Close => break,
                Mark::Clause if token.after_newline => return true,
                Mark::Clause => clauses += 1,
                _ => {}
            }
        }
        clauses > 2
    }

    /// The comments between a token and the one before it.
    fn comments(&self, at: usize, previous: Option<Token>) -> &'a [Comment] {
        let start = previous.map_or(0, |token| token.comments);
        let end = self.token(at).map_or(start, |token| token.comments);
        let comments = self.parsed.tokens.comments.get(start..end);
        comments.unwrap_or_default()
    }

    /// Prints what stands before a token: comments, line breaks, spaces.
    fn gap(&mut self, at: usize, token: Token, previous: Option<Token>, wanted: Option<usize>) {
        let comments = self.comments(at, previous);
        let mut end = previous.map_or(0, |token| token.span.end);
        let mut must_break = false;
        let indent = self.comment_indent(at, token, wanted);
        for comment in comments {
            let between = self.source(end, comment.span.start);
            let is_doc = self
                .source(comment.span.start, comment.span.end)
                .starts_with("/**");
            if must_break || between.contains('\n') || (is_doc && wanted.is_some()) {
                self.new_line(between, indent);
            } else if !self.out.is_empty() {
                self.out.push(' ');
            }
            self.comment(*comment, indent);
            must_break = comment.line;
            end = comment.span.end;
        }
        let between = self.source(end, token.span.start);
        let breaks = must_break || (!comments.is_empty() && between.contains('\n'));
        if let Some(level) = wanted.or(breaks.then_some(self.level + 1)) {
            self.new_line(between, level);
        } else if !comments.is_empty() || previous.is_some_and(|p| self.spaced(at, token, p)) {
            self.out.push(' ');
        }
    }

    /// Comments before a closing brace belong into the block.
    fn comment_indent(&self, at: usize, token: Token, wanted: Option<usize>) -> usize {
        match self.mark(at) {
            Mark::Close => self.open.len() + 1,
            _ if token.kind == Kind::End => 0,
            _ => wanted.unwrap_or(self.level + 1),
        }
    }

    /// Ends the line, and leaves one empty where the source has any.
    fn new_line(&mut self, between: &str, level: usize) {
        if self.out.is_empty() {
            return;
        }
        while self.out.ends_with(' ') {
            self.out.pop();
        }
        let blank = between.bytes().filter(|byte| *byte == b'\n').count() > 1;
        let opened = self.out.ends_with('{');
        self.out
            .push_str(if blank && !opened { "\n\n" } else { "\n" });
        self.out.push_str(&"    ".repeat(level));
    }

    /// Lines of a block comment that begin with a star are aligned; others stay as they are.
    fn comment(&mut self, comment: Comment, level: usize) {
        let text = self.source(comment.span.start, comment.span.end);
        let mut lines = text.lines();
        let starred = text
            .lines()
            .skip(1)
            .all(|line| line.trim_start().starts_with('*'));
        self.out.push_str(lines.next().unwrap_or("").trim_end());
        for line in lines {
            self.out.push('\n');
            if starred {
                self.out.push_str(&"    ".repeat(level));
                self.out.push(' ');
                self.out.push_str(line.trim());
            } else {
                self.out.push_str(line.trim_end());
            }
        }
    }

    /// The condition of a caveat: on one line within spaces, or its lines as they are.
    fn body(&mut self, token: Token) {
        let text = self.source(token.span.start, token.span.end);
        let inner = text.trim();
        if inner.is_empty() {
            return;
        }
        if !inner.contains('\n') && !inner.contains("//") {
            self.out.push(' ');
            self.out.push_str(inner);
            self.out.push(' ');
            return;
        }
        // CEL has strings over several lines, in which every space counts.
        let head = text.find(|c: char| !c.is_whitespace()).unwrap_or(0);
        let head = text.get(..head).and_then(|space| space.rfind('\n'));
        let kept = text.get(head.map_or(0, |newline| newline + 1)..);
        self.out.push('\n');
        if head.is_none() {
            self.out.push_str("    ");
        }
        let kept = kept.unwrap_or(inner).trim_end();
        self.out.push_str(if head.is_none() {
            kept.trim_start()
        } else {
            kept
        });
        self.out.push('\n');
    }

    /// Whether a space stands between two tokens of one line.
    fn spaced(&self, at: usize, token: Token, previous: Token) -> bool {
        const TIGHT: [&str; 7] = ["#", ".", "->", "<-", "...", "<", ">"];
        if self.mark(at) == Mark::Tight || (at > 0 && self.mark(at - 1) == Mark::Tight) {
            // A tight sign has its like: `name(`, `user:*`; behind `*` all is as usual.
            return self.mark(at) != Mark::Tight && previous.kind == Kind::Sign("*");
        }
        match (previous.kind, token.kind) {
            (Kind::Sign("..."), _) if self.mark(at.saturating_sub(1)) != Mark::Statement => true,
            (Kind::Sign(">"), Kind::Word) => true,
            (Kind::Sign("{"), Kind::Sign("}"))
            | (Kind::Body | Kind::Sign("("), _)
            | (_, Kind::Body | Kind::Sign(")" | "," | ";" | ":")) => false,
            (Kind::Sign(sign), _) if TIGHT.contains(&sign) => after_tight(sign, token),
            (_, Kind::Sign(sign)) => !TIGHT.contains(&sign),
            _ => true,
        }
    }
}

fn after_tight(sign: &str, token: Token) -> bool {
    sign == ">" && !matches!(token.kind, Kind::Sign(">" | "," | ")"))
}
