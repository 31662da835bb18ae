//! `generate`: writes what is derived from code into the files that show it.

use anyhow::{Context as _, Result};

use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// The file with a generated part.
const FILE: &str = "docs/state-machine.md";

const BEGIN: &str = "<!-- generated: by `cargo xtask generate` -->";
const END: &str = "<!-- end of what is generated -->";

/// Writes the file if it differs.
pub(super) fn command() -> Result<bool> {
    let context = Context::new()?;
    let (is, should_be) = both(&context)?;
    if is == should_be {
        println!("{FILE} is as it should be");
    } else {
        fs_err::write(context.root.join(FILE), should_be)?;
        println!("{FILE} was written again");
    }
    Ok(true)
}

/// What is generated from code is what the code gives.
pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let (is, should_be) = both(context)?;
    if is != should_be {
        findings.problem(format!(
            "{FILE} is not what the state machine gives: `cargo xtask generate` writes it"
        ));
    }
    Ok(findings)
}

/// The text of the file as it is, and as it should be.
fn both(context: &Context) -> Result<(String, String)> {
    let is = context.text(FILE)?;
    let example = "run --quiet --package handover-core --example state_table";
    let table = process::capture(context.cargo_words(example))?;
    let should_be = with(&is, &table).with_context(|| {
        format!("{FILE} has no line `{BEGIN}` with a line `{END}` somewhere below it")
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
