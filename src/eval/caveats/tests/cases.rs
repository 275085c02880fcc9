//! The table of `cases.txt`: each type, its operators and functions, and what is missing.

use super::*;

/// A line is `parameters | condition | context | outcome`, set apart by ` | `.
fn check(line: &str) -> Result<(), String> {
    let fields: Vec<&str> = line
        .split(" | ")
        .flat_map(|f| f.strip_prefix("| ").map_or(vec![f], |f| vec!["", f]))
        .map(str::trim)
        .collect();
    let [declared, source, request, expected] = fields[..] else {
        return Err(format!("{line}: not four fields: {fields:?}"));
    };
    for (tuple, request) in [("", request), (request, "")] {
        let found = answer(declared, source, tuple, request);
        let part = expected
            .split_once(": ")
            .filter(|(kind, _)| ["fails", "refused"].contains(kind));
        let met = match part {
            Some((kind, part)) => found.starts_with(kind) && found.contains(part),
            None => found == expected,
        };
        if !met {
            return Err(format!("{line}\n    found {found}"));
        }
    }
    Ok(())
}

#[test]
fn every_case_of_the_table() {
    let lines = include_str!("cases.txt")
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let results: Vec<_> = lines.map(check).collect();
    assert!(results.len() > 200, "{} cases", results.len());
    let wrong: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
