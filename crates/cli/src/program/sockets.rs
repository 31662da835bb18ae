//! The listening sockets, bound once and passed on to every epoch.

use std::io;
use std::net::{SocketAddr, TcpListener};

use handover_netutil::{Listen, ListenError};
use handover_tokio::process::Command;

/// Listening sockets with their names, in the order in which they are passed.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<(String, TcpListener)>);

impl Sockets {
    /// Binds one more; returns the address, with its port where the system chose one.
    pub(crate) fn bind(
        &mut self,
        name: String,
        addr: SocketAddr,
    ) -> Result<SocketAddr, ListenError> {
        // Not blocking, as event loops want it, and as it is under systemd by default only for
        // those that ask: whether it blocks is common to all epochs that share the socket.
        let listener = Listen::new(addr).nonblocking(true).tcp()?;
        let bound = listener.local_addr().unwrap_or(addr);
        self.0.push((name, listener));
        Ok(bound)
    }

    /// Where they listen.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0
            .iter()
            .filter_map(|(_, listener)| listener.local_addr().ok())
    }

    /// Adds a copy of each to what the command passes on.
    pub(super) fn pass_to(&self, command: Command) -> io::Result<Command> {
        self.0
            .iter()
            .try_fold(command, |command, (name, listener)| {
                Ok(command.socket(name.clone(), listener.try_clone()?))
            })
    }
}
