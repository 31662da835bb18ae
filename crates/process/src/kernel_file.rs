//! Reads the files of `/proc` and `/sys`.

use std::io;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, retry_on_intr};

/// The most bytes that the kernel gives at once from most of these files: a page.
const PAGE: usize = 4096;

/// Returns the text of a file that the kernel makes while it is read.
///
/// Such a file shows no length. So the standard library reads 32 bytes, and then twice as many each time: up
/// to a dozen calls for a file that one call could read. A hand-over waits for dozens of these files.
///
/// # Errors
///
/// What the operating system says, and [`io::ErrorKind::InvalidData`] for bytes that are no UTF-8.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    let file = retry_on_intr(|| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?;
    let mut bytes = Vec::with_capacity(PAGE);
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.try_reserve(PAGE)?;
        }
        if retry_on_intr(|| read(&file, spare_capacity(&mut bytes)))? == 0 {
            break;
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for length in [0, 1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE] {
            let text = "x".repeat(length);
            std::fs::write(&path, &text).unwrap();
            assert_eq!(text_of(&path).unwrap(), text, "{length}");
        }
    }

    #[test]
    fn a_file_of_the_kernel_is_read_as_by_the_standard_library() {
        for path in [
            "/proc/self/mountinfo",
            "/proc/self/cgroup",
            "/proc/self/limits",
        ] {
            let path = Path::new(path);
            assert_eq!(
                text_of(path).unwrap(),
                std::fs::read_to_string(path).unwrap()
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |path: &Path| text_of(path).unwrap_err().kind();
        assert_eq!(kind(&dir.path().join("away")), io::ErrorKind::NotFound);
        assert_eq!(kind(dir.path()), io::ErrorKind::IsADirectory);
        let path = dir.path().join("file");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(kind(&path), io::ErrorKind::InvalidData);
    }
}
