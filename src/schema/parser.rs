//! Tokens to a tree. Hides which word is a keyword where, and how reading goes on after an error.

mod caveat;
mod expr;
mod statement;

use super::ast::{Definition, Item, Name, Roles, Statement, Tree};
use super::diagnostic::{Diagnostic, Report, nearest};
use super::doc;
use super::lexer::{Kind, Span, Token, Tokens, lex, refuse_import};
use super::{Doc, MAX_BYTES};
use crate::tuple::{MAX_NAME_BYTES, is_type_name, is_word};

/// A text that was read, with what a printer needs to lay it out anew.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) tree: Tree,
    pub(crate) tokens: Tokens,
    /// What begins at each token.
    pub(crate) marks: Vec<Mark>,
}

/// What begins at a token, where a printer must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mark {
    #[default]
    None,
    /// A definition, caveat, …
    Item,
    /// A relation, permission, …, within braces.
    Statement,
    /// A clause of a statement.
    Clause,
    /// The brace that ends a block.
    Close,
    /// An operator between two operands.
    Operator,
    /// A sign that takes no space on either side, where its like may.
    Tight,
}

/// The error was reported; its place in the tree stays empty.
#[derive(Debug)]
pub(crate) struct Failed;

type Result<T> = std::result::Result<T, Failed>;

/// Reads a schema's text.
///
/// # Errors
/// What is wrong with it, in the order of the text.
pub fn parse(text: &str) -> std::result::Result<Tree, Vec<Diagnostic>> {
    let mut report = Report::new(text);
    let parsed = read(text, &mut report);
    let [errors, _] = report.finish();
    match parsed {
        Some(parsed) if errors.is_empty() => Ok(parsed.tree),
        _ => Err(errors),
    }
}

/// Reads as much as can be read; `None` where the text has no tokens to speak of.
pub(crate) fn read(text: &str, report: &mut Report<'_>) -> Option<Parsed> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the schema has {} bytes; at most {MAX_BYTES} are taken",
            text.len()
        );
        report.error(0..0, "too-large", message);
        return None;
    }
    let tokens = lex(text, report)?;
    let mut parser = Parser {
        text,
        marks: vec![Mark::None; tokens.tokens.len()],
        tokens: &tokens,
        at: 0,
        open: 0,
        report,
    };
    let tree = parser.tree();
    let marks = parser.marks;
    Some(Parsed {
        tree,
        tokens,
        marks,
    })
}

struct Parser<'a, 'r> {
    text: &'a str,
    tokens: &'a Tokens,
    marks: Vec<Mark>,
    /// The next token.
    at: usize,
    /// How many braces are open.
    open: usize,
    report: &'a mut Report<'r>,
}

const TOP_WORDS: [&str; 6] = ["definition", "caveat", "partial", "roles", "use", "import"];

const END: Token = Token {
    kind: Kind::End,
    span: Span { start: 0, end: 0 },
    after_newline: true,
    comments: 0,
};

impl<'a> Parser<'a, '_> {
    fn token(&self, ahead: usize) -> Token {
        let tokens = &self.tokens.tokens;
        let token = tokens.get(self.at + ahead).or_else(|| tokens.last());
        token.copied().unwrap_or(END)
    }

    fn text_of(&self, token: Token) -> &'a str {
        self.text
            .get(token.span.start..token.span.end)
            .unwrap_or("")
    }

    /// The text of a token that is a word, else nothing.
    fn word(&self, ahead: usize) -> &'a str {
        let token = self.token(ahead);
        match token.kind {
            Kind::Word => self.text_of(token),
            _ => "",
        }
    }

    fn is_sign(&self, ahead: usize, sign: &str) -> bool {
        matches!(self.token(ahead).kind, Kind::Sign(s) if s == sign)
    }

    fn mark(&mut self, mark: Mark) {
        if let Some(place) = self.marks.get_mut(self.at) {
            *place = mark;
        }
    }

    fn bump(&mut self) -> Token {
        let token = self.token(0);
        match token.kind {
            Kind::End => return token,
            Kind::Sign("{") => self.open += 1,
            Kind::Sign("}") => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        self.at += 1;
        token
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is = self.is_sign(0, sign);
        if is {
            self.bump();
        }
        is
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = self.word(0) == word;
        if is {
            self.bump();
        }
        is
    }

    /// Reports that the next token is not what had to come.
    fn unexpected(&mut self, expected: &str) -> Failed {
        let token = self.token(0);
        let found = match token.kind {
            Kind::End => "the end of the text".to_owned(),
            _ => {
                let text: String = self.text_of(token).chars().take(60).collect();
                format!("`{text}`")
            }
        };
        let message = format!("expected {expected}, found {found}");
        self.report.error(token.span, "syntax", message).expected = Some(expected.to_owned());
        Failed
    }

    fn expect_sign(&mut self, sign: &str) -> Result<Token> {
        if self.is_sign(0, sign) {
            return Ok(self.bump());
        }
        Err(self.unexpected(&format!("`{sign}`")))
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{word}`")))
    }

    /// A name that may have a prefix: of a type, partial or caveat.
    fn type_name(&mut self, what: &str) -> Result<Name> {
        self.name(what, is_type_name)
    }

    /// A name of one word.
    fn plain_name(&mut self, what: &str) -> Result<Name> {
        self.name(what, |name| is_word(name) && name.len() <= MAX_NAME_BYTES)
    }

    fn name(&mut self, what: &str, fits: fn(&str) -> bool) -> Result<Name> {
        let token = self.token(0);
        let text = self.text_of(token);
        if token.kind != Kind::Word {
            let failed = self.unexpected(what);
            if token.kind == Kind::Number {
                self.help_last("a name begins with a letter or `_`");
            }
            return Err(failed);
        }
        if !fits(text) {
            let message = format!(
                "`{}` can't be {what}",
                text.chars().take(200).collect::<String>()
            );
            self.report.error(token.span, "bad-name", message).help = Some(format!(
                "a name is a letter or `_`, then letters, digits and `_`, at most {MAX_NAME_BYTES} in all; only types, partials and caveats may have a prefix, `a/b`"
            ));
            return Err(Failed);
        }
        self.bump();
        Ok(Name {
            text: text.to_owned(),
            span: token.span,
        })
    }

    fn help_last(&mut self, help: &str) {
        if let Some(last) = self.report.errors.last_mut() {
            last.help = Some(help.to_owned());
        }
    }

    /// The doc comment right before the next token.
    fn doc(&self) -> Doc {
        let before = self
            .at
            .checked_sub(1)
            .and_then(|at| self.tokens.tokens.get(at))
            .map_or(0, |token| token.comments);
        let comments = self.tokens.comments.get(before..self.token(0).comments);
        let mut texts = (comments.unwrap_or_default().iter().rev())
            .filter_map(|comment| self.text.get(comment.span.start..comment.span.end));
        texts.find_map(doc::parse).unwrap_or_default()
    }

    fn tree(&mut self) -> Tree {
        let mut tree = Tree::default();
        while self.token(0).kind != Kind::End && !self.report.is_full() {
            if self.take_sign(";") {
                continue;
            }
            self.mark(Mark::Item);
            let before = self.at;
            match self.item() {
                Ok(item) => tree.items.push(item),
                Err(Failed) => self.recover_item(before),
            }
        }
        tree
    }

    fn recover_item(&mut self, before: usize) {
        if self.at == before {
            self.bump();
        }
        loop {
            let token = self.token(0);
            let starts = token.after_newline
                && TOP_WORDS.contains(&self.word(0))
                && self.token(1).kind == Kind::Word;
            if token.kind == Kind::End || starts {
                self.open = 0;
                return;
            }
            self.bump();
        }
    }

    fn item(&mut self) -> Result<Item> {
        let doc = self.doc();
        match self.word(0) {
            "definition" => self
                .definition("a name for the type", doc)
                .map(Item::Definition),
            "partial" => self
                .definition("a name for the partial", doc)
                .map(Item::Partial),
            "caveat" => self.caveat(doc).map(Item::Caveat),
            "roles" => self.roles(doc).map(Item::Roles),
            "use" => self.use_flag().map(Item::Use),
            "import" => {
                refuse_import(self.token(0).span, self.report);
                Err(Failed)
            }
            word => {
                let near = nearest(word, TOP_WORDS.into_iter());
                let failed = self.unexpected("`definition`, `caveat`, `partial`, `roles` or `use`");
                self.nearest_last(near);
                Err(failed)
            }
        }
    }

    fn nearest_last(&mut self, near: Option<String>) {
        if let Some(last) = self.report.errors.last_mut() {
            last.nearest = near;
        }
    }

    fn use_flag(&mut self) -> Result<Name> {
        const FLAGS: [&str; 4] = ["expiration", "partial", "self", "typechecking"];
        self.bump();
        let name = self.plain_name("the name of a feature")?;
        if !FLAGS.contains(&name.text.as_str()) {
            let message = format!("there is no feature `{}`", name.text);
            let near = nearest(&name.text, FLAGS.into_iter());
            let error = self.report.error(name.span, "unknown-feature", message);
            error.help = Some(format!("known are {}", FLAGS.join(", ")));
            error.nearest = near;
        }
        Ok(name)
    }

    fn definition(&mut self, what: &str, doc: Doc) -> Result<Definition> {
        self.bump();
        let name = self.type_name(what)?;
        let opening = self.expect_sign("{")?;
        let mut statements = Vec::new();
        let level = self.open;
        loop {
            if self.take_sign(";") {
                continue;
            }
            if self.closes(opening)? {
                break;
            }
            self.mark(Mark::Statement);
            let before = self.at;
            match self.statement() {
                Ok(statement) => statements.push(statement),
                Err(Failed) => self.recover_statement(before, level)?,
            }
        }
        Ok(Definition {
            name,
            doc,
            statements,
        })
    }

    /// Takes the brace that ends a block; fails where the text ends first or a new item begins.
    fn closes(&mut self, opening: Token) -> Result<bool> {
        if self.is_sign(0, "}") {
            self.mark(Mark::Close);
            self.bump();
            return Ok(true);
        }
        let item = ["definition", "partial", "caveat"].contains(&self.word(0))
            && self.token(1).kind == Kind::Word
            && (self.is_sign(2, "{") || self.is_sign(2, "("));
        if item || self.token(0).kind == Kind::End {
            let failed = self.unexpected("`}`");
            let line = self.text.get(..opening.span.start).unwrap_or("");
            let line = line.bytes().filter(|b| *b == b'\n').count() + 1;
            self.help_last(&format!("the block that begins on line {line} has no `}}`"));
            return Err(failed);
        }
        Ok(false)
    }

    /// Goes to where the next statement of this definition seems to begin.
    fn recover_statement(&mut self, before: usize, level: usize) -> Result<()> {
        if self.report.is_full() {
            return Err(Failed);
        }
        if self.at == before && !self.is_sign(0, "}") {
            self.bump();
        }
        loop {
            let token = self.token(0);
            if token.kind == Kind::End || self.open < level {
                return Err(Failed);
            }
            let starts = token.after_newline
                && (self.begins_statement() || TOP_WORDS.contains(&self.word(0)));
            if self.open == level && (starts || self.is_sign(0, "}")) {
                return Ok(());
            }
            self.bump();
        }
    }

    /// Whether the next tokens are how a statement of a definition begins.
    fn begins_statement(&self) -> bool {
        match self.word(0) {
            "relation" => self.token(1).kind == Kind::Word && self.is_sign(2, ":"),
            "permission" => {
                self.token(1).kind == Kind::Word && (self.is_sign(2, "=") || self.is_sign(2, ":"))
            }
            "lock" => self.token(1).kind == Kind::Word && self.is_sign(2, "{"),
            "assigns" => self.token(1).kind == Kind::Word,
            _ => self.is_sign(0, "..."),
        }
    }

    fn roles(&mut self, doc: Doc) -> Result<Roles> {
        self.bump();
        let name = self.plain_name("a name for the roles")?;
        self.expect_word("of")?;
        let owner = self.type_name("the type that owns them")?;
        let opening = self.expect_sign("{")?;
        let clauses = self.clauses(statement::ROLES_CLAUSES)?;
        if clauses.held_by.is_empty() {
            let failed = self.unexpected("`held by`");
            self.help_last("say who may hold such a role, as in `held by user`");
            return Err(failed);
        }
        let mut builtins = Vec::new();
        while !self.closes(opening)? {
            if self.take_sign(";") {
                continue;
            }
            self.mark(Mark::Statement);
            builtins.push(self.builtin()?);
        }
        Ok(Roles {
            name,
            doc,
            owner,
            clauses,
            builtins,
        })
    }

    fn statement(&mut self) -> Result<Statement> {
        let doc = self.doc();
        match self.word(0) {
            "relation" => self.relation(doc).map(Statement::Relation),
            "permission" => self.permission(doc).map(Statement::Permission),
            "lock" => self.lock(doc).map(Statement::Lock),
            "assigns" => self.assigns().map(Statement::Assigns),
            "" if self.take_sign("...") => {
                let name = self.type_name("the name of a partial")?;
                Ok(Statement::Include(name))
            }
            word => {
                let words = ["relation", "permission", "lock", "assigns"];
                let near = nearest(word, words.into_iter());
                let failed =
                    self.unexpected("`relation`, `permission`, `lock`, `assigns`, `...` or `}`");
                self.nearest_last(near);
                Err(failed)
            }
        }
    }
}
