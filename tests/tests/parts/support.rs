//! An Envoy of a test's own: base id, ports, files; all of it gone at the end.

use std::ffi::OsString;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use handover_envoy::admin::{AdminAddress, AdminClient, LivePoll, ServerInfo};
use handover_envoy::args::{ArgsOptions, EnvoyArgs};
use handover_envoy::bootstrap::Format;
use handover_envoy::files::RunDir;
use handover_envoy::hot_restart::{BaseIdChoice, BaseIdError, HostPaths, OwnedBaseId};
use handover_test_support::http;
use handover_test_support::ports::Port;

/// The hard limit of anything that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A place for the epochs of one Envoy.
pub(crate) struct Host {
    pub(crate) binary: PathBuf,
    pub(crate) run: RunDir,
    pub(crate) base_id: OwnedBaseId,
    pub(crate) args: EnvoyArgs,
    pub(crate) admin: SocketAddr,
    pub(crate) web: SocketAddr,
    _ports: [Port; 2],
    _dir: tempfile::TempDir,
    /// After `base_id`, whose lock file is in it.
    pub(crate) locks: Locks,
}

/// The directory of the locks: one for all test processes, so that none takes another's base id.
/// The last one to leave removes it.
pub(crate) struct Locks(pub(crate) PathBuf);

impl Locks {
    fn claim() -> (OwnedBaseId, Self) {
        let locks = Self(std::env::temp_dir().join("handover-test-locks"));
        let host = HostPaths::with_locks(&locks.0);
        loop {
            std::fs::create_dir_all(&locks.0).unwrap();
            match OwnedBaseId::claim(BaseIdChoice::Auto, "tests", &host) {
                // Somebody has left since the line above.
                Err(BaseIdError::Lock { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                claimed => return (claimed.unwrap(), locks),
            }
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        // Refused while others have their locks in it.
        std::fs::remove_dir(&self.0).ok();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Envoy never removes it. Every epoch is reaped by now, so this cannot be refused.
        self.base_id.remove_stale_shared_memory().ok();
    }
}

impl Host {
    pub(crate) fn new(binary: PathBuf) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let (base_id, locks) = Locks::claim();
        base_id.remove_stale_shared_memory().unwrap();
        let args = EnvoyArgs::new(ArgsOptions {
            drain_time: Duration::from_secs(1),
            parent_shutdown_time: Duration::from_secs(2),
            concurrency: NonZeroU32::new(2),
            log_level: Some("warning".to_owned()),
            ..ArgsOptions::default()
        })
        .unwrap();
        let (admin, web) = (Port::free(), Port::free());
        Self {
            binary,
            run: RunDir::create(&dir.path().join("run")).unwrap(),
            base_id,
            args,
            admin: admin.addr(),
            web: web.addr(),
            _ports: [admin, web],
            _dir: dir,
            locks,
        }
    }

    pub(crate) fn client(&self) -> AdminClient {
        AdminClient::new(AdminAddress::Tcp(self.admin))
    }

    /// A configuration with an admin endpoint, a listener that answers at once, and the path `/slow`
    /// that goes to the upstream.
    pub(crate) fn config(&self, upstream: SocketAddr) -> String {
        let (admin, web) = (self.admin, self.web);
        format!(
            r#"
admin: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
static_resources:
  listeners:
  - name: web
    address: {{socket_address: {{address: {}, port_value: {}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {{match: {{prefix: "/slow"}}, route: {{cluster: up, timeout: 20s}}}}
              - {{match: {{prefix: "/"}}, direct_response: {{status: 200, body: {{inline_string: hello}}}}}}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]
"#,
            admin.ip(),
            admin.port(),
            web.ip(),
            web.port(),
            upstream.ip(),
            upstream.port(),
        )
    }

    pub(crate) fn write(&self, epoch: u32, config: &str) -> PathBuf {
        self.run
            .write(epoch, Format::Yaml, config.as_bytes())
            .unwrap()
    }

    /// Starts an epoch with the configuration that was written for it.
    pub(crate) fn start(&self, epoch: u32) -> Epoch {
        let config = self.run.file(epoch, Format::Yaml);
        let args = self.args.serve(&config, epoch, self.base_id.id());
        Epoch::spawn(&self.binary, &args)
    }

    /// Starts an epoch with the usual configuration and waits until it is live.
    pub(crate) async fn start_live(&self, epoch: u32) -> Epoch {
        self.write(epoch, &self.config(self.web));
        let mut child = self.start(epoch);
        self.wait_live(epoch, &mut child).await;
        child
    }

    pub(crate) async fn wait_live(&self, epoch: u32, child: &mut Epoch) -> ServerInfo {
        let poll = LivePoll {
            limit: Some(LIMIT),
            ..LivePoll::default()
        };
        match self.client().wait_live(epoch, &poll).await {
            Ok(info) => info,
            Err(error) => panic!("{error}: {:?} {}", child.kill(), child.stderr()),
        }
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self) -> std::io::Result<String> {
        get(self.web, "/")
    }
}

/// One Envoy process, killed when dropped.
pub(crate) struct Epoch {
    child: Child,
    stderr: Option<std::thread::JoinHandle<String>>,
    text: String,
}

impl Epoch {
    pub(crate) fn spawn(binary: &Path, args: &[OsString]) -> Self {
        let mut child = Command::new(binary)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            child,
            stderr: Some(reader),
            text: String::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.child.kill().ok();
        self.child.wait().unwrap()
    }

    /// Waits for the end, which must come within the limit.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < LIMIT, "Envoy does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// All of standard error, once the process has ended.
    pub(crate) fn stderr(&mut self) -> String {
        if let Some(reader) = self.stderr.take() {
            self.text = reader.join().unwrap();
        }
        self.text.clone()
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A request and its body, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let response = http::get(address, path, LIMIT)?;
    match response.status {
        200 => Ok(response.text()),
        _ => Err(std::io::Error::other(format!("{response:?}"))),
    }
}
