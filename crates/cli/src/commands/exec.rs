//! `handover exec`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use handover_netutil::ListeningSocket;
use handover_netutil::connections::LocalAddress;
use handover_process::ready::Probe;
use handover_process::{OutputSink, RunAs};
use handover_supervisor::control::Directory;
use handover_supervisor::program::{Program, Readiness, Sockets, WatchedFiles, first_after};
use handover_supervisor::{Builder, ServiceManager, Signals, Supervisor, Verify};

use super::order::Order;
use super::run_as;
use super::status_address;
use super::tcp_address::{not_bound, split_url, to_connect_to, to_listen_on};
use super::verify;
use crate::cli::exec::{ExecArgs, ReadyArgs, ReadyFd};
use crate::cli::global::WatchArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::instance::Instance;
use crate::logging::Logging;
use crate::passed::{self, NamedSocket, Passed};
use crate::service_manager;
use crate::supervise::{self, prepare_threads};

/// The flag that gives a drain more time.
pub(super) const DRAIN_TIME_FLAG: &str = "--drain-time";

pub(super) async fn run(args: ExecArgs, passed: Passed) -> Result<ExitCode, Fatal> {
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
    let judged = Judged::of(args, passed::listening(passed)?).await?;
    let args = &judged.args;
    let instance = Instance::open(&args.control, &Directory::new(None))?;
    let recorder = args.recorded.recorder(args.state_dir.as_deref());
    let output = match &recorder {
        Some(recorder) => recorder.keep_lines(output),
        None => output,
    };
    let status_server = status_address::listen(&args.status_server).await?;
    let (supervisor, _) = judged.bind(output)?;
    let supervisor = supervisor
        .record(recorder)
        .service_manager(manager)
        .status_server(status_server);
    let supervisor = instance.control(supervisor).build()?;
    supervise::supervise(supervisor, signals, DRAIN_TIME_FLAG).await
}

/// Refuses what no start can make good, from flags and variables alone.
pub(super) fn judge(args: &ExecArgs) -> Result<(), Fatal> {
    let policy = args.policy.policy(Some(args.drain_time));
    policy.check().or_exit(ExitCode::USAGE)?;
    verify::judge(&args.policy.probation, false)?;
    run_as::judge(&args.run_as)?;
    check_names(&args.fd_name, args.listen.len())
}

/// A command line that can be honoured, as far as that shows before anything is bound or written. A socket
/// that was bound for a command line that is refused would take connections, and reset them.
pub(crate) struct Judged {
    args: ExecArgs,
    program: OsString,
    order: Order,
    passed: Vec<NamedSocket>,
    wanted: Vec<SocketAddr>,
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
        let wanted = resolve(&args.listen).await?;
        refuse_both(&passed, &wanted)?;
        let of_parent = passed.iter().filter_map(|(_, socket)| tcp_address(socket));
        let shared: Vec<_> = of_parent.chain(wanted.iter().copied()).collect();
        let first = first_after(passed.len().saturating_add(wanted.len()));
        let readiness = readiness(&args.ready, &shared, first).await?;
        let probes = verify::probes(&args.policy.probation).await?;
        Ok(Self {
            args,
            program,
            order,
            passed,
            wanted,
            readiness,
            probes,
            run_as,
        })
    }

    /// Binds the sockets. Nothing runs yet. Returns the addresses listened on as well. The sockets that our
    /// parent has passed come first.
    pub(crate) fn bind(
        self,
        output: Arc<dyn OutputSink>,
    ) -> Result<(Builder<Program, WatchedFiles>, Vec<SocketAddr>), Fatal> {
        let Self { args, order, .. } = self;
        let sockets = sockets(self.passed, &self.wanted, &args)?;
        let addresses = sockets.addresses().collect();
        let policy = args.policy.policy(Some(args.drain_time));
        let source = WatchedFiles::of(self.program.display().to_string());
        let program = Program::builder(self.program)
            .args(args.command)
            .sockets(sockets)
            .readiness(self.readiness)
            .stop_signal(args.stop_signal)
            .drain_time(args.drain_time)
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
        let supervisor = Supervisor::builder(Arc::new(program), source)
            .policy(policy)
            .evidence(args.policy.probation.rules(None))
            .verify(self.probes)
            .hooks(args.hooks.hooks())
            .watch(watch)
            .rescan(rescan_interval.0);
        Ok((order.of(supervisor), addresses))
    }
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

async fn resolve(addresses: &[String]) -> Result<Vec<SocketAddr>, Fatal> {
    let mut resolved = Vec::with_capacity(addresses.len());
    for address in addresses {
        resolved.push(to_listen_on("--listen", address).await?);
    }
    Ok(resolved)
}

/// Refuses an address on which a passed socket listens. Binding it would name nobody that could be
/// stopped.
fn refuse_both(passed: &[NamedSocket], wanted: &[SocketAddr]) -> Result<(), Fatal> {
    for address in wanted.iter().filter(|address| address.port() != 0) {
        let both = passed.iter().find(|(_, socket)| {
            tcp_address(socket)
                .is_some_and(|passed| answers(&passed, *address) || answers(address, passed))
        });
        if let Some((name, socket)) = both {
            let name = name.as_deref().unwrap_or("without a name");
            return Err(Fatal::usage(format_args!(
                "--listen {address}: the service manager passes a socket on {} already ({name}): \
                 leave --listen out, or remove the address from the socket unit",
                socket.address()
            )));
        }
    }
    Ok(())
}

fn tcp_address(socket: &ListeningSocket) -> Option<SocketAddr> {
    match socket.address() {
        LocalAddress::Tcp(address) => Some(*address),
        LocalAddress::Unix(_) => None,
    }
}

/// The sockets in the order in which they are passed on: those of our parent, then those that we bind.
fn sockets(
    passed: Vec<NamedSocket>,
    addresses: &[SocketAddr],
    args: &ExecArgs,
) -> Result<Sockets, Fatal> {
    let mut sockets = Sockets::new(args.nonblocking);
    for (name, socket) in passed {
        let name = name.unwrap_or_else(|| format!("listen{}", sockets.len()));
        let address = socket.address().to_string();
        tracing::info!(
            address,
            name,
            "took over the socket {name}: listening on {address}"
        );
        sockets.add(name, socket);
    }
    let mut names = args.fd_name.iter().cloned();
    for address in addresses {
        let name = names.next();
        let name = name.unwrap_or_else(|| format!("listen{}", sockets.len()));
        let bound = sockets
            .bind(name, *address)
            .map_err(|error| not_bound("--listen", error, *address))
            .or_exit(ExitCode::OS)?;
        tracing::info!(address = %bound, "listening on {bound}");
    }
    Ok(sockets)
}

fn check_names(names: &[String], sockets: usize) -> Result<(), Fatal> {
    if names.len() > sockets {
        let names = names.len();
        return Err(Fatal::usage(format_args!(
            "{names} names for {sockets} sockets: give each --fd-name an address with --listen"
        )));
    }
    names.iter().try_for_each(|name| check_name(name))
}

/// Readers of `LISTEN_FDNAMES` split it at colons.
fn check_name(name: &str) -> Result<(), Fatal> {
    let fits = (1..=255).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b':');
    if fits {
        return Ok(());
    }
    Err(Fatal::usage(format_args!(
        "--fd-name {name:?} cannot be a socket's name: use 1 to 255 printable ASCII characters \
         without `:`"
    )))
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
            let (authority, path) = split_url(url).ok_or_else(|| {
                Fatal::usage(format_args!(
                    "--probe-http {url} cannot be asked: write http://HOST:PORT/PATH"
                ))
            })?;
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
fn answers(listening: &SocketAddr, address: SocketAddr) -> bool {
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
