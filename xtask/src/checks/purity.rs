//! core, its judge and retry are pure: no std, no unsafe code, and a `clippy.toml` of their own that bans clocks,
//! threads, files, the environment and unordered maps.

use std::path::Path;

use anyhow::Result;
use toml::{Table, Value};

use super::Findings;
use crate::context::Context;
use crate::process;

const PURE: [&str; 3] = ["handover-core", "handover-core-testing", "handover-retry"];

/// What their `clippy.toml` bans at least.
const BANNED: &[(&str, &[&str])] = &[
    (
        "disallowed-methods",
        &[
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "std::thread::sleep",
            "std::thread::spawn",
            "std::env::var",
            "std::env::var_os",
            "std::fs::read",
            "std::fs::write",
        ],
    ),
    (
        "disallowed-types",
        &[
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    ),
];

/// Targets without an operating system; the crates are compiled for those that are installed.
const BARE: [&str; 2] = ["thumbv7em-none-eabi", "wasm32-unknown-unknown"];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let root: Table = context.toml("clippy.toml")?;
    let targets = [None].into_iter().chain(BARE.map(Some));
    let targets = targets.filter(|target| is_installed(context, *target, &mut findings));
    let targets: Vec<_> = targets.collect();
    for name in PURE {
        let directory = context.directory(name)?;
        let lints = format!("{directory}/clippy.toml");
        settings(&lints, &context.toml(&lints)?, &root, &mut findings);
        let library = format!("{directory}/src/lib.rs");
        let source = context.text(&library)?;
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !source.lines().any(|line| line.trim_end() == attribute) {
                findings.problem(format!("{library} lacks the line `{attribute}`"));
            }
        }
        let folder = format!("{directory}/src/");
        for file in context.files_where(|file| file.starts_with(&folder))? {
            exceptions(file, &context.text(file)?, &mut findings);
        }
        for target in &targets {
            let mut build =
                context.cargo(["check", "--package", name, "--lib", "--no-default-features"]);
            build.args(target.iter().flat_map(|target| ["--target", target]));
            findings.problems.extend(process::passes(build)?);
        }
    }
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
    for (key, paths) in BANNED {
        let entries = own.get(*key).and_then(Value::as_array);
        let reason = |path| {
            let mut entries = entries?.iter();
            let entry = entries.find(|entry| part(entry, "path") == Some(path))?;
            part(entry, "reason").filter(|reason| !reason.is_empty())
        };
        for path in paths.iter().filter(|path| reason(path).is_none()) {
            findings.problem(format!("{file}: `{key}` lacks `{path}` with a reason"));
        }
    }
}

fn part<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry.get(name)?.as_str()
}

/// std may be linked for tests or a feature only; and no lint that guards purity is switched off.
fn exceptions(file: &str, source: &str, findings: &mut Findings) {
    let mut previous = "";
    for (index, line) in source.lines().map(str::trim).enumerate() {
        let at = index + 1;
        if line.starts_with("extern crate std") && !previous.starts_with("#[cfg(") {
            findings.problem(format!(
                "{file}:{at} links std for everyone: put it behind a `#[cfg(...)]`"
            ));
        }
        if line.contains("disallowed_methods") || line.contains("disallowed_types") {
            findings.problem(format!(
                "{file}:{at} makes an exception from the bans of clippy.toml"
            ));
        }
        previous = if line.is_empty() { previous } else { line };
    }
}

/// Whether the standard library's part for a target is there; the host's always is.
fn is_installed(context: &Context, target: Option<&str>, findings: &mut Findings) -> bool {
    let Some(target) = target else { return true };
    let mut rustc = context.command("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let installed =
        process::capture(rustc).is_ok_and(|libraries| Path::new(libraries.trim()).is_dir());
    if !installed {
        findings.left(format!(
            "core, core-testing and retry for {target}: the job `ci`, or `rustup target add {target}`"
        ));
    }
    installed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn std_for_everyone_and_a_lint_switched_off_are_found() {
        let mut findings = Findings::default();
        exceptions(
            "f",
            "#[cfg(test)]\nextern crate std;\n// extern crate std\n",
            &mut findings,
        );
        assert_eq!(findings.problems.len(), 0);
        exceptions(
            "f",
            "extern crate std;\n#[expect(clippy::disallowed_types)]\n",
            &mut findings,
        );
        assert_eq!(findings.problems.len(), 2);
    }
}
