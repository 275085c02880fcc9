//! How a file's statements, whatever their form, become [`Expectation`]s.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_saphyr::{Location, Spanned};

use super::{Document, Expectation, Extent, May, Placed, Problem, Stated, number};
use crate::eval::Decision;
use crate::tuple::{Context, Object, Subject, Tuple};

type Claims = Result<(), Problem>;

pub(super) fn expectations(
    document: &Document,
    tuples: &[Placed<Tuple>],
) -> Result<Vec<Expectation>, Problem> {
    let mut out = Vec::new();
    if let Some(assertions) = &document.assertions {
        let lists = [
            (&assertions.assert_true, Decision::Allowed),
            (&assertions.assert_caveated, Decision::Conditional),
            (&assertions.assert_false, Decision::Denied),
        ];
        for (list, want) in lists {
            assert_each(list.as_deref().unwrap_or_default(), want, None, &mut out)?;
        }
    }
    for (resource, lines) in document.validation.iter().flatten() {
        expected_subjects(
            resource,
            lines.as_deref().unwrap_or_default(),
            tuples,
            &mut out,
        )?;
    }
    for stated in &document.expectations {
        state(document, stated, &mut out)?;
    }
    Ok(out)
}

fn assert_each(
    lines: &[Spanned<String>],
    want: Decision,
    says: Option<&Arc<str>>,
    out: &mut Vec<Expectation>,
) -> Claims {
    for line in lines {
        out.push(assertion(line, want, says)?);
    }
    Ok(())
}

/// `resource#permission@subject`, or that and ` with {json}`.
fn assertion(
    line: &Spanned<String>,
    want: Decision,
    says: Option<&Arc<str>>,
) -> Result<Expectation, Problem> {
    let at = |message: String| Problem::at_location(line.defined, message);
    let (question, context) = match line.value.split_once(" with ") {
        None => (line.value.as_str(), Context::new()),
        Some((question, json)) => {
            let context = serde_json::from_str(json)
                .map_err(|error| at(format!("what follows \"with\" is no JSON object: {error}")))?;
            (question, context)
        }
    };
    let tuple: Tuple = question
        .trim()
        .parse()
        .map_err(|bad| at(format!("{bad}")))?;
    if tuple.caveat.is_some() || tuple.expires_at.is_some() {
        return Err(at(format!(
            "{question:?} is a question and takes neither caveat nor expiry"
        )));
    }
    Ok(Expectation {
        line: number(line.defined.line()),
        column: number(line.defined.column()),
        says: says.cloned(),
        resource: tuple.resource,
        permission: tuple.relation,
        subject: tuple.subject,
        context: Arc::new(context),
        want,
        locked: false,
    })
}

fn state(document: &Document, stated: &Stated, out: &mut Vec<Expectation>) -> Claims {
    let says: Arc<str> = stated.says.value.as_str().into();
    let claimed = Claimed {
        allowed: &stated.allowed,
        conditional: &stated.conditional,
        denied: &stated.denied,
        locked: &[],
        subject: stated.subject.as_ref(),
        may: &stated.may,
    };
    let place = stated.says.defined;
    let before = out.len();
    claims(document, &claimed, &says, place, out)?;
    if out.len() == before {
        return Err(Problem::at_location(
            place,
            "nothing is expected here; give allowed, denied, or subject and may",
        ));
    }
    Ok(())
}

/// What is claimed in one place of a file.
pub(super) struct Claimed<'a> {
    pub(super) allowed: &'a [Spanned<String>],
    pub(super) conditional: &'a [Spanned<String>],
    pub(super) denied: &'a [Spanned<String>],
    /// Denied by locks, without which it would be allowed.
    pub(super) locked: &'a [Spanned<String>],
    pub(super) subject: Option<&'a Spanned<String>>,
    pub(super) may: &'a May,
}

/// Each claim as an expectation that stands for the sentence `says`.
pub(super) fn claims(
    document: &Document,
    claimed: &Claimed<'_>,
    says: &Arc<str>,
    place: Location,
    out: &mut Vec<Expectation>,
) -> Claims {
    assert_each(claimed.allowed, Decision::Allowed, Some(says), out)?;
    assert_each(claimed.conditional, Decision::Conditional, Some(says), out)?;
    assert_each(claimed.denied, Decision::Denied, Some(says), out)?;
    for line in claimed.locked {
        out.push(Expectation {
            locked: true,
            ..assertion(line, Decision::Denied, Some(says))?
        });
    }
    match claimed.subject {
        Some(subject) => may(document, claimed.may, subject, says, out),
        None if claimed.may.is_empty() => Ok(()),
        None => Err(Problem::at_location(
            place,
            "`may` needs the `subject` that it is about",
        )),
    }
}

fn may(
    document: &Document,
    may: &May,
    subject: &Spanned<String>,
    says: &Arc<str>,
    out: &mut Vec<Expectation>,
) -> Claims {
    let subject: Subject = (subject.value.parse())
        .map_err(|bad| Problem::at_location(subject.defined, format!("{bad}")))?;
    let mut rows: Vec<_> = may.iter().collect();
    rows.sort_by_key(|(_, extent)| (extent.defined.line(), extent.defined.column()));
    for (resource, extent) in rows {
        let at = |message: String| Problem::at_location(extent.defined, message);
        let resource: Object = resource.parse().map_err(|bad| at(format!("{bad}")))?;
        let Some(columns) = document.permissions.get(resource.kind()) else {
            let kind = resource.kind();
            return Err(at(format!(
                "`permissions` does not list those of {kind:?} that count here"
            )));
        };
        let granted = granted(columns, &extent.value).map_err(at)?;
        out.extend(columns.iter().map(|permission| Expectation {
            line: number(extent.defined.line()),
            column: number(extent.defined.column()),
            says: Some(says.clone()),
            resource: resource.clone(),
            permission: permission.as_str().into(),
            subject: subject.clone(),
            context: Arc::default(),
            want: match granted.contains(permission.as_str()) {
                true => Decision::Allowed,
                false => Decision::Denied,
            },
            locked: false,
        }));
    }
    Ok(())
}

fn granted<'a>(columns: &'a [String], extent: &'a Extent) -> Result<BTreeSet<&'a str>, String> {
    let listed = match extent {
        Extent::Word(word) if word == "everything" => columns,
        Extent::Word(word) if word == "nothing" => &[],
        Extent::Word(word) => {
            return Err(format!(
                "{word:?} is neither \"everything\" nor \"nothing\" nor a list"
            ));
        }
        Extent::List(list) => list,
    };
    if let Some(stray) = listed.iter().find(|name| !columns.contains(name)) {
        return Err(format!("{stray:?} is not among the type's `permissions`"));
    }
    Ok(listed.iter().map(String::as_str).collect())
}

/// SpiceDB's `validation`: the lines name all subjects that there are. Of the subjects that the
/// tuples name, every other one is expected to be denied, unless a wildcard covers its type.
fn expected_subjects(
    question: &str,
    lines: &[Spanned<String>],
    tuples: &[Placed<Tuple>],
    out: &mut Vec<Expectation>,
) -> Claims {
    let mut named = BTreeSet::new();
    let place = (lines.first()).map_or(Location::UNKNOWN, |line| line.defined);
    for line in lines {
        for (subject, want) in expected_line(line)? {
            named.insert(subject.clone());
            out.push(assertion_about(question, &subject, want, line)?);
        }
    }
    let wildcards: BTreeSet<String> = (named.iter().filter(|s| s.as_ref().is_wildcard()))
        .map(|subject| subject.kind().to_owned())
        .collect();
    let others: BTreeSet<&Subject> = (tuples.iter().map(|tuple| &tuple.value.subject))
        .filter(|subject| subject.relation().is_none() && !subject.as_ref().is_wildcard())
        .filter(|subject| !named.contains(subject) && !wildcards.contains(subject.kind()))
        .filter(|subject| !named_type_is_absent(&named, subject))
        .collect();
    for subject in others {
        let line = Spanned::new(String::new(), place, place);
        out.push(assertion_about(question, subject, Decision::Denied, &line)?);
    }
    Ok(())
}

/// Types of which no line speaks are not judged: arrows make objects such as folders "subjects" of
/// tuples without anybody asking about them.
fn named_type_is_absent(named: &BTreeSet<Subject>, subject: &Subject) -> bool {
    !named.is_empty() && !named.iter().any(|other| other.kind() == subject.kind())
}

fn assertion_about(
    question: &str,
    subject: &Subject,
    want: Decision,
    line: &Spanned<String>,
) -> Result<Expectation, Problem> {
    let text = Spanned::new(
        format!("{question}@{subject}"),
        line.referenced,
        line.defined,
    );
    assertion(&text, want, None)
}

/// `[user:tom] is <doc:a#viewer>`, `[user:tom[...]]` where it is conditional, and
/// `[user:* - {user:ann, user:bob}]` with its exceptions.
fn expected_line(line: &Spanned<String>) -> Result<Vec<(Subject, Decision)>, Problem> {
    let bad = || {
        let text = &line.value;
        let message =
            format!("{text:?} names no subject; expected such as \"[user:tom] is <doc:a#viewer>\"");
        Problem::at_location(line.defined, message)
    };
    let bracketed = line.value.split(" is ").next().unwrap_or_default().trim();
    let inner = bracketed
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let (subject, except) = match inner.ok_or_else(bad)?.split_once(" - {") {
        None => (inner.ok_or_else(bad)?, ""),
        Some((subject, except)) => (subject, except.strip_suffix('}').ok_or_else(bad)?),
    };
    let mut subjects = Vec::new();
    let names = (except.split(',').map(str::trim)).filter(|name| !name.is_empty());
    for (name, plain) in std::iter::once((subject, Decision::Allowed))
        .chain(names.map(|name| (name, Decision::Denied)))
    {
        let (name, decision) = match name.strip_suffix("[...]") {
            Some(name) => (name, Decision::Conditional),
            None => (name, plain),
        };
        subjects.push((name.trim().parse().map_err(|_| bad())?, decision));
    }
    Ok(subjects)
}
