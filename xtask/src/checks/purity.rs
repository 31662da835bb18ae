//! core and retry are pure: no std, no unsafe code, and a `clippy.toml` of their own that bans clocks,
//! threads, files, the environment and unordered maps.

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::Findings;
use crate::context::Context;
use crate::files;
use crate::process;
use crate::text::rust;

const PURE: [&str; 2] = ["handover-core", "handover-retry"];

const METHODS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::env::var",
    "std::env::var_os",
    "std::fs::read",
    "std::fs::write",
];

const TYPES: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Targets without an operating system; the crates are compiled for those that are installed.
const BARE: [&str; 2] = ["thumbv7em-none-eabi", "wasm32-unknown-unknown"];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let root = context.toml("clippy.toml")?;
    for name in PURE {
        let directory = context.directory(name)?;
        let lints = context.relative(&directory.join("clippy.toml"));
        settings(&lints, &context.toml(&lints)?, &root, &mut findings);
        attributes(
            context,
            &context.relative(&directory.join("src/lib.rs")),
            &mut findings,
        )?;
        for file in files::walk(&directory.join("src"), &[])? {
            code(context, &context.relative(&file), &mut findings)?;
        }
        let build = ["check", "--package", name, "--lib", "--no-default-features"];
        findings
            .problems
            .extend(process::passes(context.cargo(build))?);
    }
    bare_metal(context, &mut findings)?;
    Ok(findings)
}

/// A member's `clippy.toml` replaces the root's, so it has to say all that the root's says.
fn settings(file: &str, own: &Table, root: &Table, findings: &mut Findings) {
    for (key, value) in root {
        let repeated = match (own.get(key), value) {
            (Some(Value::Array(own)), Value::Array(root)) => {
                root.iter().all(|entry| own.contains(entry))
            }
            (own, value) => own == Some(value),
        };
        if !repeated {
            findings.problem(format!(
                "{file} does not repeat `{key} = {value}` of the root's clippy.toml"
            ));
        }
    }
    for (key, paths) in [("disallowed-methods", METHODS), ("disallowed-types", TYPES)] {
        let entries = own
            .get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for path in paths {
            let entry = entries
                .iter()
                .find(|entry| entry.get("path").and_then(Value::as_str) == Some(path));
            let reason = entry
                .and_then(|entry| entry.get("reason"))
                .and_then(Value::as_str);
            if reason.is_none_or(str::is_empty) {
                findings.problem(format!("{file}: `{key}` lacks `{path}` with a reason"));
            }
        }
    }
}

fn attributes(context: &Context, file: &str, findings: &mut Findings) -> Result<()> {
    let source = context
        .text(file)?
        .with_context(|| format!("{file} is not text"))?;
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        if !source.lines().any(|line| line.trim_end() == attribute) {
            findings.problem(format!("{file} lacks the line `{attribute}`"));
        }
    }
    Ok(())
}

/// std may be linked for tests or a feature only; and no lint that guards purity is switched off.
fn code(context: &Context, file: &str, findings: &mut Findings) -> Result<()> {
    let Some(source) = context.text(file)? else {
        return Ok(());
    };
    let code = rust::code(&source);
    let mut previous = "";
    for (index, line) in code.lines().enumerate() {
        let at = index + 1;
        if line.contains("extern crate std") && !previous.contains("#[cfg(") {
            findings.problem(format!(
                "{file}:{at} links std for everyone: put it behind a `#[cfg(...)]`"
            ));
        }
        if ["disallowed_methods", "disallowed_types"]
            .iter()
            .any(|lint| line.contains(lint))
        {
            findings.problem(format!(
                "{file}:{at} makes an exception from the bans of clippy.toml"
            ));
        }
        if !line.trim().is_empty() {
            previous = line;
        }
    }
    Ok(())
}

fn bare_metal(context: &Context, findings: &mut Findings) -> Result<()> {
    for target in BARE {
        let libraries = process::capture({
            let mut rustc = context.command("rustc");
            rustc.args(["--print", "target-libdir", "--target", target]);
            rustc
        })?;
        if !std::path::Path::new(libraries.trim()).is_dir() {
            findings.note(format!(
                "not compiled for {target}: `rustup target add {target}` installs it"
            ));
            continue;
        }
        for name in PURE {
            let mut build =
                context.cargo(["check", "--package", name, "--lib", "--no-default-features"]);
            build.args(["--target", target]);
            findings.problems.extend(process::passes(build)?);
        }
    }
    Ok(())
}
