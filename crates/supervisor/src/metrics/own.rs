//! The figures of this process, as every Prometheus client exports them.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

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
        let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.and_then(|line| Stat::of(&line));
        Self {
            cpu_seconds: stat.map(|stat| seconds(stat.cpu_ticks)),
            resident_bytes: stat.and_then(|stat| {
                let page = u64::try_from(page_size()).ok()?;
                stat.resident_pages.checked_mul(page)
            }),
            virtual_bytes: stat.map(|stat| stat.virtual_bytes),
            // The directory that is being read is open as well.
            open_fds: open.and_then(|open| u64::try_from(open).ok()),
            max_fds: getrlimit(Resource::Nofile).current,
            start_seconds: stat
                .and_then(|stat| boot_time().map(|boot| boot + seconds(stat.start_ticks))),
        }
    }
}

/// What is needed of `/proc/self/stat`. Its layout is in `proc_pid_stat(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// In user and in kernel mode.
    cpu_ticks: u64,
    /// After the boot.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Reads the line. The name of the process stands in parentheses, and may hold any of them.
    fn of(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(')')?;
        // The first one after the name is field 3.
        let field = |number: usize| {
            let field = fields
                .split_ascii_whitespace()
                .nth(number.checked_sub(3)?)?;
            field.parse::<u64>().ok()
        };
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "clock ticks have 53 bits after a million years"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 have 31 bits"
)]
fn boot_time() -> Option<f64> {
    let table = fs::read_to_string("/proc/stat").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(line.trim().parse::<u64>().ok()? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_figures_are_those_of_their_fields_whatever_the_process_is_called() {
        let rest =
            "S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 1 0 777 4096000 55 18446744073709551615 1";
        for name in ["handover", "a) S 9 (b", "("] {
            let stat = Stat::of(&format!("42 ({name}) {rest}\n")).unwrap();
            let expected = Stat {
                cpu_ticks: 42,
                start_ticks: 777,
                virtual_bytes: 4_096_000,
                resident_pages: 55,
            };
            assert_eq!(stat, expected, "{name}");
        }
        assert_eq!(Stat::of("42 (handover) S 1 2 3"), None);
        assert_eq!(Stat::of(""), None);
    }

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
