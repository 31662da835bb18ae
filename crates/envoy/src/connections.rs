//! Counting a process's connections from outside, for an old epoch: it has lost its admin endpoint to
//! the new one and cannot be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use crate::proc_net::{TcpSocket, each_tcp_socket};

/// Why connections could not be counted.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at the sockets of process {pid} in {}", path.display())]
pub struct ConnectionsError {
    /// The process.
    pub pid: u32,
    /// The file or directory that could not be read.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The TCP ports on which a process listens.
///
/// It blocks while it reads `/proc`. Ask while the process still has its listeners: an old epoch
/// closes them as soon as the new one serves.
///
/// # Errors
///
/// [`ConnectionsError`], also where the process has ended or belongs to another user.
pub fn listening_ports(pid: u32) -> Result<BTreeSet<u16>, ConnectionsError> {
    let mut ports = BTreeSet::new();
    each_own_socket(pid, |socket| {
        if socket.state == TcpSocket::LISTEN {
            ports.insert(socket.local_port);
        }
    })?;
    Ok(ports)
}

/// The connections that clients have to a process on the given local ports, per port; ports without
/// one are absent. Leave the admin port out of the ports.
///
/// A connection whose client has closed its side counts as long as the process keeps it, because it
/// may still be answering. Connections that the process has opened itself have other local ports. It
/// blocks while it reads `/proc`, for some milliseconds per ten thousand sockets of the host.
///
/// # Errors
///
/// [`ConnectionsError`], also where the process has ended or belongs to another user.
///
/// ```
/// use handover_envoy::connections::{established, listening_ports};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let me = std::process::id();
/// assert!(listening_ports(me)?.contains(&port));
///
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let (server, _) = listener.accept()?;
/// assert_eq!(established(me, &[port].into())?[&port], 1);
/// # drop((client, server));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn established(
    pid: u32,
    ports: &BTreeSet<u16>,
) -> Result<BTreeMap<u16, usize>, ConnectionsError> {
    let mut counts = BTreeMap::new();
    each_own_socket(pid, |socket| {
        let open = matches!(socket.state, TcpSocket::ESTABLISHED | TcpSocket::CLOSE_WAIT);
        if open && ports.contains(&socket.local_port) {
            *counts.entry(socket.local_port).or_default() += 1;
        }
    })?;
    Ok(counts)
}

fn each_own_socket(pid: u32, mut visit: impl FnMut(TcpSocket)) -> Result<(), ConnectionsError> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    each_tcp_socket(&process, |socket, _| visit(socket))
        .map_err(|(path, source)| ConnectionsError { pid, path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[test]
    fn only_accepted_connections_on_the_given_ports_count() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let connect = |listener: &TcpListener| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let me = std::process::id();
        let ports = BTreeSet::from([port(&v4), port(&v6)]);
        assert!(listening_ports(me).unwrap().is_superset(&ports));
        assert_eq!(established(me, &ports).unwrap(), BTreeMap::new());

        let pairs = [connect(&v4), connect(&v4), connect(&v6)];
        let _uncounted = connect(&other);
        let expected = BTreeMap::from([(port(&v4), 2), (port(&v6), 1)]);
        assert_eq!(established(me, &ports).unwrap(), expected);

        // A client that has closed its side still waits for the answer.
        pairs[0].0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(established(me, &ports).unwrap(), expected);

        // A listener that is closed leaves its connections, as that of an old epoch does.
        drop((v4, v6));
        assert_eq!(established(me, &ports).unwrap(), expected);
        drop(pairs);
        assert_eq!(established(me, &ports).unwrap(), BTreeMap::new());
    }

    #[test]
    fn a_process_that_does_not_exist_is_named() {
        let error = established(u32::MAX, &BTreeSet::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot look at the sockets of process 4294967295 in /proc/4294967295"
        );
    }
}
