//! What the service manager does at a stop, and whether the drains fit in.

use std::time::Duration;

use humantime::format_duration;

use super::facts::{Facts, GracePeriod, UnitFacts};
use super::{Check, Severity, Unknown, Verdict};

/// The grace period of a pod that names none.
const KUBERNETES_DEFAULT: Duration = Duration::from_secs(30);

pub(super) const SERVICE_TYPE: Check = Check {
    name: "service-type",
    about: "`Type` of the systemd unit, by which systemd hears when Envoy serves and that a drain needs time",
    worst: Severity::Error,
    logged: true,
    judge: service_type,
};

pub(super) const KILL_MODE: Check = Check {
    name: "kill-mode",
    about: "`KillMode` of the systemd unit, which must keep SIGTERM away from Envoy",
    worst: Severity::Error,
    logged: true,
    judge: kill_mode,
};

pub(super) const GRACE_PERIOD: Check = Check {
    name: "grace-period",
    about: "the time until SIGKILL (`--grace-period`, `TimeoutStopSec`) against the drain of a stop",
    worst: Severity::Error,
    logged: true,
    judge: grace_period,
};

pub(super) const DRAIN_TIMES: Check = Check {
    name: "drain-times",
    about: "`--pre-drain-delay` and `--min-drain` against `--termination-drain`",
    worst: Severity::Warning,
    logged: true,
    judge: drain_times,
};

/// The remedy for another type.
const SET_THE_TYPE: &str =
    "set Type=notify-reload in the unit, or Type=notify with ExecReload before systemd 253";

fn service_type(facts: &Facts) -> Verdict {
    let unit = match &facts.unit {
        Ok(Some(unit)) => unit,
        Ok(None) => {
            return Verdict::good(
                "no unit",
                "this process does not run in a service of systemd",
            );
        }
        Err(why) => return Verdict::unknown(why, "run `systemctl show UNIT -p Type`"),
    };
    let service_type = match &unit.service_type {
        Ok(service_type) => service_type,
        Err(why) => return Verdict::unknown(why, "run `systemctl show UNIT -p Type`"),
    };
    let value = format!("{service_type} ({})", unit.name);
    if hears_notifications(unit) {
        return Verdict::good(value, "systemd waits until Envoy serves, and for its drain");
    }
    match service_type.as_str() {
        "forking" | "oneshot" | "dbus" => Verdict::error(
            value,
            "the start is never complete for systemd, which ends Handover after TimeoutStartSec",
            SET_THE_TYPE,
        ),
        "simple" | "exec" | "idle" => Verdict::warning(
            value,
            "systemd takes the service for started before Envoy serves, whatever depends on it",
            SET_THE_TYPE,
        ),
        _ => Verdict::unknown(
            &Unknown(format!("{value} is no type that is known")),
            SET_THE_TYPE,
        ),
    }
}

/// Whether systemd hears what Handover reports.
fn hears_notifications(unit: &UnitFacts) -> bool {
    let service_type = unit.service_type.as_deref();
    matches!(service_type, Ok("notify" | "notify-reload"))
}

fn kill_mode(facts: &Facts) -> Verdict {
    let unit = match &facts.unit {
        Ok(Some(unit)) => unit,
        Ok(None) => {
            return Verdict {
                remedy: Some("name the unit with --unit, or run the command in it".to_owned()),
                ..Verdict::good(
                    "no unit",
                    "this process does not run in a service of systemd",
                )
            };
        }
        Err(why) => return Verdict::unknown(why, "run `systemctl show UNIT -p KillMode`"),
    };
    let UnitFacts {
        name, kill_mode, ..
    } = unit;
    let value = format!("{kill_mode} ({name})");
    match kill_mode.as_str() {
        "mixed" => Verdict::good(value, "a stop sends SIGTERM to Handover alone"),
        "process" => Verdict::good(
            value,
            "a stop signals Handover alone, which ends every Envoy",
        ),
        "control-group" => Verdict::error(
            value,
            "a stop sends SIGTERM to Envoy as well, which ends at once and cuts every request",
            "set KillMode=mixed in the unit",
        ),
        "none" => Verdict::error(
            value,
            "a stop signals nobody, so nothing is drained",
            "set KillMode=mixed in the unit",
        ),
        _ => Verdict::unknown(
            &Unknown(format!("{value} is no mode that is known")),
            "set KillMode=mixed in the unit",
        ),
    }
}

fn grace_period(facts: &Facts) -> Verdict {
    let settings = &facts.settings;
    // A native sidecar ends at once.
    let drain = match settings.native_sidecar {
        true => Duration::ZERO,
        false => settings.termination_drain,
    };
    let to_end = settings.abort_grace;
    let need = format!(
        "{} for the drain and {} to end",
        format_duration(drain),
        format_duration(to_end)
    );
    let known = match known_period(facts) {
        Ok(known) => known,
        Err(why) => return Verdict::unknown(&why, "fix the variable, or give --grace-period"),
    };
    let Some((period, from)) = known else {
        return unknown_period(facts, &need, drain.saturating_add(to_end));
    };
    let value = format!("{} ({from}), {need}", format_duration(period));
    let remedy = format!(
        "give at least {}, or shorten --termination-drain",
        format_duration(drain.saturating_add(to_end))
    );
    // `--grace-period` is not what systemd can be asked to change.
    let is_asked = facts.settings.grace_period == Ok(None)
        && matches!(&facts.unit, Ok(Some(unit)) if hears_notifications(unit));
    if period < drain && is_asked {
        let reason = "only the requests of Handover for more time keep SIGKILL away from a drain";
        return Verdict::warning(value, reason, remedy);
    }
    if period < drain {
        let reason = "SIGKILL cuts the connections that still drain";
        return Verdict::error(value, reason, remedy);
    }
    if period < drain.saturating_add(to_end) {
        let reason = "SIGKILL comes before an Envoy that hangs at its end is ended, and reported";
        return Verdict::warning(value, reason, remedy);
    }
    Verdict::good(value, "a stop can end before SIGKILL")
}

/// The time until SIGKILL, and who says so.
fn known_period(facts: &Facts) -> Result<Option<(Duration, String)>, Unknown> {
    if let Some(GracePeriod { time, from }) = facts.settings.grace_period.clone()? {
        return Ok(Some((time, from.to_owned())));
    }
    let Ok(Some(unit)) = &facts.unit else {
        return Ok(None);
    };
    let timeout = unit.stop_timeout.clone()?;
    // Without a limit systemd waits for ever.
    let time = timeout.unwrap_or(Duration::MAX.min(Duration::from_secs(u32::MAX.into())));
    Ok(Some((time, format!("TimeoutStopSec of {}", unit.name))))
}

fn unknown_period(facts: &Facts, need: &str, needed: Duration) -> Verdict {
    let in_kubernetes = facts.variables.contains_key("KUBERNETES_SERVICE_HOST");
    if in_kubernetes && needed > KUBERNETES_DEFAULT {
        return Verdict::warning(
            format!("unknown, {need}"),
            "a pod without terminationGracePeriodSeconds gets SIGKILL after 30s",
            format!(
                "set terminationGracePeriodSeconds to {} or more, and give it as --grace-period",
                needed.as_secs().saturating_add(1)
            ),
        );
    }
    Verdict::unknown(
        &Unknown("no process is told when SIGKILL comes".to_owned()),
        format!("give --grace-period, and let it cover {need}"),
    )
}

fn drain_times(facts: &Facts) -> Verdict {
    let settings = &facts.settings;
    let limit = settings.termination_drain;
    let shown = format_duration(limit);
    for (flag, time, reason) in [
        (
            "--pre-drain-delay",
            settings.pre_drain_delay,
            "Envoy accepts connections until the drain is over, and they are cut then",
        ),
        (
            "--min-drain",
            settings.min_drain,
            "the drain is over before its shortest time",
        ),
    ] {
        let is_too_long = match flag {
            "--min-drain" => time > limit,
            _ => !time.is_zero() && time >= limit,
        };
        if is_too_long && !settings.native_sidecar {
            return Verdict::warning(
                format!(
                    "{flag} {}, --termination-drain {shown}",
                    format_duration(time)
                ),
                reason,
                format!("make --termination-drain longer than {flag}, which is a part of it"),
            );
        }
    }
    Verdict::good(
        format!("a stop drains for up to {shown}"),
        "it ends earlier when no connection is left",
    )
}
