//! The directory of one supervisor: the child's program, its pipe for stamps, and the file that is changed.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use crate::clock;

/// The bytes of one record of the child.
const RECORD: usize = 32;

/// What a child says about its first instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The monotonic clock at that moment, in nanoseconds.
    pub(crate) at: u64,
    pub(crate) pid: u32,
    /// The first bytes of the file that is changed.
    pub(crate) config: String,
}

impl Stamp {
    fn parse(record: &[u8; RECORD]) -> Option<Self> {
        let (at, rest) = record.split_first_chunk::<8>()?;
        let (pid, rest) = rest.split_first_chunk::<4>()?;
        let (length, config) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        Some(Self {
            at: u64::from_ne_bytes(*at),
            pid: u32::from_ne_bytes(*pid),
            config: String::from_utf8_lossy(config.get(..length)?).into_owned(),
        })
    }
}

/// How the file that is changed lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A file of its own.
    Plain,
    /// As Kubernetes mounts a `ConfigMap`: the file is a link through `..data`, a link to a directory that a change
    /// replaces as a whole.
    ConfigMap,
}

/// How it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Another file is renamed over it.
    Rename,
    /// It is emptied and written again.
    InPlace,
    /// `..data` becomes a link to another directory.
    Swap,
}

/// A directory with everything that one supervisor and its children need.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    stamps: File,
    version: u32,
}

impl Place {
    /// Makes the directory, in which nothing may be yet. `child` is the program of the child.
    ///
    /// # Errors
    ///
    /// When something cannot be made.
    pub(crate) fn make(directory: PathBuf, child: &Path, layout: Layout) -> Result<Self> {
        fs_err::create_dir_all(directory.join("conf"))?;
        symlink(child, directory.join("run")).context("linking the child's program")?;
        let pipe = directory.join("stamp");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("making the pipe {}", pipe.display()))?;
        // For writing as well, so that there is always a reader and a writer, and no child waits for one.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let stamps = rustix::fs::open(&pipe, flags, Mode::empty()).context("opening the pipe")?;
        let mut place = Self {
            directory,
            stamps: stamps.into(),
            version: 0,
        };
        match layout {
            Layout::Plain => fs_err::write(place.config(), "0")?,
            Layout::ConfigMap => {
                symlink("..data/config", place.config()).context("linking the file")?;
                place.version_directory()?;
                let data = place.conf().join("..data");
                symlink(place.version_name(), data).context("linking ..data")?;
            }
        }
        Ok(place)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of the file that is changed. Nothing else is in it.
    pub(crate) fn conf(&self) -> PathBuf {
        self.directory.join("conf")
    }

    /// The file that is changed.
    pub(crate) fn config(&self) -> PathBuf {
        self.conf().join("config")
    }

    /// The number of the newest change, which is the content of the file.
    pub(crate) fn version(&self) -> String {
        self.version.to_string()
    }

    /// Changes the file, and returns the time directly before the step that makes the change visible.
    ///
    /// # Errors
    ///
    /// When something cannot be written.
    pub(crate) fn change(&mut self, change: Change) -> Result<u64> {
        self.version += 1;
        match change {
            Change::Rename => {
                let next = self.directory.join("next");
                fs_err::write(&next, self.version())?;
                let begun = clock::now();
                fs_err::rename(next, self.config())?;
                Ok(begun)
            }
            Change::InPlace => {
                let begun = clock::now();
                fs_err::write(self.config(), self.version())?;
                Ok(begun)
            }
            Change::Swap => {
                let old = fs_err::read_link(self.conf().join("..data"))?;
                self.version_directory()?;
                let next = self.conf().join("..data_tmp");
                symlink(self.version_name(), &next).context("linking ..data_tmp")?;
                let begun = clock::now();
                fs_err::rename(next, self.conf().join("..data"))?;
                fs_err::remove_dir_all(self.conf().join(old))?;
                Ok(begun)
            }
        }
    }

    /// Waits for the next stamp.
    ///
    /// # Errors
    ///
    /// When none comes within the limit.
    pub(crate) fn stamp(&mut self, limit: Duration) -> Result<Stamp> {
        let end = Instant::now() + limit;
        loop {
            if let Some(stamp) = self.stamp_now()? {
                return Ok(stamp);
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no child was started in {limit:?}");
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut descriptors = [PollFd::new(&self.stamps, PollFlags::IN)];
            match poll(&mut descriptors, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => bail!("polling the pipe of the stamps: {error}"),
            }
        }
    }

    /// The next stamp, if it is there.
    ///
    /// # Errors
    ///
    /// When the pipe cannot be read.
    pub(crate) fn stamp_now(&mut self) -> Result<Option<Stamp>> {
        let mut record = [0; RECORD];
        match self.stamps.read(&mut record) {
            // Writes of this size are not split, so neither are reads of it.
            Ok(RECORD) => Stamp::parse(&record)
                .map(Some)
                .context("a child wrote a record that is none"),
            Ok(length) => bail!("a child wrote {length} bytes, and a record has {RECORD}"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("reading the pipe of the stamps"),
        }
    }

    fn version_name(&self) -> String {
        format!("..version-{}", self.version)
    }

    /// A directory with the file as the newest change has it.
    fn version_directory(&mut self) -> Result<()> {
        let directory = self.conf().join(self.version_name());
        fs_err::create_dir(&directory)?;
        fs_err::write(directory.join("config"), self.version())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// The child as the build script has compiled it.
    fn child() -> &'static Path {
        Path::new(env!("BENCH_CHILD"))
    }

    #[test]
    fn a_child_says_when_it_started_who_it_is_and_what_it_has_read() {
        for (layout, change) in [
            (Layout::Plain, Change::Rename),
            (Layout::Plain, Change::InPlace),
            (Layout::ConfigMap, Change::Swap),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let mut place = Place::make(directory.path().join("place"), child(), layout).unwrap();
            for version in ["0", "1", "2"] {
                let before = clock::now();
                let program = place.directory().join("run");
                let mut running = Command::new(program)
                    .current_dir(place.directory())
                    .spawn()
                    .unwrap();
                let stamp = place.stamp(LIMIT);
                running.kill().unwrap();
                running.wait().unwrap();
                let stamp = stamp.unwrap();
                assert!(before < stamp.at && stamp.at < clock::now(), "{stamp:?}");
                assert_eq!((stamp.pid, stamp.config.as_str()), (running.id(), version));
                let changed = place.change(change).unwrap();
                assert!(stamp.at < changed && changed <= clock::now());
            }
        }
    }

    #[test]
    fn a_wait_for_a_child_that_does_not_come_ends() {
        let directory = tempfile::tempdir().unwrap();
        let mut place =
            Place::make(directory.path().join("place"), child(), Layout::Plain).unwrap();
        let error = place.stamp(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.to_string(), "no child was started in 1ms");
    }
}
