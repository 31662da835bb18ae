//! Links of Markdown text, and the anchors of its headings.

/// The targets of all inline links and images, and of link definitions, outside code.
pub(crate) fn targets(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(markdown) {
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let (target, tail) = after.split_once(')').unwrap_or((after, ""));
            found.extend(target.split_whitespace().next().map(str::to_owned));
            rest = tail;
        }
        if let Some((_, target)) = line
            .trim_start()
            .strip_prefix('[')
            .and_then(|definition| definition.split_once("]: "))
        {
            found.extend(target.split_whitespace().next().map(str::to_owned));
        }
    }
    found
}

/// The anchors that the headings get: lower case, spaces to hyphens, punctuation dropped.
pub(crate) fn anchors(markdown: &str) -> Vec<String> {
    outside_fences(markdown)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

fn outside_fences(markdown: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    markdown.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The lines outside fences, without their code spans.
fn prose(markdown: &str) -> impl Iterator<Item = String> {
    outside_fences(markdown).map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_images_and_definitions_are_found_but_not_in_code() {
        let text = "[a](x.md) and ![b](y.png \"title\") `[c](no.md)`\n```\n[d](no.md)\n```\n[e]: z.md#part\n";
        assert_eq!(targets(text), ["x.md", "y.png", "z.md#part"]);
    }

    #[test]
    fn a_link_over_code_is_a_link() {
        assert_eq!(targets("see [`core`](crates/core)"), ["crates/core"]);
    }

    #[test]
    fn headings_become_anchors() {
        let text = "# A title: with `code`\n```\n# no\n```\n## Two words\n";
        assert_eq!(anchors(text), ["a-title-with-code", "two-words"]);
    }
}
