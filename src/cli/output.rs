//! What the commands print: lines for people, JSON for programs; answers to standard output,
//! errors to standard error.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::client::Refused;

/// Where a command says what it found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints `text`, or `value` where JSON is asked for.
    pub(super) fn give(self, value: &Value, text: impl Display) -> anyhow::Result<()> {
        match self.json {
            true => line(value),
            false => line(text),
        }
    }

    /// Prints text as it is, with no line end added, or `value` where JSON is asked for.
    pub(super) fn document(self, value: &Value, text: &str) -> anyhow::Result<()> {
        if self.json {
            return line(value);
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Tells a person what a program has no use for. Where standard error is gone, it stays unsaid.
    pub(super) fn note(self, text: impl Display) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "note: {text}");
        }
    }

    /// Whether JSON is asked for.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints what went wrong. Where standard error is gone too, nothing is left to tell.
    pub(super) fn error(self, error: &anyhow::Error) {
        let refused = error.downcast_ref::<Refused>();
        // What the command adds to the server's words stands around them.
        let bare = (error.chain().next()).is_some_and(<dyn std::error::Error>::is::<Refused>);
        let added = (refused.is_some() && !bare).then(|| error.to_string());
        let text = match (self.json, refused) {
            (true, Some(refused)) => json!({ "error": refused.json(), "note": added }).to_string(),
            (true, None) => json!({ "error": { "message": told(error) } }).to_string(),
            (false, Some(refused)) => match added {
                None => format!("error: {refused}"),
                Some(added) => format!("error: {refused}  note:   {added}"),
            },
            (false, None) => format!("error: {}", told(error)),
        };
        let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
    }
}

/// The error and its causes, but for those that its own message tells already.
fn told(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |told, cause| {
            let cause = cause.to_string();
            match told.contains(&cause) {
                true => told,
                false => format!("{told}: {cause}"),
            }
        })
}

fn line(text: impl Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Whether whoever read our output has gone, as `head` does: no error to speak of.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    (error.downcast_ref::<io::Error>()).is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
