//! What holds of any bytes that are found as the last-known-good configuration.

use std::error::Error as _;
use std::path::Path;

use handover_tokio::error_chain;

use super::{Digest, LastGoodError, MAGIC, VERSION, parts, understood};
use crate::fuzzing::assert_printable;

/// Reads the bytes as the file, and as what a first line with the right checksum vouches for.
///
/// # Panics
///
/// If an error is not printable apart from the path in it, or if the time that is read cannot be written.
pub fn last_known_good(bytes: &[u8]) {
    read(bytes.to_vec());
    let first = format!("{MAGIC} {VERSION} {}\n", Digest::of(bytes));
    read([first.as_bytes(), bytes].concat());
}

fn read(file: Vec<u8>) {
    let path = Path::new("/var/lib/handover/last-known-good");
    let kept = parts(path, file).and_then(|(about, content)| {
        let expected = Digest::of(&content);
        let kept = understood(path, about, content)?;
        assert_eq!(kept.digest, expected);
        Ok(kept)
    });
    match kept {
        // It panics in years of more than four digits.
        Ok(kept) => drop(humantime::format_rfc3339_seconds(kept.at).to_string()),
        // A path is shown as it is, and the program that prints the error escapes it.
        Err(LastGoodError::Unusable { source, .. }) => {
            if let Some(cause) = source.source() {
                assert_printable(&error_chain(cause));
            }
        }
        Err(error) => assert_printable(&error_chain(&error)),
    }
}
