//! Text from elsewhere, as it can be escaped on a terminal.
//!
//! A path, a name or what a program says may hold any character. A terminal obeys some of them, and
//! shows what follows others in another order; a reader would see what nobody wrote.

/// Appends a text with such characters escaped and not obeyed, those aside that are kept.
pub(crate) fn push_escaped(escaped: &mut String, text: &str, kept: &[char]) {
    for character in text.chars() {
        if commands_a_terminal(character) && !kept.contains(&character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
}

/// The same as a text of its own.
pub(crate) fn escaped(text: &str, kept: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    push_escaped(&mut escaped, text, kept);
    escaped
}

/// Whether a character does more on a terminal than to be seen: control characters, those that turn
/// the direction of what follows, and those that end a line.
pub(crate) fn commands_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_everything_else_stays() {
        for (text, expected) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\rb", "a\\rb"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}txt\u{2066}", "\\u{202e}txt\\u{2066}"),
            ("\u{2028}\u{200f}", "\\u{2028}\\u{200f}"),
            ("Grüße, 世界 🙂 \\n", "Grüße, 世界 🙂 \\n"),
            ("a\tb\nc", "a\\tb\nc"),
        ] {
            assert_eq!(escaped(text, &['\n']), expected);
        }
    }
}
