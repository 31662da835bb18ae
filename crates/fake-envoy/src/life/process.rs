//! A process with a configuration.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::admin::{AdminServer, Backend, Effect, ServerState, ShownListener, View};
use crate::arguments::{DrainStrategy, Mode};
use crate::context::Context;
use crate::faults::Habit;
use crate::serve::{Bound, Service};
use crate::statistics::{Import, Statistics};

/// A process with a configuration.
#[derive(Debug)]
pub(super) struct Process {
    /// For what is done later.
    me: Weak<Self>,
    pub(super) context: Rc<Context>,
    pub(super) service: Arc<Service>,
    pub(super) state: Cell<ServerState>,
    pub(super) bound: RefCell<Vec<Bound>>,
    pub(super) admin: RefCell<Option<AdminServer>>,
    /// Who is waited for: the manager that waits, and for what.
    pub(super) targets: RefCell<Vec<(String, String)>>,
    started: Instant,
    /// When the first epoch started, in seconds of Unix time.
    pub(super) original_start: Cell<u64>,
}

impl Process {
    pub(super) fn new(context: Rc<Context>, service: Arc<Service>) -> Rc<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            context,
            service,
            state: Cell::new(ServerState::PreInitializing),
            bound: RefCell::default(),
            admin: RefCell::default(),
            targets: RefCell::default(),
            started: Instant::now(),
            original_start: Cell::new(now.unwrap_or_default().as_secs()),
        })
    }

    /// Closes the listeners of this process. Open connections go on.
    pub(super) fn stop_listeners(&self, inbound_only: bool) {
        for bound in self.bound.borrow_mut().iter_mut() {
            if bound.listener.is_inbound || !inbound_only {
                bound.stop();
                let stopped = "listener_manager.listener_stopped";
                self.service.statistics.counter(stopped).add(1);
            }
        }
    }

    /// Returns the state with failed health checks in it.
    fn shown_state(&self) -> ServerState {
        match self.state.get() {
            ServerState::Live if self.service.drain.health_failed() => ServerState::Draining,
            state @ (ServerState::Live
            | ServerState::Draining
            | ServerState::PreInitializing
            | ServerState::Initializing) => state,
        }
    }

    /// Sets the statistics that nobody counts.
    fn refresh(&self) {
        let statistics = &self.service.statistics;
        let set = |name: &str, value| statistics.gauge(name, Import::Never).set(value);
        let state = self.shown_state();
        set("server.state", state.number());
        set("server.live", u64::from(state == ServerState::Live));
        set("server.uptime", self.started.elapsed().as_secs());
        set("server.total_connections", self.total_connections());
        set("server.memory_allocated", memory());
    }

    fn total_connections(&self) -> u64 {
        let parent = self
            .service
            .statistics
            .gauge("server.parent_connections", Import::Never);
        self.service.connections.get().saturating_add(parent.get())
    }

    /// Counts listeners that are there from now on.
    pub(super) fn count_listeners(&self, listeners: u64) {
        let statistics: &Statistics = &self.service.statistics;
        let active = "listener_manager.total_listeners_active";
        statistics.gauge(active, Import::Never).add(listeners);
        for name in ["listener_added", "listener_create_success"] {
            let name = format!("listener_manager.{name}");
            statistics.counter(&name).add(listeners);
        }
    }

    /// Makes the statistics that are there from the beginning.
    pub(super) fn prepare_statistics(&self) {
        let arguments = &self.context.arguments;
        let statistics: &Statistics = &self.service.statistics;
        let set = |name: &str, value| statistics.gauge(name, Import::Never).set(value);
        set("server.concurrency", arguments.concurrency.into());
        set("server.hot_restart_epoch", arguments.restart_epoch.into());
        set("server.parent_connections", 0);
        set("listener_manager.total_listeners_warming", 0);
        set("listener_manager.total_listeners_draining", 0);
        let clusters = &self.service.bootstrap.clusters;
        set(
            "cluster_manager.active_clusters",
            u64::try_from(clusters.len()).unwrap_or(u64::MAX),
        );
        set("cluster_manager.warming_clusters", 0);
        for cluster in clusters {
            set(&format!("cluster.{}.warming_state", cluster.name), 0);
        }
        statistics.counter("listener_manager.listener_create_failure");
        statistics.gauge("listener_manager.workers_started", Import::Never);
        self.refresh();
    }
}

impl Backend for Process {
    fn view(&self) -> View {
        self.refresh();
        let arguments = &self.context.arguments;
        let settings = &arguments.settings;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let habits = self.context.habits();
        let bound = self.bound.borrow();
        let listeners = bound.iter().map(|bound| {
            let listener = &bound.listener;
            ShownListener {
                name: listener.name.clone(),
                address: listener.address.clone(),
                is_additional: listener.is_additional,
            }
        });
        let admin = self.service.bootstrap.admin.as_ref();
        View {
            state: self.shown_state(),
            version: version_text(&settings.version),
            hot_restart_version: if arguments.disable_hot_restart {
                "disabled".to_owned()
            } else {
                settings.hot_restart_version.to_string()
            },
            restart_epoch: arguments.restart_epoch,
            options: options(&self.context),
            uptime: self.started.elapsed().as_secs(),
            uptime_all_epochs: now.saturating_sub(self.original_start.get()),
            listeners: listeners.collect(),
            clusters: self
                .service
                .bootstrap
                .clusters
                .iter()
                .map(|it| it.name.clone())
                .collect(),
            allow: admin.map(|admin| admin.allow.clone()).unwrap_or_default(),
            statistics: self.service.statistics.all(),
            targets: self.targets.borrow().clone(),
            document: self.service.bootstrap.document.clone(),
            memory: memory(),
            habits,
        }
    }

    fn perform(&self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Quit => {
                let context = Rc::clone(&self.context);
                tokio::task::spawn_local(async move { context.terminate().await });
            }
            Effect::FailHealthChecks => self.service.drain.set_health_failed(true),
            Effect::PassHealthChecks => self.service.drain.set_health_failed(false),
            Effect::ReopenLogs => {
                self.context.info("admin.cc:1", "reopening access logs");
                self.context.log.reopen();
            }
            Effect::Drain {
                graceful: false,
                inbound_only,
                ..
            } => self.stop_listeners(inbound_only),
            // The listeners stay until the drain is over, or for ever.
            Effect::Drain {
                skip_exit: true, ..
            } => self.service.drain.begin(),
            Effect::Drain { inbound_only, .. } => self.drain_gracefully(inbound_only),
        }
    }
}

impl Process {
    fn drain_gracefully(&self, inbound_only: bool) {
        self.service.drain.begin();
        let (time, me) = (self.service.drain.time(), self.me.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            if let Some(process) = me.upgrade() {
                process.stop_listeners(inbound_only);
            }
        });
    }
}

/// The text of `--version` behind the colon.
pub(crate) fn version_text(number: &str) -> String {
    format!("handover-fake-envoy/{number}/Clean/RELEASE/BoringSSL")
}

/// How much memory the process has, in bytes; 0 if the system does not tell.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    pages.unwrap_or(0_u64).saturating_mul(page)
}

fn options(context: &Context) -> Value {
    let arguments = &context.arguments;
    let path = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref().map(|path| path.display().to_string());
        path.unwrap_or_default()
    };
    json!({
        "base_id": arguments.base_id.to_string(),
        "use_dynamic_base_id": arguments.use_dynamic_base_id,
        "base_id_path": path(&arguments.base_id_path),
        "concurrency": arguments.concurrency,
        "config_path": path(&arguments.config_path),
        "config_yaml": arguments.config_yaml.clone().unwrap_or_default(),
        "log_level": arguments.log_level,
        "log_path": path(&arguments.log_path),
        "service_cluster": arguments.service_cluster,
        "service_node": arguments.service_node,
        "drain_time": format!("{}s", arguments.drain_time.as_secs()),
        "parent_shutdown_time": format!("{}s", arguments.parent_shutdown_time.as_secs()),
        "drain_strategy": match arguments.drain_strategy {
            DrainStrategy::Gradual => "Gradual",
            DrainStrategy::Immediate => "Immediate",
        },
        "mode": match arguments.mode {
            Mode::Serve => "Serve",
            Mode::Validate => "Validate",
            Mode::InitOnly => "InitOnly",
        },
        "disable_hot_restart": arguments.disable_hot_restart,
        "restart_epoch": arguments.restart_epoch,
        "socket_path": arguments.socket_path,
        "socket_mode": arguments.socket_mode,
        "skip_hot_restart_on_no_parent": arguments.skip_hot_restart_on_no_parent,
        "skip_hot_restart_parent_stats": arguments.skip_hot_restart_parent_stats,
    })
}

/// Applies the faults that work on the workers.
pub(super) fn apply_habits(process: &Process) {
    let slow = process.context.habits().value(|habit| {
        if let Habit::SlowAnswers(time) = habit {
            Some(*time)
        } else {
            None
        }
    });
    process.service.set_slow_answers(slow.unwrap_or_default());
}
