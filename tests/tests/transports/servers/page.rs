//! The recipes of `docs/servers.md`.

/// The page.
const PAGE: &str = include_str!("../../../../docs/servers.md");

/// What the page says of one server.
pub(crate) struct Recipe {
    /// The command line, its lines joined.
    pub(crate) command: String,
    /// Each file by its name. The first one has the marker `v1`, which a test changes.
    pub(crate) files: Vec<(String, String)>,
}

/// Reads the section with this heading. Files of an earlier section may be named by `files_of`.
pub(crate) fn recipe(heading: &str, files_of: &str) -> Recipe {
    let section = section(heading);
    let command = blocks(section, "<!-- tested-by: ")
        .map(|(_, body)| command(body))
        .find(|command| command.contains("handover exec"));
    let files = blocks(self::section(files_of), "<!-- file: ");
    let files = files.map(|(name, body)| (name.to_owned(), body.to_owned()));
    Recipe {
        command: command.expect("the section has a command"),
        files: files.collect(),
    }
}

fn section(heading: &str) -> &'static str {
    let begin = format!("\n## {heading}\n");
    let (_, rest) = PAGE.split_once(&begin).expect("the page has the heading");
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The blocks below a comment that begins so, with the rest of the comment.
fn blocks<'a>(section: &'a str, comment: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    section.split(comment).skip(1).map(|rest| {
        let (name, rest) = rest.split_once(" -->\n```").expect("a block follows");
        let (_, body) = rest.split_once('\n').expect("a language is named");
        let (body, _) = body.split_once("```\n").expect("the block ends");
        (name, body)
    })
}

/// The command of a block, without prompts, in one line.
fn command(block: &str) -> String {
    let lines = block.lines().map(|line| {
        let line = line.strip_prefix("$ ").or(line.strip_prefix("> "));
        line.expect("a line of a command").trim_end_matches('\\')
    });
    lines.collect()
}
