//! Patterns of tuples on the command line: a tuple of which any part may be left out.

use crate::api::proto;
use crate::tuple::{is_id, is_relation, is_type_name};

/// What `--help` says about patterns.
pub(super) const SYNTAX: &str = "\
A pattern is a tuple of which parts are left out:

  environment:prod              all tuples of this resource
  environment:prod#guest        those of one relation
  environment:                  those of a type
  environment:prod-*            those of all ids that begin with \"prod-\"
  #guest                        those of a relation, whatever the resource
  @user:bob                     all that name this subject
  @group:it#member              this subject set; @group:it#... only the group itself
  @user:*                       wildcards;  @user:  every subject of the type
  environment:#guest@user:bob   any of these together; `#` before `@` is needed";

/// Parses a pattern; an empty one selects every tuple.
pub(super) fn parse(text: &str) -> Result<proto::TupleFilter, String> {
    let mut filter = proto::TupleFilter::default();
    let (resource, rest) = match text.find(['#', '@']) {
        Some(0) => ("", text),
        Some(_) => text.find('#').map_or((text, ""), |at| text.split_at(at)),
        None => (text, ""),
    };
    if !resource.is_empty() {
        take_resource(&mut filter, resource)?;
    }
    let (relation, subject) = match rest.strip_prefix('#') {
        None => ("", rest),
        Some(rest) => rest.find('@').map_or((rest, ""), |at| rest.split_at(at)),
    };
    if !relation.is_empty() && !is_relation(relation) {
        return Err(format!("{relation:?} is no name of a relation"));
    }
    relation.clone_into(&mut filter.relation);
    if let Some(subject) = subject.strip_prefix('@') {
        take_subject(&mut filter, subject)?;
    }
    Ok(filter)
}

fn take_resource(filter: &mut proto::TupleFilter, text: &str) -> Result<(), String> {
    let (kind, id) = split(text)?;
    kind.clone_into(&mut filter.resource_type);
    match id.strip_suffix('*') {
        Some(prefix) => prefix.clone_into(&mut filter.resource_id_prefix),
        None => id.clone_into(&mut filter.resource_id),
    }
    let part = id.strip_suffix('*').unwrap_or(id);
    check_id(part)
}

fn take_subject(filter: &mut proto::TupleFilter, text: &str) -> Result<(), String> {
    let (object, relation) = match text.split_once('#') {
        None => (text, None),
        Some((object, "...")) => (object, Some("")),
        Some((object, relation)) if is_relation(relation) => (object, Some(relation)),
        Some((_, relation)) => return Err(format!("{relation:?} is no name of a relation")),
    };
    let (kind, id) = split(object)?;
    kind.clone_into(&mut filter.subject_type);
    id.clone_into(&mut filter.subject_id);
    filter.subject_relation = relation.map(str::to_owned);
    if id == "*" { Ok(()) } else { check_id(id) }
}

fn split(text: &str) -> Result<(&str, &str), String> {
    let hint = "a pattern such as environment:prod#guest, environment: or @user:bob";
    match text.split_once(':') {
        Some((kind, id)) if is_type_name(kind) => Ok((kind, id)),
        Some((kind, _)) => Err(format!("{kind:?} is no name of a type; expected {hint}")),
        None => Err(format!("{text:?} has no ':'; expected {hint}")),
    }
}

fn check_id(id: &str) -> Result<(), String> {
    match id.is_empty() || is_id(id) {
        true => Ok(()),
        false => Err(format!(
            "{id:?} is no id: it is too long, or has a space or a '#'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_tuples_with_parts_left_out() {
        let check = |text: &str, want: [&str; 6], subject_relation: Option<&str>| {
            let have = parse(text);
            let [kind, id, prefix, relation, subject_type, subject_id] = want.map(str::to_owned);
            let want = proto::TupleFilter {
                resource_type: kind,
                resource_id: id,
                resource_id_prefix: prefix,
                relation,
                subject_type,
                subject_id,
                subject_relation: subject_relation.map(str::to_owned),
                ..proto::TupleFilter::default()
            };
            assert_eq!(have, Ok(want), "{text}");
        };
        check("", ["", "", "", "", "", ""], None);
        check("env:", ["env", "", "", "", "", ""], None);
        check("env:prod", ["env", "prod", "", "", "", ""], None);
        check("env:prod-*", ["env", "", "prod-", "", "", ""], None);
        check(
            "env:a@b.c#guest",
            ["env", "a@b.c", "", "guest", "", ""],
            None,
        );
        check(
            "env:prod#@user:bob",
            ["env", "prod", "", "", "user", "bob"],
            None,
        );
        check("#guest", ["", "", "", "guest", "", ""], None);
        check(
            "@user:bob@x.org",
            ["", "", "", "", "user", "bob@x.org"],
            None,
        );
        check(
            "@group:it#member",
            ["", "", "", "", "group", "it"],
            Some("member"),
        );
        check("@group:it#...", ["", "", "", "", "group", "it"], Some(""));
        check("@user:*", ["", "", "", "", "user", "*"], None);
        check("@user:", ["", "", "", "", "user", ""], None);
        check(
            "env:#guest@user:bob",
            ["env", "", "", "guest", "user", "bob"],
            None,
        );
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "env",
            "@bob",
            "env:prod#gu est",
            "e v:a",
            "env:a b",
            "@group:it#",
            "env:#x@bob",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
