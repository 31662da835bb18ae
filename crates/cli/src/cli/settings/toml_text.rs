//! Values as TOML, without characters that a terminal would obey.

use std::fmt::Write as _;

use crate::escape::commands_a_terminal;

/// Returns a string of TOML.
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            character if commands_a_terminal(character) => {
                // Writing to a string cannot fail.
                let _written = write!(quoted, "\\U{:08X}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns an array of TOML.
pub(super) fn array(values: &[String]) -> String {
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_back() {
        let text: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain(['\u{e0001}'])
            .collect();
        let document = format!("key = {}", string(&text));
        let table = toml::de::DeTable::parse(&document).unwrap();
        let (_, value) = table.get_ref().iter().next().unwrap();
        assert_eq!(value.get_ref().as_str(), Some(text.as_str()));
        assert!(!document.chars().any(commands_a_terminal));
    }
}
