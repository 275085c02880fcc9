//! Values of Google's well-known types.

use std::time::Duration;

use prost_types::value::Kind;
use serde_json::{Map, Value};

use super::{Malformed, Problem};
use crate::time::Timestamp;
use crate::tuple::Context;

/// The most bytes of a struct, as it is encoded on the wire.
pub const MAX_STRUCT_BYTES: usize = 64 * 1_024;
/// How deep lists and objects of a struct may be nested.
const MAX_DEPTH: usize = 32;
/// Doubles hold every integer up to here.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Struct to JSON. Numbers without a fraction become integers: the wire knows doubles only.
///
/// # Errors
/// Where it is too large or deep, or has a number that JSON does not have.
pub fn context(from: prost_types::Struct) -> Result<Context, Malformed> {
    let size = prost::Message::encoded_len(&from);
    if size > MAX_STRUCT_BYTES {
        return Err(Malformed::here(Problem::TooLarge {
            size,
            limit: MAX_STRUCT_BYTES,
            unit: "bytes",
        }));
    }
    object(from, 0)
}

fn object(from: prost_types::Struct, depth: usize) -> Result<Map<String, Value>, Malformed> {
    let prost_types::Struct { fields } = from;
    let mut map = Map::with_capacity(fields.len());
    for (key, from) in fields {
        match value(from, depth + 1) {
            Ok(value) => map.insert(key, value),
            Err(malformed) => return Err(malformed.within(&key)),
        };
    }
    Ok(map)
}

fn value(from: prost_types::Value, depth: usize) -> Result<Value, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::here(Problem::TooDeep { limit: MAX_DEPTH }));
    }
    let prost_types::Value { kind } = from;
    Ok(match kind {
        None => return Err(Malformed::here(Problem::Missing("a value"))),
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(bool)) => Value::Bool(bool),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => number_value(number)?,
        Some(Kind::StructValue(fields)) => Value::Object(object(fields, depth)?),
        Some(Kind::ListValue(prost_types::ListValue { values })) => {
            let items = values.into_iter().enumerate();
            let items = items.map(|(index, item)| {
                value(item, depth + 1).map_err(|malformed| malformed.at_index(index))
            });
            Value::Array(items.collect::<Result<_, _>>()?)
        }
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the range was compared, and there is no fraction"
)]
fn number_value(number: f64) -> Result<Value, Malformed> {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        return Ok(Value::from(number as i64));
    }
    serde_json::Number::from_f64(number)
        .map(Value::Number)
        .ok_or_else(|| Malformed::here(Problem::Invalid("is no finite number")))
}

/// JSON to struct.
pub fn to_struct(from: &Context) -> prost_types::Struct {
    let fields = from
        .iter()
        .map(|(key, value)| (key.clone(), to_value(value)));
    prost_types::Struct {
        fields: fields.collect(),
    }
}

// Stored contexts came in through `context`, which bounds their depth.
fn to_value(from: &Value) -> prost_types::Value {
    let kind = match from {
        Value::Null => Kind::NullValue(0),
        Value::Bool(bool) => Kind::BoolValue(*bool),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Timestamp to instant.
///
/// # Errors
/// Outside the years 1 to 9999.
pub fn timestamp(from: prost_types::Timestamp) -> Result<Timestamp, Malformed> {
    let prost_types::Timestamp { seconds, nanos } = from;
    u32::try_from(nanos)
        .ok()
        .and_then(|nanos| Timestamp::new(seconds, nanos))
        .ok_or_else(|| Malformed::here(Problem::Invalid("is no time of the years 1 to 9999")))
}

/// Instant to timestamp.
pub fn to_timestamp(from: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: from.seconds(),
        nanos: i32::try_from(from.nanos()).unwrap_or(0),
    }
}

/// Duration to span.
///
/// # Errors
/// Where it is negative or no duration at all.
pub fn duration(from: prost_types::Duration) -> Result<Duration, Malformed> {
    let prost_types::Duration { seconds, nanos } = from;
    let valid = |nanos: &u32| *nanos < 1_000_000_000;
    match (
        u64::try_from(seconds),
        u32::try_from(nanos).ok().filter(valid),
    ) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(Malformed::here(Problem::Invalid(
            "is no duration of zero or more",
        ))),
    }
}

/// Span to duration.
pub fn to_duration(from: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(from.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(from.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    #[test]
    fn structs_survive_the_way_there_and_back() {
        let json = r#"{"a":[1,2.5,null,true,"x",{"b":-3}],"c":{}}"#;
        let map: Context = serde_json::from_str(json).unwrap();
        assert_eq!(context(to_struct(&map)).unwrap(), map);
    }

    #[test]
    fn numbers_without_a_fraction_are_integers() {
        let cases = [
            (1.0, "1"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e300, "1e+300"),
        ];
        for (number, text) in cases {
            assert_eq!(number_value(number).unwrap().to_string(), text);
        }
        for number in [f64::NAN, f64::INFINITY] {
            assert!(number_value(number).is_err(), "{number}");
        }
    }

    #[test]
    fn bounds_are_held() {
        let nested = (0..40).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let deep = Context::from_iter([("a".to_owned(), nested)]);
        let large = Context::from_iter([("a".to_owned(), Value::from("x".repeat(70_000)))]);
        assert!(matches!(
            context(to_struct(&deep)).unwrap_err().problem,
            Problem::TooDeep { .. }
        ));
        let problem = context(to_struct(&large)).unwrap_err().problem;
        assert!(matches!(problem, Problem::TooLarge { .. }));
    }

    #[test]
    fn durations_are_zero_or_more() {
        let cases = [
            (0, 0, true),
            (1, 5, true),
            (-1, 0, false),
            (0, -1, false),
            (0, 1_000_000_000, false),
        ];
        for (seconds, nanos, valid) in cases {
            let from = prost_types::Duration { seconds, nanos };
            assert_eq!(duration(from).is_ok(), valid, "{seconds} {nanos}");
        }
    }
}
