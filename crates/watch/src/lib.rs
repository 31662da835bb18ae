//! Reports when watched files and directories have other content, and only then.
//!
//! **What it is.** A [`Watcher`] compares contents by digest, so touching a file, or writing the same
//! bytes again, is no change. It waits for the kernel (inotify) and sleeps while nothing happens. It
//! needs Linux and a tokio runtime.
//!
//! **What it does not do.** It reads no meaning into files, and reports no single events.
//!
//! **Who calls it.** A program that reloads its configuration, certificates or its own binary.
//!
//! **Which types first.** [`Watcher`] returns a [`Change`]; a [`Snapshot`] is what was seen last.
//!
//! # What it does that `notify` does not
//!
//! | what happens | `notify` | here |
//! | --- | --- | --- |
//! | a file is touched, or written with the same bytes | an event | nothing |
//! | a file is replaced by rename | the watch stays on the old file, unless its directory is watched too | a change |
//! | a symlink on the way is replaced, as Kubernetes does for a `ConfigMap` | events of the directories that the caller thought of | a change; every directory on the way is watched |
//! | many events belong to one change | many events, which another crate can join | one change, when the file is complete |
//! | the kernel drops events | an event that asks for a new look | the new look |
//! | the file system reports no events, or a limit is reached | no event, or an error; polling is another watcher | [`Watcher::gaps`] names it, and the files are looked at in an interval for as long as it lasts |
//! | a file cannot be read | the caller's business | part of the [`Snapshot`]; its repair is a change |
//!
//! Take `notify` for other systems than Linux, for events as such, and for trees of any size.
//!
//! # When a change is reported
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
//! be the last one: a write in place may be seen half-way. Replace files by rename.
//!
//! **Directories** are watched with those below: their regular files, symlinks to such included, but
//! no hidden names (`.name`) and no backup copies (`name~`). Symlinks to directories are followed, and
//! a directory that two paths lead to is met once. At most 8 directories lie between a watched one
//! and a file, at most 1,024 directories and 16,384 files are watched, and 512 MiB read. An entry that
//! cannot be read is part of the [`Snapshot`] as such, so its repair is a change.
//!
//! **Large files**, above 64 MiB, are compared by size and time, which [`Watcher::gaps`] tells. Any file can be
//! watched without being read, such as a program: see [`Watcher::with_identities`].
//!
//! **What is not heard.** Network file systems and FUSE report no changes made elsewhere, and the
//! kernel has limits of watches. [`Watcher::gaps`] lists what is concerned. While there is a gap, the
//! files are looked at every ten seconds, and limits that have been raised are noticed by that. No file
//! system reports writes through memory maps; [`Rescan::Always`] finds them.

#[cfg(not(target_os = "linux"))]
compile_error!("`handover-watch` needs Linux: it listens by inotify");

mod digest_cache;
mod event_flood;
mod filesystem;
mod gap;
mod kernel_events;
mod look;
mod preview;
mod read;
mod rescan;
mod snapshot;
mod tree;
mod watch_points;
mod watcher;

pub use handover_files::Digest;

pub use gap::{Gap, GapCause};
pub use preview::Preview;
pub use read::{FileContents, LARGEST_FILE, ReadError, read_stable};
pub use rescan::Rescan;
pub use snapshot::{Change, FileState, Snapshot};
pub use watcher::{WatchError, Watcher};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
