//! The rules that hold for text of any kind: files of a readable length, links that lead somewhere,
//! nothing of one machine, no unfinished marks.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;
use regex_lite::Regex;

use super::Findings;
use crate::context::Context;
use crate::markdown;

/// Above this many lines a Rust file is worth a look, above the second it is too long.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// What no line has, and what a line that has it is told. The words are in two parts, so that this list does
/// not find itself.
const MARKS: [(&str, &str); 2] = [
    (
        concat!("/ro", "ot/|--(extra-)?index", "-url|/ho", "me/[\\w.-]+"),
        "is a thing of one machine",
    ),
    (
        concat!(r"\b(TO", "DO|FIX", "ME|XX", r"X)\b"),
        "marks what is unfinished: finish it, or open an issue",
    ),
];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in context.files()? {
        // What is not text has no lines to look at.
        let Ok(content) = std::fs::read_to_string(context.root.join(file)) else {
            continue;
        };
        if !file.ends_with("Cargo.lock") {
            marks(file, &content, &mut findings)?;
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

fn marks(file: &str, content: &str, findings: &mut Findings) -> Result<()> {
    for (pattern, told) in MARKS {
        let pattern = Regex::new(pattern)?;
        for (index, line) in content.lines().enumerate() {
            let at = index + 1;
            for found in pattern.find_iter(line) {
                findings.problem(format!("{file}:{at}: `{}` {told}", found.as_str()));
            }
        }
    }
    Ok(())
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
        if relative.extension() == Some(OsStr::new("md")) && !anchor.is_empty() {
            let text = context.text(relative).unwrap_or_default();
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

    fn found(line: &str) -> Vec<String> {
        let mut findings = Findings::default();
        marks("f", line, &mut findings).unwrap();
        let what = |problem: &String| Some(problem.split('`').nth(1)?.to_owned());
        findings.problems.iter().filter_map(what).collect()
    }

    #[test]
    fn what_is_of_one_machine_is_found_and_the_bare_word_is_not() {
        let anna = concat!("/ho", "me/anna.b-c_1");
        assert_eq!(found(&format!("see {anna}/x")), [anna]);
        assert_eq!(found("the /home directory").len(), 0);
        assert_eq!(found(concat!("/ho", "me/<user>/x")).len(), 0);
        for of_one in [
            concat!("/ro", "ot/"),
            concat!("--index", "-url"),
            concat!("--extra-index", "-url"),
        ] {
            assert_eq!(found(&format!("with {of_one} x")), [of_one]);
        }
    }

    #[test]
    fn each_mark_of_unfinished_work_is_found_as_a_word_only() {
        let marks = [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X"),
        ];
        let line = format!("{}: one, ({}) {}", marks[0], marks[1], marks[2]);
        assert_eq!(found(&line), marks);
        assert_eq!(found("TODOS mktemp.XXXXXX TODO_LIST").len(), 0);
    }
}
