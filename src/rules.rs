//! What a write may do: one table, a function a rule.
//!
//! | rule | judges | on which state | in |
//! | --- | --- | --- | --- |
//! | `granted by`, `revoked by` | the actor, for every update | as things stand; of a new resource after the write | `rights` |
//! | parents | the same, where the rule walks the relation that is written | with that relation holding the written tuple alone | `rights` |
//! | filters | the actor, where a revoke by filter matches nothing | as if something matched | `filters` |
//! | oneself | an actor's own direct tuple, which it may give up | none is read | `rights` |
//! | `requires` | the subject of each tuple that is granted | after the whole commit | `requirements` |
//! | `min` | each relation from which counted tuples go | the counts before and after | `minimums` |
//! | roles | who edits and assigns them, and that nobody gives what they lack | as above, on the owner or the resource | `roles` |
//! | locks | who places and lifts them | as things stand, where the lock sits | `locks` |
//! | `seals` | who writes what a lock seals, before or after the commit | each lock where it is held | `locks` |
//! | no way round | who takes away that by which a lock arrives | as things stand, where the lock sits | `locks` |
//!
//! Pure, like `plan`, which calls these in the order that the errors have: who has no right learns
//! nothing else.

mod filters;
mod locks;
mod minimums;
mod requirements;
mod rights;
mod roles;
mod violation;

use std::cell::OnceCell;

use crate::eval::{self, CheckError, Decision, Facts, Judge, Judged};
use crate::schema::{MemberId, Relation, RolesId, Schema};
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Object, RoleRef, Subject, SubjectRef, Tuple};

pub(crate) use locks::{all_held_on, lock_def};
pub(crate) use minimums::minimums;
pub use roles::RoleView;
pub(crate) use roles::role_of;
pub use violation::{Denied, Needed, Sealed, Violation};

/// What a rule answers where it refuses.
pub(crate) type Broken = Box<Violation>;

/// What is done to a tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Grant,
    Revoke,
}

/// What a tuple is one of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A relation of the schema.
    Relation(MemberId),
    /// The assignments of a role.
    Assignment(RoleRef, RolesId),
}

/// A tuple that a command writes. Its names are known to the schema.
#[derive(Clone, Debug)]
pub(crate) struct Touch<'a> {
    /// The place of its update in the request, where it has one.
    pub(crate) update: Option<usize>,
    pub(crate) act: Act,
    /// As the request names it.
    pub(crate) tuple: &'a Tuple,
    pub(crate) target: Target,
    /// Whether a filter selected it: no refusal names it to an actor that may not take it.
    pub(crate) found: bool,
}

impl<'a> Touch<'a> {
    /// A stored tuple that is to go; `None` where the schema lacks its relation.
    pub(crate) fn revoked(schema: &Schema, tuple: &'a Tuple) -> Option<Self> {
        let target = match RoleRef::of_relation(&tuple.relation) {
            Some(role) => {
                let (roles, _) = schema.roles_named(role.block())?;
                Target::Assignment(role, roles)
            }
            None => Target::Relation(schema.relation_of(tuple)?),
        };
        Some(Self {
            update: None,
            act: Act::Revoke,
            tuple,
            target,
            found: true,
        })
    }

    fn member(&self) -> Option<MemberId> {
        match &self.target {
            Target::Relation(member) => Some(*member),
            Target::Assignment(..) => None,
        }
    }
}

/// Which state a rule is judged on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum When {
    Before,
    After,
}

/// The rules, for one command on one state.
pub(crate) struct Rules<'a> {
    state: &'a State,
    schema: &'a Schema,
    actor: Option<&'a Subject>,
    now: Timestamp,
    /// Tuple reads that one judgement may take.
    work: u64,
    touches: &'a [Touch<'a>],
    after: OnceCell<State>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(
        state: &'a State,
        schema: &'a Schema,
        actor: Option<&'a Subject>,
        touches: &'a [Touch<'a>],
        now: Timestamp,
    ) -> Self {
        Self {
            state,
            schema,
            actor,
            now,
            work: eval::Limits::default().work,
            touches,
            after: OnceCell::new(),
        }
    }

    /// The state after the whole write, as the request names it.
    fn after(&self) -> &State {
        self.after.get_or_init(|| {
            let writes = self.touches.iter();
            let writes = writes.map(|touch| (touch.tuple, touch.act == Act::Grant));
            self.state.with_tuples(writes)
        })
    }

    fn state_of(&self, when: When) -> &State {
        match when {
            When::Before => self.state,
            When::After => self.after(),
        }
    }

    /// What is judged of one subject.
    fn of<'r>(&'r self, subject: &'r Subject) -> Judgements<'r> {
        Judgements {
            rules: self,
            subject: subject.as_ref(),
            before: None,
            after: None,
        }
    }

    /// Whether `subject` has `rule` on `resource` in another state, for sure.
    fn judge(
        &self,
        state: &State,
        rule: MemberId,
        resource: &Object,
        subject: SubjectRef<'_>,
    ) -> Result<bool, Broken> {
        let judged = Judged {
            subject,
            member: rule,
            resource: resource.as_ref(),
            free: false,
        };
        let decision = eval::judge(state, &judged, self.now, self.work);
        self.surely(rule, resource, &decision)
    }

    /// Whether a judgement is an allow.
    fn surely(
        &self,
        rule: MemberId,
        resource: &Object,
        decision: &Result<Decision, CheckError>,
    ) -> Result<bool, Broken> {
        match decision {
            Ok(decision) => Ok(*decision == Decision::Allowed),
            Err(CheckError::TooComplex { limit }) => Err(Box::new(Violation::TooComplex {
                rule: self.schema.member(rule).name.to_string(),
                resource: resource.to_string(),
                limit: *limit,
            })),
            // Names were found when the command's shape was judged.
            Err(_) => Ok(false),
        }
    }

    fn relation(&self, touch: &Touch<'_>) -> Option<&'a Relation> {
        self.schema.member(touch.member()?).relation()
    }
}

/// What is judged of one subject, before and after the write: many updates of one command ask
/// much the same, and what was found for one serves the next.
struct Judgements<'r> {
    rules: &'r Rules<'r>,
    subject: SubjectRef<'r>,
    before: Option<Judge<'r>>,
    after: Option<Judge<'r>>,
}

impl<'r> Judgements<'r> {
    /// Whether the subject has `rule` on `resource`, for sure.
    fn has(&mut self, rule: MemberId, resource: &Object, when: When) -> Result<bool, Broken> {
        self.judge(rule, resource, when, false)
    }

    /// The same with no lock applied.
    fn has_free(&mut self, rule: MemberId, resource: &Object, when: When) -> Result<bool, Broken> {
        self.judge(rule, resource, when, true)
    }

    fn judge(
        &mut self,
        rule: MemberId,
        resource: &Object,
        when: When,
        free: bool,
    ) -> Result<bool, Broken> {
        let rules = self.rules;
        match self.judge_of(when) {
            Some(judge) => {
                let decision = judge.judge(rule, resource.as_ref(), free);
                rules.surely(rule, resource, &decision)
            }
            None => Ok(false),
        }
    }

    /// The same on what is imagined of a state.
    fn has_alone(
        &mut self,
        rule: MemberId,
        resource: &Object,
        (alone, when): (&State, When),
    ) -> Result<bool, Broken> {
        let rules = self.rules;
        match (self.judge_of(when), Facts::of(alone)) {
            (Some(judge), Some(facts)) => {
                let alone = judge.on(facts);
                let decision = alone.and_then(|mut j| j.judge(rule, resource.as_ref(), false));
                rules.surely(rule, resource, &decision)
            }
            _ => Ok(false),
        }
    }

    /// `None` for a subject whose names the schema lacks; they were found when the command's shape
    /// was judged.
    fn judge_of(&mut self, when: When) -> Option<&mut Judge<'r>> {
        let rules = self.rules;
        let judge = match when {
            When::Before => &mut self.before,
            When::After => &mut self.after,
        };
        if judge.is_none() {
            let facts = Facts::of(rules.state_of(when))?;
            *judge = Judge::new(facts, self.subject, rules.now, rules.work).ok();
        }
        judge.as_mut()
    }
}
