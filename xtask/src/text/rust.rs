//! Rust source with its comments, strings and characters taken out, to search for words of the code.

/// The code of `source`: each comment and literal becomes a space, line breaks stay.
pub(crate) fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let previous_is_word = code.chars().next_back().is_some_and(is_word);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = (!previous_is_word).then(|| raw_string(rest)).flatten() {
            length
        } else if let Some(length) = character(rest) {
            length
        } else {
            code.push(first);
            rest = tail(rest, first.len_utf8());
            continue;
        };
        code.push(' ');
        code.extend(
            rest.get(..length)
                .unwrap_or(rest)
                .chars()
                .filter(|c| *c == '\n'),
        );
        rest = tail(rest, length);
    }
    code
}

/// The lines, from 1, on which `word` stands in `code` as a word of its own.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    code.lines()
        .enumerate()
        .filter(|(_, line)| has_word(line, word))
        .map(|(index, _)| index + 1)
        .collect()
}

/// Whether `word` stands in `text` with no letter, digit or underscore next to it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, found)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        let after = text
            .get(at + found.len()..)
            .and_then(|tail| tail.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tail(text: &str, from: usize) -> &str {
    text.get(from..).unwrap_or("")
}

/// The length of the block comment at the start; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = tail(text, at);
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal at the start.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string at the start, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let rest = tail(text, prefix.len());
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = prefix.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(
        tail(text, body)
            .find(&close)
            .map_or(text.len(), |at| body + at + close.len()),
    )
}

/// The length of the character literal at the start, if it is one and not a lifetime.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    if rest.starts_with('\\') {
        // Past the escaped character, which may be a quote itself.
        return tail(rest, 2).find('\'').map(|at| at + 4);
    }
    let first = rest.chars().next()?;
    tail(rest, first.len_utf8())
        .starts_with('\'')
        .then_some(first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_not_code() {
        let source = r####"
            // unsafe here
            /* unsafe /* nested */ unsafe */
            let a = "unsafe \" unsafe";
            let b = r#"unsafe " unsafe"#;
            let c = br"unsafe";
        "####;
        assert_eq!(
            lines_with_word(&code(source), "unsafe"),
            Vec::<usize>::new()
        );
    }

    #[test]
    fn code_after_a_literal_is_still_seen() {
        for source in [
            "let q = '\"'; unsafe {}",
            "let q = '\\''; unsafe {}",
            "let q = '\\u{1f}'; unsafe {}",
            "fn f<'a>(x: &'a str) { unsafe {} }",
            "let r#type = 1; unsafe {}",
            "\"a\" /* b */ unsafe {}",
        ] {
            assert_eq!(lines_with_word(&code(source), "unsafe"), [1], "{source}");
        }
    }

    #[test]
    fn line_numbers_survive() {
        assert_eq!(
            lines_with_word(&code("/* a\nb */\nlet s = \"\n\";\nunsafe {}"), "unsafe"),
            [5]
        );
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(has_word("unsafe{", "unsafe"));
    }
}
