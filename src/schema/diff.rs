//! What changed between two schemas, in lines for people: order, layout and comments that are no
//! docs do not count.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::{
    CaveatDef, CaveatType, Doc, Expr, LockDef, MemberId, MemberKind, RolesDef, RolesId, Schema,
    SubjectForm, SubjectType, TypeDef,
};

/// What `new` adds, removes and changes, sorted, such as `added permission application.deploy`.
pub fn diff(old: &Schema, new: &Schema) -> Vec<String> {
    let (old, new) = (facts(old), facts(new));
    let mut lines = Vec::new();
    for (what, after) in &new {
        match old.get(what) {
            None => lines.push(format!("added {what}")),
            Some(before) => changed(what, before, after, &mut lines),
        }
    }
    let gone = old.keys().filter(|what| !new.contains_key(*what));
    lines.extend(gone.map(|what| format!("removed {what}")));
    lines.sort();
    lines
}

/// What one thing of a schema says: the name of an aspect, and its text; empty where it has none.
type Aspects = Vec<(&'static str, String)>;

fn changed(what: &str, before: &Aspects, after: &Aspects, lines: &mut Vec<String>) {
    let value = |aspects: &Aspects, name: &str| {
        let mut aspects = aspects.iter();
        let found = aspects.find(|(aspect, _)| *aspect == name);
        found.map_or(String::new(), |(_, text)| text.clone())
    };
    let names = before.iter().chain(after).map(|(name, _)| *name);
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let (old, new) = (value(before, name), value(after, name));
        if old == new {
            continue;
        }
        if name == "doc" {
            lines.push(format!("changed {what}: doc"));
            continue;
        }
        let shown = |text: &str| match text {
            "" => "nothing".to_owned(),
            text => text.to_owned(),
        };
        lines.push(format!(
            "changed {what}: {name} {} -> {}",
            shown(&old),
            shown(&new)
        ));
    }
}

fn facts(schema: &Schema) -> BTreeMap<String, Aspects> {
    let mut facts = BTreeMap::new();
    for definition in &schema.types {
        of_type(schema, definition, &mut facts);
    }
    let conditions = conditions(schema);
    for caveat in &schema.caveats {
        let condition = conditions.get(&*caveat.name).cloned();
        let aspects = of_caveat(caveat, condition.unwrap_or_default());
        facts.insert(format!("caveat {}", caveat.name), aspects);
    }
    for roles in &schema.roles {
        of_roles(schema, roles, &mut facts);
    }
    facts
}

fn of_type(schema: &Schema, definition: &TypeDef, facts: &mut BTreeMap<String, Aspects>) {
    let name = &definition.name;
    facts.insert(format!("type {name}"), vec![doc(&definition.doc)]);
    for id in &definition.members {
        let member = schema.member(*id);
        let (word, mut aspects) = match &member.kind {
            MemberKind::Permission(expr) => ("permission", vec![("to", show(schema, expr))]),
            MemberKind::Relation(relation) => (
                "relation",
                vec![
                    ("types", types(schema, &relation.subjects)),
                    ("min", number(relation.min)),
                    ("granted by", rule(schema, relation.granted_by)),
                    ("revoked by", rule(schema, relation.revoked_by)),
                    ("requires", rule(schema, relation.requires)),
                ],
            ),
        };
        aspects.push(doc(&member.doc));
        facts.insert(format!("{word} {name}.{}", member.name), aspects);
    }
    for lock in &definition.locks {
        facts.insert(format!("lock {name}.{}", lock.name), of_lock(schema, lock));
    }
    for assigns in &definition.assigns {
        let what = format!("assigns {name}.{}", roles_name(schema, assigns.roles));
        let aspects = vec![
            ("granted by", rule(schema, assigns.granted_by)),
            ("capped", flag(assigns.capped)),
            ("inherits", members(schema, &assigns.inherits)),
        ];
        facts.insert(what, aspects);
    }
}

fn of_lock(schema: &Schema, lock: &LockDef) -> Aspects {
    let blocks = lock.blocks.as_ref();
    vec![
        (
            "blocks",
            blocks.map_or("*".into(), |ids| members(schema, ids)),
        ),
        ("except", rule(schema, lock.except)),
        ("granted by", rule(schema, lock.granted_by)),
        ("inherits", members(schema, &lock.inherits)),
        ("seals", flag(lock.seals)),
        doc(&lock.doc),
    ]
}

fn of_caveat(caveat: &CaveatDef, condition: String) -> Aspects {
    let parameters = caveat.parameters.iter();
    let parameters = parameters.map(|p| format!("{} {}", p.name, kind(&p.kind)));
    vec![
        ("parameters", parameters.collect::<Vec<_>>().join(", ")),
        ("condition", condition),
        doc(&caveat.doc),
    ]
}

/// The texts of all conditions, which the compiled caveats do not keep.
fn conditions(schema: &Schema) -> HashMap<String, String> {
    let tree = super::parser::parse(&schema.text).unwrap_or_default();
    let bodies = tree.items.into_iter().filter_map(|item| match item {
        super::ast::Item::Caveat(caveat) => Some((caveat.name.text, caveat.body.text)),
        _ => None,
    });
    bodies.collect()
}

fn of_roles(schema: &Schema, roles: &RolesDef, facts: &mut BTreeMap<String, Aspects>) {
    let name = &roles.name;
    let aspects = vec![
        ("owner", schema.names.type_name(roles.owner).to_owned()),
        ("held by", types(schema, &roles.held_by)),
        ("granted by", rule(schema, roles.granted_by)),
        ("capped", flag(roles.capped)),
        doc(&roles.doc),
    ];
    facts.insert(format!("roles {name}"), aspects);
    for builtin in &roles.builtins {
        let includes = builtin.includes.as_ref();
        let includes = includes.map_or("*".into(), |ids| {
            let full = |id: &MemberId| {
                let member = schema.member(*id);
                format!("{}.{}", schema.names.type_name(member.owner), member.name)
            };
            ids.iter().map(full).collect::<Vec<_>>().join(", ")
        });
        let aspects = vec![
            ("includes", includes),
            ("granted by", rule(schema, builtin.granted_by)),
            ("min", number(builtin.min)),
            doc(&builtin.doc),
        ];
        facts.insert(format!("builtin {name}.{}", builtin.name), aspects);
    }
}

fn doc(doc: &Doc) -> (&'static str, String) {
    match doc == &Doc::default() {
        true => ("doc", String::new()),
        false => ("doc", format!("{doc:?}")),
    }
}

fn number(min: u64) -> String {
    match min {
        0 => String::new(),
        min => min.to_string(),
    }
}

fn flag(is: bool) -> String {
    if is { "yes".into() } else { String::new() }
}

fn members(schema: &Schema, ids: &[MemberId]) -> String {
    let names = ids.iter().map(|id| schema.member(*id).name.to_string());
    names.collect::<Vec<_>>().join(", ")
}

fn roles_name(schema: &Schema, id: RolesId) -> &str {
    let roles = schema.roles.get(usize::from(id.0));
    roles.map_or("", |roles| &roles.name)
}

fn rule(schema: &Schema, id: Option<MemberId>) -> String {
    match id.map(|id| &schema.member(id).kind) {
        Some(MemberKind::Permission(expr)) => show(schema, expr),
        _ => String::new(),
    }
}

fn types(schema: &Schema, subjects: &[SubjectType]) -> String {
    let names = &schema.names;
    let one = |subject: &SubjectType| {
        let mut text = names.type_name(subject.kind).to_owned();
        match subject.form {
            SubjectForm::Object => {}
            SubjectForm::Wildcard => text.push_str(":*"),
            SubjectForm::Set(rel) => {
                let _ = write!(text, "#{}", names.rel_name(rel));
            }
        }
        let caveat = subject.caveat.map(|id| names.caveat_name(id));
        let expiration = subject.expiration.then_some("expiration");
        let traits: Vec<&str> = caveat.into_iter().chain(expiration).collect();
        if !traits.is_empty() {
            let _ = write!(text, " with {}", traits.join(" and "));
        }
        text
    };
    subjects.iter().map(one).collect::<Vec<_>>().join(" | ")
}

fn kind(kind: &CaveatType) -> String {
    match kind {
        CaveatType::List(inner) => format!("list<{}>", self::kind(inner)),
        CaveatType::Map(inner) => format!("map<{}>", self::kind(inner)),
        plain => format!("{plain:?}").to_lowercase(),
    }
}

/// An expression as text, with parentheses around each part that has an operator of its own. The
/// parser has bounded how deep it nests.
pub(super) fn show(schema: &Schema, expr: &Expr) -> String {
    let name = |id: MemberId| schema.member(id).name.to_string();
    match expr {
        Expr::Nil => "nil".into(),
        Expr::Itself => "self".into(),
        Expr::Member(id) => name(*id),
        Expr::Arrow { via, target, all } => {
            let target = schema.names.rel_name(*target);
            match all {
                true => format!("{}.all({target})", name(*via)),
                false => format!("{}->{target}", name(*via)),
            }
        }
        Expr::Backward { via, target } => {
            let owner = schema.names.type_name(schema.member(*via).owner);
            format!("{owner}.{}<-{}", name(*via), name(*target))
        }
        Expr::AnyRole(id) => format!("any {}", roles_name(schema, *id)),
        Expr::SomeRole(id) => format!("some {}", roles_name(schema, *id)),
        Expr::Role(_, builtin) => format!("role {builtin}"),
        Expr::Union(parts) => joined(schema, parts, " + "),
        Expr::Intersection(parts) => joined(schema, parts, " & "),
        Expr::Exclusion(left, right) => {
            format!("{} - {}", inner(schema, left), inner(schema, right))
        }
    }
}

fn joined(schema: &Schema, parts: &[Expr], sign: &str) -> String {
    let parts = parts.iter().map(|part| inner(schema, part));
    parts.collect::<Vec<_>>().join(sign)
}

fn inner(schema: &Schema, part: &Expr) -> String {
    let text = show(schema, part);
    match part {
        Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..) => format!("({text})"),
        _ => text,
    }
}
