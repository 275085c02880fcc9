//! `requires`: what the subject of a granted tuple needs.

use hashbrown::HashSet;

use crate::state::Change;
use crate::tuple::{Object, Subject, Tuple};

use super::{Act, Broken, Rules, Touch, Violation, When};

impl Rules<'_> {
    /// Judges each tuple that `changes` grant, after the whole commit. It judges what is granted
    /// and is no invariant, so that a tuple that stood just so before is not judged again.
    pub(crate) fn requirements(&self, changes: &[Change]) -> Result<(), Broken> {
        let granted = changes.iter().filter_map(|change| match change {
            Change::Granted(tuple) => Some(key(tuple)),
            _ => None,
        });
        let touches = || self.touches.iter().filter(|t| t.act == Act::Grant);
        let asks = |touch: &&Touch<'_>| self.relation(touch).is_some_and(|r| r.requires.is_some());
        if !touches().any(|touch| asks(&touch)) {
            return Ok(());
        }
        let granted: HashSet<_> = granted.collect();
        for touch in touches().filter(asks) {
            if !granted.contains(&key(touch.tuple)) {
                continue;
            }
            let Some(rule) = self.relation(touch).and_then(|r| r.requires) else {
                continue;
            };
            let Tuple {
                resource, subject, ..
            } = touch.tuple;
            if !self.has_free(rule, resource, subject.as_ref(), When::After)? {
                return Err(Box::new(Violation::RequirementNotMet {
                    update: touch.update,
                    tuple: touch.tuple.name(),
                    subject: subject.to_string(),
                    resource: resource.to_string(),
                    relation: touch.tuple.relation.to_string(),
                    needed: self.schema.text_of(rule),
                }));
            }
        }
        Ok(())
    }
}

type Key<'t> = (&'t Object, &'t str, &'t Subject);

fn key(tuple: &Tuple) -> Key<'_> {
    (&tuple.resource, &tuple.relation, &tuple.subject)
}
