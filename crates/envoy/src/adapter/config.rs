//! What an Envoy shall run with.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[cfg(feature = "template")]
use super::rendered::PerEpoch;
use crate::admin::Refused;
use crate::bootstrap::{
    Bootstrap, BootstrapError, Format, ListenAddress, MAX_BYTES, asks_control_plane,
    fetches_clusters, fetches_listeners,
};
use crate::overlay::{Layer, OverlayError, merge};
use crate::statistics::Flush;
use handover_files::Digest;

/// A configuration as bytes, read once: what is compared, validated and run is the same.
///
/// Two are equal when their content and their format are, and where a template makes another content
/// for each epoch, when that of every epoch is. The content is kept once, however often the
/// configuration is cloned, and is compared by its digest. What Envoy reads besides, certificates for
/// example, is no part of it: [`Handle::renew`](handover_tokio::Handle::renew) starts the next epoch
/// with an equal configuration.
#[derive(Clone)]
pub struct EnvoyConfig {
    source: PathBuf,
    content: Arc<Vec<u8>>,
    digest: Digest,
    format: Format,
    bootstrap: Arc<Bootstrap>,
    fetches: Fetches,
    flush: Flush,
    /// Where a template makes another content for each epoch. The content is that of epoch 0 then.
    #[cfg(feature = "template")]
    pub(super) per_epoch: Option<Arc<PerEpoch>>,
}

/// What Envoy fetches with a configuration, which takes a look at all of it to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fetches {
    pub(super) listeners: bool,
    pub(super) clusters: bool,
    /// Whether it asks a control plane, be it for one kind of resource.
    pub(super) from_control_plane: bool,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be supervised.
    #[error("cannot use the configuration {}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The error behind this one.
        #[source]
        source: BootstrapError,
    },
    /// Its admin endpoint would refuse what must be asked there.
    #[error(
        "cannot use the configuration {}: admin.allow_paths refuses {refused}, where Handover asks \
         whether an epoch is live: add `- exact: {refused}` to admin.allow_paths", path.display()
    )]
    AdminRefuses {
        /// The file.
        path: PathBuf,
        /// The path that is refused.
        refused: &'static str,
    },
    /// Its overlays cannot be merged over it.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
}

impl EnvoyConfig {
    /// Reads a configuration file. It blocks for as long as the file system does, and for as long as
    /// the content takes to be read: a second for many megabytes of YAML.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_unless(path, &AtomicBool::new(false))
    }

    /// Reads a configuration file, and stops soon after another thread has set the flag. A file
    /// system that hangs is waited for all the same.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; [`BootstrapError::Cancelled`] is the source where the flag was set.
    pub fn read_unless(path: &Path, cancelled: &AtomicBool) -> Result<Self, ConfigError> {
        Self::read_merged_unless(path, &[], cancelled)
    }

    /// Reads a configuration file, and merges overlays over it, one after the other; see
    /// [`overlay`](crate::overlay). With any, the content is what they are merged to, in YAML, and the
    /// configuration still has `path` as its source. Otherwise as [`read_unless`](Self::read_unless).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; [`ConfigError::Overlay`] names the overlay.
    pub fn read_merged_unless(
        path: &Path,
        overlays: &[PathBuf],
        cancelled: &AtomicBool,
    ) -> Result<Self, ConfigError> {
        let content = read_bytes(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::merge_unless(path, content, overlays, cancelled)
    }

    /// Merges overlays over a configuration with this content, as if it came from the file `path`; otherwise as
    /// [`read_merged_unless`](Self::read_merged_unless).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; [`ConfigError::Overlay`] names the overlay.
    pub fn merge_unless(
        path: &Path,
        content: Vec<u8>,
        overlays: &[PathBuf],
        cancelled: &AtomicBool,
    ) -> Result<Self, ConfigError> {
        let format = Format::of(path);
        if overlays.is_empty() {
            return Self::parse_unless(path, content, format, cancelled);
        }
        let read = |path: &PathBuf| {
            read_bytes(path).map_err(|source| OverlayError::Read {
                path: path.clone(),
                source,
            })
        };
        let contents = overlays.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let layers: Vec<_> = (overlays.iter().zip(&contents))
            .map(|(path, content)| Layer::new(path, content, Format::of(path)))
            .collect();
        let base = Layer::new(path, &content, format);
        let merged = merge(base, &layers, cancelled)?;
        drop((content, contents));
        Self::parse_unless(path, merged, Format::Yaml, cancelled)
    }

    /// Reads a configuration with this content, as if it came from the file `source`. The format is
    /// detected from the extension of that name.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unusable`].
    pub fn parse(source: &Path, content: Vec<u8>) -> Result<Self, ConfigError> {
        Self::parse_as(source, content, Format::of(source))
    }

    /// The same in a format that is known.
    pub(crate) fn parse_as(
        source: &Path,
        content: Vec<u8>,
        format: Format,
    ) -> Result<Self, ConfigError> {
        Self::parse_unless(source, content, format, &AtomicBool::new(false))
    }

    /// The same, until the flag is set.
    pub(crate) fn parse_unless(
        source: &Path,
        content: Vec<u8>,
        format: Format,
        cancelled: &AtomicBool,
    ) -> Result<Self, ConfigError> {
        let bootstrap = Bootstrap::parse_unless(&content, format, cancelled).map_err(|error| {
            ConfigError::Unusable {
                path: source.to_owned(),
                source: error,
            }
        })?;
        if let Some(refused) = Refused::by(&bootstrap.admin_paths).needed {
            return Err(ConfigError::AdminRefuses {
                path: source.to_owned(),
                refused,
            });
        }
        Ok(Self {
            source: source.to_owned(),
            digest: Digest::of(&content),
            flush: Flush::of(&content),
            fetches: Fetches {
                listeners: fetches_listeners(&content),
                clusters: fetches_clusters(&content),
                from_control_plane: asks_control_plane(&content),
            },
            content: Arc::new(content),
            format,
            bootstrap: Arc::new(bootstrap),
            #[cfg(feature = "template")]
            per_epoch: None,
        })
    }

    /// Returns the path of the file that the configuration was read from.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Returns the bytes of the configuration.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Returns the SHA-256 of the bytes. It was computed when the configuration was read, so this
    /// costs nothing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the format in which Envoy reads the configuration.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    pub(super) fn flush(&self) -> Flush {
        self.flush
    }

    /// Returns what Envoy fetches with it.
    pub(super) fn fetches(&self) -> Fetches {
        self.fetches
    }

    /// Whether Envoy may listen for clients with it: on a static listener with a socket, or on one
    /// that it fetches.
    pub(super) fn may_listen(&self) -> bool {
        let has_a_socket = |address: &ListenAddress| *address != ListenAddress::Other;
        let mut listeners = self.bootstrap.listeners.iter();
        listeners.any(|listener| !listener.internal && listener.addresses.iter().any(has_a_socket))
            || self.fetches.listeners
    }

    /// Returns what Handover does otherwise with this configuration, because its admin endpoint answers
    /// some paths only: a sentence for people.
    #[must_use]
    pub fn admin_limits(&self) -> Option<String> {
        Refused::by(&self.bootstrap.admin_paths).otherwise()
    }

    /// Returns what Handover has read from the configuration.
    #[must_use]
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }
}

/// The bytes of a file, and one more than is accepted of a file that is too large.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let file = File::open(path)?;
    // A buffer that grows by doubling takes up to three times the file for a moment.
    let size = file.metadata()?.len().min(limit);
    let mut content = Vec::new();
    content.try_reserve_exact(usize::try_from(size.saturating_add(1)).unwrap_or(0))?;
    file.take(limit).read_to_end(&mut content)?;
    content.shrink_to_fit();
    Ok(content)
}

impl PartialEq for EnvoyConfig {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(feature = "template")]
        if self.per_epoch != other.per_epoch {
            return false;
        }
        self.format == other.format && self.digest == other.digest
    }
}

impl Eq for EnvoyConfig {}

/// Shown as the file it was read from.
impl fmt::Display for EnvoyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.display().fmt(f)
    }
}

/// Without the content, which may hold secrets.
impl fmt::Debug for EnvoyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvoyConfig")
            .field("source", &self.source)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> EnvoyConfig {
        let admin = "admin: {address: {pipe: {path: /a}}}\n";
        let content = format!("{admin}{text}").into_bytes();
        EnvoyConfig::parse(Path::new("/etc/e.yaml"), content).unwrap()
    }

    #[test]
    fn envoy_may_listen_on_a_socket_or_on_what_it_fetches() {
        let socket = "address: {socket_address: {address: '::', port_value: 80}}";
        let inside = "address: {envoy_internal_address: {server_listener_name: x}}";
        for (listener, may_listen) in [
            (socket.to_owned(), true),
            ("address: {pipe: {path: /b}}".to_owned(), true),
            (format!("internal_listener: {{}}, {socket}"), false),
            (inside.to_owned(), false),
            (String::new(), false),
        ] {
            let text = format!("static_resources: {{listeners: [{{{listener}}}]}}");
            assert_eq!(config(&text).may_listen(), may_listen, "{listener}");
        }
        assert!(config("dynamic_resources: {lds_config: {ads: {}}}").may_listen());
    }

    #[test]
    fn what_an_admin_endpoint_does_not_answer_is_told() {
        assert_eq!(config("").admin_limits(), None);
        let some =
            "admin:\n  allow_paths: [{exact: /server_info}]\n  address: {pipe: {path: /a}}\n";
        let some = EnvoyConfig::parse(Path::new("/e.yaml"), some.into()).unwrap();
        let limits = some.admin_limits().unwrap();
        assert!(limits.starts_with("admin.allow_paths refuses"), "{limits}");
    }

    #[test]
    fn a_configuration_is_shown_as_its_file_and_without_its_content() {
        let config = config("node: {id: secret}");
        assert_eq!(config.to_string(), "/etc/e.yaml");
        let shown = format!("{config:?}");
        let bytes = config.content().len();
        assert_eq!(
            shown,
            format!("EnvoyConfig {{ source: \"/etc/e.yaml\", bytes: {bytes}, .. }}")
        );
    }
}
