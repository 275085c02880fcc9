//! Explain: why a check answers as it does, as a tree, and what would change a denial.
//!
//! Hides how the tree is cut: an allow shows its shortest proof and nothing else, a denial what
//! was looked at, each to a depth and size that a message and a person can take. All values come
//! from the checking machine; nothing is decided here.

use std::sync::Arc;

use crate::index::NodeId;
use crate::schema::{Expr, MemberKind, RolesId};
use crate::state::HeldLock;
use crate::time::Timestamp;
use crate::tuple::{Subject, Tuple};

use super::check::{Subjected, answer, known_member, known_type, resource_node, unite};
use super::closure::Ground;
use super::machine::{Machine, TooMuchWork};
use super::value::Value;
use super::{Answer, CheckError, Decision, Facts, Limits, Question};

mod evidence;
mod proof;
mod suggest;
mod text;

use proof::{Goal, Part, Proofs};

/// How deep the tree is at most: decoders of messages stop at 100 levels.
const DEPTH: usize = 80;
/// How many nodes it has at most.
const NODES: usize = 2_000;
/// How many children a node of a denial has at most.
const CHILDREN: usize = 20;

/// Why a check answers as it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The answer itself.
    pub answer: Answer,
    /// What was evaluated.
    pub root: Node,
    /// The same, for a person to read.
    pub text: String,
    /// One change that would allow it, where one suffices.
    pub suggestion: Option<Suggestion>,
}

/// A part of what was evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `type:id`.
    pub resource: String,
    /// A relation, a permission, or an expression within one.
    pub permission: String,
    /// What kind of part.
    pub operator: Operator,
    /// What it came to.
    pub result: Decision,
    /// The tuples that decided it here.
    pub tuples: Vec<Tuple>,
    /// What it was made of.
    pub children: Vec<Node>,
    /// The caveat that decided.
    pub caveat: Option<Arc<str>>,
    /// What a conditional part lacks.
    pub missing_context: Vec<Arc<str>>,
    /// The locks in the way.
    pub locks: Vec<Arc<HeldLock>>,
    /// How many further children are not shown.
    pub hidden: usize,
}

/// What a [`Node`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The tuples of a relation.
    Relation,
    /// Any of its children.
    Union,
    /// All of its children.
    Intersection,
    /// The first without the second.
    Exclusion,
    /// What lies behind tuples, either way.
    Arrow,
    /// Locks.
    Lock,
    /// The caveat of a tuple.
    Caveat,
    /// What stands further up already.
    Cycle,
}

/// One change that would allow what is denied.
#[derive(Clone, Debug, PartialEq)]
pub enum Suggestion {
    /// Granting this tuple.
    Grant(Tuple),
    /// Revoking this one.
    Revoke(Tuple),
    /// Lifting the lock of this id.
    Unlock(Arc<str>),
    /// Assigning a role.
    Assign {
        /// `role:acme/deployer`.
        role: Arc<str>,
        /// To whom.
        subject: Subject,
        /// Where.
        resource: String,
    },
}

/// Answers `question` and says why.
///
/// # Errors
/// As [`super::check()`]; finding the shortest proof may take more work than the check did.
pub fn explain(
    facts: Facts<'_>,
    question: &Question<'_>,
    now: Timestamp,
    limits: &Limits,
) -> Result<Explanation, CheckError> {
    let united;
    let facts = match question.contextual.is_empty() {
        true => facts,
        false => {
            united = unite(facts.schema, facts.index, question.contextual)?;
            Facts {
                index: &united,
                ..facts
            }
        }
    };
    let question = &Question {
        contextual: &[],
        with_dependencies: false,
        ..*question
    };
    let kind = known_type(facts.schema, "resource", question.resource.kind())?;
    let member = known_member(facts.schema, kind, question.permission)?;
    let ground = Ground::of(facts, now);
    let subjected = Subjected::new(ground, question.subject, question.context)?;
    let node = resource_node(facts.index, kind.id, question.subject, question.resource);
    let mut machine = subjected.machine(question.context, limits);
    let answer = answer(&mut machine, question, (node, member), limits)?;
    machine.begin_anew();
    let mut view = View {
        ground,
        question,
        machine,
        proofs: Proofs::default(),
        path: Vec::new(),
        nodes: 0,
        stops: Vec::new(),
        negated: false,
    };
    let root = Goal {
        node,
        member,
        odd: false,
        free: false,
    };
    let root = view
        .goal(root)
        .map_err(|TooMuchWork| CheckError::TooComplex { limit: limits.work })?;
    let suggestion = match answer.decision {
        Decision::Denied => suggest::suggestion(facts, question, &answer, &view.stops, now, limits),
        Decision::Conditional | Decision::Allowed => None,
    };
    let text = text::text(question, &answer, &root, suggestion.as_ref());
    Ok(Explanation {
        answer,
        root,
        text,
        suggestion,
    })
}

/// The tree in the making.
struct View<'a> {
    ground: Ground<'a>,
    question: &'a Question<'a>,
    machine: Machine<'a>,
    proofs: Proofs<'a>,
    path: Vec<Goal>,
    nodes: usize,
    /// The tuples of what stands against it: of allows on the right of a `-`.
    stops: Vec<Tuple>,
    negated: bool,
}

impl<'a> View<'a> {
    fn decision(value: Value) -> Decision {
        match value {
            Value::Allowed => Decision::Allowed,
            Value::Denied => Decision::Denied,
            Value::Undecided(_) => Decision::Conditional,
        }
    }

    fn missing(&self, value: Value) -> Vec<Arc<str>> {
        match value {
            Value::Undecided(cause) => self.machine.causes.get(cause).missing.to_vec(),
            _ => Vec::new(),
        }
    }

    fn node(&mut self, goal: Goal, permission: String, operator: Operator, value: Value) -> Node {
        self.nodes += 1;
        Node {
            resource: self.object(goal.node),
            permission,
            operator,
            result: Self::decision(value),
            tuples: Vec::new(),
            children: Vec::new(),
            caveat: None,
            missing_context: self.missing(value),
            locks: Vec::new(),
            hidden: 0,
        }
    }

    fn object(&self, node: NodeId) -> String {
        object_text(self.ground, self.question, node)
    }

    /// The node of a relation or permission.
    fn goal(&mut self, goal: Goal) -> Result<Node, TooMuchWork> {
        let value = goal.value(&mut self.machine)?;
        let member = self.ground.schema.member(goal.member);
        let name = match self.ground.index.site(goal.node) {
            Some(site) => site.role.to_owned(),
            None => member.name.to_string(),
        };
        if self.machine.is_set(goal.node, goal.member) {
            // A set is a member of itself: no tuple is needed.
            return Ok(self.node(goal, name, Operator::Relation, value));
        }
        if self.path.contains(&goal) {
            return Ok(self.node(goal, name, Operator::Cycle, value));
        }
        if self.path.len() * 2 > DEPTH || self.nodes > NODES {
            let mut node = self.node(goal, name, Operator::Relation, value);
            // What lies deeper is told without its shape.
            if value == Value::Allowed {
                node.tuples = self.tuples(goal)?;
                self.note_stops(&node.tuples);
            }
            return Ok(node);
        }
        if value == Value::Denied
            && !goal.free
            && goal.free().value(&mut self.machine)? != Value::Denied
        {
            let locks = self.machine.blocking((goal.node, goal.member))?;
            if !locks.is_empty() {
                let mut node = self.node(goal, name, Operator::Lock, value);
                node.locks = locks;
                node.children.push(self.goal(goal.free())?);
                return Ok(node);
            }
        }
        self.path.push(goal);
        let node = match &member.kind {
            MemberKind::Relation(_) => self.relation(goal, name, value),
            MemberKind::Permission(expr) => {
                let expr = self.expr(Part {
                    goal,
                    expr,
                    odd: goal.odd,
                });
                expr.map(|mut node| {
                    match (expr_is_plain(&member.kind), node.operator) {
                        // A permission that is one other thing has it as its child.
                        (true, _) => {
                            let operator = Operator::Union;
                            let mut outer = self.node(goal, name, operator, value);
                            outer.children.push(node);
                            outer
                        }
                        _ => {
                            node.permission = name;
                            node
                        }
                    }
                })
            }
        };
        self.path.pop();
        let mut node = node?;
        if value == Value::Allowed && !goal.free {
            let passed = self.passed(goal)?;
            node.children.extend(passed);
        }
        Ok(node)
    }

    /// The locks on what is allowed, with what lets the subject pass.
    fn passed(&mut self, goal: Goal) -> Result<Vec<Node>, TooMuchWork> {
        let mut nodes = Vec::new();
        for (lock, by) in self.machine.passed((goal.node, goal.member))? {
            let mode = lock.mode.to_string();
            let mut node = self.node(goal, mode, Operator::Lock, Value::Allowed);
            node.locks.push(lock);
            if let Some((node_of, member)) = by {
                let by = Goal {
                    node: node_of,
                    member,
                    odd: false,
                    free: true,
                };
                node.children.push(self.goal(by)?);
            }
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn tuples(&mut self, goal: Goal) -> Result<Vec<Tuple>, TooMuchWork> {
        evidence::of_goal(self.ground, &mut self.machine, &mut self.proofs, goal)
    }

    fn note_stops(&mut self, tuples: &[Tuple]) {
        if self.negated {
            self.stops.extend_from_slice(tuples);
        }
    }

    fn relation(&mut self, goal: Goal, name: String, value: Value) -> Result<Node, TooMuchWork> {
        let mut node = self.node(goal, name, Operator::Relation, value);
        let links = proof::links(self.ground, &mut self.machine, goal)?;
        if value == Value::Allowed {
            let best = self.proofs.best(self.ground, &mut self.machine, &links)?;
            if let Some(link) = best {
                node.tuples.extend(link.tuple(self.ground));
                self.note_stops(&node.tuples);
                if let Some(next) = link.goal {
                    node.children.push(self.goal(next)?);
                }
            }
            return Ok(node);
        }
        for link in links {
            if node.children.len() >= CHILDREN || self.nodes > NODES {
                node.hidden += 1;
                continue;
            }
            let behind = match link.goal {
                Some(next) => next.value(&mut self.machine)?,
                None => Value::Allowed,
            };
            if link.value != Value::Allowed && behind != Value::Denied {
                let child = self.caveat(goal, &link);
                node.children.push(child);
            }
            if let Some(next) = link.goal {
                node.tuples.extend(link.tuple(self.ground));
                node.children.push(self.goal(next)?);
            }
        }
        Ok(node)
    }

    /// The node of a tuple's caveat.
    fn caveat(&mut self, goal: Goal, link: &proof::Link) -> Node {
        let tuple = link.tuple(self.ground);
        let caveat = tuple.as_ref().and_then(|tuple| tuple.caveat.clone());
        let name = caveat.as_ref().map(|caveat| Arc::clone(&caveat.name));
        let text = name.as_deref().unwrap_or("expired").to_owned();
        let mut node = self.node(goal, text, Operator::Caveat, link.value);
        node.tuples.extend(tuple);
        node.caveat = name;
        node
    }

    /// The node of a part of a permission.
    fn expr(&mut self, at: Part<'a>) -> Result<Node, TooMuchWork> {
        let Part { goal, expr, odd } = at;
        let value = self.value(at)?;
        let text = text::expression(self.ground.schema, expr);
        let part = |expr| Part { goal, expr, odd };
        match expr {
            Expr::Member(member) => self.goal(Goal {
                member: *member,
                odd,
                ..goal
            }),
            Expr::Union(parts) => {
                let mut node = self.node(goal, text, Operator::Union, value);
                let parts: Vec<_> = parts.iter().map(part).collect();
                let shown = match value {
                    Value::Allowed => self.best_of(&parts)?.into_iter().collect(),
                    Value::Denied => parts,
                    Value::Undecided(_) => self.undecided(&parts)?,
                };
                for part in shown {
                    node.children.push(self.expr(part)?);
                }
                Ok(node)
            }
            Expr::Intersection(parts) => {
                let mut node = self.node(goal, text, Operator::Intersection, value);
                for part in parts.iter().map(part) {
                    let of = self.value(part)?;
                    // Only what is denied denies the whole.
                    if value != Value::Denied || of == Value::Denied {
                        node.children.push(self.expr(part)?);
                    }
                }
                Ok(node)
            }
            Expr::Exclusion(left, right) => {
                let mut node = self.node(goal, text, Operator::Exclusion, value);
                let granted = self.value(part(left))?;
                node.children.push(self.expr(part(left))?);
                let right = Part {
                    goal: goal.free(),
                    expr: right,
                    odd: !odd,
                };
                let against = self.value(right)?;
                if granted == Value::Denied {
                    return Ok(node);
                }
                if against == Value::Denied {
                    let text = text::expression(self.ground.schema, right.expr);
                    let mut leaf = self.node(goal, text, Operator::Relation, against);
                    if value == Value::Allowed {
                        let Self {
                            ground,
                            machine,
                            proofs,
                            ..
                        } = self;
                        leaf.tuples = evidence::against(*ground, machine, proofs, right)?;
                    }
                    node.children.push(leaf);
                    return Ok(node);
                }
                self.negated = !self.negated;
                let right = self.expr(right);
                self.negated = !self.negated;
                node.children.push(right?);
                Ok(node)
            }
            Expr::AnyRole(roles) | Expr::SomeRole(roles) | Expr::Role(roles, _) => {
                let mut node = self.arrow(at, text, value)?;
                if value == Value::Allowed {
                    let inherited = self.inherited(goal, *roles)?;
                    node.tuples.extend(inherited);
                }
                Ok(node)
            }
            Expr::Arrow { .. } | Expr::Backward { .. } => self.arrow(at, text, value),
            Expr::Nil | Expr::Itself => Ok(self.node(goal, text, Operator::Relation, value)),
        }
    }

    fn arrow(&mut self, at: Part<'a>, text: String, value: Value) -> Result<Node, TooMuchWork> {
        let mut node = self.node(at.goal, text, Operator::Arrow, value);
        let every = matches!(at.expr, Expr::Arrow { all: true, .. });
        let mut links = proof::behind(self.ground, &mut self.machine, at.goal, at.expr, at.odd)?;
        if value == Value::Allowed && !every {
            let best = (self.proofs).best(self.ground, &mut self.machine, &links)?;
            links = best.into_iter().collect();
        }
        for link in links {
            let Some(next) = link.goal else { continue };
            let behind = next.value(&mut self.machine)?;
            let both = self.machine.causes.and(link.value, behind);
            let decides = match value {
                Value::Allowed => both == Value::Allowed,
                Value::Denied => true,
                Value::Undecided(_) => matches!(both, Value::Undecided(_)),
            };
            if !decides {
                continue;
            }
            let full = node.children.len() >= CHILDREN || self.nodes > NODES;
            if full && value != Value::Allowed {
                node.hidden += 1;
                continue;
            }
            node.tuples.extend(link.tuple(self.ground));
            if link.value != Value::Allowed {
                let child = self.caveat(at.goal, &link);
                node.children.push(child);
            }
            node.children.push(self.goal(next)?);
        }
        if value == Value::Allowed {
            let tuples = node.tuples.clone();
            self.note_stops(&tuples);
        }
        Ok(node)
    }

    /// The tuples by which roles that are held elsewhere arrive here.
    fn inherited(&mut self, goal: Goal, roles: RolesId) -> Result<Vec<Tuple>, TooMuchWork> {
        let Ground { index, .. } = self.ground;
        let mut tuples = Vec::new();
        for (node, relation) in self.machine.climbed_by((goal.node, goal.member), roles)? {
            for group in index.subject_groups(node, relation) {
                let set = group.subject_relation;
                let stored = (group.iter().take(CHILDREN))
                    .filter_map(|edge| index.stored(node, relation, edge.node, set));
                tuples.extend(stored);
            }
        }
        Ok(tuples)
    }

    fn undecided(&mut self, parts: &[Part<'a>]) -> Result<Vec<Part<'a>>, TooMuchWork> {
        let mut undecided = Vec::new();
        for part in parts {
            if let Value::Undecided(_) = self.value(*part)? {
                undecided.push(*part);
            }
        }
        Ok(undecided)
    }

    /// The allowed part with the shortest proof.
    fn best_of(&mut self, parts: &[Part<'a>]) -> Result<Option<Part<'a>>, TooMuchWork> {
        let mut best: Option<(u64, Part<'a>)> = None;
        for part in parts {
            if self.value(*part)? != Value::Allowed {
                continue;
            }
            let cost = (self.proofs).cost_of(self.ground, &mut self.machine, *part)?;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, *part));
            }
        }
        Ok(best.map(|(_, part)| part))
    }

    fn value(&mut self, at: Part<'a>) -> Result<Value, TooMuchWork> {
        proof::value(self.ground, &mut self.machine, at.goal, at.expr, at.odd)
    }
}

/// Whether a permission is one reference to something else.
fn expr_is_plain(kind: &MemberKind) -> bool {
    !matches!(
        kind,
        MemberKind::Permission(Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..))
    )
}

/// An object in words.
fn object_text(ground: Ground<'_>, question: &Question<'_>, node: NodeId) -> String {
    use super::machine::{NO_RESOURCE, NO_SUBJECT};
    match node {
        NO_RESOURCE => question.resource.to_string(),
        NO_SUBJECT => format!("{}:{}", question.subject.kind(), question.subject.id()),
        node => {
            if let Some(site) = ground.index.site(node) {
                return site.resource.to_string();
            }
            let kind = ground.schema.names.type_name(ground.index.kind_of(node));
            format!("{kind}:{}", ground.index.id_of(node))
        }
    }
}
