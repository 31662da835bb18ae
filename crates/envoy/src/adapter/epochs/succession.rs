//! How an epoch follows on the newest one that runs: by hot restart in the same lineage, or side by
//! side in a lineage of its own.

use std::fmt;
use std::path::PathBuf;

use crate::bootstrap::{ListenAddress, Listener};
use crate::version::HotRestartVersion;

/// How the next epoch follows on the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Succession {
    /// It takes over by hot restart, in the same lineage.
    HotRestart,
    /// It serves beside the newest one, in a lineage of its own.
    SideBySide(OtherVersion),
    /// It can do neither.
    Refused(OtherVersion, NotSideBySide),
}

/// The hot restart versions of a binary and of an Envoy that it cannot take over from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) struct OtherVersion {
    /// The version of the binary.
    pub(in crate::adapter) found: HotRestartVersion,
    /// The version of the Envoy that runs.
    pub(in crate::adapter) running: String,
}

/// Returns whether the binary must be asked for its hot restart version before an epoch can follow
/// on one that has said it speaks `running`. Another version needs another binary. An Envoy without
/// hot restart is followed by none in its lineage, whatever the binary is.
pub(in crate::adapter) fn needs_version(running: Option<&str>, is_same_binary: bool) -> bool {
    running.is_some_and(|running| !is_same_binary || running == HotRestartVersion::DISABLED)
}

/// Returns how an epoch follows on one that has said it speaks `running`, if it was live. `found` is
/// the version of the binary, if it was [needed](needs_version). The listeners are those of the two
/// configurations.
pub(in crate::adapter) fn succession(
    running: Option<&str>,
    found: Option<HotRestartVersion>,
    old: &[Listener],
    new: &[Listener],
) -> Succession {
    let (Some(running), Some(found)) = (running, found) else {
        return Succession::HotRestart;
    };
    let none_takes_over = running == HotRestartVersion::DISABLED || found.is_disabled();
    if found.as_str() == running && !none_takes_over {
        return Succession::HotRestart;
    }
    let obstacle = match none_takes_over {
        true => Some(NotSideBySide::NoHotRestart),
        false => obstacle(old, new),
    };
    let other = OtherVersion {
        found,
        running: running.to_owned(),
    };
    match obstacle {
        Some(why) => Succession::Refused(other, why),
        None => Succession::SideBySide(other),
    }
}

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

/// Returns why an Envoy with the listeners `new` cannot serve beside one with `old`. Listeners that
/// share no address do not stand in the way.
fn obstacle(old: &[Listener], new: &[Listener]) -> Option<NotSideBySide> {
    let new = new.iter();
    new.flat_map(|listener| listener.addresses.iter().map(move |at| (listener, at)))
        .find_map(|(listener, address)| {
            let mut old = old
                .iter()
                .flat_map(|listener| listener.addresses.iter().map(move |at| (listener, at)));
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
    use crate::adapter::EnvoyConfig;
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
        let [old, new] = [old, new].map(config);
        let obstacle = obstacle(&old.bootstrap().listeners, &new.bootstrap().listeners);
        obstacle.map(|obstacle| obstacle.to_string())
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

    fn version(text: &str) -> HotRestartVersion {
        HotRestartVersion::parse(text).unwrap()
    }

    #[test]
    fn the_version_is_asked_where_it_may_be_another_one() {
        let disabled = Some(HotRestartVersion::DISABLED);
        for (running, is_same_binary, is_needed) in [
            // One that was never live has not said what it speaks. It fails by itself if it must.
            (None, true, false),
            (None, false, false),
            (Some("11.104"), true, false),
            (Some("11.104"), false, true),
            (disabled, true, true),
            (disabled, false, true),
        ] {
            assert_eq!(needs_version(running, is_same_binary), is_needed);
        }
    }

    #[test]
    fn the_same_version_takes_over_by_hot_restart() {
        let shared = config(&listener("web", "0.0.0.0", 80, "enable_reuse_port: false,"));
        let shared = &shared.bootstrap().listeners;
        for (running, found) in [
            (None, None),
            (None, Some("11.104")),
            (Some("11.104"), None),
            (Some("11.104"), Some("11.104")),
        ] {
            let how = succession(running, found.map(version), shared, shared);
            assert_eq!(how, Succession::HotRestart, "{running:?} {found:?}");
        }
    }

    #[test]
    fn another_version_serves_side_by_side_if_the_listeners_let_it() {
        let other = OtherVersion {
            found: version("12.1"),
            running: "11.104".to_owned(),
        };
        let follows = |more: &str| {
            let shared = config(&listener("web", "0.0.0.0", 80, more));
            let shared = &shared.bootstrap().listeners;
            succession(Some("11.104"), Some(version("12.1")), shared, shared)
        };
        assert_eq!(follows(""), Succession::SideBySide(other.clone()));
        let why = NotSideBySide::NoReusePort {
            listener: "web".to_owned(),
            port: 80,
        };
        let refused = Succession::Refused(other, why);
        assert_eq!(follows("enable_reuse_port: false,"), refused);
    }

    #[test]
    fn without_hot_restart_none_can_be_told_to_give_way() {
        for (running, found) in [
            ("disabled", "disabled"),
            ("disabled", "11.104"),
            ("11.104", "disabled"),
        ] {
            let other = OtherVersion {
                found: version(found),
                running: running.to_owned(),
            };
            let how = succession(Some(running), Some(version(found)), &[], &[]);
            let refused = Succession::Refused(other, NotSideBySide::NoHotRestart);
            assert_eq!(how, refused);
        }
    }
}
