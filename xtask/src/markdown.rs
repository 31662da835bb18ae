//! Markdown as the checks need it: blocks of commands with the comment above that tells what runs them,
//! links, and the anchors of headings.
//!
//! ```text
//! <!-- run: NAME -->             xtask runs the block in an empty directory
//! <!-- run: NAME in-repo -->     xtask runs the block at the root of the repository
//! <!-- tested-by: a::b::name --> the test `name` runs these commands
//! <!-- checked-by: NAME -->      the check `NAME` of xtask runs these commands
//! <!-- this -->                  the block is `cargo xtask ci`, which is running
//! <!-- file: NAME -->            no commands: the content of a file that the `run` blocks find
//! ```

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag as Element, TagEnd};

/// What stands above a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Run { name: String, in_repo: bool },
    TestedBy(String),
    CheckedBy(String),
    This,
    File(String),
}

/// A fenced block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of the opening fence, from 1.
    pub(crate) line: usize,
    /// The word after the opening fence.
    pub(crate) language: String,
    pub(crate) tag: Option<Tag>,
    pub(crate) body: String,
}

/// What a block of commands shows: what is typed, and what the terminal answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) commands: Vec<String>,
    /// The lines without a prompt, as one text.
    pub(crate) output: String,
}

/// What a page holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) blocks: Vec<Block>,
    /// The targets of links and images.
    pub(crate) links: Vec<String>,
    /// The anchors of the headings: lower case, spaces to hyphens, punctuation dropped.
    pub(crate) anchors: Vec<String>,
}

impl Block {
    /// Whether a reader takes the block for something to type.
    pub(crate) fn is_commands(&self) -> bool {
        ["console", "sh", "bash", "shell", "shell-session"].contains(&self.language.as_str())
    }

    /// Splits the block. A command follows `$ `. It goes on where its line ends with a backslash, or where
    /// the next line starts with `> `, the shell's second prompt.
    pub(crate) fn session(&self) -> Session {
        let mut session = Session::default();
        let mut continues = false;
        for line in self.body.lines() {
            let more = line
                .strip_prefix("> ")
                .or_else(|| (line == ">").then_some(""))
                .or(continues.then_some(line));
            if let Some(command) = line.strip_prefix("$ ") {
                session.commands.push(command.to_owned());
            } else if let (Some(text), Some(last)) = (more, session.commands.last_mut()) {
                last.push('\n');
                last.push_str(text);
            } else {
                session.output.push_str(line);
                session.output.push('\n');
                continue;
            }
            continues = line.ends_with('\\');
        }
        session
    }
}

/// Reads a page.
///
/// # Errors
///
/// Reports the line of a comment that looks like a tag and is none, and of a tag without a block.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most events of a page are of no interest here"
)]
pub(crate) fn read(markdown: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut tag: Option<(usize, Tag)> = None;
    let mut block: Option<Block> = None;
    let mut heading: Option<String> = None;
    for (event, range) in Parser::new_ext(markdown, Options::ENABLE_TABLES).into_offset_iter() {
        let before = markdown.get(..range.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        match event {
            Event::Html(html) => {
                let comment = html.trim().strip_prefix("<!-- ");
                if let Some(comment) = comment.and_then(|rest| rest.strip_suffix(" -->")) {
                    let parsed =
                        parse(comment).map_err(|reason| format!("line {line}: {reason}"))?;
                    tag = parsed.map(|tag| (line, tag));
                }
            }
            Event::Start(Element::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.trim().to_owned(),
                    CodeBlockKind::Indented => String::new(),
                };
                block = Some(Block {
                    line,
                    language,
                    tag: tag.take().map(|(_, tag)| tag),
                    body: String::new(),
                });
            }
            Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
            Event::Start(Element::Paragraph | Element::Heading { .. } | Element::Table(_))
                if tag.is_some() =>
            {
                break;
            }
            Event::Start(Element::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                page.anchors
                    .extend(heading.take().map(|text| anchor(&text)));
            }
            Event::Start(Element::Link { dest_url, .. } | Element::Image { dest_url, .. }) => {
                page.links.push(dest_url.to_string());
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(part) = block
                    .as_mut()
                    .map(|block| &mut block.body)
                    .or(heading.as_mut())
                {
                    part.push_str(&text);
                }
            }
            _ => {}
        }
    }
    match tag {
        Some((line, _)) => Err(format!(
            "line {line}: the tag belongs directly above a block"
        )),
        None => Ok(page),
    }
}

/// The tag that a comment is, `None` for a comment about something else.
fn parse(comment: &str) -> Result<Option<Tag>, String> {
    if comment == "this" {
        return Ok(Some(Tag::This));
    }
    let Some((kind, value)) = comment.split_once(':') else {
        return Ok(None);
    };
    let words: Vec<&str> = value.split_whitespace().collect();
    let run = |name: &str, in_repo| {
        let name = name.to_owned();
        Ok(Some(Tag::Run { name, in_repo }))
    };
    match (kind, words.as_slice()) {
        ("run", [name]) => run(name, false),
        ("run", [name, "in-repo"]) => run(name, true),
        ("tested-by", [path]) => Ok(Some(Tag::TestedBy((*path).to_owned()))),
        ("checked-by", [name]) => Ok(Some(Tag::CheckedBy((*name).to_owned()))),
        ("file", [name]) if !name.contains('/') => Ok(Some(Tag::File((*name).to_owned()))),
        ("run" | "tested-by" | "checked-by" | "file", _) => {
            Err(format!("`{comment}` is not a tag that xtask knows"))
        }
        _ => Ok(None),
    }
}

fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(markdown: &str) -> Block {
        let mut found = read(markdown).unwrap().blocks;
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn each_tag_is_understood() {
        let tag = |comment: &str| only(&format!("<!-- {comment} -->\n```console\n$ a\n```\n")).tag;
        let run = |in_repo| {
            let name = "demo".to_owned();
            Some(Tag::Run { name, in_repo })
        };
        assert_eq!(tag("run: demo"), run(false));
        assert_eq!(tag("run: demo in-repo"), run(true));
        assert_eq!(
            tag("tested-by: a::b"),
            Some(Tag::TestedBy("a::b".to_owned()))
        );
        assert_eq!(
            tag("checked-by: packages"),
            Some(Tag::CheckedBy("packages".to_owned()))
        );
        assert_eq!(tag("file: a.yaml"), Some(Tag::File("a.yaml".to_owned())));
        assert_eq!(tag("this"), Some(Tag::This));
        assert_eq!(tag("a remark: of another kind"), None);
    }

    #[test]
    fn a_tag_belongs_to_the_next_block_alone() {
        let text = "<!-- this -->\n```console\n$ a\n```\ntext\n```console\n$ b\n```\n";
        let blocks = read(text).unwrap().blocks;
        let seen: Vec<_> = blocks
            .iter()
            .map(|block| (block.line, block.tag.is_some()))
            .collect();
        assert_eq!(seen, [(2, true), (6, false)]);
    }

    #[test]
    fn commands_follow_the_prompt_and_all_else_is_output() {
        let session = only(
            "```console\n$ one \\\n    --flag\nanswer\n$ cat > f <<'END'\n> a\n>\n> END\n$ two\nmore\n```\n",
        )
        .session();
        assert_eq!(
            session.commands,
            ["one \\\n    --flag", "cat > f <<'END'\na\n\nEND", "two"]
        );
        assert_eq!(session.output, "answer\nmore\n");
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        for (text, expected) in [
            ("<!-- run: -->\n", "line 1: `run:` is not a tag"),
            (
                "<!-- run: a elsewhere -->\n",
                "line 1: `run: a elsewhere` is not",
            ),
            ("<!-- file: ../x -->\n", "line 1: `file: ../x`"),
            ("a\n\n<!-- this -->\n\ntext\n", "line 3: the tag belongs"),
            ("<!-- this -->\n", "line 1: the tag belongs"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn links_are_found_but_not_in_code_and_headings_become_anchors() {
        let text = "# A title: with `code`\n[a](x.md) ![b](y.png \"t\") `[c](no.md)` [`d`](z.md) [f]\n\n\
                    ```\n[e](no.md)\n# no\n```\n\n[f]: w.md#part\n\n| [g](v.md) |\n| --- |\n\n## Two words\n";
        let page = read(text).unwrap();
        assert_eq!(page.links, ["x.md", "y.png", "z.md", "w.md#part", "v.md"]);
        assert_eq!(page.anchors, ["a-title-with-code", "two-words"]);
    }
}
