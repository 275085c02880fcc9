//! Whether a tuple fits the schema: its names are known, and some alternative of its relation's
//! type takes its subject with just that caveat and expiry.

use crate::tuple::{Object, RoleRef, Subject, Tuple, TupleFilter};

use super::{
    CaveatId, MemberId, RelId, Relation, RolesDef, RolesId, Schema, SubjectForm, SubjectType,
    TypeId,
};

/// The numbers of a tuple's names, valid for the schema that admitted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The type of its resource.
    pub resource_type: TypeId,
    /// Its relation's name.
    pub relation: RelId,
    /// The relation of that type.
    pub member: MemberId,
    /// The type of its subject.
    pub subject_type: TypeId,
    /// The relation of a subject set; [`RelId::NONE`] where the subject is an object or wildcard.
    pub subject_relation: RelId,
    /// Its caveat.
    pub caveat: Option<CaveatId>,
}

/// Why a tuple does not fit the schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No such type. `field` is `resource` or `subject`.
    #[error("the schema has no type {name:?}{}", hint(.nearest.as_deref()))]
    UnknownType {
        /// Which field of the tuple names it.
        field: &'static str,
        /// The name.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The type has no such relation. `field` is `relation` or `subject`.
    #[error("type {kind:?} has no relation {name:?}{}", hint(.nearest.as_deref()))]
    UnknownRelation {
        /// Which field of the tuple names it.
        field: &'static str,
        /// The type.
        kind: String,
        /// The name.
        name: String,
        /// The nearest known relation of that type.
        nearest: Option<String>,
    },
    /// No type has such a relation. `field` is `relation` or `subject`.
    #[error("no type has a relation {name:?}{}", hint(.nearest.as_deref()))]
    UnknownName {
        /// Which field of the filter names it.
        field: &'static str,
        /// The name.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The name is that of a permission, which no tuple can state.
    #[error("tuples are written to relations; {name:?} of type {kind:?} is a permission")]
    NotARelation {
        /// The type.
        kind: String,
        /// The permission.
        name: String,
    },
    /// The relation takes no such subject.
    #[error("{relation} takes no subject like {subject}; it takes {allowed}")]
    SubjectNotAllowed {
        /// `type#relation`.
        relation: String,
        /// The subject, as its alternative would be written: `team#member`.
        subject: String,
        /// The alternatives that the relation has, as the schema writes them.
        allowed: String,
    },
    /// No such caveat.
    #[error("the schema has no caveat {name:?}{}", hint(.nearest.as_deref()))]
    UnknownCaveat {
        /// The name.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The relation takes that subject only with a caveat.
    #[error("{relation} takes {subject} only with a caveat; it takes {allowed}")]
    CaveatRequired {
        /// `type#relation`.
        relation: String,
        /// The subject, as its alternative is written.
        subject: String,
        /// The alternatives for that subject.
        allowed: String,
    },
    /// The relation takes that subject, but not with that caveat.
    #[error("{relation} does not take {subject} with caveat {caveat:?}; it takes {allowed}")]
    CaveatNotAllowed {
        /// `type#relation`.
        relation: String,
        /// The subject, as its alternative is written.
        subject: String,
        /// The caveat.
        caveat: String,
        /// The alternatives for that subject.
        allowed: String,
    },
    /// The relation takes that subject only with an expiry.
    #[error("{relation} takes {subject} only with an expiration; it takes {allowed}")]
    ExpirationRequired {
        /// `type#relation`.
        relation: String,
        /// The subject, as its alternative is written.
        subject: String,
        /// The alternatives for that subject.
        allowed: String,
    },
    /// The relation takes that subject, but not with an expiry.
    #[error("{relation} does not take {subject} with an expiration; it takes {allowed}")]
    ExpirationNotAllowed {
        /// `type#relation`.
        relation: String,
        /// The subject, as its alternative is written.
        subject: String,
        /// The alternatives for that subject.
        allowed: String,
    },
}

impl NotAdmitted {
    /// The field of the tuple that is at fault: `resource`, `relation`, `subject`, `caveat` or
    /// `expires_at`.
    pub fn field(&self) -> &'static str {
        match self {
            Self::UnknownType { field, .. }
            | Self::UnknownRelation { field, .. }
            | Self::UnknownName { field, .. } => field,
            Self::NotARelation { .. } => "relation",
            Self::SubjectNotAllowed { .. } => "subject",
            Self::UnknownCaveat { .. }
            | Self::CaveatRequired { .. }
            | Self::CaveatNotAllowed { .. } => "caveat",
            Self::ExpirationRequired { .. } | Self::ExpirationNotAllowed { .. } => "expires_at",
        }
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

impl Schema {
    /// Finds the numbers of the tuple's names, and whether the relation takes it.
    ///
    /// # Errors
    /// The first thing that does not fit, and what would.
    pub fn admit(&self, tuple: &Tuple) -> Result<Admitted, NotAdmitted> {
        let resource_type = self.known_type("resource", tuple.resource.kind())?;
        let (member, relation) = self.known_relation(resource_type, &tuple.relation)?;
        let subject_type = self.known_type("subject", tuple.subject.kind())?;
        let form = self.form_of(subject_type, &tuple.subject)?;
        let caveat = self.known_caveat(tuple)?;
        let wanted = SubjectType {
            kind: subject_type,
            form,
            caveat,
            expiration: tuple.expires_at.is_some(),
        };
        if !relation.subjects.contains(&wanted) {
            return Err(self.not_taken(tuple, relation, &wanted));
        }
        Ok(Admitted {
            resource_type,
            relation: self.member(member).rel,
            member,
            subject_type,
            subject_relation: match form {
                SubjectForm::Set(rel) => rel,
                SubjectForm::Object | SubjectForm::Wildcard => RelId::NONE,
            },
            caveat,
        })
    }

    /// Whether the schema has the tuple's type, relation and subject, taken or not: enough to
    /// remove it.
    ///
    /// # Errors
    /// The first name that the schema does not have.
    pub fn knows(&self, tuple: &Tuple) -> Result<MemberId, NotAdmitted> {
        let resource_type = self.known_type("resource", tuple.resource.kind())?;
        let (member, _) = self.known_relation(resource_type, &tuple.relation)?;
        let subject_type = self.known_type("subject", tuple.subject.kind())?;
        self.form_of(subject_type, &tuple.subject)?;
        Ok(member)
    }

    /// Whether the schema has a subject's type and relation. `field` is what names it.
    ///
    /// # Errors
    /// The first name that the schema does not have.
    pub(crate) fn knows_subject(
        &self,
        field: &'static str,
        subject: &Subject,
    ) -> Result<(), NotAdmitted> {
        let kind = self.known_type(field, subject.kind())?;
        self.form_of(kind, subject).map(drop)
    }

    /// The type of an object. `field` is what names it.
    ///
    /// # Errors
    /// A type that the schema does not have.
    pub(crate) fn knows_object(
        &self,
        field: &'static str,
        object: &Object,
    ) -> Result<TypeId, NotAdmitted> {
        self.known_type(field, object.kind())
    }

    /// The relation of a stored tuple, where the schema has it.
    pub(crate) fn relation_of(&self, tuple: &Tuple) -> Option<MemberId> {
        let kind = self.type_named(tuple.resource.kind())?.id;
        let member = self.member_id(kind, self.names.rel_id(&tuple.relation)?)?;
        self.member(member).relation().map(|_| member)
    }

    /// Whether the schema has the types and relations that a filter names.
    ///
    /// # Errors
    /// The first name that the schema does not have. Its fields are those of a tuple.
    pub fn knows_filter(&self, filter: &TupleFilter) -> Result<(), NotAdmitted> {
        let kind = filter.resource_type.as_deref();
        let resource_type = kind
            .map(|kind| self.known_type("resource", kind))
            .transpose()?;
        if let Some(name) = filter.relation.as_deref() {
            match resource_type {
                _ if name.contains('=') => {
                    self.knows_assignments("relation", resource_type, name)?;
                }
                Some(kind) => self.known_relation(kind, name).map(drop)?,
                None => self.known_anywhere("relation", name)?,
            }
        }
        let kind = filter.subject_type.as_deref();
        let subject_type = kind
            .map(|kind| self.known_type("subject", kind))
            .transpose()?;
        match (filter.subject_relation.as_ref(), subject_type) {
            (Some(Some(name)), Some(kind)) => self.known_member("subject", kind, name).map(drop),
            (Some(Some(name)), None) => self.known_anywhere("subject", name),
            _ => Ok(()),
        }
    }

    /// Whether an assignment of a role, `application:shop#role=acme/deployer@user:bob`, names what
    /// the schema has: the `roles` block, a type that assigns it, and a subject that may hold it.
    /// Whether there is such a role the schema does not know.
    ///
    /// # Errors
    /// The first thing that does not fit, and what would.
    pub fn admit_assignment(&self, tuple: &Tuple) -> Result<RoleRef, NotAdmitted> {
        let resource_type = self.known_type("resource", tuple.resource.kind())?;
        self.knows_assignments("relation", Some(resource_type), &tuple.relation)?;
        let subject_type = self.known_type("subject", tuple.subject.kind())?;
        let wanted = SubjectType {
            kind: subject_type,
            form: self.form_of(subject_type, &tuple.subject)?,
            caveat: self.known_caveat(tuple)?,
            expiration: tuple.expires_at.is_some(),
        };
        let role = RoleRef::of_relation(&tuple.relation);
        let block = role
            .as_ref()
            .and_then(|role| self.roles_named(role.block()));
        match (role, block) {
            (Some(role), Some((_, block))) => match self.holds(block, &wanted) {
                true => Ok(role),
                false => Err(NotAdmitted::SubjectNotAllowed {
                    relation: format!("roles {}", block.name),
                    subject: self.subject_text(&wanted),
                    allowed: self.alternatives(block.held_by.iter()),
                }),
            },
            _ => Err(NotAdmitted::UnknownRelation {
                field: "relation",
                kind: tuple.resource.kind().to_owned(),
                name: tuple.relation.to_string(),
                nearest: None,
            }),
        }
    }

    /// Whether stored assignments of this shape fit: `relation` is the generated one of a block.
    pub(crate) fn takes_assignment(
        &self,
        resource: TypeId,
        relation: RelId,
        subject: &SubjectType,
    ) -> bool {
        let mut blocks = self.roles.iter().zip(0..);
        blocks.any(|(block, place)| {
            block.sites.relation == relation
                && self.assigns(resource, RolesId(place)).is_some()
                && self.holds(block, subject)
        })
    }

    fn holds(&self, block: &RolesDef, subject: &SubjectType) -> bool {
        let relation = self.member(block.sites.member).relation();
        relation.is_some_and(|relation| relation.subjects.contains(subject))
    }

    /// Whether `name`, such as `role=acme/deployer`, is of a block that the type assigns (or, with
    /// no type, that there is).
    fn knows_assignments(
        &self,
        field: &'static str,
        kind: Option<TypeId>,
        name: &str,
    ) -> Result<(), NotAdmitted> {
        let block = name.split_once('=').map_or(name, |(block, _)| block);
        let known = self.roles_named(block);
        let blocks = || nearest(block, self.roles.iter().map(|roles| &*roles.name));
        match (known, kind) {
            (None, None) => Err(NotAdmitted::UnknownName {
                field,
                name: name.to_owned(),
                nearest: blocks(),
            }),
            (Some(_), None) => Ok(()),
            (Some((id, _)), Some(kind)) if self.assigns(kind, id).is_some() => Ok(()),
            (_, Some(kind)) => Err(NotAdmitted::UnknownRelation {
                field,
                kind: self.names.type_name(kind).to_owned(),
                name: name.to_owned(),
                nearest: None,
            }),
        }
    }

    fn known_relation(
        &self,
        kind: TypeId,
        name: &str,
    ) -> Result<(MemberId, &Relation), NotAdmitted> {
        let member = self.known_member("relation", kind, name)?;
        match self.member(member).relation() {
            Some(relation) => Ok((member, relation)),
            None => Err(NotAdmitted::NotARelation {
                kind: self.names.type_name(kind).to_owned(),
                name: name.to_owned(),
            }),
        }
    }

    fn known_anywhere(&self, field: &'static str, name: &str) -> Result<(), NotAdmitted> {
        let counts = |m: &&super::Member| {
            !m.is_rule() && !m.name.ends_with('=') && (field == "subject" || m.relation().is_some())
        };
        let mut known = self.members.iter().filter(counts).map(|m| &*m.name);
        if known.clone().any(|known| known == name) {
            return Ok(());
        }
        Err(NotAdmitted::UnknownName {
            field,
            name: name.to_owned(),
            nearest: nearest(name, known.by_ref()),
        })
    }

    fn known_type(&self, field: &'static str, name: &str) -> Result<TypeId, NotAdmitted> {
        self.type_named(name)
            .map(|def| def.id)
            .ok_or_else(|| NotAdmitted::UnknownType {
                field,
                name: name.to_owned(),
                nearest: nearest(name, self.types.iter().map(|def| &*def.name)),
            })
    }

    fn known_member(
        &self,
        field: &'static str,
        kind: TypeId,
        name: &str,
    ) -> Result<MemberId, NotAdmitted> {
        let rel = self.names.rel_id(name);
        rel.and_then(|rel| self.member_id(kind, rel))
            .ok_or_else(|| {
                let members = self.type_def(kind).map_or(&[][..], |def| &def.members);
                let known = members.iter().map(|id| self.member(*id));
                // On the left only a relation can be meant; a subject set may be a permission's.
                let known = known.filter(|m| field == "subject" || m.relation().is_some());
                NotAdmitted::UnknownRelation {
                    field,
                    kind: self.names.type_name(kind).to_owned(),
                    name: name.to_owned(),
                    nearest: nearest(name, known.map(|member| &*member.name)),
                }
            })
    }

    fn form_of(&self, kind: TypeId, subject: &Subject) -> Result<SubjectForm, NotAdmitted> {
        match subject.relation() {
            None if subject.as_ref().is_wildcard() => Ok(SubjectForm::Wildcard),
            None => Ok(SubjectForm::Object),
            Some(name) => {
                let member = self.known_member("subject", kind, name)?;
                Ok(SubjectForm::Set(self.member(member).rel))
            }
        }
    }

    fn known_caveat(&self, tuple: &Tuple) -> Result<Option<CaveatId>, NotAdmitted> {
        let Some(caveat) = &tuple.caveat else {
            return Ok(None);
        };
        match self.caveat_named(&caveat.name) {
            Some(def) => Ok(Some(def.id)),
            None => Err(NotAdmitted::UnknownCaveat {
                name: caveat.name.to_string(),
                nearest: nearest(&caveat.name, self.caveats.iter().map(|def| &*def.name)),
            }),
        }
    }

    /// What keeps `wanted` from being one of the relation's alternatives.
    fn not_taken(&self, tuple: &Tuple, relation: &Relation, wanted: &SubjectType) -> NotAdmitted {
        let same_subject = |s: &&SubjectType| s.kind == wanted.kind && s.form == wanted.form;
        let for_subject: Vec<_> = relation.subjects.iter().filter(same_subject).collect();
        let name = format!("{}#{}", tuple.resource.kind(), tuple.relation);
        let subject = self.subject_text(wanted);
        if for_subject.is_empty() {
            return NotAdmitted::SubjectNotAllowed {
                relation: name,
                subject,
                allowed: self.alternatives(relation.subjects.iter()),
            };
        }
        let allowed = self.alternatives(for_subject.iter().copied());
        let caveat_fits = for_subject.iter().any(|s| s.caveat == wanted.caveat);
        match (&tuple.caveat, caveat_fits, wanted.expiration) {
            (None, false, _) => NotAdmitted::CaveatRequired {
                relation: name,
                subject,
                allowed,
            },
            (Some(caveat), false, _) => NotAdmitted::CaveatNotAllowed {
                relation: name,
                subject,
                caveat: caveat.name.to_string(),
                allowed,
            },
            (_, true, false) => NotAdmitted::ExpirationRequired {
                relation: name,
                subject,
                allowed,
            },
            (_, true, true) => NotAdmitted::ExpirationNotAllowed {
                relation: name,
                subject,
                allowed,
            },
        }
    }

    fn subject_text(&self, subject: &SubjectType) -> String {
        let kind = self.names.type_name(subject.kind);
        match subject.form {
            SubjectForm::Object => kind.to_owned(),
            SubjectForm::Wildcard => format!("{kind}:*"),
            SubjectForm::Set(rel) => format!("{kind}#{}", self.names.rel_name(rel)),
        }
    }

    /// The alternatives as the schema writes them: `user | team#member with expiration`.
    pub(crate) fn alternatives<'a>(
        &self,
        subjects: impl Iterator<Item = &'a SubjectType>,
    ) -> String {
        let one = |subject: &SubjectType| {
            let text = self.subject_text(subject);
            match (subject.caveat, subject.expiration) {
                (None, false) => text,
                (None, true) => format!("{text} with expiration"),
                (Some(id), false) => format!("{text} with {}", self.names.caveat_name(id)),
                (Some(id), true) => {
                    format!("{text} with {} and expiration", self.names.caveat_name(id))
                }
            }
        };
        let all: Vec<String> = subjects.map(one).collect();
        all.join(" | ")
    }
}

/// The known name that `name` is most likely a slip of the pen for.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // Names on the wire have no length limit of their own yet here; distance is quadratic in it.
    if name.len() > 128 {
        return None;
    }
    let most = name.chars().count() / 3 + 1;
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many insertions, removals and replacements turn `from` into `to`.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = line + 1;
        next.push(left);
        for (b, above) in to.iter().zip(row.windows(2)) {
            let &[diagonal, above] = above else { continue };
            left = (diagonal + usize::from(a != *b))
                .min(above + 1)
                .min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
