//! One change that would allow what is denied: tried, not guessed.
//!
//! Candidates are the grants that the search from the resource's side can come to, the least
//! powerful relation first, and the revokes of what stands against it. Each is judged by the
//! checking machine on an index that has it.

use std::sync::Arc;
use std::time::Duration;

use crate::index::NodeId;
use crate::schema::program::Op;
use crate::schema::{MemberId, Schema};
use crate::state::imagined;
use crate::time::Timestamp;
use crate::tuple::{Object, ObjectRef, Tuple};

use super::super::check::{check, known_member, known_subject, known_type, resource_node};
use super::super::climb::Climb;
use super::super::closure::Ground;
use super::super::expansion::{Expansion, Form};
use super::super::{Answer, Decision, Facts, Limits, Question};
use super::{Suggestion, object_text};

/// So many changes are tried at most.
const TRIES: usize = 100;
/// Each may read so many tuples.
const WORK: u64 = 10_000;
/// A relation whose tuples must end is suggested with this.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A change that would allow it, where one of those that were tried does.
pub(super) fn suggestion(
    facts: Facts<'_>,
    question: &Question<'_>,
    denied: &Answer,
    stops: &[Tuple],
    now: Timestamp,
    limits: &Limits,
) -> Option<Suggestion> {
    let limits = Limits {
        work: limits.work.min(WORK),
        ..*limits
    };
    let allows = |tuple: &Tuple, granted: bool| {
        let Some(index) = imagined(facts.index, tuple, granted) else {
            return false;
        };
        let facts = Facts {
            index: &index,
            ..facts
        };
        let answer = check(facts, question, now, &limits);
        answer.is_ok_and(|answer| answer.decision == Decision::Allowed)
    };
    for lock in &denied.locks {
        let hash = |object: &Object| {
            crate::index::object_hash(facts.index.seed(), object.kind(), object.id())
        };
        let locks = facts.locks.without(hash, &lock.id);
        let facts = Facts {
            locks: &locks,
            ..facts
        };
        let answer = check(facts, question, now, &limits);
        if answer.is_ok_and(|answer| answer.decision == Decision::Allowed) {
            return Some(Suggestion::Unlock(Arc::clone(&lock.id)));
        }
    }
    let mut tries = stops.iter().take(TRIES);
    if let Some(tuple) = tries.find(|tuple| allows(tuple, false)) {
        return Some(Suggestion::Revoke(tuple.clone()));
    }
    let mut grants = grants(facts, question, now, &limits).into_iter();
    let grant = grants.find(|tuple| allows(tuple, true));
    grant.map(as_change)
}

/// A tuple of a generated relation is an assignment, which has a call of its own.
fn as_change(tuple: Tuple) -> Suggestion {
    match tuple.relation.split_once('=') {
        None => Suggestion::Grant(tuple),
        Some((block, role)) => Suggestion::Assign {
            role: format!("{block}:{role}").into(),
            subject: tuple.subject,
            resource: tuple.resource.to_string(),
        },
    }
}

/// Tuples that name the subject and could prove it.
fn grants(
    facts: Facts<'_>,
    question: &Question<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Vec<Tuple> {
    let root = |facts: Facts<'_>| {
        let kind = known_type(facts.schema, "resource", question.resource.kind()).ok()?;
        let member = known_member(facts.schema, kind, question.permission).ok()?;
        let (subject, relation) = known_subject(facts.schema, question.subject).ok()?;
        let node = resource_node(facts.index, kind.id, question.subject, question.resource);
        Some((
            (node, member),
            Form {
                kind: subject.id,
                relation,
            },
        ))
    };
    let Some((root, form)) = root(facts) else {
        return Vec::new();
    };
    let ground = Ground::of(facts, now);
    let Ok(expansion) = Expansion::of(ground, form, root, true, limits.work) else {
        return Vec::new();
    };
    let mut found: Vec<(usize, usize, Tuple)> = Vec::new();
    for (place, (node, member)) in expansion.facts().enumerate() {
        let text = object_text(ground, question, node);
        let Ok(resource) = ObjectRef::parse(&text) else {
            continue;
        };
        for (power, tuple) in assignments(ground, (node, member), resource, question) {
            found.push((power, place, tuple));
        }
        let Some(tuple) = grant(facts.schema, resource, member, question, now) else {
            continue;
        };
        found.push((power(facts.schema, member), place, tuple));
    }
    found.sort_by_key(|(power, place, _)| (*power, *place));
    (found.into_iter().take(TRIES))
        .map(|(_, _, tuple)| tuple)
        .collect()
}

/// The assignments by which the subject would hold a role that gives a permission, each with how
/// many permissions the role has.
fn assignments(
    ground: Ground<'_>,
    (node, member): (NodeId, MemberId),
    resource: ObjectRef<'_>,
    question: &Question<'_>,
) -> Vec<(usize, Tuple)> {
    let mut found = Vec::new();
    let schema = ground.schema;
    let kind = schema.member(member).owner;
    for op in &ground.programs.get(member).ops {
        let Op::Roles { roles, which, .. } = *op else {
            continue;
        };
        let Some(block) = schema.roles.get(usize::from(roles.0)) else {
            continue;
        };
        let inherits = |kind| ground.roles_inherit(kind, roles);
        let above = Climb::from(ground, node, kind, inherits, WORK);
        let owners = above.nodes.iter().filter(|(_, kind)| *kind == block.owner);
        for (owner, _) in owners.take(TRIES) {
            let owner = ground.index.id_of(*owner);
            let builtins = block.builtins.iter().map(|builtin| {
                let count = builtin.includes.as_ref().map_or(usize::MAX, Vec::len);
                (count, format!("{}:{owner}/{}", block.name, builtin.name))
            });
            let owned = ground.roles.owned(&block.name, owner);
            let owned = owned.map(|role| (role.permissions.len(), role.role.as_str().to_owned()));
            for (count, role) in builtins.chain(owned).take(TRIES) {
                if !ground.role_means(&role, member, block.sites.member, which) {
                    continue;
                }
                let relation = role.replacen(':', "=", 1);
                if let Ok(tuple) = Tuple::new(resource, &relation, question.subject)
                    && schema.admit_assignment(&tuple).is_ok()
                {
                    found.push((count, tuple));
                }
            }
        }
    }
    found
}

/// The tuple by which the subject would have a relation, where the schema admits one.
fn grant(
    schema: &Schema,
    resource: ObjectRef<'_>,
    member: MemberId,
    question: &Question<'_>,
    now: Timestamp,
) -> Option<Tuple> {
    let member = schema.member(member);
    member.relation()?;
    let mut tuple = Tuple::new(resource, &member.name, question.subject).ok()?;
    if schema.admit(&tuple).is_ok() {
        return Some(tuple);
    }
    tuple.expires_at = Some(now.plus(A_DAY));
    schema.admit(&tuple).is_ok().then_some(tuple)
}

/// How many relations and permissions a relation leads to: the fewer, the less is given away.
fn power(schema: &Schema, member: MemberId) -> usize {
    let programs = schema.programs();
    let all = (0..schema.members.len()).filter_map(|id| u32::try_from(id).ok());
    all.filter(|id| programs.feeds(MemberId(*id)).has(member))
        .count()
}
