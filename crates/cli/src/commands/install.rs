//! `handover install`: a copy of this program, for containers that do not have it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use handover_process::{Command, Line};
use handover_runtime::time_limit::timeout;
use tempfile::TempPath;

use crate::cli::install::InstallArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// The name of the copy.
const NAME: &str = "handover";

/// How the names of unfinished copies begin.
const UNFINISHED: &str = ".handover-install-";

/// How long the copy may take to print its version. It takes some milliseconds, and more on a node that
/// starts many containers at once.
const RUNS: Duration = Duration::from_secs(10);

/// The entry of the auxiliary vector that tells where the dynamic loader is (`AT_BASE`, elf.h).
const LOADER: usize = 7;

pub(super) async fn run(args: &InstallArgs) -> Result<ExitCode, Fatal> {
    let path = args.directory.join(NAME);
    let copy = copy(&args.directory)
        .with_context(|| format!("writing `{}`", path.display()))
        .or_exit(ExitCode::OS)?;
    // An older copy stays unless this one can be run.
    try_out(&copy).await.or_exit(ExitCode::NOT_EXECUTABLE)?;
    copy.persist(&path)
        .map_err(|error| error.error)
        .with_context(|| format!("writing `{}`", path.display()))
        .or_exit(ExitCode::OS)?;
    super::print(format_args!(
        "installed {} ({})",
        path.display(),
        env!("CARGO_PKG_VERSION")
    ))?;
    if fs::read("/proc/self/auxv").is_ok_and(|vector| has_loader(&vector)) {
        tracing::warn!(
            "{} needs the C library that it was linked with, so it may not run in another image; a build \
             for {}-unknown-linux-musl runs in any for the same processor",
            path.display(),
            std::env::consts::ARCH
        );
    }
    Ok(ExitCode::CLEAN)
}

/// Copies what this process runs, which may be deleted or replaced by now.
fn copy(directory: &Path) -> anyhow::Result<TempPath> {
    fs::create_dir_all(directory)?;
    sweep(directory);
    let mut own = File::open("/proc/self/exe")?;
    let mut builder = tempfile::Builder::new();
    let mut copy = builder.prefix(UNFINISHED).tempfile_in(directory)?;
    io::copy(&mut own.by_ref(), &mut copy)?;
    copy.as_file()
        .set_permissions(Permissions::from_mode(0o755))?;
    copy.as_file().sync_all()?;
    // No file that is open for writing can be run.
    Ok(copy.into_temp_path())
}

/// Removes what a killed one has left. Two at a time may disturb each other, and the second one says so.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Runs the copy. Nobody else would notice before the proxy is to start.
async fn try_out(path: &Path) -> anyhow::Result<()> {
    let command = Command::new(path)
        .arg("--version")
        .label(NAME)
        .kill_group_at_end(true)
        .output(|line: &Line<'_>| tracing::debug!("{}", String::from_utf8_lossy(line.bytes)));
    let run = async { anyhow::Ok(command.spawn().await?.wait().await?) };
    let why = match timeout(RUNS, run).await {
        Ok(Ok(cause)) if cause.success() => return Ok(()),
        Ok(Ok(cause)) => anyhow!("{cause}"),
        Ok(Err(error)) => error,
        Err(_) => anyhow!("it has not printed its version within {RUNS:?}"),
    };
    Err(why.context(format!(
        "running `{}`, which may be on a file system mounted with noexec",
        path.display()
    )))
}

/// Returns whether a dynamic loader has started the process, by its auxiliary vector: pairs of numbers.
fn has_loader(vector: &[u8]) -> bool {
    let mut numbers = vector.chunks_exact(size_of::<usize>()).filter_map(|bytes| {
        let bytes = bytes.try_into().ok()?;
        Some(usize::from_ne_bytes(bytes))
    });
    while let (Some(key), Some(value)) = (numbers.next(), numbers.next()) {
        if key == LOADER {
            return value != 0;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_a_static_one() {
        let vector = |pairs: &[(usize, usize)]| {
            let numbers = pairs.iter().flat_map(|(key, value)| [*key, *value]);
            numbers.flat_map(usize::to_ne_bytes).collect::<Vec<_>>()
        };
        for (pairs, expected) in [
            (vec![(3, 1), (LOADER, 0x7f00), (0, 0)], true),
            (vec![(3, LOADER), (LOADER, 0), (0, 0)], false),
            (vec![(0, 0)], false),
            (vec![], false),
        ] {
            assert_eq!(has_loader(&vector(&pairs)), expected, "{pairs:?}");
        }
        // Half a pair, and half a number.
        let mut half = vector(&[(LOADER, 1)]);
        half.truncate(size_of::<usize>() + 1);
        assert!(!has_loader(&half));
    }
}
