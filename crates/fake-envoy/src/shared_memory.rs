//! The shared memory of one base id.
//!
//! The first epoch makes it. Each epoch sets a flag in it while it initialises, and refuses to start
//! where the flag is set.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::settings::HotRestartVersion;

/// The bit of an epoch that initialises.
const INITIALIZING: u64 = 1;
/// The attributes of a mutex that glibc shares between processes and that survives its owner, as Envoy
/// makes them: process-shared and robust.
const MUTEX_KIND: u64 = 0x90;

/// The mapped shared memory.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    map: MmapRaw,
    flags: usize,
}

/// Why an epoch cannot use the shared memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SharedMemoryError {
    /// It cannot be made or opened.
    Open { path: String, cause: String },
    /// Its size is another one.
    Size,
    /// The version of its layout is another one.
    Version,
    /// Another epoch initialises, or ended while it did.
    StillInitializing,
}

impl SharedMemory {
    /// Returns the path of the file.
    pub(crate) fn path(tenfold: u64) -> PathBuf {
        format!("/dev/shm/envoy_shared_memory_{tenfold}").into()
    }

    /// Makes it for the first epoch, or attaches to that of the epochs before. Sets the flag.
    pub(crate) fn attach(
        tenfold: u64,
        epoch: u32,
        version: HotRestartVersion,
    ) -> Result<Self, SharedMemoryError> {
        let path = Self::path(tenfold);
        let failed = |error: io::Error| SharedMemoryError::Open {
            path: format!("/envoy_shared_memory_{tenfold}"),
            cause: system_text(&error),
        };
        let length = usize::try_from(version.size).unwrap_or(usize::MAX);
        if epoch == 0 {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(epoch == 0)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        if epoch == 0 {
            file.set_len(version.size.into()).map_err(failed)?;
        } else if file.metadata().map_err(failed)?.len() < 24 {
            // Envoy would be ended by a bus error.
            return Err(SharedMemoryError::Size);
        }
        let there = file.metadata().map_err(failed)?.len();
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        let map = MmapOptions::new().len(length.min(there)).map_raw(&file);
        let map = map.map_err(failed)?;
        let memory = Self {
            map,
            // Behind two mutexes of 40 bytes; in a smaller layout the last place there is.
            flags: if length >= 104 {
                96
            } else {
                (length - 8) / 8 * 8
            },
        };
        if epoch == 0 {
            memory.store(0, version.size.into());
            memory.store(8, version.number.into());
            for mutex in [16, 56] {
                memory.store(mutex + 16, MUTEX_KIND);
            }
        } else if memory.load(0) != u64::from(version.size) || length > there {
            return Err(SharedMemoryError::Size);
        } else if memory.load(8) != u64::from(version.number) {
            return Err(SharedMemoryError::Version);
        }
        let before = memory.at(memory.flags, |word| {
            word.fetch_or(INITIALIZING, Ordering::SeqCst)
        });
        if before.unwrap_or(0) & INITIALIZING != 0 {
            return Err(SharedMemoryError::StillInitializing);
        }
        Ok(memory)
    }

    /// Clears the flag.
    pub(crate) fn clear(&self) {
        self.at(self.flags, |word| {
            word.fetch_and(!INITIALIZING, Ordering::SeqCst)
        });
    }

    fn load(&self, offset: usize) -> u64 {
        self.at(offset, |word| word.load(Ordering::SeqCst))
            .unwrap_or(0)
    }

    fn store(&self, offset: usize, value: u64) {
        self.at(offset, |word| word.store(value, Ordering::SeqCst));
    }

    /// Calls a function with a word of the memory, if it is within it.
    #[expect(
        unsafe_code,
        reason = "an atomic in shared memory needs a pointer into the mapping"
    )]
    fn at<T>(&self, offset: usize, call: impl FnOnce(&AtomicU64) -> T) -> Option<T> {
        let is_within = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.map.len();
        if !is_within {
            return None;
        }
        let word = self.map.as_mut_ptr().wrapping_add(offset).cast::<u64>();
        // SAFETY: a mapping starts at a page and the offset is a multiple of 8, so the pointer is
        // aligned; its 8 bytes are within the mapping, which lives as long as `self`. All processes
        // access the words as atomics only.
        let word = unsafe { AtomicU64::from_ptr(word) };
        Some(call(word))
    }
}

/// The words of the system for an error, without the number that Rust adds.
pub(crate) fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split_once(" (os error").map(|(words, _)| words);
    words.unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: HotRestartVersion = HotRestartVersion {
        number: 11,
        size: 104,
    };

    /// A file that goes when the test does.
    struct Id(u64);

    impl Id {
        fn new(number: u64) -> Self {
            Self(u64::from(std::process::id()) * 100 + number + 4_000_000_000)
        }

        fn bytes(&self) -> Vec<u8> {
            fs::read(SharedMemory::path(self.0)).unwrap()
        }
    }

    impl Drop for Id {
        fn drop(&mut self) {
            let _may_be_missing = fs::remove_file(SharedMemory::path(self.0));
        }
    }

    #[test]
    fn the_layout_and_the_flag_are_those_of_the_real_one() {
        let id = Id::new(1);
        let memory = SharedMemory::attach(id.0, 0, VERSION).unwrap();
        let bytes = id.bytes();
        assert_eq!(bytes.len(), 104);
        assert_eq!(
            (bytes[0], bytes[8], bytes[32], bytes[96]),
            (104, 11, 0x90, 1)
        );
        let second = SharedMemory::attach(id.0, 1, VERSION).unwrap_err();
        assert_eq!(second, SharedMemoryError::StillInitializing);
        memory.clear();
        assert_eq!(id.bytes()[96], 0);
        SharedMemory::attach(id.0, 1, VERSION).unwrap();
        assert_eq!(id.bytes()[96], 1);
        // The first epoch makes it again, whatever is there.
        SharedMemory::attach(id.0, 0, VERSION).unwrap();
    }

    #[test]
    fn another_version_or_size_is_refused_and_nothing_is_not_there() {
        let id = Id::new(2);
        let missing = SharedMemory::attach(id.0, 1, VERSION).unwrap_err();
        let SharedMemoryError::Open { path, cause } = missing else {
            panic!("{missing:?}")
        };
        assert_eq!(path, format!("/envoy_shared_memory_{}", id.0));
        assert_eq!(cause, "No such file or directory");
        let other = |number, size| HotRestartVersion { number, size };
        for (version, expected) in [
            (other(12, 104), SharedMemoryError::Version),
            (other(11, 112), SharedMemoryError::Size),
            (other(11, 103), SharedMemoryError::Size),
        ] {
            SharedMemory::attach(id.0, 0, version).unwrap().clear();
            let error = SharedMemory::attach(id.0, 1, VERSION).unwrap_err();
            assert_eq!(error, expected, "{version}");
        }
    }
}
