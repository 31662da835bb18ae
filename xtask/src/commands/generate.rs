//! `generate`: writes what is derived from code into the files that show it.

use anyhow::{Context as _, Result};

use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// Each file with a generated part, and the example that prints the part.
const FILES: [(&str, &str); 2] = [
    (
        "docs/state-machine.md",
        "run --quiet --package handover-core --example state_table",
    ),
    (
        "docs/metrics.md",
        "run --quiet --package handover-supervisor --example metrics_table",
    ),
];

/// Each file that is generated as a whole, and what prints it.
const WHOLE: [(&str, &str); 2] = [
    (
        "deploy/settings/run.schema.json",
        "run --quiet --package handover -- schema run",
    ),
    (
        "deploy/settings/exec.schema.json",
        "run --quiet --package handover -- schema exec",
    ),
];

const BEGIN: &str = "<!-- generated: by `cargo xtask generate` -->";
const END: &str = "<!-- end of what is generated -->";

/// Writes the files that differ.
pub(super) fn command() -> Result<bool> {
    let context = Context::new()?;
    for (file, is, should_be) in all(&context)? {
        if is == should_be {
            println!("{file} is as it should be");
        } else {
            let path = context.root.join(file);
            if let Some(dir) = path.parent() {
                fs_err::create_dir_all(dir)?;
            }
            fs_err::write(path, should_be)?;
            println!("{file} was written again");
        }
    }
    Ok(true)
}

/// What is generated from code is what the code gives.
pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    for (file, is, should_be) in all(context)? {
        if is != should_be {
            findings.problem(format!(
                "{file} is not what the code gives: `cargo xtask generate` writes it"
            ));
        }
    }
    Ok(findings)
}

/// Each file, its text as it is, and as it should be.
fn all(context: &Context) -> Result<Vec<(&'static str, String, String)>> {
    let mut files = Vec::new();
    for (file, example) in FILES {
        let (is, should_be) = both(context, file, example)?;
        files.push((file, is, should_be));
    }
    for (file, printer) in WHOLE {
        // One that is missing differs from what it should be.
        let is = fs_err::read_to_string(context.root.join(file)).unwrap_or_default();
        let should_be = process::capture(context.cargo_words(printer))?;
        files.push((file, is, format!("{}\n", should_be.trim_end())));
    }
    Ok(files)
}

/// The text of a file with a generated part, as it is and as it should be.
fn both(context: &Context, file: &str, example: &str) -> Result<(String, String)> {
    let is = context.text(file)?;
    let table = process::capture(context.cargo_words(example))?;
    let should_be = with(&is, &table).with_context(|| {
        format!("{file} has no line `{BEGIN}` with a line `{END}` somewhere below it")
    })?;
    Ok((is, should_be))
}

/// The text with another part between the marks.
fn with(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        part.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let expected = format!("above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n");
        assert_eq!(with(&text, "new\n"), Some(expected.clone()));
        assert_eq!(with(&expected, "new"), Some(expected));
    }

    #[test]
    fn a_missing_mark_is_told() {
        assert_eq!(with("text", "new"), None);
        assert_eq!(with(&format!("{END}{BEGIN}"), "new"), None);
    }
}
