//! Any bytes, read as what a program says about its readiness. What must hold of them stands beside the reader.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handover_process::fuzzing::readiness(bytes));
