//! The measures: each runs in a process of its own, with a limit.

pub(crate) mod agents;
pub(crate) mod bursts;
pub(crate) mod children;
pub(crate) mod core;
pub(crate) mod envoys;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod live;
pub(crate) mod load;
pub(crate) mod memory;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::record::Record;
use crate::subjects::Tools;

/// What a measure finds.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) tools: Tools,
    /// A directory of its own, for whatever it needs.
    pub(crate) directory: PathBuf,
    /// Base ids of Envoy that nothing else uses.
    pub(crate) base_ids: [u32; 2],
    /// Few repetitions and small counts.
    pub(crate) quick: bool,
}

impl Bench {
    /// The first number for a full run, the second for a quick one.
    pub(crate) const fn choose(&self, full: u32, quick: u32) -> u32 {
        if self.quick { quick } else { full }
    }

    /// As [`choose`](Self::choose), for milliseconds.
    pub(crate) const fn time(&self, full: u64, quick: u64) -> Duration {
        Duration::from_millis(if self.quick { quick } else { full })
    }
}

/// One measure.
pub(crate) struct Measure {
    /// How it is called on the command line and in the figures.
    pub(crate) name: &'static str,
    /// How long it may take; a full run takes less than a third of it on two idle processors.
    pub(crate) limit: Duration,
    pub(crate) run: fn(&Bench, &mut Record) -> Result<()>,
}

/// All of them, in the order in which they run.
pub(crate) const ALL: [Measure; 9] = [
    Measure {
        name: "core",
        limit: Duration::from_secs(60),
        run: core::measure,
    },
    Measure {
        name: "latency",
        limit: Duration::from_secs(600),
        run: latency::measure,
    },
    Measure {
        name: "bursts",
        limit: Duration::from_secs(180),
        run: bursts::measure,
    },
    Measure {
        name: "live",
        limit: Duration::from_secs(300),
        run: live::measure,
    },
    Measure {
        name: "memory",
        limit: Duration::from_secs(180),
        run: memory::measure,
    },
    Measure {
        name: "idle",
        limit: Duration::from_secs(120),
        run: idle::measure,
    },
    Measure {
        name: "load",
        limit: Duration::from_secs(420),
        run: load::measure,
    },
    Measure {
        name: "agents",
        limit: Duration::from_secs(120),
        run: agents::measure,
    },
    Measure {
        name: "children",
        limit: Duration::from_secs(120),
        run: children::measure,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|measure| measure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
