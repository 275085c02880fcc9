//! Expressions: `+` binds tightest, then `&`, then `-`.

use super::super::ast::{Expr, ExprKind, Name};
use super::super::lexer::{Kind, MAX_DEPTH, Span};
use super::{Failed, Mark, Parser, Result};

/// The most operands that one chain of the same operator may have.
const MAX_OPERANDS: usize = 1_000;

impl Parser<'_, '_> {
    /// An expression; the lexer has bounded how deep it nests.
    pub(super) fn expr(&mut self) -> Result<Expr> {
        let mut left = self.intersection()?;
        let mut length = 0;
        while self.is_sign(0, "-") {
            length += 1;
            if length > MAX_DEPTH {
                return Err(self.too_long(MAX_DEPTH));
            }
            let sign = self.operator();
            let right = self.intersection()?;
            self.warn_mixed(&left, "-", sign);
            self.warn_mixed(&right, "-", sign);
            let span = left.span.to(right.span);
            left = unparenthesised(ExprKind::Exclusion(Box::new(left), Box::new(right)), span);
        }
        Ok(left)
    }

    fn intersection(&mut self) -> Result<Expr> {
        self.chain("&", Self::union, ExprKind::Intersection)
    }

    fn union(&mut self) -> Result<Expr> {
        self.chain("+", Self::operand, ExprKind::Union)
    }

    fn chain(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Result<Expr>,
        make: fn(Vec<Expr>) -> ExprKind,
    ) -> Result<Expr> {
        let first = part(self)?;
        if !self.is_sign(0, sign) {
            return Ok(first);
        }
        let mut span = first.span;
        let mut parts = vec![first];
        let place = self.token(0).span;
        while self.is_sign(0, sign) {
            if parts.len() >= MAX_OPERANDS {
                return Err(self.too_long(MAX_OPERANDS));
            }
            self.operator();
            let next = part(self)?;
            span = span.to(next.span);
            parts.push(next);
        }
        if let Some(mixed) = parts.iter().find(|part| mixes(part, sign)) {
            let mixed = mixed.clone();
            self.warn_mixed(&mixed, sign, place);
        }
        Ok(unparenthesised(make(parts), span))
    }

    fn operator(&mut self) -> Span {
        self.mark(Mark::Operator);
        self.bump().span
    }

    fn too_long(&mut self, limit: usize) -> Failed {
        let span = self.token(0).span;
        let message = format!("more than {limit} operands in one chain");
        self.report.error(span, "too-long", message).help =
            Some("give a part of it a name, as a permission of its own".into());
        Failed
    }

    fn warn_mixed(&mut self, part: &Expr, sign: &str, place: Span) {
        if !mixes(part, sign) {
            return;
        }
        let text = self.text.get(part.span.start..part.span.end);
        let mut text = text
            .unwrap_or("")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        if text.len() > 80 {
            text = "…".into();
        }
        let message = "operators are mixed without parentheses";
        self.report.warning(place, "mixed-operators", message).help = Some(format!(
            "`+` binds tightest, then `&`, then `-`: here `({text})` comes first; write the parentheses"
        ));
    }

    fn operand(&mut self) -> Result<Expr> {
        let token = self.token(0);
        if self.take_sign("(") {
            let mut inner = self.expr()?;
            let closing = self.expect_sign(")")?;
            self.no_arrow_behind()?;
            inner.parenthesised = true;
            // The span must hold balanced parentheses, so that it can be quoted.
            inner.span = token.span.to(closing.span);
            return Ok(inner);
        }
        // Two words are enough of `assigns role`, and the second may be the next statement's first.
        let begins_statement = self.word(0) != "assigns" && self.begins_statement();
        if token.kind != Kind::Word || begins_statement {
            return Err(self.unexpected("a relation or permission"));
        }
        if let Some(kind) = self.worded()? {
            let end = self.previous();
            return Ok(unparenthesised(kind, token.span.to(end)));
        }
        let is_type = self.is_sign(1, ".") && self.is_sign(3, "<-");
        let kind = match is_type {
            true => self.backward()?,
            false => self.forward()?,
        };
        self.no_arrow_behind()?;
        Ok(unparenthesised(kind, token.span.to(self.previous())))
    }

    fn previous(&self) -> Span {
        let at = self.at.saturating_sub(1);
        (self.tokens.tokens.get(at)).map_or(Span::default(), |token| token.span)
    }

    /// `any ROLES`, `some ROLES`, `role NAME`: the word stands on the same line.
    fn worded(&mut self) -> Result<Option<ExprKind>> {
        let make = match self.word(0) {
            "any" => ExprKind::AnyRole,
            "some" => ExprKind::SomeRole,
            "role" => ExprKind::Role,
            _ => return Ok(None),
        };
        let next = self.token(1);
        if next.kind != Kind::Word || next.after_newline {
            return Ok(None);
        }
        self.bump();
        Ok(Some(make(self.plain_name("a name")?)))
    }

    fn backward(&mut self) -> Result<ExprKind> {
        let kind = self.type_name("the name of a type")?;
        self.expect_sign(".")?;
        let via = self.plain_name("the name of a relation")?;
        self.expect_sign("<-")?;
        let target = self.plain_name("the name of a relation or permission")?;
        Ok(ExprKind::Backward { kind, via, target })
    }

    fn forward(&mut self) -> Result<ExprKind> {
        let via = self.plain_name("the name of a relation or permission")?;
        if self.take_sign("->") {
            let target = self.plain_name("the name of a relation or permission")?;
            return Ok(ExprKind::Arrow {
                via,
                target,
                all: false,
            });
        }
        if self.is_sign(0, ".") {
            return self.called(via);
        }
        Ok(match via.text.as_str() {
            "nil" => ExprKind::Nil,
            _ => ExprKind::Name(via.text),
        })
    }

    fn called(&mut self, via: Name) -> Result<ExprKind> {
        self.bump();
        let all = match self.word(0) {
            "all" => true,
            "any" => false,
            _ => {
                let failed = self.unexpected("`any(…)` or `all(…)`");
                self.help_last("to search backwards, write `type.relation<-permission`");
                return Err(failed);
            }
        };
        self.bump();
        self.mark(Mark::Tight);
        self.expect_sign("(")?;
        let target = self.plain_name("the name of a relation or permission")?;
        self.expect_sign(")")?;
        Ok(ExprKind::Arrow { via, target, all })
    }

    fn no_arrow_behind(&mut self) -> Result<()> {
        let arrow = ["->", "<-", "."].iter().any(|sign| self.is_sign(0, sign));
        if !arrow {
            return Ok(());
        }
        let failed = self.unexpected("an operator or the end of the statement");
        self.help_last(
            "an arrow begins at one relation and takes one step; give the rest a name, as a permission on the type that it leads to",
        );
        Err(failed)
    }
}

fn unparenthesised(kind: ExprKind, span: Span) -> Expr {
    Expr {
        kind,
        span,
        parenthesised: false,
    }
}

/// Whether `part` is a chain of another operator than `sign`, without parentheses.
fn mixes(part: &Expr, sign: &str) -> bool {
    let own = match part.kind {
        ExprKind::Union(_) => "+",
        ExprKind::Intersection(_) => "&",
        ExprKind::Exclusion(..) => "-",
        _ => return false,
    };
    own != sign && !part.parenthesised
}
