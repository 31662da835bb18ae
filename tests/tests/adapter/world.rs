//! An agent with a real Envoy, a client that counts what is lost, and a guard that nothing is left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Epoch, Outcome, Policy};
use handover_envoy::admin::LivePoll;
use handover_envoy::args::ArgsOptions;
use handover_envoy::hot_restart::{BaseId, BaseIdChoice};
use handover_envoy::{Envoy, EnvoyConfig, EnvoySettings, StopOptions};
use handover_tests::backend::Backend;
use handover_tests::envoy_admin::EnvoyAdmin;
use handover_tests::envoy_config::{self, Break};
use handover_tests::limit::{eventually, within};
use handover_tests::load::{Load, Mix};
use handover_tests::ports::{self, Port};
use handover_tokio::process::Line;
use handover_tokio::{Agent, Handle, NotLive};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) struct World {
    handle: Handle<Arc<EnvoyConfig>>,
    running: JoinHandle<Outcome>,
    backend: Backend,
    admin: Port,
    listener: Port,
    pub(crate) load: Option<Load>,
    dir: TempDir,
    pids: Arc<Mutex<BTreeMap<Epoch, u32>>>,
    _base_id: ports::BaseId,
}

impl World {
    pub(crate) async fn start(envoy: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let base_id = ports::BaseId::free();
        let pids = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = Arc::clone(&pids);
        let settings = EnvoySettings {
            binary: envoy.to_owned(),
            args: ArgsOptions {
                drain_time: Duration::from_secs(2),
                parent_shutdown_time: Duration::from_secs(3),
                concurrency: std::num::NonZeroU32::new(2),
                ..ArgsOptions::default()
            },
            base_id: BaseIdChoice::Explicit(BaseId::new(base_id.number()).expect("it is small")),
            instance: "test".into(),
            run_dir: dir.path().join("run"),
            lock_dir: dir.path().join("locks"),
            output: Arc::new(move |line: &Line<'_>| {
                let epoch = Epoch::new(line.source.epoch.unwrap_or_default());
                seen.lock()
                    .expect("no panic")
                    .insert(epoch, line.source.pid);
                println!(
                    "[{:?}] {}",
                    line.source.epoch,
                    String::from_utf8_lossy(line.bytes)
                );
            }),
            live_poll: LivePoll::default(),
            stop: StopOptions::default(),
            repair: true,
        };
        let proxy = Arc::new(Envoy::new(settings).expect("the settings are good"));
        let retry = Retry {
            max_retries: 2,
            ..Policy::resilient().retry
        };
        let policy = Policy {
            retry,
            ..Policy::resilient()
        };
        let agent = Agent::new(proxy, policy).expect("the policy can be honoured");
        let handle = agent.handle();
        let running = tokio::spawn(agent.run(std::future::pending()));
        Self {
            handle,
            running,
            backend: Backend::start(),
            admin: Port::free(),
            listener: Port::free(),
            load: None,
            dir,
            pids,
            _base_id: base_id,
        }
    }

    pub(crate) fn config(&self, name: &str, broken: Option<Break>) -> Arc<EnvoyConfig> {
        let config =
            envoy_config::EnvoyConfig::new(name, self.admin.number(), self.listener.number())
                .backend(self.backend.addr());
        let config = match broken {
            Some(broken) => config.broken(broken),
            None => config,
        };
        let path: PathBuf = self.dir.path().join("envoy.yaml");
        config.write_to(&path);
        Arc::new(EnvoyConfig::read(&path).expect("the file is there"))
    }

    /// Asks for a configuration and waits until it is live; the load starts with the first one.
    pub(crate) async fn apply(
        &mut self,
        name: &str,
        broken: Option<Break>,
    ) -> Result<Epoch, NotLive> {
        let config = self.config(name, broken);
        let limit = Duration::from_secs(30);
        let result = within(
            limit,
            "the configuration",
            self.handle.apply_and_wait(config),
        )
        .await;
        if result.is_ok() && self.load.is_none() {
            let slow = Some((1, Duration::from_millis(500)));
            self.load = Some(Load::start(
                self.listener.addr(),
                Mix {
                    slow,
                    ..Mix::default()
                },
            ));
        }
        result
    }

    /// Waits until a hundred responses have come from this configuration.
    pub(crate) async fn served_by(&self, name: &str) {
        let load = self.load.as_ref().expect("the load runs");
        load.mark(name);
        let before = load.progress().ok_from(name);
        eventually(Duration::from_secs(10), name, || {
            (load.progress().ok_from(name) > before + 100).then_some(())
        });
    }

    /// Kills the process of this epoch.
    pub(crate) fn kill(&self, epoch: Epoch) {
        let pid = self.pids.lock().expect("no panic")[&epoch];
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .expect("it is a process id");
        kill_process(pid, Signal::KILL).expect("the process runs");
    }

    pub(crate) fn admin(&self) -> EnvoyAdmin {
        EnvoyAdmin::on(self.admin.number())
    }

    pub(crate) async fn terminate(self) -> Outcome {
        self.handle.terminate();
        self.running.await.expect("the agent does not panic")
    }
}
