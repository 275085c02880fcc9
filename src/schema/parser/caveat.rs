//! Caveats: parameters and their types; the condition is taken as text.

use super::super::ast::{Caveat, Name};
use super::super::diagnostic::nearest;
use super::super::lexer::{Kind, Span};
use super::super::{CaveatType, Doc};
use super::{Failed, Mark, Parser, Result};

const PLAIN: [(&str, CaveatType); 10] = [
    ("any", CaveatType::Any),
    ("bool", CaveatType::Bool),
    ("int", CaveatType::Int),
    ("uint", CaveatType::Uint),
    ("double", CaveatType::Double),
    ("string", CaveatType::String),
    ("bytes", CaveatType::Bytes),
    ("duration", CaveatType::Duration),
    ("timestamp", CaveatType::Timestamp),
    ("ipaddress", CaveatType::IpAddress),
];

/// How deep `list<…>` and `map<…>` may nest.
const MAX_TYPE_DEPTH: usize = 10;

impl Parser<'_, '_> {
    pub(super) fn caveat(&mut self, doc: Doc) -> Result<Caveat> {
        self.bump();
        let name = self.type_name("a name for the caveat")?;
        self.mark(Mark::Tight);
        self.expect_sign("(")?;
        let mut parameters = Vec::new();
        while !self.is_sign(0, ")") {
            let parameter = self.plain_name("the name of a parameter")?;
            // SpiceDB writes `name type`, older texts `name: type`.
            self.take_sign(":");
            parameters.push((parameter, self.caveat_type(0)?));
            if !self.take_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        self.expect_sign("{")?;
        let body = self.token(0);
        if body.kind != Kind::Body {
            return Err(self.unexpected("a condition"));
        }
        self.bump();
        let text = self.text_of(body);
        let start = body.span.start + (text.len() - text.trim_start().len());
        let text = text.trim().to_owned();
        let span = Span {
            start,
            end: start + text.len(),
        };
        self.mark(Mark::Close);
        self.expect_sign("}")?;
        Ok(Caveat {
            name,
            doc,
            parameters,
            body: Name { text, span },
        })
    }

    fn caveat_type(&mut self, depth: usize) -> Result<CaveatType> {
        let token = self.token(0);
        let word = self.word(0);
        if let Some((_, kind)) = PLAIN.iter().find(|(name, _)| *name == word) {
            self.bump();
            return Ok(kind.clone());
        }
        if !matches!(word, "list" | "map") {
            let names = PLAIN.iter().map(|(name, _)| *name).chain(["list", "map"]);
            let near = nearest(word, names);
            let failed = self.unexpected("the type of the parameter");
            self.help_last(
                "types are any, bool, int, uint, double, string, bytes, duration, timestamp, ipaddress, list<…> and map<…>",
            );
            self.nearest_last(near);
            return Err(failed);
        }
        if depth >= MAX_TYPE_DEPTH {
            let message = format!("types nest deeper than {MAX_TYPE_DEPTH} levels");
            self.report.error(token.span, "too-deep", message);
            return Err(Failed);
        }
        self.bump();
        self.expect_sign("<")?;
        let inner = Box::new(self.caveat_type(depth + 1)?);
        self.expect_sign(">")?;
        Ok(match word {
            "list" => CaveatType::List(inner),
            _ => CaveatType::Map(inner),
        })
    }
}
