//! Each library crate can be published: it says what a registry's page shows, its package holds what its user
//! needs and nothing else, and what is unpacked from there builds.

use anyhow::{Context as _, Result};
use cargo_metadata::Package;

use super::Findings;
use crate::context::Context;
use crate::process;

/// What belongs in a package: whole names, or folders that end in `/`.
const PACKED: [&str; 9] = [
    "Cargo.toml",
    "Cargo.toml.orig",
    "Cargo.lock",
    ".cargo_vcs_info.json",
    "README.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "src/",
    "examples/",
];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let libraries = context.libraries();
    for library in &libraries {
        let name = &library.name;
        let missing: Vec<&str> = page(library)
            .into_iter()
            .filter(|(_, is_there)| !is_there)
            .map(|(what, _)| what)
            .collect();
        if !missing.is_empty() {
            findings.problem(format!(
                "{name}: its Cargo.toml lacks {}",
                missing.join(", ")
            ));
        }
        for bin in library.targets.iter().filter(|target| target.is_bin()) {
            findings.problem(format!(
                "{name}: `cargo install` of it installs the program `{}`",
                bin.name
            ));
        }
        let list = [
            "package",
            "--list",
            "--allow-dirty",
            "--package",
            name.as_str(),
        ];
        let listed = process::capture(context.cargo(list))?;
        let surplus: Vec<&str> = listed.lines().filter(|file| !belongs(file)).collect();
        if let Some(first) = surplus.first() {
            let count = surplus.len();
            findings.problem(format!("{name}: its package has {count} files that no user needs, as {first}: name what belongs in `include`"));
        }
        if listed
            .lines()
            .filter(|file| file.starts_with("LICENSE-"))
            .count()
            != 2
        {
            findings.problem(format!("{name}: its package lacks the text of a licence: link both LICENSE files of the root"));
        }
        if library.readme.is_some() {
            readme(context, library, &mut findings)?;
        }
    }
    // All in one call: Cargo puts them in order, and lets each find those before it as if they were published.
    let mut package = context.cargo(["package", "--allow-dirty"]);
    package.args(
        libraries
            .iter()
            .flat_map(|library| ["--package", library.name.as_str()]),
    );
    findings.problems.extend(process::passes(package)?);
    findings.left("the surface against the last release: the job `semver`");
    Ok(findings)
}

/// What the page of a registry shows, and whether the manifest says it.
fn page(library: &Package) -> [(&'static str, bool); 7] {
    [
        ("description", library.description.is_some()),
        ("repository", library.repository.is_some()),
        ("readme", library.readme.is_some()),
        ("keywords", !library.keywords.is_empty()),
        ("categories", !library.categories.is_empty()),
        (
            "[package.metadata.docs.rs]",
            library.metadata.pointer("/docs/rs").is_some()
                || library.metadata.get("docs.rs").is_some(),
        ),
        (
            "permission to publish",
            library
                .publish
                .as_ref()
                .is_none_or(|registries| !registries.is_empty()),
        ),
    ]
}

fn belongs(file: &str) -> bool {
    let known = PACKED
        .iter()
        .any(|name| file == *name || (name.ends_with('/') && file.starts_with(name)));
    known && !file.ends_with(".snap") && !file.ends_with(".scenario")
}

/// The README has an example, and the crate compiles it with its documentation tests.
fn readme(context: &Context, library: &Package, findings: &mut Findings) -> Result<()> {
    let directory = context.directory(&library.name)?;
    let text = context.text(&format!("{directory}/README.md"))?;
    let page = crate::markdown::read(&text)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("{directory}/README.md"))?;
    if !page
        .blocks
        .iter()
        .any(|block| block.language.starts_with("rust"))
    {
        findings.problem(format!("{directory}/README.md has no example in Rust"));
    }
    let source = context.text(&format!("{directory}/src/lib.rs"))?;
    if !source.contains("include_str!(\"../README.md\")") {
        findings.problem(format!(
            "{directory}/src/lib.rs does not compile the example of README.md: \
             `#[cfg(doctest)] #[doc = include_str!(\"../README.md\")] struct ReadMe;` does"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_source_and_examples_and_no_tests() {
        for file in ["Cargo.toml", "src/a/b.rs", "examples/a.rs", "LICENSE-MIT"] {
            assert!(belongs(file), "{file}");
        }
        for file in [
            "tests/a.rs",
            "scenarios/a.txt",
            "src/snapshots/a.snap",
            "test-helper/main.rs",
            "sources/x",
        ] {
            assert!(!belongs(file), "{file}");
        }
    }
}
