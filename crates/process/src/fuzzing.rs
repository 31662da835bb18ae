//! The readers of foreign bytes, for the fuzz targets of this repository. This is no part of the
//! library's interface.
//!
//! Each function takes any bytes, and panics where a promise is broken. The tests below replay the
//! seeds of the fuzz targets, so that an input that has broken one once is kept there and tried in
//! each run of the tests.

pub use crate::ready::fuzzing::readiness;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn seeds_of_readiness_keep_every_promise() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/readiness");
        let files: Vec<_> = fs::read_dir(seeds).unwrap().map(Result::unwrap).collect();
        assert!(!files.is_empty());
        for file in files {
            // The name of the last one is that of the seed that breaks a promise.
            eprintln!("{}", file.path().display());
            super::readiness(&fs::read(file.path()).unwrap());
        }
    }
}
