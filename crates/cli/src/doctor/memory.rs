//! Whether two Envoys fit into memory at once.

use handover_process::memory::{Bound, Place};

use super::facts::{Facts, Unknown};
use super::host::bytes;
use super::{Check, Severity, Verdict};

/// What two Envoys 1.40 took in a hand-over, without clients and with a small configuration.
const TWO_ENVOYS: u64 = 82 << 20;
/// What is left of memory for an Envoy that starts beside a small one.
const ROOM: u64 = 128 << 20;
/// From this share of the last ten seconds on, in per cent, all processes wait for memory noticeably.
const MUCH_PRESSURE: u8 = 10;

const REMEDY: &str =
    "raise the memory limit of the container or unit; in a hand-over two Envoys run";
const HOW: &str = "look at memory.max, memory.current and memory.pressure of the control group";

pub(super) const MEMORY_LIMIT: Check = Check {
    name: "memory-limit",
    about: "whether two Envoys fit into the memory of the control group, or of the host",
    worst: Severity::Error,
    logged: true,
    judge: |facts| on_memory(facts, memory_limit),
};

pub(super) const MEMORY_PRESSURE: Check = Check {
    name: "memory-pressure",
    about: "how long all processes of the control group have waited for memory (PSI)",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_memory(facts, memory_pressure),
};

fn on_memory(facts: &Facts, judge: fn(&[Bound]) -> Verdict) -> Verdict {
    match &facts.memory {
        Ok(bounds) => judge(bounds),
        Err(why) => Verdict::unknown(why, HOW),
    }
}

/// The bound that is reached first counts. The host may have less than the group is allowed.
fn memory_limit(bounds: &[Bound]) -> Verdict {
    match bounds.iter().min_by_key(|bound| bound.available()) {
        None => Verdict::unknown(&Unknown("nothing tells it".to_owned()), HOW),
        Some(bound) if bound.place == Place::Host => on_host(bound.available()),
        Some(bound) => within(bound),
    }
}

fn within(bound: &Bound) -> Verdict {
    let used = bound.used.saturating_sub(bound.freeable);
    let value = format!(
        "{} used of {}, the limit of {}",
        bytes(used),
        bytes(bound.limit),
        bound.place
    );
    if bound.limit.saturating_add(bound.swap) < TWO_ENVOYS {
        let reason = format!(
            "two Envoys take {} without a client, so each change is held (--memory-guard)",
            bytes(TWO_ENVOYS)
        );
        return Verdict::error(value, reason, REMEDY);
    }
    if bound.available() < ROOM {
        let reason = format!(
            "the next Envoy may not fit into the {} that are left, and is held then (--memory-guard)",
            bytes(bound.available())
        );
        return Verdict::warning(value, reason, REMEDY);
    }
    if used > bound.available() {
        let reason =
            "if one Envoy uses most of this, a second one of its size is held (--memory-guard)";
        return Verdict::warning(value, reason, REMEDY);
    }
    Verdict::good(value, "a second Envoy of the size of what is used fits")
}

fn on_host(available: u64) -> Verdict {
    let value = format!("{} available on the host", bytes(available));
    if available < ROOM {
        let reason = "the next Envoy may not fit beside the one that serves";
        return Verdict::warning(
            value,
            reason,
            "give the host more memory, or run less on it",
        );
    }
    Verdict::good(value, "no control group has a tighter limit")
}

/// That of the group tells more of Envoy than that of the host.
fn memory_pressure(bounds: &[Bound]) -> Verdict {
    let of = |bound: &Bound| bound.stalled.map(|share| (share, bound.place.clone()));
    let of_groups = bounds.iter().filter(|bound| bound.place != Place::Host);
    let worst = of_groups.filter_map(of).max_by_key(|(share, _)| *share);
    let Some((share, place)) = worst.or_else(|| bounds.iter().find_map(of)) else {
        let why = "the kernel does not count it (PSI)".to_owned();
        return Verdict::unknown(&Unknown(why), HOW);
    };
    let value =
        format!("all processes of {place} waited for memory {share} % of the last ten seconds");
    if share >= MUCH_PRESSURE {
        let reason = "processes wait for memory already, and a hand-over needs more of it";
        return Verdict::warning(value, reason, REMEDY);
    }
    Verdict::good(value, "it rises before the kernel kills")
}
