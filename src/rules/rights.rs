//! `granted by` and `revoked by`: whether an actor may write a tuple.

use crate::eval::{self, Decision, Judged};
use crate::schema::{MemberId, Relation};
use crate::state::State;
use crate::tuple::{Object, Subject, Tuple};

use super::violation::{Denied, Needed};
use super::{Act, Broken, Judgements, Rules, Target, Touch, Violation, When};

/// Of how many subjects a refusal says that they have the right.
const HOLDERS: usize = 3;
/// How many subjects are asked at most to find these, and how many tuples are followed.
const ASKED: usize = 64;
const FOLLOWED: usize = 1_000;
/// Tuple reads for each of them: who is far away need not be named.
const WORK: u64 = 2_000;

impl Rules<'_> {
    /// Judges every update, those that change nothing too. A write without an actor is trusted.
    pub(crate) fn rights(&self) -> Result<(), Broken> {
        let Some(actor) = self.actor else {
            return Ok(());
        };
        let mut judgements = self.of(actor);
        self.touches
            .iter()
            .try_for_each(|touch| self.right(&mut judgements, touch, actor))
    }

    pub(super) fn right(
        &self,
        judgements: &mut Judgements<'_>,
        touch: &Touch<'_>,
        actor: &Subject,
    ) -> Result<(), Broken> {
        let member = match &touch.target {
            Target::Relation(member) => *member,
            Target::Assignment(role, roles) => {
                return self.assignment_right(judgements, touch, (role, *roles), actor);
            }
        };
        let relation = self.relation(touch);
        let granted_by = relation.and_then(|relation| relation.granted_by);
        if granted_by.is_some() && is_own(touch, actor) && !self.schema.reach().keeps_out(member) {
            return Ok(());
        }
        let resource = &touch.tuple.resource;
        // Without `granted by` trusted callers alone write, whatever `revoked by` says.
        let Some(granted_by) = granted_by else {
            return Err(denied(touch, resource, actor, None));
        };
        let rule = match touch.act {
            Act::Grant => granted_by,
            Act::Revoke => relation.and_then(revoke_rule).unwrap_or(granted_by),
        };
        let when = self.when(resource);
        let walks = self.schema.reach().walks(self.schema, rule, member);
        // Of a new resource with parents the second judgement is the only one: all of its parents
        // are of this write's making.
        let alone_is_enough = walks && when == When::After;
        if !alone_is_enough && !judgements.has(rule, resource, when)? {
            let needed = self.needed(rule, resource, actor, self.state_of(when));
            return Err(denied(touch, resource, actor, Some(needed)));
        }
        if walks {
            return self.right_by_this_alone(judgements, rule, touch, (actor, when));
        }
        Ok(())
    }

    /// On which state a right on a resource is judged.
    pub(super) fn when(&self, resource: &Object) -> When {
        // Whatever stands names it, live or expired.
        match self.state.mentions(resource.as_ref()) {
            true => When::Before,
            false => When::After,
        }
    }

    /// Judges with the relation that is written holding the written tuple and no other, so that
    /// each parent is asked for itself. Of a revoked tuple its name alone counts, so that the
    /// answer says nothing about whether, and how, it stands.
    fn right_by_this_alone(
        &self,
        judgements: &mut Judgements<'_>,
        rule: MemberId,
        touch: &Touch<'_>,
        (actor, when): (&Subject, When),
    ) -> Result<(), Broken> {
        let base = self.state_of(when);
        let resource = &touch.tuple.resource;
        let alone = base.with_only(touch.tuple, touch.act == Act::Grant);
        let has = match &alone {
            None => judgements.has(rule, resource, when)?,
            Some(alone) => judgements.has_alone(rule, resource, (alone, when))?,
        };
        if has {
            return Ok(());
        }
        let mut needed = self.needed(rule, resource, actor, alone.as_ref().unwrap_or(base));
        needed.through = (!touch.found).then(|| touch.tuple.subject.to_string());
        Err(denied(touch, resource, actor, Some(needed)))
    }

    pub(super) fn needed(
        &self,
        rule: MemberId,
        resource: &Object,
        actor: &Subject,
        on: &State,
    ) -> Needed {
        Needed {
            rule: self.schema.member(rule).name.to_string(),
            expression: self.schema.text_of(rule),
            through: None,
            holders: self.holders(rule, resource, actor, on),
        }
    }

    /// A few of those who have a rule on a resource.
    pub(super) fn holders(
        &self,
        rule: MemberId,
        resource: &Object,
        actor: &Subject,
        on: &State,
    ) -> Vec<String> {
        let candidates = on.subjects_around(resource, actor.kind(), FOLLOWED);
        let has = |subject: &Subject| {
            let judged = Judged {
                subject: subject.as_ref(),
                member: rule,
                resource: resource.as_ref(),
                free: false,
            };
            eval::judge(on, &judged, self.now, WORK) == Ok(Decision::Allowed)
        };
        let holders = candidates.into_iter().take(ASKED).filter(has);
        let mut holders: Vec<String> = holders.take(HOLDERS).map(|who| who.to_string()).collect();
        holders.sort();
        holders
    }
}

/// Whether an actor gives up what is its own: what it has may be given up, but for what keeps it
/// out of something.
pub(super) fn is_own(touch: &Touch<'_>, actor: &Subject) -> bool {
    touch.act == Act::Revoke && touch.tuple.subject == *actor
}

/// The rule by which tuples of a relation are taken away; without `granted by` trusted callers
/// alone write, whatever `revoked by` says.
pub(super) fn revoke_rule(relation: &Relation) -> Option<MemberId> {
    let granted_by = relation.granted_by?;
    Some(relation.revoked_by.unwrap_or(granted_by))
}

/// `resource` is where the rule is judged.
pub(super) fn denied(
    touch: &Touch<'_>,
    resource: &Object,
    actor: &Subject,
    needed: Option<Needed>,
) -> Broken {
    let what = match &touch.target {
        Target::Assignment(role, _) if touch.found => role.block(),
        _ => &touch.tuple.relation,
    };
    Box::new(Violation::Denied(Denied {
        update: touch.update,
        actor: actor.clone(),
        deed: deed(touch),
        resource: resource.clone(),
        what: what.to_owned(),
        needed,
    }))
}

fn deed(touch: &Touch<'_>) -> String {
    let tuple = touch.tuple;
    let Tuple {
        resource, subject, ..
    } = tuple;
    match (touch.act, &touch.target) {
        (Act::Revoke, Target::Relation(_)) if touch.found => {
            format!("revoke tuples of {resource}#{}", tuple.relation)
        }
        (Act::Revoke, Target::Assignment(..)) if touch.found => {
            format!("unassign roles on {resource}")
        }
        (Act::Grant, Target::Relation(_)) => format!("grant {}", tuple.name()),
        (Act::Revoke, Target::Relation(_)) => format!("revoke {}", tuple.name()),
        (Act::Grant, Target::Assignment(role, _)) => {
            format!("assign {role} on {resource} to {subject}")
        }
        (Act::Revoke, Target::Assignment(role, _)) => {
            format!("unassign {role} on {resource} from {subject}")
        }
    }
}
