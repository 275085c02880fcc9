//! The lists against the oracle: random worlds, and every list in them equal to the checks that it
//! stands for.
//!
//! `PORTCULLIS_LISTS` says how many worlds; `PORTCULLIS_SEED` begins with another one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod oracle;
mod real;

use std::collections::{BTreeMap, BTreeSet};

use oracle::model::{Kind, Level, Name, Object, Subject, Value, World};
use oracle::world::{Dice, Round};
use oracle::{Asker, Solution, Verdict};
use portcullis::eval::{
    CheckError, Decision, Limits, ListPlace, Question, ResourceList, ResourcesQuestion, Row, Step,
    SubjectList, SubjectsQuestion, list_permissions,
};
use real::{Real, agrees, setting, world_text};

/// What one subject asks in a world, with no tuples of its own.
fn round(dice: &mut Dice, world: &World) -> Round {
    Round {
        contextual: Vec::new(),
        ..dice.round(world)
    }
}

fn solve<'a>(world: &'a World, round: &'a Round) -> Solution<'a> {
    let asker = Asker {
        world,
        subject: round.subject,
        request: &round.request,
        now: round.now,
    };
    asker.solve()
}

/// Calls `judge` for some rounds of many worlds.
fn worlds(crowd: bool, judge: impl Fn(u64, &World, &Real, &Round)) {
    let first = setting("PORTCULLIS_SEED", 0);
    let count = setting("PORTCULLIS_LISTS", 30);
    // A crowd takes the oracle long.
    let count = if crowd { count.div_ceil(20) } else { count };
    for seed in first..first + count {
        let mut dice = Dice::new(seed);
        let world = match crowd {
            true => dice.crowd(),
            false => dice.drawn(seed),
        };
        let real = Real::new(&world);
        for _ in 0..if crowd { 1 } else { 3 } {
            let round = round(&mut dice, &world);
            judge(seed, &world, &real, &round);
        }
    }
}

#[test]
fn list_permissions_equals_single_checks() {
    worlds(false, |seed, world, real, round| {
        let solution = solve(world, round);
        let context = real::context(&round.request);
        let subject = real::subject(&world.subject_text(round.subject));
        for kind in 0..world.types.len() {
            let object = Object { kind, id: 0 };
            let resource: portcullis::tuple::Object = world.object_text(object).parse().unwrap();
            let question = Question {
                subject: subject.as_ref(),
                permission: "",
                resource: resource.as_ref(),
                context: &context,
                contextual: &[],
                with_dependencies: false,
            };
            let (now, limits) = (real::instant(round.now), Limits::default());
            let entries = list_permissions(real.facts(), &question, now, &limits).unwrap();
            let mut names: Vec<_> = world.members(kind);
            names.sort_by_key(|name| world.names[*name].clone());
            assert_eq!(entries.len(), names.len());
            for (entry, name) in entries.iter().zip(names) {
                assert_eq!(*entry.permission, *world.names[name]);
                let verdict = solution.verdict(object, name);
                assert!(
                    agrees(verdict, &entry.outcome),
                    "seed {seed}\n{}\n{resource}#{}@{subject}: {:?}, not {verdict:?}",
                    world_text(world),
                    entry.permission,
                    entry.outcome
                );
            }
        }
    });
}

/// What a list says of one item.
type Said = (Level, Vec<String>);

/// A list that ended, or ended in an error.
type Listed = Result<Vec<(Row, ListPlace)>, CheckError>;

/// Rows by item; each item must be there once.
fn by_item(rows: &[(Row, ListPlace)]) -> BTreeMap<String, Said> {
    let said = |row: &Row| {
        let level = match row.decision {
            Decision::Allowed => Level::Allowed,
            Decision::Conditional => Level::Conditional,
            Decision::Denied => panic!("a denial is listed: {row:?}"),
        };
        let missing = row.missing_context.iter().map(ToString::to_string);
        (row.item.clone(), (level, missing.collect()))
    };
    let map: BTreeMap<_, _> = rows.iter().map(|(row, _)| said(row)).collect();
    assert_eq!(map.len(), rows.len(), "an item is listed twice: {rows:?}");
    map
}

/// Whether a row (or its absence) says what the oracle says.
fn fits(verdict: Verdict, said: Option<&Said>) -> bool {
    let (level, missing) = said.cloned().unwrap_or((Level::Denied, Vec::new()));
    match verdict {
        Verdict::Exactly(value) => {
            let conditional = value.level == Level::Conditional;
            let names: Vec<_> = value
                .missing_names()
                .iter()
                .map(ToString::to_string)
                .collect();
            level == value.level && (!conditional || missing == names)
        }
        Verdict::Level(expected) => level == expected,
        Verdict::Undecided => level == Level::Conditional,
        Verdict::CaveatFailed | Verdict::NegationCycle => false,
    }
}

/// Whether a list may end in an error because of this.
fn may_fail(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::CaveatFailed | Verdict::NegationCycle | Verdict::Undecided
    )
}

/// What lists are asked of.
struct Lists<'a> {
    world: &'a World,
    real: &'a Real,
    round: &'a Round,
}

impl Lists<'_> {
    fn resources(&self, kind: Kind, name: Name, within: Option<Object>, page: usize) -> Listed {
        let subject = real::subject(&self.world.subject_text(self.round.subject));
        let context = real::context(&self.round.request);
        let within = within.map(|outer| self.world.object_text(outer));
        let within: Option<portcullis::tuple::Object> = within.map(|text| text.parse().unwrap());
        let question = ResourcesQuestion {
            subject: subject.as_ref(),
            permission: &self.world.names[name],
            kind: &self.world.types[kind].name,
            context: &context,
            within: within.as_ref().map(portcullis::tuple::Object::as_ref),
        };
        let (now, limits) = (real::instant(self.round.now), Limits::default());
        paged(page, |after| {
            let facts = self.real.facts();
            let list = ResourceList::new(facts, question, now, &limits, after);
            let mut list = list.unwrap();
            move || (list.step(), list.place())
        })
    }

    fn subjects(
        &self,
        object: Object,
        name: Name,
        form: (Kind, Option<Name>),
        page: usize,
    ) -> Listed {
        let context = real::context(&self.round.request);
        let resource: portcullis::tuple::Object = self.world.object_text(object).parse().unwrap();
        let question = SubjectsQuestion {
            resource: resource.as_ref(),
            permission: &self.world.names[name],
            kind: &self.world.types[form.0].name,
            relation: form.1.map(|name| self.world.names[name].as_str()),
            context: &context,
        };
        let (now, limits) = (real::instant(self.round.now), Limits::default());
        paged(page, |after| {
            let facts = self.real.facts();
            let list = SubjectList::new(facts, question, now, &limits, after);
            let mut list = list.unwrap();
            move || (list.step(), list.place())
        })
    }
}

/// One to three rows a page.
fn page_of(seed: u64) -> usize {
    match seed % 3 {
        0 => 1,
        1 => 2,
        _ => 3,
    }
}

/// Reads a list page by page, each from the place where the last one ended.
fn paged<F>(page: usize, begin: impl Fn(Option<ListPlace>) -> F) -> Listed
where
    F: FnMut() -> (Result<Step, CheckError>, Option<ListPlace>),
{
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let mut next = begin(after);
        let mut left = page;
        while left > 0 {
            match next() {
                (Ok(Step::Row(row)), Some(place)) => {
                    rows.push((row, ListPlace::from_bytes(place.to_bytes())));
                    left -= 1;
                }
                (Ok(Step::End), _) => return Ok(rows),
                (Ok(_), _) => {}
                (Err(error), _) => return Err(error),
            }
        }
        after = rows.last().map(|(_, place)| *place);
    }
}

/// Whether a chain of tuples that arrows walk leads from one object to another.
fn lies_within(
    world: &World,
    walked: &BTreeSet<(Kind, Name)>,
    from: Object,
    outer: Object,
    round: &Round,
) -> Value {
    let size = world.ids.len();
    let at = |object: Object| object.kind * size + object.id;
    let mut values = vec![Value::DENIED; world.types.len() * size];
    let mut reached = Value::DENIED;
    values[at(from)] = Value::ALLOWED;
    loop {
        let before = (values.clone(), reached);
        for tuple in &world.tuples {
            let Some(to) = tuple.subject.object() else {
                continue;
            };
            let ended = tuple.expires_at.is_some_and(|end| end <= round.now);
            if ended || !walked.contains(&(tuple.resource.kind, tuple.relation)) {
                continue;
            }
            let condition = tuple
                .caveat
                .as_ref()
                .map_or(Value::ALLOWED, |(caveat, fixed)| {
                    let given = |name: &str| fixed.get(name).or(round.request.get(name)).copied();
                    (world.caveats[*caveat].resolve)(&given)
                });
            let through = values[at(tuple.resource)].and(condition);
            if to == outer {
                reached = reached.or(through);
            }
            values[at(to)] = values[at(to)].or(through);
        }
        if (values.clone(), reached) == before {
            return reached;
        }
    }
}

/// The relations that forward arrows of a world's schema walk.
fn walked(world: &World) -> BTreeSet<(Kind, Name)> {
    fn vias(expr: &oracle::model::Expr, found: &mut Vec<Name>) {
        use oracle::model::Expr;
        match expr {
            Expr::Arrow { via, .. } => found.push(*via),
            Expr::Union(a, b) | Expr::Intersection(a, b) | Expr::Exclusion(a, b, _) => {
                vias(a, found);
                vias(b, found);
            }
            Expr::Nil
            | Expr::Itself
            | Expr::Member(_)
            | Expr::Roles { .. }
            | Expr::Backward { .. } => {}
        }
    }
    let mut walked = BTreeSet::new();
    for (kind, definition) in world.types.iter().enumerate() {
        for (_, body) in &definition.members {
            if let oracle::model::Body::Permission(expr) = body {
                let mut found = Vec::new();
                vias(expr, &mut found);
                walked.extend(found.into_iter().map(|via| (kind, via)));
            }
        }
    }
    walked
}

#[test]
fn list_resources_equals_the_checks_that_are_allowed() {
    for crowd in [false, true] {
        worlds(crowd, |seed, world, real, round| {
            let solution = solve(world, round);
            let lists = Lists { world, real, round };
            for kind in 0..world.types.len() {
                for name in world.members(kind) {
                    let listed = lists.resources(kind, name, None, usize::MAX);
                    let verdicts: Vec<_> = (0..world.ids.len())
                        .map(|id| Object { kind, id })
                        .map(|object| (world.object_text(object), solution.verdict(object, name)))
                        .collect();
                    let told = || {
                        format!(
                            "seed {seed}\n{}\n{} {} {}: {listed:?}\nnot {verdicts:?}",
                            world_text(world),
                            world.subject_text(round.subject),
                            world.names[name],
                            world.types[kind].name,
                        )
                    };
                    judge(&listed, &verdicts, &told);
                    let page = lists.resources(kind, name, None, page_of(seed));
                    assert_eq!(page, listed, "by pages\n{}", told());
                }
            }
        });
    }
}

/// Compares a list with what each item must be.
fn judge(listed: &Listed, verdicts: &[(String, Verdict)], told: &dyn Fn() -> String) {
    match listed {
        Err(_) => assert!(
            verdicts.iter().any(|(_, verdict)| may_fail(*verdict)),
            "{}",
            told()
        ),
        Ok(rows) => {
            let mut said = by_item(rows);
            for (item, verdict) in verdicts {
                assert!(
                    fits(*verdict, said.remove(item).as_ref()),
                    "{item}\n{}",
                    told()
                );
            }
            assert!(said.is_empty(), "{said:?}\n{}", told());
        }
    }
}

#[test]
fn within_leaves_out_what_lies_elsewhere() {
    worlds(false, |seed, world, real, round| {
        let solution = solve(world, round);
        let lists = Lists { world, real, round };
        let walked = walked(world);
        let mut dice = Dice::new(!seed);
        for kind in 0..world.types.len() {
            for name in world.members(kind) {
                let outer = Object {
                    kind: dice.below(world.types.len()),
                    id: dice.below(world.ids.len()),
                };
                let listed = lists.resources(kind, name, Some(outer), usize::MAX);
                let Ok(rows) = &listed else { continue };
                let mut said = by_item(rows);
                for id in 0..world.ids.len() {
                    let object = Object { kind, id };
                    let lies = lies_within(world, &walked, object, outer, round);
                    let verdict = solution.verdict(object, name);
                    let said = said.remove(&world.object_text(object));
                    let level = said.as_ref().map_or(Level::Denied, |said| said.0);
                    let Verdict::Exactly(has) = verdict else {
                        continue;
                    };
                    let both = lies.and(has);
                    let names: Vec<_> = both
                        .missing_names()
                        .iter()
                        .map(ToString::to_string)
                        .collect();
                    assert!(
                        level == both.level
                            && (level != Level::Conditional || said.unwrap().1 == names),
                        "seed {seed}\n{}\n{} {} {} within {}: {rows:?}, not {both:?}",
                        world_text(world),
                        world.subject_text(round.subject),
                        world.names[name],
                        world.object_text(object),
                        world.object_text(outer),
                    );
                }
                assert!(said.is_empty());
            }
        }
    });
}

#[test]
fn list_subjects_equals_the_checks_that_are_allowed() {
    for crowd in [false, true] {
        worlds(crowd, |seed, world, real, round| {
            let lists = Lists { world, real, round };
            let mut dice = Dice::new(!seed);
            for _ in 0..if crowd { 2 } else { 4 } {
                let kind = 1 + dice.below(world.types.len() - 1);
                let names = world.members(kind);
                let (object, name) = (
                    Object {
                        kind,
                        id: dice.below(world.ids.len()),
                    },
                    *dice.pick(&names),
                );
                let of = dice.below(world.types.len());
                let sets = world.members(of);
                let form = match dice.once_in(3) && !sets.is_empty() {
                    true => (of, Some(*dice.pick(&sets))),
                    false => (of, None),
                };
                let listed = lists.subjects(object, name, form, usize::MAX);
                let verdicts: Vec<_> = (0..world.ids.len())
                    .map(|id| Object { kind: of, id })
                    .map(|one| match form.1 {
                        None => Subject::Object(one),
                        Some(relation) => Subject::Set(one, relation),
                    })
                    .map(|subject| {
                        let round = Round {
                            subject,
                            ..round.clone()
                        };
                        let verdict = solve(world, &round).verdict(object, name);
                        (world.subject_text(subject), verdict)
                    })
                    .collect();
                let told = || {
                    format!(
                        "seed {seed}\n{}\nwho of {form:?} has {}#{} with {:?}: {listed:?}\nnot {verdicts:?}",
                        world_text(world),
                        world.object_text(object),
                        world.names[name],
                        round.request,
                    )
                };
                judge_subjects(&listed, &verdicts, &world.types[of].name, &told);
                let page = lists.subjects(object, name, form, page_of(seed));
                assert_eq!(page, listed, "by pages\n{}", told());
            }
        });
    }
}

/// As [`judge`], where a wildcard may stand for subjects that have no row.
fn judge_subjects(
    listed: &Listed,
    verdicts: &[(String, Verdict)],
    kind: &str,
    told: &dyn Fn() -> String,
) {
    let Ok(rows) = listed else {
        return judge(listed, verdicts, told);
    };
    let mut said = by_item(rows);
    let all = said.remove(&format!("{kind}:*"));
    let except: BTreeSet<_> = rows
        .iter()
        .flat_map(|(row, _)| row.except.clone())
        .collect();
    for (item, verdict) in verdicts {
        let own = said.remove(item);
        let excepted = except.contains(item);
        let here = match &own {
            None if excepted => None,
            None => all.clone(),
            own => own.clone(),
        };
        assert!(fits(*verdict, here.as_ref()), "{item}\n{}", told());
        let less = own.as_ref().map_or(Level::Denied, |said| said.0)
            < all.as_ref().map_or(Level::Denied, |said| said.0);
        assert!(!excepted || less, "{item} is excepted\n{}", told());
        if own.is_some() && less {
            assert!(excepted, "{item} has less, and is not excepted\n{}", told());
        }
    }
    assert!(said.is_empty(), "{said:?}\n{}", told());
    // Nobody has more by a wildcard than the last id, which no tuple names.
    if let (Some(all), Some((_, verdict))) = (&all, verdicts.last()) {
        assert!(fits(*verdict, Some(all)), "{}", told());
    }
}
