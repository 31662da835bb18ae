//! Reading a script.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str::SplitWhitespace;
use core::time::Duration;

use super::{Line, ParseError, Scenario};
use handover_core::{
    Advance, Epoch, Exit, Input, OnCleanExit, OnExhausted, OnFailure, Policy, Severity, Timestamp,
    Urgency,
};

pub(super) fn scenario(script: &str) -> Result<Scenario, ParseError> {
    let mut title = None;
    let mut policy = None;
    let mut lines = Vec::new();
    let mut before = Timestamp::ZERO;
    for (index, text) in script.lines().enumerate() {
        let number = index.saturating_add(1);
        let wrong = |problem| ParseError {
            line: number,
            problem,
        };
        let (text, comment) = text
            .split_once('#')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        if let Some(comment) = comment {
            title.get_or_insert_with(|| comment.trim().to_owned());
        }
        let mut words = text.split_whitespace();
        match words.next() {
            None => {}
            Some("policy") if policy.is_some() || !lines.is_empty() => {
                return Err(wrong(
                    "a script has one policy, and it stands before the first input".to_owned(),
                ));
            }
            Some("policy") => policy = Some(read_policy(words).map_err(wrong)?),
            Some(time) => {
                let (at, missing_deadlines) = read_time(time, before).map_err(wrong)?;
                let words: Vec<&str> = words.collect();
                let input = read_input(&words).map_err(wrong)?;
                lines.push(Line {
                    at,
                    missing_deadlines,
                    input,
                });
                before = at;
            }
        }
    }
    Ok(Scenario {
        title: title.unwrap_or_default(),
        policy: policy.unwrap_or_default(),
        lines,
    })
}

fn read_time(word: &str, before: Timestamp) -> Result<(Timestamp, bool), String> {
    let (word, missing) = word
        .strip_suffix('!')
        .map_or((word, false), |word| (word, true));
    let at = match word.strip_prefix('+') {
        Some(span) => before.after(read_span(span)?),
        None => Timestamp::new(read_span(word)?),
    };
    if at < before {
        return Err(format!(
            "`{word}` is before the line above, which is at {before}"
        ));
    }
    Ok((at, missing))
}

fn read_span(word: &str) -> Result<Duration, String> {
    let wrong = || format!("`{word}` is not a time; write for example `200ms`, `5s`, `1m` or `0`");
    let digits = word
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(word.len());
    let (number, unit) = word.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u128 = number.parse().map_err(|_| wrong())?;
    let nanos: u128 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SEC,
        "m" => 60 * NANOS_PER_SEC,
        "" if number == 0 => 1,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(nanos)
        .and_then(from_nanos)
        .ok_or_else(wrong)
}

const NANOS_PER_SEC: u128 = 1_000_000_000;

fn from_nanos(nanos: u128) -> Option<Duration> {
    let secs = u64::try_from(nanos.checked_div(NANOS_PER_SEC)?).ok()?;
    let nanos = u32::try_from(nanos.checked_rem(NANOS_PER_SEC)?).ok()?;
    Some(Duration::new(secs, nanos))
}

fn read_input(words: &[&str]) -> Result<Option<Input<String>>, String> {
    Ok(Some(match words {
        ["wait"] => return Ok(None),
        ["desire", name] => Input::Desire((*name).to_string()),
        ["renew", name] => Input::Renew((*name).to_string()),
        ["restart", name] => Input::Restart((*name).to_string()),
        ["live", epoch] => Input::Live(read_epoch(epoch)?),
        ["stopped_serving", epoch] => Input::StoppedServing(read_epoch(epoch)?),
        ["withdrawn", epoch] => Input::Withdrawn(read_epoch(epoch)?),
        ["unfit", epoch] => Input::Unfit(read_epoch(epoch)?),
        ["released", epoch] => Input::Released(read_epoch(epoch)?),
        ["exit", epoch, how] => Input::Exited(read_epoch(epoch)?, read_exit(how)?),
        ["terminate", urgency] => Input::Terminate(read_urgency(urgency)?),
        words => {
            let what = words.join(" ");
            let what = if what.is_empty() { "nothing" } else { &what };
            return Err(format!(
                "`{what}` is not an input; the inputs are `desire NAME`, `renew NAME`, \
                 `restart NAME`, `live N`, `stopped_serving N`, `released N`, `withdrawn N`, \
                 `unfit N`, `exit N clean|failed|permanent|aborted`, `terminate drain|stop|kill` and `wait`"
            ));
        }
    }))
}

fn read_epoch(word: &str) -> Result<Epoch, String> {
    let number = word
        .parse()
        .map_err(|_| format!("`{word}` is not the number of an epoch"))?;
    Ok(Epoch::new(number))
}

fn read_urgency(word: &str) -> Result<Urgency, String> {
    one_of(
        word,
        &[
            ("drain", Urgency::Drain),
            ("stop", Urgency::Stop),
            ("kill", Urgency::Kill),
        ],
    )
}

fn read_exit(word: &str) -> Result<Exit, String> {
    match word {
        "clean" => Ok(Exit::Clean),
        "failed" => Ok(Exit::Failed(Severity::Transient)),
        "permanent" => Ok(Exit::Failed(Severity::Permanent)),
        "aborted" => Ok(Exit::Aborted),
        _ => Err(format!(
            "`{word}` is none of `clean`, `failed`, `permanent` and `aborted`"
        )),
    }
}

fn read_policy(mut words: SplitWhitespace<'_>) -> Result<Policy, String> {
    let mut policy = match words.next() {
        Some("default") => Policy::default(),
        Some("istio_1_2") => Policy::istio_1_2(),
        Some("resilient") => Policy::resilient(),
        other => {
            return Err(format!(
                "`{}` is not a policy; the presets are `default`, `istio_1_2` and `resilient`",
                other.unwrap_or("nothing")
            ));
        }
    };
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("`{word}` is not of the form KEY=VALUE"))?;
        set(&mut policy, key, value)?;
    }
    Ok(policy)
}

fn set(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
    match key {
        "retries" => policy.retry.max_retries = read_number(value)?,
        "initial" => policy.retry.initial_interval = read_span(value)?,
        "max_interval" => policy.retry.max_interval = unless_none(value, read_span)?,
        "reset_after" => policy.retry.reset_after = unless_none(value, read_span)?,
        "start_deadline" => policy.start_deadline = unless_none(value, read_span)?,
        "give_way_after" => policy.give_way_after = unless_none(value, read_span)?,
        "min_interval" => policy.min_interval = unless_none(value, read_span)?,
        "max_epochs" => policy.max_epochs = unless_none(value, read_number)?,
        "grace" => policy.abort_grace = read_span(value)?,
        "probation" => policy.probation = unless_none(value, read_span)?,
        "drain" => policy.drain_deadline = unless_none(value, read_span)?,
        "advance" => {
            policy.advance = one_of(
                value,
                &[
                    ("when_live", Advance::WhenLive),
                    ("at_once", Advance::AtOnce),
                ],
            )?;
        }
        "on_failure" => {
            policy.on_failure = one_of(
                value,
                &[
                    ("keep_serving", OnFailure::KeepServing),
                    ("abort_all", OnFailure::AbortAll),
                ],
            )?;
        }
        "on_exhausted" => {
            policy.on_exhausted = one_of(
                value,
                &[
                    ("stop", OnExhausted::Stop),
                    ("hold", OnExhausted::HoldLastGood),
                ],
            )?;
        }
        "on_clean_exit" => {
            policy.on_clean_exit = one_of(
                value,
                &[
                    ("stay", OnCleanExit::Stay),
                    ("restart", OnCleanExit::Restart),
                    ("stop", OnCleanExit::Stop),
                ],
            )?;
        }
        _ => {
            return Err(format!(
                "`{key}` is not a key of a policy; the keys are `retries`, `initial`, \
                 `max_interval`, `reset_after`, `start_deadline`, `give_way_after`, `min_interval`, \
                 `max_epochs`, `grace`, `probation`, `drain`, `advance`, `on_failure`, `on_exhausted` and `on_clean_exit`"
            ));
        }
    }
    Ok(())
}

fn read_number(word: &str) -> Result<u32, String> {
    word.parse()
        .map_err(|_| format!("`{word}` is not a number"))
}

fn unless_none<T>(
    word: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if word == "none" {
        Ok(None)
    } else {
        read(word).map(Some)
    }
}

fn one_of<T: Copy>(word: &str, values: &[(&str, T)]) -> Result<T, String> {
    values
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            format!("`{word}` is none of `{}`", names.join("`, `"))
        })
}
