//! `package`: what is released beside the crates.

use std::path::Path;

use anyhow::Result;

use crate::context::Context;
use crate::packages::{self, Profile};

/// Makes the packages as they are released, tries each, and prints where they are. Returns whether each was
/// tried and nothing was found to be wrong.
///
/// # Errors
///
/// As [`packages::make`].
pub(super) fn command(out: Option<&Path>) -> Result<bool> {
    let context = Context::new()?;
    let out = match out {
        Some(out) => std::path::absolute(out)?,
        None => context.target().join("packages"),
    };
    let findings = packages::make(&context, Profile::Dist, &out)?;
    for note in &findings.notes {
        println!("note: {note}");
    }
    for problem in &findings.problems {
        println!("problem: {problem}");
    }
    for left in &findings.left {
        println!("NOT DONE: {left}");
    }
    println!("{}", out.display());
    Ok(findings.problems.is_empty() && findings.left.is_empty())
}
