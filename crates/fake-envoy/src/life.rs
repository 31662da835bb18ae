//! The life of a process, from its arguments to its exit code.

mod hot_restart;
mod process;
mod start;
mod tasks;

pub(crate) use self::process::version_text;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::arguments::{Arguments, Mode};
use crate::config::{Bootstrap, ConfigError, load};
use crate::context::{Context, Ending};
use crate::faults::{Faults, Habit, State, Step};
use crate::log::{Level, Log};
use crate::script::Script;

/// How long the real process takes until it binds its domain sockets.
const UNTIL_BOUND: Duration = Duration::from_millis(30);
/// How long it takes from then until it reads its configuration.
const UNTIL_CONFIG: Duration = Duration::from_millis(10);
/// How long `--mode validate` takes.
const VALIDATION: Duration = Duration::from_millis(45);

/// Runs a process, and returns how it ends.
pub(crate) fn live(arguments: Arguments) -> Ending {
    let failed = |error: io::Error| Ending::failed(format!("error: {error}\n"));
    // An agent that is short of descriptors hands its low limit on.
    raise_limit_of_files();
    match runtime() {
        Ok(runtime) => {
            let local = tokio::task::LocalSet::new();
            local
                .block_on(&runtime, run(arguments))
                .unwrap_or_else(failed)
        }
        Err(error) => failed(error),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    // The first runtime of a process makes this pair for the signals, and panics without it.
    let pair = std::os::unix::net::UnixStream::pair()?;
    // It makes three more descriptors before, or fails in order.
    let dup = || rustix::io::dup(&pair.0);
    let before = [dup()?, dup()?, dup()?];
    drop((pair, before));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn run(arguments: Arguments) -> io::Result<Ending> {
    let (end, mut ended) = mpsc::unbounded_channel();
    let context = Rc::new(context(arguments, end).await?);
    let alive = async {
        match context.arguments.mode {
            Mode::Validate => validate(&context).await,
            Mode::Serve | Mode::InitOnly => serve(&context).await,
        }
    };
    let script = tokio::task::spawn_local(Script::run(Rc::clone(&context)));
    let ending = tokio::select! {
        ending = alive => ending,
        Some(ending) = ended.recv() => ending,
    };
    script.abort();
    Ok(ending)
}

async fn context(arguments: Arguments, end: mpsc::UnboundedSender<Ending>) -> io::Result<Context> {
    let named =
        |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let log = Log::new(&arguments.log_level);
    let log = match &arguments.log_path {
        None => log,
        Some(path) => log.with_file(path).map_err(|error| {
            named(
                &format!("unable to open log file {}", path.display()),
                error,
            )
        })?,
    };
    let settings = &arguments.settings;
    let counts = arguments.mode == Mode::Serve;
    let state = settings.state.as_ref().filter(|_| counts);
    let state = state.map(|path| State::open(path)).transpose();
    let state = state.map_err(|error| named("cannot use --fake-state", error))?;
    let faults = Faults::new(settings.faults.clone(), arguments.restart_epoch, state);
    let script = match settings.script_socket.as_ref().filter(|_| counts) {
        None => None,
        Some(path) => {
            let connected = Script::connect(path).await;
            Some(connected.map_err(|error| {
                named(
                    &format!("cannot connect to --fake-script-socket {}", path.display()),
                    error,
                )
            })?)
        }
    };
    Ok(Context::new(arguments, log, faults, script, end))
}

async fn validate(context: &Context) -> Ending {
    context.step(Step::Validate).await;
    tokio::time::sleep(context.scaled(VALIDATION)).await;
    let arguments = &context.arguments;
    let path = arguments.config_path.as_deref();
    let shown = path
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let yaml = arguments.config_yaml.as_deref();
    let loaded = load(path, yaml, &arguments.settings);
    match loaded.and_then(|bootstrap| bootstrap.static_listeners()) {
        Ok(_) => {
            let mut out = io::stdout().lock();
            let text = format!("configuration '{shown}' OK\n");
            let _reader_may_have_gone = io::Write::write_all(&mut out, text.as_bytes());
            Ending::clean()
        }
        Err(ConfigError(message)) => {
            let text = format!("error initializing configuration '{shown}': {message}");
            let source = "config_validation/server.cc:76";
            context.log.line(Level::Critical, "main", source, &text);
            Ending::failed("")
        }
    }
}

async fn serve(context: &Rc<Context>) -> Ending {
    if let Some(script) = &context.script {
        script.hello(context.arguments.restart_epoch).await;
    }
    context.step(Step::Start).await;
    tokio::time::sleep(context.scaled(UNTIL_BOUND)).await;
    let hot_restart = match hot_restart::take(context).await {
        Ok(hot_restart) => hot_restart,
        Err(ending) => return ending,
    };
    context.step(Step::FlagSet).await;
    tokio::time::sleep(context.scaled(UNTIL_CONFIG)).await;
    start::initialise(context, hot_restart).await
}

/// Begins to hear signals. Envoy does that late: until it has its static listeners, a SIGTERM ends it by
/// its default action, leaves the flag set, and does not reach the parent.
fn hear_signals(context: &Rc<Context>) -> io::Result<()> {
    let signals = Signals::new()?;
    tokio::task::spawn_local(signals.obey(Rc::clone(context)));
    let text = "all clusters initialized. initializing init manager";
    context.info("server.cc:1078", text);
    Ok(())
}

/// Reads the configuration of a process that serves.
fn configuration(context: &Context) -> Result<Bootstrap, Ending> {
    let arguments = &context.arguments;
    load(
        arguments.config_path.as_deref(),
        arguments.config_yaml.as_deref(),
        &arguments.settings,
    )
    .map_err(|ConfigError(message)| refused(context, &message))
}

/// Ends as Envoy does after a configuration that it cannot serve.
fn refused(context: &Context, message: &str) -> Ending {
    let path = context.arguments.config_path.as_deref();
    let path = path
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let text = format!("error `{message}` initializing config '  {path}'");
    context
        .log
        .line(Level::Critical, "main", "server.cc:449", &text);
    context.info("server.cc:1159", "exiting");
    Ending::failed(format!("{message}\n"))
}

/// The signals that the process hears.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
    usr1: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }

    async fn obey(mut self, context: Rc<Context>) {
        loop {
            let (name, source) = tokio::select! {
                _ = self.term.recv() => ("ENVOY_SIGTERM", "server.cc:1028"),
                _ = self.int.recv() => ("SIGINT", "server.cc:1033"),
                _ = self.hup.recv() => {
                    context.warn("server.cc:1044", "caught and eating SIGHUP. See documentation for how to hot restart.");
                    continue;
                }
                _ = self.usr1.recv() => {
                    context.info("server.cc:1038", "caught SIGUSR1. Reopening access logs.");
                    context.log.reopen();
                    continue;
                }
            };
            context.warn(source, &format!("caught {name}"));
            if !context.habits().has(&Habit::IgnoreTerm) {
                context.terminate().await;
            }
        }
    }
}

/// Raises the soft limit of open files to the hard one, as Envoy does.
fn raise_limit_of_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _stays_as_it_is = setrlimit(Resource::Nofile, raised);
}
