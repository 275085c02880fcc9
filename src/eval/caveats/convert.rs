//! Values of a context, as the declared types of parameters want them.
//!
//! Hides what stands for what in JSON: numbers may be decimal strings, since many clients can send
//! doubles only, bytes are base64, durations are written as "1h30m", timestamps as RFC 3339.
//! Inside `any` a value is what JSON says it is, and each number is a double, whether it came as
//! `42` or as `42.0`: a `google.protobuf.Struct` does not know the difference.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull,
    CelString, CelTimestamp, Type,
};
use cel::common::value::{StaticVal, Val};
use chrono::{DateTime, Datelike, FixedOffset, TimeDelta, Utc};
use serde_json::Value;

use super::ContextError;
use crate::schema::CaveatType;

/// A value that borrows from its context.
pub(super) type Converted<'v> = Box<dyn Val + 'v>;

/// Lists and maps within one another.
const MAX_DEPTH: usize = 64;

/// Converts `value`, the value of the parameter `name`.
pub(super) fn convert<'v>(
    name: &str,
    value: &'v Value,
    wanted: &CaveatType,
) -> Result<Converted<'v>, ContextError> {
    typed(value, wanted, 0).map_err(|misfit| ContextError {
        path: format!("{name}{}", misfit.path),
        problem: misfit.problem,
    })
}

/// What does not fit, and where within the value.
struct Misfit {
    path: String,
    problem: String,
}

impl Misfit {
    fn new(wanted: &str, found: &Value) -> Self {
        let problem = format!("expected {wanted}, found {}", shown(found));
        Self {
            path: String::new(),
            problem,
        }
    }

    fn below(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

fn too_deep() -> Misfit {
    Misfit {
        path: String::new(),
        problem: format!("nested more than {MAX_DEPTH} deep"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a map".into(),
        Value::String(text) => format!("the string {:?}", shortened(text)),
        Value::Bool(truth) => format!("the bool {truth}"),
        Value::Number(number) => format!("the number {number}"),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text.to_owned(),
    }
}

fn typed<'v>(value: &'v Value, wanted: &CaveatType, depth: usize) -> Result<Converted<'v>, Misfit> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    let converted: Option<Converted<'v>> = match (wanted, value) {
        (CaveatType::Any, _) => return untyped(value, depth),
        (CaveatType::List(element), Value::Array(values)) => {
            return list(values, |value| typed(value, element, depth + 1));
        }
        (CaveatType::Map(kind), Value::Object(values)) => {
            return map(values, |value| typed(value, kind, depth + 1));
        }
        (CaveatType::Bool, Value::Bool(truth)) => Some(Box::new(CelBool::from(*truth))),
        (CaveatType::Int, _) => integer(value).map(|n| Box::new(CelInt::from(n)) as _),
        (CaveatType::Uint, _) => {
            let number = integer(value).filter(|n| *n >= 0);
            number.map(|n| Box::new(CelInt::from(n)) as _)
        }
        (CaveatType::Double, _) => double(value).map(|n| Box::new(CelDouble::from(n)) as _),
        (CaveatType::String, Value::String(text)) => Some(Box::new(CelString::from(text.as_str()))),
        (_, Value::String(text)) => from_text(text, wanted),
        _ => None,
    };
    converted.ok_or_else(|| Misfit::new(described(wanted), value))
}

fn from_text<'v>(text: &str, wanted: &CaveatType) -> Option<Converted<'v>> {
    match wanted {
        CaveatType::Bytes => bytes(text).map(|bytes| Box::new(CelBytes::from(bytes)) as _),
        CaveatType::Duration => duration(text).map(|span| Box::new(CelDuration::from(span)) as _),
        CaveatType::Timestamp => timestamp(text).map(|at| Box::new(CelTimestamp::from(at)) as _),
        CaveatType::IpAddress => text.parse().ok().map(|ip| Box::new(Address(ip)) as _),
        _ => None,
    }
}

fn described(wanted: &CaveatType) -> &'static str {
    match wanted {
        CaveatType::Any => "any value",
        CaveatType::Bool => "a bool",
        CaveatType::Int => "a whole number of 64 bits",
        CaveatType::Uint => "a whole number of 63 bits that is not negative",
        CaveatType::Double => "a number",
        CaveatType::String => "a string",
        CaveatType::Bytes => "bytes in base64",
        CaveatType::Duration => "a duration such as \"1h30m\"",
        CaveatType::Timestamp => "a timestamp such as \"2026-01-31T12:00:00Z\"",
        CaveatType::IpAddress => "an IP address",
        CaveatType::List(_) => "a list",
        CaveatType::Map(_) => "a map",
    }
}

fn untyped(value: &Value, depth: usize) -> Result<Converted<'_>, Misfit> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    Ok(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(_) => Box::new(CelDouble::from(double(value).unwrap_or(f64::NAN))),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(values) => return list(values, |value| untyped(value, depth + 1)),
        Value::Object(values) => return map(values, |value| untyped(value, depth + 1)),
    })
}

fn list<'v>(
    values: &'v [Value],
    convert: impl Fn(&'v Value) -> Result<Converted<'v>, Misfit>,
) -> Result<Converted<'v>, Misfit> {
    let convert =
        |(place, value)| convert(value).map_err(|misfit| misfit.below(&format!("[{place}]")));
    let values: Result<Vec<Converted<'v>>, Misfit> =
        values.iter().enumerate().map(convert).collect();
    Ok(Box::new(CelList::from(values?)))
}

fn map<'v>(
    values: &'v serde_json::Map<String, Value>,
    convert: impl Fn(&'v Value) -> Result<Converted<'v>, Misfit>,
) -> Result<Converted<'v>, Misfit> {
    let convert = |(key, value): (&'v String, _)| match convert(value) {
        Ok(value) => Ok((CelMapKey::from(key.as_str()), value)),
        Err(misfit) => Err(misfit.below(&format!(".{}", shortened(key)))),
    };
    let values: Result<HashMap<CelMapKey<'v>, Converted<'v>>, Misfit> =
        values.iter().map(convert).collect();
    Ok(Box::new(CelMap::from(values?)))
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        _ => None,
    }
}

/// A double without a fraction, as an integer: exact, or `None`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range is checked first"
)]
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let fits = number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number);
    fits.then_some(number as i64)
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite() || decimal_word(text)),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// Protobuf's JSON spells these three as strings; "1e999" is not one of them.
fn decimal_word(text: &str) -> bool {
    matches!(text, "NaN" | "Infinity" | "-Infinity")
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|alphabet| alphabet.decode(text).ok())
}

/// Parses RFC 3339, of the years 1 to 9999. The result is in UTC, as accessors are by default.
pub(super) fn timestamp(text: &str) -> Option<DateTime<FixedOffset>> {
    // Parsers differ on what else may stand for the `T`, and on seconds that leap.
    if text.as_bytes().get(10) != Some(&b'T') || text.ends_with('z') {
        return None;
    }
    let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    in_range(at).filter(|at| at.timestamp_subsec_nanos() < 1_000_000_000)
}

/// The instant `seconds` after the start of 1970, where it is of the years 1 to 9999.
pub(super) fn timestamp_of(seconds: i64) -> Option<DateTime<FixedOffset>> {
    in_range(DateTime::from_timestamp(seconds, 0)?)
}

fn in_range(at: DateTime<Utc>) -> Option<DateTime<FixedOffset>> {
    (1..=9999).contains(&at.year()).then_some(at.fixed_offset())
}

/// Parses "1h30m", "-1.5s", "300ms", "0": signed decimals with units, of at most 2^63 nanoseconds.
pub(super) fn duration(text: &str) -> Option<TimeDelta> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(TimeDelta::zero());
    }
    let mut nanos: i128 = 0;
    loop {
        let (part, after) = duration_part(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let nanos = if negative { -nanos } else { nanos };
    i64::try_from(nanos).ok().map(TimeDelta::nanoseconds)
}

/// One decimal and its unit, in nanoseconds, and what follows.
fn duration_part(text: &str) -> Option<(i128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at_checked(end)?;
    let units = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000_i128),
    ];
    let (rest, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((rest.strip_prefix(name)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.len() > 40
        || whole.len() > 19
        || (whole.is_empty() && fraction.is_empty())
        || fraction.contains('.')
    {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = fraction.get(..fraction.len().min(15))?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let part: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    Some((whole * unit + part * unit / scale, rest))
}

static ADDRESS: Type = Type::new_unspecified_type("ipaddress");

/// A value of the type `ipaddress`.
#[derive(Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl Address {
    pub(super) const TYPE: &'static Type = &ADDRESS;
}

impl Val for Address {
    fn get_type(&self) -> &Type {
        &ADDRESS
    }

    fn cel_type() -> &'static Type {
        &ADDRESS
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other
            .downcast_ref::<Self>()
            .is_some_and(|other| other.0 == self.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self(self.0))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Address {}
