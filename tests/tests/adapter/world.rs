//! An agent with an Envoy, a client that counts what is lost, and a guard that nothing is left.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::retry::Retry;
use handover_core::{Epoch, Event, Outcome, Policy, Standing, Urgency};
use handover_envoy::args::{ArgsOptions, DrainStrategy};
use handover_envoy::hot_restart::{BaseId, BaseIdChoice};
use handover_envoy::{Envoy, EnvoyBuilder, EnvoyConfig};
use handover_process::Line;
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::backend::Backend;
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_config::{self, Break};
use handover_test_support::http;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::{self, within};
use handover_test_support::load::{Load, Mix, Report};
use handover_test_support::ports::{self, Port};
use handover_tokio::{Agent, Handle, NotLive};
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::children::{Hunt, Prey};

/// Longer than anything here takes on a busy machine; a wait that is over is over at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a test wants different.
pub(crate) struct Setup {
    pub(crate) policy: Policy,
    pub(crate) drain_time: Duration,
    pub(crate) parent_shutdown_time: Duration,
    pub(crate) drain_strategy: DrainStrategy,
    pub(crate) load: Mix,
    /// Further settings.
    pub(crate) settings: Box<dyn FnOnce(EnvoyBuilder) -> EnvoyBuilder + Send>,
}

impl Default for Setup {
    /// Two retries, the parent ends after 3 s, a light load with one request of half a second at
    /// any time.
    fn default() -> Self {
        let retry = Retry {
            max_retries: 2,
            ..Policy::resilient().retry
        };
        Self {
            policy: Policy {
                retry,
                ..Policy::resilient()
            },
            drain_time: Duration::from_secs(2),
            parent_shutdown_time: Duration::from_secs(3),
            drain_strategy: DrainStrategy::Gradual,
            load: Mix {
                slow: Some((1, Duration::from_millis(500))),
                pause: Some(Duration::from_millis(3)),
                ..Mix::default()
            },
            settings: Box::new(|builder| builder),
        }
    }
}

impl Setup {
    /// Old epochs are gone soon, so that the next change need not wait for them.
    pub(crate) fn brisk() -> Self {
        let setup = Self::default();
        Self {
            drain_time: Duration::from_secs(1),
            parent_shutdown_time: Duration::from_secs(2),
            drain_strategy: DrainStrategy::Immediate,
            load: Mix {
                slow: Some((1, Duration::from_millis(200))),
                ..setup.load
            },
            ..setup
        }
    }

    /// The most clients that can have a request under way at once.
    pub(crate) fn clients(&self) -> u64 {
        let slow = self.load.slow.map_or(0, |(count, _)| count);
        let clients = self.load.new_connections + self.load.keep_alive + slow;
        u64::try_from(clients).expect("a small number")
    }
}

pub(crate) struct World {
    pub(crate) handle: Handle<Arc<EnvoyConfig>>,
    pub(crate) envoy: Arc<Envoy>,
    running: JoinHandle<Outcome>,
    events: broadcast::Receiver<Event>,
    backend: Backend,
    admin: Port,
    listener: Port,
    load: Option<Load>,
    mix: Mix,
    program: AnyEnvoy,
    leftovers: Leftovers,
    base_id: ports::BaseId,
    dir: TempDir,
}

impl World {
    pub(crate) async fn start(envoy: &AnyEnvoy) -> Self {
        Self::with(envoy, Setup::default()).await
    }

    /// An agent that runs nothing yet.
    pub(crate) async fn idle(envoy: &AnyEnvoy, setup: Setup) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let base_id = ports::BaseId::free();
        let listener = Port::free();
        let leftovers = Leftovers::watch()
            .base_id(base_id.number())
            .listener(listener.addr())
            .directory(dir.path().join("run"))
            .directory(dir.path().join("locks"));
        // The words of the fake go where the user's own ones go.
        let extra = envoy.arguments();
        let args = ArgsOptions {
            extra,
            concurrency: std::num::NonZeroU32::new(2),
            drain_time: setup.drain_time,
            parent_shutdown_time: setup.parent_shutdown_time,
            drain_strategy: setup.drain_strategy,
            ..ArgsOptions::default()
        };
        let builder = builder(envoy.path(), base_id.number(), dir.path()).args(args);
        let proxy = (setup.settings)(builder).build();
        let proxy = Arc::new(proxy.expect("the settings are good"));
        let agent =
            Agent::new(Arc::clone(&proxy), setup.policy).expect("the policy can be honoured");
        let handle = agent.handle();
        let events = handle.events();
        let running = tokio::spawn(agent.run(std::future::pending()));
        Self {
            handle,
            envoy: proxy,
            running,
            events,
            backend: Backend::start(),
            admin: Port::free(),
            listener,
            load: None,
            mix: setup.load,
            program: envoy.clone(),
            leftovers,
            base_id,
            dir,
        }
    }

    /// An agent whose epoch 0 serves `v0` under load.
    pub(crate) async fn with(envoy: &AnyEnvoy, setup: Setup) -> Self {
        let mut world = Self::idle(envoy, setup).await;
        world.hand_over("v0", 0).await;
        world.start_load();
        world.served_by("v0").await;
        world
    }

    /// A configuration with this text, at its place.
    pub(crate) fn config_of(&self, text: &str) -> Arc<EnvoyConfig> {
        let path = self.dir.path().join("envoy.yaml");
        envoy_config::replace_file(&path, text.as_bytes());
        Arc::new(EnvoyConfig::read(&path).expect("it can be read"))
    }

    /// The ports of the listener and of the admin endpoint, and the upstream.
    pub(crate) fn addresses(&self) -> (SocketAddr, SocketAddr, SocketAddr) {
        (self.listener.addr(), self.admin.addr(), self.backend.addr())
    }

    /// How long something takes for which a real Envoy takes this long.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        self.program.scaled(time)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn start_load(&mut self) {
        self.load = Some(Load::start(self.listener.addr(), self.mix.clone()));
    }

    pub(crate) fn load(&self) -> &Load {
        self.load.as_ref().expect("the load runs")
    }

    pub(crate) fn failed(&self) -> u64 {
        self.load().progress().failed
    }

    /// The text of a configuration with this name, at its place.
    pub(crate) fn write(&self, name: &str, broken: Option<Break>) -> PathBuf {
        let config =
            envoy_config::EnvoyConfig::new(name, self.admin.number(), self.listener.number())
                .backend(self.backend.addr());
        let config = match broken {
            Some(broken) => config.broken(broken),
            None => config,
        };
        let path = self.dir.path().join("envoy.yaml");
        config.write_to(&path);
        path
    }

    /// A configuration with something different.
    pub(crate) fn config_with(
        &self,
        name: &str,
        change: impl FnOnce(envoy_config::EnvoyConfig) -> envoy_config::EnvoyConfig,
    ) -> Arc<EnvoyConfig> {
        let config =
            envoy_config::EnvoyConfig::new(name, self.admin.number(), self.listener.number())
                .backend(self.backend.addr());
        let path = self.dir.path().join("envoy.yaml");
        change(config).write_to(&path);
        Arc::new(EnvoyConfig::read(&path).expect("it can be read"))
    }

    pub(crate) fn config(&self, name: &str, broken: Option<Break>) -> Arc<EnvoyConfig> {
        let path = self.write(name, broken);
        Arc::new(EnvoyConfig::read(&path).expect("it can be read"))
    }

    /// Asks for a configuration and waits until it is live or not wanted any more.
    pub(crate) async fn apply(&self, name: &str, broken: Option<Break>) -> Result<Epoch, NotLive> {
        let config = self.config(name, broken);
        let applied = self.handle.apply_and_wait(config);
        within(LIMIT, &format!("{name} to be settled"), applied).await
    }

    /// Changes the configuration and waits until it serves as this epoch.
    pub(crate) async fn hand_over(&self, name: &str, epoch: u32) {
        self.hand_over_now(name, epoch).await;
        if self.load.is_some() {
            self.served_by(name).await;
        }
    }

    /// Changes the configuration and waits until it is live as this epoch, and no longer.
    pub(crate) async fn hand_over_now(&self, name: &str, epoch: u32) {
        let live = self.apply(name, None).await;
        let live = live.unwrap_or_else(|error| panic!("{name} does not go live: {error}"));
        assert_eq!(live, Epoch::new(epoch), "{name}");
    }

    /// Waits until a hundred more responses have come from this configuration.
    pub(crate) async fn served_by(&self, name: &str) {
        let load = self.load();
        load.mark(name);
        let before = load.progress().ok_from(name);
        let served = async {
            while load.progress().ok_from(name) < before + 100 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        within(LIMIT, &format!("100 responses of {name}"), served).await;
    }

    /// The process of the newest epoch with this number.
    pub(crate) fn process(&self, epoch: u32) -> Prey {
        let hunt = Hunt::new(self.base_id.number(), epoch);
        // The kernel may pass a child over in its list while another one ends.
        let found = limit::poll(Duration::from_secs(5), || hunt.look());
        found.unwrap_or_else(|| panic!("epoch {epoch} does not run"))
    }

    /// Waits on a thread of its own for the next process with this epoch, and acts on it.
    pub(crate) fn hunt<T: Send + 'static>(
        &self,
        epoch: u32,
        act: impl FnOnce(Prey) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let hunt = Hunt::new(self.base_id.number(), epoch);
        tokio::task::spawn_blocking(move || act(hunt.wait(LIMIT)))
    }

    /// Waits until a request succeeds on a connection of its own, and says when.
    pub(crate) async fn next_success(&self) -> Instant {
        let addr = self.listener.addr();
        let asking = tokio::task::spawn_blocking(move || {
            let end = Instant::now() + LIMIT;
            loop {
                if http::get(addr, "/", Duration::from_secs(1)).is_ok() {
                    return Instant::now();
                }
                assert!(Instant::now() < end, "nobody serves on {addr}");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        asking.await.expect("it is served")
    }

    /// Waits until this is the state of things.
    pub(crate) async fn until(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !is(self) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        within(LIMIT, what, wait).await;
    }

    /// Waits until one of these epochs is live with a process that is not this one, and returns its number.
    pub(crate) async fn live_instead_of(&self, pid: u32, epochs: RangeInclusive<u32>) -> u32 {
        let mut live = None;
        let is_another = |world: &Self| {
            live = epochs.clone().find(|epoch| {
                let process = Hunt::new(world.base_id.number(), *epoch).look();
                world.is_live(*epoch) && process.is_some_and(|process| process.pid != pid)
            });
            live.is_some()
        };
        self.until("another process to be live", is_another).await;
        live.expect("it was waited for")
    }

    /// The highest number that runs.
    pub(crate) fn newest(&self) -> u32 {
        let status = self.handle.status();
        let newest = status
            .borrow()
            .epochs
            .last()
            .map(|info| info.epoch.number());
        newest.expect("an epoch runs")
    }

    /// Whether the agent has seen this epoch live.
    pub(crate) fn is_live(&self, epoch: u32) -> bool {
        let status = self.handle.status();
        let standing = status.borrow().standing;
        standing == Standing::Live(Epoch::new(epoch))
    }

    /// The events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// The port on which the epochs listen.
    pub(crate) fn listener_port(&self) -> u16 {
        self.listener.number()
    }

    pub(crate) fn base_id(&self) -> u32 {
        self.base_id.number()
    }

    /// The base ids that the agent has locked.
    pub(crate) fn owned_base_ids(&self) -> BTreeSet<u32> {
        let locks =
            std::fs::read_dir(self.dir.path().join("locks")).expect("the directory is there");
        let names = locks.flatten().map(|lock| lock.file_name());
        names
            .filter_map(|name| {
                let number = name
                    .to_str()?
                    .strip_prefix("base-id-")?
                    .strip_suffix(".lock")?;
                number.parse().ok()
            })
            .collect()
    }

    pub(crate) fn admin(&self) -> EnvoyAdmin {
        EnvoyAdmin::on(self.admin.number())
    }

    /// Ends the load, then the agent, which must drain and leave nothing.
    pub(crate) async fn finish(self) -> Report {
        let status = self.handle.status();
        let (report, outcome) = self.end().await;
        let failure = status.borrow().last_failure.clone();
        let failure = failure.map(|failure| failure.message());
        assert_eq!(outcome, Outcome::Drained, "{failure:?}\n{report}");
        report
    }

    /// Ends the load.
    pub(crate) async fn stop_load(&mut self) -> Report {
        let report = match self.load.take() {
            Some(load) => load.stop().await,
            None => Report::default(),
        };
        println!("{report}");
        report
    }

    /// Ends the load, then the agent, which must leave nothing.
    pub(crate) async fn end(mut self) -> (Report, Outcome) {
        let report = self.stop_load().await;
        self.handle.terminate(Urgency::Drain);
        let outcome = self.outcome().await;
        (report, outcome)
    }

    /// Waits for the end of the agent, which must leave nothing.
    pub(crate) async fn outcome(self) -> Outcome {
        let outcome = within(LIMIT, "the end of the agent", self.running).await;
        // It has the lock of the base id.
        drop(self.envoy);
        self.leftovers.assert_nothing_left(Duration::from_secs(10));
        outcome.expect("the agent does not panic")
    }
}

/// An Envoy under this base id, with its files in this directory.
pub(crate) fn builder(envoy: &Path, base_id: u32, dir: &Path) -> EnvoyBuilder {
    Envoy::builder(envoy)
        .base_id(BaseIdChoice::Explicit(
            BaseId::new(base_id).expect("it is small"),
        ))
        .instance("test")
        .run_dir(dir.join("run"))
        .lock_dir(dir.join("locks"))
        .output(|line: &Line<'_>| {
            let epoch = line.source.epoch.unwrap_or_default();
            println!("[{epoch}] {}", String::from_utf8_lossy(line.bytes));
        })
}

/// More rounds where `HANDOVER_SOAK=1` asks for the long version of a test.
pub(crate) fn rounds(quick: u32, soak: u32) -> u32 {
    if is_soak() { soak } else { quick }
}

pub(crate) fn is_soak() -> bool {
    std::env::var_os("HANDOVER_SOAK").is_some_and(|value| value == "1")
}

/// The middle and the largest of some times.
pub(crate) fn median_and_worst(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median, times.last().copied().unwrap_or_default())
}
