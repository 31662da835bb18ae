//! `handover run` on a real Envoy, with a client that counts what is lost and a guard that nothing
//! is left behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_test_support::backend::Backend;
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_config::{self, Break};
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::ports::{BaseId, Port};
use handover_test_support::report::Report;
use handover_test_support::supervisor::{Launch, Signal, Supervisor};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; a wait that is over is over at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The places and ports of one test.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) backend: Backend,
    pub(crate) admin: Port,
    pub(crate) listener: Port,
    base_id: BaseId,
    leftovers: Leftovers,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let (admin, listener, base_id) = (Port::free(), Port::free(), BaseId::free());
        let leftovers = Leftovers::watch()
            .base_id(base_id.number())
            .listener(listener.addr())
            .directory(dir.path().join("run"));
        Self {
            dir,
            backend: Backend::start(),
            admin,
            listener,
            base_id,
            leftovers,
        }
    }

    /// Where the configuration is.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("envoy.yaml")
    }

    pub(crate) fn config(&self, name: &str) -> envoy_config::EnvoyConfig {
        envoy_config::EnvoyConfig::new(name, self.admin.number(), self.listener.number())
            .backend(self.backend.addr())
    }

    pub(crate) fn write(&self, name: &str) {
        self.config(name).write_to(&self.file());
    }

    pub(crate) fn write_broken(&self, broken: Break) {
        self.config("broken").broken(broken).write_to(&self.file());
    }

    /// Where its control socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("handover.sock")
    }

    /// `handover run` with this site's places, not started yet.
    pub(crate) fn launch(&self, envoy: &Path) -> Launch {
        self.launch_with_times(envoy, "2s", "3s")
    }

    /// The same with another drain time and parent-shutdown time.
    pub(crate) fn launch_with_times(&self, envoy: &Path, drain: &str, shutdown: &str) -> Launch {
        self.in_its_places(self.launch_by_itself(envoy, drain, shutdown))
    }

    /// The same, without a configuration file.
    pub(crate) fn launch_without_file(&self, envoy: &Path) -> Launch {
        self.in_its_places(self.run(envoy, "2s", "3s"))
    }

    fn in_its_places(&self, launch: Launch) -> Launch {
        let base_id = self.base_id.number().to_string();
        launch
            .args(["--base-id", &base_id])
            .arg("--run-dir")
            .arg(self.dir.path().join("run"))
            // The lock of one that is killed stays for its next start, which a test does not make.
            .arg("--lock-dir")
            .arg(self.dir.path().join("locks"))
            .arg("--socket")
            .arg(self.socket())
    }

    /// The same with a base id and a run directory of its own choice, and no control socket.
    pub(crate) fn launch_by_itself(&self, envoy: &Path, drain: &str, shutdown: &str) -> Launch {
        let launch = self.run(envoy, drain, shutdown);
        launch.arg("--config-path").arg(self.file())
    }

    fn run(&self, envoy: &Path, drain: &str, shutdown: &str) -> Launch {
        Launch::handover()
            .tag(self.leftovers.tag())
            .arg("run")
            .arg("--envoy-path")
            .arg(envoy)
            .args(["--concurrency", "2"])
            .args(["--drain-time", drain, "--parent-shutdown-time", shutdown])
    }

    /// The base id of [`launch`](Self::launch).
    pub(crate) fn base_id(&self) -> u32 {
        self.base_id.number()
    }

    pub(crate) fn admin(&self) -> EnvoyAdmin {
        EnvoyAdmin::on(self.admin.number())
    }

    /// The file of Envoy's shared memory, where the base id is the one of this site.
    pub(crate) fn shared_memory(&self) -> PathBuf {
        self.base_id.shared_memory()
    }

    pub(crate) fn assert_nothing_left(&self) {
        assert!(!self.socket().exists(), "the control socket is left");
        self.leftovers.assert_nothing_left(Duration::from_secs(10));
    }
}

/// A supervised Envoy under load.
pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) supervisor: Supervisor,
    pub(crate) load: Load,
}

impl World {
    /// Starts with the configuration `v0` and waits until it serves.
    pub(crate) fn start(envoy: &Path, more: &[&str]) -> Self {
        Self::launch(envoy, |launch| launch.args(more))
    }

    /// The same with more than arguments.
    pub(crate) fn launch(envoy: &Path, more: impl FnOnce(Launch) -> Launch) -> Self {
        Self::launch_with_times(envoy, ("2s", "3s"), more)
    }

    /// The same with another drain time and parent-shutdown time.
    pub(crate) fn launch_with_times(
        envoy: &Path,
        (drain, shutdown): (&str, &str),
        more: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let site = Site::new();
        site.write("v0");
        let launch = site.launch_with_times(envoy, drain, shutdown);
        let supervisor = more(launch).start();
        site.admin().wait_live(0, LIMIT);
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        let slow = Some((1, Duration::from_millis(500)));
        let load = Load::start(
            site.listener.addr(),
            Mix {
                slow,
                ..Mix::default()
            },
        );
        let world = Self {
            site,
            supervisor,
            load,
        };
        world.served_by("v0");
        world
    }

    /// Waits until responses come from this configuration and from no other.
    pub(crate) fn served_by(&self, name: &str) {
        self.load.mark(name);
        let before = self.load.progress().ok_from(name);
        eventually(LIMIT, &format!("100 responses of {name}"), || {
            (self.load.progress().ok_from(name) >= before + 100).then_some(())
        });
    }

    /// Changes the configuration and waits until it serves as this epoch.
    pub(crate) fn hand_over(&self, name: &str, epoch: u64) {
        self.site.write(name);
        self.site.admin().wait_live(epoch, LIMIT);
        self.served_by(name);
    }

    /// The process that answers at the admin endpoint; there must be only one.
    pub(crate) fn only_envoy(&self) -> u32 {
        match self.supervisor.children().as_slice() {
            [envoy] => *envoy,
            others => panic!("one Envoy was expected, and there are {others:?}"),
        }
    }

    /// Ends the load, then the supervisor, which must end cleanly and leave nothing.
    pub(crate) async fn finish(mut self) -> Report {
        let report = self.load.stop().await;
        self.supervisor.signal(Signal::TERM);
        let status = self.supervisor.wait_exit(LIMIT);
        assert_eq!(status.code(), Some(0), "{status}");
        self.site.assert_nothing_left();
        report
    }
}
