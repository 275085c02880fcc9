//! `granted by` and `revoked by`: whether an actor may write a tuple.

use crate::eval::{self, Decision, Judged};
use crate::schema::MemberId;
use crate::state::State;
use crate::tuple::{Object, Subject};

use super::violation::{Denied, Needed, Verb};
use super::{Act, Broken, Rules, Touch, Violation, When};

/// Of how many subjects a refusal says that they have the right.
const HOLDERS: usize = 3;
/// How many subjects are asked at most to find these, and how many tuples are followed.
const ASKED: usize = 64;
const FOLLOWED: usize = 1_000;
/// Tuple reads for each of them: who is far away need not be named.
const WORK: u64 = 2_000;

impl<'a> Rules<'a> {
    /// Judges every update, those that change nothing too. A write without an actor is trusted.
    pub(crate) fn rights(&self) -> Result<(), Broken> {
        let Some(actor) = self.actor else {
            return Ok(());
        };
        self.touches
            .iter()
            .try_for_each(|touch| self.right(touch, actor))
    }

    fn right(&self, touch: &Touch<'a>, actor: &'a Subject) -> Result<(), Broken> {
        if self.is_own(touch, actor) {
            return Ok(());
        }
        let resource = &touch.tuple.resource;
        let relation = self.relation(touch.member);
        let rule = relation.and_then(|relation| match touch.act {
            Act::Grant => relation.granted_by,
            Act::Revoke => relation.revoked_by.or(relation.granted_by),
        });
        let Some(rule) = rule else {
            return Err(denied(touch, actor, None));
        };
        let when = match self.is_new(resource) {
            true => When::After,
            false => When::Before,
        };
        let walks = self.schema.reach().walks(self.schema, rule, touch.member);
        // Of a new resource with parents the second judgement is the only one: all of its parents
        // are of this write's making.
        let alone_is_enough = walks && when == When::After;
        if !alone_is_enough && !self.has(rule, resource, actor.as_ref(), when)? {
            let needed = self.needed(rule, touch, actor, self.state_of(when));
            return Err(denied(touch, actor, Some(needed)));
        }
        if walks {
            return self.right_by_this_alone(rule, touch, actor, when);
        }
        Ok(())
    }

    /// An actor may give up what it has itself, but for what keeps it out of something.
    fn is_own(&self, touch: &Touch<'_>, actor: &Subject) -> bool {
        let granted_by = self.relation(touch.member).and_then(|r| r.granted_by);
        touch.act == Act::Revoke
            && touch.tuple.subject == *actor
            && granted_by.is_some()
            && !self.schema.reach().keeps_out(touch.member)
    }

    /// Judges with the relation that is written holding the written tuple and no other, so that
    /// each parent is asked for itself. Of a revoked tuple its name alone counts, so that the
    /// answer says nothing about whether, and how, it stands.
    fn right_by_this_alone(
        &self,
        rule: MemberId,
        touch: &Touch<'a>,
        actor: &'a Subject,
        when: When,
    ) -> Result<(), Broken> {
        let base = self.state_of(when);
        let resource = &touch.tuple.resource;
        let alone = base.with_only(touch.tuple, touch.act == Act::Grant);
        let has = match &alone {
            None => self.has(rule, resource, actor.as_ref(), when)?,
            Some(alone) => self.judge(alone, rule, resource, actor.as_ref())?,
        };
        if has {
            return Ok(());
        }
        let mut needed = self.needed(rule, touch, actor, alone.as_ref().unwrap_or(base));
        needed.through = Some(touch.tuple.subject.to_string());
        Err(denied(touch, actor, Some(needed)))
    }

    /// Whether nothing that stands, live or expired, names the resource.
    pub(super) fn is_new(&self, resource: &'a Object) -> bool {
        let known = self.new.borrow().get(resource).copied();
        known.unwrap_or_else(|| {
            let new = !self.state.mentions(resource.as_ref());
            self.new.borrow_mut().insert(resource, new);
            new
        })
    }

    fn needed(&self, rule: MemberId, touch: &Touch<'_>, actor: &Subject, on: &State) -> Needed {
        let resource = &touch.tuple.resource;
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
            };
            eval::judge(on, &judged, self.now, WORK) == Ok(Decision::Allowed)
        };
        let holders = candidates.into_iter().take(ASKED).filter(has);
        let mut holders: Vec<String> = holders.take(HOLDERS).map(|who| who.to_string()).collect();
        holders.sort();
        holders
    }
}

fn denied(touch: &Touch<'_>, actor: &Subject, needed: Option<Needed>) -> Broken {
    let tuple = touch.tuple;
    Box::new(Violation::Denied(Denied {
        update: touch.update,
        actor: actor.clone(),
        verb: match touch.act {
            Act::Grant => Verb::Grant,
            Act::Revoke => Verb::Revoke,
        },
        what: tuple.name(),
        resource: tuple.resource.clone(),
        relation: tuple.relation.to_string(),
        needed,
    }))
}
