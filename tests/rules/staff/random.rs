//! Random schemas with roles, worlds and deeds, and how they are written.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use portcullis::engine::Engine;
use portcullis::plan::{Action, Assignment, Command, LockWanted, Operation, RoleEdit, RoleWanted};

use super::{
    And, Any, Assigns, Builtin, Deed, Expr, Given, Has, KEYS, KINDS, Lock, Not, Or, PERMISSIONS,
    Permission, Role, RoleName, Schema, Up, World,
};
use crate::oracle::Dice;
use crate::world::{command, write};

fn pick<T: Clone>(dice: &mut Dice, list: &[T]) -> T {
    list[dice.below(list.len())].clone()
}

fn expr(dice: &mut Dice, depth: usize) -> Expr {
    if depth == 0 || dice.once_in(3) {
        return match dice.below(9) {
            0..=2 => Any,
            3 => Up(pick(dice, &PERMISSIONS)),
            4 => Role(pick(dice, &["admin", "member"])),
            5 => Expr::Some,
            6 => Has("chief"),
            _ => Has("owner"),
        };
    }
    let left = Box::new(expr(dice, depth - 1));
    match dice.below(6) {
        0 if dice.once_in(3) => Not(left, Box::new(pick(dice, &[Expr::Some, Role("member")]))),
        0 => Not(left, Box::new(Has("banned"))),
        1 => And(left, Box::new(expr(dice, depth - 1))),
        _ => Or(left, Box::new(expr(dice, depth - 1))),
    }
}

fn rule(dice: &mut Dice) -> Expr {
    match dice.below(6) {
        0 => Has("owner"),
        1 => Up(pick(dice, &PERMISSIONS)),
        2 => Or(Box::new(Has("owner")), Box::new(Up("r"))),
        _ => Has(pick(dice, &PERMISSIONS)),
    }
}

fn some_of(dice: &mut Dice, all: &BTreeSet<Permission>, once_in: usize) -> BTreeSet<Permission> {
    all.iter()
        .copied()
        .filter(|_| dice.once_in(once_in))
        .collect()
}

pub(super) fn random_schema(dice: &mut Dice) -> Schema {
    let mut schema = Schema::default();
    for kind in KINDS {
        for name in PERMISSIONS {
            schema.permissions.insert((kind, name), expr(dice, 2));
        }
        let assigns = Assigns {
            granted: (!dice.once_in(6)).then(|| rule(dice)),
            capped: !dice.once_in(3),
            inherits: !dice.once_in(3),
        };
        schema.assigns.insert(kind, assigns);
        let lock = Lock {
            except: dice.once_in(2).then(|| rule(dice)),
            inherits: dice.once_in(2),
        };
        schema.locks.insert(kind, lock);
    }
    schema.granted = (!dice.once_in(6)).then(|| rule(dice));
    schema.capped = !dice.once_in(3);
    let includable = schema.includable();
    for (place, key) in KEYS.into_iter().take(2).enumerate() {
        let builtin = Builtin {
            includes: (place == 1 || dice.once_in(2)).then(|| some_of(dice, &includable, 2)),
            granted: (!dice.once_in(3)).then(|| rule(dice)),
            min: if dice.once_in(2) {
                1 + dice.below(2)
            } else {
                0
            },
        };
        schema.builtins.insert(key, builtin);
    }
    schema
}

fn text(expr: &Expr) -> String {
    match expr {
        Has(name) => (*name).to_owned(),
        Up(name) => format!("up->{name}"),
        Any => "any role".to_owned(),
        Expr::Some => "some role".to_owned(),
        Role(key) => format!("role {key}"),
        Or(a, b) => format!("({} + {})", text(a), text(b)),
        And(a, b) => format!("({} & {})", text(a), text(b)),
        Not(a, b) => format!("({} - {})", text(a), text(b)),
    }
}

fn names(all: &BTreeSet<Permission>) -> Vec<std::sync::Arc<str>> {
    let names = all
        .iter()
        .map(|(kind, name)| format!("{kind}.{name}").into());
    names.collect()
}

pub(super) fn schema_text(schema: &Schema) -> String {
    let mut out = "definition user {}\ndefinition team { relation member: user }\n".to_owned();
    let granted = |rule: &Option<Expr>| {
        rule.as_ref()
            .map_or(String::new(), |rule| format!(" granted by {}", text(rule)))
    };
    let capped = |capped: bool| if capped { " capped" } else { "" };
    for kind in KINDS {
        let above = if kind == "env" { "app" } else { "org" };
        writeln!(out, "definition {kind} {{\n  relation up: {above}").unwrap();
        out += "  relation owner: user | team#member\n  relation chief: user\n";
        out += "  relation banned: user\n";
        for name in PERMISSIONS {
            let body = text(&schema.permissions[&(kind, name)]);
            writeln!(out, "  permission {name} = {body}").unwrap();
        }
        let Assigns {
            granted: rule,
            capped: cap,
            inherits,
        } = &schema.assigns[kind];
        let inherits = if *inherits { " inherits up" } else { "" };
        writeln!(
            out,
            "  assigns role{}{}{inherits}",
            granted(rule),
            capped(*cap)
        )
        .unwrap();
        let Lock { except, inherits } = &schema.locks[kind];
        let except = except
            .as_ref()
            .map_or(String::new(), |rule| format!(" except {}", text(rule)));
        let inherits = if *inherits { " inherits up" } else { "" };
        writeln!(out, "  lock freeze {{ blocks p{except}{inherits} }}\n}}").unwrap();
    }
    let (rule, cap) = (granted(&schema.granted), capped(schema.capped));
    writeln!(
        out,
        "roles role of org {{\n  held by user | team#member{rule}{cap}"
    )
    .unwrap();
    for (
        key,
        Builtin {
            includes,
            granted: rule,
            min,
        },
    ) in &schema.builtins
    {
        let includes = match includes.as_ref().map(names) {
            None => " includes *".to_owned(),
            Some(none) if none.is_empty() => String::new(),
            Some(some) => format!(" includes {}", some.join(", ")),
        };
        let min = if *min > 0 {
            format!(" min {min}")
        } else {
            String::new()
        };
        writeln!(out, "  builtin {key}{includes}{}{min}", granted(rule)).unwrap();
    }
    out + "}"
}

fn subject(dice: &mut Dice) -> String {
    match dice.once_in(4) {
        true => format!("team:{}#member", dice.below(2)),
        false => format!("user:{}", dice.below(4)),
    }
}

fn random_tuple(dice: &mut Dice) -> (String, &'static str, String) {
    if dice.once_in(8) {
        return (
            format!("team:{}", dice.below(2)),
            "member",
            format!("user:{}", dice.below(4)),
        );
    }
    let kind = pick(dice, &KINDS);
    let on = format!("{kind}:{}", dice.below(3));
    match dice.below(6) {
        0..=2 => {
            let above = if kind == "env" { "app" } else { "org" };
            (on, "up", format!("{above}:{}", dice.below(3)))
        }
        3 => (on, "banned", format!("user:{}", dice.below(4))),
        4 => (on, "chief", format!("user:{}", dice.below(4))),
        _ => (on, "owner", subject(dice)),
    }
}

fn random_given(dice: &mut Dice, world: &World, takes: bool) -> Given {
    let standing: Vec<_> = world.given.keys().collect();
    let name = if !standing.is_empty() && dice.once_in(if takes { 2 } else { 5 }) {
        pick(dice, &standing).clone()
    } else {
        let role = (dice.below(3), pick(dice, &KEYS));
        let kind = pick(dice, &KINDS);
        // On its owner more often than chance would have it.
        let id = if dice.once_in(2) {
            role.0
        } else {
            dice.below(4)
        };
        (format!("{kind}:{id}"), role, subject(dice))
    };
    Given {
        takes,
        must: false,
        name,
        ends: !takes && dice.once_in(5),
    }
}

pub(super) fn random_deed(dice: &mut Dice, schema: &Schema, world: &World) -> Deed {
    let role = (dice.below(3), pick(dice, &KEYS));
    let includable = schema.includable();
    match dice.below(10) {
        0 | 1 => Deed::Create(role, some_of(dice, &includable, 3)),
        2 | 3 => {
            let allow = some_of(dice, &includable, 3);
            let mut disallow = some_of(dice, &includable, 3);
            disallow.retain(|one| !allow.contains(one));
            match allow.is_empty() && disallow.is_empty() {
                true => Deed::Delete(role),
                false => Deed::Edit(role, allow, disallow),
            }
        }
        4 => Deed::Delete(role),
        5 | 6 => Deed::Assign(vec![random_given(dice, world, true)]),
        7 => {
            // Moved from one role to another.
            let mut take = random_given(dice, world, true);
            take.must = true;
            let mut give = take.clone();
            (give.takes, give.must) = (false, false);
            give.name.1 = (take.name.1.0, pick(dice, &KEYS));
            match give.name == take.name {
                true => Deed::Assign(vec![take]),
                false => Deed::Assign(vec![take, give]),
            }
        }
        _ => Deed::Assign(vec![random_given(dice, world, false)]),
    }
}

fn role_text((owner, key): RoleName) -> String {
    format!("role:{owner}/{key}")
}

pub(super) fn command_of(deed: &Deed) -> Command {
    let parsed = |role| role_text(role).parse().unwrap();
    match deed {
        Deed::Create(role, permissions) => command(Action::CreateRole(RoleWanted {
            owner: format!("org:{}", role.0).parse().unwrap(),
            key: role.1.into(),
            title: "".into(),
            permissions: names(permissions),
        })),
        Deed::Edit(role, allow, disallow) => command(Action::UpdateRole(RoleEdit {
            role: parsed(*role),
            title: None,
            allow: names(allow),
            disallow: names(disallow),
        })),
        Deed::Delete(role) => command(Action::DeleteRole {
            role: parsed(*role),
        }),
        Deed::Assign(all) => {
            let assignments = all.iter().map(|one| {
                let operation = match (one.takes, one.must) {
                    (true, true) => Operation::Delete,
                    (true, false) => Operation::Revoke,
                    (false, _) => Operation::Grant,
                };
                let (on, role, who) = &one.name;
                let (who, on) = (who.parse().unwrap(), on.parse().unwrap());
                let mut assignment = Assignment::new(operation, parsed(*role), who, on);
                let far = portcullis::time::Timestamp::new(4_000_000_000, 0).unwrap();
                assignment.expires_at = one.ends.then_some(far);
                assignment
            });
            command(Action::Assign {
                assignments: assignments.collect(),
            })
        }
    }
}

/// Tuples and locks, which trusted callers write.
pub(super) async fn build(dice: &mut Dice, engine: &Engine, world: &mut World) {
    for _ in 0..25 {
        world.tuples.insert(random_tuple(dice));
    }
    let tuples = world.tuples.iter();
    let tuples: Vec<String> = tuples.map(|(o, r, s)| format!("+{o}#{r}@{s}")).collect();
    let tuples: Vec<&str> = tuples.iter().map(String::as_str).collect();
    engine.write(write(&tuples), None).await.unwrap();
    for _ in 0..dice.below(9) {
        let on = format!("{}:{}", pick(dice, &KINDS), dice.below(4));
        world.locks.insert(on.clone());
        let mut lock = command(Action::Lock(LockWanted {
            resource: on.parse().unwrap(),
            mode: "freeze".into(),
            exempt: Vec::new(),
            ttl: None,
            lock_id: None,
        }));
        lock.options.reason = "r".into();
        engine.write(lock, None).await.unwrap();
    }
}
