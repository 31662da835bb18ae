//! The configuration of Envoy: where it is administered, and what can be seen of its connections.

use std::net::IpAddr;

use handover_envoy::bootstrap::{DrainTimeout, ListenAddress, Listener};
use humantime::format_duration;

use super::facts::{AdminAnswer, ConfigurationFacts, Facts};
use super::{Check, Severity, Verdict};

const READ_IT: &str = "mend what `configuration` finds";

pub(super) const ENVOY_BINARY: Check = Check {
    name: "envoy-binary",
    about: "whether `--envoy-path` can be executed",
    worst: Severity::Error,
    logged: false,
    judge: envoy_binary,
};

pub(super) const CONFIGURATION: Check = Check {
    name: "configuration",
    about: "whether the configuration can be read in time, and has an admin address",
    worst: Severity::Error,
    logged: false,
    judge: configuration,
};

pub(super) const ADMIN_ADDRESS: Check = Check {
    name: "admin-address",
    about: "whether the admin endpoint can be reached from other hosts",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, |_, configuration| admin_address(configuration)),
};

pub(super) const ADMIN_REACHABLE: Check = Check {
    name: "admin-reachable",
    about: "whether Envoy can listen on the admin address, and who answers there",
    worst: Severity::Error,
    logged: false,
    judge: |facts| on_configuration(facts, admin_reachable),
};

pub(super) const ADMIN_PATHS: Check = Check {
    name: "admin-paths",
    about: "whether `admin.allow_paths` refuses what Handover asks for",
    worst: Severity::Error,
    logged: false,
    judge: |facts| on_configuration(facts, |_, configuration| admin_paths(configuration)),
};

pub(super) const STATS_MATCHER: Check = Check {
    name: "stats-matcher",
    about: "whether `stats_matcher` leaves out the gauges of open connections",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, |_, configuration| stats_matcher(configuration)),
};

pub(super) const PROBATION_STATISTICS: Check = Check {
    name: "probation-statistics",
    about: "whether `stats_matcher` leaves out what shows on probation that an epoch cannot do its work",
    worst: Severity::Warning,
    logged: false,
    judge: |facts| {
        on_configuration(facts, |_, configuration| {
            probation_statistics(configuration)
        })
    },
};

pub(super) const DRAIN_TIMEOUT: Check = Check {
    name: "drain-timeout",
    about: "`drain_timeout` of HTTP connection managers against `--termination-drain` and `--drain-time`",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_configuration(facts, drain_timeout),
};

pub(super) fn on_configuration(
    facts: &Facts,
    judge: fn(&Facts, &ConfigurationFacts) -> Verdict,
) -> Verdict {
    match &facts.configuration {
        Ok(configuration) => judge(facts, configuration),
        Err(why) => Verdict::unknown(why, READ_IT),
    }
}

/// A listener as it is named for people.
pub(super) fn name_of(listener: &Listener) -> String {
    if !listener.name.is_empty() {
        return listener.name.clone();
    }
    let main = listener.addresses.first();
    main.map_or_else(|| "without a name".to_owned(), shown)
}

/// An address as it is shown to people.
pub(super) fn shown(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Socket { address, port, .. } if address.contains(':') => {
            format!("[{address}]:{port}")
        }
        ListenAddress::Socket { address, port, .. } => format!("{address}:{port}"),
        ListenAddress::Pipe(path) => format!("unix:{}", path.display()),
        ListenAddress::Other | _ => "an internal address".to_owned(),
    }
}

fn envoy_binary(facts: &Facts) -> Verdict {
    match &facts.binary {
        Ok(Ok(path)) => Verdict::good(path.display().to_string(), "it can be executed"),
        Ok(Err(why)) => Verdict::error(
            "unusable",
            why.clone(),
            "install Envoy, or name its binary with --envoy-path",
        ),
        Err(why) => Verdict::unknown(why, "run `envoy --version`"),
    }
}

fn configuration(facts: &Facts) -> Verdict {
    let path = facts.settings.config_path.display();
    match &facts.configuration {
        Ok(configuration) => {
            let listeners = configuration.bootstrap.listeners.len();
            let s = if listeners == 1 { "" } else { "s" };
            let fetched = match configuration.fetches_listeners {
                true => ", and fetches more",
                false => "",
            };
            Verdict::good(
                format!("{path}: {listeners} static listener{s}{fetched}"),
                "it can be read; `handover validate` asks Envoy about it",
            )
        }
        Err(why) => Verdict::error(
            path.to_string(),
            format!("Handover starts nothing with it: {why}"),
            "mend the file, and ask with `handover validate`",
        ),
    }
}

fn admin_address(configuration: &ConfigurationFacts) -> Verdict {
    let address = &configuration.bootstrap.admin_listens_on;
    let value = shown(address);
    let ip = match address {
        ListenAddress::Socket { address, .. } => address.parse::<IpAddr>().ok(),
        ListenAddress::Pipe(_) | ListenAddress::Other | _ => None,
    };
    match ip {
        Some(ip) if !ip.to_canonical().is_loopback() => Verdict::warning(
            value,
            "whoever reaches this address can stop Envoy and read its configuration",
            "let admin.address be 127.0.0.1 or a pipe",
        ),
        Some(_) | None => Verdict::good(value, "only this host reaches it"),
    }
}

fn admin_reachable(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let address = configuration.bootstrap.admin.to_string();
    let admin = match &facts.admin {
        Ok(admin) => admin,
        Err(why) => return Verdict::unknown(why, format!("ask http://{address}/server_info")),
    };
    if let Some(why) = &admin.cannot_listen {
        return Verdict::error(
            address,
            format!("Envoy cannot listen there: {why}"),
            "set admin.address to an address of this host, such as 127.0.0.1, or to a pipe in a \
             directory that exists",
        );
    }
    let runs = facts
        .base_ids
        .as_ref()
        .is_ok_and(|base_ids| base_ids.own.is_some());
    match &admin.answer {
        AdminAnswer::Nobody => Verdict::good(address, "nobody listens there, so Envoy can"),
        AdminAnswer::Envoy(info) if runs => Verdict::good(
            address,
            format!("Envoy answers there, with epoch {}", info.restart_epoch),
        ),
        AdminAnswer::Envoy(info) => Verdict::error(
            address,
            format!(
                "an Envoy that this user's Handover does not run answers there (epoch {}), so the \
                 next one cannot listen",
                info.restart_epoch
            ),
            "end that Envoy, or choose another admin address",
        ),
        AdminAnswer::Other(what) if runs => Verdict::warning(
            address,
            format!("the Envoy that runs does not answer as it should: {what}"),
            "see `handover status`",
        ),
        AdminAnswer::Other(what) => Verdict::error(
            address,
            format!("another program listens there, so Envoy cannot: {what}"),
            "end that program, or choose another admin address",
        ),
    }
}

fn admin_paths(configuration: &ConfigurationFacts) -> Verdict {
    let matchers = configuration.bootstrap.admin_paths.matchers().len();
    let value = match matchers {
        0 => "every path".to_owned(),
        1 => "1 pattern".to_owned(),
        more => format!("{more} patterns"),
    };
    if let Some(refused) = &configuration.refused {
        let remedy = "add `- exact: /server_info` to admin.allow_paths";
        return Verdict::error(value, refused.clone(), remedy);
    }
    match &configuration.limits {
        Some(limits) => Verdict::warning(
            value,
            limits.clone(),
            "add what is refused to admin.allow_paths, `- prefix: /stats` for the statistics",
        ),
        None => Verdict::good(value, "Handover may ask for everything that it needs"),
    }
}

/// A listener as Envoy names it that was fetched, for a guess about its gauges.
const FETCHED: &str = "0.0.0.0_8080";

fn stats_matcher(configuration: &ConfigurationFacts) -> Verdict {
    let bootstrap = &configuration.bootstrap;
    let external = bootstrap
        .listeners
        .iter()
        .filter(|listener| !listener.internal);
    let mut names: Vec<String> = external.filter_map(Listener::stat_name).collect();
    if configuration.fetches_listeners {
        names.push(FETCHED.to_owned());
    }
    let gauge = |name: &String| format!("listener.{name}.downstream_cx_active");
    let keeps = |name: &String| bootstrap.stats.keeps(&gauge(name));
    let left_out: Vec<String> = names
        .iter()
        .filter(|name| keeps(name) == Some(false))
        .map(gauge)
        .collect();
    if let Some(first) = left_out.first() {
        let more = match left_out.len() {
            1 => String::new(),
            all => format!(" and {} more", all - 1),
        };
        return Verdict::warning(
            format!("{first}{more} left out"),
            "where Handover may not look at Envoy's sockets, it cannot count connections, and a drain \
             takes its whole time and ends with 75",
            "let stats_matcher keep `listener.*.downstream_cx_active` and \
             `listener_manager.total_listeners_active`",
        );
    }
    if names.iter().any(|name| keeps(name).is_none()) {
        return Verdict {
            remedy: Some(
                "ask the admin endpoint for /stats?filter=downstream_cx_active".to_owned(),
            ),
            ..Verdict::good(
                "unknown",
                "only Envoy can judge the patterns of stats_matcher",
            )
        };
    }
    Verdict::good(
        "the gauges of listeners are kept",
        "connections can be counted by them",
    )
}

fn probation_statistics(configuration: &ConfigurationFacts) -> Verdict {
    match configuration.bootstrap.stats.hidden_evidence() {
        Some(hidden) => Verdict::warning(
            "left out, or only Envoy can judge",
            hidden,
            "let stats_matcher keep what ends with `version`, `version_text`, `downstream_rq_completed`, \
             `downstream_rq_5xx`, `downstream_cx_total`, `downstream_cx_no_route`, \
             `upstream_cx_connect_attempts_exceeded`, `warming_state`, `update_rejected`, \
             `ssl_context_update_by_sds` or `expiration_unix_time_seconds`, and `server.uptime` and \
             `cluster_manager.cluster_removed`",
        ),
        None => Verdict::good(
            "versions and requests are kept",
            "a probation sees resources that have not come, and can count failed requests",
        ),
    }
}

fn drain_timeout(facts: &Facts, configuration: &ConfigurationFacts) -> Verdict {
    let found = match &configuration.drain_timeouts {
        Ok(found) => found,
        Err(why) => return Verdict::unknown(why, "look for drain_timeout in the configuration"),
    };
    let known = |found: &DrainTimeout| Some((found.time?, found.line));
    let Some((time, line)) = found.iter().filter_map(known).max_by_key(|(time, _)| *time) else {
        let reason =
            "a client that waits until Envoy closes holds a stop for that time and 1s more";
        return Verdict::good("none in the file, Envoy uses 5s", reason);
    };
    let value = format!("{} at line {line}", format_duration(time));
    let stop = facts.settings.termination_drain;
    let change = facts.settings.drain_time;
    let held: Vec<String> = [
        (stop, "a stop until it is cut at --termination-drain"),
        (change, "an old epoch beyond --drain-time"),
    ]
    .into_iter()
    .filter(|(limit, _)| time > *limit)
    .map(|(limit, what)| format!("{what} {}", format_duration(limit)))
    .collect();
    if !held.is_empty() {
        return Verdict::warning(
            value,
            format!(
                "a client that waits until Envoy closes holds {}",
                held.join(", and ")
            ),
            "set drain_timeout to a second or less; Envoy has told the client by then",
        );
    }
    Verdict::good(value, "it is shorter than the drains")
}
