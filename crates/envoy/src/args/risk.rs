//! What a changed number of worker threads costs.

use std::fmt;
use std::num::NonZeroU32;

use super::EnvoyArgs;
use crate::bootstrap::{Bootstrap, ListenAddress, Listener};

/// Connections that a change of the number of worker threads can cost.
///
/// With `enable_reuse_port`, which is Envoy's default, each worker thread has a socket of its own,
/// and the kernel spreads new connections over the sockets. Sockets that no thread of the next
/// epoch takes over are closed with the connections that wait in them: 3 to 6 of 40,000 were reset
/// when that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConcurrencyRisk {
    /// The number of worker threads that run.
    pub running: NonZeroU32,
    /// The number that the next epoch would have.
    pub next: NonZeroU32,
    /// The names of the listeners that lose connections; empty for one without a name.
    pub listeners: Vec<String>,
}

impl fmt::Display for ConcurrencyRisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { running, next, .. } = self;
        write!(
            f,
            "changing --concurrency from {running} to {next} resets some new connections while one \
             epoch hands over to the next, on "
        )?;
        for (place, name) in self.listeners.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match &**name {
                "" => write!(f, "{comma}a listener without a name")?,
                name => write!(f, "{comma}listener {name}")?,
            }
        }
        write!(
            f,
            ": keep --concurrency {running}, set enable_reuse_port: false there, or restart cold"
        )
    }
}

impl EnvoyArgs {
    /// Returns what a hand-over from an Envoy with another number of worker threads risks, or
    /// `None` if it risks nothing. One agent gives all its epochs the same number. It differs if
    /// another process takes over running epochs.
    ///
    /// ```
    /// use handover_envoy::args::{ArgsOptions, EnvoyArgs};
    /// use handover_envoy::bootstrap::{Bootstrap, Format};
    /// use std::num::NonZeroU32;
    ///
    /// let bootstrap = Bootstrap::parse(
    ///     b"{admin: {address: {pipe: {path: /a}}}, static_resources: {listeners: [{name: web,
    ///       address: {socket_address: {address: 0.0.0.0, port_value: 80}}}]}}",
    ///     Format::Yaml,
    /// )?;
    /// let concurrency = NonZeroU32::new(4);
    /// let args = EnvoyArgs::new(ArgsOptions { concurrency, ..ArgsOptions::default() })?;
    /// let risk = args.concurrency_risk(NonZeroU32::MIN, &bootstrap);
    /// assert!(risk.is_some_and(|risk| risk.to_string().contains("listener web")));
    /// assert_eq!(args.concurrency_risk(args.concurrency(), &bootstrap), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn concurrency_risk(
        &self,
        running: NonZeroU32,
        next: &Bootstrap,
    ) -> Option<ConcurrencyRisk> {
        let per_worker = |listener: &&Listener| {
            let has_socket = listener
                .addresses
                .iter()
                .any(|address| matches!(address, ListenAddress::Socket { .. }));
            has_socket && listener.enable_reuse_port != Some(false)
        };
        let listeners = next.listeners.iter().filter(per_worker);
        let listeners: Vec<String> = listeners.map(|listener| listener.name.clone()).collect();
        (running != self.concurrency && !listeners.is_empty()).then_some(ConcurrencyRisk {
            running,
            next: self.concurrency,
            listeners,
        })
    }
}
