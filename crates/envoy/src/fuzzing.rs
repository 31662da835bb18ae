//! The readers of foreign bytes, for the fuzz targets of this repository. This is no part of the
//! library's interface.
//!
//! Each function takes any bytes, and panics where a promise is broken. The tests below replay the
//! seeds of the fuzz targets, so that an input that has broken one once is kept there and tried in
//! each run of the tests.

pub use crate::admin::fuzzing::admin_answers;
pub use crate::bootstrap::fuzzing::bootstrap;
pub use crate::hot_restart::fuzzing::hot_restart_messages;
pub use crate::last_good::fuzzing::last_known_good;
#[cfg(feature = "template")]
pub use crate::template::fuzzing::template;

/// Panics if a message has characters that a terminal obeys. Line feeds are part of some remedies.
pub(crate) fn assert_printable(message: &str) {
    let obeyed = message.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "{message:?}");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Replays the seeds of one target.
    fn replay(target: &str, read: impl Fn(&[u8])) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/seeds")
            .join(target);
        let files: Vec<_> = fs::read_dir(seeds).unwrap().map(Result::unwrap).collect();
        assert!(!files.is_empty());
        for file in files {
            // The name of the last one is that of the seed that breaks a promise.
            eprintln!("{}", file.path().display());
            read(&fs::read(file.path()).unwrap());
        }
    }

    #[test]
    fn seeds_of_the_bootstrap_keep_every_promise() {
        replay("bootstrap", super::bootstrap);
    }

    #[cfg(feature = "template")]
    #[test]
    fn seeds_of_the_template_keep_every_promise() {
        replay("template", super::template);
    }

    #[test]
    fn seeds_of_the_last_known_good_keep_every_promise() {
        replay("last_known_good", super::last_known_good);
    }

    #[test]
    fn seeds_of_the_admin_answers_keep_every_promise() {
        replay("admin_answers", super::admin_answers);
    }

    #[test]
    fn seeds_of_the_hot_restart_messages_keep_every_promise() {
        replay("hot_restart_messages", super::hot_restart_messages);
    }
}
