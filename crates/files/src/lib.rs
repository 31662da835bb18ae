//! Files of programs that share a host.

mod digest;
mod durable;
mod lock;
mod private_dir;

pub use digest::{Digest, Hasher, ParseDigestError};
pub use durable::{replace_durably, sweep_unfinished};
pub use lock::{LockError, LockFile, TryLock, is_at, is_held, read_owner};
pub use private_dir::{DirectoryError, PrivateDir, below};
