//! The bill of materials: every package that a binary is built from, in the form of `CycloneDX`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::archive::committed;
use super::{Build, left};
use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// What is read of a bill of materials.
#[derive(Deserialize)]
struct Bill {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    version: String,
}

/// Writes the bill of materials to `out`. cargo-cyclonedx writes beside the manifest of each member, so it works in
/// a copy of the workspace.
pub(super) fn write(
    context: &Context,
    build: &Build,
    out: &Path,
    findings: &mut Findings,
) -> Result<()> {
    if let Err(error) = context.ensure_tool("cyclonedx", "the packages", &["--debug"]) {
        left(findings, "the bill of materials", &format!("{error:#}"));
        return Ok(());
    }
    let copy = context.scratch()?.join("bill-of-materials");
    context.copy_to(&copy)?;
    let manifest = copy.join("crates/cli/Cargo.toml");
    let name = format!("{}-{}.cdx", build.variant.name(), build.version);
    let mut cyclonedx = context.cargo_words("cyclonedx --format json --quiet --manifest-path");
    cyclonedx
        .arg(&manifest)
        .args(["--target", &build.triple, "--override-filename", &name])
        .args(build.variant.features())
        .current_dir(&copy)
        .env("SOURCE_DATE_EPOCH", committed(context).to_string());
    if let Some(problem) = process::passes(cyclonedx)? {
        findings.problem(problem);
        return Ok(());
    }
    let file = format!("{name}.json");
    let text = fs_err::read_to_string(manifest.with_file_name(&file))?;
    let tree = ["--package", "handover", "--edges", "normal", "--target"];
    let tree = tree.into_iter().chain([build.triple.as_str()]);
    let tree = context.tree(tree.chain(build.variant.features().iter().copied()))?;
    let problems = lacking(&text, &tree).with_context(|| format!("reading {file}"))?;
    findings.problems.extend(problems);
    fs_err::write(out.join(file), text)?;
    Ok(())
}

/// What the binary is built from and the bill does not name.
fn lacking(bill: &str, tree: &BTreeSet<(String, String)>) -> Result<Vec<String>> {
    let bill: Bill = serde_json::from_str(bill)?;
    let parts = bill.components.into_iter();
    let named: BTreeSet<_> = parts.map(|part| (part.name, part.version)).collect();
    let lacking = tree.difference(&named);
    // The program itself is what the bill is about, and no part of it.
    let lacking = lacking.filter(|(name, _)| name != "handover");
    Ok(lacking
        .map(|(name, version)| format!("the bill of materials does not name {name} {version}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_named_in_its_version_is_found() {
        let package = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let tree = BTreeSet::from([package("handover", "0.1.0"), package("one", "1.0.0")]);
        let bill = |version| {
            format!(
                r#"{{"components": [{{"name": "one", "version": "{version}", "type": "library"}}]}}"#
            )
        };
        assert_eq!(
            lacking(&bill("1.0.0"), &tree).unwrap(),
            Vec::<String>::new()
        );
        let lacks = ["the bill of materials does not name one 1.0.0"];
        assert_eq!(lacking(&bill("1.0.1"), &tree).unwrap(), lacks);
        assert_eq!(lacking("{}", &tree).unwrap(), lacks);
        assert!(lacking("no JSON", &tree).is_err());
    }
}
