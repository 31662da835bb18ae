//! The initialisation: from the configuration to a live process.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::hot_restart::HotRestart;
use super::process::{Process, apply_habits};
use super::{configuration, hear_signals, refused, tasks};
use crate::admin::{BoundAdmin, ServerState};
use crate::arguments::Mode;
use crate::child::{self, Child};
use crate::config::{Bootstrap, ConfigError, Listener, RouteConfig};
use crate::context::{Context, Ending};
use crate::faults::{Habit, Step};
use crate::log::Level;
use crate::serve::drain::Drain;
use crate::serve::{self, Bound, Service, StartError};
use crate::sources::{Resource, fetch};

/// How long the real process takes from its configuration to its listeners.
const UNTIL_LISTENERS: Duration = Duration::from_millis(8);

/// Initialises, and serves until the process is told to end.
pub(super) async fn initialise(context: &Rc<Context>, hot_restart: Option<HotRestart>) -> Ending {
    let bootstrap = match configuration(context) {
        Ok(bootstrap) => bootstrap,
        Err(ending) => return ending,
    };
    context.step(Step::Config).await;
    let hot_restart = hot_restart.map(Rc::new);
    match bring_up(context, hot_restart.as_ref(), bootstrap).await {
        Ok(()) if context.arguments.mode == Mode::InitOnly => {
            context.info("server.cc:1159", "exiting");
            Ending::clean()
        }
        // The process ends by a message, a signal or a call.
        Ok(()) => std::future::pending().await,
        Err(message) => refused(context, &message),
    }
}

async fn bring_up(
    context: &Rc<Context>,
    hot_restart: Option<&Rc<HotRestart>>,
    bootstrap: Bootstrap,
) -> Result<(), String> {
    let arguments = &context.arguments;
    let drain = Drain::new(
        arguments.drain_strategy,
        context.scaled_flag(arguments.drain_time),
    );
    let service = Arc::new(Service::new(bootstrap, drain));
    let process = Process::new(Rc::clone(context), service);
    apply_habits(&process);
    let admin = match arguments.mode {
        Mode::Serve => take_over_admin(&process)?,
        Mode::InitOnly | Mode::Validate => None,
    };
    context.step(Step::Admin).await;
    process.state.set(ServerState::Initializing);
    tokio::time::sleep(context.scaled(UNTIL_LISTENERS)).await;
    process.prepare_statistics();
    let listeners = process.service.bootstrap.static_listeners();
    let listeners = listeners.map_err(|ConfigError(message)| message)?;
    let count = listeners.iter().filter(|it| !it.is_additional).count();
    let text = format!("loading {count} listener(s)");
    context
        .log
        .line(Level::Info, "config", "configuration_impl.cc:148", &text);
    take_over_listeners(&process, listeners)?;
    begin_main_loop(&process, hot_restart, admin).map_err(|error| error.to_string())?;
    let fetched = fetched_listeners(&process).await;
    take_over_listeners(&process, fetched)?;
    context.step(Step::Listeners).await;
    let routes = routes(&process).await;
    if arguments.mode == Mode::InitOnly {
        return Ok(());
    }
    go_live(&process, &routes)?;
    let has_parent = context
        .child
        .borrow()
        .as_ref()
        .is_some_and(Child::has_parent);
    // Held up here, a real Envoy serves beside its parent.
    if !has_parent || context.is_held_at(Step::Live) {
        process.service.open();
    }
    context.step(Step::Live).await;
    tasks::keep_books(&process);
    hand_over(&process, hot_restart);
    context.step(Step::HandOver).await;
    Ok(())
}

/// Begins to hear signals, admin clients and the child. Envoy has the sockets of its static listeners by
/// then, so the answers of its admin endpoint mean that its parent may die.
fn begin_main_loop(
    process: &Rc<Process>,
    hot_restart: Option<&Rc<HotRestart>>,
    admin: Option<BoundAdmin>,
) -> io::Result<()> {
    hear_signals(&process.context)?;
    if let Some(hot_restart) = hot_restart {
        tasks::hear_child(process, hot_restart)?;
    }
    let statistics = &process.service.statistics;
    let admin = admin.map(|admin| admin.serve(statistics, Rc::clone(process)));
    process.admin.replace(admin.transpose()?);
    Ok(())
}

/// Ends the admin endpoint of the parent, and binds the own one.
fn take_over_admin(process: &Process) -> Result<Option<BoundAdmin>, String> {
    let context = &process.context;
    if let Some(shut_down) = context.with_child(Child::shut_down_admin) {
        process.original_start.set(shut_down.original_start_time);
    }
    let Some(admin) = &process.service.bootstrap.admin else {
        context.info(
            "server.cc:820",
            "No admin address given, so no admin HTTP server started.",
        );
        return Ok(None);
    };
    let address = &admin.address;
    if context.habits().has(&Habit::AdminClosed) {
        return Ok(None);
    }
    context.info(
        "server.cc:813",
        &format!("Starting admin HTTP server at {address}"),
    );
    let bound = BoundAdmin::bind(address).map_err(|error| {
        format!(
            "cannot bind '{address}': {}",
            crate::shared_memory::system_text(&error)
        )
    })?;
    if let Some(path) = &context.arguments.admin_address_path
        && let Err(error) = std::fs::write(path, address.to_string())
    {
        let text = format!(
            "cannot open admin address output file {} for writing: {error}",
            path.display()
        );
        context
            .log
            .line(Level::Critical, "main", "admin.cc:1", &text);
    }
    Ok(Some(bound))
}

fn take_over_listeners(process: &Process, mut listeners: Vec<Listener>) -> Result<(), String> {
    let context = &process.context;
    let workers = context.arguments.concurrency;
    if context.habits().has(&Habit::NoListeners) {
        listeners.clear();
    }
    let count = listeners.iter().filter(|it| !it.is_additional).count();
    process.count_listeners(u64::try_from(count).unwrap_or(u64::MAX));
    for listener in listeners {
        serve::prepare(&process.service, &listener, workers);
        let name = listener.name.clone();
        let inherit = |url: &str, worker| {
            Ok(context.with_child(|child, log| child.listen_socket(url, worker, log)))
        };
        let bound = Bound::new(listener, workers, inherit).map_err(|message| {
            let text =
                format!("listener '{name}' failed to bind or apply socket options: {message}");
            let source = "common/listener_manager/listener_manager_impl.cc:1405";
            context.log.line(Level::Error, "config", source, &text);
            message
        })?;
        process.bound.borrow_mut().push(bound);
    }
    Ok(())
}

/// Fetches the listeners of a management server.
async fn fetched_listeners(process: &Process) -> Vec<Listener> {
    let bootstrap = &process.service.bootstrap;
    let Some(source) = &bootstrap.lds else {
        return Vec::new();
    };
    let statistics = &process.service.statistics;
    statistics.text("listener_manager.lds.version_text", "");
    let limit = process.context.scaled(source.initial_fetch_timeout);
    let fetched = fetch(bootstrap, source, Resource::Listeners, &[], limit).await;
    let Some(fetched) = fetched else {
        statistics
            .counter("listener_manager.lds.init_fetch_timeout")
            .add(1);
        return Vec::new();
    };
    let mut listeners = Vec::new();
    let mut refused = Vec::new();
    for resource in &fetched.resources {
        match Listener::read(resource) {
            Ok(read) => listeners.extend(read),
            Err(ConfigError(message)) => {
                let name = resource.get("name").and_then(|name| name.as_str());
                refused.push(format!("{}: {message}", name.unwrap_or_default()));
            }
        }
    }
    // The good ones are taken, and the process goes on.
    if refused.is_empty() {
        statistics.text("listener_manager.lds.version_text", &fetched.version);
        statistics
            .counter("listener_manager.lds.update_success")
            .add(1);
    } else {
        let refused = refused.join("\n");
        reject(
            process,
            "listener_manager.lds",
            Resource::Listeners,
            &format!("Error adding/updating listener(s) {refused}\n"),
        );
    }
    listeners
}

/// Refuses what a management server has sent, and goes on with what there was before.
fn reject(process: &Process, prefix: &str, resource: Resource, why: &str) {
    let rejected = format!("{prefix}.update_rejected");
    process.service.statistics.counter(&rejected).add(1);
    let text = format!("REST config for {} rejected: {why}", resource.path());
    let source = "extensions/config_subscription/rest/http_subscription_impl.cc:124";
    process
        .context
        .log
        .line(Level::Warning, "config", source, &text);
}

/// Returns the routes of each listener, and waits for those that are fetched.
async fn routes(process: &Process) -> Vec<Arc<RouteConfig>> {
    let bootstrap = &process.service.bootstrap;
    let statistics = &process.service.statistics;
    let listeners: Vec<_> = {
        let bound = process.bound.borrow();
        bound
            .iter()
            .map(|bound| Arc::clone(&bound.listener))
            .collect()
    };
    let mut routes = Vec::new();
    for listener in listeners {
        let (name, source, prefix) = match &listener.http {
            None => {
                routes.push(Arc::default());
                continue;
            }
            Some(http) => match &http.routes {
                Ok(inline) => {
                    routes.push(Arc::new(inline.clone()));
                    continue;
                }
                Err((name, source)) => (name, source, &http.stat_prefix),
            },
        };
        let manager = format!(
            "init manager Listener-local-init-manager {} 1",
            listener.name
        );
        let target = format!("shared target RdsRouteConfigSubscription RDS init {name}");
        process.targets.borrow_mut().push((manager, target));
        let text = format!("http.{prefix}.rds.{name}.version_text");
        statistics.text(&text, "");
        let limit = process.context.scaled(source.initial_fetch_timeout);
        let fetched = fetch(bootstrap, source, Resource::Routes, &[name], limit).await;
        process.targets.borrow_mut().clear();
        let Some(fetched) = fetched else {
            let timeout = format!("http.{prefix}.rds.{name}.init_fetch_timeout");
            statistics.counter(&timeout).add(1);
            routes.push(Arc::default());
            continue;
        };
        let named = fetched.resources.iter();
        let mut named = named.filter(|it| it.get("name").and_then(|it| it.as_str()) == Some(name));
        let prefix = format!("http.{prefix}.rds.{name}");
        match named.next().map(RouteConfig::read).transpose() {
            Ok(read) => {
                statistics.text(&text, &fetched.version);
                statistics
                    .counter(&format!("{prefix}.update_success"))
                    .add(1);
                routes.push(Arc::new(read.unwrap_or_default()));
            }
            Err(ConfigError(message)) => {
                reject(process, &prefix, Resource::Routes, &message);
                routes.push(Arc::default());
            }
        }
    }
    routes
}

fn go_live(process: &Process, routes: &[Arc<RouteConfig>]) -> Result<(), String> {
    let context = &process.context;
    let workers = context.arguments.concurrency;
    let bound = process.bound.borrow();
    let listening = bound.iter().try_for_each(Bound::listen);
    let listening = listening.map_err(StartError::Socket);
    let started = listening.and_then(|()| serve::start(&process.service, &bound, routes, workers));
    match started {
        Ok(()) => {}
        Err(StartError::Socket(error)) => return Err(format!("cannot start the workers: {error}")),
        Err(StartError::Thread(error)) => {
            let code = error.raw_os_error().unwrap_or_default();
            let assertion =
                format!("false. Details: Unable to create a thread with return code: {code}");
            child::abort(
                &context.log,
                "common/common/posix/thread_impl.cc:223",
                &assertion,
            )
        }
    }
    let text = "all dependencies initialized. starting workers";
    context.log.line(
        Level::Info,
        "config",
        "common/listener_manager/listener_manager_impl.cc:1149",
        text,
    );
    let workers_started = "listener_manager.workers_started";
    let statistics = &process.service.statistics;
    statistics
        .gauge(workers_started, crate::statistics::Import::Never)
        .set(1);
    process.state.set(ServerState::Live);
    context.info("server.cc:1098", "starting main dispatch loop");
    Ok(())
}

/// Takes the first statistics of the parent, lets it drain, and clears the flag.
///
/// The workers accept as soon as the parent's messages are on their way. A real Envoy's begin a moment before, which
/// is too short for its death to fall into it. On a busy machine the main thread may be kept waiting in between, and
/// with a shorter time scale a death at a random moment would meet that often.
fn hand_over(process: &Process, hot_restart: Option<&Rc<HotRestart>>) {
    let context = &process.context;
    let wants_stats = !context.arguments.skip_hot_restart_parent_stats;
    let take_over = || process.service.open();
    let stats = context.with_child(|child, log| child.hand_over(wants_stats, take_over, log));
    tasks::take_in(process, stats.as_ref());
    if let Some(hot_restart) = hot_restart
        && !context.habits().has(&Habit::KeepFlag)
    {
        hot_restart.memory.clear();
    }
}
