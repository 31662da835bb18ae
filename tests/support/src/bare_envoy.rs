//! Epochs of an Envoy that no supervisor runs: the test itself starts them.

mod epoch;
mod memory;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

pub use self::epoch::{Ended, Epoch};
pub use self::memory::word;
use crate::envoy_admin::{EnvoyAdmin, ServerInfo};
use crate::envoy_config::EnvoyConfig;
use crate::http::{self, Response};
use crate::limit;
use crate::ports::{BaseId, Port};
use crate::supervisor::Launch;

/// The hard limit of all that is waited for: Envoy's own longest wait is 14 s.
pub const LIMIT: Duration = Duration::from_secs(40);

/// A place for the epochs of one Envoy: a base id, two ports and a directory, all claimed. The program is
/// given by its path, so it may be another one that claims to behave like Envoy.
#[derive(Debug)]
pub struct BareEnvoy {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    flags: Vec<(String, String)>,
    base_id: BaseId,
    admin: Port,
    web: Port,
    dir: TempDir,
}

impl BareEnvoy {
    /// Claims a place. The drain time is 1 s, the parent-shutdown time 2 s, and there are two workers.
    ///
    /// # Panics
    ///
    /// When no base id, port or directory can be claimed.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        let flags = [
            ("--drain-time-s", "1"),
            ("--parent-shutdown-time-s", "2"),
            ("--concurrency", "2"),
        ];
        let dir = tempfile::Builder::new().prefix("handover-").tempdir();
        Self {
            binary: binary.to_owned(),
            environment: Vec::new(),
            flags: flags
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            base_id: BaseId::free(),
            admin: Port::free(),
            web: Port::free(),
            dir: dir.expect("a directory in the temporary directory"),
        }
    }

    /// Gives each epoch a flag with this value; it takes the place of the same flag.
    #[must_use]
    pub fn with_flag(mut self, name: &str, value: &str) -> Self {
        self.flags.retain(|(known, _)| known != name);
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives each epoch an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The base id, claimed.
    #[must_use]
    pub fn base_id(&self) -> u32 {
        self.base_id.number()
    }

    /// The shared memory file of the base id.
    #[must_use]
    pub fn shared_memory(&self) -> PathBuf {
        self.base_id.shared_memory()
    }

    /// Where the listener of [`config`](Self::config) is.
    #[must_use]
    pub fn web(&self) -> SocketAddr {
        self.web.addr()
    }

    /// Where the admin endpoint of [`config`](Self::config) is.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// The admin endpoint of [`config`](Self::config).
    #[must_use]
    pub fn admin(&self) -> EnvoyAdmin {
        EnvoyAdmin::on(self.admin.number())
    }

    /// A directory of this place, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The usual configuration: one listener that answers, late if it is asked to, and the admin endpoint.
    #[must_use]
    pub fn config(&self, name: &str) -> EnvoyConfig {
        EnvoyConfig::new(name, self.admin.number(), self.web.number()).delays_by_header()
    }

    /// The arguments by which an epoch is started with this configuration.
    ///
    /// # Panics
    ///
    /// When the configuration cannot be written.
    #[must_use]
    pub fn arguments(&self, epoch: u32, config: &EnvoyConfig) -> Vec<OsString> {
        let file = self.dir.path().join(format!("{epoch}.yaml"));
        config.write_to(&file);
        let mut words: Vec<OsString> = vec!["-c".into(), file.into()];
        let numbers = [
            ("--restart-epoch", epoch),
            ("--base-id", self.base_id.number()),
        ];
        for (name, number) in numbers {
            words.extend([name.into(), number.to_string().into()]);
        }
        for (name, value) in &self.flags {
            words.extend([name.into(), value.into()]);
        }
        words
    }

    /// Runs the program with arguments of one's own.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn run<A: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Epoch {
        self.start_as(self.launch().args(words))
    }

    /// Starts an epoch as it was prepared with [`launch`](Self::launch).
    #[must_use]
    #[track_caller]
    pub fn start_as(&self, launch: Launch) -> Epoch {
        let process = launch.start();
        Epoch { process }
    }

    /// Prepares a start of the program without arguments.
    #[must_use]
    pub fn launch(&self) -> Launch {
        let mut launch = Launch::program(&self.binary);
        for (name, value) in &self.environment {
            launch = launch.env(name, value);
        }
        launch
    }

    /// Starts an epoch with this configuration, and does not wait for it.
    #[must_use]
    #[track_caller]
    pub fn start(&self, epoch: u32, config: &EnvoyConfig) -> Epoch {
        self.run(self.arguments(epoch, config))
    }

    /// Starts an epoch with this configuration and further words of the command line.
    #[must_use]
    #[track_caller]
    pub fn start_with(&self, epoch: u32, config: &EnvoyConfig, words: &[&str]) -> Epoch {
        let mut all = self.arguments(epoch, config);
        all.extend(words.iter().map(OsString::from));
        self.run(all)
    }

    /// Starts an epoch with the usual configuration, named `v` and its number, and waits until it is live.
    ///
    /// # Panics
    ///
    /// When it does not go live.
    #[must_use]
    #[track_caller]
    pub fn live(&self, epoch: u32) -> Epoch {
        self.live_with(epoch, &self.config(&format!("v{epoch}")))
    }

    /// Starts an epoch with this configuration and waits until it is live.
    ///
    /// # Panics
    ///
    /// When it does not go live.
    #[must_use]
    #[track_caller]
    pub fn live_with(&self, epoch: u32, config: &EnvoyConfig) -> Epoch {
        let started = self.start(epoch, config);
        self.wait_live_of(epoch, &started);
        started
    }

    /// Waits until this epoch, which is this process, is live.
    ///
    /// # Panics
    ///
    /// When it ends, or does not go live.
    #[track_caller]
    pub fn wait_live_of(&self, epoch: u32, started: &Epoch) {
        let wanted = ServerInfo {
            state: "LIVE".to_owned(),
            restart_epoch: epoch.into(),
        };
        let what = format!("epoch {epoch} to be live");
        limit::eventually(LIMIT, &what, || {
            let last = self.admin().server_info();
            // One that has ended need not be waited for.
            assert!(started.is_running(), "{what}, but it ended, and {last:?}");
            (last.as_ref() == Some(&wanted)).then_some(())
        });
    }

    /// Waits until this epoch's admin endpoint says `LIVE`.
    ///
    /// # Panics
    ///
    /// When it does not come.
    #[track_caller]
    pub fn wait_live(&self, epoch: u32) {
        self.admin().wait_live(epoch.into(), LIMIT);
    }

    /// Which configuration answers a request on a connection of its own.
    ///
    /// # Errors
    ///
    /// What became of the request.
    pub fn served_by(&self) -> std::io::Result<String> {
        let response = http::get(self.web(), "/", Duration::from_secs(5))?;
        Ok(response.header("x-config").unwrap_or_default().to_owned())
    }

    /// Waits until a request on a connection of its own is answered by this configuration.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn wait_served_by(&self, config: &str) {
        let mut last = None;
        let found = limit::poll(LIMIT, || {
            let served = self.served_by();
            let found = served.as_ref().is_ok_and(|name| name == config);
            last = Some(served);
            found.then_some(())
        });
        assert!(found.is_some(), "waited for {config:?}, got {last:?}");
    }

    /// Whether the listener refuses connections.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        is_refused(self.web())
    }

    /// Whether the admin endpoint refuses connections.
    #[must_use]
    pub fn is_admin_refused(&self) -> bool {
        is_refused(self.admin_addr())
    }

    /// Asks the admin endpoint.
    ///
    /// # Errors
    ///
    /// What became of the request.
    pub fn ask(&self, path: &str) -> std::io::Result<Response> {
        http::get(self.admin_addr(), path, Duration::from_secs(5))
    }

    /// Orders something of the admin endpoint, with `POST`.
    ///
    /// # Errors
    ///
    /// What became of the request.
    pub fn order(&self, path: &str) -> std::io::Result<Response> {
        http::post(self.admin_addr(), path, Duration::from_secs(5))
    }
}

/// Whether connections to this address are refused.
#[must_use]
pub fn is_refused(addr: SocketAddr) -> bool {
    let connected = std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(5));
    connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::supervisor::Signal;

    fn shell(script: &str) -> Ended {
        let host = BareEnvoy::new(Path::new("/bin/sh"));
        host.run(["-c", script]).wait()
    }

    #[test]
    fn an_end_is_told_by_its_code_or_signal_and_its_last_words() {
        shell("echo why >&2; exit 3").assert_exit(3, "why");
        shell("echo why; kill -ABRT $$").assert_signal(Signal::ABORT, "why");
    }

    #[test]
    #[should_panic(expected = "no \"because\" in:")]
    fn missing_words_are_named_beside_what_was_said() {
        shell("echo why >&2; exit 3").assert_exit(3, "because");
    }

    #[test]
    fn a_flag_is_passed_once_with_its_last_value() {
        let host = BareEnvoy::new(Path::new("/bin/sh")).with_flag("--concurrency", "7");
        let words = host.arguments(4, &host.config("v4"));
        let value = |flag: &str| {
            let places = words.windows(2).filter(|pair| pair[0] == *flag);
            let values = places.map(|pair| pair[1].to_str().unwrap());
            values.collect::<Vec<_>>()
        };
        assert_eq!(value("--concurrency"), ["7"]);
        assert_eq!(value("--restart-epoch"), ["4"]);
        assert_eq!(value("--base-id"), [host.base_id().to_string()]);
    }

    #[test]
    fn the_flags_are_a_word_at_their_place() {
        let host = BareEnvoy::new(Path::new("/bin/sh"));
        assert_eq!(host.flags(), None);
        fs::write(host.shared_memory(), [0; 104]).unwrap();
        host.write_flags(3);
        host.wait_flags(3);
        assert_eq!(word(&host.memory(), 96), Some(3));
        assert_eq!(word(&host.memory(), 97), None);
    }

    #[test]
    fn a_port_is_refused_until_somebody_listens() {
        let host = BareEnvoy::new(Path::new("/bin/sh"));
        assert!(host.is_refused());
        let _listener = std::net::TcpListener::bind(host.web()).unwrap();
        assert!(!host.is_refused());
        assert!(host.is_admin_refused());
    }
}
