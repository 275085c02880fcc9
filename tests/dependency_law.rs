//! The law of the dependency keys: whatever a commit or time changes, its keys or the end of the
//! answer had said so.
//!
//! A cache keeps answers as a sidecar would. After each commit of a random history every answer
//! that is still kept is asked again. `PORTCULLIS_COMMITS` says how many commits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod oracle;
mod real;

use oracle::Asker;
use oracle::model::{Name, Object, Subject, Tuple, World};
use oracle::world::{Dice, NOW, Round, put};
use portcullis::eval::Answer;
use portcullis::state::Change;
use real::{
    Real, agrees, names_the_locks, question_text, setting, tuple, world_lock, world_role,
    world_text,
};

const COMMITS: u64 = 20;
const KEPT: usize = 40;

struct Kept {
    round: Round,
    asked: (Object, Name),
    answer: Answer,
}

#[derive(Default)]
struct Counts {
    commits: u64,
    kept: u64,
    invalidated: u64,
    changed: u64,
    /// By commits in which a role was written or deleted.
    edited: u64,
    asked: u64,
    searched: u64,
}

/// One world's history.
struct History {
    seed: u64,
    dice: Dice,
    world: World,
    real: Real,
    now: i64,
    kept: Vec<Kept>,
    rounds: Vec<Round>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0xfeed);
        let world = match seed % 3 {
            0 => dice.crowd(),
            1 => dice.staffed(),
            _ => dice.world(),
        };
        let mut round = || {
            let mut round = dice.round(&world);
            round.contextual.clear();
            round
        };
        let rounds = (0..4).map(|_| round()).collect();
        Self {
            seed,
            real: Real::new(&world),
            dice,
            world,
            now: NOW - 20,
            kept: Vec::new(),
            rounds,
        }
    }

    /// The keys of the wildcard of the subject's type. Of a plain subject's answers one is in those
    /// alone that rest on a search from the subject's side which came to its end.
    fn wildcard_keys(&self, subject: Subject) -> Vec<u64> {
        let Subject::Object(Object { kind, .. }) = subject else {
            return Vec::new();
        };
        let named = |resource: &str| {
            let text = format!("{resource}#r@{}:*", self.world.types[kind].name);
            self.real.keys(&[Change::Granted(text.parse().unwrap())])
        };
        let of_type = |name: &str| {
            let other = named(&format!("{name}:two")).unwrap();
            let both = named(&format!("{name}:one")).unwrap().into_iter();
            both.filter(move |key| other.contains(key))
        };
        (self.world.types.iter())
            .flat_map(|one| of_type(&one.name))
            .collect()
    }

    /// Asks until enough answers are kept.
    fn fill(&mut self, counts: &mut Counts) {
        for _ in self.kept.len()..KEPT {
            let mut round = self.dice.pick(&self.rounds).clone();
            round.now = self.now;
            let kind = 1 + self.dice.below(self.world.types.len() - 1);
            // Of many ids the first hold most tuples.
            let few = self.world.ids.len() > 10 && !self.dice.once_in(4);
            let id = self.dice.below(if few { 2 } else { self.world.ids.len() });
            let asked = (
                Object { kind, id },
                *self.dice.pick(&self.world.members(kind)),
            );
            let said = self.real.ask(&self.world, &round, asked, true);
            if let Ok(answer) = said
                && !answer.uncacheable
            {
                let keys = self.wildcard_keys(round.subject);
                counts.asked += 1;
                counts.searched +=
                    u64::from(keys.iter().any(|key| answer.dependencies.contains(key)));
                self.kept.push(Kept {
                    round,
                    asked,
                    answer,
                });
            }
        }
    }

    /// One to three random changes, none twice about one tuple.
    fn commit(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut touched: Vec<Tuple> = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let stands = !self.world.tuples.is_empty();
            let ids = self.world.ids.len();
            let about = match stands && self.dice.once_in(2) {
                true => Some(self.dice.pick(&self.world.tuples).clone()),
                false if self.dice.once_in(2) && !self.world.blocks.is_empty() => {
                    self.dice.assignment(&self.world, ids)
                }
                false => self.dice.tuple(&self.world, ids),
            };
            let Some(about) = about else { continue };
            let same = |one: &Tuple| {
                (one.resource, one.relation, one.subject)
                    == (about.resource, about.relation, about.subject)
            };
            if touched.iter().any(same) {
                continue;
            }
            touched.push(about.clone());
            let real = tuple(&self.world, &about);
            if let Some(at) = self.world.tuples.iter().position(|one| *one == about) {
                self.world.tuples.remove(at);
                let over = about.expires_at.is_some_and(|end| end <= self.now);
                changes.push(if over {
                    Change::Expired(real)
                } else {
                    Change::Revoked(real)
                });
            } else {
                put(&mut self.world.tuples, about);
                changes.push(Change::Granted(real));
            }
        }
        changes
    }

    /// Makes or edits a role, or deletes one with every assignment of it.
    fn role(&mut self) -> Vec<Change> {
        let deleted: Vec<Name> = (self.world.records.keys().copied())
            .filter(|name| self.world.builtin(self.world.roles[name]).is_none())
            .collect();
        if deleted.is_empty() || !self.dice.once_in(3) {
            let Some((name, includes)) = self.dice.record(&self.world) else {
                return Vec::new();
            };
            self.world.records.insert(name, includes);
            return vec![world_role(&self.world, name)];
        }
        let name = *self.dice.pick(&deleted);
        self.world.records.remove(&name);
        let (gone, left): (Vec<_>, Vec<_>) = { std::mem::take(&mut self.world.tuples) }
            .into_iter()
            .partition(|one| one.relation == name);
        self.world.tuples = left;
        let gone = gone
            .iter()
            .map(|one| Change::Revoked(tuple(&self.world, one)));
        let role = self.world.word(name).replacen('=', ":", 1);
        gone.chain([Change::RoleDeleted(role.parse().unwrap())])
            .collect()
    }

    /// Places a lock, lifts one or renews it, or says that it is over.
    fn lock(&mut self) -> Option<Change> {
        let held: Vec<usize> = (0..self.world.locks.len())
            .filter(|at| self.world.locks[*at].is_some())
            .collect();
        if held.is_empty() || self.dice.once_in(2) {
            let lock = self.dice.lock(&self.world)?;
            let id = self.world.locks.len();
            let real = world_lock(&self.world, id, &lock);
            self.world.locks.push(Some(lock));
            return Some(Change::Locked(real));
        }
        let id = *self.dice.pick(&held);
        let mut lock = self.world.locks[id].take()?;
        if self.dice.once_in(3) {
            lock.expires_at = Some(self.now + 5);
            let real = world_lock(&self.world, id, &lock);
            self.world.locks[id] = Some(lock);
            return Some(Change::Locked(real));
        }
        let real = world_lock(&self.world, id, &lock);
        Some(match lock.expires_at.is_some_and(|end| end <= self.now) {
            true => Change::LockExpired(real),
            false => Change::Unlocked(real),
        })
    }

    /// Lets time pass, commits, drops what a sidecar would drop, and asks the rest again.
    fn step(&mut self, counts: &mut Counts) {
        self.fill(counts);
        self.now += i64::try_from(self.dice.below(4)).unwrap();
        let before = world_text(&self.world);
        let mut changes = Vec::new();
        if !self.world.blocks.is_empty() && self.dice.once_in(2) {
            changes = self.role();
        }
        let edited = !changes.is_empty();
        changes.extend(self.commit());
        if self.dice.once_in(2) {
            changes.extend(self.lock());
        }
        let keys = self.real.keys(&changes).unwrap();
        self.real.apply(&changes);
        counts.commits += 1;
        let now = real::instant(self.now);
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain_mut(|one| {
            one.round.now = self.now;
            let said = self.real.ask(&self.world, &one.round, one.asked, true);
            let same = said.as_ref().is_ok_and(|answer| {
                let said = |answer: &Answer| {
                    let locks: Vec<_> = answer.locks.iter().map(|lock| lock.id.clone()).collect();
                    (answer.decision, answer.missing_context.clone(), locks)
                };
                said(answer) == said(&one.answer)
            });
            let met = one
                .answer
                .dependencies
                .iter()
                .any(|key| keys.binary_search(key).is_ok());
            let over = one.answer.valid_until.is_some_and(|end| end <= now);
            counts.changed += u64::from(!same);
            counts.edited += u64::from(!same && edited);
            counts.invalidated += u64::from(met || over);
            counts.kept += 1;
            assert!(
                same || met || over,
                "seed {}\n{before}\n{}\nkept {:?}\ncommit {changes:?}\nnow {said:?}",
                self.seed,
                question_text(&self.world, &one.round, one.asked),
                one.answer,
            );
            !met && !over
        });
        self.kept = kept;
    }

    /// After a history the index, changed commit by commit, answers as the oracle does.
    fn judge(&self) {
        for round in &self.rounds {
            let mut round = round.clone();
            round.now = self.now;
            let all = Asker {
                world: &self.world,
                subject: round.subject,
                request: &round.request,
                now: self.now,
            };
            let solution = all.solve();
            for kind in 1..self.world.types.len() {
                for name in self.world.members(kind) {
                    for id in 0..self.world.ids.len() {
                        let asked = (Object { kind, id }, name);
                        let verdict = solution.verdict(asked.0, name);
                        let said = self.real.ask(&self.world, &round, asked, true);
                        assert!(
                            agrees(verdict, &said) && names_the_locks(&solution, asked, &said),
                            "seed {}\n{}\n{}\nsaid {said:?}\nbut it is {verdict:?}",
                            self.seed,
                            world_text(&self.world),
                            question_text(&self.world, &round, asked),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_changes_was_named_by_a_key_or_an_end() {
    let mut counts = Counts::default();
    let mut seed = setting("PORTCULLIS_SEED", 0);
    while counts.commits < setting("PORTCULLIS_COMMITS", 10_000) {
        let mut history = History::new(seed);
        for _ in 0..COMMITS {
            history.step(&mut counts);
        }
        history.judge();
        seed += 1;
    }
    println!(
        "{} commits, {} answers asked again: {} had changed, {} were invalidated",
        counts.commits, counts.kept, counts.changed, counts.invalidated
    );
    println!(
        "{} answers kept, {} of which rest on a search from the subject's side",
        counts.asked, counts.searched
    );
    println!("{} changes came with a role's", counts.edited);
    assert!(counts.changed > 0, "no commit changed an answer");
    assert!(
        counts.commits < 1_000 || counts.edited > 0,
        "no edit of a role changed an answer"
    );
    assert!(
        counts.commits < 1_000 || counts.searched > counts.asked / 50,
        "too few answers rest on a search from the subject's side"
    );
    assert!(
        counts.invalidated < counts.kept / 2,
        "most answers are invalidated for nothing"
    );
}
