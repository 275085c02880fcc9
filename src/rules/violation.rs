//! Which rule a write broke, and what would have been needed.

use std::fmt;
use std::sync::Arc;

use crate::state::HeldLock;
use crate::tuple::{Object, Subject};

/// Which rule a write broke.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Violation {
    /// The actor has no right to it.
    #[error("{0}")]
    Denied(Denied),
    /// An actor's filter names no single resource, and something that it selects is not the actor's
    /// to take away, or nothing is selected: it hears the same of both.
    #[error(
        "{actor} may not revoke by this filter: without a resource's type and id it is answered only \
         where it selects something, and {actor} may take away all of that; name the resource"
    )]
    FilterDenied {
        /// Who may not.
        actor: Subject,
    },
    /// The subject of a granted tuple lacks what the relation requires of it.
    #[error(
        "{tuple}: `requires {needed}` is not met: {subject} does not have it on {resource}, after \
         this write either; grant that first, or in the same write"
    )]
    RequirementNotMet {
        /// The place of its update, from 0.
        update: Option<usize>,
        /// The tuple, without caveat and expiry.
        tuple: String,
        /// Its subject.
        subject: String,
        /// Its resource.
        resource: String,
        /// Its relation.
        relation: String,
        /// What the subject needs there.
        needed: String,
    },
    /// Too few direct subjects would be left.
    #[error(
        "{resource}#{relation} has `min {min}` and would be left with {left}: only direct \
         subjects without caveat and expiry count; grant it to somebody else first"
    )]
    MinimumViolated {
        /// The resource.
        resource: String,
        /// The relation.
        relation: String,
        /// How many it has to keep.
        min: u64,
        /// How many would be left.
        left: u64,
    },
    /// A lock seals a resource that is written, or arrives by a tuple that is taken away.
    #[error("{0}")]
    Sealed(Box<Sealed>),
    /// A rule needs more tuple reads than it may take.
    #[error("judging `{rule}` on {resource} needs more than {limit} tuple reads")]
    TooComplex {
        /// The rule.
        rule: String,
        /// Where it is judged.
        resource: String,
        /// The limit.
        limit: u64,
    },
}

/// What an actor may not do.
#[derive(Clone, Debug, PartialEq)]
pub struct Denied {
    /// The place of its update, from 0; `None` where the request names no tuples.
    pub update: Option<usize>,
    /// Who may not.
    pub actor: Subject,
    /// What it may not do: `grant organization:acme#owner@user:bob`.
    pub deed: String,
    /// The resource on which the rule is judged.
    pub resource: Object,
    /// The relation, role or lock mode that it is about.
    pub what: String,
    /// What it would need; `None` where nothing helps but trust.
    pub needed: Option<Needed>,
}

/// A rule that an actor does not pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// The rule, such as `owner (granted by)`.
    pub rule: String,
    /// What it says, such as `own`.
    pub expression: String,
    /// The parent through which alone it has to hold.
    pub through: Option<String>,
    /// A few of those who pass it.
    pub holders: Vec<String>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            actor,
            deed,
            resource,
            what,
            needed,
            ..
        } = self;
        write!(f, "{actor} may not {deed}: ")?;
        let Some(needed) = needed else {
            return write!(
                f,
                "the schema says nobody by whom `{what}` of {} is granted, so that only trusted \
                 callers that name no actor write it",
                resource.kind()
            );
        };
        let Needed {
            rule,
            expression,
            through,
            holders,
        } = needed;
        write!(f, "`{rule}` needs `{expression}` on {resource}")?;
        if let Some(parent) = through {
            write!(f, " by way of {parent} alone")?;
        }
        match holders.as_slice() {
            [] => Ok(()),
            [one] => write!(f, "; {one} has that"),
            [all @ .., last] => write!(f, "; {} and {last} have that", all.join(", ")),
        }
    }
}

/// A lock that stands against a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The resource that is written.
    pub resource: String,
    /// The lock.
    pub lock: Arc<HeldLock>,
    /// Whether the write would take away the tuple by which the lock arrives: that one.
    pub way_round: Option<String>,
    /// Whether nobody was named: a seal asks for an actor.
    pub no_actor: bool,
    /// What an actor would need, as the schema says it; `None` where it says nothing.
    pub needed: Option<String>,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            lock,
            way_round,
            no_actor,
            needed,
        } = self;
        let HeldLock {
            id,
            resource: on,
            mode,
            reason,
            expires_at,
            ..
        } = &**lock;
        match way_round {
            None => write!(f, "{resource} is sealed")?,
            Some(tuple) => write!(f, "{tuple} can't be taken away while a lock arrives by it")?,
        }
        write!(f, ": {mode} {id:?} is held on {on} ({reason})")?;
        if let Some(end) = expires_at {
            write!(f, " until {end}")?;
        }
        match (needed, no_actor, way_round) {
            (_, true, _) => f.write_str("; a write has to name an actor that passes it"),
            (Some(needed), _, None) => write!(f, "; it lets pass whoever has `{needed}`"),
            (Some(needed), _, Some(_)) => write!(f, "; it may be lifted by whoever has `{needed}`"),
            (None, _, None) => f.write_str("; it lets nobody pass"),
            (None, _, Some(_)) => f.write_str("; only trusted callers may lift it"),
        }
    }
}
