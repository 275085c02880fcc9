//! Resolves the condition of a caveat, three-valued.
//!
//! Hides how an answer is found while parameters are missing: the condition is folded over
//! `&& || ! ?:`, and what stands between them is resolved by the `cel` crate. What fails there for
//! want of a parameter is unknown, and unknown beats an error, since the parameter may yet decide.
//! This answers what resolving the whole condition would, wherever that has an answer.
//!
//! Where the crate leaves the CEL language definition and it was simple, `environment` does it over.
//! What is left: an integer beyond 2^53 compares with a double as its nearest double does, as in
//! the reference implementation; patterns of `matches` are those of the `regex` crate, which
//! differ from RE2 in rare corners; of `? :` with an undecided test only the test is missing,
//! whatever the branches are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cel::common::types::CelBool;

use self::bounds::Estimate;
use crate::schema::cel::{Condition, Expression, Leaf, nearest, on_a_large_stack, variable};
use crate::schema::{CaveatDef, CaveatType, Parameter, Schema};
use crate::tuple::Context;

mod bounds;
mod convert;
mod environment;
#[cfg(test)]
mod tests;

/// What a caveat says under the parameters that are known.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Neither: parameters are missing, or it failed.
    Undecided {
        /// The missing parameters of the smallest undecided sub-expressions, sorted.
        missing: Vec<Arc<str>>,
        /// Why it failed, where it did.
        failure: Option<String>,
    },
}

/// Why a context does not fit the parameters that it gives values to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ContextError {
    /// The parameter, and the place within it, such as `networks[2]`.
    pub path: String,
    /// What was expected and what was found.
    pub problem: String,
}

/// What a thread of its own costs, in steps.
const THREAD: u64 = 1_000;

/// Resolves `caveat`; the parameters of the tuple win over those of the request.
///
/// Never panics: what the `cel` crate would panic on is a failure of the caveat.
pub fn resolve(caveat: &CaveatDef, tuple: &Context, request: &Context) -> Outcome {
    resolve_counted(caveat, tuple, request).0
}

/// As [`resolve`], with an upper bound of the steps that it took: an operator on values of up to 64
/// elements or bytes is one.
pub fn resolve_counted(caveat: &CaveatDef, tuple: &Context, request: &Context) -> (Outcome, u64) {
    let mut steps = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        resolve_unguarded(caveat, tuple, request, &mut steps)
    }))
    .unwrap_or_else(|_| failed("its condition could not be resolved".into()));
    (outcome, steps)
}

fn resolve_unguarded(
    caveat: &CaveatDef,
    tuple: &Context,
    request: &Context,
    steps: &mut u64,
) -> Outcome {
    let mut context = environment::context();
    let bound = match bind(caveat, tuple, request, &mut context) {
        Ok(bound) => bound,
        Err(problem) => return failed(problem.to_string()),
    };
    let Expression {
        condition, deep, ..
    } = &caveat.expression;
    let resolver = Resolver {
        context: &context,
        missing: &bound.missing,
        estimate: Mutex::new(Estimate::new(&bound.values)),
    };
    // Set at once, since resolving may panic.
    *steps = resolver.steps() + if *deep { THREAD } else { 0 };
    let truth = match deep {
        true => on_a_large_stack(|| resolver.resolve(condition)),
        false => Some(resolver.resolve(condition)),
    };
    *steps = steps.saturating_add(resolver.steps());
    let unresolved = || failed("its condition could not be resolved".into());
    truth.map_or_else(unresolved, |truth| truth.into_outcome(&caveat.parameters))
}

/// What the parameters of a caveat are bound to.
struct Bound<'v> {
    /// By the places of the parameters.
    missing: Vec<bool>,
    /// By the names of variables.
    values: Vec<(String, &'v serde_json::Value)>,
}

fn bind<'v>(
    caveat: &CaveatDef,
    tuple: &'v Context,
    request: &'v Context,
    context: &mut cel::Context<'v, 'v>,
) -> Result<Bound<'v>, ContextError> {
    let mut bound = Bound {
        missing: Vec::with_capacity(caveat.parameters.len()),
        values: Vec::new(),
    };
    for Parameter { name, kind } in &caveat.parameters {
        let given = tuple.get(&**name).or_else(|| request.get(&**name));
        bound.missing.push(given.is_none());
        let Some(value) = given else {
            continue;
        };
        let variable = variable(name);
        bound.values.push((variable.clone(), value));
        context.add_variable_as_val(variable, convert::convert(name, value, kind)?);
    }
    Ok(bound)
}

fn failed(why: String) -> Outcome {
    Outcome::Undecided {
        missing: Vec::new(),
        failure: Some(why),
    }
}

/// Four values: the two, the lack of a parameter, a failure.
enum Truth {
    Known(bool),
    /// The places of the parameters.
    Unknown(Vec<usize>),
    Failed(String),
}

impl Truth {
    fn into_outcome(self, parameters: &[Parameter]) -> Outcome {
        match self {
            Self::Known(true) => Outcome::True,
            Self::Known(false) => Outcome::False,
            Self::Failed(why) => failed(why),
            Self::Unknown(places) => {
                let name = |place: usize| parameters.get(place).map(|p| p.name.clone());
                let mut missing: Vec<Arc<str>> = places.into_iter().filter_map(name).collect();
                missing.sort_unstable();
                missing.dedup();
                Outcome::Undecided {
                    missing,
                    failure: None,
                }
            }
        }
    }

    /// `self && other` or `self || other`, where neither decides alone.
    fn undecided(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown(mut a), Self::Unknown(b)) => {
                a.extend(b);
                Self::Unknown(a)
            }
            (unknown @ Self::Unknown(_), _) | (_, unknown @ Self::Unknown(_)) => unknown,
            (failure @ Self::Failed(_), _) | (Self::Known(_), failure) => failure,
        }
    }
}

struct Resolver<'a, 'v> {
    context: &'a cel::Context<'v, 'v>,
    missing: &'a [bool],
    /// Behind a lock for the sake of [`on_a_large_stack`] only.
    estimate: Mutex<Estimate<'a>>,
}

impl<'a> Resolver<'a, '_> {
    /// Recursion is as deep as the operators of a condition are many: bounded when it is compiled.
    fn resolve(&self, condition: &'a Condition) -> Truth {
        match condition {
            Condition::And(a, b) => self.pair(a, b, false),
            Condition::Or(a, b) => self.pair(a, b, true),
            Condition::Not(a) => match self.resolve(a) {
                Truth::Known(truth) => Truth::Known(!truth),
                undecided => undecided,
            },
            Condition::If(test, yes, no) => match self.resolve(test) {
                Truth::Known(true) => self.resolve(yes),
                Truth::Known(false) => self.resolve(no),
                undecided => undecided,
            },
            Condition::Leaf(leaf) => self.leaf(leaf),
        }
    }

    /// An operator that either side decides by being `decisive`, whatever the other is.
    fn pair(&self, a: &'a Condition, b: &'a Condition, decisive: bool) -> Truth {
        let a = self.resolve(a);
        if matches!(a, Truth::Known(truth) if truth == decisive) {
            return a;
        }
        let b = self.resolve(b);
        match (a, b) {
            (_, b @ Truth::Known(truth)) if truth == decisive => b,
            (Truth::Known(_), b) => b,
            (a, b) => a.undecided(b),
        }
    }

    fn admit(&self, leaf: &'a Leaf) -> Result<(), String> {
        self.estimate().admit(leaf)
    }

    /// What the leaves up to now can have taken.
    fn steps(&self) -> u64 {
        self.estimate().spent()
    }

    fn estimate(&self) -> MutexGuard<'_, Estimate<'a>> {
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaf(&self, leaf: &'a Leaf) -> Truth {
        let is_missing = |place: &usize| self.missing.get(*place).copied().unwrap_or(true);
        let missing: Vec<usize> = leaf.parameters.iter().copied().filter(is_missing).collect();
        if !missing.is_empty() && !leaf.lazy {
            return Truth::Unknown(missing);
        }
        match self.resolve_by_crate(leaf) {
            Ok(truth) => Truth::Known(truth),
            Err(_) if !missing.is_empty() => Truth::Unknown(missing),
            Err(failure) => Truth::Failed(failure),
        }
    }

    fn resolve_by_crate(&self, leaf: &'a Leaf) -> Result<bool, String> {
        self.admit(leaf)?;
        let value = cel::Value::resolve_val(&leaf.expression, self.context)
            .map_err(|error| environment::explain(&error))?;
        match value.downcast_ref::<CelBool>() {
            Some(truth) => Ok(*truth.inner()),
            None => Err(format!(
                "expected a bool, found a value of type {}",
                value.get_type().name()
            )),
        }
    }
}

/// Checks the context of a tuple: its names are parameters of `caveat`, its values of their types.
pub fn check_context(caveat: &CaveatDef, context: &Context) -> Result<(), ContextError> {
    for (name, value) in context {
        let Some(parameter) = caveat.parameters.iter().find(|p| *p.name == **name) else {
            return Err(unknown_parameter(caveat, name));
        };
        convert::convert(name, value, &parameter.kind)?;
    }
    Ok(())
}

fn unknown_parameter(caveat: &CaveatDef, name: &str) -> ContextError {
    let known = caveat.parameters.iter().map(|p| &*p.name);
    let hint = nearest(name, known).map_or_else(String::new, |nearest| {
        format!(", did you mean `{nearest}`?")
    });
    ContextError {
        path: name.to_owned(),
        problem: format!("the caveat `{}` has no such parameter{hint}", caveat.name),
    }
}

/// Checks the context of a request: values of the names that the caveats of `schema` declare.
///
/// A name that two caveats declare with different types is left to each of them as it is reached;
/// a name that none declares is ignored.
pub fn check_request_context(schema: &Schema, context: &Context) -> Result<(), ContextError> {
    for (name, value) in context {
        if let Some(kind) = agreed_type(schema, name) {
            convert::convert(name, value, kind)?;
        }
    }
    Ok(())
}

/// The type of all parameters of this name, where it is one.
fn agreed_type<'a>(schema: &'a Schema, name: &str) -> Option<&'a CaveatType> {
    let parameters = schema.caveats.iter().flat_map(|caveat| &caveat.parameters);
    let mut kinds = parameters.filter(|p| *p.name == *name).map(|p| &p.kind);
    let first = kinds.next()?;
    kinds.all(|kind| kind == first).then_some(first)
}
