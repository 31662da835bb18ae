//! Each crate can be published: it says what a registry's page shows, its package holds what its user needs and
//! nothing else, and what is unpacked from there builds. The program is installed from the packages alone.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{Package, Target};

use super::Findings;
use crate::context::Context;
use crate::markdown::{self, Block};
use crate::process;

/// The profile is that of the workspace, which a package leaves behind: so what is built already is used.
const PROFILE: (&str, &str) = ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");

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
    let (published, private): (Vec<_>, Vec<_>) = context
        .crates()
        .into_iter()
        .partition(|member| is_published(member));
    for member in private {
        findings.note(format!("{} is not published", member.name));
    }
    // All in one call: Cargo puts them in order, and each finds those before it as if they were published.
    let mut package = context.cargo(["package", "--allow-dirty"]);
    package.env(PROFILE.0, PROFILE.1);
    let mut stale = local_registries()?;
    stale.push(context.target().join("debug/.fingerprint"));
    for member in &published {
        for directory in &stale {
            forget(directory, &format!("{}-", member.name))?;
        }
        let problems = look_at(context, member)?;
        let problems = problems
            .into_iter()
            .map(|problem| format!("{}: {problem}", member.name));
        findings.problems.extend(problems);
        package.args(["--package", member.name.as_str()]);
    }
    match process::passes(package)? {
        None => findings.problems.extend(install(context, &published)?),
        problem => findings.problems.extend(problem),
    }
    findings.left("the surface against the last release, once there is one: the job `semver`");
    findings
        .left("`cargo install --locked` from the registry, once it is there: the job `install`");
    Ok(findings)
}

/// Installs the program from the unpacked packages, in a directory outside of the workspace, and starts it. Each
/// package stands in for the one that the registry will have.
fn install(context: &Context, published: &[&Package]) -> Result<Option<String>> {
    let place = tempfile::Builder::new()
        .prefix("install-")
        .tempdir_in(context.temp())
        .context("making a directory to install to")?;
    let unpacked = |package: &Package| {
        let name = format!("{}-{}", package.name, package.version);
        context.target().join("package").join(name)
    };
    let (programs, libraries): (Vec<&Package>, Vec<&Package>) =
        published.iter().partition(|member| is_program(member));
    for program in programs {
        let mut install = context.cargo(["install", "--debug", "--no-track"]);
        install
            .current_dir(place.path())
            .env(PROFILE.0, PROFILE.1)
            .arg("--path")
            .arg(unpacked(program))
            .arg("--root")
            .arg(place.path())
            .arg("--target-dir")
            .arg(context.target());
        for library in &libraries {
            let path = unpacked(library);
            install.arg("--config");
            install.arg(format!("patch.crates-io.{}.path={path:?}", library.name));
        }
        if let Some(problem) = process::passes(install)? {
            return Ok(Some(problem));
        }
        let mut version = context.command(place.path().join("bin").join(program.name.as_str()));
        version.arg("--version");
        let said = process::capture(version).context("starting the installed program")?;
        let expected = format!("{} {}", program.name, program.version);
        if said.trim() != expected {
            return Ok(Some(format!(
                "the installed program says `{}`, not `{expected}`",
                said.trim()
            )));
        }
    }
    Ok(None)
}

/// Where Cargo unpacks packages that were not downloaded: a registry in a directory has no host in its name.
fn local_registries() -> Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("there is no home directory")?;
    beginning_with(&home.join("registry/src"), "-")
}

/// Removes what earlier runs have left. Cargo takes a version that it has once unpacked or built for the same
/// for ever, and here its content changes.
fn forget(directory: &Path, prefix: &str) -> Result<()> {
    for left in beginning_with(directory, prefix)? {
        fs_err::remove_dir_all(&left)?;
    }
    Ok(())
}

/// The entries of a directory whose names begin so; none where there is no such directory.
fn beginning_with(directory: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries: Vec<_> = fs_err::read_dir(directory)?.collect::<io::Result<_>>()?;
    let mut paths: Vec<_> = entries.iter().map(fs_err::DirEntry::path).collect();
    paths.retain(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    });
    Ok(paths)
}

/// Whether the manifest allows it. A library of the tests says `publish = false`.
pub(crate) fn is_published(library: &Package) -> bool {
    library.publish.as_ref().is_none_or(|to| !to.is_empty())
}

/// Whether the crate is installed, and no other crate can use it.
fn is_program(member: &Package) -> bool {
    !member.targets.iter().any(Target::is_lib)
}

/// Whether the crate is installed for its program, even if it is a library as well. Programs with other names are
/// helpers of tests.
fn has_program(member: &Package) -> bool {
    let mut targets = member.targets.iter();
    targets.any(|target| target.is_bin() && target.name == member.name.as_str())
}

/// What is wrong with the page that a registry would show, with the files of the package, and with its README.
fn look_at(context: &Context, library: &Package) -> Result<Vec<String>> {
    let program = is_program(library);
    // docs.rs documents libraries.
    let docs_rs = program || library.metadata.pointer("/docs/rs").is_some();
    let page = [
        ("description", library.description.is_some()),
        ("repository", library.repository.is_some()),
        ("readme", library.readme.is_some()),
        ("keywords", !library.keywords.is_empty()),
        ("categories", !library.categories.is_empty()),
        ("[package.metadata.docs.rs]", docs_rs),
    ];
    let lacking = page.iter().filter(|(_, is_there)| !is_there);
    let mut problems: Vec<String> = lacking
        .map(|(what, _)| format!("its Cargo.toml lacks {what}"))
        .collect();

    let mut list = context.cargo(["package", "--list", "--allow-dirty", "--package"]);
    list.arg(library.name.as_str());
    let listed = process::capture(list)?;
    let surplus: Vec<&str> = listed
        .lines()
        .filter(|file| !belongs(file, has_program(library)))
        .collect();
    if let Some(first) = surplus.first() {
        let count = surplus.len();
        problems.push(format!(
            "its package has {count} files that no user needs, as {first}: name what belongs in `include`"
        ));
    }
    let licences = listed.lines().filter(|file| file.starts_with("LICENSE-"));
    if licences.count() != 2 {
        problems
            .push("its package lacks a licence: link to both LICENSE files of the root".to_owned());
    }

    if library.readme.is_some() && !program {
        let directory = context.directory(&library.name)?;
        let text = context.text(format!("{directory}/README.md"))?;
        let page = markdown::read(&text).unwrap_or_default();
        let is_rust = |block: &Block| block.language.starts_with("rust");
        if !page.blocks.iter().any(is_rust) {
            problems.push("its README.md has no example in Rust".to_owned());
        }
        let source = context.text(format!("{directory}/src/lib.rs"))?;
        if !source.contains("#[doc = include_str!(\"../README.md\")]") {
            problems.push(
                "no documentation test compiles the example of its README.md: write `#[cfg(doctest)] \
                 #[doc = include_str!(\"../README.md\")] struct ReadMe;` into src/lib.rs"
                    .to_owned(),
            );
        }
    }
    Ok(problems)
}

/// Whether a file belongs in the package of a library, or in one that has a program.
fn belongs(file: &str, program: bool) -> bool {
    let is_program = file == "src/main.rs" || file.starts_with("src/bin/");
    let known = PACKED
        .iter()
        .any(|name| file == *name || (name.ends_with('/') && file.starts_with(name)));
    known && (program || !is_program) && !file.ends_with(".snap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_has_left_goes_and_all_else_stays() {
        let dir = std::env::temp_dir().join(format!("xtask-publish-{}", std::process::id()));
        let made = ["ours-0.1.0", "ours-testing-0.1.0", "theirs-0.1.0"].map(|name| dir.join(name));
        for path in &made {
            std::fs::create_dir_all(path.join("src")).unwrap();
        }
        forget(&dir, "ours-").unwrap();
        assert_eq!(
            beginning_with(&dir, "").unwrap(),
            [dir.join("theirs-0.1.0")]
        );
        std::fs::remove_dir_all(&dir).unwrap();
        forget(&dir, "ours-").unwrap();
    }

    #[test]
    fn a_package_has_source_and_examples_and_no_tests() {
        for file in ["Cargo.toml", "src/a/b.rs", "examples/a.rs", "LICENSE-MIT"] {
            assert!(belongs(file, false) && belongs(file, true), "{file}");
        }
        for file in [
            "tests/a.rs",
            "scenarios/a.txt",
            "src/snapshots/a.snap",
            "src/bin/helper.rs",
            "test-helper/main.rs",
            "sources/x",
        ] {
            assert!(!belongs(file, false), "{file}");
        }
        assert!(belongs("src/main.rs", true) && !belongs("src/main.rs", false));
    }
}
