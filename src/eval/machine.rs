//! The evaluator: the least fixpoint of the schema's programs over the tuples, for one subject.
//!
//! Goals (a relation or permission of an object) are evaluated depth first on a stack of frames
//! of its own, so that no depth of data can exhaust the thread's. A goal that meets one in
//! progress reads that one's value of the last round (at first: denied) and is provisional until
//! the component of the cycle is closed: at its first goal, which is evaluated in rounds until no
//! value that was read early has risen. An allow is final at once, since values only rise. A
//! cycle that goes through the right side of `-` has no such value: what reads one is undecided,
//! and where that reaches the root, `negation` decides.

mod denial;
mod frame;
mod goals;
mod guard;
mod keys;
mod negation;
mod parts;
mod tuples;
mod walk;
mod within;

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::index::{NodeId, Restriction};
use crate::schema::MemberId;
use crate::schema::program::{Op, Sign};
use crate::time::Timestamp;
use crate::tuple::{Context, ObjectRef};

use self::denial::scratch;
use self::goals::{Goals, number};
use self::guard::Guard;
use self::walk::Walk;
use super::climb::Climb;
use super::closure::{Closure, Ground, Known, Who};
use super::locks::Held;
use super::value::{Cause, Causes, Value};

/// Stand for a resource and a subject that no tuple names.
pub(super) const NO_RESOURCE: NodeId = NodeId(u32::MAX);
pub(super) const NO_SUBJECT: NodeId = NodeId(u32::MAX - 1);

/// Lists of at most this many sets are walked without asking the subject's side.
pub(super) const SHORT: usize = 2;

/// Most questions nest no deeper.
const SHALLOW: usize = 12;
/// So many values are kept from question to question.
const REMEMBERED: usize = 1 << 16;

/// An object that the index may not know.
pub(super) type Unknown<'a> = Option<ObjectRef<'a>>;

/// What stands for the object of this place in a machine's list of unknown ones.
fn stand_in(place: usize) -> NodeId {
    NodeId(u32::MAX - u32::try_from(place).unwrap_or(0))
}

/// A relation or permission of an object. `odd` says that it is asked on the right of an odd
/// number of `-`, which matters for the subject `type:*` only; `free` that no lock is applied,
/// nor to anything that it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Goal {
    node: NodeId,
    member: MemberId,
    odd: bool,
    free: bool,
}

/// What is known of a goal that was met.
#[derive(Clone, Copy, Debug)]
enum Status {
    /// Its frame is on the stack, at this place.
    Open(u32),
    /// Evaluated, but for a goal that is still open; its place in the list of such goals.
    Provisional(Value, u32),
    /// To be evaluated again in the next round of its component.
    Stale,
    Final(Value),
}

struct Entry {
    goal: Goal,
    status: Status,
    /// What the goal reads as while it is open: its value of the last round.
    early: Value,
    /// Whether anybody read `early` in this round.
    read_early: bool,
    rests_on: Vec<Rest>,
}

/// Something that an answer rests on.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Key(u64),
    Goal(u32),
    /// A closure searched to its end.
    Absent(u32),
    /// A sure fact of a closure.
    Fact(u32, u32),
}

/// A goal in progress.
struct Frame<'a> {
    entry: u32,
    goal: Goal,
    op: u32,
    /// Where its values begin among those of all frames.
    base: u32,
    rests_on: Vec<Rest>,
    walk: Option<Box<Walk<'a>>>,
    guard: Option<Box<Guard<'a>>>,
    waiting: bool,
    /// How many `-` lie between the root and this goal.
    negations: u32,
    /// The lowest frame whose goal was read early from here.
    low: u32,
    /// Whether a value that was read early turned out too low.
    unstable: bool,
    /// Where its part of the list of provisional goals begins.
    provisional: u32,
}

enum Step {
    Done(Value),
    /// The value of the goal of this place.
    Need(u32, Sign),
}

/// More tuple reads than allowed.
#[derive(Debug)]
pub(super) struct TooMuchWork;

/// The evaluation of one question.
pub(super) struct Machine<'a> {
    ground: Ground<'a>,
    who: Who,
    context: &'a Context,
    /// The resource and the subject, where the index doesn't know them, and what else it doesn't.
    unknown: SmallVec<[Unknown<'a>; 2]>,
    track: bool,
    limit: u64,
    work: u64,
    goals: Goals,
    frames: Vec<Frame<'a>>,
    /// Values of the frames, each with the place in its frame's `rests_on` where its part begins.
    values: Vec<(Value, u32)>,
    provisional: Vec<u32>,
    closures: Vec<Closure<'a>>,
    delivered: Option<(u32, Value)>,
    /// The locks on an object, by the place of their mode; what it inherits roles from.
    held: HashMap<(NodeId, u16), Arc<Held<'a>>>,
    above: HashMap<(NodeId, u16), Arc<Climb>>,
    /// Whether a lock has turned anything into a denial.
    locked: bool,
    /// What a denial by locks rests on, beside all goals.
    denial: Option<Vec<Rest>>,
    /// Set while bounds are computed: see `negation`.
    assumed: Option<negation::Assumed>,
    contested: bool,
    ends: Option<Timestamp>,
    pub causes: Causes,
}

/// Whether a tuple holds at `now` as far as time goes, whether nothing else restricts it, and
/// when it ends.
pub(super) fn standing(
    restriction: Option<&Restriction>,
    now: Timestamp,
) -> (bool, bool, Option<Timestamp>) {
    let Some(first) = restriction else {
        return (true, true, None);
    };
    let (mut live, mut plain, mut end) = (false, false, None);
    let mut next = Some(first);
    while let Some(one) = next {
        if one.expires_at.is_none_or(|at| at > now) {
            live = true;
            plain |= one.caveat.is_none();
            end = earlier(end, one.expires_at);
        }
        next = one.also.as_deref();
    }
    (live, plain, end)
}

/// The earlier of two ends.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl<'a> Machine<'a> {
    pub fn new(
        ground: Ground<'a>,
        who: Who,
        context: &'a Context,
        unknown: [Unknown<'a>; 2],
        track: bool,
        limit: u64,
    ) -> Self {
        Self {
            ground,
            who,
            context,
            unknown: SmallVec::from(unknown),
            track,
            limit,
            work: 0,
            goals: Goals::default(),
            frames: Vec::new(),
            values: Vec::new(),
            provisional: Vec::new(),
            closures: Vec::new(),
            delivered: None,
            held: HashMap::new(),
            above: HashMap::new(),
            locked: false,
            denial: None,
            assumed: None,
            contested: false,
            ends: None,
            causes: Causes::default(),
        }
    }

    /// The first end of a tuple that was read.
    pub fn ends(&self) -> Option<Timestamp> {
        self.closures
            .iter()
            .fold(self.ends, |end, closure| earlier(end, closure.ends))
    }

    /// The object and the permission of an entry, where the index knows the object.
    pub fn named(&self, entry: u32) -> Option<(String, String)> {
        let Goal { node, member, .. } = self.goals.get(entry)?.goal;
        let Ground { schema, index, .. } = self.ground;
        if self.is_unknown(node) {
            return None;
        }
        let kind = schema.names.type_name(index.kind_of(node));
        let object = format!("{kind}:{}", index.id_of(node));
        Some((object, schema.member(member).name.to_string()))
    }

    /// The value of `member` on `node`.
    pub fn evaluate(&mut self, node: NodeId, member: MemberId) -> Result<Value, TooMuchWork> {
        self.evaluate_where(node, member, false)
    }

    /// The same, where wanted with no lock applied.
    pub fn evaluate_where(
        &mut self,
        node: NodeId,
        member: MemberId,
        free: bool,
    ) -> Result<Value, TooMuchWork> {
        self.evaluate_goal(Goal {
            node,
            member,
            odd: false,
            free: free && self.splits(),
        })
    }

    fn evaluate_goal(&mut self, root: Goal) -> Result<Value, TooMuchWork> {
        let value = self.solve(root)?;
        if !self.causes.cycles(value) {
            return Ok(value);
        }
        self.contested = true;
        Ok(self.well_founded(root)?.unwrap_or(value))
    }

    /// Gives the next question its own bound of work. What was found for earlier ones is kept as
    /// long as it is not too much: a list asks without end.
    pub fn begin_anew(&mut self) {
        self.work = 0;
        if self.goals.len() > REMEMBERED {
            self.goals.clear();
            self.held.clear();
            self.above.clear();
            self.causes = Causes::default();
        }
    }

    /// Takes in what a search has found: the subject has `member` on `node`, locks applied.
    pub fn learn(&mut self, node: NodeId, member: MemberId) {
        let place = self.goals.find_or_add(Goal {
            node,
            member,
            odd: false,
            free: false,
        });
        self.goals.at(place).status = Status::Final(Value::Allowed);
    }

    /// Tuple reads since the last question began.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Whether the answer rests on a negation that depends on itself: no keys are known for it.
    pub fn contested(&self) -> bool {
        self.contested
    }

    fn solve(&mut self, root: Goal) -> Result<Value, TooMuchWork> {
        if let Some(Status::Final(value)) = self.known(root) {
            return Ok(value);
        }
        // Keys are those of the root's entry.
        if !self.track
            && let Some(value) = self.at_once(&mut scratch(root), root)?
        {
            return Ok(value);
        }
        let place = self.goals.find_or_add(root);
        self.open(place, 0);
        while let Some(mut frame) = self.frames.pop() {
            match self.run(&mut frame)? {
                Step::Need(place, sign) => {
                    let negations = frame.negations + u32::from(sign.under);
                    frame.waiting = true;
                    self.frames.push(frame);
                    self.open(place, negations);
                }
                Step::Done(value) => self.close(frame, value),
            }
        }
        Ok(self
            .delivered
            .take()
            .map_or(Value::Denied, |(_, value)| value))
    }

    fn known(&self, goal: Goal) -> Option<Status> {
        let entry = self.goals.get(self.goals.find(goal)?)?;
        Some(entry.status)
    }

    /// Puts a goal on the stack.
    fn open(&mut self, entry: u32, negations: u32) {
        if self.frames.capacity() == 0 {
            self.frames.reserve(SHALLOW);
            self.values.reserve(2 * SHALLOW);
        }
        let place = number(self.frames.len());
        let known = self.goals.at(entry);
        let goal = known.goal;
        known.status = Status::Open(place);
        known.read_early = false;
        self.frames.push(Frame {
            entry,
            goal,
            op: 0,
            base: number(self.values.len()),
            rests_on: Vec::new(),
            walk: None,
            guard: None,
            waiting: false,
            negations,
            low: place,
            unstable: false,
            provisional: number(self.provisional.len()),
        });
    }

    /// Takes the value of a finished frame: final, provisional, or the start of another round.
    fn close(&mut self, mut frame: Frame<'a>, value: Value) {
        let place = number(self.frames.len());
        self.values.truncate(frame.base as usize);
        let entry = self.goals.at(frame.entry);
        let rose = entry.read_early && entry.early != value;
        if value == Value::Allowed {
            self.settle(frame.provisional, None);
            self.finish(frame, Status::Final(value));
        } else if frame.low < place {
            frame.unstable |= rose;
            let (low, unstable) = (frame.low, frame.unstable);
            self.goals.at(frame.entry).early = value;
            let place = number(self.provisional.len());
            self.provisional.push(frame.entry);
            self.finish(frame, Status::Provisional(value, place));
            if let Some(parent) = self.frames.last_mut() {
                parent.low = parent.low.min(low);
                parent.unstable |= unstable;
            }
        } else if rose || frame.unstable {
            self.next_round(frame, value);
        } else {
            self.settle(frame.provisional, Some(value));
            self.finish(frame, Status::Final(value));
        }
    }

    fn finish(&mut self, frame: Frame<'a>, status: Status) {
        let value = match status {
            Status::Final(value) | Status::Provisional(value, _) => value,
            Status::Open(_) | Status::Stale => Value::Denied,
        };
        let entry = self.goals.at(frame.entry);
        entry.status = status;
        entry.rests_on = frame.rests_on;
        self.delivered = Some((frame.entry, value));
    }

    /// Ends a component. Where its first goal is an allow (`None`), what was computed with less
    /// is dropped; so is what is undecided for a negation that has been decided since.
    fn settle(&mut self, from: u32, first: Option<Value>) {
        if self.provisional.len() == from as usize {
            return;
        }
        let members: SmallVec<[u32; 8]> = self.provisional.drain(from as usize..).collect();
        let keep_cycles = first.is_some_and(|value| self.causes.cycles(value));
        for place in members {
            let Status::Provisional(value, _) = self.goals.at(place).status else {
                continue;
            };
            let keep = first.is_some() && (keep_cycles || !self.causes.cycles(value));
            let entry = self.goals.at(place);
            entry.early = Value::Denied;
            entry.status = match keep {
                true => Status::Final(value),
                false => Status::Stale,
            };
        }
    }

    /// Evaluates a component again, from the values that this round has found.
    fn next_round(&mut self, mut frame: Frame<'a>, value: Value) {
        let from = frame.provisional as usize;
        let members: SmallVec<[u32; 8]> = self.provisional.drain(from..).collect();
        for place in members {
            let entry = self.goals.at(place);
            if let Status::Provisional(..) = entry.status {
                entry.status = Status::Stale;
            }
        }
        let entry = self.goals.at(frame.entry);
        (entry.early, entry.read_early) = (value, false);
        frame.op = 0;
        frame.rests_on.clear();
        (frame.walk, frame.guard) = (None, None);
        (frame.waiting, frame.unstable) = (false, false);
        frame.low = number(self.frames.len());
        self.frames.push(frame);
    }

    fn spend(&mut self, reads: u64) -> Result<(), TooMuchWork> {
        self.work += reads;
        match self.work > self.limit {
            true => Err(TooMuchWork),
            false => Ok(()),
        }
    }

    /// Runs a frame until it is done or needs another goal.
    fn run(&mut self, frame: &mut Frame<'a>) -> Result<Step, TooMuchWork> {
        if frame.op == 0 && !frame.waiting && self.is_itself(frame.goal) {
            return Ok(Step::Done(Value::Allowed));
        }
        let ground = self.ground;
        let ops = &ground.programs.get(frame.goal.member).ops;
        let mut begin = frame.begin();
        let mut delivered = self.take_delivered(frame);
        while let Some(op) = ops.get(frame.op as usize) {
            match *op {
                Op::Nobody => self.push(Value::Denied, begin),
                Op::Itself(sign) => {
                    let value = self.itself(frame.goal, sign);
                    self.push(value, begin);
                }
                Op::Call(member, sign) => {
                    let goal = self.call(frame.goal, frame.goal.node, member, sign);
                    let step = match delivered.take() {
                        Some(value) => Step::Done(value),
                        None => self.resolve(frame, goal, sign)?,
                    };
                    match step {
                        Step::Done(value) => self.push(value, begin),
                        need @ Step::Need(..) => return Ok(need),
                    }
                }
                Op::Tuples | Op::Arrow { .. } | Op::Backward { .. } | Op::Roles { .. } => {
                    match self.over_tuples(frame, *op, delivered.take())? {
                        Step::Done(value) => {
                            let begin = frame.walk.take().map_or(begin, |walk| walk.begin);
                            self.push(value, begin);
                        }
                        need @ Step::Need(..) => return Ok(need),
                    }
                }
                Op::IfAllowed(to) => {
                    if self.top(frame) == Value::Allowed {
                        frame.op = to;
                        continue;
                    }
                }
                Op::IfDenied(to) => {
                    if self.top(frame) == Value::Denied {
                        frame.op = to;
                        continue;
                    }
                }
                Op::Or => {
                    let (a, b) = self.pop_two();
                    let value = self.causes.or(a.0, b.0);
                    if value == Value::Allowed && self.track {
                        frame.rests_on.drain(a.1 as usize..b.1 as usize);
                    }
                    self.push(value, a.1);
                }
                Op::And => {
                    let (a, b) = self.pop_two();
                    let value = self.causes.and(a.0, b.0);
                    self.push(value, a.1);
                }
                Op::Minus => {
                    let (a, b) = self.pop_two();
                    let value = self.causes.minus(a.0, b.0);
                    self.push(value, a.1);
                }
            }
            frame.op += 1;
            begin = frame.begin();
        }
        self.guard(frame, delivered)
    }

    /// Whether it matters that a goal is free of locks: some are held, or their keys are wanted.
    fn splits(&self) -> bool {
        self.track || !self.ground.locks.is_empty()
    }

    /// What a goal asks of another one: whether on the right of `-`, and whether free of locks,
    /// as all is that stands there.
    fn call(&self, from: Goal, node: NodeId, member: MemberId, sign: Sign) -> Goal {
        Goal {
            node,
            member,
            odd: from.odd ^ sign.odd,
            free: self.splits() && (from.free || sign.under),
        }
    }

    /// The value that the frame was waiting for, now that its goal is closed.
    fn take_delivered(&mut self, frame: &mut Frame<'a>) -> Option<Value> {
        if !std::mem::take(&mut frame.waiting) {
            return None;
        }
        let (entry, value) = self.delivered.take()?;
        if self.track {
            frame.rests_on.push(Rest::Goal(entry));
        }
        Some(value)
    }

    /// The value of a goal, where it can be had without a frame of its own.
    fn resolve(
        &mut self,
        frame: &mut Frame<'a>,
        goal: Goal,
        sign: Sign,
    ) -> Result<Step, TooMuchWork> {
        self.spend(1)?;
        if let Some(assumed) = self.assumed.as_mut().filter(|_| sign.under) {
            return Ok(Step::Done(assumed.read(goal, sign)));
        }
        if let Some((value, rest)) = self.closed(goal) {
            frame.rest(self.track, rest);
            return Ok(Step::Done(value));
        }
        if let Some(value) = self.at_once(frame, goal)? {
            return Ok(Step::Done(value));
        }
        let place = self.goals.find_or_add(goal);
        Ok(match self.met(frame, place, sign) {
            Some(value) => Step::Done(value),
            None => Step::Need(place, sign),
        })
    }

    /// The value of a relation whose tuples have no subject sets and that no lock blocks.
    fn at_once(&mut self, frame: &mut Frame<'a>, goal: Goal) -> Result<Option<Value>, TooMuchWork> {
        let program = self.ground.programs.get(goal.member);
        let is_relation = matches!(program.ops.first(), Some(Op::Tuples));
        if !is_relation || self.is_itself(goal) || self.is_guarded(goal) {
            return Ok(None);
        }
        let (own, sets) = self.own_tuples(goal);
        if sets {
            return Ok(None);
        }
        let value = self.direct(frame, goal, own.as_ref())?;
        if self.track && !goal.free && value != Value::Denied {
            self.locks_on(frame, goal)?;
        }
        Ok(Some(value))
    }

    /// What a complete search from the subject's side says of a goal.
    fn closed(&self, goal: Goal) -> Option<(Value, Rest)> {
        if !self.searchable(goal.odd) {
            return None;
        }
        let place = (self.closures.iter()).position(|closure| {
            closure.is_complete() && closure.demand() == (goal.member, goal.free)
        })?;
        let closure = self.closures.get(place)?;
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        match closure.known(goal.node) {
            Known::Denied => Some((Value::Denied, Rest::Absent(place))),
            Known::Sure(fact) => Some((Value::Allowed, Rest::Fact(place, fact))),
            Known::Open => None,
        }
    }

    /// On the right of `-` the wildcard asks for any subject, whom no search begins at.
    fn searchable(&self, odd: bool) -> bool {
        !(self.who.is_wildcard && odd)
    }

    /// The lowest frame that a provisional goal may have read early: that of the deepest frame
    /// under which it was evaluated and which is still open. (The frame that it read itself may
    /// have been closed since, and another may stand in its place.)
    fn low_of(&self, frame: &Frame<'a>, place: u32) -> u32 {
        if frame.provisional <= place {
            return frame.low;
        }
        let under = self
            .frames
            .partition_point(|open| open.provisional <= place);
        let owner = under.checked_sub(1).and_then(|at| self.frames.get(at));
        owner.map_or(0, |owner| owner.low)
    }

    /// The value of a goal that was met before; `None` where it is to be evaluated.
    fn met(&mut self, frame: &mut Frame<'a>, place: u32, sign: Sign) -> Option<Value> {
        let (status, early) = {
            let entry = self.goals.at(place);
            (entry.status, entry.early)
        };
        let (value, low) = match status {
            Status::Final(value) => {
                frame.rest(self.track, Rest::Goal(place));
                return Some(value);
            }
            Status::Stale => return None,
            Status::Open(low) => (early, low),
            Status::Provisional(value, place) => (value, self.low_of(frame, place)),
        };
        frame.rest(self.track, Rest::Goal(place));
        frame.low = frame.low.min(low);
        let negations = match self.frames.get(low as usize) {
            Some(open) => open.negations,
            None => frame.negations,
        };
        if frame.negations + u32::from(sign.under) > negations {
            return Some(self.causes.undecided(Cause {
                cycle: Some(place),
                ..Cause::default()
            }));
        }
        if let Status::Open(_) = status {
            self.goals.at(place).read_early = true;
        }
        Some(value)
    }
}
