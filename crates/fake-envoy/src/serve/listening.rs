//! Listening sockets: bound by this process, or taken over from its parent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::sync::watch;

use crate::config::{Address, Listener};
use crate::shared_memory::system_text;

/// How many connections wait to be accepted.
const BACKLOG: i32 = 4096;

/// The sockets of one listener: one for each worker, or one for all.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    own: Vec<Socket>,
    is_shared: bool,
}

impl Sockets {
    /// Returns the socket of a worker.
    pub(crate) fn of(&self, worker: u32) -> Option<&Socket> {
        let index = if self.is_shared { 0 } else { worker };
        self.own.get(usize::try_from(index).ok()?)
    }
}

/// A listener and its sockets.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: Arc<Listener>,
    pub(crate) sockets: Sockets,
    stop: watch::Sender<bool>,
}

impl Bound {
    /// Takes the sockets of a listener over, or binds them. `inherit` asks the parent for the socket of
    /// a worker.
    ///
    /// # Errors
    ///
    /// The text of Envoy.
    pub(crate) fn new(
        listener: Listener,
        workers: u32,
        mut inherit: impl FnMut(&str, u32) -> io::Result<Option<OwnedFd>>,
    ) -> Result<Self, String> {
        let mut sockets = Sockets {
            own: Vec::new(),
            is_shared: !listener.reuse_port,
        };
        let has_socket = listener.bind_to_port && !matches!(listener.address, Address::Internal(_));
        let count = match (has_socket, sockets.is_shared) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => workers,
        };
        let url = listener.address.url();
        for worker in 0..count {
            let inherited = inherit(&url, worker).map_err(|error| system_text(&error))?;
            let socket = match inherited {
                Some(fd) => Socket::from(fd),
                None => bind(&listener.address, listener.reuse_port).map_err(|error| {
                    format!(
                        "cannot bind '{}': {}",
                        listener.address,
                        system_text(&error)
                    )
                })?,
            };
            sockets.own.push(socket);
        }
        Ok(Self {
            listener: Arc::new(listener),
            sockets,
            stop: watch::Sender::new(false),
        })
    }

    /// Begins to listen.
    pub(crate) fn listen(&self) -> io::Result<()> {
        if matches!(self.listener.address, Address::Udp(_)) {
            return Ok(());
        }
        self.sockets
            .own
            .iter()
            .try_for_each(|socket| socket.listen(BACKLOG))
    }

    /// Returns what tells a worker to stop accepting.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Stops accepting, and closes the sockets of this process.
    pub(crate) fn stop(&mut self) {
        self.stop.send_replace(true);
        self.sockets.own.clear();
    }

    /// Returns the socket that a child asks for.
    pub(crate) fn passed(&self, url: &str, worker: u32) -> Option<BorrowedFd<'_>> {
        if self.listener.address.url() != url || !self.listener.bind_to_port {
            return None;
        }
        self.sockets.of(worker).map(Socket::as_fd)
    }
}

fn bind(address: &Address, reuse_port: bool) -> io::Result<Socket> {
    let (kind, protocol, at) = match address {
        Address::Tcp(at) => (Type::STREAM, Some(Protocol::TCP), SockAddr::from(*at)),
        Address::Udp(at) => (Type::DGRAM, Some(Protocol::UDP), SockAddr::from(*at)),
        Address::Pipe(path) => (Type::STREAM, None, pipe(path)?),
        Address::Internal(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(Domain::from(i32::from(at.family())), kind, protocol)?;
    if let Address::Pipe(path) = address {
        // Envoy removes what a process before it has left.
        if !path.starts_with('@') {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    } else {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
    }
    socket.bind(&at)?;
    Ok(socket)
}

/// Returns the address of a pipe; a path that begins with `@` is abstract.
pub(crate) fn pipe(path: &str) -> io::Result<SockAddr> {
    match path.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path),
    }
}

/// Binds the socket of an admin endpoint and begins to listen.
pub(crate) fn listen_for_admin(address: &Address) -> io::Result<Socket> {
    let socket = bind(address, false)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
