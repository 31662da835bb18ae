//! How much memory another process may take beside those that run.
//!
//! A process that takes over runs for a while beside the one it replaces. Where both do not fit, the
//! kernel ends one of them, and nobody can say which. [`check`] tells before that happens:
//!
//! ```no_run
//! use handover_process::memory;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let running = 4711;
//! memory::check(memory::used_by(running)?, &memory::bounds())?;
//! # Ok(())
//! # }
//! ```
//!
//! These functions read small files of `/proc` and `/sys/fs/cgroup`, some tenths of a millisecond in
//! all. They block, so a program with an event loop calls them on another thread.

mod facts;
mod guard;
mod used;

use std::fmt;
use std::path::PathBuf;

use handover_runtime::Shortage;

pub use facts::bounds;
pub use guard::Guard;
pub use used::used_by;

/// The share of time, in percent, in which everything waits for memory, and from which on nothing more
/// is started. systemd-oomd ends processes from the same share on (`DefaultMemoryPressureLimit=` in
/// oomd.conf(5)).
const STALLED: u8 = 60;

/// What bounds the memory of this process and of those it starts, as it was seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Whose bound it is.
    pub place: Place,
    /// The most that may be used, in bytes.
    pub limit: u64,
    /// What is used of it, in bytes.
    pub used: u64,
    /// What the kernel can take back of what is used, because a disk has it as well, in bytes.
    pub freeable: u64,
    /// What can be swapped out beside it, in bytes.
    pub swap: u64,
    /// The share of the last ten seconds in which all processes waited for memory, in percent, or `None`
    /// where the kernel does not tell.
    pub stalled: Option<u8>,
}

/// Whose memory is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The host, as far as this process sees it.
    Host,
    /// A control group, with its directory.
    Group(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host"),
            Self::Group(directory) => write!(f, "the control group {}", directory.display()),
        }
    }
}

impl Bound {
    /// Returns what can still be had, in bytes.
    #[must_use]
    pub fn available(&self) -> u64 {
        let free = self.limit.saturating_sub(self.used);
        free.saturating_add(self.freeable.min(self.used))
            .saturating_add(self.swap)
    }

    /// Returns what another process needs here that takes so many bytes: not more than all that run here
    /// have taken. Processes of one server share memory, which was counted for each of them.
    fn at_most(&self, needed: u64) -> u64 {
        needed.min(self.used.saturating_sub(self.freeable))
    }
}

/// There is too little memory for another process beside those that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryShort {
    /// What it was thought to need, in bytes.
    pub needed: u64,
    /// What bounds it.
    pub bound: Bound,
}

impl fmt::Display for MemoryShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, bound } = self;
        let Bound {
            place,
            limit,
            stalled,
            ..
        } = bound;
        let available = bound.available();
        if available < *needed {
            let [needed, available, limit] = [*needed, available, *limit].map(Bytes);
            return write!(
                f,
                "a second process would need about {needed}, and {place} has {available} left of \
                 {limit}; short of"
            );
        }
        let stalled = stalled.unwrap_or_default();
        write!(
            f,
            "in {stalled} % of the last ten seconds everything in {place} waited for memory; short of"
        )
    }
}

impl std::error::Error for MemoryShort {
    /// Memory comes back, so this is worth another try later.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&Shortage::Memory)
    }
}

/// Judges whether a process that needs so many bytes fits within all bounds. Without bounds it fits.
///
/// # Errors
///
/// [`MemoryShort`] with the tightest bound that is too tight, or with one whose processes wait for memory
/// most of the time.
pub fn check(needed: u64, bounds: &[Bound]) -> Result<(), MemoryShort> {
    let too_tight = bounds
        .iter()
        .filter(|bound| bound.available() < bound.at_most(needed))
        .min_by_key(|bound| bound.available());
    let stalls = |bound: &&Bound| bound.stalled.is_some_and(|share| share >= STALLED);
    match too_tight.or_else(|| bounds.iter().find(stalls)) {
        Some(bound) => Err(MemoryShort {
            needed: bound.at_most(needed),
            bound: bound.clone(),
        }),
        None => Ok(()),
    }
}

/// A number of bytes, for a person.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        // Whole ones: nothing that is held or let go hangs on a tenth.
        write!(f, "{} MiB", self.0.saturating_add(MIB / 2) / MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn group(limit: u64, used: u64, freeable: u64) -> Bound {
        Bound {
            place: Place::Group("/sys/fs/cgroup/pod".into()),
            limit: limit * MIB,
            used: used * MIB,
            freeable: freeable * MIB,
            swap: 0,
            stalled: None,
        }
    }

    #[test]
    fn what_fits_within_every_bound_fits() {
        let host = Bound {
            place: Place::Host,
            ..group(4_000, 3_000, 0)
        };
        assert_eq!(check(40 * MIB, &[]), Ok(()));
        assert_eq!(check(40 * MIB, &[host.clone(), group(128, 88, 0)]), Ok(()));
        let short = check(41 * MIB, &[host, group(128, 88, 0)]).unwrap_err();
        assert_eq!(short.bound, group(128, 88, 0));
        assert_eq!(
            short.to_string(),
            "a second process would need about 41 MiB, and the control group /sys/fs/cgroup/pod has 40 \
             MiB left of 128 MiB; short of"
        );
        assert_eq!(Shortage::of(&short), Some(Shortage::Memory));
    }

    #[test]
    fn what_can_be_taken_back_and_what_can_be_swapped_out_counts_as_free() {
        assert_eq!(check(40 * MIB, &[group(128, 120, 32)]), Ok(()));
        let swap = Bound {
            swap: 32 * MIB,
            ..group(128, 120, 0)
        };
        assert_eq!(check(40 * MIB, &[swap]), Ok(()));
        // More cannot be taken back than is used, whatever the kernel's counters say at that moment.
        assert_eq!(group(128, 10, 4_000).available(), 128 * MIB);
        // One that is over its limit has nothing left.
        assert_eq!(group(100, 120, 0).available(), 0);
    }

    #[test]
    fn what_several_share_is_not_thought_to_be_needed_several_times() {
        // Eight workers that share 50 MiB count for 400, and all that runs takes 60.
        assert_eq!(check(400 * MIB, &[group(128, 60, 0)]), Ok(()));
        let short = check(400 * MIB, &[group(128, 70, 0)]).unwrap_err();
        assert_eq!(short.needed, 70 * MIB);
    }

    #[test]
    fn where_everything_waits_for_memory_nothing_more_is_started() {
        let stalled = |share| Bound {
            stalled: Some(share),
            ..group(128, 10, 0)
        };
        assert_eq!(check(MIB, &[stalled(59)]), Ok(()));
        // What fits to the byte is not what it is short of.
        let full = Bound {
            stalled: Some(60),
            ..group(20, 10, 0)
        };
        let fits = check(10 * MIB, &[full]).unwrap_err();
        assert!(fits.to_string().starts_with("in 60 %"), "{fits}");
        let short = check(MIB, &[group(128, 10, 0), stalled(60)]).unwrap_err();
        assert_eq!(
            short.to_string(),
            "in 60 % of the last ten seconds everything in the control group /sys/fs/cgroup/pod waited \
             for memory; short of"
        );
    }
}
