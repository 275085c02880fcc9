//! Splits a checked condition at `&& || ! ?:` and renames what the crate could mistake.
//!
//! A parameter is renamed to `$name`, which no source can spell: a missing one called `type` or
//! `string` would otherwise be found as that type and quietly compared with it.

use std::sync::Arc;

use ::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};
use regex::{Regex, RegexBuilder};

use super::{Expression, Parameter};

/// Our own `matches`: with compiled patterns kept, and of bounded size.
pub(crate) const MATCHES: &str = "@matches";
/// Our own `duration(string)`: exact, where the crate's goes through floating point.
pub(crate) const DURATION: &str = "@duration";
/// Our own `timestamp`: in UTC, where the crate's keeps an offset and its accessors go by it.
pub(crate) const TIMESTAMP: &str = "@timestamp";
/// Our own `< <= > >=`, by the crate's names for them: false beside a NaN, which fails there.
pub(crate) const ORDERS: [(&str, &str); 4] = [
    (operators::LESS, "@less"),
    (operators::LESS_EQUALS, "@less_or_equal"),
    (operators::GREATER, "@greater"),
    (operators::GREATER_EQUALS, "@greater_or_equal"),
];

/// Nodes within nodes that the crate resolves on any stack: built for debugging, it takes some 40 KiB
/// for each.
const SHALLOW: usize = 12;

/// A condition, down to the parts that the crate resolves.
#[derive(Debug)]
pub(crate) enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    If(Box<Condition>, Box<Condition>, Box<Condition>),
    Leaf(Leaf),
}

/// A part that the crate resolves.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) expression: IdedExpr,
    /// The parameters that it names, by their places, sorted, as [`Leaf::names`].
    pub(crate) parameters: Vec<usize>,
    /// Whether it may have a value while one of its parameters is missing, as `[].all(x, x == a)`.
    pub(crate) lazy: bool,
    /// Whether resolving it can take more than a step for each operator.
    pub(crate) loops: bool,
}

/// The name of a parameter in the trees of [`Leaf`].
pub(crate) fn variable(parameter: &Arc<str>) -> String {
    format!("${parameter}")
}

/// Compiles a pattern of `matches`, bounded in size.
pub(crate) fn pattern(source: &str) -> Result<Regex, String> {
    RegexBuilder::new(source)
        .size_limit(1 << 18)
        .dfa_size_limit(1 << 18)
        .nest_limit(32)
        .build()
        .map_err(|problem| match problem {
            regex::Error::CompiledTooBig(_) => "this pattern is too large".to_owned(),
            other => {
                let text = other.to_string();
                let last = text
                    .lines()
                    .next_back()
                    .unwrap_or("")
                    .trim_start_matches("error: ");
                format!("this is no regular expression: {last}")
            }
        })
}

pub(super) fn prepare(root: IdedExpr, parameters: &[Parameter]) -> Expression {
    let mut deepest = 0;
    let condition = split(root, parameters, &mut deepest);
    Expression {
        condition,
        deep: deepest > SHALLOW,
    }
}

fn split(mut node: IdedExpr, parameters: &[Parameter], deepest: &mut usize) -> Condition {
    let Some((name, arguments)) = logical(&mut node) else {
        return leaf(node, parameters, deepest);
    };
    let mut arguments = arguments.into_iter();
    let mut next = || {
        Box::new(split(
            arguments.next().unwrap_or_default(),
            parameters,
            deepest,
        ))
    };
    match name {
        Logical::And => Condition::And(next(), next()),
        Logical::Or => Condition::Or(next(), next()),
        Logical::Not => Condition::Not(next()),
        Logical::If => Condition::If(next(), next(), next()),
    }
}

enum Logical {
    And,
    Or,
    Not,
    If,
}

/// The operands of `&& || ! ?:`, taken out of the node.
fn logical(node: &mut IdedExpr) -> Option<(Logical, Vec<IdedExpr>)> {
    let Expr::Call(call) = &mut node.expr else {
        return None;
    };
    let found = match (call.func_name.as_str(), call.args.len()) {
        (operators::LOGICAL_AND, 2) => Logical::And,
        (operators::LOGICAL_OR, 2) => Logical::Or,
        (operators::LOGICAL_NOT, 1) => Logical::Not,
        (operators::CONDITIONAL, 3) => Logical::If,
        _ => return None,
    };
    Some((found, std::mem::take(&mut call.args)))
}

fn leaf(mut expression: IdedExpr, parameters: &[Parameter], deepest: &mut usize) -> Condition {
    let mut renamer = Renamer {
        parameters,
        scopes: Vec::new(),
        found: Vec::new(),
        lazy: false,
        loops: false,
        depth: 0,
        deepest: 0,
    };
    renamer.rename(&mut expression);
    *deepest = renamer.deepest.max(*deepest);
    let (mut found, lazy, loops) = (renamer.found, renamer.lazy, renamer.loops);
    found.sort_unstable();
    found.dedup();
    Condition::Leaf(Leaf {
        expression,
        parameters: found,
        lazy,
        loops,
    })
}

struct Renamer<'a> {
    parameters: &'a [Parameter],
    scopes: Vec<String>,
    found: Vec<usize>,
    lazy: bool,
    loops: bool,
    depth: usize,
    deepest: usize,
}

impl Renamer<'_> {
    fn rename(&mut self, node: &mut IdedExpr) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.rename_parts(node);
        self.depth -= 1;
    }

    fn rename_parts(&mut self, node: &mut IdedExpr) {
        match &mut node.expr {
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.rename(&mut select.operand),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => list.elements.iter_mut().for_each(|node| self.rename(node)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(pair) = &mut entry.expr {
                        self.rename(&mut pair.key);
                        self.rename(&mut pair.value);
                    }
                }
            }
            Expr::Comprehension(found) => {
                (self.lazy, self.loops) = (true, true);
                self.rename(&mut found.iter_range);
                self.rename(&mut found.accu_init);
                let depth = self.scopes.len();
                self.scopes.push(found.accu_var.clone());
                self.scopes.push(found.iter_var.clone());
                self.rename(&mut found.loop_cond);
                self.rename(&mut found.loop_step);
                self.rename(&mut found.result);
                self.scopes.truncate(depth);
            }
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
        }
    }

    fn ident(&mut self, name: &mut String) {
        if self.scopes.iter().any(|scope| scope == name) {
            return;
        }
        if let Some(place) = self.parameters.iter().position(|p| *p.name == **name) {
            self.found.push(place);
            name.insert(0, '$');
        }
    }

    fn call(&mut self, call: &mut CallExpr) {
        match call.func_name.as_str() {
            "matches" => {
                call.func_name = MATCHES.into();
                call.args
                    .splice(0..0, call.target.take().map(|target| *target));
            }
            "duration" => call.func_name = DURATION.into(),
            "timestamp" => call.func_name = TIMESTAMP.into(),
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::CONDITIONAL => {
                self.lazy = true;
            }
            operators::ADD => self.loops = true,
            name => {
                if let Some((_, ours)) = ORDERS.iter().find(|order| order.0 == name) {
                    call.func_name = (*ours).into();
                }
            }
        }
        let target = call.target.as_deref_mut();
        target
            .into_iter()
            .chain(&mut call.args)
            .for_each(|node| self.rename(node));
    }
}
