//! Reads the part of the schema language that the conformance data uses, and its tuples, without
//! the real parser: so that the oracle is proved by nothing but itself.

use super::model::{Alternative, Body, CAVEATS, Expr, Form, Given, Object, Subject, Tuple, World};

/// Reads a schema; panics where it is not of the kind that the data has.
pub fn schema(text: &str) -> World {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        world: World {
            caveats: CAVEATS.to_vec(),
            ..World::default()
        },
    };
    // Types first: an expression asks for their places.
    for pair in reader.tokens.windows(2) {
        if pair[0] == "definition" {
            reader.world.types.push(super::model::Type {
                name: pair[1].clone(),
                members: Vec::new(),
                modes: Vec::new(),
                assigns: Vec::new(),
            });
        }
    }
    while reader.at < reader.tokens.len() {
        reader.item();
    }
    reader.world
}

/// Reads a tuple into a world.
pub fn tuple(world: &mut World, text: &str) -> Tuple {
    let (text, traits) = match text.find('[') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    let mut tuple = Tuple {
        resource: object(world, resource),
        relation: world.name(relation),
        subject: self::subject(world, subject),
        caveat: None,
        expires_at: None,
    };
    for part in traits.split('[').filter(|part| !part.is_empty()) {
        let part = part.trim_end_matches(']');
        if let Some(time) = part.strip_prefix("expiration:") {
            let time = chrono::DateTime::parse_from_rfc3339(time).unwrap();
            tuple.expires_at = Some(time.timestamp());
            continue;
        }
        let (name, json) = part.split_once(':').unwrap_or((part, "{}"));
        let caveat = world
            .caveats
            .iter()
            .position(|one| one.name == name)
            .unwrap();
        tuple.caveat = Some((caveat, given(json)));
    }
    tuple
}

/// Reads parameters from JSON.
pub fn given(json: &str) -> Given {
    let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    let value = |(name, value): (String, serde_json::Value)| {
        let known = super::model::PARAMETERS
            .iter()
            .find(|known| **known == name);
        let number = value.as_i64().or(value.as_bool().map(i64::from));
        (*known.unwrap(), number.unwrap())
    };
    values.into_iter().map(value).collect()
}

/// Reads `type:id`.
pub fn object(world: &mut World, text: &str) -> Object {
    let (kind, id) = text.split_once(':').unwrap();
    Object {
        kind: kind_of(world, kind),
        id: world.id(id),
    }
}

/// Reads a subject of any form.
pub fn subject(world: &mut World, text: &str) -> Subject {
    let text = text.trim_end_matches("#...");
    match text.split_once('#') {
        Some((set, relation)) => Subject::Set(object(world, set), world.name(relation)),
        None => match text.strip_suffix(":*") {
            Some(kind) => Subject::Wildcard(kind_of(world, kind)),
            None => Subject::Object(object(world, text)),
        },
    }
}

fn kind_of(world: &World, name: &str) -> usize {
    world
        .types
        .iter()
        .position(|kind| kind.name == name)
        .unwrap()
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '/'))
            .unwrap_or(rest.len());
        let length = match first {
            '/' if rest.starts_with("/*") => rest.find("*/").unwrap() + 2,
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if word > 0 => word,
            _ if rest.starts_with("->") || rest.starts_with("<-") => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() && !token.starts_with("/*") && !token.starts_with("//") {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

struct Reader {
    tokens: Vec<String>,
    at: usize,
    world: World,
}

impl Reader {
    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].clone()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|next| next == token);
        self.at += usize::from(found);
        found
    }

    fn item(&mut self) {
        match self.next().as_str() {
            "use" => self.at += 1,
            "caveat" => while self.next() != "}" {},
            "definition" => {
                let name = self.next();
                let kind = kind_of(&self.world, &name);
                assert!(self.take("{"), "a body of {name}");
                while !self.take("}") {
                    self.member(kind);
                }
            }
            other => panic!("no item begins with {other}"),
        }
    }

    fn member(&mut self, kind: usize) {
        let word = self.next();
        let text = self.next();
        let name = self.world.name(&text);
        self.at += 1;
        let body = match word.as_str() {
            "relation" => Body::Relation(self.alternatives()),
            "permission" => Body::Permission(self.difference(kind)),
            other => panic!("no member begins with {other}"),
        };
        self.world.types[kind].members.push((name, body));
    }

    fn alternatives(&mut self) -> Vec<Alternative> {
        let mut all = Vec::new();
        loop {
            let text = self.next();
            let mut one = Alternative {
                kind: kind_of(&self.world, &text),
                form: Form::Object,
                caveat: None,
                expiration: false,
            };
            if self.take("#") {
                let relation = self.next();
                one.form = Form::Set(self.world.name(&relation));
            } else if self.take(":") {
                self.at += 1;
                one.form = Form::Wildcard;
            }
            while self.take("with") || self.take("and") {
                match self.next().as_str() {
                    "expiration" => one.expiration = true,
                    name => one.caveat = CAVEATS.iter().position(|known| known.name == name),
                }
            }
            all.push(one);
            if !self.take("|") {
                return all;
            }
        }
    }

    fn difference(&mut self, kind: usize) -> Expr {
        let mut left = self.intersection(kind);
        while self.take("-") {
            let right = self.intersection(kind);
            left = self.world.exclusion(kind, left, right);
        }
        left
    }

    fn intersection(&mut self, kind: usize) -> Expr {
        let mut left = self.union(kind);
        while self.take("&") {
            left = Expr::Intersection(Box::new(left), Box::new(self.union(kind)));
        }
        left
    }

    fn union(&mut self, kind: usize) -> Expr {
        let mut left = self.operand(kind);
        while self.take("+") {
            left = Expr::Union(Box::new(left), Box::new(self.operand(kind)));
        }
        left
    }

    fn operand(&mut self, kind: usize) -> Expr {
        let word = self.next();
        if word == "(" {
            let inner = self.difference(kind);
            assert!(self.take(")"), "a closing parenthesis");
            return inner;
        }
        if self.take("->") {
            let target = self.next();
            return self.arrow(&word, &target, false);
        }
        if self.take(".") {
            let how = self.next();
            self.at += 1;
            let target = self.next();
            if how == "any" || how == "all" {
                self.at += 1;
                return self.arrow(&word, &target, how == "all");
            }
            return Expr::Backward {
                kind: kind_of(&self.world, &word),
                via: self.world.name(&how),
                target: self.world.name(&target),
            };
        }
        match word.as_str() {
            "nil" => Expr::Nil,
            "self" => Expr::Itself,
            name => Expr::Member(self.world.name(name)),
        }
    }

    fn arrow(&mut self, via: &str, target: &str, all: bool) -> Expr {
        Expr::Arrow {
            via: self.world.name(via),
            target: self.world.name(target),
            all,
        }
    }
}
