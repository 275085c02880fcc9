//! Doc comments: hides the stars and the tags.

use super::Doc;

/// Reads a comment with its markers; `None` where it is no `/** … */`.
pub(super) fn parse(comment: &str) -> Option<Doc> {
    let inner = comment.strip_prefix("/**")?.strip_suffix("*/")?;
    let mut doc = Doc::default();
    let mut lines: Vec<String> = Vec::new();
    for line in inner.lines() {
        let line = line.trim();
        let line = line.strip_prefix('*').unwrap_or(line).trim();
        let rest = tags(line, &mut doc);
        if !rest.is_empty() || rest.len() == line.len() {
            lines.push(rest);
        }
    }
    lines.join("\n").trim().clone_into(&mut doc.text);
    Some(doc)
}

/// Takes the tags out of a line and gives back what is left of it.
fn tags(line: &str, doc: &mut Doc) -> String {
    let mut rest = String::new();
    let mut group: Option<String> = None;
    for word in line.split_whitespace() {
        let tag = word.trim_end_matches(['.', ',']);
        match (tag, &mut group) {
            ("@group", _) => group = Some(String::new()),
            ("@sensitive", _) => {
                doc.sensitive = true;
                doc.group = group.take().or(doc.group.take());
            }
            (_, Some(name)) if !word.starts_with('@') => push_word(name, word),
            _ => push_word(&mut rest, word),
        }
    }
    let group = group.filter(|name| !name.is_empty());
    doc.group = group.or(doc.group.take()).filter(|name| !name.is_empty());
    match rest.split_whitespace().eq(line.split_whitespace()) {
        true => line.to_owned(),
        false => rest,
    }
}

fn push_word(text: &mut String, word: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(word);
}
