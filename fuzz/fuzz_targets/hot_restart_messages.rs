//! Any bytes, read as datagrams of another epoch. What must hold of them stands beside the reader.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handover_envoy::fuzzing::hot_restart_messages(bytes));
