//! What holds of any bytes by which a program tells that it serves.

use super::Notice;
use super::probe::status;

/// Reads the bytes as a message to the notify socket, and as an answer to an HTTP probe.
///
/// # Panics
///
/// If a message tells what no line of it says, or if an answer has a status that is not in it.
pub fn readiness(bytes: &[u8]) {
    let notice = Notice::parse(bytes);
    let lines = || bytes.split(|byte| *byte == b'\n');
    assert_eq!(notice.ready, lines().any(|line| line == b"READY=1"));
    assert_eq!(notice.stopping, lines().any(|line| line == b"STOPPING=1"));
    let mut told = lines().filter_map(|line| line.strip_prefix(b"STATUS="));
    let last = told.next_back().map(String::from_utf8_lossy);
    assert_eq!(notice.status.as_deref(), last.as_deref());
    if let Some(status) = status(bytes) {
        let digits = format!(" {status:03}");
        let beginning = String::from_utf8_lossy(bytes.get(..12).unwrap_or_default());
        assert!(
            beginning.starts_with("HTTP/1.") && beginning.ends_with(&digits),
            "{beginning}"
        );
    }
}
