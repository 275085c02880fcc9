//! `requires`: what the subject of a granted tuple needs.

use crate::state::Change;
use crate::tuple::Tuple;

use super::{Act, Broken, Judgements, Rules, Touch, Violation, When};

impl Rules<'_> {
    /// Judges each tuple that `changes` grant, after the whole commit: they are in the order of the
    /// updates. It judges what is granted and is no invariant, so that a tuple that stood just so
    /// before is not judged again.
    pub(crate) fn requirements(&self, changes: &[Change]) -> Result<(), Broken> {
        let granted = changes.iter().filter_map(|change| match change {
            Change::Granted(tuple) => Some(tuple),
            _ => None,
        });
        let mut granted = granted.peekable();
        let mut judgements: Option<Judgements<'_>> = None;
        for touch in self.touches.iter().filter(|t| t.act == Act::Grant) {
            if granted
                .next_if(|tuple| tuple.same_name(touch.tuple))
                .is_none()
            {
                continue;
            }
            let Some(rule) = self.relation(touch).and_then(|r| r.requires) else {
                continue;
            };
            let Tuple {
                resource, subject, ..
            } = touch.tuple;
            let same = judgements.take();
            let same = same.filter(|known| known.subject == subject.as_ref());
            let judgements = judgements.insert(same.unwrap_or_else(|| self.of(subject)));
            if !judgements.has_free(rule, resource, When::After)? {
                return Err(Self::not_met(touch, self.schema.text_of(rule)));
            }
        }
        Ok(())
    }

    fn not_met(touch: &Touch<'_>, needed: String) -> Broken {
        let tuple = touch.tuple;
        Box::new(Violation::RequirementNotMet {
            update: touch.update,
            tuple: tuple.name(),
            subject: tuple.subject.to_string(),
            resource: tuple.resource.to_string(),
            relation: tuple.relation.to_string(),
            needed,
        })
    }
}
