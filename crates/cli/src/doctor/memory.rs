//! Whether two Envoys fit into memory at once.

use super::facts::{Facts, Limit, MemoryFacts};
use super::host::bytes;
use super::{Check, Severity, Verdict};

/// What two Envoys 1.40 took in a hand-over, without clients and with a small configuration.
const TWO_ENVOYS: u64 = 82 << 20;
/// What is left of memory for an Envoy that starts beside a small one.
const ROOM: u64 = 128 << 20;
/// From this share of the last minute on, in hundredths of a per cent, processes wait for memory
/// noticeably.
const MUCH_PRESSURE: u32 = 1000;

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
    about: "how long processes of the control group have waited for memory (PSI)",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_memory(facts, memory_pressure),
};

fn on_memory(facts: &Facts, judge: fn(&MemoryFacts) -> Verdict) -> Verdict {
    match &facts.memory {
        Ok(memory) => judge(memory),
        Err(why) => Verdict::unknown(why, HOW),
    }
}

fn memory_limit(memory: &MemoryFacts) -> Verdict {
    let of_group = memory.group.as_ref().ok().and_then(|group| {
        let group = group.as_ref()?;
        group.limit.as_ref()
    });
    if let Some(limit) = of_group {
        // The host may have less than the group is allowed.
        let available = memory.available.as_ref().copied().unwrap_or(u64::MAX);
        if limit.left() <= available {
            return within(limit);
        }
    }
    match (&memory.available, &memory.group) {
        (Ok(available), _) => on_host(*available),
        (Err(_), Err(why)) | (Err(why), Ok(_)) => Verdict::unknown(why, HOW),
    }
}

fn within(limit: &Limit) -> Verdict {
    let value = format!(
        "{} used of {}, the limit of {}",
        bytes(limit.used),
        bytes(limit.limit),
        limit.directory.display()
    );
    if limit.limit < TWO_ENVOYS {
        let reason = format!(
            "the kernel kills an Envoy in a hand-over: two take {} without a client",
            bytes(TWO_ENVOYS)
        );
        return Verdict::error(value, reason, REMEDY);
    }
    if limit.left() < ROOM {
        let reason = format!(
            "the next Envoy may not fit into the {} that are left, and the kernel kills one of them",
            bytes(limit.left())
        );
        return Verdict::warning(value, reason, REMEDY);
    }
    if limit.used > limit.limit / 2 {
        let reason = "if one Envoy uses most of this, a second one of its size does not fit";
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

fn memory_pressure(memory: &MemoryFacts) -> Verdict {
    let of_group = memory.group.as_ref().ok().and_then(Option::as_ref);
    let of_group = of_group.and_then(|group| group.pressure);
    let (pressure, place) = match (of_group, &memory.host_pressure) {
        (Some(pressure), _) => (pressure, "of the control group"),
        (None, Ok(pressure)) => (*pressure, "of the host"),
        (None, Err(why)) => return Verdict::unknown(why, HOW),
    };
    let share = |share: u32| format!("{}.{:02} %", share / 100, share % 100);
    let value = format!(
        "some processes {place} waited for memory {} of the last minute, all {}",
        share(pressure.some),
        share(pressure.full)
    );
    if pressure.some >= MUCH_PRESSURE {
        let reason = "processes wait for memory already, and a hand-over needs more of it";
        return Verdict::warning(value, reason, REMEDY);
    }
    Verdict::good(value, "it rises before the kernel kills")
}
