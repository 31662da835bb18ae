//! Each fact is written once: versions of dependencies, the edition, the compiler, the lints.

use anyhow::{Context as _, Result};
use regex_lite::Regex;
use toml::{Table, Value};

use super::Findings;
use crate::context::Context;

/// The package keys that each member takes from `[workspace.package]`.
const INHERITED: [&str; 4] = ["version", "edition", "rust-version", "license"];

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut used = Vec::new();
    for member in context.members() {
        let file = context.relative(member.manifest_path.as_std_path());
        let manifest: Table = context.toml(&file)?;
        if !inherits(manifest.get("lints")) {
            findings.problem(format!("{file}: lacks `[lints] workspace = true`"));
        }
        for key in INHERITED {
            if !inherits(manifest.get("package").and_then(|package| package.get(key))) {
                findings.problem(format!(
                    "{file}: `{key}` is not inherited; write `{key}.workspace = true`"
                ));
            }
        }
        for (name, value) in dependencies(&manifest) {
            if !inherits(Some(value)) {
                findings.problem(format!(
                    "{file}: pins `{name}` itself; pin it in the root's [workspace.dependencies]"
                ));
            }
            used.push(name.clone());
        }
    }
    let root: Table = context.toml("Cargo.toml")?;
    let pins = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies")?.as_table());
    for name in pins.into_iter().flat_map(Table::keys) {
        if !used.contains(name) {
            findings.problem(format!("Cargo.toml: no member uses `{name}`: take it out"));
        }
    }
    compiler(context, &mut findings)?;
    findings.left("building with the oldest compiler that Cargo.toml promises: the job `msrv`");
    findings
        .left("building with the oldest dependencies that it allows: the job `minimal-versions`");
    Ok(findings)
}

fn inherits(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")) == Some(&Value::Boolean(true))
}

/// Every dependency, those for one platform too.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    let tables = std::iter::once(manifest).chain(targets);
    let kinds =
        tables.flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    kinds.flatten()
}

/// No dependency asks for a newer compiler than ours, and which one ours is stands in one place.
fn compiler(context: &Context, findings: &mut Findings) -> Result<()> {
    let members = context.members();
    let ours = members
        .first()
        .and_then(|member| member.rust_version.as_ref());
    let ours = ours.context("Cargo.toml: [workspace.package] has no rust-version")?;
    for package in &context.metadata.packages {
        let needed = package.rust_version.as_ref();
        if let Some(needed) = needed.filter(|needed| *needed > ours) {
            let (name, version) = (&package.name, &package.version);
            findings.problem(format!(
                "{name} {version} needs Rust {needed}, the workspace promises {ours}"
            ));
        }
    }
    let text = format!("{}.{}", ours.major, ours.minor);
    let repeats = repeats(&text)?;
    let others = context
        .files()?
        .iter()
        .filter(|file| !["Cargo.toml", "Cargo.lock"].contains(&file.as_str()));
    for file in others {
        let content = std::fs::read_to_string(context.root.join(file)).unwrap_or_default();
        for (index, line) in content.lines().enumerate() {
            if repeats.is_match(line) {
                let (at, line) = (index + 1, line.trim());
                findings.problem(format!(
                    "{file}:{at}: repeats the rust-version {text}; refer to the root's Cargo.toml: {line}"
                ));
            }
        }
    }
    Ok(())
}

/// Matches a line that is about the compiler and has `version` as a number of its own.
fn repeats(version: &str) -> Result<Regex> {
    let number = format!(r"(^|[^\d.])\.*{}(\D|$)", version.replace('.', r"\."));
    let about = "(?i:rust|msrv|toolchain|compiler)";
    Ok(Regex::new(&format!("{about}.*{number}|{number}.*{about}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_repeated_by_itself_and_not_in_a_longer_number() {
        let repeats = repeats("1.42").unwrap();
        for line in [
            "needs Rust 1.42 or newer",
            "the compiler is 1.42.",
            "toolchain: 1.42.0",
            "1.42 is our MSRV",
        ] {
            assert!(repeats.is_match(line), "{line}");
        }
        for line in [
            "Rust in 11.42 ms, at 1.423, version 0.1.42",
            "it took 1.42 s",
        ] {
            assert!(!repeats.is_match(line), "{line}");
        }
    }
}
