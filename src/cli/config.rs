//! `--config FILE`: flags from a file, where neither the command line nor the environment says
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Usage, read_file, variable};

/// The values of flags, by the flags' names.
#[derive(Debug, Default)]
pub(super) struct Config {
    file: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

/// How a file may give a flag.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Flag(bool),
    Number(i64),
    Text(String),
    Several(Vec<Given>),
}

impl Given {
    fn texts(self) -> Vec<String> {
        match self {
            Self::Flag(on) => vec![on.to_string()],
            Self::Number(number) => vec![number.to_string()],
            Self::Text(text) => vec![text],
            Self::Several(list) => list.into_iter().flat_map(Self::texts).collect(),
        }
    }
}

impl Config {
    /// Reads the file that the arguments or the environment name; empty where they name none.
    pub(super) fn of(arguments: &[OsString]) -> anyhow::Result<Self> {
        match named(arguments) {
            Some(file) => Self::read(&file),
            None => Ok(Self::default()),
        }
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = read_file(file).map_err(|error| Usage(format!("--config: {error}")))?;
        let given: BTreeMap<String, Given> = serde_saphyr::from_str(&text).map_err(|error| {
            let error = error.without_snippet();
            let file = file.display();
            Usage(format!("--config {file}: {error}; expected a flag a line, such as `data: /var/lib/portcullis`"))
        })?;
        let values = given.into_iter().map(|(flag, given)| (flag, given.texts()));
        Ok(Self {
            file: file.to_owned(),
            values: values.collect(),
        })
    }

    /// The grammar with the file's values for defaults.
    pub(super) fn into_defaults(self, grammar: clap::Command) -> anyhow::Result<clap::Command> {
        let mut taken = BTreeSet::new();
        let grammar = self.defaults(grammar, &mut taken);
        match self.values.keys().find(|flag| !taken.contains(*flag)) {
            None => Ok(grammar),
            Some(flag) => {
                let file = self.file.display();
                let problem = format!("--config {file}: there is no flag --{flag}");
                Err(Usage(problem).into())
            }
        }
    }

    fn defaults(&self, command: clap::Command, taken: &mut BTreeSet<String>) -> clap::Command {
        let mut inner = BTreeSet::new();
        let command = command.mut_args(|arg| {
            let flag = arg.get_long().filter(|flag| *flag != "config");
            let given = flag.and_then(|flag| self.values.get_key_value(flag));
            match given {
                Some((flag, values)) => {
                    inner.insert(flag.clone());
                    arg.default_values(values.clone())
                }
                None => arg,
            }
        });
        taken.extend(inner);
        command.mut_subcommands(|command| self.defaults(command, taken))
    }
}

fn named(arguments: &[OsString]) -> Option<PathBuf> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--config") => return words.next().map(PathBuf::from),
            Some("--") => break,
            Some(word) => {
                if let Some(file) = word.strip_prefix("--config=") {
                    return Some(file.into());
                }
            }
            None => {}
        }
    }
    std::env::var_os(variable("config")).map(PathBuf::from)
}
