//! What Handover must know of an Envoy configuration: where the admin endpoint is, and which
//! static listeners there are. Everything else is Envoy's business and is not looked at.
//!
//! The document is read as Envoy reads it: the extension decides the format (`.yaml` and `.yml` in
//! any case are YAML, `.pb` and `.pb_text` are Protobuf, everything else is JSON), field names may be
//! `port_value` or `portValue`, the last of equal keys wins, `<<` is an ordinary key (Envoy's YAML
//! parser does not merge), and of a stream of documents the first counts.
//!
//! JSON is read more strictly than Envoy reads it. Envoy 1.40 also takes strings in single quotes,
//! names without quotes, commas after the last element, control characters within strings, and the
//! same message twice (it merges them); all of that is refused here. YAML is a way to write it.

mod admin_paths;
mod drain_timeouts;
pub(crate) mod events;
mod first_resources;
mod long_streams;
mod position;
mod scan;
mod shape;
mod stats_matcher;
mod yaml;

pub use admin_paths::{AdminPaths, PathMatcher, PathPattern};
pub use drain_timeouts::{DrainTimeout, drain_timeouts};
pub use first_resources::{FirstResourcesError, wait_for_first_resources};
pub use long_streams::{LongStream, LongStreamKind, long_streams};
pub use stats_matcher::StatsMatcher;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::admin::AdminAddress;

/// The largest configuration that is read: 64 MiB.
pub const MAX_BYTES: usize = 64 << 20;

/// The most nodes (keys, values and collections) of a YAML document, an alias counted as what it
/// stands for: a node for each seven bytes of the largest configuration. A generated configuration
/// has one for each twelve to thirty bytes. Envoy builds all nodes, with some hundred bytes for each,
/// so that more would cost it several gigabytes.
pub const MAX_NODES: usize = 10_000_000;

/// The most collections within each other in a YAML document, an alias counted as what it stands
/// for. Envoy itself stops at 100 messages within each other.
pub const MAX_DEPTH: usize = 200;

/// The most anchors of a YAML document.
pub const MAX_ANCHORS: usize = 100_000;

/// The most nodes of a YAML document that have an anchor or are part of one that has. They are kept
/// in memory while the document is read, some 32 bytes for each.
pub const MAX_ANCHORED_NODES: usize = 2_000_000;

/// The format of a configuration, as Envoy chooses it by the file's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.json`, and every extension that is not known.
    Json,
    /// `.pb`, `.pb_text` and their like. Handover does not read it.
    Protobuf,
}

impl Format {
    /// Returns the format in which Envoy reads a file of this name.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match &*extension.to_ascii_lowercase() {
            "yaml" | "yml" => Self::Yaml,
            "pb" | "pb_text" | "pb_length_delimited" => Self::Protobuf,
            _ => Self::Json,
        }
    }

    /// Returns the format of what a template of this name is rendered to. An extension that says
    /// that it is a template (`.j2`, `.jinja`, `.jinja2`, `.tmpl`) is passed over.
    #[must_use]
    pub fn of_template(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match &*extension.to_ascii_lowercase() {
            "j2" | "jinja" | "jinja2" | "tmpl" => Self::of(&path.with_extension("")),
            _ => Self::of(path),
        }
    }
}

/// The part of a configuration that Handover needs.
///
/// ```
/// use handover_envoy::bootstrap::{Bootstrap, Format};
///
/// let bootstrap = Bootstrap::parse(
///     b"
/// admin:
///   address:
///     socket_address: { address: 0.0.0.0, port_value: 9901 }
/// static_resources:
///   listeners:
///   - name: web
///     address:
///       socket_address: { address: 0.0.0.0, port_value: 8080 }
/// ",
///     Format::Yaml,
/// )?;
/// assert_eq!(bootstrap.admin.to_string(), "127.0.0.1:9901");
/// assert_eq!(bootstrap.listeners[0].port(), Some(8080));
/// # Ok::<(), handover_envoy::bootstrap::BootstrapError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Where the admin endpoint can be reached from this host: an unspecified address (`0.0.0.0`,
    /// `::`) has become the loopback address of its family.
    pub admin: AdminAddress,
    /// Where the admin endpoint listens, as written: an unspecified address listens on every address
    /// of the host.
    pub admin_listens_on: ListenAddress,
    /// Which paths the admin endpoint answers.
    pub admin_paths: AdminPaths,
    /// Which statistics Envoy keeps.
    pub stats: StatsMatcher,
    /// The static listeners, in the order of the document.
    pub listeners: Vec<Listener>,
    /// The static clusters, in the order of the document.
    pub clusters: Vec<Cluster>,
}

/// A static cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cluster {
    /// Its name; empty where the configuration gives none.
    pub name: String,
    /// `alt_stat_name`; empty where the configuration gives none.
    pub alt_stat_name: String,
}

impl Cluster {
    /// Returns the cluster's name in the statistics. A colon has become an underscore there.
    #[must_use]
    pub fn stat_name(&self) -> String {
        let name = match self.alt_stat_name.is_empty() {
            true => &self.name,
            false => &self.alt_stat_name,
        };
        name.replace(':', "_")
    }
}

/// A static listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Its name; empty where the configuration gives none (Envoy then makes one up).
    pub name: String,
    /// Where it listens: the main address, then the additional ones.
    pub addresses: Vec<ListenAddress>,
    /// `stat_prefix`; empty where the configuration gives none.
    pub stat_prefix: String,
    /// `enable_reuse_port`, or `None` where the configuration leaves Envoy's default (on).
    pub enable_reuse_port: Option<bool>,
    /// Whether it is an internal listener (`internal_listener`), which has no socket: only Envoy
    /// itself connects to it.
    pub internal: bool,
    /// Whether it serves QUIC (`udp_listener_config.quic_options`), as HTTP/3 does.
    pub quic: bool,
    /// Whether its `traffic_direction` is `INBOUND`. Without one, a listener has no direction.
    pub inbound: bool,
    /// The files of the network namespaces in which its sockets are made
    /// (`network_namespace_filepath`); empty where all are in that of Envoy.
    pub network_namespaces: Vec<PathBuf>,
}

/// One address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// `socket_address`, TCP or UDP.
    Socket {
        /// The IP address, as written.
        address: String,
        /// The port; 0 leaves the choice to the system.
        port: u16,
        /// Whether the protocol is UDP.
        udp: bool,
    },
    /// `pipe`: a Unix socket.
    Pipe(PathBuf),
    /// `envoy_internal_address`, or an address this crate does not know. Nobody outside the process
    /// connects to it.
    Other,
}

impl Listener {
    /// Returns the port of the main address, or `None` if it is neither a TCP nor a UDP address.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self.addresses.first()? {
            ListenAddress::Socket { port, .. } => Some(*port),
            ListenAddress::Pipe(_) | ListenAddress::Other => None,
        }
    }

    /// Returns whether the listener is one of the process only (`internal_listener`). Connections
    /// to it are Envoy's own.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.all(|address| *address == ListenAddress::Other)
    }

    /// Returns the name of the listener in Envoy's statistics, where all its addresses are counted
    /// together. It is the `stat_prefix`, or the main address with `_` for each colon. `None` means
    /// that the configuration does not say.
    #[must_use]
    pub fn stat_name(&self) -> Option<String> {
        let name = match self.addresses.first()? {
            _ if !self.stat_prefix.is_empty() => self.stat_prefix.clone(),
            ListenAddress::Socket { address, port, .. } => {
                SocketAddr::new(address.parse().ok()?, *port).to_string()
            }
            ListenAddress::Pipe(path) => path.to_str()?.to_owned(),
            ListenAddress::Other => return None,
        };
        Some(name.replace(':', "_"))
    }
}

/// Why a configuration cannot be supervised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than [`MAX_BYTES`].
    #[error("the configuration is larger than {MAX_BYTES} bytes: is it the right file?")]
    TooLarge,
    /// There is nothing in it.
    #[error("the configuration is empty: write an Envoy configuration with an admin block into it")]
    Empty,
    /// It is Protobuf.
    #[error(
        "a configuration in Protobuf (.pb, .pb_text) cannot be supervised, because Handover reads \
         the admin address from it: convert it to YAML or JSON"
    )]
    Protobuf,
    /// It is not text.
    #[error("the configuration is not UTF-8 text")]
    NotText(#[source] std::str::Utf8Error),
    /// It is not YAML, or not of the shape of an Envoy configuration.
    #[error("the configuration is not valid YAML: {0}")]
    Yaml(String),
    /// It is not JSON, or not of the shape of an Envoy configuration.
    #[error("the configuration is not valid JSON: {0}")]
    Json(String),
    /// The reading was cancelled by [`Bootstrap::parse_unless`]'s caller.
    #[error("the reading of the configuration was cancelled")]
    Cancelled,
    /// There is no admin block, or none with an address.
    #[error(
        "the configuration has no admin address, and Handover asks there whether an epoch is \
         live; add this block at the top level:\n{ADMIN_BLOCK}"
    )]
    NoAdmin,
    /// The admin address is of a kind that nobody outside Envoy can reach.
    #[error(
        "the admin address is neither a socket_address nor a pipe; replace the admin block by:\n\
         {ADMIN_BLOCK}"
    )]
    UnreachableAdmin,
    /// The admin port is left to the system.
    #[error(
        "the admin port is 0, so the system chooses one that Handover does not know: set admin.address.socket_address.port_value to a fixed port, for example 9901"
    )]
    AdminPortZero,
    /// The admin address is not an IP address.
    #[error(
        "admin.address.socket_address.address{} is not an IP address, and Envoy does not resolve \
         names: set it to one, for example to 127.0.0.1", position::in_words(*at)
    )]
    AdminNotIp {
        /// Its line and column, from 1, or `None` where it is not there.
        at: Option<(usize, usize)>,
    },
}

/// The block that [`BootstrapError::NoAdmin`] asks for.
pub const ADMIN_BLOCK: &str = "admin:
  address:
    socket_address:
      address: 127.0.0.1
      port_value: 9901";

impl Bootstrap {
    /// Reads a configuration file.
    ///
    /// It blocks on the file system; call it where that does no harm.
    ///
    /// # Errors
    ///
    /// [`BootstrapError::Read`] where the file cannot be read, otherwise as for
    /// [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self, BootstrapError> {
        use std::io::Read as _;
        let failed = |source| BootstrapError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut document = Vec::new();
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        file.take(limit.saturating_add(1))
            .read_to_end(&mut document)
            .map_err(failed)?;
        Self::parse(&document, Format::of(path))
    }

    /// Reads a configuration. No input makes it panic, and a document that would unfold into an
    /// enormous one (a "YAML bomb") is refused early.
    ///
    /// It takes as long as the document is large: a tenth of a second for some megabytes of YAML.
    /// Memory is needed for what is returned and, in YAML, for what has an anchor.
    ///
    /// # Errors
    ///
    /// [`BootstrapError`] tells what is wrong and what to change. A YAML document beyond
    /// [`MAX_NODES`], [`MAX_DEPTH`], [`MAX_ANCHORS`] or [`MAX_ANCHORED_NODES`] is refused as
    /// [`BootstrapError::Yaml`].
    pub fn parse(document: &[u8], format: Format) -> Result<Self, BootstrapError> {
        Self::parse_unless(document, format, &AtomicBool::new(false))
    }

    /// Reads a configuration, and stops soon after another thread has set the flag.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse), and [`BootstrapError::Cancelled`].
    pub fn parse_unless(
        document: &[u8],
        format: Format,
        cancelled: &AtomicBool,
    ) -> Result<Self, BootstrapError> {
        if document.len() > MAX_BYTES {
            return Err(BootstrapError::TooLarge);
        }
        let text = std::str::from_utf8(document).map_err(BootstrapError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(BootstrapError::Empty);
        }
        let read = match format {
            Format::Yaml => yaml::read(text, cancelled, MAX_ANCHORED_NODES)?,
            Format::Json => shape::json(text)?,
            Format::Protobuf => return Err(BootstrapError::Protobuf),
        };
        let admin = read.admin.unwrap_or_default();
        let address = listen_address(admin.address.ok_or(BootstrapError::NoAdmin)?);
        let matchers = admin.allow_paths.unwrap_or_default().into_iter();
        let resources = read.static_resources.unwrap_or_default();
        Ok(Self {
            admin: reachable(address.clone(), text)?,
            admin_listens_on: address,
            admin_paths: AdminPaths::new(
                // What is null matches nothing that is known.
                matchers
                    .map(|matcher| path_matcher(matcher.unwrap_or_default()))
                    .collect(),
            ),
            stats: StatsMatcher::of(read.stats_config.unwrap_or_default()),
            listeners: (resources.listeners.unwrap_or_default().into_iter())
                .flatten()
                .map(listener)
                .collect(),
            clusters: (resources.clusters.unwrap_or_default().into_iter())
                .flatten()
                .map(cluster)
                .collect(),
        })
    }
}

/// Returns whether Envoy fetches listeners with this configuration, which are in no file. It looks for
/// the names of the two fields, which nobody else uses.
#[must_use]
pub fn fetches_listeners(content: &[u8]) -> bool {
    has_any(
        content,
        [
            "lds_config",
            "ldsConfig",
            "lds_resources_locator",
            "ldsResourcesLocator",
        ],
    )
}

/// Returns whether Envoy asks a control plane with this configuration, be it for one kind of resource. It
/// looks for the names of the fields in which that is told.
#[must_use]
pub(crate) fn asks_control_plane(content: &[u8]) -> bool {
    has_any(
        content,
        [
            "api_config_source",
            "apiConfigSource",
            "ads_config",
            "adsConfig",
        ],
    )
}

fn has_any(content: &[u8], names: [&str; 4]) -> bool {
    names.iter().any(|name| {
        let mut places = content.windows(name.len());
        places.any(|place| place == name.as_bytes())
    })
}

/// Returns whether Envoy fetches clusters with this configuration, which are in no file. It looks for the
/// names of the two fields. A cluster that is fetched on demand (`odcds_config`) is not meant.
#[must_use]
pub(crate) fn fetches_clusters(content: &[u8]) -> bool {
    [
        "cds_config",
        "cdsConfig",
        "cds_resources_locator",
        "cdsResourcesLocator",
    ]
    .iter()
    .any(|name| {
        // With the byte before it, or without one at the start.
        let is_start = content.starts_with(name.as_bytes());
        let mut places = content.windows(name.len() + 1);
        let is_field = |place: &[u8]| {
            place.split_first().is_some_and(|(before, place)| {
                place == name.as_bytes() && !before.is_ascii_alphanumeric()
            })
        };
        is_start || places.any(is_field)
    })
}

fn path_matcher(matcher: shape::StringMatcher) -> PathMatcher {
    let shape::StringMatcher {
        exact,
        prefix,
        suffix,
        contains,
        safe_regex,
        ignore_case,
    } = matcher;
    let regex = safe_regex.and_then(|matcher| matcher.regex);
    let pattern = exact
        .map(PathPattern::Exact)
        .or(prefix.map(PathPattern::Prefix))
        .or(suffix.map(PathPattern::Suffix))
        .or(contains.map(PathPattern::Contains))
        .or(regex.map(PathPattern::Regex));
    PathMatcher {
        pattern: pattern.unwrap_or(PathPattern::Unknown),
        ignore_case: ignore_case.is_some_and(|shape::Flag(ignore)| ignore),
    }
}

fn cluster(cluster: shape::Cluster) -> Cluster {
    Cluster {
        name: cluster.name.unwrap_or_default(),
        alt_stat_name: cluster.alt_stat_name.unwrap_or_default(),
    }
}

fn listener(listener: shape::Listener) -> Listener {
    let more = listener.additional_addresses.unwrap_or_default();
    let more = more.into_iter().flatten().filter_map(|more| more.address);
    let addresses: Vec<_> = listener.address.into_iter().chain(more).collect();
    Listener {
        name: listener.name.unwrap_or_default(),
        stat_prefix: listener.stat_prefix.unwrap_or_default(),
        network_namespaces: addresses.iter().filter_map(network_namespace).collect(),
        addresses: addresses.into_iter().map(listen_address).collect(),
        enable_reuse_port: listener.enable_reuse_port.map(|shape::Flag(flag)| flag),
        internal: listener.internal_listener.is_some(),
        inbound: listener
            .traffic_direction
            .is_some_and(|direction| direction.inbound),
        quic: listener
            .udp_listener_config
            .is_some_and(|config| config.quic_options.is_some()),
    }
}

fn network_namespace(address: &shape::Address) -> Option<PathBuf> {
    let path = address
        .socket_address
        .as_ref()?
        .network_namespace_filepath
        .as_ref()?;
    (!path.is_empty()).then(|| path.into())
}

fn listen_address(address: shape::Address) -> ListenAddress {
    if let Some(socket) = address.socket_address {
        ListenAddress::Socket {
            address: socket.address.unwrap_or_default(),
            port: socket.port_value.map_or(0, |shape::Port(port)| port),
            udp: socket.protocol.is_some_and(|shape::Protocol { udp }| udp),
        }
    } else if let Some(path) = address.pipe.and_then(|pipe| pipe.path) {
        ListenAddress::Pipe(path.into())
    } else {
        ListenAddress::Other
    }
}

/// The keys that lead to the admin address, in either spelling.
const ADMIN_ADDRESS: [&[&str]; 4] = [
    &["admin"],
    &["address"],
    &["socket_address", "socketAddress"],
    &["address"],
];

fn reachable(address: ListenAddress, text: &str) -> Result<AdminAddress, BootstrapError> {
    match address {
        ListenAddress::Socket { port: 0, .. } => Err(BootstrapError::AdminPortZero),
        ListenAddress::Socket { address, port, .. } => {
            let ip = match address.parse() {
                Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                Ok(ip) => ip,
                // Without the value, which could be a secret at the wrong place.
                Err(_) => {
                    let at = position::position_of(text, &ADMIN_ADDRESS);
                    return Err(BootstrapError::AdminNotIp { at });
                }
            };
            Ok(AdminAddress::Tcp((ip, port).into()))
        }
        ListenAddress::Pipe(path) => Ok(AdminAddress::Unix(path)),
        ListenAddress::Other => Err(BootstrapError::UnreachableAdmin),
    }
}

#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
