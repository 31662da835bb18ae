//! Any bytes, read as a configuration. What must hold of them stands beside the reader.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handover_envoy::fuzzing::bootstrap(bytes));
