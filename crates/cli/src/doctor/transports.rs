//! Worker threads, and listeners and connections that a hand-over treats differently.

use std::time::Duration;

use handover_envoy::bootstrap::{ListenAddress, Listener, LongStreamKind};
use humantime::format_duration;

use super::configuration::{name_of, on_configuration, shown};
use super::facts::{AdminAnswer, ConfigurationFacts, Facts};
use super::{Check, Severity, Verdict};

pub(super) const CONCURRENCY: Check = Check {
    name: "concurrency",
    about: "the number of worker threads against that of the Envoy that runs",
    worst: Severity::Warning,
    logged: false,
    judge: |facts| on_configuration(facts, concurrency),
};

pub(super) const REUSE_PORT: Check = Check {
    name: "reuse-port",
    about: "`enable_reuse_port: false`, with which no Envoy can be replaced side by side",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, reuse_port),
};

pub(super) const UDP_LISTENERS: Check = Check {
    name: "udp-listeners",
    about: "UDP listeners, which answer nothing for a while after a hand-over before Envoy 1.40",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, udp_listeners),
};

pub(super) const QUIC_LISTENERS: Check = Check {
    name: "quic-listeners",
    about: "QUIC listeners, whose connections a hand-over to another number of workers resets",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, quic_listeners),
};

pub(super) const UNIX_LISTENERS: Check = Check {
    name: "unix-listeners",
    about: "listeners on Unix sockets, which two Envoys side by side cannot share",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, unix_listeners),
};

pub(super) const LISTENER_NAMESPACES: Check = Check {
    name: "listener-namespaces",
    about: "listeners in another network namespace (`network_namespace_filepath`), which must exist at each start",
    worst: Severity::Error,
    logged: true,
    judge: |facts| on_configuration(facts, |_, configuration| listener_namespaces(configuration)),
};

pub(super) const LONG_STREAMS: Check = Check {
    name: "long-streams",
    about: "WebSocket, TCP proxies and long requests against `--parent-shutdown-time`, at which an old epoch cuts them",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, long_streams),
};

fn concurrency(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let args = match &facts.settings.args {
        Ok(args) => args,
        Err(why) => return Verdict::unknown(why, "correct the arguments of Envoy"),
    };
    let value = args.concurrency().to_string();
    let running = match &facts.admin {
        Ok(admin) => match &admin.answer {
            AdminAnswer::Envoy(info) => info.concurrency,
            AdminAnswer::Nobody | AdminAnswer::Other(_) => None,
        },
        Err(_) => None,
    };
    let risk = running.and_then(|running| args.concurrency_risk(running, &configuration.bootstrap));
    match risk {
        Some(risk) => Verdict::warning(
            format!("{value}, the Envoy that runs has {}", risk.running),
            risk.to_string(),
            format!("give --concurrency {}", risk.running),
        ),
        None => Verdict::good(value, "every epoch gets this number of worker threads"),
    }
}

fn reuse_port(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let listeners = configuration.bootstrap.listeners.iter();
    let off = listeners.filter(|listener| listener.enable_reuse_port == Some(false));
    let off: Vec<String> = off.map(name_of).collect();
    if off.is_empty() {
        let reason = "each worker thread has a socket of its own";
        return Verdict::good("on for every static listener", reason);
    }
    let value = format!("off for listener {}", off.join(", "));
    if facts.settings.watch_binary {
        return Verdict::warning(
            value,
            "an Envoy whose hot restart speaks another version takes over side by side, which needs \
             a shared port: --watch-binary cannot switch to it",
            "set enable_reuse_port: true, or replace such a binary with `handover reload --cold`",
        );
    }
    Verdict::good(value, "a replaced binary may need a cold restart")
}

fn is_udp(listener: &Listener) -> bool {
    let mut addresses = listener.addresses.iter();
    addresses.any(|address| matches!(address, ListenAddress::Socket { udp: true, .. }))
}

/// Envoy from this version on hands UDP sessions over.
const UDP_HAND_OVER: (u32, u32) = (1, 40);

/// The parent-shutdown time, with its flag.
fn parent_shutdown(facts: &Facts) -> (Option<Duration>, String) {
    let time = facts.settings.args.as_ref().ok();
    let time = time.map(handover_envoy::args::EnvoyArgs::parent_shutdown_time);
    let flag = "--parent-shutdown-time";
    let text = time.map_or_else(
        || flag.to_owned(),
        |time| format!("{flag} {}", format_duration(time)),
    );
    (time, text)
}

const NOT_SIDE_BY_SIDE: &str = "an Envoy whose hot restart speaks another version takes over side by \
                                side, and two cannot have this socket: --watch-binary cannot switch to it";
const REPLACE_COLD: &str = "replace such a binary with `handover reload --cold`";

fn udp_listeners(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let listeners = configuration.bootstrap.listeners.iter();
    let plain = listeners.filter(|listener| is_udp(listener) && !listener.quic);
    let plain: Vec<String> = plain.map(name_of).collect();
    if plain.is_empty() {
        return Verdict::good("none", "no static listener is for plain UDP");
    }
    let value = plain.join(", ");
    let (_, shutdown) = parent_shutdown(facts);
    let admin = facts.admin.as_ref().ok();
    let version = admin.and_then(|admin| admin.version);
    if let Some((major, minor)) = version.filter(|version| *version < UDP_HAND_OVER) {
        return Verdict::warning(
            format!("{value}, with Envoy {major}.{minor}"),
            format!(
                "after each change nothing answers there until the old epoch has ended, at {shutdown}"
            ),
            "use Envoy 1.40, or shorten --parent-shutdown-time",
        );
    }
    if facts.settings.watch_binary {
        return Verdict::warning(value, NOT_SIDE_BY_SIDE, REPLACE_COLD);
    }
    let at_a_stop = format!(
        "a stop does not wait for datagrams, and a further change waits for {shutdown}, because nobody \
         can count them"
    );
    match version {
        Some(_) => Verdict::good(
            value,
            format!("sessions go on over a hand-over; {at_a_stop}"),
        ),
        None => Verdict {
            remedy: Some("use Envoy 1.40; see `envoy --version`".to_owned()),
            ..Verdict::good(
                value,
                format!(
                    "before Envoy 1.40 nothing answers there after a change, until {shutdown} is over; \
                     {at_a_stop}"
                ),
            )
        },
    }
}

fn quic_listeners(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let listeners = configuration.bootstrap.listeners.iter();
    let quic: Vec<String> = listeners
        .filter(|listener| listener.quic)
        .map(name_of)
        .collect();
    if quic.is_empty() {
        return Verdict::good("none", "no static listener serves QUIC");
    }
    let value = quic.join(", ");
    if facts.settings.concurrency_is_given && facts.settings.watch_binary {
        return Verdict::warning(value, NOT_SIDE_BY_SIDE, REPLACE_COLD);
    }
    if facts.settings.concurrency_is_given {
        return Verdict::good(
            value,
            "--concurrency keeps the number of worker threads equal",
        );
    }
    Verdict::warning(
        value,
        "a hand-over to another number of worker threads resets QUIC connections, and without \
         --concurrency the number follows from the processors at each start of handover",
        "give --concurrency",
    )
}

fn unix_listeners(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let listeners = configuration.bootstrap.listeners.iter();
    let pipes = listeners.flat_map(|listener| &listener.addresses);
    let pipes = pipes.filter(|address| matches!(address, ListenAddress::Pipe(_)));
    let pipes: Vec<String> = pipes.map(shown).collect();
    if pipes.is_empty() {
        return Verdict::good("none", "no static listener is on a Unix socket");
    }
    let value = pipes.join(", ");
    if facts.settings.watch_binary {
        return Verdict::warning(value, NOT_SIDE_BY_SIDE, REPLACE_COLD);
    }
    if pipes.iter().any(|pipe| pipe.starts_with("unix:@")) {
        let reason = "connections go on over a hand-over; an abstract socket has no permissions, so \
                      every process of this network namespace can connect, and none of another";
        return Verdict::good(value, reason);
    }
    Verdict::good(
        value,
        "connections go on over a hand-over, and the file stays",
    )
}

fn listener_namespaces(configuration: &ConfigurationFacts) -> Verdict {
    if configuration.namespaces.is_empty() {
        return Verdict::good(
            "none",
            "every static listener is in the network namespace of Envoy",
        );
    }
    let named = |missing: bool| {
        let namespaces = configuration.namespaces.iter();
        let meant = namespaces.filter(move |(_, why)| why.is_some() == missing);
        let text = meant.map(|(path, why)| match why {
            Some(why) => format!("{}: {why}", path.display()),
            None => path.display().to_string(),
        });
        text.collect::<Vec<_>>().join(", ")
    };
    let missing = named(true);
    if !missing.is_empty() {
        return Verdict::error(
            missing,
            "the first Envoy cannot start without the namespace of its listener, nor a further one before 1.40; \
             one that runs serves on",
            "create the namespace again, or take the listener out of the configuration",
        );
    }
    Verdict::good(
        named(false),
        "each new epoch opens it again, with the capability CAP_SYS_ADMIN; connections there are \
         counted by the statistics alone, so a further change waits for --parent-shutdown-time",
    )
}

fn long_streams(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let found = match &configuration.long_streams {
        Ok(found) => found,
        Err(why) => return Verdict::unknown(why, "look for upgrade_configs in the configuration"),
    };
    let (Some(limit), shutdown) = parent_shutdown(facts) else {
        let why = facts.settings.args.as_ref().err();
        let why = why.map_or("the arguments of Envoy are not known", |why| &why.0);
        return Verdict {
            remedy: Some("correct the arguments of Envoy".to_owned()),
            ..Verdict::good("unknown", why)
        };
    };
    let is_long = |kind: &LongStreamKind| match kind {
        LongStreamKind::Route(Some(time)) => *time > limit,
        LongStreamKind::Route(None) | LongStreamKind::Upgrade(_) | LongStreamKind::Tcp | _ => true,
    };
    let found: Vec<_> = found.iter().filter(|it| is_long(&it.kind)).collect();
    let Some(first) = found.first() else {
        return Verdict::good(
            "none in the file",
            "no upgrade, TCP proxy or long timeout of a route was found",
        );
    };
    let more = match found.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    let stop = format_duration(facts.settings.termination_drain);
    let reason = format!(
        "what lasts longer is cut after a change at {shutdown}, and at a stop at --termination-drain {stop}"
    );
    let remedy = "raise --parent-shutdown-time to the longest time that a client needs, and let clients \
                  connect again";
    let longest = found.iter().filter_map(|it| match it.kind {
        LongStreamKind::Route(Some(time)) => Some((time, it.line)),
        LongStreamKind::Route(None) | LongStreamKind::Upgrade(_) | LongStreamKind::Tcp | _ => None,
    });
    if let Some((time, line)) = longest.max_by_key(|(time, _)| *time) {
        let time = format_duration(time);
        let value = format!("a route with a timeout of {time} at line {line}{more}");
        return Verdict::warning(value, reason, remedy);
    }
    Verdict {
        remedy: Some(remedy.to_owned()),
        ..Verdict::good(
            format!("{} at line {}{more}", first.kind, first.line),
            reason,
        )
    }
}
