//! The listening sockets, bound once and passed on to every epoch.

use std::io;
use std::net::{SocketAddr, TcpListener};

use handover_netutil::connections::LocalAddress;
use handover_netutil::{Listen, ListenError};
use handover_process::Command;

use crate::Listener;

/// Listening sockets with their names, in the order in which they are passed.
#[derive(Debug)]
pub struct Sockets {
    listeners: Vec<(String, TcpListener)>,
    /// Whether `accept` returns at once when there is no connection. All epochs that share a socket
    /// share this too, and each of them can change it.
    nonblocking: bool,
}

impl Sockets {
    /// Returns none yet. With `nonblocking`, `accept` returns at once when there is no connection, until
    /// an epoch changes that.
    #[must_use]
    pub fn new(nonblocking: bool) -> Self {
        Self {
            listeners: Vec::new(),
            nonblocking,
        }
    }

    /// Binds one more, and listens; returns the address, with its port where the system chose one.
    ///
    /// # Errors
    ///
    /// When the operating system refuses the address.
    pub fn bind(
        &mut self,
        name: impl Into<String>,
        addr: SocketAddr,
    ) -> Result<SocketAddr, ListenError> {
        let listener = Listen::new(addr).nonblocking(self.nonblocking).tcp()?;
        let bound = listener.local_addr().unwrap_or(addr);
        self.listeners.push((name.into(), listener));
        Ok(bound)
    }

    /// Returns where they listen.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.listeners
            .iter()
            .filter_map(|(_, listener)| listener.local_addr().ok())
    }

    /// Returns where clients connect, with the names of the sockets.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (LocalAddress, Listener)> + '_ {
        self.listeners.iter().filter_map(|(name, listener)| {
            let address = listener.local_addr().ok()?;
            let listener = Listener {
                name: Some(name.clone()),
                ..Listener::default()
            };
            Some((LocalAddress::Tcp(address), listener))
        })
    }

    /// Takes back what an epoch has changed about blocking. Call it while no epoch runs: an event loop
    /// that has made a socket nonblocking would hang in `accept` otherwise.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(super) fn restore(&self) -> io::Result<()> {
        let mut listeners = self.listeners.iter();
        listeners.try_for_each(|(_, listener)| listener.set_nonblocking(self.nonblocking))
    }

    /// Adds a copy of each to what the command passes on.
    pub(super) fn pass_to(&self, command: Command) -> io::Result<Command> {
        self.listeners
            .iter()
            .try_fold(command, |command, (name, listener)| {
                Ok(command.socket(name.clone(), listener.try_clone()?))
            })
    }
}
