//! Which tuples are meant, by any of their parts.

use std::sync::Arc;

use super::Tuple;

/// Selects tuples: a field that is `None` matches everything.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TupleFilter {
    /// The type of the resource.
    pub resource_type: Option<Arc<str>>,
    /// The id of the resource, whole.
    pub resource_id: Option<Arc<str>>,
    /// How the id of the resource begins.
    pub resource_id_prefix: Option<Arc<str>>,
    /// The relation.
    pub relation: Option<Arc<str>>,
    /// The type of the subject.
    pub subject_type: Option<Arc<str>>,
    /// The id of the subject; `*` for wildcards.
    pub subject_id: Option<Arc<str>>,
    /// `Some(None)` matches only subjects without a relation.
    pub subject_relation: Option<Option<Arc<str>>>,
}

impl TupleFilter {
    /// Whether nothing is set, so that it matches every tuple.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `tuple` is selected.
    pub fn matches(&self, tuple: &Tuple) -> bool {
        let is = |want: &Option<Arc<str>>, have: &str| want.as_deref().is_none_or(|w| w == have);
        is(&self.resource_type, tuple.resource.kind())
            && is(&self.resource_id, tuple.resource.id())
            && (self.resource_id_prefix.as_deref())
                .is_none_or(|prefix| tuple.resource.id().starts_with(prefix))
            && is(&self.relation, &tuple.relation)
            && is(&self.subject_type, tuple.subject.kind())
            && is(&self.subject_id, tuple.subject.id())
            && (self.subject_relation.as_ref())
                .is_none_or(|want| want.as_deref() == tuple.subject.relation())
    }
}
