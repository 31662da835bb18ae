//! Any bytes, read as an answer of an admin endpoint. What must hold of them stands beside the reader.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handover_envoy::fuzzing::admin_answers(bytes));
