//! What conditions can call, and how the failures of the `cel` crate read.
//!
//! Beside the standard library: `ipaddress.in_cidr` and `map.isSubtreeOf`, and our own `matches`
//! and `duration`, whose counterparts in the crate compile each pattern each time and go through
//! floating point.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::operators;
use cel::common::types::{
    CelBool, CelDouble, CelDuration, CelInt, CelMap, CelString, CelTimestamp, DURATION_TYPE,
    DYN_TYPE, INT_TYPE, Kind, MAP_TYPE, STRING_TYPE, TIMESTAMP_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{Context, DeclarationError, Env, ExecutionError};
use ipnet::IpNet;
use regex::Regex;

use super::convert::{self, Address};
use crate::schema::cel::{DURATION, MATCHES, ORDERS, TIMESTAMP, pattern};

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    let declared = declare(&mut environment);
    debug_assert!(declared.is_ok(), "{declared:?}");
    Arc::new(environment)
});

/// A context that knows all functions and no variable.
pub(super) fn context<'v>() -> Context<'v, 'v> {
    Context::with_env(ENVIRONMENT.clone())
}

type Operator = for<'b, 'v> fn(Vec<CowVal<'b, 'v>>) -> Called<'b, 'v>;

fn declare_orders(environment: &mut Env) -> Result<(), DeclarationError> {
    let ours: [Operator; 4] = [
        |arguments| order(&arguments, operators::LESS, Ordering::is_lt),
        |arguments| order(&arguments, operators::LESS_EQUALS, Ordering::is_le),
        |arguments| order(&arguments, operators::GREATER, Ordering::is_gt),
        |arguments| order(&arguments, operators::GREATER_EQUALS, Ordering::is_ge),
    ];
    for ((_, name), operator) in ORDERS.into_iter().zip(ours) {
        environment.add_overload(name, name, vec![DYN_TYPE, DYN_TYPE], operator)?;
    }
    Ok(())
}

/// Whether `holds` of how the two compare; a NaN compares with no number.
fn order<'b, 'v>(
    arguments: &[CowVal<'b, 'v>],
    name: &str,
    holds: fn(Ordering) -> bool,
) -> Called<'b, 'v> {
    let [left, right] = arguments else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let compared = left
        .as_comparer()
        .and_then(|left| left.compare(right.as_ref()).ok());
    let is_nan = |value: &CowVal<'_, '_>| {
        value
            .downcast_ref::<CelDouble>()
            .is_some_and(|number| number.inner().is_nan())
    };
    match compared {
        Some(order) => Ok(CowVal::owned(CelBool::from(holds(order)))),
        None if is_number(left) && is_number(right) && (is_nan(left) || is_nan(right)) => {
            Ok(CowVal::owned(CelBool::from(false)))
        }
        None => {
            let types = [left, right].map(|value| value.get_type().name().to_owned());
            Err(ExecutionError::no_such_overload(name, types.into()))
        }
    }
}

fn is_number(value: &CowVal<'_, '_>) -> bool {
    matches!(
        value.get_type().kind(),
        Kind::Int | Kind::UInt | Kind::Double
    )
}

fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    declare_orders(environment)?;
    environment.add_member_overload(
        "in_cidr",
        "ipaddress_in_cidr_string",
        Address::TYPE.to_owned(),
        vec![STRING_TYPE],
        |arguments| in_cidr(&arguments),
    )?;
    environment.add_member_overload(
        "isSubtreeOf",
        "map_is_subtree_of_map",
        MAP_TYPE,
        vec![MAP_TYPE],
        |arguments| is_subtree_of(&arguments),
    )?;
    environment.add_overload(
        MATCHES,
        "matches_bounded",
        vec![STRING_TYPE, STRING_TYPE],
        |arguments| matches(&arguments),
    )?;
    environment.add_overload(
        DURATION,
        "string_to_exact_duration",
        vec![STRING_TYPE],
        |arguments| duration(&arguments),
    )?;
    environment.add_overload(DURATION, "duration_to_itself", vec![DURATION_TYPE], itself)?;
    environment.add_overload(TIMESTAMP, "string_to_utc", vec![STRING_TYPE], |arguments| {
        timestamp(&arguments)
    })?;
    environment.add_overload(TIMESTAMP, "int_to_utc", vec![INT_TYPE], |arguments| {
        timestamp_of(&arguments)
    })?;
    environment.add_overload(
        TIMESTAMP,
        "timestamp_to_itself",
        vec![TIMESTAMP_TYPE],
        itself,
    )
}

fn itself<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    arguments
        .pop()
        .ok_or_else(ExecutionError::missing_argument_or_target)
}

type Called<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn text<'a>(arguments: &'a [CowVal<'_, '_>], place: usize) -> Result<&'a str, ExecutionError> {
    let argument = arguments
        .get(place)
        .and_then(|argument| argument.downcast_ref::<CelString>());
    argument
        .map(CelString::inner)
        .ok_or_else(ExecutionError::missing_argument_or_target)
}

fn in_cidr<'b, 'v>(arguments: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let address = arguments
        .first()
        .and_then(|argument| argument.downcast_ref::<Address>());
    let address = address
        .ok_or_else(ExecutionError::missing_argument_or_target)?
        .0;
    let cidr = text(arguments, 1)?;
    let network: IpNet = cidr.parse().map_err(|_| {
        ExecutionError::function_error("in_cidr", format!("{cidr:?} is no network"))
    })?;
    Ok(CowVal::owned(CelBool::from(network.contains(&address))))
}

thread_local! {
    /// Patterns are few and compiling one takes as long as a thousand steps.
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

fn matches<'b, 'v>(arguments: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let (subject, source) = (text(arguments, 0)?, text(arguments, 1)?);
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(pattern) = patterns.get(source) {
            return Ok(CowVal::owned(CelBool::from(pattern.is_match(subject))));
        }
        let pattern =
            pattern(source).map_err(|why| ExecutionError::function_error("matches", why))?;
        let found = pattern.is_match(subject);
        if patterns.len() >= 64 {
            patterns.clear();
        }
        patterns.insert(source.to_owned(), pattern);
        Ok(CowVal::owned(CelBool::from(found)))
    })
}

fn duration<'b, 'v>(arguments: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let source = text(arguments, 0)?;
    let span = convert::duration(source).ok_or_else(|| {
        ExecutionError::function_error(
            "duration",
            format!("{source:?} is no duration such as 1h30m"),
        )
    })?;
    Ok(CowVal::owned(CelDuration::from(span)))
}

fn timestamp<'b, 'v>(arguments: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let source = text(arguments, 0)?;
    let at = convert::timestamp(source).ok_or_else(|| {
        let why = format!("{source:?} is no timestamp such as 2026-01-31T12:00:00Z");
        ExecutionError::function_error("timestamp", why)
    })?;
    Ok(CowVal::owned(CelTimestamp::from(at)))
}

fn timestamp_of<'b, 'v>(arguments: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let seconds = arguments
        .first()
        .and_then(|argument| argument.downcast_ref::<CelInt>());
    let seconds = *seconds
        .ok_or_else(ExecutionError::missing_argument_or_target)?
        .inner();
    let at = convert::timestamp_of(seconds).ok_or_else(|| {
        ExecutionError::function_error("timestamp", format!("{seconds} is out of range"))
    })?;
    Ok(CowVal::owned(CelTimestamp::from(at)))
}

fn is_subtree_of<'b, 'v>(arguments: &[CowVal<'b, 'v>]) -> Called<'b, 'v> {
    let map = |place: usize| {
        let argument = arguments
            .get(place)
            .and_then(|argument| argument.downcast_ref::<CelMap>());
        argument.ok_or_else(ExecutionError::missing_argument_or_target)
    };
    Ok(CowVal::owned(CelBool::from(subtree(map(0)?, map(1)?))))
}

/// Whether each key of `small` is in `large`, with an equal value or, where both are maps, with one
/// that it is a subtree of. As deep as contexts are, which is bounded when they are converted.
fn subtree(small: &CelMap<'_>, large: &CelMap<'_>) -> bool {
    small.inner().iter().all(|(key, value)| {
        large
            .inner()
            .get(key)
            .is_some_and(|other| subtree_value(&**value, &**other))
    })
}

fn subtree_value(small: &dyn Val, large: &dyn Val) -> bool {
    match (
        small.downcast_ref::<CelMap>(),
        large.downcast_ref::<CelMap>(),
    ) {
        (Some(small), Some(large)) => subtree(small, large),
        _ => small.equals(large),
    }
}

/// Why a condition failed, in the words of its author; without the values, which may be large and
/// may be secret.
pub(super) fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::DivisionByZero(_) => "division by zero".into(),
        ExecutionError::RemainderByZero(_) => "remainder of a division by zero".into(),
        ExecutionError::Overflow(operation, ..) => format!("overflow in `{}`", sign(operation)),
        ExecutionError::NoSuchKey(key) => bounded(&format!("no such key: {key}")),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".into(),
        ExecutionError::UnsupportedIndex(..) => "this value can't be an index here".into(),
        ExecutionError::UnsupportedKeyType(_) => "this value can't be a key".into(),
        ExecutionError::DuplicateKey(_) => "repeated key in a map".into(),
        ExecutionError::UnexpectedType { got, want } => {
            format!("expected a value of type {want}, found one of type {got}")
        }
        ExecutionError::UnsupportedBinaryOperator(operation, left, right) => {
            let (left, right) = (type_name(left), type_name(right));
            format!("`{}` does not take {left} and {right}", sign(operation))
        }
        ExecutionError::FunctionError { function, message } => {
            bounded(&format!("{}: {message}", function.trim_start_matches('@')))
        }
        ExecutionError::NoSuchOverload(overload) => overload.to_string().replace("'@", "'"),
        _ => "its condition met a value of another type than it takes".into(),
    }
}

fn sign(operation: &str) -> &str {
    match operation {
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        other => other,
    }
}

fn type_name(value: &cel::Value) -> String {
    match value.type_of() {
        cel::objects::ValueType::Float => "double".into(),
        other => other.to_string(),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(200).collect()
}
