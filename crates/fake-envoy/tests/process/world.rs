//! Epochs on ports and a base id of their own, and a guard that nothing is left behind.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_fake_envoy::{Settings, VARIABLE};
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_config::EnvoyConfig;
use handover_test_support::http;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::ports::{BaseId, Port};
use handover_test_support::supervisor::{Launch, Supervisor};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; a wait that is over is over at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The fake Envoy that cargo built for these tests.
pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_handover-fake-envoy");

pub(crate) struct World {
    pub(crate) dir: TempDir,
    admin: Port,
    listener: Port,
    base_id: BaseId,
    leftovers: Leftovers,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("the world of the test can be made");
        let (admin, listener, base_id) = (Port::free(), Port::free(), BaseId::free());
        let leftovers = Leftovers::watch()
            .base_id(base_id.number())
            .listener(listener.addr());
        Self {
            dir,
            admin,
            listener,
            base_id,
            leftovers,
        }
    }

    pub(crate) fn config(&self, name: &str) -> EnvoyConfig {
        EnvoyConfig::new(name, self.admin.number(), self.listener.number())
    }

    /// Writes a configuration with this name, which its responses tell.
    pub(crate) fn write(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.yaml"));
        self.config(name).write_to(&path);
        path
    }

    /// An epoch of any Envoy with the configuration `v0`, `v1` and so on.
    pub(crate) fn launch(&self, envoy: impl AsRef<Path>, epoch: u32, fake: &str) -> Launch {
        let file = self.write(&format!("v{epoch}"));
        // A text that is no setting would be found by the process only.
        let _settings: Settings = fake.parse().expect("the world of the test can be made");
        Launch::program(envoy.as_ref())
            .tag(self.leftovers.tag())
            .arg("-c")
            .arg(file)
            .args(["--restart-epoch", &epoch.to_string()])
            .args(["--base-id", &self.base_id.number().to_string()])
            .args(["--drain-time-s", "1", "--parent-shutdown-time-s", "2"])
            .args(["--concurrency", "2"])
            .env(VARIABLE, fake)
    }

    /// Starts a fake epoch.
    pub(crate) fn start(&self, epoch: u32, fake: &str) -> Supervisor {
        self.launch(FAKE, epoch, fake).start()
    }

    /// Starts a fake epoch and waits until it is live.
    pub(crate) fn live(&self, epoch: u32, fake: &str) -> Supervisor {
        let started = self.start(epoch, fake);
        self.endpoint().wait_live(epoch.into(), LIMIT);
        started
    }

    pub(crate) fn endpoint(&self) -> EnvoyAdmin {
        EnvoyAdmin::on(self.admin.number())
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.addr()
    }

    pub(crate) fn clients(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// A page of the admin endpoint: its status and its text.
    pub(crate) fn page(&self, path: &str) -> Option<(u16, String)> {
        let page = http::get(self.admin(), path, Duration::from_secs(2)).ok()?;
        Some((page.status, page.text()))
    }

    /// Which configuration serves.
    pub(crate) fn served(&self) -> Option<String> {
        let page = http::get(self.clients(), "/", Duration::from_secs(2)).ok()?;
        (page.status == 200).then(|| page.text())
    }

    /// Starts clients, and waits for their first answers.
    pub(crate) fn load(&self) -> Load {
        let load = Load::start(self.clients(), Mix::default());
        eventually(LIMIT, "the first answers", || {
            (load.progress().ok > 20).then_some(())
        });
        load
    }

    /// Whether the flag in shared memory is set.
    pub(crate) fn flag(&self) -> bool {
        let mut word = [0; 8];
        let memory = std::fs::File::open(self.base_id.shared_memory())
            .expect("the world of the test can be made");
        memory
            .read_exact_at(&mut word, 96)
            .expect("the world of the test can be made");
        u64::from_ne_bytes(word) == 1
    }

    /// Clears the flag, as an agent does after it has reaped a failed epoch.
    pub(crate) fn clear_flag(&self) {
        let memory = OpenOptions::new()
            .write(true)
            .open(self.base_id.shared_memory())
            .expect("the world of the test can be made");
        memory
            .write_all_at(&[0; 8], 96)
            .expect("the world of the test can be made");
    }

    /// Ends the world. Envoy leaves its shared memory; all the rest must be gone.
    pub(crate) fn finish(self) {
        let _was_made = std::fs::remove_file(self.base_id.shared_memory());
        self.leftovers.assert_nothing_left(LIMIT);
    }
}
