//! What a write may do: one table, a function a rule.
//!
//! | rule | judges | on which state | in |
//! | --- | --- | --- | --- |
//! | `granted by`, `revoked by` | the actor, for every update | as things stand; of a new resource after the write | [`rights`] |
//! | parents | the same, where the rule walks the relation that is written | with that relation holding the written tuple alone | [`rights`] |
//! | oneself | an actor's own direct tuple, which it may give up | none is read | [`rights`] |
//! | `requires` | the subject of each tuple that is granted | after the whole commit | [`requirements`] |
//! | `min` | each relation from which counted tuples go | the counts before and after | [`minimums`] |
//!
//! Pure, like `plan`, which calls these in the order that the errors have: who has no right learns
//! nothing else.

mod minimums;
mod requirements;
mod rights;
mod violation;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use crate::eval::{self, CheckError, Decision, Judged};
use crate::schema::{MemberId, Relation, Schema};
use crate::state::State;
use crate::time::Timestamp;
use crate::tuple::{Object, Subject, SubjectRef, Tuple};

pub(crate) use minimums::minimums;
pub use violation::{Denied, Needed, Verb, Violation};

/// What a rule answers where it refuses.
pub(crate) type Broken = Box<Violation>;

/// What is done to a tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Grant,
    Revoke,
}

/// A tuple that a command writes. Its names are known to the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch<'a> {
    /// The place of its update in the request, where it has one.
    pub(crate) update: Option<usize>,
    pub(crate) act: Act,
    /// As the request names it.
    pub(crate) tuple: &'a Tuple,
    pub(crate) member: MemberId,
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
    known: RefCell<HashMap<Asked<'a>, bool>>,
    new: RefCell<HashMap<&'a Object, bool>>,
}

/// A judgement that is kept: many updates of one command ask the same.
type Asked<'a> = (MemberId, &'a Object, SubjectRef<'a>, When);

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
            known: RefCell::default(),
            new: RefCell::default(),
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

    /// Whether `subject` has `rule` on `resource`, for sure.
    fn has(
        &self,
        rule: MemberId,
        resource: &'a Object,
        subject: SubjectRef<'a>,
        when: When,
    ) -> Result<bool, Broken> {
        let asked = (rule, resource, subject, when);
        if let Some(known) = self.known.borrow().get(&asked) {
            return Ok(*known);
        }
        let has = self.judge(self.state_of(when), rule, resource, subject)?;
        self.known.borrow_mut().insert(asked, has);
        Ok(has)
    }

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
        };
        match eval::judge(state, &judged, self.now, self.work) {
            Ok(decision) => Ok(decision == Decision::Allowed),
            Err(CheckError::TooComplex { limit }) => Err(Box::new(Violation::TooComplex {
                rule: self.schema.member(rule).name.to_string(),
                resource: resource.to_string(),
                limit,
            })),
            // Names were found when the command's shape was judged.
            Err(_) => Ok(false),
        }
    }

    fn relation(&self, member: MemberId) -> Option<&'a Relation> {
        self.schema.member(member).relation()
    }
}
