//! How a file tells who writes what, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::claims::{Claimed, claims};
use super::{Document, Expectation, May, Problem, number};
use crate::api::status::reason_names;
use crate::plan::{Action, Command, Operation, Update, WriteOptions};
use crate::schema::admit::nearest;
use crate::time::span;
use crate::tuple::{Object, Subject, Tuple, TupleFilter};

/// Writes and checks, one after another, on a world of their own.
#[derive(Clone, Debug)]
pub struct Story {
    /// Where it begins; from 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// The sentence that it stands for.
    pub says: Arc<str>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A part of a [`Story`]: time passes, then something is written, then something is checked.
#[derive(Clone, Debug)]
pub struct Step {
    /// How much time passes before.
    pub wait: Duration,
    /// What is written.
    pub write: Option<Attempt>,
    /// What checks must answer afterwards.
    pub checks: Vec<Expectation>,
}

/// A write, and what must become of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where the file states it; from 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What is written, and on whose behalf.
    pub command: Command,
    /// What it is in a few words: `user:ada grants organization:acme#admin@user:tom`.
    pub told: Arc<str>,
    /// What must become of it.
    pub want: Outcome,
}

/// What becomes of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is refused, for this reason: `ACTOR_NOT_ALLOWED`.
    Refused(Arc<str>),
}

/// A story or a step of one, as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    says: Option<Spanned<String>>,
    steps: Option<Vec<Spanned<Told>>>,

    wait: Option<Spanned<String>>,
    #[serde(rename = "as")]
    actor: Option<Spanned<String>>,
    reason: Option<String>,
    #[serde(default)]
    grant: Vec<Spanned<String>>,
    #[serde(default)]
    revoke: Vec<Spanned<String>>,
    revoke_matching: Option<Spanned<Matching>>,
    refused: Option<Spanned<String>>,

    #[serde(default)]
    allowed: Vec<Spanned<String>>,
    #[serde(default)]
    conditional: Vec<Spanned<String>>,
    #[serde(default)]
    denied: Vec<Spanned<String>>,
    subject: Option<Spanned<String>>,
    #[serde(default)]
    may: May,
}

/// Which tuples; what is left out matches everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matching {
    resource: Option<String>,
    resource_type: Option<String>,
    relation: Option<String>,
    subject: Option<String>,
}

/// A write before it is known who writes it: what to do, and that in a few words.
type Deed = (Action, String);

pub(super) fn stories(document: &Document) -> Result<Vec<Story>, Problem> {
    (document.writes.iter())
        .map(|told| story(document, told))
        .collect()
}

fn story(document: &Document, told: &Spanned<Told>) -> Result<Story, Problem> {
    let place = told.defined;
    let says = told.value.says.as_ref().ok_or_else(|| {
        Problem::at_location(place, "it lacks `says`, the sentence that it stands for")
    })?;
    let says: Arc<str> = says.value.as_str().into();
    let steps = match &told.value.steps {
        None => vec![step(document, told, &says)?],
        Some(_) if told.value.does_something() => {
            let message = "what happens stands in `steps`; nothing can stand beside them";
            return Err(Problem::at_location(place, message));
        }
        Some(steps) => {
            let steps = steps.iter().map(|told| step(document, told, &says));
            steps.collect::<Result<_, _>>()?
        }
    };
    Ok(Story {
        line: number(place.line()),
        column: number(place.column()),
        says,
        steps,
    })
}

fn step(document: &Document, told: &Spanned<Told>, says: &Arc<str>) -> Result<Step, Problem> {
    let (place, told) = (told.defined, &told.value);
    if told.steps.is_some() {
        let message = "`steps` stand in a story, and not within another one's";
        return Err(Problem::at_location(place, message));
    }
    if !told.does_something() {
        let message = "nothing happens here; give a write such as grant or revoke, or allowed, \
                       denied, or subject and may";
        return Err(Problem::at_location(place, message));
    }
    let says = told
        .says
        .as_ref()
        .map_or(says.clone(), |own| own.value.as_str().into());
    let claimed = Claimed {
        allowed: &told.allowed,
        conditional: &told.conditional,
        denied: &told.denied,
        subject: told.subject.as_ref(),
        may: &told.may,
    };
    let mut checks = Vec::new();
    claims(document, &claimed, &says, place, &mut checks)?;
    Ok(Step {
        wait: told.wait.as_ref().map_or(Ok(Duration::ZERO), wait)?,
        write: attempt(told, place)?,
        checks,
    })
}

impl Told {
    fn does_something(&self) -> bool {
        let claims = [&self.allowed, &self.conditional, &self.denied];
        self.writes()
            || self.wait.is_some()
            || self.actor.is_some()
            || self.refused.is_some()
            || self.subject.is_some()
            || claims.iter().any(|list| !list.is_empty())
            || !self.may.is_empty()
    }

    fn writes(&self) -> bool {
        !self.grant.is_empty() || !self.revoke.is_empty() || self.revoke_matching.is_some()
    }
}

fn wait(text: &Spanned<String>) -> Result<Duration, Problem> {
    span(&text.value).map_err(|bad| Problem::at_location(text.defined, bad))
}

fn attempt(told: &Told, place: Location) -> Result<Option<Attempt>, Problem> {
    let mut deeds = deeds(told)?;
    let Some((action, words)) = deeds.pop() else {
        let stray = [("as", &told.actor), ("refused", &told.refused)];
        return match stray
            .into_iter()
            .find_map(|(word, has)| Some((word, has.as_ref()?)))
        {
            None => Ok(None),
            Some((word, text)) => {
                let message = format!("`{word}` needs a write beside it, such as grant or revoke");
                Err(Problem::at_location(text.defined, message))
            }
        };
    };
    if !deeds.is_empty() {
        let message = "a step has one write (grant and revoke may stand together); make two of it";
        return Err(Problem::at_location(place, message));
    }
    let actor: Option<Subject> = told.actor.as_ref().map(parsed).transpose()?;
    let who = actor
        .as_ref()
        .map_or("a trusted caller".to_owned(), ToString::to_string);
    let options = WriteOptions {
        actor,
        reason: told.reason.clone().unwrap_or_default(),
        ..WriteOptions::default()
    };
    Ok(Some(Attempt {
        line: number(place.line()),
        column: number(place.column()),
        command: Command {
            action,
            options,
            caller: "".into(),
        },
        told: format!("{who} {words}").into(),
        want: told.refused.as_ref().map_or(Ok(Outcome::Done), refused)?,
    }))
}

fn refused(reason: &Spanned<String>) -> Result<Outcome, Problem> {
    let name = &*reason.value;
    if reason_names().any(|known| known == name) {
        return Ok(Outcome::Refused(name.into()));
    }
    let near = nearest(name, reason_names())
        .map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let message = format!("{name:?} is no reason that a write is refused for{near}");
    Err(Problem::at_location(reason.defined, message))
}

/// What a step writes, each kind of write apart.
fn deeds(told: &Told) -> Result<Vec<Deed>, Problem> {
    let mut deeds = Vec::new();
    if !told.grant.is_empty() || !told.revoke.is_empty() {
        deeds.push(updates(&told.grant, &told.revoke)?);
    }
    if let Some(matching) = &told.revoke_matching {
        deeds.push(revoke_matching(matching)?);
    }
    Ok(deeds)
}

fn updates(grant: &[Spanned<String>], revoke: &[Spanned<String>]) -> Result<Deed, Problem> {
    let mut updates = Vec::new();
    let mut words = Vec::new();
    for (list, operation, word) in [
        (grant, Operation::Grant, "grants"),
        (revoke, Operation::Revoke, "revokes"),
    ] {
        for text in list {
            let tuple: Tuple = parsed(text)?;
            updates.push(Update { operation, tuple });
        }
        if let Some(first) = list.first() {
            let more = if list.len() > 1 { ", …" } else { "" };
            words.push(format!("{word} {}{more}", first.value));
        }
    }
    let action = Action::Write {
        updates,
        preconditions: Vec::new(),
    };
    Ok((action, words.join(" and ")))
}

fn revoke_matching(matching: &Spanned<Matching>) -> Result<Deed, Problem> {
    let place = matching.defined;
    let matching = &matching.value;
    let mut filter = TupleFilter {
        resource_type: matching.resource_type.as_deref().map(Into::into),
        relation: matching.relation.as_deref().map(Into::into),
        ..TupleFilter::default()
    };
    let mut words = Vec::new();
    words.extend(matching.resource_type.iter().cloned());
    if let Some(resource) = &matching.resource {
        let object: Object = parsed_at(resource, place)?;
        filter.resource_type = Some(object.kind().into());
        filter.resource_id = Some(object.id().into());
        words.push(resource.clone());
    }
    words.extend(
        matching
            .relation
            .iter()
            .map(|relation| format!("#{relation}")),
    );
    if let Some(text) = &matching.subject {
        let subject: Subject = parsed_at(text, place)?;
        filter.subject_type = Some(subject.kind().into());
        filter.subject_id = Some(subject.id().into());
        filter.subject_relation = Some(subject.relation().map(Into::into));
        words.push(format!("@{text}"));
    }
    let words = format!("revokes all that match {}", words.concat());
    Ok((Action::RevokeMatching { filter, limit: 0 }, words))
}

fn parsed<T>(text: &Spanned<String>) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    parsed_at(&text.value, text.defined)
}

fn parsed_at<T>(text: &str, place: Location) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|bad: T::Err| Problem::at_location(place, bad.to_string()))
}
