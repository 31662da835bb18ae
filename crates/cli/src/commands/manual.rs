//! `handover completions`, `handover man` and `handover schema`: the flags in other forms.

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::print_bytes;
use crate::cli::Cli;
use crate::cli::manual::{CompletionsArgs, ManArgs, SchemaArgs};
use crate::cli::settings;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// The section of the manual for commands.
const SECTION: &str = "1";

pub(super) fn completions(args: CompletionsArgs) -> Result<ExitCode, Fatal> {
    let mut command = without_hidden(&Cli::command());
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "handover", &mut text);
    print_bytes(&text)?;
    Ok(ExitCode::CLEAN)
}

pub(super) fn man(args: &ManArgs) -> Result<ExitCode, Fatal> {
    let mut command = without_hidden(&Cli::command());
    command.build();
    let Some(directory) = &args.directory else {
        print_bytes(&page(command)?)?;
        return Ok(ExitCode::CLEAN);
    };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("making `{}`", directory.display()))
        .or_exit(ExitCode::OS)?;
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    for command in std::iter::once(command).chain(subcommands) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = directory.join(format!("{name}.{SECTION}"));
        std::fs::write(&path, page(command)?)
            .with_context(|| format!("writing `{}`", path.display()))
            .or_exit(ExitCode::OS)?;
    }
    Ok(ExitCode::CLEAN)
}

pub(super) fn schema(args: SchemaArgs) -> Result<ExitCode, Fatal> {
    let command = Cli::command();
    let schema = command
        .find_subcommand(args.command.name())
        .map(settings::schema)
        .context("the command is missing")
        .or_exit(ExitCode::INTERNAL)?;
    let text = serde_json::to_string_pretty(&schema)
        .context("writing the schema as JSON")
        .or_exit(ExitCode::INTERNAL)?;
    super::print(text)?;
    Ok(ExitCode::CLEAN)
}

/// The same commands without those that are for handover itself: clap hides them in the help alone.
fn without_hidden(all: &Command) -> Command {
    let shown = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let mut command = Command::new("handover")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommand_required(true);
    if let Some(about) = all.get_about() {
        command = command.about(about.clone());
    }
    if let Some(below) = all.get_after_long_help() {
        command = command.after_long_help(below.clone());
    }
    command.subcommands(shown.cloned())
}

fn page(command: Command) -> Result<Vec<u8>, Fatal> {
    let mut page = Vec::new();
    let man = Man::new(command)
        .section(SECTION)
        .manual("Handover manual")
        .source(concat!("handover ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).or_exit(ExitCode::INTERNAL)?;
    Ok(page)
}
