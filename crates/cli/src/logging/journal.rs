//! Lines for the journal of systemd. It has a time for each line of its own, and reads the level from the
//! beginning of the line, as `sd-daemon(3)` says.

use std::os::fd::AsFd;

use tracing::Level;

/// The level of a line without one of its own: information.
pub(super) const INFO: &str = "<6>";

/// Whether the stream leads to the journal. Whoever redirects it leaves the variable set.
pub(crate) fn receives(stream: impl AsFd) -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(stream) else {
        return false;
    };
    named.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The beginning of a line of this level.
pub(super) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => INFO,
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Returns the lines of a text as standard error wants them.
pub(crate) fn lines_for_stderr(text: &str, level: Level) -> String {
    match receives(std::io::stderr()) {
        true => lines(text, level),
        false => text.to_owned(),
    }
}

fn lines(text: &str, level: Level) -> String {
    let lines = text.split('\n');
    let lines: Vec<String> = lines
        .map(|line| format!("{}{line}", prefix(level)))
        .collect();
    lines.join("\n")
}

/// Splits the level off with which a child has begun its line, as a program for the journal may do.
pub(super) fn split_level(line: &[u8]) -> (Option<&'static str>, &[u8]) {
    const LEVELS: [&str; 8] = ["<0>", "<1>", "<2>", "<3>", "<4>", "<5>", "<6>", "<7>"];
    let mut levels = LEVELS.into_iter();
    levels
        .find_map(|level| Some((Some(level), line.strip_prefix(level.as_bytes())?)))
        .unwrap_or((None, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_text_has_its_level() {
        assert_eq!(lines("error: x\n  y", Level::ERROR), "<3>error: x\n<3>  y");
        assert_eq!(lines("", Level::DEBUG), "<7>");
    }

    #[test]
    fn the_level_of_a_child_is_one_digit_in_angle_brackets() {
        assert_eq!(split_level(b"<3>x"), (Some("<3>"), &b"x"[..]));
        assert_eq!(split_level(b"<0>"), (Some("<0>"), &b""[..]));
        for other in [&b"<8>x"[..], b"<33>x", b"3>x", b" <3>x", b"<3", b""] {
            assert_eq!(split_level(other), (None, other));
        }
    }
}
