//! How a file tells who writes what, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::claims::{Claimed, claims};
use super::deeds::{self, Deed};
use super::{Document, Expectation, May, Problem, number};
use crate::api::status::reason_names;
use crate::plan::{Command, WriteOptions};
use crate::schema::admit::nearest;
use crate::time::span;
use crate::tuple::Subject;

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
    revoke_matching: Option<Spanned<deeds::Matching>>,
    lock: Option<Spanned<deeds::Lock>>,
    unlock: Option<Spanned<String>>,
    renew: Option<Spanned<deeds::Renew>>,
    create_role: Option<Spanned<deeds::CreateRole>>,
    update_role: Option<Spanned<deeds::UpdateRole>>,
    delete_role: Option<Spanned<String>>,
    assign: Option<Spanned<deeds::Assign>>,
    unassign: Option<Spanned<deeds::Assign>>,
    change_role: Option<Spanned<deeds::ChangeRole>>,
    refused: Option<Spanned<String>>,

    #[serde(default)]
    allowed: Vec<Spanned<String>>,
    #[serde(default)]
    conditional: Vec<Spanned<String>>,
    #[serde(default)]
    denied: Vec<Spanned<String>>,
    #[serde(default)]
    locked: Vec<Spanned<String>>,
    subject: Option<Spanned<String>>,
    #[serde(default)]
    may: May,
}

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
        locked: &told.locked,
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
        let claims = [&self.allowed, &self.conditional, &self.denied, &self.locked];
        self.writes()
            || self.wait.is_some()
            || self.actor.is_some()
            || self.refused.is_some()
            || self.subject.is_some()
            || claims.iter().any(|list| !list.is_empty())
            || !self.may.is_empty()
    }

    fn writes(&self) -> bool {
        !self.grant.is_empty()
            || !self.revoke.is_empty()
            || self.revoke_matching.is_some()
            || self.lock.is_some()
            || self.unlock.is_some()
            || self.renew.is_some()
            || self.create_role.is_some()
            || self.update_role.is_some()
            || self.delete_role.is_some()
            || self.assign.is_some()
            || self.unassign.is_some()
            || self.change_role.is_some()
    }
}

fn wait(text: &Spanned<String>) -> Result<Duration, Problem> {
    span(&text.value).map_err(|bad| Problem::at_location(text.defined, bad))
}

fn attempt(told: &Told, place: Location) -> Result<Option<Attempt>, Problem> {
    let mut deeds = written(told)?;
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
    let actor: Option<Subject> = told.actor.as_ref().map(deeds::parsed).transpose()?;
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
fn written(told: &Told) -> Result<Vec<Deed>, Problem> {
    let tuples = !told.grant.is_empty() || !told.revoke.is_empty();
    let deeds = [
        tuples.then(|| deeds::updates(&told.grant, &told.revoke)),
        told.revoke_matching.as_ref().map(deeds::revoke_matching),
        told.lock.as_ref().map(deeds::lock),
        told.unlock.as_ref().map(|id| Ok(deeds::unlock(id))),
        told.renew.as_ref().map(deeds::renew),
        told.create_role.as_ref().map(deeds::create_role),
        told.update_role.as_ref().map(deeds::update_role),
        told.delete_role.as_ref().map(deeds::delete_role),
        told.assign.as_ref().map(deeds::assign),
        told.unassign.as_ref().map(deeds::unassign),
        told.change_role.as_ref().map(deeds::change_role),
    ];
    deeds.into_iter().flatten().collect()
}
