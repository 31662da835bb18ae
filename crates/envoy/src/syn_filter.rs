//! Keeping new connections away before listeners close.
//!
//! When a process closes a listening socket, connections that the kernel has set up and the process
//! has not accepted are reset, although their clients may have sent a request already. Under load
//! there are some at every moment. So the opening packet of new connections is dropped first, by a
//! filter on the socket, until the process has accepted all that there are; then the socket can be
//! closed and nobody is reset. A client whose packet was dropped sends it again a second later, and
//! is refused if nobody listens any more.
//!
//! A Unix socket has no packets to filter. It is shut down for reading instead: the kernel refuses new
//! connections, and those that wait can still be accepted.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_tokio::error_chain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::{Domain, SockFilter, SockRef};
use tokio::time::{Instant, sleep};

use handover_netutil::proc_net::sockets_of;

/// How long new connections are kept away at least: handshakes that are half done are completed
/// meanwhile. On a local network that takes far less.
const AT_LEAST: Duration = Duration::from_millis(20);

/// How long the process gets to accept what waits. An Envoy takes well below a millisecond; one that
/// stands still is not waited for.
const AT_MOST: Duration = Duration::from_millis(250);

/// How often the queues are looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Why new connections could not be kept away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// The sockets of the process cannot be seen.
    #[error("cannot read the sockets of process {pid} in {}", path.display())]
    Look {
        /// The process.
        pid: u32,
        /// The file or directory that could not be read.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A listening socket cannot be had: the kernel is older than 5.6, or forbids it.
    #[error("cannot reach the listening sockets of process {pid}")]
    Reach {
        /// The process.
        pid: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The filter was not accepted.
    #[error("cannot keep new connections away from the listening sockets of process {pid}")]
    Filter {
        /// The process.
        pid: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl FilterError {
    /// Returns whether no socket of the process can be had, of whichever kind.
    pub(crate) fn is_of_every_socket(&self) -> bool {
        match self {
            Self::Look { .. } | Self::Reach { .. } => true,
            Self::Filter { .. } => false,
        }
    }

    /// Says what follows from it: little. A supervisor without privileges is refused on many hosts, at
    /// each stop, so that is no warning.
    pub(crate) fn log(&self) {
        let (Self::Look { source, .. } | Self::Reach { source, .. } | Self::Filter { source, .. }) =
            self;
        let refused = source.kind() == io::ErrorKind::PermissionDenied;
        let error = error_chain(self);
        let follows = "a connection that arrives at the very moment in which the listeners close may \
                       be reset before it is accepted, and its client must connect again; no other \
                       is affected";
        if refused {
            tracing::info!("{follows} ({error})");
        } else {
            tracing::warn!("{follows} ({error})");
        }
    }
}

/// Drops the opening packet of new TCP connections to every listening socket of a child process, and
/// waits until the process has accepted the connections that there are, for 250 ms at most. Sockets
/// on ports that are spared are left alone.
///
/// The process must be a child of ours that has not been reaped. The filter is gone when the process
/// closes its sockets; nothing else takes it away, so this is for sockets that are closed next.
///
/// # Errors
///
/// [`FilterError`]. Some sockets may have the filter then.
///
/// # Cancel safety
///
/// The filters stay when the future is dropped.
pub(crate) async fn keep_new_connections_away(
    pid: u32,
    is_spared: impl Fn(u16) -> bool,
) -> Result<(), FilterError> {
    let spares = |port: Option<u16>| port.is_none_or(&is_spared);
    let sockets = listening_sockets(pid, |socket| !spares(port_of(socket)))?;
    for socket in &sockets {
        let filtered = SockRef::from(socket).attach_filter(&drop_opening_packets());
        filtered.map_err(|source| FilterError::Filter { pid, source })?;
    }
    let started = Instant::now();
    while !sockets.is_empty() && started.elapsed() < AT_MOST {
        if started.elapsed() >= AT_LEAST && !any_waits_for_accept(&sockets) {
            break;
        }
        sleep(LOOK).await;
    }
    // With our copies of the descriptors gone, the process's own closing closes the sockets.
    drop(sockets);
    Ok(())
}

/// Refuses new connections to every listening Unix socket of a child process, and gives the process
/// time to accept the connections that there are. The socket with the name `spared` is left alone.
///
/// The process must be a child of ours that has not been reaped. Until it closes these sockets they
/// always look readable to it, and a process that polls them does so in vain. So this is for sockets
/// that are closed at once afterwards.
///
/// # Errors
///
/// [`FilterError`]. Some sockets may refuse new connections then.
///
/// # Cancel safety
///
/// The sockets go on refusing when the future is dropped.
pub(crate) async fn refuse_new_unix_connections(
    pid: u32,
    spared: Option<&Path>,
) -> Result<(), FilterError> {
    let sockets = listening_sockets(pid, |socket| {
        let is_unix = socket.domain().is_ok_and(|domain| domain == Domain::UNIX);
        is_unix && (spared.is_none() || unix_name(socket).as_deref() != spared)
    })?;
    if sockets.is_empty() {
        return Ok(());
    }
    for socket in &sockets {
        let shut = shutdown(socket, Shutdown::Read).map_err(io::Error::from);
        shut.map_err(|source| FilterError::Filter { pid, source })?;
    }
    drop(sockets);
    // How many wait in such a socket is not shown without further rights.
    sleep(AT_LEAST).await;
    Ok(())
}

fn port_of(socket: &SockRef<'_>) -> Option<u16> {
    Some(socket.local_addr().ok()?.as_socket()?.port())
}

/// The path of a Unix socket, or `@` and its abstract name.
fn unix_name(socket: &SockRef<'_>) -> Option<PathBuf> {
    let address = socket.local_addr().ok()?;
    let name = address.as_abstract_namespace().map(|name| {
        let mut text = b"@".to_vec();
        text.extend_from_slice(name);
        PathBuf::from(OsString::from_vec(text))
    });
    name.or_else(|| Some(address.as_pathname()?.to_owned()))
}

/// Copies of the listening sockets of a process that are meant. Each of its sockets is asked itself:
/// the tables of the host take long to read where it has many connections.
fn listening_sockets(
    pid: u32,
    is_meant: impl Fn(&SockRef<'_>) -> bool,
) -> Result<Vec<OwnedFd>, FilterError> {
    let path = PathBuf::from(format!("/proc/{pid}"));
    let descriptors =
        sockets_of(&path).map_err(|source| FilterError::Look { pid, path, source })?;
    let reach = |source: rustix::io::Errno| FilterError::Reach {
        pid,
        source: source.into(),
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| reach(rustix::io::Errno::SRCH))?;
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(reach)?;
    let mut listening = Vec::new();
    for descriptor in descriptors.into_values() {
        let socket = match pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            // It was closed since the look.
            Err(rustix::io::Errno::BADF) => continue,
            Err(error) => return Err(reach(error)),
        };
        let asked = SockRef::from(&socket);
        let listens = asked.is_listener().unwrap_or(false);
        if listens && is_meant(&asked) {
            listening.push(socket);
        }
    }
    Ok(listening)
}

/// A socket filter for TCP sees a packet from its TCP header on. It drops those whose flags say SYN
/// and not ACK, and lets everything else through.
fn drop_opening_packets() -> [SockFilter; 5] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const FLAGS: u32 = 13; // The offset of the flags in a TCP header.
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN_AND_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// Whether a connection waits to be accepted: then a listening socket is readable.
fn any_waits_for_accept(sockets: &[OwnedFd]) -> bool {
    let mut looks: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::new(socket, PollFlags::IN))
        .collect();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // A look that fails tells nothing, and a stop must not wait for it.
    poll(&mut looks, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_netutil::proc_net::each_tcp_socket;
    use std::collections::BTreeSet;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    /// Our own process stands for the child: descriptors of oneself can be had as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_is_accepted_and_nobody_new_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let spared = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        let accepting = std::thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || listener.accept().unwrap()
        });
        // Other tests of this process listen too, on ports that are not ours to quieten.
        let mut others = BTreeSet::new();
        each_tcp_socket(&PathBuf::from("/proc/self"), |socket, _| {
            others.insert(socket.local.port());
        })
        .unwrap();
        others.remove(&address.port());
        keep_new_connections_away(std::process::id(), |port| others.contains(&port))
            .await
            .unwrap();
        let (accepted, _) = accepting.join().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), waiting.local_addr().unwrap());
        let limit = Duration::from_millis(300);
        let error = TcpStream::connect_timeout(&address, limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        TcpStream::connect_timeout(&spared.local_addr().unwrap(), limit).unwrap();
        // Once it is closed, who comes is refused.
        drop(listener);
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Only names of this test are meant; other tests of this process listen as well, and cannot be
    /// spared all. So a child stands for the process.
    #[tokio::test]
    async fn who_waits_at_a_unix_socket_is_accepted_and_nobody_new_comes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["clients", "admin"].map(|name| dir.path().join(name));
        let [clients, admin] = &paths;
        let listeners = paths.clone().map(|path| UnixListener::bind(path).unwrap());
        let [listener, _admin] = &listeners;
        // The child has the sockets as descriptors 0 and 1; it does nothing with them.
        let [first, second] = listeners
            .each_ref()
            .map(|it| OwnedFd::from(it.try_clone().unwrap()));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(first)
            .stdout(second)
            .spawn()
            .unwrap();
        let mut waiting = UnixStream::connect(clients).unwrap();
        waiting.write_all(b"request").unwrap();
        let refused = refuse_new_unix_connections(child.id(), Some(admin)).await;
        let late = UnixStream::connect(clients);
        let spared = UnixStream::connect(admin);
        let accepted = listener.accept().map(|(stream, _)| stream);
        child.kill().unwrap();
        child.wait().unwrap();
        refused.unwrap();
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        spared.unwrap();
        let mut request = [0; 7];
        accepted.unwrap().read_exact(&mut request).unwrap();
        assert_eq!(&request, b"request");
    }

    #[tokio::test]
    async fn a_process_that_is_gone_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = keep_new_connections_away(child.id(), |_| false)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(&child.id().to_string()),
            "{error}"
        );
    }
}
