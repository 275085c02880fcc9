//! Which rule a write broke, and what would have been needed.

use std::fmt;

use crate::tuple::{Object, Subject};

/// Which rule a write broke.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Violation {
    /// The actor has no right to it.
    #[error("{0}")]
    Denied(Denied),
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
    /// What it may not do.
    pub verb: Verb,
    /// With what: a tuple without caveat and expiry.
    pub what: String,
    /// The resource on which the rule is judged.
    pub resource: Object,
    /// The relation that is written.
    pub relation: String,
    /// What it would need; `None` where nothing helps but trust.
    pub needed: Option<Needed>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A tuple is granted.
    Grant,
    /// A tuple is revoked.
    Revoke,
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

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grant => "grant",
            Self::Revoke => "revoke",
        })
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            actor,
            verb,
            what,
            resource,
            relation,
            needed,
            ..
        } = self;
        write!(f, "{actor} may not {verb} {what}: ")?;
        let Some(needed) = needed else {
            let kind = resource.kind();
            return write!(
                f,
                "{kind}#{relation} says nobody by whom it is granted, so that only trusted callers \
                 that name no actor write it"
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
