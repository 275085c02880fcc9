//! Looks over a condition before the parser of the `cel` crate sees it.
//!
//! Hides what that parser can't take: it recurses over operators and brackets, and its own limits
//! come too late. What passes here is small and shallow enough for a stack of 2 MiB.

use super::CelError;

/// Bytes of source.
pub(super) const MAX_SOURCE: usize = 16 * 1024;
/// Operators, member accesses and indexes.
pub(super) const MAX_OPERATORS: usize = 256;
/// Comprehensions within the body of another, the outermost included.
pub(super) const MAX_COMPREHENSIONS: usize = 2;
/// Brackets within brackets.
pub(super) const MAX_BRACKETS: usize = 24;
/// Words, numbers, strings, brackets, commas and operators.
const MAX_TOKENS: usize = 4096;

pub(super) const MACROS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "map", "filter"];
const PAIRS: [&str; 6] = ["&&", "||", "==", "!=", "<=", ">="];

/// Refuses what is too large, too deep, or broken in its brackets or strings.
pub(super) fn scan(source: &str) -> Result<(), CelError> {
    if source.len() > MAX_SOURCE {
        return Err(CelError::new(
            format!(
                "a condition has at most {MAX_SOURCE} bytes, this one has {}",
                source.len()
            ),
            0,
            source.len(),
        ));
    }
    let mut scanner = Scanner::new(source);
    while scanner.step()? {}
    scanner.finish()
}

/// A bracket that is open.
struct Open {
    at: usize,
    closes: char,
    comprehension: bool,
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    open: Vec<Open>,
    operators: usize,
    tokens: usize,
    /// Whether the last token was a `.`, and the name of a macro after one.
    after_dot: bool,
    after_macro: bool,
}

impl<'a> Scanner<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            at: 0,
            open: Vec::new(),
            operators: 0,
            tokens: 0,
            after_dot: false,
            after_macro: false,
        }
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or("")
    }

    /// Takes one token; `false` at the end.
    fn step(&mut self) -> Result<bool, CelError> {
        self.skip_blank();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(false);
        };
        let (after_dot, after_macro) = (self.after_dot, self.after_macro);
        (self.after_dot, self.after_macro) = (false, false);
        match first {
            '"' | '\'' => self.string(start, false)?,
            'a'..='z' | 'A'..='Z' | '_' => self.word(after_dot)?,
            '0'..='9' => self.number(),
            '(' | '[' | '{' => self.bracket(first, after_macro)?,
            ')' | ']' | '}' => self.close(first)?,
            ',' | ':' => self.at += 1,
            _ => self.operator(first)?,
        }
        self.count_token(start)
    }

    fn count_token(&mut self, start: usize) -> Result<bool, CelError> {
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return self.fail(
                format!("a condition has at most {MAX_TOKENS} words and signs"),
                start,
            );
        }
        Ok(true)
    }

    fn finish(self) -> Result<(), CelError> {
        match self.open.last() {
            Some(open) => Err(CelError::new(
                format!("this bracket is not closed: expected `{}`", open.closes),
                open.at,
                open.at + 1,
            )),
            None if self.tokens == 0 => Err(CelError::new(
                "a condition can't be empty: expected an expression that is true or false".into(),
                0,
                self.source.len(),
            )),
            None => Ok(()),
        }
    }

    fn skip_blank(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }

    /// A dot that a digit follows belongs to the number; a sign of its exponent counts as operator.
    fn number(&mut self) {
        self.take_while(|c| c.is_ascii_alphanumeric());
        let fraction = self.rest().strip_prefix('.');
        if fraction.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_alphanumeric());
        }
    }

    fn word(&mut self, after_dot: bool) -> Result<(), CelError> {
        let start = self.at;
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let word = self.source.get(start..self.at).unwrap_or("");
        let prefix = matches!(word.to_ascii_lowercase().as_str(), "r" | "b" | "rb" | "br");
        if prefix && self.rest().starts_with(['"', '\'']) {
            return self.string(start, word.contains(['r', 'R']));
        }
        self.after_macro = after_dot && MACROS.contains(&word);
        if word == "in" && !after_dot {
            return self.count_operator(start);
        }
        Ok(())
    }

    fn string(&mut self, start: usize, raw: bool) -> Result<(), CelError> {
        let rest = self.rest();
        let Some(quote) = rest.chars().next() else {
            return Ok(());
        };
        let triple = [quote; 3].iter().collect::<String>();
        let long = rest.starts_with(&triple);
        let end = if long { triple } else { quote.to_string() };
        self.at += end.len();
        loop {
            let rest = self.rest();
            if rest.starts_with(&end) {
                self.at += end.len();
                return Ok(());
            }
            let Some(c) = rest.chars().next().filter(|c| long || *c != '\n') else {
                return self.fail(format!("this string is not closed: expected {end}"), start);
            };
            self.at += c.len_utf8();
            if c == '\\' && !raw {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
        }
    }

    fn bracket(&mut self, bracket: char, after_macro: bool) -> Result<(), CelError> {
        let at = self.at;
        let comprehension = bracket == '(' && after_macro;
        let closes = match bracket {
            '(' => ')',
            '[' => ']',
            _ => '}',
        };
        self.at += 1;
        if bracket == '[' {
            self.count_operator(at)?;
        }
        self.open.push(Open {
            at,
            closes,
            comprehension,
        });
        if self.open.len() > MAX_BRACKETS {
            return self.fail(format!("brackets nest at most {MAX_BRACKETS} deep"), at);
        }
        let nested = self.open.iter().filter(|open| open.comprehension).count();
        if nested > MAX_COMPREHENSIONS {
            return self.fail(
                format!(
                    "all, exists, exists_one, map and filter nest at most {MAX_COMPREHENSIONS} deep"
                ),
                at,
            );
        }
        Ok(())
    }

    fn close(&mut self, bracket: char) -> Result<(), CelError> {
        let at = self.at;
        self.at += 1;
        match self.open.pop() {
            Some(open) if open.closes == bracket => Ok(()),
            Some(open) => self.fail(format!("expected `{}`, found `{bracket}`", open.closes), at),
            None => self.fail(format!("`{bracket}` closes nothing"), at),
        }
    }

    fn operator(&mut self, first: char) -> Result<(), CelError> {
        let start = self.at;
        let rest = self.rest();
        let pair = PAIRS.iter().any(|pair| rest.starts_with(pair));
        self.at += if pair { 2 } else { first.len_utf8() };
        if !pair && !"+-*/%!<>?.".contains(first) {
            return self.fail(unexpected(first), start);
        }
        if first == '.' && self.rest().starts_with('?') {
            return self.fail(
                "optional fields (`.?`) are not part of conditions".into(),
                start,
            );
        }
        self.after_dot = first == '.';
        self.count_operator(start)
    }

    fn count_operator(&mut self, start: usize) -> Result<(), CelError> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return self.fail(
                format!("a condition has at most {MAX_OPERATORS} operators"),
                start,
            );
        }
        Ok(())
    }

    /// An error from `start` to here.
    fn fail<T>(&self, message: String, start: usize) -> Result<T, CelError> {
        Err(CelError::new(
            message,
            start,
            self.at.max(start + 1).min(self.source.len()),
        ))
    }
}

fn unexpected(found: char) -> String {
    match found {
        '&' => "expected `&&`, found `&`".into(),
        '|' => "expected `||`, found `|`".into(),
        '=' => "expected `==`, found `=`".into(),
        _ => format!("unexpected {found:?}"),
    }
}
