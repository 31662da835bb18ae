//! Whether a process is stopped, as `/proc` shows it.

use handover_runtime::offload::offload;

/// Returns whether a process is stopped by a signal. One that cannot be seen is not; nor is one that a
/// debugger holds, which no signal continues.
///
/// It looks on another thread: while a process is collected on a busy host, the kernel can keep readers of `/proc`
/// waiting for a second.
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing.
pub(crate) async fn is_stopped(pid: u32) -> bool {
    offload(move || look(pid)).await.unwrap_or(false)
}

/// Returns whether any of these processes is stopped, as [`is_stopped`] does.
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing.
pub(crate) async fn any_is_stopped(pids: Vec<u32>) -> bool {
    if pids.is_empty() {
        return false;
    }
    let looked = offload(move || pids.into_iter().any(look));
    looked.await.unwrap_or(false)
}

fn look(pid: u32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold any byte.
    let end = stat.iter().rposition(|byte| *byte == b')');
    let state = end.and_then(|end| stat.get(end + 2));
    state == Some(&b'T')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_stopped_until_it_is_continued() {
        use rustix::process::{Pid, Signal, kill_process};

        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        let stopped_is = |wanted| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while look(child.id()) != wanted {
                assert!(std::time::Instant::now() < end, "stopped is not {wanted}");
                std::thread::yield_now();
            }
        };
        stopped_is(false);
        kill_process(pid, Signal::STOP).unwrap();
        stopped_is(true);
        kill_process(pid, Signal::CONT).unwrap();
        stopped_is(false);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!look(child.id()));
    }
}
