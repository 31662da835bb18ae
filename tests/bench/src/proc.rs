//! What the kernel says about a process.

use anyhow::{Context as _, Result, ensure};

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// All pages that are resident.
    pub(crate) rss: f64,
    /// The same, with each shared page divided by the number of its users.
    pub(crate) pss: f64,
}

/// Reads how much memory a process has.
///
/// # Errors
///
/// When it is gone, or not ours to read.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    parse_memory(&fs_err::read_to_string(format!(
        "/proc/{pid}/smaps_rollup"
    ))?)
}

fn parse_memory(rollup: &str) -> Result<Memory> {
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
        let number: f64 = number.with_context(|| format!("smaps_rollup has no {name}"))?;
        anyhow::Ok(number * 1024.0)
    };
    Ok(Memory {
        rss: bytes("Rss:")?,
        pss: bytes("Pss:")?,
    })
}

/// Counts the open descriptors of a process.
///
/// # Errors
///
/// When it is gone, or not ours to read.
pub(crate) fn descriptors(pid: u32) -> Result<f64> {
    let count = fs_err::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(f64::from(u32::try_from(count)?))
}

/// How often the threads of a process gave the processor away, and for how long they had it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Activity {
    /// How often a thread began to wait. Each of these waits ends with a wakeup.
    pub(crate) waits: f64,
    /// On a processor, in nanoseconds.
    pub(crate) on_processor: f64,
}

/// Reads the activity of all threads of a process until this moment.
///
/// # Errors
///
/// When it is gone, or the kernel does not keep these counts.
pub(crate) fn activity(pid: u32) -> Result<Activity> {
    let mut sum = Activity {
        waits: 0.0,
        on_processor: 0.0,
    };
    let mut threads = 0;
    for thread in fs_err::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        let status = fs_err::read_to_string(thread.join("status"))?;
        sum.waits += voluntary_switches(&status)?;
        let schedule = fs_err::read_to_string(thread.join("schedstat"))?;
        let first = schedule.split_whitespace().next();
        let nanoseconds = first.and_then(|number| number.parse::<f64>().ok());
        sum.on_processor += nanoseconds.context("schedstat begins with no number")?;
        threads += 1;
    }
    ensure!(threads > 0, "process {pid} has no thread");
    Ok(sum)
}

fn voluntary_switches(status: &str) -> Result<f64> {
    let name = "voluntary_ctxt_switches:";
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim().parse().ok());
    number.with_context(|| format!("the status of a thread has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_its_absence_is_no_zero() {
        let rollup = "Rss:                1736 kB\nPss:                 204 kB\nPss_Dirty: 1 kB\n";
        let memory = parse_memory(rollup).unwrap();
        assert_eq!((memory.rss, memory.pss), (1736.0 * 1024.0, 204.0 * 1024.0));
        let error = parse_memory("Rss: 1736 kB\n").unwrap_err();
        assert_eq!(error.to_string(), "smaps_rollup has no Pss:");
    }

    #[test]
    fn only_voluntary_switches_count() {
        let status = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(voluntary_switches(status).unwrap(), 12.0);
        assert!(voluntary_switches("nonvoluntary_ctxt_switches:\t7\n").is_err());
    }

    #[test]
    fn this_process_has_memory_descriptors_and_activity() {
        let pid = std::process::id();
        let memory = memory(pid).unwrap();
        assert!(memory.pss > 0.0 && memory.rss >= memory.pss);
        assert!(descriptors(pid).unwrap() >= 3.0);
        assert!(activity(pid).unwrap().on_processor > 0.0);
    }
}
