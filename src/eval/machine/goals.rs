//! The goals that were met, each with what is known of it.
//!
//! Hides how one is found again: most questions meet a dozen, among which a look at each is faster
//! than a table.

use hashbrown::HashMap;

use super::{Entry, Goal, Status, Value};

/// So many are looked at one by one.
const FEW: usize = 32;

/// The goals of one machine; an entry's place is its number for good.
#[derive(Default)]
pub(super) struct Goals {
    entries: Vec<Entry>,
    /// All of them, once they are more than a few.
    places: HashMap<Goal, u32>,
}

impl Goals {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.places.clear();
    }

    pub fn find(&self, goal: Goal) -> Option<u32> {
        if self.entries.len() > FEW {
            return self.places.get(&goal).copied();
        }
        let place = self.entries.iter().position(|entry| entry.goal == goal)?;
        u32::try_from(place).ok()
    }

    /// The place of a goal, which is stale where it was not met before.
    pub fn find_or_add(&mut self, goal: Goal) -> u32 {
        if let Some(place) = self.find(goal) {
            return place;
        }
        if self.entries.is_empty() {
            self.entries.reserve(FEW / 2);
        }
        let place = number(self.entries.len());
        self.entries.push(Entry {
            goal,
            status: Status::Stale,
            early: Value::Denied,
            read_early: false,
            rests_on: Vec::new(),
        });
        match self.entries.len() - 1 {
            FEW => {
                let all = self.entries.iter().zip(0..);
                self.places
                    .extend(all.map(|(entry, place)| (entry.goal, place)));
            }
            more if more > FEW => _ = self.places.insert(goal, place),
            _ => {}
        }
        place
    }

    pub fn get(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place as usize)
    }

    #[expect(clippy::indexing_slicing, reason = "places are those of added entries")]
    pub fn at(&mut self, place: u32) -> &mut Entry {
        &mut self.entries[place as usize]
    }
}

/// A place as a number of 32 bits.
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
