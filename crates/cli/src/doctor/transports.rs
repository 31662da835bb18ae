//! Worker threads, and listeners that a hand-over treats differently.

use handover_envoy::bootstrap::{ListenAddress, Listener};

use super::configuration::{name_of, on_configuration};
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
    about: "UDP listeners, whose sessions go on over a hand-over since Envoy 1.40",
    worst: Severity::Information,
    logged: false,
    judge: |facts| on_configuration(facts, |_, configuration| udp_listeners(configuration)),
};

pub(super) const QUIC_LISTENERS: Check = Check {
    name: "quic-listeners",
    about: "QUIC listeners, whose connections a hand-over to another number of workers resets",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, quic_listeners),
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

fn udp_listeners(configuration: &ConfigurationFacts) -> Verdict {
    let listeners = configuration.bootstrap.listeners.iter();
    let plain = listeners.filter(|listener| is_udp(listener) && !listener.quic);
    let plain: Vec<String> = plain.map(name_of).collect();
    if plain.is_empty() {
        return Verdict::good("none", "no static listener is for plain UDP");
    }
    Verdict::good(
        plain.join(", "),
        "sessions go on over a hand-over with Envoy 1.40 (seen with 1.40.0); a drain cannot count \
         them in the tables of the host",
    )
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
