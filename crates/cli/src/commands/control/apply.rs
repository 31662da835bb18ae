//! `handover apply`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, bail};
use handover_supervisor::control::Client;
use handover_supervisor::control::wire::{Applied, ApplyRequest, ApplyResult, MAX_CONFIGURATION};

use super::{decoded, done, milliseconds, print, socket_of, unanswered};
use crate::cli::control::ApplyArgs;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

pub(in super::super) async fn apply(args: &ApplyArgs) -> Result<ExitCode, Fatal> {
    let configuration = read(&args.file).map_err(Fatal::not_read)?;
    let request = ApplyRequest {
        wait: true,
        through_probation: args.through_probation,
        timeout_ms: Some(milliseconds(args.timeout)),
    };
    let socket = socket_of(&args.target)?;
    let answer = Client::new(&socket)
        .apply(&request, configuration, args.timeout)
        .await;
    let applied: Applied = decoded(&done(answer.map_err(unanswered)?)?)?;
    print(sentence(&applied))?;
    Ok(ExitCode::CLEAN)
}

/// Reads the configuration, from standard input for `-`. One that no instance would take is not read to its end.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let name = || file.display();
    let bytes = match file.as_os_str() == "-" {
        true => limited(io::stdin().lock()).context("cannot read standard input")?,
        false => {
            let opened = File::open(file);
            let read = opened.and_then(limited);
            read.with_context(|| format!("cannot read {}", name()))?
        }
    };
    if bytes.len() > MAX_CONFIGURATION {
        bail!(
            "{} is larger than {MAX_CONFIGURATION} bytes: is it the right file?",
            name()
        );
    }
    if bytes.trim_ascii().is_empty() {
        bail!("{} is empty: give a configuration as YAML or JSON", name());
    }
    Ok(bytes)
}

fn limited(from: impl Read) -> io::Result<Vec<u8>> {
    let more = u64::try_from(MAX_CONFIGURATION).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    from.take(more.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn sentence(applied: &Applied) -> String {
    let epoch = match applied.epoch {
        Some(epoch) => format!("epoch {epoch} is live"),
        None => "the next epoch is due".to_owned(),
    };
    let change = match applied.result {
        ApplyResult::Unchanged => "the configuration has not changed: ",
        ApplyResult::Asked | ApplyResult::Live => "",
    };
    let kept = match applied.kept {
        Some(true) => ", and the configuration is kept",
        Some(false) => "; the configuration is kept once its probation is over",
        None => "",
    };
    format!("{change}{epoch}{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_configuration_is_told_in_a_sentence() {
        let told = |result, epoch, kept| {
            sentence(&Applied {
                api: 1,
                result,
                epoch,
                kept,
            })
        };
        let told = [
            told(ApplyResult::Live, Some(3), Some(true)),
            told(ApplyResult::Live, Some(3), Some(false)),
            told(ApplyResult::Unchanged, Some(0), Some(true)),
            told(ApplyResult::Asked, None, None),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        epoch 3 is live, and the configuration is kept
        epoch 3 is live; the configuration is kept once its probation is over
        the configuration has not changed: epoch 0 is live, and the configuration is kept
        the next epoch is due
        ");
    }

    #[test]
    fn what_no_instance_would_take_is_refused_before_it_is_sent() {
        let dir = tempfile::Builder::new().prefix("handover-").tempdir();
        let dir = dir.unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("empty"), " \n").unwrap();
        let large = File::create(at("large")).unwrap();
        large
            .set_len(u64::try_from(MAX_CONFIGURATION).unwrap() + 1)
            .unwrap();
        let refused = |name: &str| format!("{:#}", read(&at(name)).unwrap_err());
        assert!(refused("empty").ends_with("empty is empty: give a configuration as YAML or JSON"));
        assert!(refused("large").contains("is larger than 67108864 bytes"));
        assert!(
            refused("missing").contains("No such file"),
            "{}",
            refused("missing")
        );
    }
}
