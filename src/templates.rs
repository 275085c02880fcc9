//! The ready-made schemas, each with its demo world and the file that proves it.

use crate::plan::RoleWanted;
use crate::schema::{Names, Schema};
use crate::tuple::Tuple;
use crate::validation::{ValidationFile, relationships, roles_in_file};

/// A ready-made schema. Its files are part of the binary.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// What `--template` takes.
    pub name: &'static str,
    /// What it is for, in a line.
    pub title: &'static str,
    /// The schema, commented for people who will change it.
    pub schema: &'static str,
    /// The tuples of its demo world, one a line; assignments of roles among them.
    pub demo: &'static str,
    /// The run-time roles of its demo world, as YAML; empty where it has none.
    pub demo_roles: &'static str,
    golden: &'static str,
    /// A question to begin with: who, what, on what. It is allowed in the demo world.
    pub question: [&'static str; 3],
}

/// What an empty data directory begins with, unless something else was named.
pub const DEFAULT: &str = "scoped-groups";

/// All templates, sorted by name.
pub const ALL: &[Template] = &[
    Template {
        name: "custom-roles",
        title: "roles that an organization makes of seven permissions, beside admin and member",
        schema: include_str!("templates/custom-roles/schema.zed"),
        demo: include_str!("templates/custom-roles/demo.tuples"),
        demo_roles: include_str!("templates/custom-roles/demo.roles"),
        golden: include_str!("templates/custom-roles/golden.yaml"),
        question: ["user:max", "merge", "sandbox:test"],
    },
    Template {
        name: "groups-and-locks",
        title: "admins, developers and billing, and locks that shut developers out",
        schema: include_str!("templates/groups-and-locks/schema.zed"),
        demo: include_str!("templates/groups-and-locks/demo.tuples"),
        demo_roles: "",
        golden: include_str!("templates/groups-and-locks/golden.yaml"),
        question: ["user:dev", "promote", "environment:prod"],
    },
    Template {
        name: "org-roles",
        title: "owners, admins, billing admins and members of an organization, by its plan",
        schema: include_str!("templates/org-roles/schema.zed"),
        demo: include_str!("templates/org-roles/demo.tuples"),
        demo_roles: "",
        golden: include_str!("templates/org-roles/golden.yaml"),
        question: ["user:mia", "view", "project:site"],
    },
    Template {
        name: "permission-matrix",
        title: "a page of sixteen permissions by roles, each cell of which can be changed",
        schema: include_str!("templates/permission-matrix/schema.zed"),
        demo: include_str!("templates/permission-matrix/demo.tuples"),
        demo_roles: include_str!("templates/permission-matrix/demo.roles"),
        golden: include_str!("templates/permission-matrix/golden.yaml"),
        question: ["user:tess", "create_teams", "workspace:acme"],
    },
    Template {
        name: "scoped-groups",
        title: "security groups on organizations, applications, environments and addons",
        schema: include_str!("templates/scoped-groups/schema.zed"),
        demo: include_str!("templates/scoped-groups/demo.tuples"),
        demo_roles: include_str!("templates/scoped-groups/demo.roles"),
        golden: include_str!("templates/scoped-groups/golden.yaml"),
        question: ["user:alice", "deploy", "environment:prod"],
    },
];

/// The template of this name.
pub fn named(name: &str) -> Option<&'static Template> {
    ALL.iter().find(|template| template.name == name)
}

impl Template {
    /// The tuples of its demo world.
    pub fn tuples(&self) -> Vec<Tuple> {
        let rows = relationships(self.demo).unwrap_or_default();
        rows.into_iter().map(|row| row.value).collect()
    }

    /// The run-time roles of its demo world.
    pub fn roles(&self) -> Vec<RoleWanted> {
        let schema = Schema::compile(self.schema, &Names::default());
        let rows = roles_in_file(self.demo_roles).unwrap_or_default();
        let wanted = rows.iter().filter_map(|row| {
            let schema = &schema.as_ref().ok()?.schema;
            row.value.wanted(schema).ok()
        });
        wanted.collect()
    }

    /// What its document says, as expectations on the demo world.
    ///
    /// # Errors
    /// Where its file can't be read, which its test rules out.
    pub fn golden(&self) -> Result<ValidationFile, crate::validation::Problem> {
        ValidationFile::parse(self.golden, &|name| match name {
            "schema.zed" => Ok(self.schema.to_owned()),
            "demo.tuples" => Ok(self.demo.to_owned()),
            "demo.roles" => Ok(self.demo_roles.to_owned()),
            _ => Err(format!("a template has no file {name:?}")),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_template_is_whole() {
        for template in ALL {
            assert_eq!(
                named(template.name).map(|found| found.name),
                Some(template.name)
            );
            let golden = template.golden().unwrap();
            assert!(golden.expectations.len() > 60, "{}", template.name);
            let rows = relationships(template.demo).unwrap();
            assert_eq!(rows.len(), template.tuples().len());
            assert_eq!(rows.len(), golden.tuples.len());
            if !template.demo_roles.is_empty() {
                let roles = roles_in_file(template.demo_roles).unwrap();
                assert_eq!(roles.len(), golden.roles.len());
                assert_eq!(roles.len(), template.roles().len());
            }
        }
        assert!(named(DEFAULT).is_some());
        assert!(named("none").is_none());
    }
}
