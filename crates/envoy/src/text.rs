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
        line.extend(word.chars().filter(|c| !commands_a_terminal(*c)));
    }
    line
}

/// Whether a terminal would not show a character but obey it, or show what follows in another order.
fn commands_a_terminal(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// The file that Envoy cannot read, where that is why it rejects its configuration.
pub(crate) fn is_about_reading(message: &str, file: &std::path::Path) -> bool {
    let file = file.display();
    ["Invalid path: ", "unable to read file: "]
        .iter()
        .any(|beginning| one_line(&format!("{beginning}{file}")) == message)
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
        let reason = without_value(&without_document(&folded(reason)));
        format!("Unable to parse JSON as proto {reason}")
    } else if message.starts_with("Protobuf message (") {
        without_value(&folded(
            message
                .split_once("\n[")
                .map_or(message, |(message, _)| message),
        ))
    } else {
        // The message of anything else is one paragraph; what follows is another log line.
        message
            .split_once("\n[")
            .map_or(message, |(message, _)| message)
            .to_owned()
    };
    Some(one_line(&message))
}

/// The text up to where the document begins: `(REASON): DOCUMENT`. The reason tells a place as
/// `(offset N): `, and may quote any character, so parentheses cannot be counted.
fn without_document(text: &str) -> String {
    let mut place = 0;
    while let Some((before, after)) = text.get(place..).and_then(|rest| rest.split_once("): ")) {
        let end = place + before.len() + 1;
        let digits = before.trim_end_matches(|c: char| c.is_ascii_digit());
        if !digits.ends_with("(offset ") {
            return text.get(..end).unwrap_or_default().to_owned();
        }
        place = text.len() - after.len();
    }
    // Cut before its end: what is left could be the document.
    text.get(..place)
        .unwrap_or_default()
        .trim_end_matches(": ")
        .to_owned()
}

/// The text up to a value that it quotes. The names of fields and types stay, and single characters.
fn without_value(text: &str) -> String {
    for quote in [": '", ": \""] {
        if let Some((before, _)) = text.split_once(quote)
            && !["no such field", "unexpected character"]
                .iter()
                .any(|harmless| before.ends_with(harmless))
        {
            let open = before.matches('(').count() > before.matches(')').count();
            return format!("{before}{}", if open { ")" } else { "" });
        }
    }
    text.to_owned()
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
    fn a_value_is_left_out_and_only_what_it_leaves_open_is_closed() {
        assert_eq!(without_value("bad value: 'hunter2'"), "bad value");
        assert_eq!(without_value("(bad value: \"hunter2\")"), "(bad value)");
        assert_eq!(
            without_value("f(x), bad value: 'hunter2'"),
            "f(x), bad value"
        );
        assert_eq!(without_value("no such field: 'a'"), "no such field: 'a'");
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

    /// What is said of a start and of a validation with this message.
    fn said(message: &str) -> String {
        let start =
            format!("[critical][main] [x.cc:1] error `{message}` initializing config 'x\n a'");
        let validation = format!("error initializing configuration 'a': {message}\n");
        let said = configuration_error(&start).unwrap();
        assert_eq!(configuration_error(&validation).unwrap(), said);
        said
    }

    #[test]
    fn values_are_not_repeated_and_names_of_fields_are() {
        for value in [
            "hunter2",
            "hun)ter2",
            "(hunter2",
            "((",
            "a': b'hunter2",
            "): {hunter2",
            "",
        ] {
            let document = format!("{{\"port_value\":\"{value}\",\"x\":\"hunter2\"}}");
            let number = said(&format!(
                "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in  B @ a.port_value: \
                 uint32, near 1:75 (offset 74): invalid  number: '{value}'): {document}"
            ));
            assert_eq!(
                number,
                "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in B @ a.port_value: \
                 uint32, near 1:75 (offset 74): invalid number)"
            );
            let option = said(&format!(
                "Protobuf message (type B reason INVALID_ARGUMENT: unknown enum value: '{value}') has \
                 unknown fields"
            ));
            assert_eq!(
                option,
                "Protobuf message (type B reason INVALID_ARGUMENT: unknown enum value)"
            );
        }
        let field = "Protobuf message (type B reason INVALID_ARGUMENT: invalid JSON in B, near 1:12 \
             (offset 11): no such field: 'listenerz') has unknown fields";
        assert_eq!(said(field), field);
        // Of a document that was cut nothing is told.
        let cut = "Unable to parse JSON as proto (INVALID_ARGUMENT: near 1:2 (offset 1): hunter2";
        assert!(!said(cut).contains("hunter2"), "{}", said(cut));
    }

    #[test]
    fn text_that_would_be_shown_in_another_order_is_not() {
        assert_eq!(one_line("a\u{202e}b\u{2066}c"), "abc");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_what_it_says() {
        let file = std::path::Path::new("/run/envoy-rev0.yaml");
        for message in [
            "Invalid path: /run/envoy-rev0.yaml",
            "unable to read file: /run/envoy-rev0.yaml",
        ] {
            assert!(is_about_reading(message, file));
            assert!(!is_about_reading(
                message,
                std::path::Path::new("/run/envoy-rev1.yaml")
            ));
        }
        assert!(!is_about_reading("Invalid path: /etc/cert.pem", file));
    }
}
