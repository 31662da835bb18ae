//! The rules that hold for text of any kind: files of a readable length, links that lead somewhere,
//! nothing of one machine, no unfinished marks.

use std::path::Path;

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::markdown;

/// Above this many lines a Rust file is worth a look, above the second it is too long.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// What stands in a file only because it was on somebody's machine. In two parts, so that this list does
/// not find itself.
const OF_ONE_MACHINE: &[[&str; 2]] = &[
    ["/ro", "ot/"],
    ["--index", "-url"],
    ["--extra-index", "-url"],
];

/// What marks a thing as not finished, in two parts as well.
const UNFINISHED: &[[&str; 2]] = &[["TO", "DO"], ["FIX", "ME"], ["XX", "X"]];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in context.files()? {
        // What is not text has no lines to look at.
        let Ok(content) = std::fs::read_to_string(context.root.join(file)) else {
            continue;
        };
        if !file.ends_with("Cargo.lock") {
            marks(file, &content, &mut findings);
        }
        if file.ends_with(".rs") {
            length(file, &content, &mut findings);
        }
        if file.ends_with(".md") {
            links(context, file, &content, &mut findings);
        }
    }
    Ok(findings)
}

fn marks(file: &str, content: &str, findings: &mut Findings) {
    for (index, line) in content.lines().enumerate() {
        let at = index + 1;
        let machine = OF_ONE_MACHINE.iter().map(|parts| parts.concat());
        for found in machine.filter(|part| line.contains(part)).chain(home(line)) {
            findings.problem(format!("{file}:{at}: `{found}` is a thing of one machine"));
        }
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| UNFINISHED.iter().any(|mark| mark.concat() == **word)) {
            findings.problem(format!(
                "{file}:{at}: `{word}`: finish it, or open an issue"
            ));
        }
    }
}

/// The home directory of a person, if the line has one.
fn home(line: &str) -> Option<String> {
    let (_, after) = line.split_once(concat!("/ho", "me/"))?;
    let user = after
        .split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        .next()?;
    (!user.is_empty()).then(|| format!("{}{user}", concat!("/ho", "me/")))
}

fn length(file: &str, content: &str, findings: &mut Findings) {
    let lines = content.lines().count();
    if lines > TOO_LONG {
        findings.problem(format!(
            "{file} has {lines} lines; split it, at most {TOO_LONG} are bearable"
        ));
    } else if lines > LONG {
        findings.note(format!("{file} has {lines} lines; about {LONG} read well"));
    }
}

/// Relative links lead to a file of the repository and, in Markdown, to a heading.
fn links(context: &Context, file: &str, content: &str, findings: &mut Findings) {
    let page = match markdown::read(content) {
        Ok(page) => page,
        Err(reason) => return findings.problem(format!("{file}: {reason}")),
    };
    for target in page.links {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let own = Path::new(file);
        let relative = if path.is_empty() {
            own.to_owned()
        } else {
            own.with_file_name(path)
        };
        let Ok(true) = context.root.join(&relative).try_exists() else {
            findings.problem(format!("{file}: the link to `{target}` leads nowhere"));
            continue;
        };
        let is_page = relative
            .extension()
            .is_some_and(|extension| extension == "md");
        if is_page && !anchor.is_empty() {
            let text = context
                .text(&relative.to_string_lossy())
                .unwrap_or_default();
            let known = markdown::read(&text).unwrap_or_default().anchors;
            if !known.iter().any(|heading| heading == anchor) {
                findings.problem(format!(
                    "{file}: `{target}` names a heading that is not there"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_directory_is_found_and_the_bare_word_is_not() {
        let path = format!("see {}/anna/x", concat!("/ho", "me"));
        assert_eq!(home(&path), Some(format!("{}/anna", concat!("/ho", "me"))));
        assert_eq!(home("the /home directory"), None);
        assert_eq!(home(&format!("{}/<user>/x", concat!("/ho", "me"))), None);
    }

    #[test]
    fn each_mark_is_found_as_a_word_only() {
        let mut findings = Findings::default();
        marks("f", &["TO", "DO: later"].concat(), &mut findings);
        assert_eq!(findings.problems.len(), 1);
        marks("f", "TODOS mktemp.XXXXXX", &mut findings);
        assert_eq!(findings.problems.len(), 1);
    }
}
