//! Each fact is written once: versions of dependencies, the edition, the compiler, the lints.

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::Findings;
use crate::context::Context;
use crate::text::version::{self, Version};

/// The package keys that a member takes from `[workspace.package]`.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let root = context.toml("Cargo.toml")?;
    let workspace = root
        .get("workspace")
        .and_then(Value::as_table)
        .context("Cargo.toml has no [workspace]")?;
    let edition = workspace
        .get("package")
        .and_then(|package| package.get("edition"))
        .and_then(Value::as_str);
    if edition != Some("2024") {
        findings.problem("Cargo.toml: the edition is 2024");
    }

    let mut used = Vec::new();
    for member in context.members() {
        let file = context.relative(member.manifest_path.as_std_path());
        let manifest = context.toml(&file)?;
        package(&file, &manifest, &mut findings);
        for (section, table) in dependencies(&manifest) {
            for (name, value) in table {
                pinned_once(&file, &section, name, value, &mut findings);
                used.push(name.clone());
            }
        }
    }
    let pins = workspace
        .get("dependencies")
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    for name in pins.keys().filter(|name| !used.contains(name)) {
        findings.problem(format!("Cargo.toml: no member uses `{name}`: take it out"));
    }
    compiler(context, workspace, &mut findings)?;
    Ok(findings)
}

fn package(file: &str, manifest: &Table, findings: &mut Findings) {
    let inherits = |table: Option<&Value>| {
        table.and_then(|table| table.get("workspace")) == Some(&Value::Boolean(true))
    };
    if !inherits(manifest.get("lints")) {
        findings.problem(format!("{file}: lacks `[lints] workspace = true`"));
    }
    let package = manifest.get("package");
    for key in INHERITED {
        if !inherits(package.and_then(|package| package.get(key))) {
            findings.problem(format!(
                "{file}: `{key}` is not inherited; write `{key}.workspace = true`"
            ));
        }
    }
    let description = package
        .and_then(|package| package.get("description"))
        .and_then(Value::as_str);
    if description.is_none_or(|text| text.trim().is_empty()) {
        findings.problem(format!("{file}: lacks a description"));
    }
}

/// Every table of dependencies, those for one platform too, with its name.
fn dependencies(manifest: &Table) -> Vec<(String, &Table)> {
    let mut found = Vec::new();
    for kind in KINDS {
        if let Some(table) = manifest.get(kind).and_then(Value::as_table) {
            found.push((kind.to_owned(), table));
        }
    }
    let targets = manifest.get("target").and_then(Value::as_table);
    for (target, tables) in targets.into_iter().flatten() {
        for kind in KINDS {
            if let Some(table) = tables.get(kind).and_then(Value::as_table) {
                found.push((format!("target.{target}.{kind}"), table));
            }
        }
    }
    found
}

fn pinned_once(file: &str, section: &str, name: &str, value: &Value, findings: &mut Findings) {
    let inherited = value.get("workspace") == Some(&Value::Boolean(true));
    // A crate that asks for a feature of its own in its tests depends on itself, and pins nothing by it.
    let itself =
        value.get("path").and_then(Value::as_str) == Some(".") && value.get("version").is_none();
    if !inherited && !itself {
        findings.problem(format!(
            "{file}: [{section}] pins `{name}` itself; pin it in the root's [workspace.dependencies]"
        ));
    }
}

/// No dependency asks for a newer compiler than ours, and which one ours is stands in one place.
fn compiler(context: &Context, workspace: &Table, findings: &mut Findings) -> Result<()> {
    let text = workspace
        .get("package")
        .and_then(|package| package.get("rust-version"))
        .and_then(Value::as_str)
        .context("Cargo.toml: [workspace.package] has no rust-version")?;
    let ours =
        Version::parse(text).with_context(|| format!("Cargo.toml: `{text}` is not a version"))?;
    for package in &context.metadata.packages {
        let Some(needed) = &package.rust_version else {
            continue;
        };
        let needs = Version::parse(&needed.to_string()).with_context(|| {
            format!(
                "`{needed}`, the rust-version of {}, is not a version",
                package.name
            )
        })?;
        if version::newer(needs, ours) {
            findings.problem(format!(
                "{} {} needs Rust {needed}, the workspace promises {text}",
                package.name, package.version
            ));
        }
    }
    for file in context
        .files()?
        .iter()
        .filter(|file| !["Cargo.toml", "Cargo.lock"].contains(&file.as_str()))
    {
        let Some(content) = context.text(file)? else {
            continue;
        };
        for (index, line) in content.lines().enumerate() {
            let lower = line.to_lowercase();
            let about_rust = ["rust", "msrv", "toolchain", "compiler"]
                .iter()
                .any(|word| lower.contains(word));
            if about_rust && version::mentions(line, text) {
                findings.problem(format!(
                    "{file}:{}: repeats the rust-version {text}; refer to the root's Cargo.toml",
                    index + 1
                ));
            }
        }
    }
    Ok(())
}
