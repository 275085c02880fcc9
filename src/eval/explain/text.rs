//! Explanations as a person reads them in a terminal: a line a node, what decided it below.

use crate::schema::{Expr, Schema};

use super::super::{Answer, Decision, Question};
use super::{Node, Operator, Suggestion};

/// The explanation as lines.
pub(super) fn text(
    question: &Question<'_>,
    answer: &Answer,
    root: &Node,
    suggestion: Option<&Suggestion>,
) -> String {
    let Question {
        subject,
        permission,
        resource,
        ..
    } = question;
    let word = match answer.decision {
        Decision::Allowed => "ALLOWED",
        Decision::Denied => "DENIED",
        Decision::Conditional => "CONDITIONAL",
    };
    let mut text = vec![format!("{word}  {subject} {permission} {resource}")];
    if !answer.detail.is_empty() {
        text.push(answer.detail.clone());
    }
    text.push(String::new());
    // Depth is bounded where the tree is made.
    lines(root, 0, &mut text);
    if let Some(suggestion) = suggestion {
        text.push(String::new());
        text.push(format!("This alone would allow it: {}", change(suggestion)));
    }
    text.push(String::new());
    text.join("\n")
}

fn lines(node: &Node, depth: usize, text: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let mark = match node.result {
        Decision::Allowed => '✓',
        Decision::Denied => '✗',
        Decision::Conditional => '?',
    };
    let name = &node.permission;
    text.push(format!("{indent}{mark} {name}{}", note(node)));
    let tuples = node.tuples.iter();
    text.extend(tuples.map(|tuple| format!("{indent}    {tuple}")));
    for lock in &node.locks {
        let (mode, resource, reason) = (&lock.mode, &lock.resource, &lock.reason);
        text.push(format!("{indent}    {mode} held on {resource}: {reason}"));
    }
    for child in &node.children {
        lines(child, depth + 1, text);
    }
    if node.hidden > 0 {
        text.push(format!("{indent}  … and {} more", node.hidden));
    }
}

fn note(node: &Node) -> String {
    let resource = &node.resource;
    match node.operator {
        Operator::Caveat if node.missing_context.is_empty() => " does not hold".to_owned(),
        Operator::Caveat => format!(" needs {}", node.missing_context.join(", ")),
        Operator::Cycle => format!(" on {resource}: stands above already"),
        Operator::Lock if node.result == Decision::Allowed => {
            format!(" on {resource} lets the subject pass")
        }
        Operator::Lock => format!(" on {resource} is locked"),
        Operator::Union if node.children.len() > 1 => format!(" on {resource}: any of"),
        Operator::Intersection => format!(" on {resource}: all of"),
        Operator::Exclusion => format!(" on {resource}: the first without the second"),
        _ if node.tuples.is_empty()
            && node.children.is_empty()
            && node.result == Decision::Denied =>
        {
            format!(" on {resource}: nothing found")
        }
        _ => format!(" on {resource}"),
    }
}

/// A suggestion as a command.
fn change(suggestion: &Suggestion) -> String {
    match suggestion {
        Suggestion::Grant(tuple) => format!("portcullis grant '{tuple}'"),
        Suggestion::Revoke(tuple) => format!("portcullis revoke '{tuple}'"),
        Suggestion::Unlock(id) => format!("portcullis unlock {id}"),
        Suggestion::Assign {
            role,
            subject,
            resource,
        } => format!("portcullis roles assign {role} {subject} {resource}"),
    }
}

/// An expression as the schema has it.
pub(super) fn expression(schema: &Schema, expr: &Expr) -> String {
    let joined = |parts: &[Expr], sign: &str| {
        let parts: Vec<String> = parts.iter().map(|part| operand(schema, part)).collect();
        parts.join(sign)
    };
    let name = |member| schema.member(member).name.to_string();
    let block = |roles: &crate::schema::RolesId| {
        let block = schema.roles.get(usize::from(roles.0));
        block.map_or_else(String::new, |roles| roles.name.to_string())
    };
    match expr {
        Expr::Nil => "nil".to_owned(),
        Expr::Itself => "self".to_owned(),
        Expr::Member(member) => name(*member),
        Expr::Arrow {
            via,
            target,
            all: false,
        } => format!("{}->{}", name(*via), schema.names.rel_name(*target)),
        Expr::Arrow { via, target, .. } => {
            format!("{}.all({})", name(*via), schema.names.rel_name(*target))
        }
        Expr::Backward { via, target } => {
            let kind = schema.names.type_name(schema.member(*via).owner);
            format!("{kind}.{}<-{}", name(*via), name(*target))
        }
        Expr::AnyRole(roles) => format!("any {}", block(roles)),
        Expr::SomeRole(roles) => format!("some {}", block(roles)),
        Expr::Role(roles, key) => format!("{} {key}", block(roles)),
        Expr::Union(parts) => joined(parts, " + "),
        Expr::Intersection(parts) => joined(parts, " & "),
        Expr::Exclusion(left, right) => {
            format!("{} - {}", operand(schema, left), operand(schema, right))
        }
    }
}

fn operand(schema: &Schema, expr: &Expr) -> String {
    let text = expression(schema, expr);
    match expr {
        Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..) => format!("({text})"),
        _ => text,
    }
}
