//! The processes that belong to a child: those that it has started itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// Returns a child of this process with its descendants and the other processes of its group.
///
/// A worker that a server has forked is among them, even if its parent has ended, as long as it has stayed
/// in the group. A daemon that has left both is not. The function blocks while it reads `/proc`. A process
/// that starts meanwhile may be missing.
///
/// # Errors
///
/// When `/proc` cannot be read, and [`io::ErrorKind::NotFound`] where this is no running child of this
/// process: its number may be another process's by then.
pub fn family(child: u32) -> io::Result<BTreeSet<u32>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // It may have ended since it was listed.
        let stat =
            pid.and_then(|pid: u32| Stat::of(pid, &fs::read(entry.path().join("stat")).ok()?));
        others.extend(stat);
    }
    let own = |stat: &Stat| stat.pid == child && stat.parent == std::process::id();
    if !others.iter().any(own) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("process {child} is no child that runs"),
        ));
    }
    Ok(belonging(child, &others))
}

/// What is needed of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    group: u32,
}

impl Stat {
    /// Reads the line. The name of the process stands in parentheses, and may hold any byte.
    fn of(pid: u32, line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        let mut next = || fields.next()?.parse().ok();
        let (parent, group) = (next()?, next()?);
        Some(Self { pid, parent, group })
    }
}

/// The child, its group, and all below each of them.
fn belonging(child: u32, all: &[Stat]) -> BTreeSet<u32> {
    let group = all.iter().filter(|stat| stat.group == child);
    let mut found = BTreeSet::from([child]);
    found.extend(group.map(|stat| stat.pid));
    loop {
        let below = all.iter().filter(|stat| found.contains(&stat.parent));
        let more: Vec<u32> = below
            .map(|stat| stat.pid)
            .filter(|pid| !found.contains(pid))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_any_characters_is_passed_over() {
        let stat = Stat::of(7, b"7 (a) S 1 (b) R 5 6 6 0 -1").unwrap();
        let expected = Stat {
            pid: 7,
            parent: 5,
            group: 6,
        };
        assert_eq!(stat, expected);
        for bad in [
            &b""[..],
            b"7 (a",
            b"7 (a) S",
            b"7 (a) S x 1",
            b"7 (a) S 1 \xff",
        ] {
            assert_eq!(Stat::of(7, bad), None);
        }
    }

    #[test]
    fn a_worker_belongs_by_its_parents_or_by_its_group() {
        let stat = |pid, parent, group| Stat { pid, parent, group };
        let all = [
            stat(40, 30, 77),
            stat(10, 1, 10),
            stat(20, 10, 10),
            stat(30, 20, 30),
            stat(50, 1, 10),
            stat(60, 1, 60),
        ];
        assert_eq!(belonging(10, &all), [10, 20, 30, 40, 50].into());
        assert_eq!(belonging(60, &all), [60].into());
    }

    #[test]
    fn what_a_child_has_started_is_found_and_a_stranger_is_refused() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & read line; kill $!"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let found = loop {
            let found = family(child.id()).unwrap();
            if found.len() == 2 {
                break found;
            }
            assert!(std::time::Instant::now() < end, "{found:?}");
        };
        assert!(found.contains(&child.id()));
        let grandchild = found.into_iter().find(|pid| *pid != child.id()).unwrap();
        let refused = family(grandchild).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        drop(child.stdin.take());
        child.wait().unwrap();
        family(child.id()).unwrap_err();
    }
}
