//! What this build does not have: commands that a feature of Cargo leaves out, and what is told to a user who types
//! one of them.

use std::ffi::OsString;

use clap::error::ErrorKind;

/// The features that commands depend on, with whether this build has them.
const FEATURES: [(&str, bool); 2] = [
    ("envoy", cfg!(feature = "envoy")),
    ("tools", cfg!(feature = "tools")),
];

/// The commands that not every build has, each with the features that it needs.
const COMMANDS: [(&str, &[&str]); 9] = [
    ("run", &["envoy"]),
    ("apply", &["envoy"]),
    ("validate", &["envoy"]),
    ("doctor", &["envoy"]),
    ("demo", &["envoy", "tools"]),
    ("simulate", &["tools"]),
    ("completions", &["tools"]),
    ("man", &["tools"]),
    ("schema", &["tools"]),
];

/// Refuses a command line with a command that another build has.
pub(super) fn refusal(words: &[OsString]) -> Option<clap::Error> {
    let message = command(words.get(1)?.to_str()?)?;
    Some(clap::Error::raw(
        ErrorKind::InvalidSubcommand,
        format!("{message}\n"),
    ))
}

/// Returns why there is no such command, if another build has it.
pub(crate) fn command(command: &str) -> Option<String> {
    let (_, needs) = COMMANDS.iter().find(|(name, _)| *name == command)?;
    let feature = needs.iter().find(|feature| is_absent(feature))?;
    Some(message("command", command, feature))
}

/// Returns why a flag of a command that is here cannot be used.
#[cfg(not(feature = "tools"))]
pub(crate) fn flag(flag: &str, feature: &str) -> String {
    message("flag", flag, feature)
}

/// Returns what to do for a setting that this build does not know: another one may.
pub(super) fn settings_of_run() -> Option<&'static str> {
    let hint = "the settings of `run` are in builds with the feature `envoy`";
    is_absent("envoy").then_some(hint)
}

/// Lists the commands that are not here, for the help. Returns `None` if each is here.
pub(super) fn summary() -> Option<String> {
    let absent = COMMANDS
        .iter()
        .filter(|(_, needs)| needs.iter().any(|feature| is_absent(feature)));
    let names: Vec<_> = absent.map(|(name, _)| *name).collect();
    let features = FEATURES.iter().filter(|(_, is_here)| !is_here);
    let features: Vec<_> = features.map(|(name, _)| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| {
        format!(
            "This build is without {}. The others have these commands as well:\n{}.",
            features.join(" and "),
            names.join(", ")
        )
    })
}

fn is_absent(feature: &str) -> bool {
    FEATURES.contains(&(feature, false))
}

fn message(kind: &str, name: &str, feature: &str) -> String {
    format!(
        "the {kind} `{name}` is not in this build, which is without the feature `{feature}`: use the released \
         `handover` in place of `handover-exec`, or build it with `--features {feature}`"
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_command_is_here_or_refused_with_the_feature_that_it_needs() {
        let all = Cli::command();
        for (name, needs) in COMMANDS {
            let is_here = all.find_subcommand(name).is_some();
            let refused = refusal(&["handover".into(), name.into(), "--help".into()]);
            assert_eq!(is_here, refused.is_none(), "{name}");
            if let Some(error) = refused {
                let message = error.to_string();
                let named = needs
                    .iter()
                    .any(|need| message.contains(&format!("`{need}`")));
                assert!(named, "{message}");
            }
        }
        assert!(refusal(&["handover".into(), "exec".into()]).is_none());
        assert!(refusal(&["handover".into()]).is_none());
    }
}
