//! `handover exec`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use handover_process::ready::Probe;
use handover_process::{OutputSink, RunAs};
use handover_supervisor::control::Directory;
use handover_supervisor::program::{Program, Readiness, StopSteps, WatchedFiles, first_after};
use handover_supervisor::{ServiceManager, Signals, Verify};

use super::listen::{self, Wanted};
use super::named_directory::make_full;
use super::order::Order;
use super::own_files;
use super::run_as;
use super::status_address;
use super::tcp_address::{http_parts, to_connect_to};
use super::verify;
use crate::cli::exec::{ExecArgs, ReadyArgs, ReadyFd};
use crate::cli::global::WatchArgs;
use crate::cli::program::ProgramArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::instance::Instance;
use crate::logging::Logging;
use crate::passed::{self, NamedSocket, Passed};
use crate::service_manager;
use crate::supervise::{self, prepare_threads};
use crate::supervised::{Builder, Supervised, SupervisedSource, Supervisor};

/// The flag that gives a drain more time.
pub(super) const DRAIN_TIME_FLAG: &str = "--drain-time";

pub(super) async fn run(mut args: ExecArgs, passed: Passed) -> Result<ExitCode, Fatal> {
    let followed = args.watched.watch.iter_mut().chain(&mut args.program.cwd);
    followed.for_each(make_full);
    let signals = Signals::take_over().or_exit(ExitCode::OS)?;
    prepare_threads()?;
    let logging = Logging::start(&args.logging).or_exit(ExitCode::OS)?;
    let manager = service_manager::from_environment();
    let output = logging.children();
    let result = supervise(args, passed, signals, output, manager.clone()).await;
    service_manager::report_end(manager.as_ref(), &result).await;
    Ok(logging.finish(result))
}

async fn supervise(
    args: ExecArgs,
    passed: Passed,
    signals: Signals,
    output: Arc<dyn OutputSink>,
    manager: Option<ServiceManager>,
) -> Result<ExitCode, Fatal> {
    // Behind a pointer, so that the stack that it needs is there again for what runs from now on.
    let prepared: LocalBoxFuture<_> = Box::pin(prepare(args, passed, output, manager));
    let supervisor = prepared.await?;
    let running: LocalBoxFuture<_> =
        Box::pin(supervise::supervise(*supervisor, signals, DRAIN_TIME_FLAG));
    running.await
}

/// A future on the heap, whose code is not made part of the one that awaits it.
type LocalBoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, Fatal>>>>;

/// Judges the command line, and binds all that the instance listens on.
async fn prepare(
    args: ExecArgs,
    passed: Passed,
    output: Arc<dyn OutputSink>,
    manager: Option<ServiceManager>,
) -> Result<Box<Supervisor>, Fatal> {
    own_files::judge_output(&args.watched.watch)?;
    let judged = Judged::of(args, passed::listening(passed)?).await?;
    let args = &judged.args;
    let instance = Instance::open(&args.control, &Directory::new(None))?;
    let recorder = args.recorded.recorder(args.state_dir.as_deref());
    let output = match &recorder {
        Some(recorder) => recorder.keep_lines(output),
        None => output,
    };
    let status_server = status_address::listen(&args.status_server).await?;
    let (supervisor, _) = judged.bind(output).await?;
    let supervisor = supervisor
        .record(recorder)
        .service_manager(manager)
        .status_server(status_server);
    Ok(Box::new(instance.control(supervisor).build()?))
}

/// Refuses what no start can make good, from flags and variables alone.
pub(super) fn judge(args: &ExecArgs) -> Result<(), Fatal> {
    let policy = args.policy.policy(Some(args.ending.drain_time));
    policy.check().or_exit(ExitCode::USAGE)?;
    verify::judge(&args.policy.probation, false)?;
    run_as::judge(&args.run_as)?;
    args.ending.while_connected().map_err(Fatal::usage)?;
    args.ending.steps().map_err(Fatal::usage)?;
    let places = [("--state-dir", args.state_dir.as_ref())];
    own_files::judge(&args.watched.watch, &places)?;
    listen::judge(&args.sockets)
}

/// A command line that can be honoured, as far as that shows before anything is bound or written. A socket
/// that was bound for a command line that is refused would take connections, and reset them.
pub(crate) struct Judged {
    args: ExecArgs,
    program: OsString,
    order: Order,
    passed: Vec<NamedSocket>,
    wanted: Vec<Wanted>,
    stop: StopSteps,
    readiness: Readiness,
    probes: Vec<Verify>,
    run_as: RunAs,
}

impl Judged {
    /// Judges the flags and the sockets that our parent has passed, and looks names up.
    pub(crate) async fn of(mut args: ExecArgs, passed: Vec<NamedSocket>) -> Result<Self, Fatal> {
        judge(&args)?;
        if args.command.is_empty() {
            return Err(Fatal::usage("there is no program: give it after `--`"));
        }
        let program = args.command.remove(0);
        prepare_threads()?;
        let run_as = run_as::run_as(&args.run_as)?;
        let open_files = args.nofile.map(|limit| limit.0);
        check_open_files(open_files)?;
        let order = Order::open(&args.order, args.watched.rescan_interval.0)?;
        let stop = args.ending.steps().map_err(Fatal::usage)?;
        let wanted = listen::wanted(&args.sockets, passed.len()).await?;
        listen::refuse_both(&passed, &wanted)?;
        let names: Vec<String> = listen::names(&passed, &wanted).collect();
        check_placeholders(&args.program, &names)?;
        check_directory(args.program.cwd.as_deref())?;
        let of_parent = passed
            .iter()
            .filter_map(|(_, socket)| socket.address().tcp());
        let shared: Vec<_> = of_parent.chain(listen::tcp(&wanted)).collect();
        let first = first_after(names.len());
        let readiness = readiness(&args.ready, &shared, first).await?;
        let probes = verify::probes(&args.policy.probation).await?;
        Ok(Self {
            args,
            program,
            order,
            passed,
            wanted,
            stop,
            readiness,
            probes,
            run_as,
        })
    }

    /// Binds the sockets. Nothing runs yet. Returns the addresses listened on as well. The sockets that our
    /// parent has passed come first.
    pub(crate) async fn bind(
        self,
        output: Arc<dyn OutputSink>,
    ) -> Result<(Builder, Vec<SocketAddr>), Fatal> {
        let Self { args, order, .. } = self;
        let sockets = listen::bind(self.passed, &self.wanted, &args.sockets).await?;
        let addresses = sockets.addresses().collect();
        let policy = args.policy.policy(Some(args.ending.drain_time));
        let source = WatchedFiles::of(self.program.display().to_string());
        let surroundings = args.program;
        let mut program = Program::builder(self.program).args(args.command);
        for variable in surroundings.env {
            program = program.env(variable.name, variable.value);
        }
        let program = program
            .epoch_args(
                surroundings
                    .arg_epoch
                    .into_iter()
                    .map(|argument| argument.0),
            )
            .working_directory(surroundings.cwd)
            .sockets(sockets)
            .readiness(self.readiness)
            .stop(self.stop)
            .drain_command(args.ending.drain_cmd)
            .drain_time(args.ending.drain_time)
            .drain_while_connected(args.ending.drain_while_connected)
            .run_as(self.run_as)
            .open_files(args.nofile.map(|limit| limit.0))
            .memory_guard(args.policy.memory_guard.into())
            .on_exit(args.policy.on_exit)
            .output(output)
            .build();
        let WatchArgs {
            watch,
            rescan_interval,
        } = &args.watched;
        let supervisor = Supervisor::builder(
            Arc::new(Supervised::from(program)),
            SupervisedSource::from(source),
        )
        .policy(policy)
        .evidence(args.policy.probation.rules(None))
        .verify(self.probes)
        .hooks(args.hooks.hooks())
        .watch(watch)
        .rescan(rescan_interval.0);
        Ok((order.of(supervisor), addresses))
    }
}

/// Refuses a placeholder of a socket that there is not.
fn check_placeholders(args: &ProgramArgs, sockets: &[String]) -> Result<(), Fatal> {
    let variables = args.env.iter().map(|variable| ("--env", &variable.value));
    let arguments = args.arg_epoch.iter();
    let arguments = arguments.map(|argument| ("--arg-epoch", &argument.0));
    for (flag, template) in variables.chain(arguments) {
        let mut names = template.names();
        let unknown = names.find(|name| !sockets.iter().any(|socket| socket == name));
        if let Some(unknown) = unknown {
            let known = match sockets {
                [] => "there is none; add one with --listen".to_owned(),
                sockets => format!("there are {}; name one with --fd-name", sockets.join(", ")),
            };
            return Err(Fatal::usage(format_args!(
                "{flag}: {{fd:{unknown}}} is no socket: {known}"
            )));
        }
    }
    Ok(())
}

/// Refuses a directory that is not there. Every start would fail in the same way.
fn check_directory(directory: Option<&Path>) -> Result<(), Fatal> {
    let Some(directory) = directory else {
        return Ok(());
    };
    let why = match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "it is no directory".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Fatal::usage(format_args!(
        "--cwd {}: {why}: give a directory that exists",
        directory.display()
    )))
}

/// Refuses a limit of open files above the hard one, unless it stands for the hard one.
fn check_open_files(wanted: Option<u64>) -> Result<(), Fatal> {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match (wanted, hard) {
        (Some(wanted), Some(hard)) if wanted > hard && wanted != u64::MAX => {
            Err(Fatal::usage(format_args!(
                "--nofile {wanted} is above the hard limit of open files, which is {hard}: give `max`, or \
                 raise the hard limit (LimitNOFILE= of a systemd unit, --ulimit of a container)"
            )))
        }
        _ => Ok(()),
    }
}

async fn readiness(
    args: &ReadyArgs,
    listening: &[SocketAddr],
    first: i32,
) -> Result<Readiness, Fatal> {
    if args.notify {
        return Ok(Readiness::Notify);
    }
    if let Some(fd) = args.ready_fd {
        return match fd {
            ReadyFd::AfterSockets => Ok(Readiness::Descriptor(first)),
            ReadyFd::Number(number) if number >= first => Ok(Readiness::Descriptor(number)),
            ReadyFd::Number(number) => Err(Fatal::usage(format_args!(
                "--ready-fd={number} is taken by a socket: use {first} or a higher number"
            ))),
        };
    }
    let (flag, authority, path) = match (&args.probe_tcp, &args.probe_http) {
        (Some(address), _) => ("--probe-tcp", address.as_str(), None),
        (None, Some(url)) => {
            let with_tls =
                "write http://HOST:PORT/PATH, or use --notify, --ready-fd or --probe-tcp";
            let (authority, path) = http_parts("--probe-http", url, with_tls)?;
            ("--probe-http", authority, Some(path))
        }
        (None, None) => return Ok(Readiness::After(args.live_after)),
    };
    let address = to_connect_to(flag, authority).await?;
    if let Some(shared) = listening.iter().find(|shared| answers(shared, address)) {
        return Err(Fatal::usage(format_args!(
            "{flag} {authority} says nothing: {shared} is passed to every epoch, so the one before \
             answers there; probe an address of the new epoch alone, or use --notify or --ready-fd"
        )));
    }
    let probe = match path {
        None => Probe::tcp(address),
        Some(path) => Probe::http(address, path)
            .context(flag)
            .or_exit(ExitCode::USAGE)?,
    };
    Ok(Readiness::Probe(args.live_after, probe))
}

/// Whether a connection to `address` reaches the socket that listens on `listening`.
pub(super) fn answers(listening: &SocketAddr, address: SocketAddr) -> bool {
    let same_ip = match listening.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => address.is_ipv4(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip == address.ip(),
    };
    same_ip && listening.port() == address.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_all_addresses_answers_on_each() {
        let reached = |listening: &str, address: &str| {
            answers(&listening.parse().unwrap(), address.parse().unwrap())
        };
        assert!(reached("127.0.0.1:80", "127.0.0.1:80"));
        assert!(reached("0.0.0.0:80", "127.0.0.1:80"));
        assert!(reached("[::]:80", "127.0.0.1:80"));
        assert!(!reached("0.0.0.0:80", "[::1]:80"));
        assert!(!reached("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!reached("127.0.0.1:80", "127.0.0.2:80"));
    }
}
