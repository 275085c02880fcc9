//! Refusals of rules, locks and roles.

use super::{Failure, Reason, Shape, reason};
use crate::plan::Refusal;
use crate::rules::{Denied, Needed, Sealed, Violation};

/// A rule on writes: its metadata names the rule, where it was judged, and what it needed.
pub(super) fn violated(violation: Violation, message: &str, shape: Shape<'_>) -> Failure {
    let failure = |reason: Reason| Failure::new(reason, message);
    match violation {
        Violation::Denied(denied) => {
            let Denied {
                update,
                actor,
                deed,
                resource,
                what,
                needed,
            } = denied;
            let failure = failure(reason::ACTOR_NOT_ALLOWED)
                .at_some(update.map(|place| shape.update(place)))
                .with("actor", actor)
                .with("deed", deed)
                .with("resource", resource)
                .with("relation", what);
            let Some(needed) = needed else {
                return failure;
            };
            let Needed {
                rule,
                expression,
                through,
                holders,
            } = needed;
            failure
                .with("rule", rule)
                .with("needed", expression)
                .with_some("through", through)
                .with_some("held_by", (!holders.is_empty()).then(|| holders.join(", ")))
        }
        Violation::FilterDenied { actor } => failure(reason::ACTOR_NOT_ALLOWED)
            .at("filter")
            .with("actor", actor),
        Violation::RequirementNotMet {
            update,
            tuple,
            subject,
            resource,
            relation,
            needed,
        } => failure(reason::REQUIREMENT_NOT_MET)
            .at_some(update.map(|place| shape.update(place)))
            .with("tuple", tuple)
            .with("subject", subject)
            .with("resource", resource)
            .with("relation", relation)
            .with("needed", needed),
        Violation::MinimumViolated {
            resource,
            relation,
            min,
            left,
        } => failure(reason::MINIMUM_VIOLATED)
            .with("resource", resource)
            .with("relation", relation)
            .with("min", min)
            .with("left", left),
        Violation::Sealed(sealed) => {
            let Sealed {
                resource,
                lock,
                way_round,
                no_actor: _,
                needed,
            } = *sealed;
            failure(reason::SEALED)
                .with("resource", resource)
                .with("lock_id", &lock.id)
                .with("mode", &lock.mode)
                .with("held_on", &lock.resource)
                .with("reason", &lock.reason)
                .with_some("expires_at", lock.expires_at)
                .with_some("tuple", way_round)
                .with_some("needed", needed)
        }
        Violation::TooComplex {
            rule,
            resource,
            limit,
        } => failure(reason::TOO_COMPLEX)
            .with("rule", rule)
            .with("resource", resource)
            .with("limit", limit),
    }
}

/// Refusals that only calls about locks can meet.
pub(super) fn of_lock(refusal: Refusal, message: &str) -> Failure {
    let failure = |reason: Reason| Failure::new(reason, message);
    match refusal {
        Refusal::UnknownLockMode {
            kind,
            mode,
            nearest,
            known,
        } => failure(reason::UNKNOWN_LOCK_MODE)
            .at("mode")
            .with("type", kind)
            .with("mode", mode)
            .with_some("nearest", nearest)
            .with("known", known.join(", ")),
        Refusal::ReasonRequired => failure(reason::REASON_REQUIRED).at("options.reason"),
        Refusal::TtlInvalid(_) => failure(reason::TTL_INVALID).at("ttl"),
        Refusal::LockExists(lock) => failure(reason::LOCK_EXISTS)
            .at("lock_id")
            .with("lock_id", &lock.id)
            .with("resource", &lock.resource)
            .with("mode", &lock.mode),
        Refusal::LockNotFound(id) => failure(reason::LOCK_NOT_FOUND)
            .at("lock_id")
            .with("lock_id", id),
        _ => failure(reason::INTERNAL),
    }
}

/// Refusals that only calls about roles, and schemas that have some, can meet.
pub(super) fn of_role(refusal: Refusal, message: &str) -> Failure {
    let failure = |reason: Reason| Failure::new(reason, message);
    match refusal {
        Refusal::RoleExists(role) => failure(reason::ROLE_EXISTS).at("key").with("role", role),
        Refusal::RoleNotFound { role, nearest } => failure(reason::ROLE_NOT_FOUND)
            .at("role")
            .with("role", role)
            .with_some("nearest", nearest),
        Refusal::RoleBuiltin { role, .. } => {
            failure(reason::ROLE_BUILTIN).at("role").with("role", role)
        }
        Refusal::RoleKeyTaken { role } => failure(reason::ROLE_KEY_TAKEN)
            .at("schema")
            .with("role", role),
        Refusal::UnknownPermission {
            field,
            permission,
            nearest,
        } => failure(reason::UNKNOWN_PERMISSION)
            .at(field)
            .with("permission", permission)
            .with_some("nearest", nearest),
        Refusal::NotIncludable {
            field,
            permission,
            roles,
        } => failure(reason::PERMISSION_NOT_INCLUDABLE)
            .at(field)
            .with("permission", permission)
            .with("roles", roles),
        _ => failure(reason::INTERNAL),
    }
}
