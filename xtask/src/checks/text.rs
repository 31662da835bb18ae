//! The rules that hold for text of any kind: files of a readable length, links that lead somewhere,
//! nothing of one machine, no unfinished marks.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::text::{links, rust};

/// Above this many lines a Rust file is worth a look, above the second it is too long.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// What stands in a file only because it was on somebody's machine. In two parts, so that this list does
/// not find itself.
const OF_ONE_MACHINE: &[(&str, &str)] = &[
    ("/ro", "ot/"),
    ("--index", "-url"),
    ("--extra-index", "-url"),
];

/// Where a Cargo.lock may take packages from.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in context.files()? {
        let Some(content) = context.text(file)? else {
            continue;
        };
        if file.ends_with("Cargo.lock") {
            sources(file, &content, &mut findings);
            continue;
        }
        marks(file, &content, &mut findings);
        if file.ends_with(".rs") {
            source(file, &content, &mut findings);
        }
        if file.ends_with(".md") {
            targets(context, file, &content, &mut findings)?;
        }
    }
    Ok(findings)
}

fn sources(file: &str, lock: &str, findings: &mut Findings) {
    for line in lock.lines() {
        let source = line
            .strip_prefix("source = \"")
            .and_then(|rest| rest.strip_suffix('"'));
        if source.is_some_and(|source| source != SOURCE) {
            findings.problem(format!("{file}: `{line}` is not the public registry"));
        }
    }
}

fn marks(file: &str, content: &str, findings: &mut Findings) {
    let unfinished = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    for (index, line) in content.lines().enumerate() {
        let at = index + 1;
        for (first, second) in OF_ONE_MACHINE {
            if line.contains(&[*first, *second].concat()) {
                findings.problem(format!(
                    "{file}:{at}: `{first}{second}` is a thing of one machine"
                ));
            }
        }
        if let Some(home) = home(line) {
            findings.problem(format!("{file}:{at}: `{home}` is a thing of one machine"));
        }
        for mark in unfinished.iter().filter(|mark| rust::has_word(line, mark)) {
            findings.problem(format!(
                "{file}:{at}: `{mark}`: finish it, or open an issue"
            ));
        }
    }
}

/// The home directory of a person, if the line has one.
fn home(line: &str) -> Option<String> {
    let (_, after) = line.split_once(concat!("/ho", "me/"))?;
    let user: String = after
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .collect();
    (!user.is_empty()).then(|| format!("{}{user}", concat!("/ho", "me/")))
}

fn source(file: &str, content: &str, findings: &mut Findings) {
    let lines = content.lines().count();
    if lines > TOO_LONG {
        findings.problem(format!(
            "{file} has {lines} lines; split it, at most {TOO_LONG} are bearable"
        ));
    } else if lines > LONG {
        findings.note(format!("{file} has {lines} lines; about {LONG} read well"));
    }
    let debugging = ["db", "g!"].concat();
    for (index, line) in rust::code(content).lines().enumerate() {
        if line.contains(&debugging) {
            findings.problem(format!(
                "{file}:{}: `{debugging}` is for debugging",
                index + 1
            ));
        }
    }
    for (index, line) in content.lines().enumerate() {
        if is_hidden_skip(line) {
            findings.problem(format!(
                "{file}:{}: a test that skips itself writes `SKIPPED name: why` to standard error \
                 without a macro, or it is taken for one that passed",
                index + 1
            ));
        }
    }
}

/// Whether a test says with a macro, whose output the harness hides, that it does nothing.
fn is_hidden_skip(line: &str) -> bool {
    let printed = line.trim_start();
    ["eprintln!(\"", "println!(\"", "eprint!(\"", "print!(\""]
        .iter()
        .filter_map(|macro_call| printed.strip_prefix(macro_call))
        .any(|text| {
            let text = text.to_ascii_lowercase();
            text.starts_with("skip")
        })
}

/// Relative links lead to a file of the repository and, in Markdown, to a heading.
fn targets(context: &Context, file: &str, content: &str, findings: &mut Findings) -> Result<()> {
    let own = std::path::Path::new(file);
    for target in links::targets(content) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let relative = if path.is_empty() {
            own.to_owned()
        } else {
            own.with_file_name("").join(path)
        };
        if !context.root.join(&relative).exists() {
            findings.problem(format!("{file}: the link to `{target}` leads nowhere"));
        } else if !anchor.is_empty()
            && relative
                .extension()
                .is_some_and(|extension| extension == "md")
        {
            let text = context
                .text(&relative.to_string_lossy())?
                .unwrap_or_default();
            if !links::anchors(&text)
                .iter()
                .any(|heading| heading == anchor)
            {
                findings.problem(format!(
                    "{file}: `{target}` names a heading that is not there"
                ));
            }
        }
    }
    Ok(())
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
    fn a_skip_that_the_harness_hides_is_found() {
        assert!(is_hidden_skip("    eprintln!(\"skipped: no root\");"));
        assert!(is_hidden_skip("println!(\"SKIPPED a: {why}\");"));
        assert!(!is_hidden_skip(
            "let line = format!(\"SKIPPED {test}: {why}\\n\");"
        ));
        assert!(!is_hidden_skip("eprintln!(\"nothing is skipped\");"));
    }

    #[test]
    fn a_package_from_elsewhere_is_named() {
        let mut findings = Findings::default();
        sources(
            "Cargo.lock",
            &format!("source = \"{SOURCE}\"\n"),
            &mut findings,
        );
        assert_eq!(findings.problems.len(), 0);
        sources(
            "Cargo.lock",
            "source = \"git+https://example.com/a\"\n",
            &mut findings,
        );
        assert_eq!(findings.problems.len(), 1);
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
