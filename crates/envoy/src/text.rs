//! Envoy's own words, made fit for one line of a log.

/// The longest text that [`one_line`] returns, in characters.
const LONGEST: usize = 400;

/// Puts text on one line: runs of white space become one space, control characters go, and what is
/// longer than a log line should be is cut, with an ellipsis.
///
/// Envoy puts a varying number of spaces into its Protobuf messages, so that nobody compares them
/// byte by byte; with runs of spaces folded they are stable.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = folded(text);
    if let Some((cut, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// The same with a limit in bytes, which the ellipsis counts into.
pub(crate) fn one_paragraph(text: &str, limit: usize) -> String {
    let mut line = folded(text);
    if line.len() > limit {
        let room = limit.saturating_sub('…'.len_utf8());
        let cut = (0..=room).rev().find(|place| line.is_char_boundary(*place));
        line.truncate(cut.unwrap_or(0));
        line.push('…');
    }
    line
}

fn folded(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    line
}

/// Why Envoy rejected its configuration, from what it wrote to standard error, or `None` where
/// that does not speak of the configuration.
///
/// Envoy repeats the whole document in some messages. That part is left out: it may hold secrets,
/// and the reader has the file.
pub(crate) fn configuration_error(output: &str) -> Option<String> {
    // `--mode validate` writes "error initializing configuration 'FILE': MESSAGE", a serving Envoy
    // "error `MESSAGE` initializing config 'FILE'". A message can span lines.
    let message = if let Some((_, rest)) = output.split_once("error initializing configuration '") {
        rest.split_once("': ").map(|(_, message)| message)
    } else {
        output
            .rsplit_once("` initializing config '")
            .and_then(|(before, _)| {
                before
                    .split_once("[critical]")
                    .and_then(|(_, logged)| logged.split_once(" error `"))
                    .or_else(|| before.split_once("error `"))
                    .map(|(_, message)| message)
            })
    }?;
    let message = if let Some((_, constraint)) =
        message.rsplit_once("Proto constraint validation failed (")
    {
        let constraint = constraint
            .split_once('\n')
            .map_or(constraint, |(line, _)| line);
        let cause = constraint
            .rsplit_once("caused by ")
            .map_or(constraint, |(_, cause)| cause);
        let cause = cause.trim_end();
        format!(
            "field constraint violated: {}",
            cause.strip_suffix(')').unwrap_or(cause)
        )
    } else if message.starts_with("Unable to convert YAML as JSON") {
        "the document is not a mapping, or not text".to_owned()
    } else if let Some(reason) = message.strip_prefix("Unable to parse JSON as proto ") {
        format!("Unable to parse JSON as proto {}", in_parentheses(reason))
    } else {
        // The message of anything else is one paragraph; what follows is another log line.
        message
            .split_once("\n[")
            .map_or(message, |(message, _)| message)
            .to_owned()
    };
    Some(one_line(&message))
}

/// The text up to the parenthesis that closes its first one. Characters that Envoy quotes do not
/// count.
fn in_parentheses(text: &str) -> &str {
    let mut depth = 0_u32;
    for (place, c) in text.char_indices() {
        let quoted = |c: char| {
            text.get(..place)
                .is_some_and(|before| before.ends_with('\''))
                && text
                    .get(place + c.len_utf8()..)
                    .is_some_and(|after| after.starts_with('\''))
        };
        match c {
            '(' if !quoted(c) => depth += 1,
            ')' if !quoted(c) && depth <= 1 => return text.get(..=place).unwrap_or(text),
            ')' if !quoted(c) => depth -= 1,
            _ => {}
        }
    }
    // Cut before its end: what is left could be the document.
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        let line = one_line(&"ä".repeat(LONGEST + 1));
        assert_eq!(line.chars().count(), LONGEST + 1);
        assert!(line.ends_with("ä…"));
    }

    #[test]
    fn a_paragraph_is_cut_between_characters_within_its_bytes() {
        assert_eq!(one_paragraph(" a\n b\t", 3), "a b");
        for limit in 3..9 {
            let cut = one_paragraph(&"ä".repeat(9), limit);
            assert!(cut.len() <= limit && cut.ends_with('…'), "{cut}");
            assert!(cut.len() + 1 >= limit, "{cut}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(one_line("a\u{1b}[31m\tb\r\n c\u{0}"), "a[31m b c");
    }

    #[test]
    fn the_document_is_not_repeated() {
        let output = "[critical][main] [x.cc:76] error initializing configuration 'a.json': Unable \
            to parse JSON as proto (INVALID_ARGUMENT: invalid JSON, near 1:1 (offset 0): expected '{'): {\"password\": \"hunter2\"}\n";
        let message = configuration_error(output).unwrap();
        assert_eq!(
            message,
            "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON, near 1:1 (offset 0): expected '{')"
        );
    }
}
