#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::*;
use crate::schema::{CaveatId, Doc, cel};

mod cases;
mod contexts;
mod hostile;
mod random;

/// `a int, b list<string>`
pub(super) fn parameters(text: &str) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    for declared in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, kind) = declared.split_once(' ').expect("a name and a type");
        parameters.push(Parameter {
            name: name.into(),
            kind: kind_of(kind.trim()),
        });
    }
    parameters
}

fn kind_of(text: &str) -> CaveatType {
    let inner = |start: &str| {
        text.strip_prefix(start)
            .and_then(|rest| rest.strip_suffix('>'))
    };
    if let Some(element) = inner("list<") {
        return CaveatType::List(Box::new(kind_of(element)));
    }
    if let Some(value) = inner("map<") {
        return CaveatType::Map(Box::new(kind_of(value)));
    }
    match text {
        "any" => CaveatType::Any,
        "bool" => CaveatType::Bool,
        "int" => CaveatType::Int,
        "uint" => CaveatType::Uint,
        "double" => CaveatType::Double,
        "string" => CaveatType::String,
        "bytes" => CaveatType::Bytes,
        "duration" => CaveatType::Duration,
        "timestamp" => CaveatType::Timestamp,
        "ipaddress" => CaveatType::IpAddress,
        other => panic!("no type {other}"),
    }
}

pub(super) fn caveat(declared: &str, source: &str) -> Result<CaveatDef, cel::CelError> {
    let parameters = parameters(declared);
    let expression = cel::compile(source, &parameters)?;
    Ok(CaveatDef {
        id: CaveatId(0),
        name: "tested".into(),
        doc: Doc::default(),
        parameters,
        expression,
    })
}

pub(super) fn context(json: &str) -> Context {
    let json = if json.is_empty() { "{}" } else { json };
    serde_json::from_str(json).expect("a context is JSON")
}

/// `true`, `false`, `missing a b`, `fails: why`.
pub(super) fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::True => "true".into(),
        Outcome::False => "false".into(),
        Outcome::Undecided {
            missing,
            failure: None,
        } => format!("missing {}", missing.join(" ")),
        Outcome::Undecided {
            failure: Some(why), ..
        } => format!("fails: {why}"),
    }
}

/// What compiling and resolving come to; `refused: why` where it does not compile.
pub(super) fn answer(declared: &str, source: &str, tuple: &str, request: &str) -> String {
    match caveat(declared, source) {
        Ok(caveat) => shown(&resolve(&caveat, &context(tuple), &context(request))),
        Err(error) => {
            let at = source.get(error.start..error.end).unwrap_or("OUTSIDE");
            format!("refused at {at:?}: {}", error.message)
        }
    }
}
