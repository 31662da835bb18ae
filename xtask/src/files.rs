//! Which files the repository has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// The files that git tracks or would track, relative to `root`, sorted; without those deleted from
/// the working tree.
pub(crate) fn listed(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]);
    let output = process::capture(git).context("listing the repository's files with git")?;
    let mut files: Vec<String> = output
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Every file below `root`, ignored ones too, without `.git` and the directories in `skip`.
pub(crate) fn walk(root: &Path, skip: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let reading = || format!("reading {}", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let path = entry.path();
            // The entry's own type, so that a link to a directory is not followed.
            let kind = entry.file_type().with_context(reading)?;
            if kind.is_file() {
                found.push(path);
            } else if kind.is_dir() && entry.file_name() != ".git" && !skip.contains(&path) {
                waiting.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
