//! Gives each node of a condition its type.

use std::collections::BTreeSet;

use ::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr,
};

use super::types::Type;
use super::{CelError, Parameter, Parsed, functions, nearest};

const TYPE_NAMES: [&str; 10] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
];

/// Checks names, types, that the result is a bool and that each parameter is used.
pub(super) fn check(parsed: &Parsed<'_>, parameters: &[Parameter]) -> Result<(), CelError> {
    let mut checker = Checker {
        parsed,
        parameters,
        used: BTreeSet::new(),
        scopes: Vec::new(),
    };
    let result = checker.type_of(&parsed.root)?;
    if !result.fits(&Type::Bool) {
        let message = format!("a condition is a bool, this one is of type `{result}`");
        return Err(CelError::new(message, 0, parsed.source.len()));
    }
    match parameters.iter().find(|p| !checker.used.contains(&*p.name)) {
        Some(unused) => {
            let message = format!("the parameter `{}` is not used", unused.name);
            Err(CelError::new(message, 0, parsed.source.len()))
        }
        None => Ok(()),
    }
}

struct Checker<'a> {
    parsed: &'a Parsed<'a>,
    parameters: &'a [Parameter],
    used: BTreeSet<&'a str>,
    /// The variables of comprehensions around, the innermost last.
    scopes: Vec<(&'a str, Type)>,
}

impl<'a> Checker<'a> {
    fn type_of(&mut self, node: &'a IdedExpr) -> Result<Type, CelError> {
        match &node.expr {
            Expr::Literal(literal) => Ok(literal_type(literal)),
            Expr::Ident(name) => self.ident(node.id, name),
            Expr::Select(select) => self.select(node.id, select),
            Expr::Call(call) => self.call(node.id, call),
            Expr::List(list) => self.list(&list.elements),
            Expr::Map(map) => self.map(map),
            Expr::Comprehension(comprehension) => self.comprehension(node.id, comprehension),
            Expr::Struct(found) => self.fail(
                node.id,
                format!(
                    "there are no messages such as `{}` in conditions",
                    found.type_name
                ),
            ),
            Expr::Unspecified => self.fail(node.id, "expected an expression".into()),
        }
    }

    fn fail<T>(&self, node: u64, message: String) -> Result<T, CelError> {
        Err(self.parsed.error(node, message))
    }

    fn ident(&mut self, id: u64, name: &'a str) -> Result<Type, CelError> {
        if let Some((_, found)) = self.scopes.iter().rev().find(|scope| scope.0 == name) {
            return Ok(found.clone());
        }
        if let Some(parameter) = self.parameters.iter().find(|p| &*p.name == name) {
            self.used.insert(&parameter.name);
            return Ok(Type::from(&parameter.kind));
        }
        if TYPE_NAMES.contains(&name) {
            return Ok(Type::Meta);
        }
        let known = self.scopes.iter().map(|scope| scope.0);
        let known = known.chain(self.parameters.iter().map(|p| &*p.name));
        let hint = hint(name, known);
        self.fail(id, format!("there is no parameter `{name}`{hint}"))
    }

    fn select(&mut self, id: u64, select: &'a SelectExpr) -> Result<Type, CelError> {
        let value = match self.type_of(&select.operand)? {
            Type::Any | Type::Nothing => Type::Any,
            Type::Map(key, value) if Type::String.fits(&key) => *value,
            other => {
                let message = format!("a value of type `{other}` has no field `{}`", select.field);
                return self.fail(id, message);
            }
        };
        Ok(if select.test { Type::Bool } else { value })
    }

    fn list(&mut self, elements: &'a [IdedExpr]) -> Result<Type, CelError> {
        let mut joined = Type::Nothing;
        for element in elements {
            joined = joined.join(self.type_of(element)?);
        }
        Ok(Type::list(joined))
    }

    fn map(&mut self, map: &'a MapExpr) -> Result<Type, CelError> {
        let (mut keys, mut values) = (Type::Nothing, Type::Nothing);
        for entry in &map.entries {
            let EntryExpr::MapEntry(pair) = &entry.expr else {
                return self.fail(entry.id, "expected a key and a value".into());
            };
            let key = self.type_of(&pair.key)?;
            if !matches!(
                key,
                Type::Any | Type::Bool | Type::Int | Type::Uint | Type::String
            ) {
                return self.fail(
                    pair.key.id,
                    format!("a value of type `{key}` can't be a key"),
                );
            }
            keys = keys.join(key);
            values = values.join(self.type_of(&pair.value)?);
        }
        Ok(Type::map(keys, values))
    }

    fn call(&mut self, id: u64, call: &'a CallExpr) -> Result<Type, CelError> {
        let name = call.func_name.as_str();
        let is_method = call.target.is_some();
        if !is_operator(name) && !functions::exists(name, is_method) {
            return self.unknown_function(id, call);
        }
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            arguments.push(self.type_of(argument)?);
        }
        match functions::call(name, is_method, &arguments) {
            Some(result) => self.literal_arguments(call).map(|()| result),
            None => self.fail(id, no_overload(name, is_method, &arguments)),
        }
    }

    fn unknown_function(&self, id: u64, call: &CallExpr) -> Result<Type, CelError> {
        let name = call.func_name.as_str();
        if super::scan::MACROS.contains(&name) && call.target.is_some() {
            let wanted = if name == "map" {
                "a variable, perhaps a filter, and an expression"
            } else {
                "a variable and an expression"
            };
            return self.fail(id, format!("`{name}` takes {wanted}"));
        }
        let is_method = call.target.is_some();
        let hint = hint(name, functions::names(is_method));
        match functions::exists(name, !is_method) {
            true if is_method => self.fail(id, format!("`{name}` is called as `{name}(…)`")),
            true => self.fail(
                id,
                format!("`{name}` is called on a value, as `x.{name}(…)`"),
            ),
            false => self.fail(id, format!("there is no function `{name}`{hint}")),
        }
    }

    /// Patterns that are written out are checked now rather than when they are met.
    fn literal_arguments(&self, call: &CallExpr) -> Result<(), CelError> {
        let Some(IdedExpr {
            id,
            expr: Expr::Literal(LiteralValue::String(text)),
        }) = call.args.last()
        else {
            return Ok(());
        };
        let text = text.inner();
        match call.func_name.as_str() {
            "matches" => match super::prepare::pattern(text) {
                Ok(_) => Ok(()),
                Err(problem) => self.fail(*id, problem),
            },
            "in_cidr" if text.parse::<ipnet::IpNet>().is_err() => self.fail(
                *id,
                format!("`{text}` is no network: expected one such as `10.0.0.0/8`"),
            ),
            _ => Ok(()),
        }
    }

    fn comprehension(&mut self, id: u64, found: &'a ComprehensionExpr) -> Result<Type, CelError> {
        let element = match self.type_of(&found.iter_range)? {
            Type::Any | Type::Nothing => Type::Any,
            Type::List(element) => *element,
            Type::Map(key, _) => *key,
            other => {
                let message = format!(
                    "expected a list or a map to go through, found a value of type `{other}`"
                );
                return self.fail(id, message);
            }
        };
        let start = self.type_of(&found.accu_init)?;
        let depth = self.scopes.len();
        self.scopes.push((&found.accu_var, start));
        self.scopes.push((&found.iter_var, element));
        self.type_of(&found.loop_cond)?;
        let step = self.type_of(&found.loop_step)?;
        self.scopes.truncate(depth);
        self.scopes.push((&found.accu_var, step));
        let result = self.type_of(&found.result);
        self.scopes.truncate(depth);
        result
    }
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

/// Operators are named by their signs between underscores; `@in` and its like can't be written.
fn is_operator(name: &str) -> bool {
    name.contains('@') || (name.contains('_') && !name.contains(|c: char| c.is_ascii_alphabetic()))
}

fn hint<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(wanted, known).map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

fn no_overload(name: &str, is_method: bool, arguments: &[Type]) -> String {
    let types: Vec<String> = arguments.iter().map(|found| format!("`{found}`")).collect();
    let sign = match name {
        "_?_:_" => {
            return format!(
                "the condition of `? :` is a bool, found {}",
                types.first().map_or("", |t| t)
            );
        }
        "_[_]" => "[]",
        "@in" => "in",
        _ if is_operator(name) => name.trim_matches('_'),
        _ => name,
    };
    match (is_method, types.as_slice()) {
        (true, [target]) => format!("`{sign}` can't be called on {target} without arguments"),
        (true, [target, rest @ ..]) => {
            format!(
                "`{sign}` can't be called on {target} with {}",
                rest.join(", ")
            )
        }
        _ => format!("`{sign}` does not take {}", types.join(" and ")),
    }
}
