//! `handover logs`.

use std::path::Path;

use handover_files::below;
use handover_supervisor::recorder::{LAST_LINES, OLD_LINES};

use super::{instance, unavailable};
use crate::cli::story::LogsArgs;
use crate::commands::print_bytes;
use crate::commands::report::archive::small_file;
use crate::escape::escaped;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

pub(crate) async fn logs(args: &LogsArgs) -> Result<ExitCode, Fatal> {
    let dir = match &args.state_dir.state_dir {
        Some(dir) => dir.clone(),
        None => {
            let found = instance(&args.target, &args.state_dir).await?;
            found.state_dir.ok_or_else(|| {
                unavailable(
                    "the instance has no state directory that can be seen, so no lines are kept: start it with \
                     --state-dir, or name the directory"
                        .to_owned(),
                )
            })?
        }
    };
    let name = match args.previous {
        false => LAST_LINES,
        true => OLD_LINES,
    };
    let text = read(&dir, name)?;
    let sections = sections(&text, args.epoch);
    if sections.is_empty() {
        let which = match args.epoch {
            Some(epoch) => format!("of epoch {epoch} "),
            None => String::new(),
        };
        return Err(unavailable(format!(
            "no lines {which}are in {}: those of the last six processes are kept, which are {}",
            dir.join(name).display(),
            names(&text)
        )));
    }
    // Its writer has escaped it; whoever has changed the file since has not.
    print_bytes(escaped(&sections, &['\n']).as_bytes())?;
    Ok(ExitCode::CLEAN)
}

/// Where others can write to the directory, the file is in one of our user below.
fn read(dir: &Path, name: &str) -> Result<String, Fatal> {
    let paths = [dir.to_owned(), below(dir)].map(|dir| dir.join(name));
    let Some(path) = paths.iter().find(|path| path.exists()) else {
        return Err(unavailable(format!(
            "there is no {name} in {}: `run` and `exec` keep the last lines with --state-dir, unless --record is \
             no, once a process has printed something",
            dir.display()
        )));
    };
    let content = small_file(path);
    let content = content.map_err(|why| unavailable(format!("{}: {why}", path.display())))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The start of the line before the lines of a process. Theirs begin with a time.
const HEAD: &str = "== ";

/// The parts of this epoch, or all.
fn sections(text: &str, epoch: Option<u32>) -> String {
    let wanted = epoch.map(|epoch| format!("{HEAD}epoch {epoch}, "));
    let mut is_in = false;
    let lines = text.split_inclusive('\n').filter(|line| {
        if line.starts_with(HEAD) {
            is_in = wanted
                .as_ref()
                .is_none_or(|wanted| line.starts_with(wanted));
        }
        is_in
    });
    lines.collect()
}

/// Whose lines there are.
fn names(text: &str) -> String {
    let heads = text.lines().filter_map(|line| line.strip_prefix(HEAD));
    let heads: Vec<_> = heads.map(|head| escaped(head, &[])).collect();
    match heads.is_empty() {
        true => "none".to_owned(),
        false => heads.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
== epoch 1, process 7, server
2026-02-03T04:05:06.789Z stdout: == epoch 2, process 8, a trick
== process 9, verify
2026-02-03T04:05:07.789Z stderr: no
== epoch 12, process 10, server
2026-02-03T04:05:08.789Z stdout: hello
== epoch 1, process 11, server
2026-02-03T04:05:09.789Z stdout: again
";

    #[test]
    fn the_lines_of_an_epoch_are_those_of_its_processes() {
        assert_eq!(sections(TEXT, None), TEXT);
        insta::assert_snapshot!(sections(TEXT, Some(1)), @r"
        == epoch 1, process 7, server
        2026-02-03T04:05:06.789Z stdout: == epoch 2, process 8, a trick
        == epoch 1, process 11, server
        2026-02-03T04:05:09.789Z stdout: again
        ");
        assert_eq!(sections(TEXT, Some(2)), "");
        assert_eq!(sections("half a line", None), "");
        assert_eq!(
            names(TEXT),
            "epoch 1, process 7, server; process 9, verify; epoch 12, process 10, server; epoch 1, process 11, \
             server"
        );
        assert_eq!(names(""), "none");
    }
}
