//! What the operating system is short of, as an error tells.

use std::error::Error;
use std::fmt;
use std::io;

use crate::offload::OffloadError;

/// Something that the operating system has only so much of.
///
/// A shortage passes without anybody touching the configuration, so what failed by it is worth
/// another try later.
///
/// ```
/// use handover_runtime::Shortage;
/// use std::io;
///
/// let error = io::Error::from_raw_os_error(24); // EMFILE
/// let shortage = Shortage::of(&error);
/// assert_eq!(shortage, Some(Shortage::OpenFiles));
/// assert_eq!(Shortage::of(&io::Error::from(io::ErrorKind::NotFound)), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// This process has as many descriptors open as it may (EMFILE).
    OpenFiles,
    /// The host has as many files open as it may (ENFILE).
    OpenFilesOfHost,
    /// There are as many processes and threads as there may be (EAGAIN).
    Processes,
    /// There is no memory left (ENOMEM).
    Memory,
    /// A file system is full (ENOSPC).
    Space,
    /// The user has as much on a file system as he may (EDQUOT).
    Quota,
}

impl Shortage {
    /// Returns the shortage that an error, or one of its causes, tells of.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        let mut of_processes = false;
        while let Some(error) = next {
            if let Some(shortage) = error.downcast_ref() {
                return Some(*shortage);
            }
            let start = error.downcast_ref::<StartError>();
            of_processes |= start.is_some();
            if matches!(error.downcast_ref(), Some(OffloadError::Busy)) {
                return Some(Self::Processes);
            }
            next = error.source();
            if let Some(error) = start.map(|start| &start.0).or_else(|| error.downcast_ref()) {
                if let Some(shortage) = Self::of_io(error, of_processes) {
                    return Some(shortage);
                }
                // An error that was made into one of I/O is no source of it, only its causes are.
                if let Some(inner) = error.get_ref() {
                    next = Some(inner);
                }
            }
        }
        None
    }

    fn of_io(error: &io::Error, of_processes: bool) -> Option<Self> {
        const KINDS: [(io::ErrorKind, Shortage); 3] = [
            (io::ErrorKind::StorageFull, Shortage::Space),
            (io::ErrorKind::QuotaExceeded, Shortage::Quota),
            (io::ErrorKind::OutOfMemory, Shortage::Memory),
        ];
        let kind = error.kind();
        if let Some((_, shortage)) = KINDS.iter().find(|(known, _)| *known == kind) {
            return Some(*shortage);
        }
        match error.raw_os_error() {
            Some(EMFILE) => Some(Self::OpenFiles),
            Some(ENFILE) => Some(Self::OpenFilesOfHost),
            // Everywhere else it is what a socket says that has nothing to read.
            _ if of_processes && kind == io::ErrorKind::WouldBlock => Some(Self::Processes),
            _ => None,
        }
    }
}

/// The operating system started no thread, or made no process.
///
/// It marks such an error for [`Shortage::of`]: only here does EAGAIN tell of a shortage.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] pub io::Error);

/// These have one number on every Linux.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenFiles => "open files of this process (RLIMIT_NOFILE, `ulimit -n`)",
            Self::OpenFilesOfHost => "open files of this host (fs.file-max)",
            Self::Processes => {
                "processes and threads (RLIMIT_NPROC, `ulimit -u`, or pids.max of the control group)"
            }
            Self::Memory => "memory",
            Self::Space => "space on the file system",
            Self::Quota => "the user's quota on the file system",
        })
    }
}

/// For what another process has told of, where its error is not there any more.
impl Error for Shortage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn it_is_found_among_the_causes() {
        for (number, shortage) in [
            (EMFILE, Shortage::OpenFiles),
            (ENFILE, Shortage::OpenFilesOfHost),
            (12, Shortage::Memory),
            (28, Shortage::Space),
            (122, Shortage::Quota),
        ] {
            let error = Outer(io::Error::from_raw_os_error(number));
            assert_eq!(Shortage::of(&error), Some(shortage), "{error:?}");
        }
    }

    #[test]
    fn it_is_found_as_a_cause_itself() {
        let error = io::Error::other(Shortage::Processes);
        assert_eq!(Shortage::of(&error), Some(Shortage::Processes));
    }

    #[test]
    fn eagain_is_a_shortage_only_of_those_who_ask_for_a_process() {
        let eagain = || io::Error::from_raw_os_error(11);
        assert_eq!(Shortage::of(&Outer(eagain())), None);
        let error = OffloadError::NoThread(eagain().into());
        assert_eq!(Shortage::of(&error), Some(Shortage::Processes));
        let error = Outer(io::Error::other(error));
        assert_eq!(Shortage::of(&error), Some(Shortage::Processes));
        assert_eq!(
            Shortage::of(&StartError::from(io::Error::from_raw_os_error(12))),
            Some(Shortage::Memory)
        );
    }

    #[test]
    fn a_start_that_failed_by_another_start_asked_for_a_process_too() {
        let inner = StartError::from(io::Error::from_raw_os_error(11));
        let outer = StartError::from(io::Error::other(inner));
        assert_eq!(Shortage::of(&outer), Some(Shortage::Processes));
    }

    #[test]
    fn each_shortage_is_named_with_the_limit_that_was_reached() {
        for (shortage, named) in [
            (Shortage::OpenFiles, "RLIMIT_NOFILE"),
            (Shortage::OpenFilesOfHost, "fs.file-max"),
            (Shortage::Processes, "pids.max"),
            (Shortage::Memory, "memory"),
            (Shortage::Space, "space"),
            (Shortage::Quota, "quota"),
        ] {
            assert!(shortage.to_string().contains(named), "{shortage}");
        }
    }

    #[test]
    fn what_is_wrong_for_good_is_no_shortage() {
        for number in [1, 2, 13, 30] {
            let error = Outer(io::Error::from_raw_os_error(number));
            assert_eq!(Shortage::of(&error), None, "{error:?}");
        }
    }
}
