//! The shared memory of a bare Envoy, read and written from outside.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use super::{BareEnvoy, LIMIT};
use crate::limit;

/// Where the flags are in the shared memory, a `u64`.
const FLAGS: usize = 96;

impl BareEnvoy {
    /// The shared memory as it is.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn memory(&self) -> Vec<u8> {
        let file = self.shared_memory();
        match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => panic!("cannot read {}: {error}", file.display()),
        }
    }

    /// The flags in the shared memory; `None` without one, or with one that is too short.
    #[must_use]
    pub fn flags(&self) -> Option<u64> {
        word(&fs::read(self.shared_memory()).ok()?, FLAGS)
    }

    /// Waits until the flags are these.
    ///
    /// # Panics
    ///
    /// When they are not.
    #[track_caller]
    pub fn wait_flags(&self, flags: u64) {
        let what = format!("the flags {flags} in the shared memory");
        limit::eventually(LIMIT, &what, || (self.flags() == Some(flags)).then_some(()));
    }

    /// Writes the flags into the shared memory, in place, as every epoch has it mapped.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn write_flags(&self, flags: u64) {
        self.write_memory(FLAGS, &flags.to_ne_bytes());
    }

    /// Writes bytes into the shared memory at this offset, in place.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn write_memory(&self, offset: usize, bytes: &[u8]) {
        let path = self.shared_memory();
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        let file = OpenOptions::new().write(true).open(&path);
        if let Err(error) = file.and_then(|file| file.write_all_at(bytes, offset)) {
            panic!("cannot write {}: {error}", path.display());
        }
    }
}

/// The `u64` at this offset; `None` behind the end.
#[must_use]
pub fn word(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}
