//! The memory of several starts: how many there were, and which faults are spent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A directory that several processes share.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    start: u64,
}

impl State {
    /// Opens the directory, makes it if it is missing, and counts this start.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("starts");
        let mut starts = OpenOptions::new().create(true).append(true).open(path)?;
        // One byte a start: the length is the count, and no reader sees half of a number.
        rustix::fs::flock(&starts, FlockOperation::LockExclusive)?;
        starts.write_all(b".")?;
        let start = starts.metadata()?.len();
        Ok(Self {
            directory: directory.to_owned(),
            start,
        })
    }

    /// Returns the number of this start, from 1.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Spends a fault. Returns whether it was not spent before; one that cannot be written down happens,
    /// so that nobody waits for it in vain.
    pub(crate) fn spend(&self, fault: &str) -> bool {
        // A path may not hold a slash, and no text of a fault does.
        let path = self
            .directory
            .join(format!("spent-{}", fault.replace('/', "_")));
        match File::create_new(path) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::AlreadyExists,
        }
    }
}
