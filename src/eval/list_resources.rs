//! Which resources a subject has a permission on: proposed by the search from the subject's side,
//! decided by the checking machine, one for the whole list.
//!
//! Where the search itself finds very many of them one by one, as in a type that contains itself,
//! nobody waits for its end: meanwhile all objects of the type are judged in their order, and what
//! the search has found in the end goes on from there.
//!
//! The bound of work holds for the search, and for each candidate apart: what is refused is what
//! one answer costs too much, never a list for being long.

use crate::index::NodeId;
use crate::schema::program::KindSet;
use crate::schema::{MemberId, TypeId};
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef, SubjectRef};

use super::candidates::{Candidate, Candidates};
use super::check::{Subjected, decided, known_member, known_type};
use super::closure::{Closure, Ground};
use super::lists::{Place, Row, Step, at};
use super::machine::{Machine, NO_SUBJECT, TooMuchWork};
use super::value::Value;
use super::{CheckError, Decision, Facts, Limits};

/// So many objects below a resource are looked at before they are judged from above instead.
const BELOW: usize = 4_096;

/// So many steps the search goes before it is looked whether it finds much itself.
const SEARCH_FIRST: u64 = 8_192;
/// So many steps it goes on with each object that is judged meanwhile.
const SEARCH_BESIDE: u64 = 32;
/// So many nodes are passed at a time to find one of the type.
const PASSED: u32 = 4_096;

/// A question for resources.
#[derive(Clone, Copy, Debug)]
pub struct ResourcesQuestion<'a> {
    /// Who.
    pub subject: SubjectRef<'a>,
    /// The name of a permission or relation of `kind`.
    pub permission: &'a str,
    /// The type of the resources.
    pub kind: &'a str,
    /// Parameters of caveats.
    pub context: &'a Context,
    /// Only what lies below it, by any chain of relations that a forward arrow walks.
    pub within: Option<ObjectRef<'a>>,
}

/// The resources on which a subject has a permission, step by step.
pub struct ResourceList<'a> {
    subjected: Subjected<'a>,
    question: ResourcesQuestion<'a>,
    kind: TypeId,
    member: MemberId,
    limits: Limits,
    machine: Machine<'a>,
    /// Over which relations things lie below others, and the node below which they must lie.
    within: Option<(KindSet, NodeId)>,
    source: Option<Source<'a>>,
    after: Option<NodeId>,
    /// Tuple reads of what has been searched and judged so far.
    reads: u64,
}

/// Where candidates come from.
enum Source<'a> {
    /// They are known, or all lie behind known tuples.
    Found(Candidates<'a>),
    /// All objects of the type, beside a search that has not ended and may still.
    All(Option<Box<Closure<'a>>>),
}

/// What a source gives.
enum Next {
    Candidate(Candidate),
    /// Nothing yet: the list has passed others.
    Passed,
    End,
}

impl<'a> ResourceList<'a> {
    /// A list that begins behind `after`.
    ///
    /// # Errors
    /// Names that the schema lacks, a context that does not fit.
    pub fn new(
        facts: Facts<'a>,
        question: ResourcesQuestion<'a>,
        now: Timestamp,
        limits: &Limits,
        after: Option<Place>,
    ) -> Result<Self, CheckError> {
        let ground = Ground::of(facts, now);
        let Facts { schema, index, .. } = facts;
        let kind = known_type(schema, "resource_type", question.kind)?;
        let member = known_member(schema, kind, question.permission)?;
        let subjected = Subjected::new(ground, question.subject, question.context)?;
        let within = question.within.map(|outer| {
            let kind = known_type(schema, "within", outer.kind())?.id;
            // What no tuple names has nothing below it.
            let node = index.node(kind, outer.id()).unwrap_or(NO_SUBJECT);
            Ok((ground.programs.walked(), node))
        });
        Ok(Self {
            subjected,
            question,
            kind: kind.id,
            member,
            limits: *limits,
            machine: subjected.machine(question.context, limits),
            within: within.transpose()?,
            source: None,
            after: after.map(Place::node),
            reads: 0,
        })
    }

    /// Where the list has got to: behind the last row, or the last candidate that was denied.
    pub fn place(&self) -> Option<Place> {
        let index = self.subjected.ground.index;
        self.after.map(|node| Place::of(index, node))
    }

    /// Goes on to the next candidate.
    ///
    /// # Errors
    /// Where the search for candidates or the judging of one takes too much work, and where one
    /// has no answer. The list ends there.
    pub fn step(&mut self) -> Result<Step, CheckError> {
        let mut source = match self.source.take() {
            Some(source) => self.search_on(source),
            None => self.search()?,
        };
        let next = match &mut source {
            Source::Found(candidates) => {
                let next = candidates.next();
                self.reads += std::mem::take(&mut candidates.spent);
                next.map_or(Next::End, Next::Candidate)
            }
            Source::All(_) => self.pass(),
        };
        self.source = Some(source);
        let next = match next {
            Next::Candidate(next) => next,
            Next::Passed => return Ok(Step::Nothing),
            Next::End => return Ok(Step::End),
        };
        self.after = Some(next.node);
        let (decision, missing_context) = self.judge(next)?;
        if decision == Decision::Denied {
            return Ok(Step::Nothing);
        }
        Ok(Step::Row(Row {
            item: self.name(next.node),
            except: Vec::new(),
            decision,
            missing_context,
        }))
    }

    /// How many tuples have been read so far, by the search and by judging.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    fn search(&mut self) -> Result<Source<'a>, CheckError> {
        let Subjected { ground, who, .. } = self.subjected;
        if let Some(known) = self.below(ground) {
            let found = Candidates::new(ground.now, known, Vec::new(), self.after);
            return Ok(Source::Found(found));
        }
        let finals = ground.programs.finals(ground.schema, self.member);
        let mut closure = Closure::toward(ground, who, (self.member, false), Some(finals));
        closure.advance(ground, SEARCH_FIRST.min(self.limits.work));
        let found = closure.found().len() as u64;
        if !closure.is_complete() && found >= closure.spent / 4 {
            self.reads += closure.spent;
            return Ok(Source::All(Some(Box::new(closure))));
        }
        closure.advance(ground, self.limits.work.saturating_sub(closure.spent));
        self.reads += closure.spent;
        if !closure.is_complete() {
            return Err(CheckError::SearchTooComplex {
                limit: self.limits.work,
            });
        }
        Ok(self.found(closure))
    }

    fn found(&self, closure: Closure<'a>) -> Source<'a> {
        let (known, roads) = closure.into_candidates();
        let now = self.subjected.ground.now;
        Source::Found(Candidates::new(now, known, roads, self.after))
    }

    /// Has the search go on that is not at its end; one that finds more than its bound is not
    /// needed, since all objects are judged without it.
    fn search_on(&mut self, source: Source<'a>) -> Source<'a> {
        let Source::All(Some(mut closure)) = source else {
            return source;
        };
        let before = closure.spent;
        closure.advance(self.subjected.ground, SEARCH_BESIDE);
        self.reads += closure.spent - before;
        match (closure.is_complete(), closure.spent < self.limits.work) {
            (true, _) => self.found(*closure),
            (false, true) => Source::All(Some(closure)),
            (false, false) => Source::All(None),
        }
    }

    /// The next object of the type, where one is near.
    fn pass(&mut self) -> Next {
        let index = self.subjected.ground.index;
        let first = self.after.map_or(0, |node| node.0.saturating_add(1));
        if first >= index.node_bound() {
            return Next::End;
        }
        let last = first.saturating_add(PASSED).min(index.node_bound());
        let is_object = |node: &NodeId| {
            index.kind_of(*node) == self.kind && !matches!(index.id_of(*node), "" | "*")
        };
        match (first..last).map(NodeId).find(is_object) {
            Some(node) => Next::Candidate(Candidate {
                node,
                sure: false,
                proposed: true,
                has: None,
            }),
            None => {
                self.after = Some(NodeId(last - 1));
                Next::Passed
            }
        }
    }

    /// All that lies below `within`, where that is little.
    fn below(&self, ground: Ground<'a>) -> Option<Vec<Candidate>> {
        let (walked, outer) = self.within.as_ref()?;
        let mut seen = hashbrown::HashSet::new();
        let mut open = vec![*outer];
        let mut reads = 0;
        while let Some(node) = open.pop() {
            for group in ground.index.resource_groups(node) {
                let member = ground.schema.member_id(group.kind, group.relation);
                if !member.is_some_and(|member| walked.has(member)) {
                    continue;
                }
                for edge in group.iter() {
                    reads += 1;
                    if reads > BELOW {
                        return None;
                    }
                    if seen.insert(edge.node) {
                        open.push(edge.node);
                    }
                }
            }
        }
        let right = seen
            .into_iter()
            .filter(|node| ground.index.kind_of(*node) == self.kind);
        let candidate = |node| Candidate {
            node,
            sure: false,
            proposed: true,
            has: None,
        };
        Some(right.map(candidate).collect())
    }

    fn judge(
        &mut self,
        candidate: Candidate,
    ) -> Result<(Decision, Vec<std::sync::Arc<str>>), CheckError> {
        if candidate.sure && self.within.is_none() {
            return Ok((Decision::Allowed, Vec::new()));
        }
        self.machine.begin_anew();
        let value = self.value(candidate);
        self.reads += self.machine.work();
        let name = || self.name(candidate.node);
        let judged = match value {
            Err(TooMuchWork) => Err(CheckError::TooComplex {
                limit: self.limits.work,
            }),
            Ok(value) => decided(&self.machine, value, || {
                (name(), self.question.permission.to_owned())
            }),
        };
        match judged {
            Ok((decision, cause)) => Ok((decision, cause.missing.into_vec())),
            Err(error) => Err(at(name(), error)),
        }
    }

    fn value(&mut self, candidate: Candidate) -> Result<Value, TooMuchWork> {
        let mut lies = Value::Allowed;
        if let Some((walked, outer)) = &self.within {
            lies = self.machine.leads_to(candidate.node, *outer, walked)?;
        }
        if lies == Value::Denied || candidate.sure {
            return Ok(lies);
        }
        if let Some(member) = candidate.has {
            self.machine.learn(candidate.node, member);
        }
        let has = self.machine.evaluate(candidate.node, self.member)?;
        Ok(self.machine.causes.and(lies, has))
    }

    fn name(&self, node: NodeId) -> String {
        let id = match node {
            NO_SUBJECT => self.question.subject.id(),
            node => self.subjected.ground.index.id_of(node),
        };
        format!("{}:{id}", self.question.kind)
    }
}
