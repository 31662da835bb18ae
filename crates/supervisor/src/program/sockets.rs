//! The sockets, bound once and passed on to every epoch.

use std::io;
use std::net::SocketAddr;

use handover_core::Epoch;
use handover_netutil::connections::LocalAddress;
use handover_netutil::{Listen, ListenError, ServerSocket};
use handover_process::Command;

use super::{Template, first_after};
use crate::Listener;

/// Sockets of a server with their names, in the order in which they are passed.
#[derive(Debug)]
pub struct Sockets {
    listeners: Vec<(String, ServerSocket)>,
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

    /// Binds one more for TCP, and listens; returns the address, with its port where the system chose one.
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
        self.listeners.push((name.into(), listener.into()));
        Ok(bound)
    }

    /// Adds one that is bound already, such as one that a service manager has passed to this process.
    ///
    /// The file of a Unix socket is looked after while an epoch runs. One that is
    /// [kept](handover_netutil::ListenUnix::keep_file) is put back if a program removes it. Otherwise a warning is
    /// logged.
    pub fn add(&mut self, name: impl Into<String>, socket: impl Into<ServerSocket>) {
        self.listeners.push((name.into(), socket.into()));
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Returns where those of TCP listen.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let listeners = self.listeners.iter();
        listeners.filter_map(|(_, socket)| socket.address().tcp())
    }

    /// The text for an epoch, with the numbers of the descriptors.
    pub(super) fn render(&self, template: &Template, epoch: Epoch) -> String {
        let names: Vec<&str> = self.listeners.iter().map(|(name, _)| &**name).collect();
        template.render(epoch, &names, first_after(0))
    }

    /// Returns where clients have connections that can be seen, with the names of the sockets.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (LocalAddress, Listener)> + '_ {
        self.listeners.iter().filter_map(|(name, socket)| {
            let listener = Listener {
                name: Some(name.clone()),
                ..Listener::default()
            };
            Some((socket.address().of_connections()?, listener))
        })
    }

    /// Returns the names of those whose connections cannot be seen: they take datagrams, or sequential packets.
    pub(super) fn uncountable(&self) -> impl Iterator<Item = &str> {
        let unseen = self
            .listeners
            .iter()
            .filter(|(_, socket)| socket.address().of_connections().is_none());
        unseen.map(|(name, _)| &**name)
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

    /// The sockets with their names.
    pub(super) fn all(&self) -> &[(String, ServerSocket)] {
        &self.listeners
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
