//! The operator knows no clock, thread, file, environment or runtime.

use std::fs;
use std::path::Path;

/// What a pure file may name at the beginning of a path.
const KNOWN: [&str; 6] = ["core", "alloc", "handover_core", "self", "super", "crate"];

#[test]
fn the_operator_imports_nothing_that_does_io() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operator");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        files += 1;
        for line in source.lines().map(str::trim) {
            if line.starts_with("//") {
                continue;
            }
            let import = line.strip_prefix("pub use ").or(line.strip_prefix("use "));
            if let Some(import) = import {
                let root = import.split("::").next().unwrap();
                assert!(KNOWN.contains(&root), "{}: {line}", path.display());
            }
            for foreign in ["std::", "tokio::", "extern crate", "handover_tokio"] {
                assert!(!line.contains(foreign), "{}: {line}", path.display());
            }
        }
    }
    assert!(files >= 10, "{files} files were looked at");
}
