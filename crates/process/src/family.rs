//! The processes that belong to a child: those that it has started itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};

use super::signal::Signal;

/// How many parents are looked at, at most. A chain of them may change while it is read.
const MOST_PARENTS: u32 = 64;

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
    let all = all()?;
    refuse_stranger(child, &all)?;
    Ok(belonging(child, &all))
}

/// The processes that were seen below a child, so that those can be found that leave its group: what is sent to the group
/// does not reach them. Most often a program in between moves them out, such as `dumb-init`, `tini`, `setsid` or `su -c`.
///
/// The kernel gives them to another parent as soon as the child has ended. So [note](Self::note) them before that.
///
/// ```
/// use handover_process::{Command, Descendants};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let child = Command::new("sleep").args(["60"]).spawn().await?;
/// let mut descendants = Descendants::of(child.pid());
/// descendants.note()?;
/// child.kill().await?;
/// for left in descendants.outside_group()? {
///     left.kill()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Descendants {
    child: u32,
    /// Each with the time of its start, as another process may have its number by now.
    seen: BTreeMap<u32, u64>,
}

impl Descendants {
    /// Those of this child of this process: none yet.
    #[must_use]
    pub fn of(child: u32) -> Self {
        Self {
            child,
            seen: BTreeMap::new(),
        }
    }

    /// Adds those that there are now, and forgets those that have ended. It blocks while it reads `/proc`.
    ///
    /// # Errors
    ///
    /// As [`family`]. What was noted before stays.
    pub fn note(&mut self) -> io::Result<()> {
        let all = all()?;
        refuse_stranger(self.child, &all)?;
        let family = belonging(self.child, &all);
        self.seen = self.still(&all);
        let below = all
            .iter()
            .filter(|stat| stat.pid != self.child && family.contains(&stat.pid));
        self.seen.extend(below.map(|stat| (stat.pid, stat.started)));
        Ok(())
    }

    /// Returns whether none was noted that had not ended by the last note.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Returns those of them that still run, and what runs below them now, without those of the child's group. It
    /// blocks while it reads `/proc`.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub fn outside_group(&self) -> io::Result<Vec<Descendant>> {
        let all = all()?;
        let still = self.still(&all);
        let found: BTreeSet<u32> = still.keys().flat_map(|pid| belonging(*pid, &all)).collect();
        let outside = all.iter().filter(|stat| {
            found.contains(&stat.pid) && stat.group != self.child && !stat.has_ended()
        });
        Ok(outside
            .map(|stat| Descendant {
                pid: stat.pid,
                started: stat.started,
            })
            .collect())
    }

    /// Those that have not ended.
    fn still(&self, all: &[Stat]) -> BTreeMap<u32, u64> {
        let running = all.iter().filter(|stat| !stat.has_ended());
        running
            .map(|stat| (stat.pid, stat.started))
            .filter(|(pid, started)| self.seen.get(pid) == Some(started))
            .collect()
    }
}

/// A process that a child has started, by itself or by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    pid: u32,
    started: u64,
}

impl Descendant {
    /// Returns its process id.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Returns whether it has ended, collected or not.
    #[must_use]
    pub fn has_ended(self) -> bool {
        stat(self.pid).is_none_or(|stat| stat.started != self.started || stat.has_ended())
    }

    /// Kills it with SIGKILL, and waits for nothing. Returns whether it still ran.
    ///
    /// Where the system call for process descriptors is allowed, no other process that has got its number can be hit.
    ///
    /// # Errors
    ///
    /// What the operating system says, for instance about a process of another user.
    pub fn kill(self) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else {
            return Ok(false);
        };
        // It is opened before the look, so it means the process that is looked at.
        let opened = pidfd_open(pid, PidfdFlags::empty());
        if self.has_ended() {
            return Ok(false);
        }
        let kill = Signal::KILL.raw();
        let sent = match opened.and_then(|pidfd| pidfd_send_signal(&pidfd, kill)) {
            // Containers of an older Docker or libseccomp refuse the calls.
            Err(Errno::NOSYS | Errno::PERM) => kill_process(pid, kill),
            sent => sent,
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Returns whether a process was started by the child or by one of its descendants; nothing if it cannot be seen, as when
/// it has ended.
pub(crate) fn is_below(pid: u32, child: u32) -> Option<bool> {
    is_below_by(pid, child, |pid| stat(pid).map(|stat| stat.parent))
}

fn is_below_by(pid: u32, child: u32, parent: impl Fn(u32) -> Option<u32>) -> Option<bool> {
    let mut above = parent(pid)?;
    for _ in 0..MOST_PARENTS {
        if above == child {
            return Some(true);
        }
        match parent(above) {
            Some(next) => above = next,
            None => break,
        }
    }
    Some(false)
}

/// What `/proc` says of every process that can be seen.
fn all() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // It may have ended since it was listed.
        all.extend(pid.and_then(stat));
    }
    Ok(all)
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::of(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn refuse_stranger(child: u32, all: &[Stat]) -> io::Result<()> {
    let own = |stat: &Stat| stat.pid == child && stat.parent == std::process::id();
    match all.iter().any(own) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("process {child} is no child that runs"),
        )),
    }
}

/// What is needed of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    state: char,
    parent: u32,
    group: u32,
    /// In clock ticks since the start of the host.
    started: u64,
}

impl Stat {
    /// Reads the line. The name of the process stands in parentheses, and may hold any byte.
    fn of(pid: u32, line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        // The 22nd field of all, and the numbers in between are of no interest here.
        let started = fields.nth(16)?.parse().ok()?;
        Some(Self {
            pid,
            state,
            parent,
            group,
            started,
        })
    }

    /// Whether it has ended: it may still wait to be collected.
    fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X')
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
        let line = b"7 (a) S 1 (b) R 5 6 6 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 812 9 9";
        let stat = Stat::of(7, line).unwrap();
        let expected = Stat {
            pid: 7,
            state: 'R',
            parent: 5,
            group: 6,
            started: 812,
        };
        assert_eq!(stat, expected);
        for bad in [
            &b""[..],
            b"7 (a",
            b"7 (a) S",
            b"7 (a) S x 1",
            b"7 (a) S 1 \xff",
            b"7 (a) R 5 6 6 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0",
        ] {
            assert_eq!(Stat::of(7, bad), None);
        }
    }

    #[test]
    fn a_worker_belongs_by_its_parents_or_by_its_group() {
        let stat = |pid, parent, group| Stat {
            pid,
            state: 'S',
            parent,
            group,
            started: 0,
        };
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
    fn the_parents_of_a_process_are_followed_to_the_child_and_no_further() {
        let parent = |pid| match pid {
            30 => Some(20),
            20 => Some(10),
            10 => Some(1),
            1 => Some(0),
            // Two that change while they are read can seem to be each other's parent.
            7 => Some(8),
            8 => Some(7),
            _ => None,
        };
        for below in [30, 20] {
            assert_eq!(is_below_by(below, 10, parent), Some(true), "{below}");
        }
        for other in [10, 1, 7] {
            assert_eq!(is_below_by(other, 10, parent), Some(false), "{other}");
        }
        assert_eq!(is_below_by(10, 20, parent), Some(false));
        assert_eq!(is_below_by(99, 10, parent), None);
    }

    /// Waits until this is so, and fails after ten seconds.
    fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(std::time::Instant::now() < end, "not in time");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    fn what_has_left_the_group_is_noted_and_found_when_the_child_has_ended() {
        use std::os::unix::process::CommandExt;
        // One in a session of its own, with a child, and one that stays in the group.
        let mut child = Command::new("sh")
            .args(["-c", "setsid sh -c 'sleep 60 & wait' & sleep 60 & wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let mut descendants = Descendants::of(child.id());
        assert!(descendants.is_empty());
        let left = until(|| {
            descendants.note().unwrap();
            let left = descendants.outside_group().unwrap();
            (left.len() == 2 && descendants.seen.len() == 3).then_some(left)
        });
        assert!(!descendants.is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        let refused = descendants.note().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert_eq!(descendants.outside_group().unwrap(), left);
        for process in &left {
            assert!(!process.has_ended());
            assert!(process.kill().unwrap());
        }
        until(|| {
            let left = descendants.outside_group().unwrap();
            left.is_empty().then_some(())
        });
        for process in left {
            assert!(process.has_ended());
            assert!(!process.kill().unwrap());
        }
        // The one of the group is none of theirs.
        let group = Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process_group(group, Signal::KILL.raw()).unwrap();
    }

    #[test]
    fn a_process_that_has_got_the_number_of_another_is_not_hit() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let stat = stat(child.id()).unwrap();
        let other = Descendant {
            pid: child.id(),
            started: stat.started + 1,
        };
        assert!(other.has_ended());
        assert!(!other.kill().unwrap());
        let mut descendants = Descendants::of(1);
        descendants.seen.insert(other.pid, stat.started);
        assert_eq!(descendants.outside_group().unwrap().len(), 1);
        descendants.seen.insert(other.pid, other.started);
        assert!(descendants.outside_group().unwrap().is_empty());
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
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
