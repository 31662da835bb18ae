//! The value of `--on-exit`: what to do after an end that nobody asked for, by its cause.

use handover_core::{EndCause, OnCleanExit, OnExit};

use super::nearest::nearest;

/// What may be done after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Restart,
    Stop,
    Stay,
}

const ACTIONS: [(&str, Action); 3] = [
    ("restart", Action::Restart),
    ("stop", Action::Stop),
    ("stay", Action::Stay),
];

/// The words of the metrics and of the status for the same ends. They are no causes of their own, because a
/// program without a core dump cannot be told from one that was killed from outside.
const OTHER_WORDS: [(&str, EndCause); 6] = [
    ("exited", EndCause::Exit),
    ("killed", EndCause::Crash),
    ("crashed", EndCause::Crash),
    ("core_dumped", EndCause::Crash),
    ("signal", EndCause::Crash),
    ("out_of_memory", EndCause::OutOfMemory),
];

/// Reads `ACTION`, `CAUSE=ACTION,..` or `ACTION,CAUSE=ACTION,..`. An action without a cause is for all of
/// them.
pub(super) fn parse(text: &str) -> Result<OnExit, String> {
    let mut on_exit = OnExit::RESTART;
    let mut seen: Vec<EndCause> = Vec::new();
    for (place, item) in text.split(',').map(str::trim).enumerate() {
        let Some((cause, action)) = item.split_once('=') else {
            if place > 0 {
                return Err(format!(
                    "`{item}` has no cause: write CAUSE=ACTION, such as crash=stop; an action for all \
                     causes comes first"
                ));
            }
            on_exit = for_all(action_of(item)?);
            continue;
        };
        let cause = cause_of(cause.trim())?;
        if seen.contains(&cause) {
            return Err(format!("`{cause}` is there twice: keep one of them"));
        }
        seen.push(cause);
        on_exit = with(on_exit, cause, action_of(action.trim())?)?;
    }
    Ok(on_exit)
}

fn for_all(action: Action) -> OnExit {
    match action {
        Action::Restart => OnExit::RESTART,
        Action::Stop => OnExit::STOP,
        // What has failed is retried.
        Action::Stay => OnExit::RESTART.with_clean(OnCleanExit::Stay),
    }
}

fn with(on_exit: OnExit, cause: EndCause, action: Action) -> Result<OnExit, String> {
    match (action, cause) {
        (Action::Restart, _) => Ok(on_exit.with_final(cause, false)),
        (Action::Stop, _) => Ok(on_exit.with_final(cause, true)),
        (Action::Stay, EndCause::Clean) => Ok(on_exit.with_clean(OnCleanExit::Stay)),
        (Action::Stay, _) => Err(format!(
            "{cause}=stay: only a clean end can be left alone; write {cause}=restart or {cause}=stop"
        )),
    }
}

fn action_of(word: &str) -> Result<Action, String> {
    let known = ACTIONS.iter().find(|(name, _)| *name == word);
    known.map(|(_, action)| *action).ok_or_else(|| {
        let names = ACTIONS.map(|(name, _)| name);
        let all = "the actions are restart, stop and stay";
        match nearest(word, names.into_iter()) {
            Some(name) => format!("`{word}` is no action: did you mean {name}? {all}"),
            None => format!("`{word}` is no action: {all}"),
        }
    })
}

fn cause_of(word: &str) -> Result<EndCause, String> {
    if let Some(cause) = EndCause::ALL.iter().find(|cause| cause.word() == word) {
        return Ok(*cause);
    }
    let words = EndCause::ALL.map(EndCause::word);
    let other = OTHER_WORDS.iter().find(|(name, _)| *name == word);
    let meant = match other {
        Some((_, cause)) => Some(cause.word()),
        None => nearest(word, words.into_iter()),
    };
    let all = "the causes are clean, exit, crash, oom and hung";
    Err(match meant {
        Some(name) => format!("`{word}` is no cause: did you mean {name}? {all}"),
        None => format!("`{word}` is no cause: {all}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for a value: what it makes of each cause, or what is wrong with it.
    fn transcript(texts: &[&str]) -> String {
        let line = |text: &&str| match parse(text) {
            Ok(on_exit) => {
                let each = EndCause::ALL.map(|cause| {
                    let action = match (cause, on_exit.on_clean_exit()) {
                        (EndCause::Clean, OnCleanExit::Stay) => "stay",
                        _ if on_exit.is_final(cause) => "stop",
                        _ => "restart",
                    };
                    format!("{cause}={action}")
                });
                format!("{text:?}\n    {}\n", each.join(" "))
            }
            Err(error) => format!("{text:?}\n    error: {error}\n"),
        };
        texts.iter().map(line).collect()
    }

    #[test]
    fn each_cause_has_an_action_of_its_own() {
        insta::assert_snapshot!(transcript(&[
            "restart",
            "stop",
            "stay",
            "crash=restart,oom=stop",
            "stop,crash=restart",
            "restart, clean = stay , exit=stop",
            "stay,hung=stop",
            "stop,clean=restart",
        ]));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_nearest_name() {
        insta::assert_snapshot!(transcript(&[
            "",
            "Restart",
            "restrat",
            "explode",
            "crsh=stop",
            "crash=stpo",
            "killed=stop",
            "out_of_memory=stop",
            "weather=stop",
            "=stop",
            "crash=",
            "crash=stop,",
            "crash=stop,restart",
            "crash=stop,crash=restart",
            "crash=stay",
        ]));
    }
}
