//! Any bytes, read as the file of the last-known-good configuration. What must hold of them stands beside the reader.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handover_envoy::fuzzing::last_known_good(bytes));
