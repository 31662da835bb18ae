//! What of the watched paths the kernel does not report.

use std::fmt;
use std::path::{Path, PathBuf};

use super::read::LARGEST_FILE;
use super::tree::Limits;

/// A part of the watched paths whose changes may go unreported, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The first path, where the cause is tied to a path.
    pub path: Option<PathBuf>,
    /// How many more paths have the same cause.
    pub others: usize,
    /// The cause.
    pub why: GapCause,
}

/// Why changes may go unreported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapCause {
    /// The kernel opened no queue for events.
    NoQueue {
        /// What the operating system said.
        error: String,
    },
    /// The limit of inotify watches is reached.
    TooManyWatches,
    /// The kernel refused a watch for another reason.
    Refused {
        /// What the operating system said.
        error: String,
    },
    /// A file or directory could not be read for a reason that may pass, such as a shortage of
    /// descriptors. What it held before counts.
    NotRead {
        /// What the operating system said.
        error: String,
    },
    /// The file system reports no change that is made elsewhere.
    NoEvents {
        /// Its name, for people.
        file_system: &'static str,
    },
    /// The path is the mount of one file, which was deleted or replaced where it comes from. The mount
    /// goes on showing the old one.
    OldFileMounted,
    /// The directory lies deeper below a watched one than is followed.
    TooDeep,
    /// There are more directories than are followed.
    TooManyDirectories,
    /// There are more files than are compared.
    TooManyFiles,
    /// The files of the watched directories have more bytes than are read. The rest is compared by
    /// size and time.
    TooManyBytes,
    /// The file is larger than [`LARGEST_FILE`]. It is compared by size and time.
    TooLarge,
    /// A directory below a watched one shows the state of the kernel, so it is not followed.
    NotFollowed {
        /// The type of the file system.
        file_system: &'static str,
    },
    /// The files could not be looked at.
    NotLooked {
        /// What the operating system said.
        error: String,
    },
}

impl Gap {
    /// Returns whether looking at the files again and again finds the changes anyway.
    pub fn is_found_by_looking(&self) -> bool {
        match self.why {
            GapCause::NoQueue { .. }
            | GapCause::TooManyWatches
            | GapCause::Refused { .. }
            | GapCause::NotRead { .. }
            | GapCause::NoEvents { .. } => true,
            GapCause::OldFileMounted
            | GapCause::TooDeep
            | GapCause::TooManyDirectories
            | GapCause::TooManyFiles
            | GapCause::TooManyBytes
            | GapCause::TooLarge
            | GapCause::NotFollowed { .. }
            | GapCause::NotLooked { .. } => false,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = Limits::default();
        let paths = Paths(self);
        match &self.why {
            GapCause::NoQueue { error } => write!(
                f,
                "the system reports no changes of files (are the limits of open files or of inotify \
                 instances, fs.inotify.max_user_instances, reached?): {error}"
            ),
            GapCause::TooManyWatches => write!(
                f,
                "the system does not report changes of {paths}: raise the limit \
                 fs.inotify.max_user_watches"
            ),
            GapCause::Refused { error } => {
                write!(f, "the system does not report changes of {paths}: {error}")
            }
            GapCause::NotRead { error } => {
                write!(
                    f,
                    "could not read {paths}, so its last known content counts: {error}"
                )
            }
            GapCause::NoEvents { file_system } => write!(
                f,
                "the system does not report every change of {paths}, which is on {file_system}"
            ),
            GapCause::OldFileMounted => write!(
                f,
                "{paths} is mounted as a single file, and the file was replaced on the host; the mount \
                 still shows the old one: mount its directory instead"
            ),
            GapCause::TooDeep => write!(
                f,
                "not watched: {paths}, more than {} directories below a watched one",
                limits.depth
            ),
            GapCause::TooManyDirectories => write!(
                f,
                "not watched: {paths}, beyond {} directories",
                limits.directories
            ),
            GapCause::TooManyFiles => {
                write!(f, "not watched: {paths}, beyond {} files", limits.files)
            }
            GapCause::TooManyBytes => write!(
                f,
                "compared by size and time, not by content: {paths}, beyond {} MiB in all",
                limits.bytes / (1024 * 1024)
            ),
            GapCause::TooLarge => write!(
                f,
                "compared by size and time, not by content: {paths}, larger than {} MiB",
                LARGEST_FILE / (1024 * 1024)
            ),
            GapCause::NotFollowed { file_system } => {
                write!(f, "not watched: {paths}, which is on {file_system}")
            }
            GapCause::NotLooked { error } => {
                write!(f, "could not check the watched files: {error}")
            }
        }
    }
}

/// `` `a` and 2 more``.
struct Paths<'a>(&'a Gap);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.path {
            Some(path) => write!(f, "`{}`", path.display())?,
            None => f.write_str("the watched files")?,
        }
        match self.0.others {
            0 => Ok(()),
            others => write!(f, " and {others} more"),
        }
    }
}

/// The gaps that are found while looking, one for each cause.
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn add(&mut self, path: Option<&Path>, why: GapCause) {
        match self.0.iter_mut().find(|gap| gap.why == why) {
            Some(gap) => gap.others += 1,
            None => self.0.push(Gap {
                path: path.map(Into::into),
                others: 0,
                why,
            }),
        }
    }

    pub(super) fn into_vec(self) -> Vec<Gap> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_one_gap_however_many_paths_it_has() {
        let mut gaps = Gaps::default();
        for name in ["/a", "/b", "/c"] {
            gaps.add(Some(Path::new(name)), GapCause::TooManyWatches);
        }
        let file_system = "NFS";
        gaps.add(Some(Path::new("/n")), GapCause::NoEvents { file_system });
        let told: Vec<String> = gaps.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "the system does not report changes of `/a` and 2 more: raise the limit \
                 fs.inotify.max_user_watches",
                "the system does not report every change of `/n`, which is on NFS",
            ]
        );
    }
}
