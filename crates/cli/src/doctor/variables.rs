//! Variables of other programs that supervise Envoy: which count here, and which do not.

use super::facts::Facts;
use super::{Check, Scope, Severity, Verdict};
use crate::cli::run::ISTIO_VARIABLE;

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
    fate: fn(&Facts) -> Option<Fate>,
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
        name: ISTIO_VARIABLE,
        fate: |facts| {
            Some(match facts.settings.termination_drain_is_ours {
                false => Fate::Honoured("it limits the drain of a stop"),
                true => Fate::Harmless("--termination-drain wins"),
            })
        },
    },
    Variable {
        name: "MINIMUM_DRAIN_DURATION",
        fate: |facts| {
            Some(match facts.settings.min_drain.is_zero() {
                false => Fate::Harmless("--min-drain is given"),
                true => Fate::Ignored("give --min-drain"),
            })
        },
    },
    Variable {
        name: "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
        fate: |_| {
            Some(Fate::Harmless(
                "a stop always ends when no connection is left",
            ))
        },
    },
    Variable {
        name: "ENVOY_CONCURRENCY",
        fate: |facts| {
            Some(match facts.settings.concurrency_is_given {
                true => Fate::Harmless("--concurrency is given"),
                false => Fate::Ignored("give --concurrency"),
            })
        },
    },
    Variable {
        name: "ENVOY_LOG_LEVEL",
        fate: |facts| {
            Some(match facts.settings.log_level_is_given {
                true => Fate::Harmless("--envoy-log-level is given"),
                false => Fate::Harmless("--envoy-log-level sets the level"),
            })
        },
    },
    Variable {
        name: "ENVOY_UID",
        fate: |_| Some(Fate::Harmless("Envoy runs as the user of handover")),
    },
    Variable {
        name: "RESTART_EPOCH",
        fate: |_| {
            Some(Fate::Ignored(
                "start handover directly: another supervisor counts the epochs of this process",
            ))
        },
    },
    Variable {
        name: "LISTEN_FDS",
        fate: |_| {
            Some(Fate::Ignored(
                "let Envoy listen by itself: `run` passes no sockets of systemd on",
            ))
        },
    },
    Variable {
        name: "TERMINATION_GRACE_PERIOD_SECONDS",
        fate: |_| {
            Some(Fate::Honoured(
                "it counts as --grace-period, where that is not given",
            ))
        },
    },
    Variable {
        name: "KUBERNETES_SERVICE_HOST",
        fate: |_| None,
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
        let Some(fate) = fate(facts) else { continue };
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
