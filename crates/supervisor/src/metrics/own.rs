//! The figures of this process, as every Prometheus client exports them.

use procfs::process::{LimitValue, Process};

/// What the kernel says of this process. What cannot be read is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    /// Since 1970.
    pub(super) start_seconds: Option<f64>,
}

impl Figures {
    /// Reads `/proc/self`, which is in memory and takes some 100 microseconds.
    pub(super) fn read() -> Self {
        let Ok(process) = Process::myself() else {
            return Self::default();
        };
        let open = process.fd_count().ok();
        let limits = process.limits().ok();
        let max_fds = limits.and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        });
        let figures = Self {
            // The directory that is being read is open as well.
            open_fds: open.and_then(|open| u64::try_from(open).ok()),
            max_fds,
            ..Self::default()
        };
        let Ok(stat) = process.stat() else {
            return figures;
        };
        Self {
            cpu_seconds: Some(seconds(stat.utime.saturating_add(stat.stime))),
            resident_bytes: Some(stat.rss.saturating_mul(procfs::page_size())),
            virtual_bytes: Some(stat.vsize),
            start_seconds: boot_time().map(|boot| boot + seconds(stat.starttime)),
            ..figures
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "clock ticks have 53 bits after a million years"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 have 31 bits"
)]
fn boot_time() -> Option<f64> {
    procfs::boot_time_secs().ok().map(|seconds| seconds as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_has_memory_and_descriptors_and_was_started_before_now() {
        let figures = Figures::read();
        assert!(figures.cpu_seconds.is_some());
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(figures.virtual_bytes > figures.resident_bytes);
        assert!(figures.open_fds.is_some_and(|open| open >= 3));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - figures.start_seconds.unwrap();
        // The kernel rounds the time of the boot.
        assert!((-2.0..100_000.0).contains(&age), "{age}");
    }
}
