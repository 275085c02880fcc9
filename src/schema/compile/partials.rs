//! Partials: hides them by putting their statements into the definitions that include them.

use std::collections::{HashMap, HashSet};

use super::super::Doc;
use super::super::ast::{Definition, Item, Name, Statement, Tree};
use super::super::diagnostic::{Report, nearest};

/// A definition with the statements of its partials where they were included.
pub(super) struct Flat<'t> {
    pub(super) name: &'t Name,
    pub(super) doc: &'t Doc,
    pub(super) statements: Vec<&'t Statement>,
}

/// The most statements that a schema may have, each partial counted where it is included.
const MAX_STATEMENTS: usize = 200_000;

type Partials<'t> = HashMap<&'t str, &'t Definition>;

/// `None` after an error that leaves nothing to compile.
pub(super) fn expand<'t>(tree: &'t Tree, report: &mut Report<'_>) -> Option<Vec<Flat<'t>>> {
    let mut partials = Partials::new();
    for item in &tree.items {
        if let Item::Partial(partial) = item
            && partials.insert(&partial.name.text, partial).is_some()
        {
            let message = format!("a second partial `{}`", partial.name.text);
            report.error(partial.name.span, "duplicate", message);
        }
    }
    refuse_cycles(tree, &partials, report)?;
    let mut left = MAX_STATEMENTS;
    let mut flat = Vec::new();
    for item in &tree.items {
        if let Item::Definition(definition) = item {
            flat.push(flatten(definition, &partials, &mut left, report)?);
        }
    }
    Some(flat)
}

fn includes(definition: &Definition) -> impl Iterator<Item = &Name> {
    definition.statements.iter().filter_map(|s| match s {
        Statement::Include(name) => Some(name),
        _ => None,
    })
}

/// Reports unknown partials and those that include themselves; an explicit stack, since a chain
/// of partials may be as long as the text.
fn refuse_cycles(tree: &Tree, partials: &Partials<'_>, report: &mut Report<'_>) -> Option<()> {
    let mut done: HashSet<&str> = HashSet::new();
    for item in &tree.items {
        let (Item::Partial(root) | Item::Definition(root)) = item else {
            continue;
        };
        let mut path: Vec<(&str, Vec<&Name>)> = vec![("", includes(root).collect())];
        if matches!(item, Item::Partial(_)) {
            path = vec![(&root.name.text, includes(root).collect())];
        }
        let mut open: HashSet<&str> = path.iter().map(|(name, _)| *name).collect();
        while let Some((name, waiting)) = path.last_mut() {
            let Some(next) = waiting.pop() else {
                done.insert(name);
                open.remove(name);
                path.pop();
                continue;
            };
            let Some((key, partial)) = partials.get_key_value(next.text.as_str()) else {
                let near = nearest(&next.text, partials.keys().copied());
                let message = format!("there is no partial `{}`", next.text);
                report.error(next.span, "unknown-name", message).nearest = near;
                continue;
            };
            if open.contains(key) {
                let message = format!("the partial `{}` includes itself", next.text);
                report.error(next.span, "cycle", message);
                return None;
            }
            if !done.contains(key) {
                open.insert(key);
                path.push((key, includes(partial).collect()));
            }
        }
    }
    Some(())
}

/// Each partial counts once in a definition, however many ways lead to it.
fn flatten<'t>(
    definition: &'t Definition,
    partials: &Partials<'t>,
    left: &mut usize,
    report: &mut Report<'_>,
) -> Option<Flat<'t>> {
    let mut statements = Vec::new();
    let mut taken: HashSet<&str> = HashSet::new();
    let mut path = vec![definition.statements.iter()];
    while let Some(waiting) = path.last_mut() {
        let Some(statement) = waiting.next() else {
            path.pop();
            continue;
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            let message = format!("more than {MAX_STATEMENTS} statements, partials included");
            report.error(definition.name.span, "too-many", message);
            return None;
        }
        match statement {
            Statement::Include(name) if !taken.insert(&name.text) => {}
            Statement::Include(name) => {
                let partial = partials.get(name.text.as_str());
                path.extend(partial.map(|partial| partial.statements.iter()));
            }
            _ => statements.push(statement),
        }
    }
    Some(Flat {
        name: &definition.name,
        doc: &definition.doc,
        statements,
    })
}
