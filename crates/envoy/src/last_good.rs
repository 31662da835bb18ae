//! The last-known-good configuration: the last one that has passed its probation, kept over restarts.
//!
//! A cold start on a configuration that Envoy rejects would leave nothing to serve with. What is kept
//! here can serve instead, if the operator wants that.
//!
//! The file `last-known-good` in the state directory begins with one line that names the format, its
//! version and the SHA-256 of all that follows; then a line of JSON tells what the configuration is;
//! the rest is the configuration. What has been changed, cut or written by something else is
//! refused, with the reason, and never half-used.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handover_files::{Digest, DirectoryError, PrivateDir, replace_durably};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::adapter::{ConfigError, EnvoyConfig};
use crate::bootstrap::{Format, MAX_BYTES};
use crate::text::one_line;

/// The name of the file in the state directory.
const NAME: &str = "last-known-good";
/// The beginning of its first line.
const MAGIC: &str = "handover-last-known-good";
/// The version of its format.
const VERSION: &str = "1";
/// The last millisecond of the year 9999.
const LATEST_UNIX_MS: u64 = 253_402_300_799_999;
/// The longest header that is read: a path is 4 KiB at most, and JSON makes it six times as long.
const MAX_HEADER: usize = 64 << 10;

/// Keeps the last good configuration in a state directory.
///
/// Several processes may use one directory; the last to store wins, and none reads half a file.
///
/// ```
/// use handover_envoy::EnvoyConfig;
/// use handover_envoy::last_good::{LastKnownGood, Stored, WentLive};
/// use std::time::SystemTime;
///
/// # let parent = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// # let path = parent.path().join("state");
/// let state = LastKnownGood::open(&path)?;
/// assert!(state.load()?.is_none());
///
/// let document = b"{admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}}";
/// let config = EnvoyConfig::parse("/etc/envoy.yaml".as_ref(), document.to_vec())?;
/// let live = WentLive { at: SystemTime::now(), envoy: "1.40.0".to_owned() };
/// assert_eq!(state.store(&config, &live)?, Stored::Written);
/// assert_eq!(state.store(&config, &live)?, Stored::Unchanged);
///
/// let kept = state.load()?.ok_or("it was stored")?;
/// assert_eq!(kept.config.content(), document);
/// assert_eq!(kept.envoy, "1.40.0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastKnownGood {
    dir: PrivateDir,
}

/// When and where a configuration went live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WentLive {
    /// When. It is kept in milliseconds.
    pub at: SystemTime,
    /// The version of the Envoy that accepted it.
    pub envoy: String,
}

/// What [`LastKnownGood::store`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// The configuration is kept.
    Written,
    /// The same one was kept already, for the same version of Envoy; its time is that of the first.
    Unchanged,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastGood {
    /// The configuration, with the source it was read from.
    pub config: EnvoyConfig,
    /// The SHA-256 of its content.
    pub digest: Digest,
    /// When it went live.
    pub at: SystemTime,
    /// The version of the Envoy that accepted it.
    pub envoy: String,
}

/// Why the last-known-good configuration cannot be kept or had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LastGoodError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file cannot be written.
    #[error("cannot write the last-known-good configuration {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the last-known-good configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others could have written it.
    #[error("the last-known-good configuration {} is refused: {why}; remove it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is not as it was written.
    #[error(
        "the last-known-good configuration {} is refused as damaged: {why}; remove it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another version of Handover has written it.
    #[error(
        "the last-known-good configuration {} has format {found:?}, and this Handover reads \
         {VERSION:?}: remove it, or run the Handover that wrote it", path.display()
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        found: String,
    },
    /// It is as it was written, but this version of Handover cannot supervise it.
    #[error("the last-known-good configuration {} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ConfigError,
    },
}

/// The second line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    source: String,
    format: String,
    live_unix_ms: u64,
    envoy: String,
    bytes: usize,
}

impl LastKnownGood {
    /// Makes the state directory with mode 0700, or checks the one that is there.
    ///
    /// # Errors
    ///
    /// [`LastGoodError::Directory`].
    pub fn open(dir: &Path) -> Result<Self, LastGoodError> {
        let dir = PrivateDir::create(dir)?;
        Ok(Self { dir })
    }

    /// Returns the path of the file in which the configuration is kept.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    /// Keeps a configuration in place of the one before, mode 0600, so that it also survives a
    /// power failure. It blocks for as long as the disk does.
    ///
    /// # Errors
    ///
    /// [`LastGoodError::Write`]; what was kept before is then still there.
    pub fn store(&self, config: &EnvoyConfig, live: &WentLive) -> Result<Stored, LastGoodError> {
        // Whatever is wrong with the file that is there, a good one in its place is better.
        if let Ok(Some((about, content))) = self.read()
            && content == config.content()
            && (about.source, about.envoy) == (shown(config.source()), live.envoy.clone())
        {
            return Ok(Stored::Unchanged);
        }
        let about = About {
            source: shown(config.source()),
            format: name(config.format()).to_owned(),
            live_unix_ms: unix_ms(live.at),
            envoy: live.envoy.clone(),
            bytes: config.content().len(),
        };
        let failed = |source| LastGoodError::Write {
            path: self.path(),
            source,
        };
        let mut about = serde_json::to_vec(&about).map_err(|error| failed(error.into()))?;
        about.push(b'\n');
        let signature = Digest::of_parts(&[&about, config.content()]);
        let first = format!("{MAGIC} {VERSION} {signature}\n");
        let parts = [first.as_bytes(), &about, config.content()];
        replace_durably(self.dir.path(), NAME, &parts).map_err(failed)?;
        Ok(Stored::Written)
    }

    /// Returns the configuration that was stored last, or `None` if none was. It blocks for as long
    /// as the disk does.
    ///
    /// # Errors
    ///
    /// [`LastGoodError`] tells why what is there is refused.
    pub fn load(&self) -> Result<Option<LastGood>, LastGoodError> {
        let read = self.read()?;
        read.map(|(about, content)| understood(&self.path(), about, content))
            .transpose()
    }

    fn read(&self) -> Result<Option<(About, Vec<u8>)>, LastGoodError> {
        let bytes = self.bytes()?;
        bytes.map(|bytes| parts(&self.path(), bytes)).transpose()
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, LastGoodError> {
        let path = self.path();
        let failed = |source| LastGoodError::Read {
            path: path.clone(),
            source,
        };
        let foreign = |why: String| {
            let path = path.clone();
            Err(LastGoodError::Foreign { path, why })
        };
        // A pipe in its place must not block us, nor a link lead us elsewhere.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file: File = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return foreign("it is a symbolic link".to_owned()),
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return foreign("it is not a file".to_owned());
        }
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
        if owner != rustix::process::geteuid().as_raw() || mode & 0o022 != 0 {
            return foreign(format!(
                "others can change it (owner {owner}, mode {mode:03o})"
            ));
        }
        let limit = MAX_BYTES + MAX_HEADER;
        let mut bytes = Vec::new();
        let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(more).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > limit {
            return Err(damaged(&path, format!("it is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }
}

/// Returns what the file says, once all of it is known to be as it was written.
fn parts(path: &Path, mut bytes: Vec<u8>) -> Result<(About, Vec<u8>), LastGoodError> {
    let damaged = |why: &str| damaged(path, why);
    let (first, signed) = line(&bytes).ok_or_else(|| damaged("it has no first line"))?;
    let mut words = first.split(|byte| *byte == b' ');
    if words.next() != Some(MAGIC.as_bytes()) {
        return Err(damaged("something else has written it"));
    }
    let version = words.next().unwrap_or_default();
    if version != VERSION.as_bytes() {
        return Err(LastGoodError::OtherVersion {
            path: path.to_owned(),
            found: String::from_utf8_lossy(version).chars().take(20).collect(),
        });
    }
    let digest = words.next().and_then(|word| std::str::from_utf8(word).ok());
    let digest: Digest = digest
        .and_then(|digest| digest.parse().ok())
        .filter(|_| words.next().is_none())
        .ok_or_else(|| damaged("its first line holds no checksum"))?;
    if Digest::of(signed) != digest {
        return Err(damaged("its checksum does not match"));
    }
    let (about, content) = line(signed).ok_or_else(|| damaged("it has no second line"))?;
    let about: About = serde_json::from_slice(about).map_err(|error| {
        damaged(&one_line(&format!(
            "its second line is not understood: {error}"
        )))
    })?;
    if about.bytes != content.len() {
        return Err(damaged("it holds more or less than it says"));
    }
    let header = bytes.len() - content.len();
    bytes.drain(..header);
    Ok((about, bytes))
}

/// Returns the configuration that the parts of the file stand for.
fn understood(path: &Path, about: About, content: Vec<u8>) -> Result<LastGood, LastGoodError> {
    let source = Path::new(&about.source);
    // A template is kept as it was rendered, under its own name. What overlays were merged to is YAML
    // under the name of any file.
    let format = [
        Format::of(source),
        Format::of_template(source),
        Format::Yaml,
    ]
    .into_iter()
    .find(|format| name(*format) == about.format)
    .ok_or_else(|| {
        let why = format!("{} is not {}", about.source, about.format);
        damaged(path, one_line(&why))
    })?;
    let config = EnvoyConfig::parse_as(source, content, format).map_err(|source| {
        let path = path.to_owned();
        LastGoodError::Unusable { path, source }
    })?;
    // Beyond the year 9999 no time can be written as RFC 3339 has it.
    let at = (about.live_unix_ms <= LATEST_UNIX_MS)
        .then(|| UNIX_EPOCH.checked_add(Duration::from_millis(about.live_unix_ms)))
        .flatten();
    Ok(LastGood {
        digest: config.digest(),
        config,
        at: at.ok_or_else(|| damaged(path, "its time is out of range"))?,
        envoy: about.envoy,
    })
}

fn damaged(path: &Path, why: impl Into<String>) -> LastGoodError {
    let (path, why) = (path.to_owned(), why.into());
    LastGoodError::Damaged { path, why }
}

/// The first line without its end, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes
        .iter()
        .take(MAX_HEADER)
        .position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

/// A path as JSON can hold it. It is shown to people, and its extension, which tells the format, is
/// one of a few ASCII words.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn name(format: Format) -> &'static str {
    match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
        Format::Protobuf => "protobuf",
    }
}

/// A clock that is set before 1970 counts as 1970, and one that is set after 9999 as 9999.
fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis())
        .unwrap_or(u64::MAX)
        .min(LATEST_UNIX_MS)
}

#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
