//! Envoy's shared memory, and the repair of its "initializing" flag.
//!
//! An epoch sets the flag while it initialises, and refuses to start where it is set. An epoch that
//! fails or is killed in between leaves it set for ever, so that no further epoch can start beside a
//! perfectly healthy older one. Clearing it, once the dead epoch has been reaped, is all it takes.
//!
//! The layout was the same in Envoy 1.36 to 1.40:
//!
//! | offset | type | meaning |
//! | --- | --- | --- |
//! | 0 | u64 | size of the region, 104 |
//! | 8 | u64 | version of the layout, 11 |
//! | 16, 56 | | two process-shared mutexes of 40 bytes |
//! | 96 | u64 | flags; bit 0: an epoch is initializing |

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use super::BaseId;

/// The length of the file, which is also the number in its first field.
const SIZE: u64 = 104;
/// The same as a length in memory.
const LENGTH: usize = 104;
/// The number in the second field.
const VERSION: u64 = 11;
/// Where the flags are.
const FLAGS: usize = 96;
/// The only flag there is.
const INITIALIZING: u64 = 1;

/// The shared memory of one base id.
///
/// ```
/// use handover_envoy::hot_restart::{BaseId, SharedMemory, SharedMemoryState};
///
/// # let dir = tempfile::Builder::new().prefix("handover-").tempdir()?;
/// let memory = SharedMemory::in_dir(dir.path(), BaseId::new(7)?);
/// assert!(memory.path().ends_with("envoy_shared_memory_70"));
/// assert_eq!(memory.inspect()?, SharedMemoryState::Absent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    path: PathBuf,
}

/// What is in shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedMemoryState {
    /// No Envoy has used this base id since the host started.
    Absent,
    /// It is not laid out as this crate knows it, so it must be left alone.
    Unknown {
        /// What is different.
        why: String,
    },
    /// It is laid out as this crate knows it.
    Known {
        /// Whether the flag is set: an epoch initialises, or has ended while it did.
        initializing: bool,
    },
}

/// What a repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// There is no shared memory, so nothing is stuck.
    Absent,
    /// The flag was not set.
    NotNeeded,
    /// The flag was set and is not any more.
    Cleared,
}

/// Why the flag could not be looked at or cleared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The file cannot be opened, read or mapped.
    #[error("cannot access Envoy's shared memory {}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is laid out differently, so nothing was written.
    #[error(
        "Envoy's shared memory {} has an unknown layout ({why}), so its flag was not cleared: \
         only a cold restart creates a new one", path.display()
    )]
    UnknownLayout {
        /// The file.
        path: PathBuf,
        /// What is different.
        why: String,
    },
}

impl SharedMemory {
    /// Names the shared memory of a base id in `/dev/shm`. Nothing is opened yet.
    #[must_use]
    pub fn new(base_id: BaseId) -> Self {
        Self::in_dir(Path::new("/dev/shm"), base_id)
    }

    /// Names the shared memory of a base id in another directory. Nothing is opened yet.
    #[must_use]
    pub fn in_dir(dir: &Path, base_id: BaseId) -> Self {
        Self {
            path: dir.join(format!("envoy_shared_memory_{}", base_id.tenfold())),
        }
    }

    /// Returns whether the file system that holds it has no page left. An Envoy that needs one then is
    /// ended by a bus error. `false` where that cannot be seen, or where there is no limit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // The largest page of any machine that Linux runs on.
        const PAGE: u64 = 64 << 10;
        let system = self.path.parent().map(rustix::fs::statvfs);
        let Some(Ok(system)) = system else {
            return false;
        };
        let left = system.f_bavail.saturating_mul(system.f_frsize);
        system.f_blocks > 0 && left < PAGE
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks without writing.
    ///
    /// # Errors
    ///
    /// [`RepairError::Access`]. A layout that is not known is a [`SharedMemoryState`].
    pub fn inspect(&self) -> Result<SharedMemoryState, RepairError> {
        let Some(file) = self.open(OFlags::RDONLY)? else {
            return Ok(SharedMemoryState::Absent);
        };
        self.state(&file)
    }

    /// Clears the flag.
    ///
    /// Call it only after the failed epoch has been reaped and while no other epoch initialises; the
    /// flag is there to keep two epochs from initialising at once. Nothing is written unless the
    /// layout is the known one.
    ///
    /// # Errors
    ///
    /// [`RepairError`].
    pub fn clear_initializing(&self) -> Result<Repair, RepairError> {
        let Some(file) = self.open(OFlags::RDWR)? else {
            return Ok(Repair::Absent);
        };
        match self.state(&file)? {
            SharedMemoryState::Absent => Ok(Repair::Absent),
            SharedMemoryState::Known {
                initializing: false,
            } => Ok(Repair::NotNeeded),
            SharedMemoryState::Unknown { why } => Err(RepairError::UnknownLayout {
                path: self.path.clone(),
                why,
            }),
            SharedMemoryState::Known { initializing: true } => {
                let before = clear(&file).map_err(|source| self.access(source))?;
                Ok(match before & INITIALIZING {
                    0 => Repair::NotNeeded,
                    _ => Repair::Cleared,
                })
            }
        }
    }

    /// Removes the file. Only for the owner of the base id, and only while no Envoy uses it.
    pub(super) fn remove(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, access: OFlags) -> Result<Option<File>, RepairError> {
        // The directory belongs to everybody: links are not followed, and a pipe does not block.
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.access(error.into())),
        }
    }

    fn state(&self, file: &File) -> Result<SharedMemoryState, RepairError> {
        let unknown = |why: String| Ok(SharedMemoryState::Unknown { why });
        let metadata = file.metadata().map_err(|source| self.access(source))?;
        if !metadata.is_file() {
            return unknown("it is not a file".to_owned());
        }
        if metadata.len() != SIZE {
            return unknown(format!("{} bytes long, not {SIZE}", metadata.len()));
        }
        let mut bytes = [0; LENGTH];
        let mut reader = file;
        match reader.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return unknown("it has just been cut".to_owned());
            }
            Err(source) => return Err(self.access(source)),
        }
        let field = |offset: usize| {
            let bytes = bytes.get(offset..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        match (field(0), field(8), field(FLAGS)) {
            (SIZE, VERSION, flags) if flags & !INITIALIZING == 0 => Ok(SharedMemoryState::Known {
                initializing: flags == INITIALIZING,
            }),
            (SIZE, VERSION, flags) => {
                unknown(format!("flags {flags:#x}, of which only 0x1 is known"))
            }
            (SIZE, version, _) => unknown(format!("version {version}, not {VERSION}")),
            (size, ..) => unknown(format!("its header gives {size} bytes, not {SIZE}")),
        }
    }

    fn access(&self, source: io::Error) -> RepairError {
        RepairError::Access {
            path: self.path.clone(),
            source,
        }
    }
}

/// Clears the flag in a file of the known layout, atomically towards Envoys that have it mapped, and
/// returns the flags as they were.
#[expect(
    unsafe_code,
    reason = "an atomic store into shared memory needs a mapping"
)]
fn clear(file: &File) -> io::Result<u64> {
    // SAFETY: the mapping is touched only through an atomic, below, so that other processes may
    // write to it at the same time. Envoy never shortens the file: it unlinks it and makes another.
    let map = unsafe { memmap2::MmapOptions::new().len(LENGTH).map_mut(file) }?;
    let flags = map.as_ptr().wrapping_add(FLAGS).cast_mut().cast::<u64>();
    // SAFETY: a mapping starts at a page and 96 is a multiple of 8, so the pointer is aligned; 96 + 8
    // bytes are within the 104 that are mapped, writable, for as long as `map` lives, which is until
    // the end of this function. Envoy accesses the field as an atomic too.
    let flags = unsafe { AtomicU64::from_ptr(flags) };
    let before = flags.fetch_and(!INITIALIZING, Ordering::SeqCst);
    drop(map);
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Made {
        memory: SharedMemory,
        _dir: tempfile::TempDir,
    }

    fn made(size: u64, version: u64, flags: u64, length: usize) -> Made {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let memory = SharedMemory::in_dir(dir.path(), BaseId::new(7).unwrap());
        let mut bytes = vec![0xa5; 120];
        bytes[..8].copy_from_slice(&size.to_ne_bytes());
        bytes[8..16].copy_from_slice(&version.to_ne_bytes());
        bytes[96..104].copy_from_slice(&flags.to_ne_bytes());
        bytes.truncate(length);
        fs::write(memory.path(), bytes).unwrap();
        Made { memory, _dir: dir }
    }

    #[test]
    fn a_stuck_flag_is_cleared_and_nothing_else_is_touched() {
        let Made { memory, _dir } = made(104, 11, 1, 104);
        let mut expected = fs::read(memory.path()).unwrap();
        assert_eq!(
            memory.inspect().unwrap(),
            SharedMemoryState::Known { initializing: true }
        );
        assert_eq!(fs::read(memory.path()).unwrap(), expected);

        assert_eq!(memory.clear_initializing().unwrap(), Repair::Cleared);
        expected[96] = 0;
        assert_eq!(fs::read(memory.path()).unwrap(), expected);
        assert_eq!(
            memory.inspect().unwrap(),
            SharedMemoryState::Known {
                initializing: false
            }
        );
        assert_eq!(memory.clear_initializing().unwrap(), Repair::NotNeeded);
    }

    #[test]
    fn an_unknown_layout_is_never_written_to() {
        for (size, version, flags, length) in [
            (104, 11, 1, 103),
            (104, 11, 1, 112),
            (104, 11, 1, 0),
            (104, 12, 1, 104),
            (112, 11, 1, 104),
            (104, 11, 3, 104),
            (0, 0, 0, 104),
        ] {
            let Made { memory, _dir } = made(size, version, flags, length);
            let before = fs::read(memory.path()).unwrap();
            assert!(matches!(
                memory.inspect().unwrap(),
                SharedMemoryState::Unknown { .. }
            ));
            let error = memory.clear_initializing().unwrap_err();
            assert!(
                matches!(error, RepairError::UnknownLayout { .. }),
                "{error}"
            );
            assert_eq!(fs::read(memory.path()).unwrap(), before);
        }
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let Made { memory, _dir } = made(104, 11, 1, 104);
        let link = SharedMemory::in_dir(_dir.path(), BaseId::new(8).unwrap());
        std::os::unix::fs::symlink(memory.path(), link.path()).unwrap();
        assert!(matches!(
            link.clear_initializing(),
            Err(RepairError::Access { .. })
        ));
        assert_eq!(
            memory.inspect().unwrap(),
            SharedMemoryState::Known { initializing: true }
        );

        let directory = SharedMemory::in_dir(_dir.path(), BaseId::new(9).unwrap());
        fs::create_dir(directory.path()).unwrap();
        assert!(matches!(
            directory.inspect().unwrap(),
            SharedMemoryState::Unknown { .. }
        ));
        assert!(matches!(
            directory.clear_initializing(),
            Err(RepairError::Access { .. })
        ));
    }

    #[test]
    fn absent_memory_needs_no_repair() {
        let Made { memory, _dir } = made(104, 11, 1, 104);
        assert!(memory.remove().unwrap());
        assert!(!memory.remove().unwrap());
        assert_eq!(memory.inspect().unwrap(), SharedMemoryState::Absent);
        assert_eq!(memory.clear_initializing().unwrap(), Repair::Absent);
    }
}
