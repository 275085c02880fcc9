//! Explanations as responses.

use super::answers::decision;
use super::{answers, proto, to_tuple, values};
use crate::eval::{Explanation, Node, Operator, Suggestion};
use crate::revision::Token;
use crate::state::HeldLock;
use crate::time::Timestamp;

/// Why a check answers as it does; `now` is the server's time.
pub fn explanation(from: Explanation, at: Token, now: Timestamp) -> proto::ExplainResponse {
    let Explanation {
        answer,
        root,
        text,
        suggestion,
    } = from;
    proto::ExplainResponse {
        response: Some(answers::check(answer, Some(at), || now)),
        root: Some(node(root)),
        text,
        suggestion: suggestion.map(suggested),
    }
}

// The depth of a tree is bounded where it is made.
fn node(from: Node) -> proto::ExplainNode {
    let Node {
        resource,
        permission,
        operator,
        result,
        tuples,
        children,
        caveat,
        missing_context,
        locks,
        hidden: _,
    } = from;
    proto::ExplainNode {
        resource,
        permission,
        operator: operator_name(operator).to_owned(),
        result: decision(result).into(),
        tuples: tuples.iter().map(to_tuple).collect(),
        children: children.into_iter().map(node).collect(),
        caveat: caveat.map_or_else(String::new, |caveat| caveat.to_string()),
        missing_context: missing_context.iter().map(ToString::to_string).collect(),
        locks: locks.iter().map(|lock| lock_ref(lock)).collect(),
    }
}

fn operator_name(operator: Operator) -> &'static str {
    match operator {
        Operator::Relation => "relation",
        Operator::Union => "union",
        Operator::Intersection => "intersection",
        Operator::Exclusion => "exclusion",
        Operator::Arrow => "arrow",
        Operator::Lock => "lock",
        Operator::Caveat => "caveat",
        Operator::Cycle => "cycle",
    }
}

fn lock_ref(lock: &HeldLock) -> proto::LockRef {
    let actor = lock.actor.as_ref();
    proto::LockRef {
        lock_id: lock.id.to_string(),
        mode: lock.mode.to_string(),
        held_on: lock.resource.to_string(),
        reason: lock.reason.to_string(),
        expires_at: lock.expires_at.map(values::to_timestamp),
        actor: actor.map_or_else(String::new, ToString::to_string),
    }
}

fn suggested(from: Suggestion) -> proto::Suggestion {
    use proto::suggestion::Change;
    let change = match from {
        Suggestion::Grant(tuple) => Change::Grant(to_tuple(&tuple)),
        Suggestion::Revoke(tuple) => Change::Revoke(to_tuple(&tuple)),
        Suggestion::Unlock(id) => Change::Unlock(id.to_string()),
        Suggestion::Assign {
            role,
            subject,
            resource,
        } => Change::Assign(proto::AssignRoleRequest {
            role: role.to_string(),
            subject: subject.to_string(),
            resource,
            ..proto::AssignRoleRequest::default()
        }),
    };
    proto::Suggestion {
        change: Some(change),
    }
}
