//! Replacing an Envoy by one that cannot take over from it by hot restart, because the two speak
//! different versions of that protocol: side by side, under two base ids.
//!
//! Both listen on the same ports, which the kernel allows because Envoy sets `SO_REUSEPORT`. What a
//! hot-restart child would say to its parent the agent says: first to close the admin endpoint,
//! which only one can have, and once the new one is live, to close the listeners. The end at the
//! parent-shutdown time comes from the agent as well.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use handover_core::Epoch;
use tokio::time::{Instant, sleep};

use super::super::lines::Line;
use super::super::running::EnvoyProcess;
use super::super::{Envoy, EnvoyConfig, EnvoyFailed};
use super::EpochRun;
use super::retirement::wake_if_stopped;
use crate::bootstrap::{ListenAddress, Listener};
use crate::syn_filter::keep_new_connections_away;

/// How long the old epoch gets to close its listeners: 2 s. It takes a few milliseconds. Meanwhile
/// the kernel drops what opens a connection to it, and clients try again.
const CLOSE: Duration = Duration::from_secs(2);

/// How often its listeners are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Why two Envoys cannot serve side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSideBySide {
    /// One of them was built without hot restart: it could not be told to give way.
    NoHotRestart,
    /// A listener of both keeps its port to itself.
    NoReusePort {
        /// The listener's name; it may be empty.
        listener: String,
        /// The port.
        port: u16,
    },
    /// A listener of both is UDP: its packets would go to either one.
    Udp {
        /// The listener's name; it may be empty.
        listener: String,
        /// The port.
        port: u16,
    },
    /// A listener of both is a Unix socket, which belongs to one process.
    Pipe {
        /// The listener's name; it may be empty.
        listener: String,
        /// The socket.
        path: PathBuf,
    },
}

impl fmt::Display for NotSideBySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHotRestart => {
                f.write_str("one that was built without hot restart cannot give way")
            }
            Self::NoReusePort { listener, port } => write!(
                f,
                "listener {listener:?} keeps port {port} to itself (enable_reuse_port: false)"
            ),
            Self::Udp { listener, port } => write!(
                f,
                "listener {listener:?} is UDP, and the packets to port {port} would go to either one"
            ),
            Self::Pipe { listener, path } => write!(
                f,
                "listener {listener:?} is the Unix socket {}, which only one can have",
                path.display()
            ),
        }
    }
}

/// The old epoch goes on listening although it was told not to.
pub(super) struct KeptListening;

/// Begins a line for an epoch that cannot take over from an older one, which closes its admin
/// endpoint. The older one serves on, whatever becomes of the new one.
pub(super) async fn begin_beside(
    envoy: &Envoy,
    epoch: Epoch,
    older: &EnvoyProcess,
) -> Result<Line, EnvoyFailed> {
    let line = envoy.lines.begin(epoch)?;
    wake_if_stopped(older);
    older.line.parent(older.epoch).shut_down_admin().await?;
    Ok(line)
}

impl EpochRun<'_> {
    /// Lets the epoch close its listeners, so that all new connections go to the one in another line
    /// that is live, and waits until it has.
    pub(super) async fn give_way(&self) -> Result<(), KeptListening> {
        let process = &*self.process;
        let epoch = process.epoch;
        wake_if_stopped(process);
        // Its admin endpoint is closed, so every listener is one of clients.
        if let Err(error) = keep_new_connections_away(process.pid(), &BTreeSet::new()).await {
            error.log();
        }
        let parent = process.line.parent(epoch);
        for _ in 0..2 {
            if let Err(error) = parent.drain_listeners() {
                tracing::warn!(epoch = epoch.number(), "{error}");
            }
            if self.stops_listening().await {
                return Ok(());
            }
            wake_if_stopped(process);
        }
        tracing::warn!(
            epoch = epoch.number(),
            "epoch {epoch} does not close its listeners for the newer one and is killed"
        );
        Err(KeptListening)
    }

    /// Returns whether the epoch has closed its listeners in time.
    async fn stops_listening(&self) -> bool {
        let end = Instant::now() + CLOSE;
        while !self.envoy.running.has_given_way(&self.process).await {
            if Instant::now() >= end {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}

/// Why an Envoy with the configuration `new` cannot serve beside one with `old`, as far as their
/// static listeners tell. Where they share no address nothing stands in the way.
pub(super) fn obstacle(old: &EnvoyConfig, new: &EnvoyConfig) -> Option<NotSideBySide> {
    let new = new.bootstrap().listeners.iter();
    new.flat_map(|listener| listener.addresses.iter().map(move |at| (listener, at)))
        .find_map(|(listener, address)| {
            let old = old.bootstrap().listeners.iter();
            let mut old =
                old.flat_map(|listener| listener.addresses.iter().map(move |at| (listener, at)));
            old.find_map(|(older, at)| conflict((older, at), (listener, address)))
        })
}

fn conflict(
    (older, old): (&Listener, &ListenAddress),
    (listener, new): (&Listener, &ListenAddress),
) -> Option<NotSideBySide> {
    let name = || listener.name.clone();
    match (old, new) {
        // 127.0.0.1 and 0.0.0.0 exclude each other as well, so the ports decide. Port 0 is another
        // port each time.
        (
            ListenAddress::Socket {
                port: old,
                udp: old_udp,
                ..
            },
            ListenAddress::Socket { port, udp, .. },
        ) if old == port && old_udp == udp && *port != 0 => {
            let keeps = [older, listener]
                .iter()
                .any(|listener| listener.enable_reuse_port == Some(false));
            match (udp, keeps) {
                (true, _) => Some(NotSideBySide::Udp {
                    listener: name(),
                    port: *port,
                }),
                (false, true) => Some(NotSideBySide::NoReusePort {
                    listener: name(),
                    port: *port,
                }),
                (false, false) => None,
            }
        }
        (ListenAddress::Pipe(old), ListenAddress::Pipe(path)) if old == path => {
            Some(NotSideBySide::Pipe {
                listener: name(),
                path: path.clone(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(listeners: &str) -> EnvoyConfig {
        let text = format!(
            "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 9901 }} }} }}\n\
             static_resources: {{ listeners: [ {listeners} ] }}\n"
        );
        EnvoyConfig::parse(Path::new("envoy.yaml"), text.into_bytes()).unwrap()
    }

    fn listener(name: &str, address: &str, port: u16, more: &str) -> String {
        format!(
            "{{ name: {name}, {more} address: {{ socket_address: \
             {{ address: {address}, port_value: {port} {} }} }} }}",
            if more.contains("udp") {
                ", protocol: UDP"
            } else {
                ""
            }
        )
    }

    fn between(old: &str, new: &str) -> Option<String> {
        obstacle(&config(old), &config(new)).map(|obstacle| obstacle.to_string())
    }

    #[test]
    fn what_only_one_can_have_stands_in_the_way() {
        let web = listener("web", "0.0.0.0", 80, "");
        let alone = listener("web", "127.0.0.1", 80, "enable_reuse_port: false,");
        assert_eq!(between(&web, &web), None);
        for (old, new) in [(&web, &alone), (&alone, &web), (&alone, &alone)] {
            assert_eq!(
                between(old, new).unwrap(),
                "listener \"web\" keeps port 80 to itself (enable_reuse_port: false)"
            );
        }
        let quic = listener("quic", "0.0.0.0", 443, "stat_prefix: udp,");
        let said = between(&quic, &quic).unwrap();
        assert!(said.contains("\"quic\" is UDP"), "{said}");
        let pipe = "{ name: local, address: { pipe: { path: /run/x } } }";
        let said = between(pipe, pipe).unwrap();
        assert!(said.contains("/run/x, which only one can have"), "{said}");
    }

    #[test]
    fn addresses_that_are_not_shared_do_not() {
        let web = listener("web", "0.0.0.0", 80, "");
        let quic = listener("quic", "0.0.0.0", 80, "stat_prefix: udp,");
        let moved = listener("web", "0.0.0.0", 81, "enable_reuse_port: false,");
        let any = listener("any", "0.0.0.0", 0, "enable_reuse_port: false,");
        let pipe = "{ name: local, address: { pipe: { path: /run/x } } }";
        let other = "{ name: local, address: { pipe: { path: /run/y } } }";
        for (old, new) in [
            (&*web, &*moved),
            (&web, &quic),
            (&any, &any),
            (pipe, other),
            (&web, pipe),
            ("", &moved),
        ] {
            assert_eq!(between(old, new), None, "{old} {new}");
        }
    }
}
