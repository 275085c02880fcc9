//! A revoke by filter that an actor asks for: what it says to whom no tuple there is any business.
//!
//! Each tuple that a filter selects is judged by itself. But an answer that says "nothing matched"
//! to an actor which would be refused if something did, tells what stands: so where a filter names
//! a resource, an actor that could take away nothing of what it might select there gets one and
//! the same refusal, whatever stands; and where it names none, an actor that may not take away all
//! of something.

use crate::schema::{AssignsDef, MemberId, Relation, SubjectForm, SubjectType, TypeDef};
use crate::tuple::{Object, ObjectRef, RoleRef, Subject, SubjectRef, Tuple, TupleFilter};

use super::rights::revoke_rule;
use super::violation::Denied;
use super::{Act, Broken, Judgements, Rules, Target, Touch, Violation};

impl Rules<'_> {
    /// Refuses an actor that may take away nothing of what a filter could select on the resource
    /// that it names. What filters that name none select can't be judged beforehand.
    pub(crate) fn may_revoke_some(&self, filter: &TupleFilter) -> Result<(), Broken> {
        let (Some(actor), Some(id)) = (self.actor, filter.resource_id.as_deref()) else {
            return Ok(());
        };
        let mut judgements = self.of(actor);
        let mut refused = None;
        let named = |kind: &&TypeDef| is(filter.resource_type.as_deref(), &kind.name);
        for kind in self.schema.types.iter().filter(named) {
            let resource = ObjectRef::known(&kind.name, id).to_object();
            if self.may_revoke_there(&mut judgements, filter, kind, (&resource, actor))? {
                return Ok(());
            }
            refused.get_or_insert(resource);
        }
        match refused {
            None => Ok(()),
            Some(resource) => Err(self.refused(filter, resource, actor)),
        }
    }

    /// What an actor hears of a filter that names no resource, where it selects nothing or what the
    /// actor may not take away: the same. That none is its own it hears.
    pub(crate) fn same_whatever_stands(
        &self,
        filter: &TupleFilter,
        rights: Result<(), Broken>,
    ) -> Result<(), Broken> {
        let Some(actor) = self.actor.filter(|_| filter.resource_id.is_none()) else {
            return rights;
        };
        match rights {
            Err(broken) if !matches!(*broken, Violation::Denied(_)) => Err(broken),
            Ok(()) if named_subject(filter) == Some(actor.as_ref()) => Ok(()),
            _ => Err(Box::new(Violation::FilterDenied {
                actor: actor.clone(),
            })),
        }
    }

    fn may_revoke_there(
        &self,
        judgements: &mut Judgements<'_>,
        filter: &TupleFilter,
        kind: &TypeDef,
        (resource, actor): (&Object, &Subject),
    ) -> Result<bool, Broken> {
        for member in &kind.members {
            let def = self.schema.member(*member);
            let wanted = is(filter.relation.as_deref(), &def.name);
            let Some(relation) = def.relation().filter(|_| wanted) else {
                continue;
            };
            if self.may_revoke_of(judgements, filter, (*member, relation), (resource, actor))? {
                return Ok(true);
            }
        }
        for assigns in &kind.assigns {
            if self.may_unassign_of(judgements, filter, (kind, assigns), (resource, actor))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same of one relation.
    fn may_revoke_of(
        &self,
        judgements: &mut Judgements<'_>,
        filter: &TupleFilter,
        (member, relation): (MemberId, &Relation),
        (resource, actor): (&Object, &Subject),
    ) -> Result<bool, Broken> {
        if !self.takes(&relation.subjects, filter) {
            return Ok(false);
        }
        let Some(subject) = named_subject(filter) else {
            return match revoke_rule(relation) {
                Some(rule) => judgements.has(rule, resource, self.when(resource)),
                None => Ok(false),
            };
        };
        let name = &self.schema.member(member).name;
        let Ok(tuple) = Tuple::new(resource.as_ref(), name, subject) else {
            return Ok(false);
        };
        let touch = Touch {
            update: None,
            act: Act::Revoke,
            tuple: &tuple,
            target: Target::Relation(member),
            found: true,
        };
        match self.right(judgements, &touch, actor) {
            Ok(()) => Ok(true),
            Err(broken) if matches!(*broken, Violation::Denied(_)) => Ok(false),
            Err(broken) => Err(broken),
        }
    }

    /// The same of the assignments of one block. Of roles that are not named, those count that are
    /// the resource's own: on somebody else's say so no filter would ever be refused.
    fn may_unassign_of(
        &self,
        judgements: &mut Judgements<'_>,
        filter: &TupleFilter,
        (kind, assigns): (&TypeDef, &AssignsDef),
        (resource, actor): (&Object, &Subject),
    ) -> Result<bool, Broken> {
        let roles = assigns.roles;
        let relation = filter.relation.as_deref();
        let block = self.schema.roles.get(usize::from(roles.0));
        let block = block.filter(|block| {
            let of_block =
                |name: &str| name.split_once('=').is_some_and(|(b, _)| *b == *block.name);
            relation.is_none_or(of_block) && self.takes(&block.held_by, filter)
        });
        let Some(block) = block else {
            return Ok(false);
        };
        let mut rules = vec![(assigns.granted_by, resource.clone())];
        match relation.and_then(RoleRef::of_relation) {
            Some(role) => rules = vec![self.assignment_rule((&role, roles), resource)],
            None if block.owner == kind.id => {
                let builtins = block.builtins.iter();
                rules.extend(builtins.map(|one| (one.granted_by, resource.clone())));
            }
            None => {}
        }
        let own = named_subject(filter) == Some(actor.as_ref());
        let own = own && !self.schema.reach().roles_keep_out(roles);
        for (rule, on) in rules {
            if let Some(rule) = rule
                && (own || judgements.has(rule, &on, self.when(&on))?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any of these could be a subject that a filter selects.
    fn takes(&self, subjects: &[SubjectType], filter: &TupleFilter) -> bool {
        let names = &self.schema.names;
        subjects.iter().any(|one| {
            let relation = match one.form {
                SubjectForm::Object | SubjectForm::Wildcard => None,
                SubjectForm::Set(relation) => Some(names.rel_name(relation)),
            };
            let wildcard = one.form == SubjectForm::Wildcard;
            let id = filter.subject_id.as_deref();
            is(filter.subject_type.as_deref(), names.type_name(one.kind))
                && id.is_none_or(|id| wildcard == (id == "*"))
                && (filter.subject_relation.as_ref())
                    .is_none_or(|wanted| wanted.as_deref() == relation)
        })
    }

    /// The refusal follows from the filter and the schema alone, but for who would have the right.
    fn refused(&self, filter: &TupleFilter, resource: Object, actor: &Subject) -> Broken {
        let kind = self.schema.type_named(resource.kind());
        let relations = kind.iter().flat_map(|kind| &kind.members);
        let mut rules = relations.filter_map(|member| {
            let def = self.schema.member(*member);
            let wanted = is(filter.relation.as_deref(), &def.name);
            let relation = def
                .relation()
                .filter(|r| wanted && self.takes(&r.subjects, filter))?;
            revoke_rule(relation)
        });
        let assigned = kind.iter().flat_map(|kind| &kind.assigns);
        let mut assigned = assigned.filter_map(|assigns| assigns.granted_by);
        let rule = match filter.relation.as_deref() {
            Some(name) if name.contains('=') => assigned.next(),
            Some(_) => rules.next(),
            None => rules.next().or_else(|| assigned.next()),
        };
        let needed = rule.map(|rule| self.needed(rule, &resource, actor, self.state));
        let what = filter.relation.as_deref();
        let deed = match what {
            Some(name) => format!("revoke tuples of {resource}#{name}"),
            None => format!("revoke tuples of {resource}"),
        };
        Box::new(Violation::Denied(Denied {
            update: None,
            actor: actor.clone(),
            deed,
            resource,
            what: what.unwrap_or_default().to_owned(),
            needed,
        }))
    }
}

fn is(wanted: Option<&str>, name: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == name)
}

/// The subject that a filter names, where it names one.
fn named_subject(filter: &TupleFilter) -> Option<SubjectRef<'_>> {
    let (kind, id) = (
        filter.subject_type.as_deref()?,
        filter.subject_id.as_deref()?,
    );
    let relation = filter.subject_relation.as_ref();
    let relation = relation.and_then(|relation| relation.as_deref());
    Some(SubjectRef::known(kind, id, relation))
}
