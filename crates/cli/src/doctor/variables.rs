//! Variables of other programs that supervise Envoy: which count here, and which do not.

use std::ffi::OsString;

use super::facts::Facts;
use super::{Check, Scope, Severity, Verdict};
use crate::cli::settings::{
    CPU_LIMIT, EXIT_ON_ZERO, MINIMUM_DRAIN, TERMINATION_DRAIN, minimum_drain, says_true, seconds,
};

pub(super) const FOREIGN_VARIABLES: Check = Check {
    name: "foreign-variables",
    about: "variables of Istio, of Envoy's image and of others, honoured or ignored",
    worst: Severity::Warning,
    logged: true,
    judge: foreign_variables,
};

/// A variable of another program.
struct Variable {
    name: &'static str,
    /// What becomes of it. `None` means that nobody needs to know.
    fate: fn(&Facts, &OsString) -> Option<Fate>,
}

enum Fate {
    Honoured(&'static str),
    /// Ignored, and nothing is lost by that.
    Harmless(&'static str),
    /// Ignored, with the remedy.
    Ignored(&'static str),
}

const VARIABLES: &[Variable] = &[
    Variable {
        name: TERMINATION_DRAIN,
        fate: |facts, value| {
            Some(
                match seconds(value) == Ok(facts.settings.termination_drain) {
                    true => Fate::Honoured("it limits the drain of a stop"),
                    false => Fate::Harmless("--termination-drain wins"),
                },
            )
        },
    },
    Variable {
        name: MINIMUM_DRAIN,
        fate: |facts, value| {
            Some(match minimum_drain(value) == Ok(facts.settings.min_drain) {
                true => Fate::Honoured("it is the shortest drain of a stop"),
                false => Fate::Harmless("--min-drain wins"),
            })
        },
    },
    Variable {
        name: EXIT_ON_ZERO,
        fate: |facts, value| {
            let settings = &facts.settings;
            Some(match says_true(value) {
                Ok(true) => Fate::Honoured(
                    "a stop ends when no connection is left, and at --termination-drain at the latest",
                ),
                Ok(false) if settings.min_drain >= settings.termination_drain => {
                    Fate::Honoured("a stop takes the whole --termination-drain")
                }
                Ok(false) | Err(_) => Fate::Harmless("--min-drain wins"),
            })
        },
    },
    Variable {
        name: CPU_LIMIT,
        fate: |facts, _| {
            Some(match facts.settings.concurrency_is_given {
                true => Fate::Honoured("without --concurrency, it is the number of worker threads"),
                false => Fate::Harmless("0 is no limit"),
            })
        },
    },
    Variable {
        name: "ENVOY_CONCURRENCY",
        fate: |facts, _| {
            Some(match facts.settings.concurrency_is_given {
                true => Fate::Harmless("--concurrency is given"),
                false => Fate::Ignored("give --concurrency"),
            })
        },
    },
    Variable {
        name: "ENVOY_LOG_LEVEL",
        fate: |facts, _| {
            Some(match facts.settings.log_level_is_given {
                true => Fate::Harmless("--envoy-log-level is given"),
                false => Fate::Harmless("--envoy-log-level sets the level"),
            })
        },
    },
    Variable {
        name: "ENVOY_UID",
        fate: |_, _| Some(Fate::Harmless("Envoy runs as the user of handover")),
    },
    Variable {
        name: "RESTART_EPOCH",
        fate: |_, _| {
            Some(Fate::Ignored(
                "start handover directly: another supervisor counts the epochs of this process",
            ))
        },
    },
    Variable {
        name: "LISTEN_FDS",
        fate: |_, _| {
            Some(Fate::Ignored(
                "let Envoy listen by itself: `run` passes no sockets of systemd on",
            ))
        },
    },
    Variable {
        name: "TERMINATION_GRACE_PERIOD_SECONDS",
        fate: |_, _| {
            Some(Fate::Honoured(
                "it counts as --grace-period, where that is not given",
            ))
        },
    },
    Variable {
        name: "PROXY_CONFIG",
        fate: |_, _| {
            Some(Fate::Ignored(
                "give its times and numbers as flags, such as --drain-time and --concurrency",
            ))
        },
    },
    Variable {
        name: "ISTIO_BOOTSTRAP",
        fate: |_, _| Some(Fate::Ignored("give the file as --config-path")),
    },
    Variable {
        name: "ISTIO_BOOTSTRAP_OVERRIDE",
        fate: |_, _| Some(Fate::Ignored("give the file as --config-path")),
    },
    Variable {
        name: "DISABLE_ENVOY",
        fate: |_, _| {
            Some(Fate::Ignored(
                "do not start handover where no Envoy is wanted",
            ))
        },
    },
    Variable {
        name: "ENVOY_STATUS_PORT",
        fate: |_, _| Some(Fate::Ignored("give --status-address for probes")),
    },
    Variable {
        name: "ENVOY_PROMETHEUS_PORT",
        fate: |_, _| Some(Fate::Ignored("give --status-address for metrics")),
    },
    Variable {
        name: "ISTIO_KUBE_APP_PROBERS",
        fate: |_, _| {
            Some(Fate::Ignored(
                "point the probes of the application at its own ports",
            ))
        },
    },
    Variable {
        name: "CA_ADDR",
        fate: |_, _| {
            Some(Fate::Ignored(
                "let Envoy fetch its certificates by SDS, or mount them and give --wait-for-file",
            ))
        },
    },
    Variable {
        name: "PROV_CERT",
        fate: |_, _| {
            Some(Fate::Ignored(
                "name the certificates in Envoy's configuration, and give --wait-for-file",
            ))
        },
    },
    Variable {
        name: "OUTPUT_CERTS",
        fate: |_, _| Some(Fate::Ignored("let another program write the certificates")),
    },
    Variable {
        name: "ISTIO_META_DNS_CAPTURE",
        fate: |_, _| {
            Some(Fate::Ignored(
                "let Envoy's DNS filter answer, or leave DNS alone",
            ))
        },
    },
    Variable {
        name: "ENVOY_SKIP_DEPRECATED_LOGS",
        fate: |_, _| Some(Fate::Ignored("give `-- --skip-deprecated-logs` to Envoy")),
    },
    Variable {
        name: "KUBERNETES_SERVICE_HOST",
        fate: |_, _| None,
    },
];

/// The longest value that is shown.
const LONGEST: usize = 40;

/// What `run` reports by itself: it knows whether the sockets were passed to it, or to a parent that has left
/// the variable set.
const SAID_BY_THE_START: [&str; 1] = ["LISTEN_FDS"];

/// The names of the variables that are looked at.
pub(super) fn names(scope: Scope) -> impl Iterator<Item = &'static str> {
    let names = VARIABLES.iter().map(|variable| variable.name);
    names.filter(move |name| scope == Scope::All || !SAID_BY_THE_START.contains(name))
}

fn foreign_variables(facts: &Facts) -> Verdict {
    let (mut shown, mut remedies) = (Vec::new(), Vec::new());
    for Variable { name, fate } in VARIABLES {
        let Some(value) = facts.variables.get(name) else {
            continue;
        };
        let Some(fate) = fate(facts, &value.into()) else {
            continue;
        };
        let value: String = value.chars().take(LONGEST).collect();
        shown.push(match fate {
            Fate::Honoured(how) => format!("{name}={value} is honoured ({how})"),
            Fate::Harmless(why) => format!("{name}={value} is ignored ({why})"),
            Fate::Ignored(remedy) => {
                remedies.push(format!("{name}: {remedy}"));
                format!("{name}={value} is ignored")
            }
        });
    }
    if shown.is_empty() {
        return Verdict::good("none", "no variable of another supervisor is set");
    }
    let value = shown.join("; ");
    if remedies.is_empty() {
        return Verdict::good(
            value,
            "no variable that would change a hand-over is ignored",
        );
    }
    Verdict::warning(
        value,
        "Handover does not do what a variable asks for",
        remedies.join("; "),
    )
}
