//! What holds of any bytes that are read as a configuration.

use std::sync::atomic::AtomicBool;

use handover_tokio::error_chain;

use super::{Bootstrap, Format, wait_for_first_resources};
use crate::fuzzing::assert_printable;

/// Reads the bytes as YAML and as JSON, and lets the result wait for its first resources.
///
/// # Panics
///
/// If an error is not printable, or if the changed configuration reads as another one or is changed
/// by a second change.
pub fn bootstrap(bytes: &[u8]) {
    let never = AtomicBool::new(false);
    for format in [Format::Yaml, Format::Json] {
        let read = Bootstrap::parse(bytes, format);
        if let Err(error) = &read {
            assert_printable(&error_chain(error));
        }
        let waits = match wait_for_first_resources(bytes, format, &never) {
            Ok(waits) => waits,
            Err(error) => {
                assert_printable(&error_chain(&error));
                continue;
            }
        };
        let reread = Bootstrap::parse(&waits, format);
        assert_eq!(reread.ok(), read.ok(), "{format:?}");
        let twice = wait_for_first_resources(&waits, format, &never);
        assert_eq!(twice.ok(), Some(waits.clone()), "{format:?}");
    }
}
