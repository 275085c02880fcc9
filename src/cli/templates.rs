//! `portcullis templates`

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::Exit;
use super::output::Output;
use crate::templates::{self, ALL, Template};

/// Lists the ready-made schemas, or prints one.
#[derive(Args, Debug)]
#[command(after_help = "portcullis templates scoped-groups > my.zed    to begin your own with it")]
pub(super) struct Templates {
    /// Prints this one's schema
    #[arg(value_parser = names())]
    name: Option<String>,
    /// Prints the tuples of its demo world instead
    #[arg(long, requires = "name")]
    demo: bool,
}

/// The names of all templates.
pub(super) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|template| template.name))
}

impl Templates {
    pub(super) fn run(self, output: Output) -> anyhow::Result<Exit> {
        let Some(template) = self.name.as_deref().and_then(templates::named) else {
            for template in ALL {
                let value = json!({ "name": template.name, "title": template.title });
                output.give(
                    &value,
                    format_args!("{:<20} {}", template.name, template.title),
                )?;
            }
            return Ok(Exit::Done);
        };
        let text = match self.demo {
            true => demo(template),
            false => template.schema.to_owned(),
        };
        let value = json!({ "name": template.name, "title": template.title, "text": text });
        output.document(&value, &text)?;
        Ok(Exit::Done)
    }
}

/// The tuples of a demo world; the roles that they assign stand above them as comments.
fn demo(template: &Template) -> String {
    let mut text = String::new();
    for line in template.demo_roles.lines() {
        text.extend(["// ", line, "\n"]);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text + template.demo
}
