//! What a new schema changes, and whether what is stored fits it.

use std::sync::Arc;

use crate::eval::caveats::check_context;
use crate::revision::Token;
use crate::schema::{Schema, changes_between};
use crate::state::{Change, State};
use crate::time::Timestamp;
use crate::tuple::Tuple;

use super::{Effect, Limits, Refusal, at_most};

/// Replaces the schema.
pub(super) fn write(
    state: &State,
    text: &Arc<str>,
    if_revision: Option<Token>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Effect, Refusal> {
    at_most("schema", text.len(), limits.schema_bytes)?;
    unchanged_since(state, if_revision)?;
    let compiled = Schema::compile(text, state.names()).map_err(Refusal::SchemaInvalid)?;
    orphans(state, &compiled.schema, now)?;
    let same = state.schema.as_ref().is_some_and(|old| *old.text == **text);
    let changes = match same {
        true => Vec::new(),
        false => vec![vec![Change::Schema(Arc::clone(text))]],
    };
    Ok(Effect {
        changes,
        schema_changes: changes_between(state.schema.as_deref(), &compiled.schema),
        warnings: compiled.warnings,
        ..Effect::default()
    })
}

fn unchanged_since(state: &State, if_revision: Option<Token>) -> Result<(), Refusal> {
    let Some(asked) = if_revision else {
        return Ok(());
    };
    if asked.epoch != state.epoch {
        return Err(Refusal::EpochMismatch {
            asked,
            epoch: state.epoch,
        });
    }
    if state.schema_revision > asked.revision {
        return Err(Refusal::SchemaChanged {
            asked,
            current: state.token_of(state.schema_revision),
        });
    }
    Ok(())
}

/// Refuses a schema that does not take what is stored: how many, and one of them.
fn orphans(state: &State, new: &Schema, now: Timestamp) -> Result<(), Refusal> {
    let mut count = 0_u64;
    let mut first = None;
    for filter in state.unfit_filters(new) {
        let live = state.select(&filter);
        let live = live.filter(|tuple| tuple.expires_at.is_none_or(|end| now < end));
        for tuple in live {
            if let Some(problem) = misfit(new, &tuple) {
                count += 1;
                first.get_or_insert((tuple, problem));
            }
        }
    }
    match first {
        None => Ok(()),
        Some((tuple, problem)) => Err(Refusal::SchemaWouldOrphan {
            count,
            example: tuple.to_string(),
            problem,
        }),
    }
}

/// Why the schema does not take a stored tuple, where it does not.
fn misfit(new: &Schema, tuple: &Tuple) -> Option<String> {
    let admitted = match tuple.relation.contains('=') {
        true => new.admit_assignment(tuple).map(drop),
        false => new.admit(tuple).map(drop),
    };
    if let Err(problem) = admitted {
        return Some(problem.to_string());
    }
    let caveat = tuple.caveat.as_ref()?;
    let problem = check_context(new.caveat_named(&caveat.name)?, &caveat.context).err()?;
    let name = &caveat.name;
    Some(format!(
        "the context of caveat {name:?} does not fit: {problem}"
    ))
}
