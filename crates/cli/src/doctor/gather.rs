//! Looking at the host. Every look is bounded in time, needs no rights, and may find nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use handover_envoy::admin::{AdminAddress, AdminClient};
use handover_envoy::bootstrap::{
    Bootstrap, BootstrapError, Format, drain_timeouts, fetches_listeners, long_streams,
};
use handover_envoy::hot_restart::HostPaths;
use handover_envoy::version::check_binary;
use handover_envoy::{ConfigError, EnvoyConfig};
use handover_process::memory::{Bound, bounds};
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use handover_watch::Preview;
use rustix::fs::inotify::{self, CreateFlags};
use rustix::fs::{Access, access, statvfs};
use rustix::io::Errno;
use rustix::process::{
    PidfdFlags, Resource, WaitId, WaitIdOptions, geteuid, getpid, getrlimit, pidfd_open, waitid,
};

use super::facts::{
    AdminAnswer, AdminFacts, BaseIdFacts, ConfigurationFacts, Facts, HostFacts, Known, Settings,
    SharedMemoryFacts, Unknown,
};
use super::host::INSTANCES;
use super::variables;

mod unit;

/// How long a look may take. A file system whose server is gone never answers.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// How long the admin endpoint has for its answer.
const ANSWER: Duration = Duration::from_secs(1);
/// The most that is read of a file of the kernel.
const MOST: u64 = 64 << 10;

const SHARED_MEMORY: &str = "/dev/shm";

/// What is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Every watched path.
    pub(crate) watched: Vec<PathBuf>,
    pub(crate) lock_dir: PathBuf,
    /// How an instance with this configuration is called as the owner of its base id.
    pub(crate) instance: String,
    /// The Envoy binary, or why there is none.
    pub(crate) binary: Result<PathBuf, String>,
    /// The unit to ask about. Without it, that of this process.
    pub(crate) unit: Option<String>,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// What is news beside an Envoy that runs.
    Start,
}

/// Looks at the host, and takes the configuration from the future.
pub(crate) async fn gather(
    settings: Settings,
    places: Places,
    scope: Scope,
    configuration: impl Future<Output = Known<ConfigurationFacts>>,
) -> Facts {
    let unit_name = places.unit.clone();
    let watched_paths = places.watched.clone();
    let all = scope == Scope::All;
    let (host, shared_memory, memory, watched, unit, binary, base_ids, configuration) = tokio::join!(
        bounded(host),
        bounded(shared_memory),
        bounded(memory),
        bounded(move || Ok(Preview::of(&watched_paths)?)),
        unit::ask(unit_name),
        only(
            all,
            bounded({
                let binary = places.binary.clone();
                move || Ok(usable(binary))
            })
        ),
        only(all, bounded(move || Ok(base_ids(&places)))),
        configuration,
    );
    let admin = match &configuration {
        Ok(configuration) => admin(&configuration.bootstrap.admin).await,
        Err(_) => Err(Unknown("there is no admin address".to_owned())),
    };
    Facts {
        settings,
        host,
        shared_memory,
        memory,
        unit,
        base_ids,
        binary,
        configuration,
        admin,
        watched,
        variables: variables::names(scope)
            .filter_map(|name| Some((name, text_of(&std::env::var_os(name)?)?)))
            .collect(),
    }
}

/// An empty variable is an unset one.
fn text_of(value: &OsStr) -> Option<String> {
    (!value.is_empty()).then(|| value.to_string_lossy().into_owned())
}

async fn only<T>(wanted: bool, look: impl Future<Output = Known<T>>) -> Known<T> {
    match wanted {
        true => look.await,
        false => Err(Unknown("only `handover doctor` looks at it".to_owned())),
    }
}

/// Looks on a thread that may hang.
async fn bounded<T: Send + 'static>(look: impl FnOnce() -> Known<T> + Send + 'static) -> Known<T> {
    match timeout(LOOK, offload(look)).await {
        Ok(Ok(known)) => known,
        Ok(Err(error)) => Err(Unknown(error.to_string())),
        Err(_) => Err(no_answer(LOOK)),
    }
}

pub(crate) fn no_answer(limit: Duration) -> Unknown {
    Unknown(format!("no answer within {limit:?}"))
}

fn host() -> Known<HostFacts> {
    let limit = |name: &str| {
        let text = read(Path::new("/proc/sys/fs/inotify").join(name))?;
        let number = text.trim().parse();
        number.map_err(|_| Unknown("the kernel tells no number".to_owned()))
    };
    let open_files = getrlimit(Resource::Nofile);
    let kernel = rustix::system::uname();
    Ok(HostFacts {
        kernel: kernel.release().to_string_lossy().into_owned(),
        awaits_by_pidfd: awaits_by_pidfd(),
        inotify_instances: limit("max_user_instances"),
        inotify_opened: open_inotify(),
        inotify_watches: limit("max_user_watches"),
        open_files_soft: open_files.current,
        open_files_hard: open_files.maximum,
    })
}

/// A version says less: sandboxes name an old one and have what is needed.
fn awaits_by_pidfd() -> bool {
    let Ok(own) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return false;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // No child of its own: whoever knows what was asked for says so.
    waitid(WaitId::PidFd(own.as_fd()), options).err() == Some(Errno::CHILD)
}

/// Opens as many as are needed, and closes them. The limit tells nothing about what others use of it.
fn open_inotify() -> (usize, Option<String>) {
    let mut opened = Vec::new();
    while opened.len() < INSTANCES {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => opened.push(fd),
            Err(errno) => return (opened.len(), Some(io::Error::from(errno).to_string())),
        }
    }
    (opened.len(), None)
}

fn shared_memory() -> Known<SharedMemoryFacts> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(SHARED_MEMORY)?;
    let space = statvfs(SHARED_MEMORY).map_err(io::Error::from)?;
    let is_writable = access(SHARED_MEMORY, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(SharedMemoryFacts {
        owner: metadata.uid(),
        mode: metadata.mode() & 0o7777,
        user: geteuid().as_raw(),
        is_writable,
        size: bytes(space.f_blocks),
        available: bytes(space.f_bavail),
    })
}

fn memory() -> Known<Vec<Bound>> {
    let bounds = bounds();
    match bounds.is_empty() {
        true => Err(Unknown("/proc/meminfo does not tell".to_owned())),
        false => Ok(bounds),
    }
}

fn usable(binary: Result<PathBuf, String>) -> Result<PathBuf, String> {
    let path = binary?;
    check_binary(&path).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    Ok(path)
}

fn base_ids(places: &Places) -> BaseIdFacts {
    let host = HostPaths::with_locks(&places.lock_dir);
    let namespace = |process: &str| -> Known<String> {
        let link = std::fs::read_link(format!("/proc/{process}/ns/net"))?;
        Ok(link.to_string_lossy().into_owned())
    };
    BaseIdFacts {
        neighbours: host.neighbours().map_err(Unknown::from),
        with_memory: host.base_ids_with_shared_memory().map_err(Unknown::from),
        own: host.base_id_of(&places.instance),
        network: namespace("self"),
        network_of_init: namespace("1"),
    }
}

async fn admin(address: &AdminAddress) -> Known<AdminFacts> {
    let client = AdminClient::new(address.clone()).with_time_limit(ANSWER);
    let answer = match client.server_info().await {
        Ok(info) => AdminAnswer::Envoy(Box::new(info)),
        Err(error) if error.is_nobody_there() => AdminAnswer::Nobody,
        Err(error) => AdminAnswer::Other(format!("{:#}", anyhow::Error::new(error))),
    };
    let cannot_listen = match (&answer, address) {
        (AdminAnswer::Nobody, address) => {
            let address = address.clone();
            bounded(move || Ok(why_not_listen(&address))).await?
        }
        (AdminAnswer::Envoy(_) | AdminAnswer::Other(_), AdminAddress::Unix(_)) => None,
        (_, AdminAddress::Tcp(address)) => not_of_this_host(address.ip()),
    };
    let version = match &answer {
        AdminAnswer::Envoy(info) => version_of(&info.version),
        AdminAnswer::Nobody | AdminAnswer::Other(_) => None,
    };
    Ok(AdminFacts {
        cannot_listen,
        answer,
        version,
    })
}

/// Major and minor version of what Envoy tells: the revision, the version, and how it was built.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('/').nth(1)?.split('.');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

fn why_not_listen(address: &AdminAddress) -> Option<String> {
    match address {
        AdminAddress::Tcp(address) => not_of_this_host(address.ip()),
        AdminAddress::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"@") => None,
        AdminAddress::Unix(path) => {
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty())?;
            let error = std::fs::metadata(parent).err()?;
            Some(format!("{}: {error}", parent.display()))
        }
    }
}

/// Why nobody can listen on an address. A UDP socket on a port that the system chooses asks for it
/// and disturbs nobody.
fn not_of_this_host(ip: IpAddr) -> Option<String> {
    let error = UdpSocket::bind((ip, 0)).err()?;
    let kinds = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::Unsupported];
    let is_missing = kinds.contains(&error.kind())
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    is_missing.then(|| error.to_string())
}

/// What a configuration file says that `run` can use, or refuses for its `admin.allow_paths` alone.
/// It blocks.
pub(crate) fn file_facts(path: &Path, unwanted: &AtomicBool) -> anyhow::Result<ConfigurationFacts> {
    match EnvoyConfig::read_unless(path, unwanted) {
        Ok(config) => Ok(config_facts(&config)),
        Err(error @ ConfigError::AdminRefuses { .. }) => {
            let content = std::fs::read(path)?;
            let format = Format::of(path);
            let bootstrap = Bootstrap::parse_unless(&content, format, unwanted)?;
            Ok(ConfigurationFacts {
                refused: Some(error.to_string()),
                ..facts_of(bootstrap, &content, format, unwanted)
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// What a configuration says that `run` can use. It blocks for as long as reading the text takes.
pub(crate) fn config_facts(config: &EnvoyConfig) -> ConfigurationFacts {
    let never = AtomicBool::new(false);
    let bootstrap = config.bootstrap().clone();
    ConfigurationFacts {
        limits: config.admin_limits(),
        ..facts_of(bootstrap, config.content(), config.format(), &never)
    }
}

fn facts_of(
    bootstrap: Bootstrap,
    content: &[u8],
    format: Format,
    unwanted: &AtomicBool,
) -> ConfigurationFacts {
    let unknown = |error: BootstrapError| Unknown(error.to_string());
    let listeners = bootstrap.listeners.iter();
    let mut namespaces = BTreeSet::new();
    namespaces.extend(listeners.flat_map(|listener| &listener.network_namespaces));
    ConfigurationFacts {
        namespaces: namespaces
            .into_iter()
            .map(|path| {
                let why = std::fs::metadata(path).err();
                (path.clone(), why.map(|why| why.to_string()))
            })
            .collect(),
        refused: None,
        limits: None,
        fetches_listeners: fetches_listeners(content),
        drain_timeouts: drain_timeouts(content, format, unwanted).map_err(unknown),
        long_streams: long_streams(content, format, unwanted).map_err(unknown),
        bootstrap,
    }
}

fn read(path: impl AsRef<Path>) -> Known<String> {
    let path = path.as_ref();
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(MOST).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error: io::Error| Unknown(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_unknown_after_its_time() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hangs = bounded(move || {
            let _end = released.recv();
            Ok(())
        });
        let facts = timeout(LOOK * 4, hangs).await.unwrap();
        assert_eq!(facts, Err(Unknown("no answer within 5s".to_owned())));
        drop(release);
    }

    #[test]
    fn the_version_of_an_envoy_is_found_in_what_it_tells() {
        for (text, version) in [
            ("6d9bb7d9/1.40.0/Clean/RELEASE/BoringSSL", Some((1, 40))),
            ("0/1.41.0-dev/Modified/DEBUG/BoringSSL", Some((1, 41))),
            ("0/2.0/x", Some((2, 0))),
            ("0/odd/x", None),
            ("1.40.0", None),
            ("", None),
        ] {
            assert_eq!(version_of(text), version, "{text}");
        }
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let host = host().unwrap();
        assert!(!host.kernel.is_empty());
        assert_eq!(not_of_this_host("127.0.0.1".parse().unwrap()), None);
        // An address for documentation is nobody's.
        assert!(not_of_this_host("192.0.2.1".parse().unwrap()).is_some());
    }
}
