//! Which Envoy a binary is, and whether it is one at all.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use handover_process::RunAs;

use crate::capture::{CaptureError, Captured, capture};
use crate::text::one_line;

/// How long a binary may take to tell its version: 10 s. Envoy takes 40 ms once its 100 MB are in
/// memory.
const LIMIT: Duration = Duration::from_secs(10);

/// Envoy's version, as `--version` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnvoyVersion {
    /// The source revision.
    pub revision: String,
    /// The version number, `(1, 40, 0)`, without a suffix such as `-dev`.
    pub number: (u32, u32, u32),
    /// The whole text, for people.
    pub text: String,
}

/// The version of the hot-restart protocol, as `--hot-restart-version` prints it. Epochs whose
/// versions differ cannot hand over to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HotRestartVersion(String);

/// Why a binary cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// There is no such file.
    #[error("there is no file {}: give the path of an Envoy binary", .0.display())]
    Missing(PathBuf),
    /// It is a directory, or something else that is no file.
    #[error("{} is not a file: give the path of an Envoy binary", .0.display())]
    NotAFile(PathBuf),
    /// Nobody may execute it.
    #[error("{path} is not executable: run chmod +x {path}", path = .0.display())]
    NotExecutable(PathBuf),
    /// The system does not say anything about it.
    #[error("cannot examine {}", path.display())]
    Examine {
        /// The binary.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It cannot be run: built for another machine, or not a program.
    #[error("cannot run {}: is it a program for this machine?", path.display())]
    Run {
        /// The binary.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It did not answer.
    #[error("{} {flag} did not end within {LIMIT:?}", path.display())]
    TimedOut {
        /// The binary.
        path: PathBuf,
        /// What it was asked.
        flag: &'static str,
    },
    /// It is something else.
    #[error("{} is not an Envoy: {flag} ended with {status} and printed {said:?}", path.display())]
    NotEnvoy {
        /// The binary.
        path: PathBuf,
        /// What it was asked.
        flag: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it said, on one line.
        said: String,
    },
}

/// Checks that a path is an executable file. The path is taken as it is; looking a bare name up in
/// `PATH` is the caller's business.
///
/// # Errors
///
/// [`BinaryError`] tells what the path is instead.
pub fn check_binary(path: &Path) -> Result<(), BinaryError> {
    let metadata = std::fs::metadata(path).map_err(|source| {
        let path = path.to_owned();
        let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        if absent.contains(&source.kind()) {
            BinaryError::Missing(path)
        } else {
            BinaryError::Examine { path, source }
        }
    })?;
    if !metadata.is_file() {
        return Err(BinaryError::NotAFile(path.to_owned()));
    }
    // The mode bits first: root may "access" a file as executable only if one of them is set, and
    // file systems mounted noexec show up in the second test.
    let runnable = metadata.permissions().mode() & 0o111 != 0
        && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if runnable {
        Ok(())
    } else {
        Err(BinaryError::NotExecutable(path.to_owned()))
    }
}

/// Asks a binary which Envoy it is.
///
/// # Errors
///
/// [`BinaryError`].
///
/// # Cancel safety
///
/// Dropping it kills the asked process.
///
/// ```no_run
/// # async fn example() -> Result<(), handover_envoy::version::BinaryError> {
/// let version = handover_envoy::version::version("/usr/bin/envoy".as_ref()).await?;
/// assert!(version.number >= (1, 36, 0));
/// # Ok(())
/// # }
/// ```
pub async fn version(path: &Path) -> Result<EnvoyVersion, BinaryError> {
    let flag = "--version";
    let answer = ask(path, flag, &RunAs::new()).await?;
    let parsed = if answer.status.success() {
        EnvoyVersion::parse(&answer.stdout)
    } else {
        None
    };
    parsed.ok_or_else(|| not_envoy(path, flag, &answer))
}

/// Asks a binary for the version of its hot-restart protocol.
///
/// # Errors
///
/// [`BinaryError`].
///
/// # Cancel safety
///
/// Dropping it kills the asked process.
pub async fn hot_restart_version(path: &Path) -> Result<HotRestartVersion, BinaryError> {
    hot_restart_version_as(path, &RunAs::new()).await
}

/// Asks as another user.
pub(crate) async fn hot_restart_version_as(
    path: &Path,
    run_as: &RunAs,
) -> Result<HotRestartVersion, BinaryError> {
    let flag = "--hot-restart-version";
    let answer = ask(path, flag, run_as).await?;
    // Envoy up to at least 1.40 writes it to standard error and without a newline.
    let said = [&answer.stderr, &answer.stdout]
        .into_iter()
        .find_map(|said| HotRestartVersion::parse(said.trim()));
    match said {
        Some(version) if answer.status.success() => Ok(version),
        _ => Err(not_envoy(path, flag, &answer)),
    }
}

impl EnvoyVersion {
    /// Reads `PATH  version: REVISION/1.40.0/Clean/RELEASE/BoringSSL`, or the part after the colon,
    /// which is also what the admin endpoint gives.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text.rsplit_once("version: ") {
            Some((_, text)) => text.trim(),
            None => text.trim(),
        };
        let mut parts = text.split('/');
        let revision = parts.next()?.to_owned();
        let number = parts.next()?;
        let mut digits = number
            .split_once('-')
            .map_or(number, |(number, _suffix)| number)
            .split('.');
        let mut next = || digits.next()?.parse().ok();
        let number = (next()?, next()?, next()?);
        (digits.next().is_none() && parts.next().is_some()).then(|| Self {
            revision,
            number,
            text: one_line(text),
        })
    }
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl HotRestartVersion {
    /// What an Envoy says that was built without hot restart.
    pub const DISABLED: &str = "disabled";

    /// Returns whether the binary was built without hot restart.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.0 == Self::DISABLED
    }

    /// Returns the version as text, to compare it with what the admin endpoint of a running epoch
    /// gives.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads `11.104`, or `disabled`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_version = text == Self::DISABLED
            || (text.contains('.')
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.'));
        is_version.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for HotRestartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

async fn ask(path: &Path, flag: &'static str, run_as: &RunAs) -> Result<Captured, BinaryError> {
    check_binary(path)?;
    let answer = capture(path, &[flag.into()], run_as, LIMIT).await;
    answer.map_err(|error| {
        let path = path.to_owned();
        match error {
            CaptureError::Spawn(source) | CaptureError::Wait(source) => {
                BinaryError::Run { path, source }
            }
            CaptureError::TimedOut => BinaryError::TimedOut { path, flag },
        }
    })
}

fn not_envoy(path: &Path, flag: &'static str, answer: &Captured) -> BinaryError {
    BinaryError::NotEnvoy {
        path: path.to_owned(),
        flag,
        status: answer.status,
        said: one_line(&format!("{} {}", answer.stdout, answer.stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::tests::{dir, script};

    #[test]
    fn versions_are_read_with_and_without_the_path() {
        for text in [
            "\n/usr/bin/envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL\n\n",
            "9e55809/1.40.0/Clean/RELEASE/BoringSSL",
            "9e55809/1.40.0-dev/Modified/DEBUG/BoringSSL",
        ] {
            let version = EnvoyVersion::parse(text).unwrap();
            assert_eq!(version.number, (1, 40, 0), "{text}");
            assert_eq!(version.revision, "9e55809");
            assert_eq!(version.to_string(), "1.40.0");
        }
        for text in [
            "",
            "bash 5.2",
            "a/1.2/b",
            "a/1.2.3.4/b",
            "a/1.2.x/b",
            "a/1.2.3",
        ] {
            assert_eq!(EnvoyVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_program_is_told_as_what_it_is() {
        let dir = dir();
        let missing = check_binary(&dir.path().join("missing"));
        assert!(matches!(missing, Err(BinaryError::Missing(_))));
        assert!(matches!(
            check_binary(dir.path()),
            Err(BinaryError::NotAFile(_))
        ));
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(
            check_binary(&file),
            Err(BinaryError::NotExecutable(_))
        ));
        let below = check_binary(&file.join("below"));
        assert!(matches!(below, Err(BinaryError::Missing(_))));
        check_binary(&script(&dir, "exit 0")).unwrap();
    }

    #[tokio::test]
    async fn another_program_is_not_an_envoy() {
        let dir = dir();
        let program = script(&dir, "echo 'I am a teapot'");
        let error = version(&program).await.unwrap_err();
        assert!(error.to_string().contains("is not an Envoy"), "{error}");
        assert!(error.to_string().contains("teapot"), "{error}");
        let error = hot_restart_version(&program).await.unwrap_err();
        assert!(matches!(error, BinaryError::NotEnvoy { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_program_cannot_be_run() {
        let dir = dir();
        let program = script(&dir, "");
        std::fs::write(&program, "\x7fELF nonsense").unwrap();
        let error = version(&program).await.unwrap_err();
        assert!(matches!(error, BinaryError::Run { .. }), "{error}");
    }

    #[tokio::test]
    async fn the_protocol_version_is_read_from_either_stream() {
        let dir = dir();
        for text in ["printf 11.104 >&2", "echo 11.104"] {
            let version = hot_restart_version(&script(&dir, text)).await.unwrap();
            assert_eq!(version.as_str(), "11.104");
            assert_eq!(version.to_string(), "11.104");
            assert!(!version.is_disabled());
        }
        let version = hot_restart_version(&script(&dir, "echo disabled")).await;
        assert!(version.unwrap().is_disabled());
        let failed = hot_restart_version(&script(&dir, "echo 11.104; exit 1")).await;
        let failed = failed.unwrap_err();
        assert!(matches!(failed, BinaryError::NotEnvoy { .. }), "{failed}");
    }
}
