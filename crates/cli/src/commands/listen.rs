//! The sockets that `exec` binds, from its flags.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use handover_netutil::{
    Listen, ListenError, ListenUnix, ListenUnixError, ServerAddress, ServerSocket, UnixKind,
};
use handover_supervisor::program::Sockets;
use tokio::time::{Instant, sleep};

use super::tcp_address::{Served, not_bound, to_serve_on};
use crate::cli::listen::ListenArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::passed::NamedSocket;

const FLAG: &str = "--listen";

/// How long addresses that are in use are waited for: 2 s. What a killed supervisor has left gets SIGTERM with its end, and
/// most programs close their sockets within milliseconds of that. Some service managers start no fourth time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause before an address that is in use is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A socket that is to be bound, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    name: String,
    address: Served,
    /// How many sockets share the address.
    workers: NonZeroUsize,
}

/// Refuses what no start can make good, from the flags alone.
pub(super) fn judge(args: &ListenArgs) -> Result<(), Fatal> {
    let sockets = args.listen.len();
    if args.fd_name.len() > sockets {
        let names = args.fd_name.len();
        return Err(Fatal::usage(format_args!(
            "{names} names for {sockets} sockets: give each --fd-name an address with --listen"
        )));
    }
    args.fd_name.iter().try_for_each(|name| check_name(name))
}

/// Looks up where is to be listened. `passed` sockets of our parent come before.
///
/// # Errors
///
/// A usage error also if a flag has nothing to act on.
pub(super) async fn wanted(args: &ListenArgs, passed: usize) -> Result<Vec<Wanted>, Fatal> {
    let workers = args.listen_workers.map(usize::from);
    let workers = workers
        .and_then(NonZeroUsize::new)
        .unwrap_or(NonZeroUsize::MIN);
    let mut names = args.fd_name.iter().cloned();
    let mut place = passed;
    let mut wanted = Vec::with_capacity(args.listen.len());
    for address in &args.listen {
        let address = to_serve_on(FLAG, address).await?;
        let workers = match address {
            Served::Tcp(_) | Served::Udp(_) => workers,
            Served::Unix(..) => NonZeroUsize::MIN,
        };
        let name = names.next().unwrap_or_else(|| format!("listen{place}"));
        place = place.saturating_add(workers.get());
        wanted.push(Wanted {
            name,
            address,
            workers,
        });
    }
    let served: Vec<_> = wanted.iter().map(|wanted| &wanted.address).collect();
    refuse_idle(args, &served)?;
    Ok(wanted)
}

/// Refuses a flag that changes no socket: whoever gave it meant something.
fn refuse_idle(args: &ListenArgs, served: &[&Served]) -> Result<(), Fatal> {
    let is_tcp = |served: &Served| matches!(served, Served::Tcp(_));
    let is_inet = |served: &Served| matches!(served, Served::Tcp(_) | Served::Udp(_));
    let is_v6 = |served: &Served| matches!(served, Served::Tcp(address) | Served::Udp(address) if address.is_ipv6());
    let has_file = |served: &Served| matches!(served, Served::Unix(_, path) if !is_abstract(path));
    let listens =
        |served: &Served| !matches!(served, Served::Udp(_) | Served::Unix(UnixKind::Datagram, _));
    let a_file = "the path of a Unix socket";
    /// A flag, whether it is given, the sockets that it changes, and what they are called.
    type Flag<'a> = (&'a str, bool, &'a dyn Fn(&Served) -> bool, &'a str);
    let flags: [Flag<'_>; 7] = [
        (
            "--listen-workers",
            args.listen_workers.is_some(),
            &is_inet,
            "a TCP or UDP address",
        ),
        (
            "--listen-backlog",
            args.listen_backlog.is_some(),
            &listens,
            "an address with connections",
        ),
        (
            "--listen-v6only",
            args.listen_v6only,
            &is_v6,
            "an IPv6 address",
        ),
        (
            "--listen-defer-accept",
            args.listen_defer_accept.is_some(),
            &is_tcp,
            "a TCP address",
        ),
        (
            "--listen-mode",
            args.listen_mode.is_some(),
            &has_file,
            a_file,
        ),
        (
            "--listen-user",
            args.listen_user.is_some(),
            &has_file,
            a_file,
        ),
        (
            "--listen-group",
            args.listen_group.is_some(),
            &has_file,
            a_file,
        ),
    ];
    for (flag, is_given, acts_on, what) in flags {
        if is_given && !served.iter().any(|served| acts_on(served)) {
            return Err(Fatal::usage(format_args!(
                "{flag} changes nothing: no --listen is {what}; add one, or leave the flag out"
            )));
        }
    }
    Ok(())
}

fn is_abstract(path: &std::path::Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"@")
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

/// The name of each socket in the order of their descriptors.
pub(super) fn names<'a>(
    passed: &'a [NamedSocket],
    wanted: &'a [Wanted],
) -> impl Iterator<Item = String> + 'a {
    let passed = passed.iter().enumerate();
    let passed = passed.map(|(place, (name, _))| passed_name(name.as_ref(), place));
    let wanted = wanted
        .iter()
        .flat_map(|wanted| std::iter::repeat_n(wanted.name.clone(), wanted.workers.get()));
    passed.chain(wanted)
}

fn passed_name(name: Option<&String>, place: usize) -> String {
    name.cloned().unwrap_or_else(|| format!("listen{place}"))
}

/// The TCP addresses among them.
pub(super) fn tcp(wanted: &[Wanted]) -> impl Iterator<Item = SocketAddr> + '_ {
    wanted.iter().filter_map(|wanted| match wanted.address {
        Served::Tcp(address) => Some(address),
        Served::Udp(_) | Served::Unix(..) => None,
    })
}

/// Refuses an address that a passed socket has. Binding it would name nobody that could be stopped.
pub(super) fn refuse_both(passed: &[NamedSocket], wanted: &[Wanted]) -> Result<(), Fatal> {
    for wanted in wanted {
        let both = passed
            .iter()
            .find(|(_, socket)| match (socket.address(), &wanted.address) {
                (ServerAddress::Tcp(passed), Served::Tcp(wanted))
                | (ServerAddress::Udp(passed), Served::Udp(wanted)) => {
                    wanted.port() != 0
                        && (super::exec::answers(passed, *wanted)
                            || super::exec::answers(wanted, *passed))
                }
                (ServerAddress::Unix(_, passed), Served::Unix(_, wanted)) => {
                    wanted.to_str() == Some(passed)
                }
                _ => false,
            });
        if let Some((name, socket)) = both {
            let name = name.as_deref().unwrap_or("without a name");
            return Err(Fatal::usage(format_args!(
                "{FLAG} {}: the service manager passes a socket on {} already ({name}): leave --listen \
                 out, or remove the address from the socket unit",
                shown(&wanted.address),
                socket.address()
            )));
        }
    }
    Ok(())
}

fn shown(served: &Served) -> String {
    let address = match served {
        Served::Tcp(address) => ServerAddress::Tcp(*address),
        Served::Udp(address) => ServerAddress::Udp(*address),
        Served::Unix(kind, path) => ServerAddress::Unix(*kind, path.display().to_string()),
    };
    address.to_string()
}

/// The sockets in the order in which they are passed on: those of our parent, then those that are bound here.
///
/// An address that is in use is waited for a moment.
pub(super) async fn bind(
    passed: Vec<NamedSocket>,
    wanted: &[Wanted],
    args: &ListenArgs,
) -> Result<Sockets, Fatal> {
    let mut sockets = Sockets::new(args.nonblocking);
    for (place, (name, socket)) in passed.into_iter().enumerate() {
        let name = passed_name(name.as_ref(), place);
        let address = socket.address().to_string();
        tracing::info!(
            address,
            name,
            "took over the socket {name}: listening on {address}"
        );
        sockets.add(name, socket);
    }
    let until = Instant::now() + PATIENCE;
    for wanted in wanted {
        let bound = bind_by(until, wanted, args).await?;
        // With port 0, all share the port that the system chose.
        let address = bound.first().map_or_else(
            || shown(&wanted.address),
            |socket| socket.address().to_string(),
        );
        for socket in bound {
            sockets.add(wanted.name.clone(), socket);
        }
        let workers = wanted.workers.get();
        match workers {
            1 => tracing::info!(address, "listening on {address}"),
            _ => tracing::info!(
                address,
                workers,
                "listening on {address} with {workers} sockets"
            ),
        }
    }
    Ok(sockets)
}

/// Why an address was not bound.
enum NotBound {
    Inet(ListenError),
    Unix(ListenUnixError),
}

impl NotBound {
    fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Inet(ListenError::InUse { .. }) | Self::Unix(ListenUnixError::InUse { .. })
        )
    }

    fn for_people(self, address: &Served) -> anyhow::Error {
        match (self, address) {
            (Self::Inet(error), Served::Tcp(address)) => not_bound(FLAG, error, *address),
            (Self::Inet(error), _) => anyhow::Error::new(error).context(FLAG),
            (Self::Unix(error), _) => anyhow::Error::new(error).context(FLAG),
        }
    }
}

/// Binds all sockets of one address, as soon as it is free.
async fn bind_by(
    until: Instant,
    wanted: &Wanted,
    args: &ListenArgs,
) -> Result<Vec<ServerSocket>, Fatal> {
    let address = &wanted.address;
    let mut waits = false;
    loop {
        match bind_group(address, wanted.workers, args) {
            Ok(bound) => return Ok(bound),
            Err(error) if error.is_in_use() && Instant::now() < until => {
                if !waits {
                    tracing::warn!(
                        "{} is in use; waiting up to {} for it, as what a killed supervisor has left may be about to \
                         end",
                        shown(address),
                        humantime::format_duration(PATIENCE)
                    );
                }
                waits = true;
                sleep(TRY_AGAIN).await;
            }
            Err(error) => return Err(error.for_people(address)).or_exit(ExitCode::OS),
        }
    }
}

/// Binds all sockets of one address.
fn bind_group(
    address: &Served,
    workers: NonZeroUsize,
    args: &ListenArgs,
) -> Result<Vec<ServerSocket>, NotBound> {
    let backlog = args.listen_backlog.map_or(Listen::BACKLOG, u32::from);
    let inet = |address: SocketAddr| {
        Listen::new(address)
            .v6_only(args.listen_v6only)
            .backlog(backlog)
            .nonblocking(args.nonblocking)
            .defer_accept(args.listen_defer_accept)
    };
    match address {
        Served::Tcp(address) => inet(*address)
            .tcp_group(workers)
            .map(|group| group.into_iter().map(ServerSocket::from).collect())
            .map_err(NotBound::Inet),
        Served::Udp(address) => inet(*address)
            .udp_group(workers)
            .map(|group| group.into_iter().map(ServerSocket::from).collect())
            .map_err(NotBound::Inet),
        Served::Unix(kind, path) => {
            let mut listen = ListenUnix::new(path)
                .kind(*kind)
                .backlog(backlog)
                .nonblocking(args.nonblocking)
                .keep_file(true);
            if let Some(mode) = args.listen_mode {
                listen = listen.mode(mode.0);
            }
            if let Some(user) = &args.listen_user {
                listen = listen.user(user.id());
            }
            if let Some(group) = args.listen_group {
                listen = listen.group(group.id());
            }
            listen
                .bind()
                .map(|socket| vec![socket])
                .map_err(NotBound::Unix)
        }
    }
}
