//! Shortages: nearly all of something is taken from the supervisor, and given back.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_test_support::control_group::Group;
use handover_test_support::limit::poll;
use handover_test_support::supervisor::Launch;
use rustix::process::{Pid, Rlimit, prlimit};

use crate::step::Resource;

/// What the control group may use before there is a shortage.
const PLENTY: u64 = 8 << 30;

/// What a shortage of memory leaves: less than a process of the fake needs, and more than the supervisor
/// needs for going on.
const FEW_BYTES: u64 = 3 << 20;

/// How large the file system of the run directory is: many configurations, and it is filled at once.
const DISK: &str = "size=2m";

/// For `sh -c`: mounts the disk, joins the groups, and becomes the rest.
const ENTER: &str = "mount -t tmpfs -o \"$3\" chaos \"$0\" && echo $$ >\"$1\" && echo $$ >\"$2\" && shift 3 && exec \"$@\"";

/// How long the last process may take to leave a group.
const LIMIT: Duration = Duration::from_secs(20);

/// Where a supervisor runs so that others are not short of anything.
#[derive(Debug)]
pub(crate) struct Cell {
    disk: PathBuf,
    groups: Option<Groups>,
}

#[derive(Debug)]
struct Groups {
    processes: Processes,
    memory: Group,
}

/// What is needed for a shortage. It can be sent to a thread.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pid: Pid,
    /// The root of the disk. It stays readable when the supervisor has ended.
    disk: Arc<OwnedFd>,
    cell: Arc<Cell>,
    /// One shortage at a time: each gives back what it has found.
    turn: Arc<Mutex<()>>,
}

impl Cell {
    /// Makes the groups, and the directory for the disk. Without root there are no groups and no disk of
    /// its own, and shortages of them are skipped by name.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let disk = directory.join("disk");
        fs::create_dir(&disk)?;
        let processes = Processes::make();
        let groups = processes.and_then(|processes| {
            let memory = Group::with_limit("shortages of processes, memory and disk", PLENTY)?;
            Some(Groups { processes, memory })
        });
        Ok(Self { disk, groups })
    }

    /// Where the supervisor keeps what it writes.
    pub(crate) fn disk(&self) -> &Path {
        &self.disk
    }

    /// Lets the supervisor run in the cell.
    pub(crate) fn enter(&self, launch: Launch) -> Launch {
        let Some(Groups { processes, memory }) = &self.groups else {
            return launch;
        };
        let disk = self.disk.display().to_string();
        let processes = processes.0.join("cgroup.procs").display().to_string();
        let words = [
            "-m",
            "sh",
            "-c",
            ENTER,
            &disk,
            &processes,
            &memory.members(),
            DISK,
        ];
        launch.by("unshare", &words)
    }
}

impl Hold {
    /// Takes hold of a supervisor that runs in a cell.
    pub(crate) fn take(cell: Cell, pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).map_err(io::Error::other)?;
        let seen = PathBuf::from(format!("/proc/{pid}/root{}", cell.disk.display()));
        Ok(Self {
            pid: Pid::from_raw(number).ok_or(io::ErrorKind::InvalidInput)?,
            disk: Arc::new(File::open(seen)?.into()),
            cell: Arc::new(cell),
            turn: Arc::default(),
        })
    }

    /// Returns the names of all files on the disk.
    pub(crate) fn files(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.on_disk(directory))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Takes nearly all of a resource away for a time, after the shortage that goes on. Returns false if that is not
    /// possible here.
    pub(crate) fn run_short(&self, resource: Resource, time: Duration) -> io::Result<bool> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match (resource, &self.cell.groups) {
            (Resource::Descriptors, _) => {
                let kind = rustix::process::Resource::Nofile;
                let open = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()))?;
                let numbers = open
                    .flatten()
                    .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
                let most = numbers.max().unwrap_or(3) + 2;
                let before = rustix::process::getrlimit(kind);
                let few = Rlimit {
                    current: Some(most),
                    maximum: before.maximum,
                };
                let before = prlimit(Some(self.pid), kind, few)?;
                std::thread::sleep(time);
                prlimit(Some(self.pid), kind, before)?;
            }
            (Resource::Processes, Some(groups)) => {
                groups.processes.limit_to_now()?;
                std::thread::sleep(time);
                groups.processes.limit("max")?;
            }
            (Resource::Memory, Some(groups)) => {
                groups.memory.leave(FEW_BYTES);
                std::thread::sleep(time);
                groups.memory.limit(PLENTY);
            }
            (Resource::Disk, Some(_)) => {
                let filling = self.on_disk("filling");
                fill(&filling)?;
                std::thread::sleep(time);
                fs::remove_file(filling)?;
            }
            (Resource::Processes | Resource::Memory | Resource::Disk, None) => return Ok(false),
        }
        Ok(true)
    }

    fn on_disk(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.disk.as_raw_fd()))
    }
}

/// Writes until there is no room.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let block = [b'x'; 4096];
    loop {
        match file.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A control group that bounds the number of processes and threads. It is removed when it is dropped.
#[derive(Debug)]
struct Processes(PathBuf);

impl Processes {
    fn make() -> Option<Self> {
        let version_1 = Path::new("/sys/fs/cgroup/pids");
        let version_2 = Path::new("/sys/fs/cgroup");
        let parent = if version_1.is_dir() {
            version_1
        } else {
            let below = fs::read_to_string(version_2.join("cgroup.subtree_control")).ok()?;
            below.split_whitespace().find(|name| *name == "pids")?;
            version_2
        };
        let path = tempfile::Builder::new()
            .prefix("handover-chaos-")
            .tempdir_in(parent)
            .ok()?;
        let group = Self(path.keep());
        group.limit("max").ok()?;
        Some(group)
    }

    fn limit(&self, most: &str) -> io::Result<()> {
        fs::write(self.0.join("pids.max"), most)
    }

    fn limit_to_now(&self) -> io::Result<()> {
        let now = fs::read_to_string(self.0.join("pids.current"))?;
        self.limit(now.trim())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // A process that has ended leaves its group a moment later.
        let _left_if_it_cannot_be = poll(LIMIT, || fs::remove_dir(&self.0).ok());
    }
}
