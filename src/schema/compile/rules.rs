//! What definitions and `roles` blocks say: permissions, the rules on writes, locks, roles.

use std::collections::{HashMap, HashSet};

use super::super::ast::{self, Choice, Clauses, Expr as TreeExpr, Item, Name, Statement, Tree};
use super::super::lexer::Span;
use super::super::{
    AssignsDef, BuiltinDef, Doc, LockDef, Member, MemberId, MemberKind, RelId, Relation, RolesId,
    Sites, SubjectForm, SubjectType, TypeId,
};
use super::Compiler;
use super::expr::Place;
use super::partials::Flat;

/// Which rule is compiled: the type it is judged on, and what it is called.
#[derive(Clone, Copy)]
struct RuleOf<'n> {
    owner: TypeId,
    /// What kind of statement it stands in; empty for a relation.
    word: &'static str,
    name: &'n Name,
    clause: &'static str,
}

impl Compiler<'_, '_> {
    /// Compiles everything that may name relations, roles and locks.
    pub(super) fn bodies(&mut self, tree: &Tree, definitions: &[Flat<'_>]) {
        self.builtin_names(tree);
        for (place, definition) in definitions.iter().enumerate() {
            self.declare_modes(place, definition);
        }
        let mut member = 0_usize;
        for (place, definition) in definitions.iter().enumerate() {
            let Some(owner) = self.schema.types.get(place).map(|t| t.id) else {
                continue;
            };
            for statement in &definition.statements {
                if matches!(statement, Statement::Relation(_) | Statement::Permission(_)) {
                    self.member(owner, member, statement);
                    member += 1;
                }
            }
            self.locks(place, owner, definition);
            self.assigned(place, owner, definition);
        }
        let mut blocks = tree.items.iter().filter_map(|item| match item {
            Item::Roles(roles) => Some(roles),
            _ => None,
        });
        for place in 0..self.schema.roles.len() {
            if let Some(roles) = blocks.next() {
                self.roles(place, roles);
            }
        }
    }

    fn builtin_names(&mut self, tree: &Tree) {
        let mut place = 0;
        for item in &tree.items {
            let Item::Roles(roles) = item else { continue };
            let mut seen = HashMap::new();
            for builtin in &roles.builtins {
                self.once(&mut seen, &builtin.name, "a second built-in role");
            }
            let builtins = roles.builtins.iter().map(|builtin| BuiltinDef {
                name: builtin.name.text.as_str().into(),
                doc: builtin.doc.clone(),
                includes: Some(Vec::new()),
                granted_by: None,
                min: builtin.clauses.min.unwrap_or(0),
            });
            if let Some(block) = self.schema.roles.get_mut(place) {
                block.builtins = builtins.collect();
            }
            place += 1;
        }
    }

    /// The names of locks and of the roles assigned, which other definitions refer to.
    fn declare_modes(&mut self, place: usize, definition: &Flat<'_>) {
        let (mut locks, mut assigns) = (Vec::new(), Vec::new());
        let mut seen_locks = HashMap::new();
        let mut seen_roles = HashMap::new();
        for statement in &definition.statements {
            match statement {
                Statement::Lock(lock) => {
                    self.once(&mut seen_locks, &lock.name, "a second lock");
                    locks.push(LockDef {
                        name: lock.name.text.as_str().into(),
                        doc: lock.doc.clone(),
                        blocks: Some(Vec::new()),
                        except: None,
                        granted_by: None,
                        inherits: Vec::new(),
                        seals: lock.clauses.seals,
                    });
                }
                Statement::Assigns(one) => {
                    self.once(&mut seen_roles, &one.roles, "a second `assigns`");
                    let roles = self.roles_id(&one.roles).unwrap_or(RolesId(u16::MAX));
                    assigns.push(AssignsDef {
                        roles,
                        granted_by: None,
                        capped: one.clauses.capped,
                        inherits: Vec::new(),
                        carrier: MemberId(u32::MAX),
                    });
                }
                _ => {}
            }
        }
        if let Some(definition) = self.schema.types.get_mut(place) {
            definition.locks = locks;
            definition.assigns = assigns;
        }
    }

    fn member(&mut self, owner: TypeId, place: usize, statement: &Statement) {
        match statement {
            Statement::Permission(permission) => {
                self.subject_types(&permission.annotation);
                let expr = self.expr(
                    Place {
                        owner,
                        permission: true,
                    },
                    &permission.expr,
                );
                self.set_kind(place, MemberKind::Permission(expr));
            }
            Statement::Relation(relation) => {
                let clauses = &relation.clauses;
                let name = &relation.name;
                let mut rule = |clause, tree: &Option<TreeExpr>| {
                    let of = RuleOf {
                        owner,
                        word: "",
                        name,
                        clause,
                    };
                    self.rule(of, tree.as_ref())
                };
                let granted_by = rule("granted by", &clauses.granted_by);
                let revoked_by = rule("revoked by", &clauses.revoked_by);
                let requires = rule("requires", &clauses.requires);
                if revoked_by.is_some() && granted_by.is_none() {
                    self.idle_revoked_by(name);
                }
                let member = self.schema.members.get_mut(place);
                if let Some(Member {
                    kind: MemberKind::Relation(relation),
                    ..
                }) = member
                {
                    relation.granted_by = granted_by;
                    relation.revoked_by = revoked_by;
                    relation.requires = requires;
                }
            }
            _ => {}
        }
    }

    fn idle_revoked_by(&mut self, name: &Name) {
        let message = format!(
            "`{}` has `revoked by` and no `granted by`: only trusted callers write it, and revoke it",
            name.text
        );
        self.report.warning(name.span, "idle-revoked-by", message);
    }

    /// Compiles a rule to a member of its own, which no name leads to.
    fn rule(&mut self, of: RuleOf<'_>, tree: Option<&TreeExpr>) -> Option<MemberId> {
        let tree = tree?;
        let place = Place {
            owner: of.owner,
            permission: false,
        };
        let expr = self.expr(place, tree);
        let id = MemberId(u32::try_from(self.schema.members.len()).ok()?);
        self.schema.members.push(Member {
            owner: of.owner,
            rel: RelId::RULE,
            name: format!("{}{} ({})", of.word, of.name.text, of.clause).into(),
            doc: Doc::default(),
            kind: MemberKind::Permission(expr),
        });
        self.spans.push(of.name.span);
        let place = *self.schema.type_places.get(usize::from(of.owner.0))?;
        let definition = self.schema.types.get_mut(usize::from(place?))?;
        definition.rules.push(id);
        Some(id)
    }

    fn locks(&mut self, place: usize, owner: TypeId, definition: &Flat<'_>) {
        let mut compiled = Vec::new();
        for statement in &definition.statements {
            if let Statement::Lock(lock) = statement {
                compiled.push(self.lock(owner, lock));
            }
        }
        if let Some(definition) = self.schema.types.get_mut(place) {
            definition.locks = compiled;
        }
    }

    fn lock(&mut self, owner: TypeId, lock: &ast::Lock) -> LockDef {
        let clauses = &lock.clauses;
        let mut blocked = HashSet::new();
        let blocks = match &clauses.blocks {
            Some(Choice::All) => None,
            Some(Choice::Of(names)) => Some(self.members(owner, names, &mut blocked)),
            None => Some(Vec::new()),
        };
        if clauses.blocks.is_none() && !clauses.seals {
            let message = format!(
                "the lock `{}` blocks nothing and seals nothing",
                lock.name.text
            );
            self.report.warning(lock.name.span, "idle-lock", message);
        }
        let inherits = self.inherits(owner, clauses, |compiler, kind| {
            let definition = compiler.schema.type_def(kind);
            definition.is_some_and(|d| d.locks.iter().any(|l| *l.name == *lock.name.text))
        });
        let mut rule = |clause, tree: &Option<TreeExpr>| {
            let of = RuleOf {
                owner,
                word: "lock ",
                name: &lock.name,
                clause,
            };
            self.rule(of, tree.as_ref())
        };
        LockDef {
            name: lock.name.text.as_str().into(),
            doc: lock.doc.clone(),
            blocks,
            except: rule("except", &clauses.except),
            granted_by: rule("granted by", &clauses.granted_by),
            inherits,
            seals: clauses.seals,
        }
    }

    fn members(
        &mut self,
        owner: TypeId,
        names: &[Name],
        seen: &mut HashSet<MemberId>,
    ) -> Vec<MemberId> {
        let mut members = Vec::new();
        for name in names {
            let Some(id) = self.member_id(owner, name) else {
                continue;
            };
            if !seen.insert(id) {
                self.named_twice(name);
            }
            members.push(id);
        }
        members
    }

    fn named_twice(&mut self, name: &Name) {
        let message = format!("`{}` stands in this list already", name.text);
        self.report.error(name.span, "duplicate", message);
    }

    /// The relations of `inherits`; `useful` says whether anything can arrive from a type.
    fn inherits(
        &mut self,
        owner: TypeId,
        clauses: &Clauses,
        useful: impl Fn(&Self, TypeId) -> bool,
    ) -> Vec<MemberId> {
        let found = self.members(owner, &clauses.inherits, &mut HashSet::new());
        if found.len() < clauses.inherits.len() {
            return found;
        }
        for (id, name) in found.iter().zip(&clauses.inherits) {
            let Some(relation) = self.schema.member(*id).relation() else {
                let message = format!(
                    "`{}` is a permission; `inherits` names relations",
                    name.text
                );
                self.report.error(name.span, "inherits", message);
                continue;
            };
            let plain = relation.subjects.iter().all(|subject| {
                subject.form != SubjectForm::Wildcard
                    && subject.caveat.is_none()
                    && !subject.expiration
            });
            let arrives = relation.subjects.iter().any(|s| useful(self, s.kind));
            if !plain {
                let message = format!(
                    "`{}` takes a caveat, an expiry or a wildcard, and nothing is inherited over such a relation",
                    name.text
                );
                self.report.error(name.span, "inherits", message);
            } else if !arrives {
                let message = format!(
                    "no type that `{}` leads to has anything to inherit here",
                    name.text
                );
                self.report.warning(name.span, "dead-inherits", message);
            }
        }
        found
    }

    fn assigned(&mut self, place: usize, owner: TypeId, definition: &Flat<'_>) {
        let mut compiled = Vec::new();
        for statement in &definition.statements {
            let Statement::Assigns(one) = statement else {
                continue;
            };
            let declared = self.schema.types.get(place);
            let declared = declared.and_then(|t| t.assigns.get(compiled.len()));
            let roles = declared.map_or(RolesId(u16::MAX), |assigns| assigns.roles);
            let inherits = self.inherits(owner, &one.clauses, |compiler, kind| {
                let definition = compiler.schema.type_def(kind);
                definition.is_some_and(|d| d.assigns.iter().any(|a| a.roles == roles))
            });
            let of = RuleOf {
                owner,
                word: "assigns ",
                name: &one.roles,
                clause: "granted by",
            };
            compiled.push(AssignsDef {
                roles,
                granted_by: self.rule(of, one.clauses.granted_by.as_ref()),
                capped: one.clauses.capped,
                inherits,
                carrier: self.carrier(owner, roles, one.roles.span),
            });
        }
        if let Some(definition) = self.schema.types.get_mut(place) {
            definition.assigns = compiled;
        }
    }

    fn roles(&mut self, place: usize, tree: &ast::Roles) {
        let Some(owner) = self.schema.roles.get(place).map(|r| r.owner) else {
            return;
        };
        let Ok(id) = u16::try_from(place).map(RolesId) else {
            self.too_many(tree.name.span);
            return;
        };
        let held_by = self.subject_types(&tree.clauses.held_by);
        // An unknown owner was reported; what its rules say can't be judged.
        let known = self.schema.type_def(owner).is_some();
        let judged = |compiler: &mut Self, word, name, tree: Option<&TreeExpr>| {
            let of = RuleOf {
                owner,
                word,
                name,
                clause: "granted by",
            };
            compiler.rule(of, tree.filter(|_| known))
        };
        let granted_by = judged(self, "roles ", &tree.name, tree.clauses.granted_by.as_ref());
        let mut builtins = Vec::new();
        for builtin in &tree.builtins {
            builtins.push((
                self.includes(id, &builtin.clauses),
                judged(
                    self,
                    "builtin ",
                    &builtin.name,
                    builtin.clauses.granted_by.as_ref(),
                ),
            ));
        }
        let Some(roles) = self.schema.roles.get_mut(place) else {
            return;
        };
        let sites = roles.sites;
        let subjects = assignable(&held_by);
        roles.held_by = held_by;
        roles.granted_by = granted_by;
        for (builtin, (includes, granted_by)) in roles.builtins.iter_mut().zip(builtins) {
            builtin.includes = includes;
            builtin.granted_by = granted_by;
        }
        self.site_member(place, sites, subjects, tree.name.span);
    }

    /// A member that has the name of the block's link, and no value of its own.
    fn carrier(&mut self, owner: TypeId, roles: RolesId, span: Span) -> MemberId {
        let id = u32::try_from(self.schema.members.len()).unwrap_or(u32::MAX);
        let block = self.schema.roles.get(usize::from(roles.0));
        let rel = block.map_or(RelId::RULE, |block| block.sites.relation);
        self.schema.members.push(Member {
            owner,
            rel,
            name: self.names.rel_name(rel).into(),
            doc: Doc::default(),
            kind: MemberKind::Permission(super::super::Expr::Nil),
        });
        self.spans.push(span);
        MemberId(id)
    }

    /// The relation of the sites of a block, as the member that its programs go by.
    fn site_member(&mut self, block: usize, sites: Sites, subjects: Vec<SubjectType>, span: Span) {
        let Ok(id) = u32::try_from(self.schema.members.len()) else {
            return;
        };
        self.schema.members.push(Member {
            owner: sites.kind,
            rel: sites.relation,
            name: self.names.rel_name(sites.relation).into(),
            doc: Doc::default(),
            kind: MemberKind::Relation(Relation {
                subjects,
                ..Relation::default()
            }),
        });
        self.spans.push(span);
        let place = self.schema.type_places.get(usize::from(sites.kind.0));
        let place = place.copied().flatten().map(usize::from);
        if let Some(places) = place.and_then(|place| self.schema.member_places.get_mut(place)) {
            super::set(places, sites.relation.0, id);
        }
        if let Some(roles) = self.schema.roles.get_mut(block) {
            roles.sites.member = MemberId(id);
        }
    }

    fn includes(&mut self, roles: RolesId, clauses: &Clauses) -> Option<Vec<MemberId>> {
        let names = match &clauses.includes {
            Some(Choice::All) => return None,
            Some(Choice::Of(names)) => names.as_slice(),
            None => &[],
        };
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        for (kind, name) in names {
            let Some(kind_id) = self.type_id(kind) else {
                continue;
            };
            let Some(id) = self.member_id(kind_id, name) else {
                continue;
            };
            if !seen.insert(id) {
                self.named_twice(name);
            }
            self.must_say_any(roles, id, name.span);
            members.push(id);
        }
        Some(members)
    }

    fn must_say_any(&mut self, roles: RolesId, id: MemberId, span: Span) {
        if self.schema.is_includable(roles, id) {
            return;
        }
        let member = self.schema.member(id);
        let word = self.schema.roles.get(usize::from(roles.0));
        let word = word.map_or("", |roles| &roles.name).to_owned();
        let message = format!("`{}` can't be included in a role", member.name);
        self.report.error(span, "not-includable", message).help =
            Some(format!("only a permission that says `any {word}` can"));
    }
}

/// Whom assignments may name: any of them may end.
fn assignable(held_by: &[SubjectType]) -> Vec<SubjectType> {
    let ending = held_by.iter().map(|subject| SubjectType {
        expiration: true,
        ..subject.clone()
    });
    let mut subjects: Vec<SubjectType> = held_by.to_vec();
    subjects.extend(ending.filter(|subject| !held_by.contains(subject)));
    subjects
}
