//! Which subjects of a type have a permission on a resource: proposed by the search from the
//! resource's side, each decided by a machine of its own.
//!
//! A wildcard's row speaks of everybody whom nothing names: what it says is what an id says that
//! no tuple has. Whoever has less is in its `except`; whoever has more, or has it by a grant of
//! their own, has a row too.

use std::sync::Arc;

use crate::index::NodeId;
use crate::schema::{MemberId, RelId};
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef};

use super::candidates::{Candidate, Candidates};
use super::check::{Subjected, check_context, decided, known_member, known_set, known_type};
use super::closure::{Ground, Who};
use super::expansion::{Expansion, Form, TooWide};
use super::lists::{Place, Row, Step, at};
use super::machine::{NO_RESOURCE, NO_SUBJECT, TooMuchWork};
use super::{CheckError, Decision, Facts, Limits};

/// The most bytes that the exceptions of a wildcard may have: they are one message.
const EXCEPT_BYTES: usize = 2 << 20;

/// A question for subjects.
#[derive(Clone, Copy, Debug)]
pub struct SubjectsQuestion<'a> {
    /// On what.
    pub resource: ObjectRef<'a>,
    /// The name of a permission or relation of the resource's type.
    pub permission: &'a str,
    /// The type of the subjects.
    pub kind: &'a str,
    /// The relation of the subject sets that are looked for; `None`: objects and the wildcard.
    pub relation: Option<&'a str>,
    /// Parameters of caveats.
    pub context: &'a Context,
}

/// The subjects that have a permission on a resource, step by step.
pub struct SubjectList<'a> {
    ground: Ground<'a>,
    question: SubjectsQuestion<'a>,
    form: Form,
    root: (NodeId, MemberId),
    limits: Limits,
    wildcard: Option<NodeId>,
    /// What everybody has whom nothing names, where a wildcard was granted.
    everybody: Option<Verdict>,
    exceptions: Option<Exceptions<'a>>,
    candidates: Option<Candidates<'a>>,
    after: Option<NodeId>,
}

type Verdict = (Decision, Vec<Arc<str>>);

/// A wildcard's row in the making.
struct Exceptions<'a> {
    candidates: Candidates<'a>,
    except: Vec<String>,
    bytes: usize,
}

impl<'a> SubjectList<'a> {
    /// A list that begins behind `after`.
    ///
    /// # Errors
    /// Names that the schema lacks, a context that does not fit.
    pub fn new(
        facts: Facts<'a>,
        question: SubjectsQuestion<'a>,
        now: Timestamp,
        limits: &Limits,
        after: Option<Place>,
    ) -> Result<Self, CheckError> {
        let ground = Ground::of(facts, now);
        let Facts { schema, index, .. } = facts;
        let kind = known_type(schema, "subject_type", question.kind)?;
        let relation = match question.relation {
            None => RelId::NONE,
            Some(name) => known_set(schema, kind, name)?,
        };
        let resource = known_type(schema, "resource", question.resource.kind())?;
        let member = known_member(schema, resource, question.permission)?;
        check_context(schema, question.context)?;
        let node = index.node(resource.id, question.resource.id());
        Ok(Self {
            ground,
            question,
            form: Form {
                kind: kind.id,
                relation,
            },
            root: (node.unwrap_or(NO_RESOURCE), member),
            limits: *limits,
            wildcard: index.node(kind.id, "*").filter(|_| relation == RelId::NONE),
            everybody: None,
            exceptions: None,
            candidates: None,
            after: after.map(Place::node),
        })
    }

    /// Where the list has got to: behind the last row, or the last candidate that was denied.
    pub fn place(&self) -> Option<Place> {
        self.after.map(|node| Place::of(self.ground.index, node))
    }

    /// Goes on to the next candidate.
    ///
    /// # Errors
    /// Where the search for candidates or the judging of one takes too much work, and where one
    /// has no answer. The list ends there.
    pub fn step(&mut self) -> Result<Step, CheckError> {
        if let Some(exceptions) = self.exceptions.take() {
            return self.except(exceptions);
        }
        if self.candidates.is_none() {
            let candidates = self.search(self.after)?;
            self.candidates = Some(candidates);
        }
        let Some(next) = self.candidates.as_mut().and_then(Iterator::next) else {
            return Ok(Step::End);
        };
        if Some(next.node) == self.wildcard && self.everybody_has_it() {
            self.exceptions = Some(Exceptions {
                candidates: self.search(None)?,
                except: Vec::new(),
                bytes: 0,
            });
            return Ok(Step::Busy);
        }
        self.after = Some(next.node);
        if Some(next.node) == self.wildcard {
            return Ok(Step::Nothing);
        }
        let verdict = self.judge(next)?;
        let said = !next.proposed && self.everybody.as_ref() == Some(&verdict);
        let (decision, missing_context) = verdict;
        if decision == Decision::Denied || said {
            return Ok(Step::Nothing);
        }
        Ok(Step::Row(Row {
            item: self.name(next.node),
            except: Vec::new(),
            decision,
            missing_context,
        }))
    }

    fn everybody_has_it(&self) -> bool {
        (self.everybody.as_ref()).is_some_and(|(decision, _)| *decision != Decision::Denied)
    }

    /// Looks for subjects that have less than everybody; gives the wildcard's row at the end.
    fn except(&mut self, mut exceptions: Exceptions<'a>) -> Result<Step, CheckError> {
        let (everybody, missing_context) = self
            .everybody
            .clone()
            .unwrap_or((Decision::Denied, Vec::new()));
        let Some(next) = exceptions.candidates.next() else {
            self.after = self.wildcard;
            return Ok(Step::Row(Row {
                item: format!("{}:*", self.question.kind),
                except: exceptions.except,
                decision: everybody,
                missing_context,
            }));
        };
        if Some(next.node) != self.wildcard && self.judge(next)?.0 < everybody {
            let name = self.name(next.node);
            exceptions.bytes += name.len();
            exceptions.except.push(name);
            if exceptions.bytes > EXCEPT_BYTES {
                return Err(CheckError::TooManyExceptions {
                    limit: EXCEPT_BYTES,
                });
            }
        }
        self.exceptions = Some(exceptions);
        Ok(Step::Busy)
    }

    fn search(&mut self, after: Option<NodeId>) -> Result<Candidates<'a>, CheckError> {
        let limit = self.limits.work;
        let expand = |whole| {
            Expansion::of(self.ground, self.form, self.root, whole, limit)
                .map_err(|TooWide| CheckError::SearchTooComplex { limit })
        };
        let granted = expand(false)?;
        let wild = self
            .wildcard
            .is_some_and(|wildcard| granted.names(wildcard));
        let (mut known, mut roads) = granted.into_candidates();
        if wild {
            let (others, more) = expand(true)?.into_candidates();
            known.extend(others);
            roads.extend(more);
            if self.everybody.is_none() {
                let nobody = Candidate {
                    node: NO_SUBJECT,
                    sure: false,
                    proposed: true,
                    has: None,
                };
                self.everybody = Some(self.judge(nobody)?);
            }
        }
        Ok(Candidates::new(self.ground.now, known, roads, after))
    }

    fn judge(&self, candidate: Candidate) -> Result<Verdict, CheckError> {
        if candidate.sure {
            return Ok((Decision::Allowed, Vec::new()));
        }
        let Form { kind, relation } = self.form;
        let who = Who {
            // What stands for an unknown resource as candidate has no tuples either.
            node: candidate.node,
            kind,
            relation,
            wildcard: self.wildcard,
            is_wildcard: false,
        };
        let subjected = Subjected {
            ground: self.ground,
            who,
            unknown: [Some(self.question.resource), None],
        };
        let mut machine = subjected.machine(self.question.context, &self.limits);
        let (node, member) = self.root;
        let judged = match machine.evaluate(node, member) {
            Err(TooMuchWork) => Err(CheckError::TooComplex {
                limit: self.limits.work,
            }),
            Ok(value) => decided(&machine, value, || {
                let SubjectsQuestion {
                    resource,
                    permission,
                    ..
                } = self.question;
                (resource.to_string(), permission.to_owned())
            }),
        };
        match judged {
            Ok((decision, cause)) => Ok((decision, cause.missing.into_vec())),
            Err(error) => Err(at(self.name(candidate.node), error)),
        }
    }

    fn name(&self, node: NodeId) -> String {
        let index = self.ground.index;
        let id = match node {
            NO_RESOURCE => self.question.resource.id(),
            NO_SUBJECT => "*",
            node => index.id_of(node),
        };
        match self.question.relation {
            None => format!("{}:{id}", self.question.kind),
            Some(relation) => format!("{}:{id}#{relation}", self.question.kind),
        }
    }
}
