//! A document as YAML.

use std::fmt::Write as _;

use super::document::{Item, Node};

/// The longest key on one line with its value, in bytes. YAML allows 1,024 characters.
const LONGEST_KEY: usize = 1_000;

/// Returns the text of a document, or `None` if it has more bytes. Aliases unfold in it.
pub(super) fn text(root: &Item, most_bytes: usize) -> Option<Vec<u8>> {
    let mut writer = Writer {
        text: String::new(),
        most_bytes,
    };
    match &root.node {
        Node::Mapping(fields) if !fields.is_empty() => writer.block(&root.node, 0)?,
        Node::Mapping(_) | Node::Sequence(_) | Node::Scalar(..) => writer.put("{}\n")?,
    }
    Some(writer.text.into_bytes())
}

struct Writer {
    text: String,
    most_bytes: usize,
}

impl Writer {
    fn put(&mut self, text: &str) -> Option<()> {
        if self.text.len().saturating_add(text.len()) > self.most_bytes {
            return None;
        }
        self.text.push_str(text);
        Some(())
    }

    fn indent(&mut self, depth: usize) -> Option<()> {
        (0..depth).try_for_each(|_| self.put("  "))
    }

    /// The lines of a collection that is not empty.
    fn block(&mut self, node: &Node, depth: usize) -> Option<()> {
        match node {
            Node::Mapping(fields) => {
                for (key, item) in fields {
                    self.indent(depth)?;
                    if key.len() > LONGEST_KEY {
                        self.put("? ")?;
                        self.quoted(key)?;
                        self.put("\n")?;
                        self.indent(depth)?;
                    } else if is_plain_key(key) {
                        self.put(key)?;
                    } else {
                        self.quoted(key)?;
                    }
                    self.put(":")?;
                    self.value(&item.node, depth)?;
                }
            }
            Node::Sequence(items) => {
                for item in items {
                    self.indent(depth)?;
                    self.put("-")?;
                    self.value(&item.node, depth)?;
                }
            }
            Node::Scalar(..) => {}
        }
        Some(())
    }

    /// What comes after the colon or the dash, with the end of the line.
    fn value(&mut self, node: &Node, depth: usize) -> Option<()> {
        match node {
            Node::Scalar(text, true) if text.is_empty() => self.put(" null\n"),
            Node::Scalar(text, true) => {
                self.put(" ")?;
                self.put(text)?;
                self.put("\n")
            }
            Node::Scalar(text, false) => {
                self.put(" ")?;
                self.quoted(text)?;
                self.put("\n")
            }
            Node::Sequence(items) if items.is_empty() => self.put(" []\n"),
            Node::Mapping(fields) if fields.is_empty() => self.put(" {}\n"),
            Node::Sequence(_) | Node::Mapping(_) => {
                self.put("\n")?;
                self.block(node, depth + 1)
            }
        }
    }

    fn quoted(&mut self, text: &str) -> Option<()> {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        for letter in text.chars() {
            match letter {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                // What YAML would take for the end of a line, or not take at all.
                '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                    // Writing to a string cannot fail.
                    let _written = write!(quoted, "\\u{:04x}", u32::from(letter));
                }
                letter => quoted.push(letter),
            }
        }
        quoted.push('"');
        self.put(&quoted)
    }
}

/// Whether a key means the same without quotes in every reader.
fn is_plain_key(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_largest_size_is_written_and_a_larger_one_is_not() {
        let root = Item {
            at: (1, 1),
            node: Node::Sequence(Vec::new()),
        };
        assert_eq!(text(&root, 3).unwrap(), b"{}\n");
        assert_eq!(text(&root, 2), None);
    }
}
