//! `requires`: what the subject of a granted tuple needs.

use std::collections::HashSet;

use crate::state::Change;
use crate::tuple::{Object, Subject, Tuple};

use super::{Act, Broken, Rules, Violation, When};

impl Rules<'_> {
    /// Judges each tuple that `changes` grant, after the whole commit. It judges what is granted
    /// and is no invariant, so that a tuple that stood just so before is not judged again.
    pub(crate) fn requirements(&self, changes: &[Change]) -> Result<(), Broken> {
        let granted = changes.iter().filter_map(|change| match change {
            Change::Granted(tuple) => Some(key(tuple)),
            _ => None,
        });
        let granted: HashSet<_> = granted.collect();
        let touches = self.touches.iter().filter(|t| t.act == Act::Grant);
        for touch in touches.filter(|touch| granted.contains(&key(touch.tuple))) {
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
