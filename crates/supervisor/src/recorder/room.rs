//! How much room is left on the file system, and how much of it a recording leaves to what matters more: the
//! configurations of the next epochs, and what is kept of the one that serves.

use std::fmt;
use std::fs::File;

/// What a recording leaves free at least.
const RESERVE: u64 = 1 << 20;

/// Which share of a small file system it leaves free: one in so many.
const SHARE: u64 = 4;

/// The bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// All of them.
    pub(super) total: u64,
    /// Those that are left for us.
    pub(super) free: u64,
}

impl Room {
    /// How many bytes must be freed before so many may be written.
    pub(super) fn lacking(self, bytes: u64) -> u64 {
        self.reserve()
            .saturating_add(bytes)
            .saturating_sub(self.free)
    }

    /// How many bytes may be written until others need the rest.
    pub(super) fn spare(self) -> u64 {
        self.free.saturating_sub(self.reserve())
    }

    /// What is left free.
    pub(super) fn reserve(self) -> u64 {
        RESERVE.min(self.total.checked_div(SHARE).unwrap_or_default())
    }
}

/// Measures the room where a file is. Unknown is `None`, as for a file system without a size of its own.
pub(super) struct Gauge(Box<Measure>);

type Measure = dyn Fn(&File) -> Option<Room> + Send;

impl Gauge {
    /// Measures by this function.
    #[cfg(test)]
    pub(super) fn new(measure: impl Fn(&File) -> Option<Room> + Send + 'static) -> Self {
        Self(Box::new(measure))
    }

    pub(super) fn measure(&self, file: &File) -> Option<Room> {
        (self.0)(file)
    }
}

impl Default for Gauge {
    /// Asks the system.
    fn default() -> Self {
        Self(Box::new(|file| {
            let system = rustix::fs::fstatvfs(file).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
            let total = bytes(system.f_blocks);
            let free = bytes(system.f_bavail);
            (total > 0).then_some(Room { total, free })
        }))
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_or_a_quarter_is_left_free() {
        const MB: u64 = 1 << 20;
        let room = |total, free| Room { total, free };
        assert_eq!(room(100 * MB, 2 * MB).lacking(MB), 0);
        assert_eq!(room(100 * MB, 2 * MB).lacking(MB + 1), 1);
        assert_eq!(room(100 * MB, 0).lacking(10), MB + 10);
        assert_eq!(room(2 * MB, MB / 2).lacking(10), 10);
        assert_eq!(room(u64::MAX, u64::MAX).lacking(u64::MAX), 0);
        assert_eq!(room(u64::MAX, 0).lacking(u64::MAX), u64::MAX);
        assert_eq!(room(100 * MB, 3 * MB).spare(), 2 * MB);
        assert_eq!(room(100 * MB, MB / 2).spare(), 0);
    }

    #[test]
    fn the_file_systems_here_are_measured() {
        let file = tempfile::tempfile().unwrap();
        let room = Gauge::default().measure(&file).unwrap();
        assert!(room.free <= room.total, "{room:?}");
    }
}
