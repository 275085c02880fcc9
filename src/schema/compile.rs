//! A tree to a [`Schema`]: every name resolved to its number, every statement checked by itself.
//! What can be judged only of the whole (cycles, negation) is `check`'s.

mod expr;
mod partials;
mod rules;

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{self, Item, Name, Statement, Tree};
use super::diagnostic::{Diagnostic, Report, nearest};
use super::lexer::Span;
use super::parser;
use super::{
    CaveatDef, Member, MemberId, MemberKind, Names, Parameter, Relation, RolesDef, Schema, Sites,
    SubjectForm, SubjectType, TypeDef, TypeId, cel, check,
};
use partials::Flat;

/// A schema, and what is odd about it.
#[derive(Debug)]
pub struct Compiled {
    /// The schema.
    pub schema: Schema,
    /// In the order of the text.
    pub warnings: Vec<Diagnostic>,
}

impl Schema {
    /// Compiles a schema's text. The numbers of `earlier` are kept, new names follow them.
    ///
    /// # Errors
    /// All that is wrong with the text, in its order (at most about 50).
    pub fn compile(text: &str, earlier: &Names) -> Result<Compiled, Vec<Diagnostic>> {
        let mut report = Report::new(text);
        let schema = parser::read(text, &mut report)
            .filter(|_| report.errors.is_empty())
            .and_then(|parsed| compile_tree(text, &parsed.tree, earlier, &mut report));
        let [errors, warnings] = report.finish();
        match schema {
            Some(schema) if errors.is_empty() => Ok(Compiled { schema, warnings }),
            _ => Err(errors),
        }
    }
}

/// `None` where errors were reported.
fn compile_tree(
    text: &str,
    tree: &Tree,
    earlier: &Names,
    report: &mut Report<'_>,
) -> Option<Schema> {
    let definitions = partials::expand(tree, report)?;
    let mut compiler = Compiler {
        names: earlier.clone(),
        schema: empty(text),
        spans: Vec::new(),
        uses_self: tree.items.iter().any(uses_self),
        report,
    };
    compiler.declare(tree, &definitions)?;
    compiler.relations(&definitions);
    compiler.bodies(tree, &definitions);
    let Compiler {
        names,
        mut schema,
        spans,
        ..
    } = compiler;
    if !report.errors.is_empty() {
        return None;
    }
    schema.names = Arc::new(names);
    check::check(&schema, &spans, report);
    Some(schema)
}

fn uses_self(item: &Item) -> bool {
    matches!(item, Item::Use(name) if name.text == "self")
}

fn empty(text: &str) -> Schema {
    Schema {
        text: text.into(),
        names: Arc::default(),
        types: Vec::new(),
        members: Vec::new(),
        caveats: Vec::new(),
        roles: Vec::new(),
        type_places: Vec::new(),
        member_places: Vec::new(),
        caveat_places: Vec::new(),
        programs: std::sync::OnceLock::new(),
        reach: std::sync::OnceLock::new(),
    }
}

struct Compiler<'r, 't> {
    names: Names,
    /// Grows: first what is declared, then what it says.
    schema: Schema,
    /// Where each member is named.
    spans: Vec<Span>,
    uses_self: bool,
    report: &'r mut Report<'t>,
}

/// Sets a place in a list that grows as needed.
fn set<T: Clone>(list: &mut Vec<Option<T>>, place: u16, value: T) {
    let place = usize::from(place);
    if list.len() <= place {
        list.resize(place + 1, None);
    }
    if let Some(slot) = list.get_mut(place) {
        *slot = Some(value);
    }
}

impl Compiler<'_, '_> {
    /// Gives every definition, member, caveat and `roles` block its place.
    fn declare(&mut self, tree: &Tree, definitions: &[Flat<'_>]) -> Option<()> {
        let mut seen = HashMap::new();
        for definition in definitions {
            self.once(&mut seen, definition.name, "a second definition of");
            self.declare_type(definition)?;
        }
        let mut seen_caveats = HashMap::new();
        for item in &tree.items {
            match item {
                Item::Roles(roles) => {
                    self.once(
                        &mut seen,
                        &roles.name,
                        "a second definition or `roles` block",
                    );
                    self.declare_roles(roles)?;
                }
                Item::Caveat(caveat) => {
                    self.once(&mut seen_caveats, &caveat.name, "a second caveat");
                    self.caveat(caveat)?;
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Reports a name that `seen` has already.
    fn once<'n>(&mut self, seen: &mut HashMap<&'n str, Span>, name: &'n Name, what: &str) -> bool {
        let Some(first) = seen.insert(&name.text, name.span) else {
            return true;
        };
        if self.report.is_full() {
            return false;
        }
        let message = format!("{what} `{}`", name.text);
        let text = self.schema.text.clone();
        let place = Diagnostic::new(
            super::diagnostic::Severity::Error,
            &text,
            first.into(),
            "duplicate",
            "",
        );
        self.report.error(name.span, "duplicate", message).help = Some(format!(
            "the first is on line {}, column {}",
            place.line, place.column
        ));
        false
    }

    fn too_many(&mut self, span: Span) -> Option<()> {
        let message = "more than 65,534 names, those of earlier schemas included";
        self.report.error(span, "too-many", message);
        None
    }

    fn declare_type(&mut self, definition: &Flat<'_>) -> Option<()> {
        let Some(id) = self.names.intern_type(&definition.name.text) else {
            return self.too_many(definition.name.span);
        };
        let place = u16::try_from(self.schema.types.len()).ok()?;
        set(&mut self.schema.type_places, id.0, place);
        self.schema.types.push(TypeDef {
            id,
            name: definition.name.text.as_str().into(),
            doc: definition.doc.clone(),
            members: Vec::new(),
            rules: Vec::new(),
            locks: Vec::new(),
            assigns: Vec::new(),
        });
        self.schema.member_places.push(Vec::new());
        let mut seen = HashMap::new();
        for statement in &definition.statements {
            let (name, doc, kind) = match statement {
                Statement::Relation(relation) => (
                    &relation.name,
                    &relation.doc,
                    MemberKind::Relation(Relation::default()),
                ),
                Statement::Permission(permission) => (
                    &permission.name,
                    &permission.doc,
                    MemberKind::Permission(super::Expr::Nil),
                ),
                _ => continue,
            };
            if name.text == "nil" {
                let message = "`nil` means nobody and can't name anything";
                self.report.error(name.span, "reserved", message);
            }
            self.once(&mut seen, name, "a second relation or permission");
            let Some(rel) = self.names.intern_rel(&name.text) else {
                return self.too_many(name.span);
            };
            self.declare_member(Member {
                owner: id,
                rel,
                name: name.text.as_str().into(),
                doc: doc.clone(),
                kind,
            })?;
            self.spans.push(name.span);
        }
        Some(())
    }

    fn declare_member(&mut self, member: Member) -> Option<()> {
        let id = u32::try_from(self.schema.members.len()).ok()?;
        set(self.schema.member_places.last_mut()?, member.rel.0, id);
        self.schema.types.last_mut()?.members.push(MemberId(id));
        self.schema.members.push(member);
        Some(())
    }

    fn declare_roles(&mut self, roles: &ast::Roles) -> Option<()> {
        let owner = self.type_id(&roles.owner).unwrap_or(TypeId(u16::MAX));
        let sites = self.sites(&roles.name)?;
        self.schema.roles.push(RolesDef {
            name: roles.name.text.as_str().into(),
            doc: roles.doc.clone(),
            owner,
            held_by: Vec::new(),
            granted_by: None,
            capped: roles.clauses.capped,
            builtins: Vec::new(),
            sites,
        });
        Some(())
    }

    /// The generated names of a `roles` block; whom its assignments name is known later.
    fn sites(&mut self, block: &Name) -> Option<Sites> {
        let name = format!("{}=", block.text);
        let (Some(kind), Some(relation)) =
            (self.names.intern_type(&name), self.names.intern_rel(&name))
        else {
            self.too_many(block.span);
            return None;
        };
        let place = u16::try_from(self.schema.member_places.len()).ok()?;
        set(&mut self.schema.type_places, kind.0, place);
        self.schema.member_places.push(Vec::new());
        Some(Sites {
            kind,
            relation,
            member: MemberId(u32::MAX),
        })
    }

    fn caveat(&mut self, caveat: &ast::Caveat) -> Option<()> {
        let Some(id) = self.names.intern_caveat(&caveat.name.text) else {
            return self.too_many(caveat.name.span);
        };
        let mut seen = HashMap::new();
        let mut parameters = Vec::new();
        for (name, kind) in &caveat.parameters {
            self.once(&mut seen, name, "a second parameter");
            parameters.push(Parameter {
                name: name.text.as_str().into(),
                kind: kind.clone(),
            });
        }
        if caveat.name.text == "expiration" {
            let message = "`expiration` says when a tuple ends and can't name a caveat";
            self.report.error(caveat.name.span, "reserved", message);
        }
        match cel::compile(&caveat.body.text, &parameters) {
            Ok(expression) => {
                let place = u16::try_from(self.schema.caveats.len()).ok()?;
                set(&mut self.schema.caveat_places, id.0, place);
                self.schema.caveats.push(Arc::new(CaveatDef {
                    id,
                    name: caveat.name.text.as_str().into(),
                    doc: caveat.doc.clone(),
                    parameters,
                    expression,
                }));
            }
            Err(error) => self.bad_condition(caveat, &error),
        }
        Some(())
    }

    fn bad_condition(&mut self, caveat: &ast::Caveat, error: &cel::CelError) {
        let body = caveat.body.span;
        let start = (body.start + error.start).min(body.end);
        let end = (body.start + error.end).clamp(start, body.end);
        let span = match start == end {
            true => caveat.name.span,
            false => Span { start, end },
        };
        self.report.error(span, "caveat", error.message.clone());
    }

    /// The number of a type of this schema, or an error that names the nearest.
    fn type_id(&mut self, name: &Name) -> Option<TypeId> {
        let id = self.names.type_id(&name.text);
        let found = id.filter(|id| self.schema.type_def(*id).is_some());
        if found.is_none() && !self.report.is_full() {
            let near = nearest(&name.text, self.schema.types.iter().map(|t| &*t.name));
            let message = format!("there is no type `{}`", name.text);
            let error = self.report.error(name.span, "unknown-name", message);
            error.nearest = near;
        }
        found
    }

    /// A relation or permission of a type, where there is one.
    fn find_member(&self, kind: TypeId, name: &str) -> Option<MemberId> {
        self.schema.member_id(kind, self.names.rel_id(name)?)
    }

    /// A relation or permission of a type, or an error that names the nearest.
    fn member_id(&mut self, kind: TypeId, name: &Name) -> Option<MemberId> {
        let found = self.find_member(kind, &name.text);
        if found.is_none() && !self.report.is_full() {
            self.unknown_member(kind, name);
        }
        found
    }

    fn unknown_member(&mut self, kind: TypeId, name: &Name) {
        let Some(definition) = self.schema.type_def(kind) else {
            return;
        };
        let members = definition.members.iter();
        let known = members.map(|id| &*self.schema.member(*id).name);
        let near = nearest(&name.text, known);
        let message = format!(
            "`{}` has no relation or permission `{}`",
            definition.name, name.text
        );
        let error = self.report.error(name.span, "unknown-name", message);
        error.nearest = near;
    }

    /// Resolves what subjects all relations take, so that arrows over them can be judged.
    fn relations(&mut self, definitions: &[Flat<'_>]) {
        let mut member = 0_usize;
        for definition in definitions {
            for statement in &definition.statements {
                match statement {
                    Statement::Relation(relation) => {
                        let subjects = self.subject_types(&relation.subjects);
                        let compiled = Relation {
                            subjects,
                            min: relation.clauses.min.unwrap_or(0),
                            ..Relation::default()
                        };
                        self.set_kind(member, MemberKind::Relation(compiled));
                    }
                    Statement::Permission(_) => {}
                    _ => continue,
                }
                member += 1;
            }
        }
    }

    fn set_kind(&mut self, place: usize, kind: MemberKind) {
        if let Some(member) = self.schema.members.get_mut(place) {
            member.kind = kind;
        }
    }

    fn subject_types(&mut self, types: &[ast::SubjectType]) -> Vec<SubjectType> {
        let mut subjects = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for one in types {
            let Some(subject) = self.subject_type(one) else {
                continue;
            };
            if !seen.insert(subject.clone()) {
                let message = "this alternative stands here already";
                self.report.error(one.span, "duplicate", message);
            }
            subjects.push(subject);
        }
        subjects
    }

    fn subject_type(&mut self, one: &ast::SubjectType) -> Option<SubjectType> {
        let kind = self.type_id(&one.kind);
        let caveat = match &one.caveat {
            Some(name) => Some(self.caveat_id(name)?),
            None => None,
        };
        let kind = kind?;
        let form = match &one.form {
            ast::SubjectForm::Object => SubjectForm::Object,
            ast::SubjectForm::Wildcard => SubjectForm::Wildcard,
            ast::SubjectForm::Set(name) => {
                let member = self.member_id(kind, name)?;
                SubjectForm::Set(self.schema.member(member).rel)
            }
        };
        Some(SubjectType {
            kind,
            form,
            caveat,
            expiration: one.expiration,
        })
    }

    fn caveat_id(&mut self, name: &Name) -> Option<super::CaveatId> {
        let id = self.names.caveat_id(&name.text);
        let found = id.filter(|id| self.schema.caveat(*id).is_some());
        if found.is_none() && !self.report.is_full() {
            let known = self.schema.caveats.iter().map(|c| &*c.name);
            let near = nearest(&name.text, known.chain(["expiration"]));
            let message = format!("there is no caveat `{}`", name.text);
            let error = self.report.error(name.span, "unknown-name", message);
            error.nearest = near;
        }
        found
    }
}
