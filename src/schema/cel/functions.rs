//! Which operators and functions there are, with their overloads.

use super::types::Type;
use Pattern as P;

/// What an overload takes.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Any,
    Bool,
    Int,
    Uint,
    Double,
    /// Any of the three number types, each beside any other.
    Number,
    String,
    Bytes,
    Duration,
    Timestamp,
    IpAddress,
    List,
    Map,
    /// A value of `type()`: results only.
    Meta,
}

impl Pattern {
    fn takes(self, found: &Type) -> bool {
        match (self, found) {
            (P::Any, _)
            | (_, Type::Any | Type::Nothing)
            | (P::List, Type::List(_))
            | (P::Map, Type::Map(..)) => true,
            (P::Number, found) => found.is_number(),
            (P::List | P::Map, _) => false,
            (wanted, found) => wanted.as_type() == *found,
        }
    }

    fn as_type(self) -> Type {
        match self {
            P::Any | P::Number => Type::Any,
            P::Bool => Type::Bool,
            P::Int => Type::Int,
            P::Uint => Type::Uint,
            P::Double => Type::Double,
            P::String => Type::String,
            P::Bytes => Type::Bytes,
            P::Duration => Type::Duration,
            P::Timestamp => Type::Timestamp,
            P::IpAddress => Type::IpAddress,
            P::List => Type::list(Type::Any),
            P::Map => Type::map(Type::Any, Type::Any),
            P::Meta => Type::Meta,
        }
    }
}

/// One way to call a function: its name, whether the first argument stands before a dot, what it
/// takes and what it gives.
struct Overload(&'static str, bool, &'static [Pattern], Pattern);

const fn operator(name: &'static str, takes: &'static [Pattern], gives: Pattern) -> Overload {
    Overload(name, false, takes, gives)
}

const fn function(name: &'static str, takes: &'static [Pattern], gives: Pattern) -> Overload {
    Overload(name, false, takes, gives)
}

const fn method(name: &'static str, takes: &'static [Pattern], gives: Pattern) -> Overload {
    Overload(name, true, takes, gives)
}

const OVERLOADS: &[Overload] = &[
    operator("!_", &[P::Bool], P::Bool),
    operator("-_", &[P::Int], P::Int),
    operator("-_", &[P::Double], P::Double),
    operator("_&&_", &[P::Bool, P::Bool], P::Bool),
    operator("_||_", &[P::Bool, P::Bool], P::Bool),
    operator("@not_strictly_false", &[P::Bool], P::Bool),
    operator("_+_", &[P::Int, P::Int], P::Int),
    operator("_+_", &[P::Uint, P::Uint], P::Uint),
    operator("_+_", &[P::Double, P::Double], P::Double),
    operator("_+_", &[P::String, P::String], P::String),
    operator("_+_", &[P::Bytes, P::Bytes], P::Bytes),
    operator("_+_", &[P::Duration, P::Duration], P::Duration),
    operator("_+_", &[P::Timestamp, P::Duration], P::Timestamp),
    operator("_+_", &[P::Duration, P::Timestamp], P::Timestamp),
    operator("_+_", &[P::List, P::List], P::List),
    operator("_-_", &[P::Int, P::Int], P::Int),
    operator("_-_", &[P::Uint, P::Uint], P::Uint),
    operator("_-_", &[P::Double, P::Double], P::Double),
    operator("_-_", &[P::Duration, P::Duration], P::Duration),
    operator("_-_", &[P::Timestamp, P::Timestamp], P::Duration),
    operator("_-_", &[P::Timestamp, P::Duration], P::Timestamp),
    operator("_*_", &[P::Int, P::Int], P::Int),
    operator("_*_", &[P::Uint, P::Uint], P::Uint),
    operator("_*_", &[P::Double, P::Double], P::Double),
    operator("_/_", &[P::Int, P::Int], P::Int),
    operator("_/_", &[P::Uint, P::Uint], P::Uint),
    operator("_/_", &[P::Double, P::Double], P::Double),
    operator("_%_", &[P::Int, P::Int], P::Int),
    operator("_%_", &[P::Uint, P::Uint], P::Uint),
    function("size", &[P::String], P::Int),
    function("size", &[P::Bytes], P::Int),
    function("size", &[P::List], P::Int),
    function("size", &[P::Map], P::Int),
    method("size", &[P::String], P::Int),
    method("size", &[P::Bytes], P::Int),
    method("size", &[P::List], P::Int),
    method("size", &[P::Map], P::Int),
    method("contains", &[P::String, P::String], P::Bool),
    method("startsWith", &[P::String, P::String], P::Bool),
    method("endsWith", &[P::String, P::String], P::Bool),
    method("matches", &[P::String, P::String], P::Bool),
    function("matches", &[P::String, P::String], P::Bool),
    method("in_cidr", &[P::IpAddress, P::String], P::Bool),
    method("isSubtreeOf", &[P::Map, P::Map], P::Bool),
    function("bool", &[P::Bool], P::Bool),
    function("bool", &[P::String], P::Bool),
    function("int", &[P::Number], P::Int),
    function("int", &[P::String], P::Int),
    function("int", &[P::Timestamp], P::Int),
    function("uint", &[P::Number], P::Uint),
    function("uint", &[P::String], P::Uint),
    function("double", &[P::Number], P::Double),
    function("double", &[P::String], P::Double),
    function("string", &[P::String], P::String),
    function("string", &[P::Bool], P::String),
    function("string", &[P::Number], P::String),
    function("string", &[P::Bytes], P::String),
    function("string", &[P::Timestamp], P::String),
    function("string", &[P::Duration], P::String),
    function("bytes", &[P::Bytes], P::Bytes),
    function("bytes", &[P::String], P::Bytes),
    function("duration", &[P::Duration], P::Duration),
    function("duration", &[P::String], P::Duration),
    function("timestamp", &[P::Timestamp], P::Timestamp),
    function("timestamp", &[P::String], P::Timestamp),
    function("timestamp", &[P::Int], P::Timestamp),
    function("dyn", &[P::Any], P::Any),
    function("type", &[P::Any], P::Meta),
    method("getHours", &[P::Duration], P::Int),
    method("getMinutes", &[P::Duration], P::Int),
    method("getSeconds", &[P::Duration], P::Int),
    method("getMilliseconds", &[P::Duration], P::Int),
    method("getFullYear", &[P::Timestamp], P::Int),
    method("getFullYear", &[P::Timestamp, P::String], P::Int),
    method("getMonth", &[P::Timestamp], P::Int),
    method("getMonth", &[P::Timestamp, P::String], P::Int),
    method("getDate", &[P::Timestamp], P::Int),
    method("getDate", &[P::Timestamp, P::String], P::Int),
    method("getDayOfMonth", &[P::Timestamp], P::Int),
    method("getDayOfMonth", &[P::Timestamp, P::String], P::Int),
    method("getDayOfWeek", &[P::Timestamp], P::Int),
    method("getDayOfWeek", &[P::Timestamp, P::String], P::Int),
    method("getDayOfYear", &[P::Timestamp], P::Int),
    method("getDayOfYear", &[P::Timestamp, P::String], P::Int),
    method("getHours", &[P::Timestamp], P::Int),
    method("getHours", &[P::Timestamp, P::String], P::Int),
    method("getMinutes", &[P::Timestamp], P::Int),
    method("getMinutes", &[P::Timestamp, P::String], P::Int),
    method("getSeconds", &[P::Timestamp], P::Int),
    method("getSeconds", &[P::Timestamp, P::String], P::Int),
    method("getMilliseconds", &[P::Timestamp], P::Int),
    method("getMilliseconds", &[P::Timestamp, P::String], P::Int),
];

/// The order operators, which take two of a kind, or two numbers.
const ORDERS: [&str; 4] = ["_<_", "_<=_", "_>_", "_>=_"];
const ORDERED: [Pattern; 6] = [
    P::Number,
    P::Bool,
    P::String,
    P::Bytes,
    P::Duration,
    P::Timestamp,
];

/// What a call gives; `None` where no overload takes `arguments`, the one before the dot first.
pub(super) fn call(name: &str, is_method: bool, arguments: &[Type]) -> Option<Type> {
    match (name, arguments) {
        _ if is_method => declared(name, true, arguments),
        ("_==_" | "_!=_", [a, b]) => a.compares(b).then_some(Type::Bool),
        (order, [a, b]) if ORDERS.contains(&order) => ORDERED
            .iter()
            .any(|p| p.takes(a) && p.takes(b))
            .then_some(Type::Bool),
        ("@in", [a, b]) => contains(a, b).then_some(Type::Bool),
        ("_[_]", [a, b]) => index(a, b),
        ("_+_", [a @ Type::List(_), b @ Type::List(_)]) => Some(a.clone().join(b.clone())),
        ("_?_:_", [test, a, b]) => P::Bool.takes(test).then(|| a.clone().join(b.clone())),
        _ => declared(name, is_method, arguments),
    }
}

/// What the overloads that take `arguments` give: `any` where they give different things.
fn declared(name: &str, is_method: bool, arguments: &[Type]) -> Option<Type> {
    overloads(name, is_method)
        .filter(|overload| takes(overload.2, arguments))
        .map(|overload| overload.3.as_type())
        .reduce(Type::join)
}

fn contains(element: &Type, container: &Type) -> bool {
    match container {
        Type::Any => true,
        Type::List(elements) => element.compares(elements),
        Type::Map(keys, _) => element.compares(keys),
        _ => false,
    }
}

fn index(container: &Type, place: &Type) -> Option<Type> {
    match container {
        Type::List(element) => P::Number.takes(place).then(|| (**element).clone()),
        Type::Map(key, value) => place.compares(key).then(|| (**value).clone()),
        Type::Any => Some(Type::Any),
        _ => None,
    }
}

fn overloads(name: &str, is_method: bool) -> impl Iterator<Item = &'static Overload> {
    OVERLOADS
        .iter()
        .filter(move |overload| overload.0 == name && overload.1 == is_method)
}

fn takes(wanted: &[Pattern], found: &[Type]) -> bool {
    wanted.len() == found.len()
        && wanted
            .iter()
            .zip(found)
            .all(|(wanted, found)| wanted.takes(found))
}

/// Whether anything of this name can be called so.
pub(super) fn exists(name: &str, is_method: bool) -> bool {
    overloads(name, is_method).next().is_some()
}

/// The names that can be called so, without operators.
pub(super) fn names(is_method: bool) -> impl Iterator<Item = &'static str> {
    OVERLOADS
        .iter()
        .filter(move |overload| overload.1 == is_method && !overload.0.contains(['_', '@']))
        .map(|overload| overload.0)
        .chain(is_method.then_some("in_cidr"))
}
