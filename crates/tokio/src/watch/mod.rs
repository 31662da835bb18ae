//! Files and directories whose contents matter: told when they are others, and only then.
//!
//! A [`Watcher`] compares contents by digest, so touching a file, or writing the same bytes again,
//! is no change. It waits for the kernel (inotify) and never wakes up by itself.
//!
//! | what somebody does | when it is reported |
//! | --- | --- |
//! | renames a complete file over the watched one | at once |
//! | replaces a symlink on the way, as Kubernetes does for a `ConfigMap` | at once |
//! | writes in place and closes the file | when it is closed |
//! | writes in place and keeps the file open | after 50 ms without a further write |
//! | removes the file | after 50 ms, if it has not come back: `missing` |
//! | makes a file where none was | when it is closed, or appears whole |
//! | replaces a directory on the way | at once |
//!
//! While somebody keeps writing, a look is taken once a second. A reported change therefore need not
//! be the last one: whoever writes in place may be seen half-way. Replace files by rename.
//!
//! **Directories** are watched one level deep: their regular files, symlinks to such included, but
//! no hidden files (`.name`) and no backup copies (`name~`).
//!
//! **Large files** such as programs can be watched without being read: by what the system says of
//! them, see [`Watcher::with_identities`].
//!
//! **What is not heard.** Network and some overlay file systems tell nothing about changes made
//! elsewhere, and no file system tells of writes through memory maps. For those there is
//! [`Watcher::rescan_every`].

#[cfg(not(target_os = "linux"))]
compile_error!("the feature `watch` needs Linux: it listens by inotify");

mod digest;
mod listener;
mod places;
mod read;
mod snapshot;
mod watcher;

pub use digest::Digest;
pub use read::{LARGEST_FILE, ReadError, Stable, read_stable};
pub use snapshot::{Change, FileState, Snapshot};
pub use watcher::{WatchError, Watcher};
