//! `promtool`, the checker of Prometheus, for the tests of the shipped rules and of the exported metrics.
//!
//! Debian has it in the package `prometheus`, which also brings a service. So the package is not installed: it
//! is downloaded, and this one program is unpacked below the target directory. Apt verifies the checksum.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// Where the program is in the package.
const IN_PACKAGE: &str = "./usr/bin/promtool";

/// Makes sure that promtool is there, or says that the tests which need it are skipped.
pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    if found(context.target()).is_none()
        && let Err(error) = fetch(context.target())
    {
        findings.note(format!(
            "promtool is not here, so the tests that need it are skipped: {error:#}; Debian's package \
             prometheus has it"
        ));
    }
    Ok(findings)
}

/// Where promtool is, if it is on the search path or was fetched.
pub(crate) fn found(target: &Path) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    found_on(&search, target)
}

/// The same for this search path, which comes first.
fn found_on(search: &OsStr, target: &Path) -> Option<PathBuf> {
    let places = std::env::split_paths(search).chain([target.join("promtool")]);
    let mut programs = places.map(|place| place.join("promtool"));
    programs.find(|program| program.is_file())
}

/// Downloads the package, some 20 MB, and keeps the program. It appears whole or not at all.
fn fetch(target: &Path) -> Result<()> {
    let shelf = target.join("promtool");
    fs_err::create_dir_all(&shelf)?;
    let staging = tempfile::Builder::new()
        .prefix(".fetching-")
        .tempdir_in(&shelf)?;
    println!("fetching promtool with apt-get, some 20 MB");
    let mut download = Command::new("apt-get");
    download
        .args(["--quiet", "download", "prometheus"])
        .current_dir(staging.path());
    process::capture(download).context("downloading the package prometheus")?;
    let mut files = fs_err::read_dir(staging.path())?;
    let package = files.next().context("apt-get has downloaded nothing")??;
    unpack(&package.path(), staging.path())?;
    let program = staging.path().join(IN_PACKAGE);
    let mut version = Command::new(&program);
    version.arg("--version");
    process::capture(version).context("asking promtool for its version")?;
    fs_err::rename(&program, shelf.join("promtool"))?;
    Ok(())
}

/// Unpacks the one program of the package.
fn unpack(package: &Path, into: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let content = archive.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = Command::new("tar")
        .args(["-x", "-C"])
        .arg(into)
        .arg(IN_PACKAGE)
        .stdin(content)
        .status();
    let read = archive.wait().context("waiting for dpkg-deb")?;
    let unpacked = unpacked.context("starting tar")?;
    ensure!(unpacked.success(), "tar does not find {IN_PACKAGE}");
    ensure!(read.success(), "dpkg-deb cannot read the package");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_is_found_and_a_folder_is_not() {
        let target = tempfile::tempdir().unwrap();
        let shelf = target.path().join("promtool");
        let program = shelf.join("promtool");
        let other = tempfile::tempdir().unwrap();
        let found = || found_on(other.path().as_os_str(), target.path());
        fs_err::create_dir_all(&program).unwrap();
        assert_eq!(found(), None);
        fs_err::remove_dir(&program).unwrap();
        fs_err::write(&program, "").unwrap();
        assert_eq!(found(), Some(program));
        // One on the search path comes first.
        let installed = other.path().join("promtool");
        fs_err::write(&installed, "").unwrap();
        assert_eq!(found(), Some(installed));
    }
}
