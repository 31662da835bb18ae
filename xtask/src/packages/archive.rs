//! The archive for a machine without a package manager, and the checksums of all that is released.

use std::path::Path;

use anyhow::Result;

use super::{Build, empty};
use crate::context::Context;
use crate::process;

/// Files of the repository that the archive holds beside the binary and what it writes.
const FILES: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Packs the binary with its pages, completions and units into `out`.
pub(super) fn pack(context: &Context, build: &Build, out: &Path) -> Result<()> {
    let name = format!(
        "{}-{}-{}",
        build.variant.name(),
        build.version,
        build.triple
    );
    let stage = context.scratch()?.join("archive");
    let content = stage.join(&name);
    empty(&content)?;
    fs_err::copy(&build.binary, content.join("handover"))?;
    for file in FILES {
        fs_err::copy(context.root.join(file), content.join(file))?;
    }
    for folder in ["man", "completions"] {
        copy_files(&build.packaged.join(folder), &content.join(folder))?;
    }
    // As they are: who unpacks the archive puts the program where these units expect it.
    let units = content.join("systemd");
    fs_err::create_dir(&units)?;
    for entry in fs_err::read_dir(context.root.join("deploy/systemd"))? {
        let entry = entry?;
        let name = entry.file_name();
        if build.variant.has_unit(&name.to_string_lossy()) {
            fs_err::copy(entry.path(), units.join(name))?;
        }
    }

    tar(context, &stage, &name, &out.join(format!("{name}.tar.gz")))
}

/// Packs what is at `name` below `directory`. The same content gives the same archive.
pub(super) fn tar(context: &Context, directory: &Path, name: &str, archive: &Path) -> Result<()> {
    let mut tar = context.command("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--numeric-owner"])
        .args(["--owner=0", "--group=0"])
        .arg(format!("--mtime=@{}", committed(context)))
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .args([directory, Path::new(name)]);
    process::capture(tar)?;
    Ok(())
}

/// When the commit was made, in seconds since 1970, so that the same commit gives the same archive. It is 0 where
/// git does not know.
pub(super) fn committed(context: &Context) -> u64 {
    let mut git = context.command("git");
    git.args(["log", "-1", "--format=%ct"]);
    let seconds = process::capture(git).ok();
    seconds
        .and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0)
}

/// Writes the checksum of each file in `out` to `SHA256SUMS`, as `sha256sum --check` reads it.
pub(super) fn checksums(context: &Context, out: &Path) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(out)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.file_name());
        }
    }
    files.sort();
    let mut sums = context.command("sha256sum");
    sums.current_dir(out).args(files);
    fs_err::write(out.join("SHA256SUMS"), process::capture(sums)?)?;
    Ok(())
}

/// Copies the files of a directory, and none of its directories.
pub(super) fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs_err::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
