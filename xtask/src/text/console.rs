//! The command blocks of Markdown files, and the comments above them that tell what tests them.
//!
//! ```text
//! <!-- run: NAME -->            xtask runs the block in an empty directory
//! <!-- run: NAME in-repo -->    xtask runs the block at the root of the repository
//! <!-- tested-by: a::b::name --> the test `name` runs these commands
//! <!-- this -->                 the block is `cargo xtask ci`, which is running
//! <!-- file: NAME -->           not commands: the content of a file that the `run` blocks find
//! ```

/// What stands above a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Run { name: String, in_repo: bool },
    TestedBy(String),
    This,
    File(String),
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of the opening fence, from 1.
    pub(crate) line: usize,
    /// The word after the opening fence.
    pub(crate) language: String,
    pub(crate) tag: Option<Tag>,
    pub(crate) body: String,
}

impl Block {
    /// Whether a reader takes the block for something to type.
    pub(crate) fn is_commands(&self) -> bool {
        ["console", "sh", "bash", "shell", "shell-session"].contains(&self.language.as_str())
    }

    /// The commands: what follows `$ `, with the lines that continue it. A command goes on where its
    /// line ends with a backslash, or where the next line starts with `> `, the shell's second prompt.
    pub(crate) fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut continues = false;
        for line in self.body.lines() {
            let more = line
                .strip_prefix("> ")
                .or_else(|| (line == ">").then_some(""));
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push(command.to_owned());
            } else if let (Some(text), Some(last)) =
                (more.or(continues.then_some(line)), commands.last_mut())
            {
                last.push('\n');
                last.push_str(text);
            } else {
                continue;
            }
            continues = line.ends_with('\\');
        }
        commands
    }
}

/// All fenced blocks of a Markdown text.
///
/// # Errors
///
/// Tells the line of a comment that looks like a tag and is none, of a tag without a block, or of a
/// fence that is not closed.
pub(crate) fn blocks(markdown: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut tag: Option<Tag> = None;
    let mut lines = markdown
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let mut body = String::new();
            loop {
                let (_, inner) = lines
                    .next()
                    .ok_or(format!("line {number}: the block is not closed"))?;
                if inner.starts_with("```") {
                    break;
                }
                body.push_str(inner);
                body.push('\n');
            }
            blocks.push(Block {
                line: number,
                language: language.trim().to_owned(),
                tag: tag.take(),
                body,
            });
        } else if let Some(comment) = line
            .strip_prefix("<!-- ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        {
            tag = parse_tag(comment).map_err(|reason| format!("line {number}: {reason}"))?;
        } else if tag.is_some() && !line.trim().is_empty() {
            return Err(format!(
                "line {number}: the tag above it belongs directly above a block"
            ));
        }
    }
    if tag.is_some() {
        Err("the tag at the end has no block".to_owned())
    } else {
        Ok(blocks)
    }
}

/// The tag that a comment is, `None` for a comment about something else.
fn parse_tag(comment: &str) -> Result<Option<Tag>, String> {
    if comment == "this" {
        return Ok(Some(Tag::This));
    }
    let Some((kind, value)) = comment.split_once(':') else {
        return Ok(None);
    };
    let words: Vec<&str> = value.split_whitespace().collect();
    match (kind, words.as_slice()) {
        ("run", [name]) => Ok(Some(Tag::Run {
            name: (*name).to_owned(),
            in_repo: false,
        })),
        ("run", [name, "in-repo"]) => Ok(Some(Tag::Run {
            name: (*name).to_owned(),
            in_repo: true,
        })),
        ("tested-by", [path]) => Ok(Some(Tag::TestedBy((*path).to_owned()))),
        ("file", [name]) if !name.contains('/') => Ok(Some(Tag::File((*name).to_owned()))),
        ("run" | "tested-by" | "file", _) => {
            Err(format!("`{comment}` is not a tag that xtask knows"))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(markdown: &str) -> Block {
        let mut found = blocks(markdown).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn each_tag_is_understood() {
        let tag =
            |comment: &str| only(&format!("<!-- {comment} -->\n\n```console\n$ a\n```\n")).tag;
        let run = |in_repo| {
            Some(Tag::Run {
                name: "demo".to_owned(),
                in_repo,
            })
        };
        assert_eq!(tag("run: demo"), run(false));
        assert_eq!(tag("run: demo in-repo"), run(true));
        assert_eq!(
            tag("tested-by: tests::cli::name"),
            Some(Tag::TestedBy("tests::cli::name".to_owned()))
        );
        assert_eq!(
            tag("file: envoy.yaml"),
            Some(Tag::File("envoy.yaml".to_owned()))
        );
        assert_eq!(tag("this"), Some(Tag::This));
        assert_eq!(tag("a remark: of another kind"), None);
    }

    #[test]
    fn a_block_without_a_tag_has_none_even_after_a_tagged_one() {
        let found =
            blocks("<!-- this -->\n```console\n$ a\n```\ntext\n```console\n$ b\n```\n").unwrap();
        assert_eq!(
            found
                .iter()
                .map(|block| block.tag.is_some())
                .collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(
            found.iter().map(|block| block.line).collect::<Vec<_>>(),
            [2, 6]
        );
    }

    #[test]
    fn commands_are_what_follows_the_prompt_and_its_continuations() {
        let block = only(
            "```console\n$ one \\\n    --flag\noutput\n$ cat > f <<'END'\n> a\n>\n> b\n> END\n$ two\n```\n",
        );
        assert_eq!(
            block.commands(),
            ["one \\\n    --flag", "cat > f <<'END'\na\n\nb\nEND", "two"]
        );
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, expected) in [
            ("a\n```console\n$ b\n", "line 2: the block is not closed"),
            (
                "<!-- run: -->\n",
                "line 1: `run:` is not a tag that xtask knows",
            ),
            (
                "<!-- run: a elsewhere -->\n",
                "line 1: `run: a elsewhere` is not a tag that xtask knows",
            ),
            ("<!-- file: ../x -->\n", "line 1: `file: ../x`"),
            (
                "<!-- this -->\ntext\n",
                "line 2: the tag above it belongs directly above a block",
            ),
            ("<!-- this -->\n", "the tag at the end has no block"),
        ] {
            let error = blocks(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
