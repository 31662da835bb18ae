//! Files of programs that share a host: content digests, lock files, private directories and durable
//! replacement.
//!
//! **What it is.** Four helpers for state that outlives a process, in places where other processes
//! work at the same time, and where other users may write:
//!
//! - [`Digest`] is the SHA-256 of a content;
//! - [`LockFile`] excludes other processes, names its holder, and ends with it;
//! - [`PrivateDir`] is a directory that no other user has prepared and none can change;
//! - [`replace_durably`] replaces a file so that a power failure leaves the old one or the new one.
//!
//! **What it does not do.** It watches nothing (`handover-watch` does) and makes no temporary files
//! (`tempfile` does). It blocks; on a runtime it belongs on a thread for such work.
//!
//! **Who calls it.** Programs on Unix that may run twice at a time.

mod digest;
mod durable;
mod lock;
mod private_dir;

pub use digest::{Digest, Hasher, ParseDigestError};
pub use durable::{replace_durably, sweep_unfinished};
pub use lock::{LockError, LockFile, TryLock, is_at, is_held, read_owner, remove_unheld};
pub use private_dir::{DirectoryError, PrivateDir, below};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
