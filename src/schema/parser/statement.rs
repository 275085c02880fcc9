//! What stands in a definition or a `roles` block, and the clauses of both.

use super::super::Doc;
use super::super::ast::{
    Assigns, Builtin, Choice, Clauses, Lock, Name, Permission, Relation, SubjectForm, SubjectType,
};
use super::super::diagnostic::nearest;
use super::super::lexer::Kind;
use super::{Failed, Mark, Parser, Result};

const RELATION_CLAUSES: &[&str] = &["min", "granted", "revoked", "requires"];
const ASSIGNS_CLAUSES: &[&str] = &["granted", "capped", "inherits"];
const LOCK_CLAUSES: &[&str] = &["blocks", "except", "granted", "inherits", "seals"];
pub(super) const ROLES_CLAUSES: &[&str] = &["held", "granted", "capped"];
const BUILTIN_CLAUSES: &[&str] = &["includes", "granted", "min"];

impl Parser<'_, '_> {
    pub(super) fn relation(&mut self, doc: Doc) -> Result<Relation> {
        self.bump();
        let name = self.plain_name("a name for the relation")?;
        self.expect_sign(":")?;
        let subjects = self.types()?;
        let clauses = self.clauses(RELATION_CLAUSES)?;
        self.ends_statement("a clause, such as `granted by`, or the next statement")?;
        Ok(Relation {
            name,
            doc,
            subjects,
            clauses,
        })
    }

    pub(super) fn permission(&mut self, doc: Doc) -> Result<Permission> {
        self.bump();
        let name = self.plain_name("a name for the permission")?;
        let annotation = match self.take_sign(":") {
            true => self.types()?,
            false => Vec::new(),
        };
        self.expect_sign("=")?;
        let expr = self.expr()?;
        self.ends_statement("an operator or the next statement")?;
        Ok(Permission {
            name,
            doc,
            annotation,
            expr,
        })
    }

    pub(super) fn lock(&mut self, doc: Doc) -> Result<Lock> {
        self.bump();
        let name = self.plain_name("a name for the lock")?;
        let opening = self.expect_sign("{")?;
        let clauses = self.clauses(LOCK_CLAUSES)?;
        self.take_sign(";");
        if !self.closes(opening)? {
            return Err(
                self.unexpected("`blocks`, `except`, `granted by`, `inherits`, `seals` or `}`")
            );
        }
        Ok(Lock { name, doc, clauses })
    }

    pub(super) fn assigns(&mut self) -> Result<Assigns> {
        self.bump();
        let roles = self.plain_name("the name of a `roles` block")?;
        let clauses = self.clauses(ASSIGNS_CLAUSES)?;
        self.ends_statement("`granted by`, `capped`, `inherits` or the next statement")?;
        Ok(Assigns { roles, clauses })
    }

    pub(super) fn builtin(&mut self) -> Result<Builtin> {
        let doc = self.doc();
        if !self.take_word("builtin") {
            let expected = "`builtin`, `granted by`, `capped` or `}`";
            return Err(self.unexpected(expected));
        }
        let name = self.plain_name("a name for the role")?;
        let clauses = self.clauses(BUILTIN_CLAUSES)?;
        Ok(Builtin { name, doc, clauses })
    }

    /// Fails unless a statement may begin, or the block end, right here.
    fn ends_statement(&mut self, expected: &str) -> Result<()> {
        let token = self.token(0);
        let ends = matches!(token.kind, Kind::End | Kind::Sign("}" | ";" | "..."));
        // On a new line a word that begins no statement is a misspelt one, which the
        // definition says better.
        if ends || self.begins_statement() || (token.after_newline && token.kind == Kind::Word) {
            return Ok(());
        }
        let begins = ["relation", "permission", "lock", "assigns"];
        let clauses = RELATION_CLAUSES.iter().copied();
        let near = nearest(self.text_of(token), begins.into_iter().chain(clauses));
        let failed = self.unexpected(expected);
        self.nearest_last(near);
        Err(failed)
    }

    /// `user | team#member with caveat | …`
    pub(super) fn types(&mut self) -> Result<Vec<SubjectType>> {
        let mut types = vec![self.subject_type()?];
        while self.is_sign(0, "|") {
            self.mark(Mark::Operator);
            self.bump();
            types.push(self.subject_type()?);
        }
        Ok(types)
    }

    fn subject_type(&mut self) -> Result<SubjectType> {
        let first = self.token(0).span;
        let kind = self.type_name("the name of a type")?;
        let form = self.subject_form()?;
        let (mut caveat, mut expiration) = (None, false);
        if self.take_word("with") {
            self.trait_of(&mut caveat, &mut expiration)?;
            if self.take_word("and") {
                self.trait_of(&mut caveat, &mut expiration)?;
            }
        }
        let span = first.to(self.previous_span());
        Ok(SubjectType {
            kind,
            form,
            caveat,
            expiration,
            span,
        })
    }

    fn previous_span(&self) -> super::super::lexer::Span {
        let at = self.at.saturating_sub(1);
        (self.tokens.tokens.get(at)).map_or_else(Default::default, |token| token.span)
    }

    fn subject_form(&mut self) -> Result<SubjectForm> {
        if self.is_sign(0, ":") {
            self.mark(Mark::Tight);
            self.bump();
            self.mark(Mark::Tight);
            self.expect_sign("*")?;
            return Ok(SubjectForm::Wildcard);
        }
        if !self.take_sign("#") {
            return Ok(SubjectForm::Object);
        }
        if self.take_sign("...") {
            return Ok(SubjectForm::Object);
        }
        let name = self.plain_name("the name of a relation or permission")?;
        Ok(SubjectForm::Set(name))
    }

    fn trait_of(&mut self, caveat: &mut Option<Name>, expiration: &mut bool) -> Result<()> {
        let name = self.type_name("the name of a caveat, or `expiration`")?;
        let again = match name.text.as_str() {
            "expiration" => std::mem::replace(expiration, true),
            _ => caveat.replace(name.clone()).is_some(),
        };
        if again {
            let message = "at most one caveat and one `expiration` can stand here";
            self.report.error(name.span, "duplicate", message);
            return Err(Failed);
        }
        Ok(())
    }

    /// All clauses of a statement, those in `allowed`, each at most once.
    pub(super) fn clauses(&mut self, allowed: &[&str]) -> Result<Clauses> {
        let mut clauses = Clauses::default();
        let mut seen: Vec<&str> = Vec::new();
        loop {
            let word = self.word(0);
            let Some(clause) = allowed.iter().find(|clause| **clause == word) else {
                return Ok(clauses);
            };
            if !self.begins_clause(clause) {
                return Ok(clauses);
            }
            if seen.contains(clause) {
                let message = format!("a second `{clause}` in one statement");
                let span = self.token(0).span;
                self.report.error(span, "duplicate", message);
                return Err(Failed);
            }
            seen.push(clause);
            self.mark(Mark::Clause);
            self.bump();
            self.clause(clause, &mut clauses)?;
        }
    }

    fn begins_clause(&self, clause: &str) -> bool {
        match clause {
            "granted" | "revoked" | "held" => self.word(1) == "by",
            _ => true,
        }
    }

    fn clause(&mut self, clause: &str, into: &mut Clauses) -> Result<()> {
        match clause {
            "min" => into.min = Some(self.min()?),
            "granted" => into.granted_by = Some(self.by()?),
            "revoked" => into.revoked_by = Some(self.by()?),
            "requires" => into.requires = Some(self.expr()?),
            "except" => into.except = Some(self.expr()?),
            "capped" => into.capped = true,
            "seals" => into.seals = true,
            "inherits" => into.inherits = self.list(Self::relation_name)?,
            "blocks" => into.blocks = Some(self.choice(Self::member_name)?),
            "includes" => into.includes = Some(self.choice(Self::included)?),
            _ => {
                self.expect_word("by")?;
                into.held_by = self.types()?;
            }
        }
        Ok(())
    }

    fn by(&mut self) -> Result<super::super::ast::Expr> {
        self.expect_word("by")?;
        self.expr()
    }

    fn min(&mut self) -> Result<u64> {
        const MAX_MIN: u64 = 1_000_000;
        let token = self.token(0);
        if token.kind != Kind::Number {
            return Err(self.unexpected("a number"));
        }
        match self.text_of(token).parse() {
            Ok(min @ 1..=MAX_MIN) => {
                self.bump();
                Ok(min)
            }
            _ => Err(self.unexpected(&format!("a number from 1 to {MAX_MIN}"))),
        }
    }

    fn relation_name(&mut self) -> Result<Name> {
        self.plain_name("the name of a relation")
    }

    fn member_name(&mut self) -> Result<Name> {
        self.plain_name("the name of a relation or permission")
    }

    fn included(&mut self) -> Result<(Name, Name)> {
        let kind = self.type_name("a permission with its type, such as `application.deploy`")?;
        self.expect_sign(".")?;
        Ok((kind, self.plain_name("the name of a permission")?))
    }

    fn choice<T>(&mut self, part: fn(&mut Self) -> Result<T>) -> Result<Choice<T>> {
        if self.take_sign("*") {
            return Ok(Choice::All);
        }
        self.list(part).map(Choice::Of)
    }

    fn list<T>(&mut self, part: fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut list = vec![part(self)?];
        while self.take_sign(",") {
            list.push(part(self)?);
        }
        Ok(list)
    }
}
