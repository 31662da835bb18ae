//! Scenarios as text: one line for each input, with its time.
//!
//! ```text
//! # A change is read and asked for.
//! settings on_terminate=drain cold=yes stand_in=none
//! 0      read 1 ok A
//! +10ms  taken 1 changed
//! +10ms  agent live:0 0=live*
//! 1s     ask 1 reload --wait --timeout 5s
//! ```
//!
//! | line | input |
//! | --- | --- |
//! | `signal TERM\|INT\|QUIT\|HUP\|USR1\|USR2` | a signal |
//! | `ask N status`, `ask N undrain`, `ask N drain`, `ask N stop`, `ask N reload`, with `--wait`, `--timeout TIME`, `--now`, `--cold`, `--if-changed`, `--through-probation` | a client asks |
//! | `ask N await ready\|live\|current`, with `--timeout TIME` | a client waits until something is so |
//! | `gone N` | the client of an ask has gone |
//! | `changed` | the watched files hold something else |
//! | `read N ok NAME [inputs=I]`, `read N failed`, `read N short` | a read has ended |
//! | `taken N changed\|unchanged\|denied` | the agent has received a change |
//! | `settled N live:E\|replaced\|given_up:E\|stayed\|ended` | a change has come to its end |
//! | `agent [PHASE] STANDING EPOCHS.. [short:E]` | the agent's state: `draining` or `stopping`; `nothing`, `live:E`, `starting:E`, `cap:N`, `retry`, `given_up:E`, `stayed` or `ending`; `E=starting\|live\|draining\|aborting`, with `*` where desired, `!` where released, `?` on probation and `-` where unfit, and `@TIME` with its start |
//! | `released E [N]` | an epoch was released, which had so many connections |
//! | `called N ok [E]\|failed\|unsupported` | a call to the proxy has returned |
//! | `clients N gone\|unknown` | what was seen of the clients |
//! | `ended drained\|skipped\|killed\|gave_up\|panicked` | the agent has ended |
//! | `broken` | a part of the driver has panicked |
//! | `looked N [E=yes\|no\|unknown ..]` | a look at the processes was done: whether clients can connect to each epoch |
//! | `examined N ok\|hung\|silent [missing=A,B] [warming=A] [requests=ALL/FAILED] [probes=pass,fail,unknown]` | a look at what serves was done |
//! | `files there`, `files missing A B ..` | the awaited files were looked at |
//! | `job process`, `job file` | the job of this instance is done |
//! | `hook N ok\|failed\|short` | a hook has ended |
//! | `wait` | nothing; what is due until then is done |
//!
//! With `settings looks=scripted` each look is answered by a line. Otherwise it is answered at once, by a
//! proxy to which clients can connect, and the transcript does not show it.
//!
//! With `settings files=wait` nothing is started before some files are there, with `files=TIME` for at most
//! that long.
//!
//! With `settings probation=TIME` there is a probation of that length (with `examine=nothing`, a look could show
//! nothing), with `failures=N` in a row, and
//! with `rise=PERCENT` the requests are counted.
//!
//! With `settings hooks=all` there is a hook at each moment, which may take 10 seconds.
//!
//! With `settings manager=yes` there is a service manager, and with `manager=TIME` it must hear that often that
//! the loop turns.

use std::str::SplitWhitespace;
use std::time::Duration;

use handover_core::{Abort, Epoch, EpochState, GaveUp, Held, Outcome, Phase, Standing, Timestamp};
use handover_supervisor::operator::{
    AgentView, Applies, AskId, CallId, ChangeId, Clients, Condition, EpochView, ErrorRise,
    Examination, ExaminationId, FileWait, HookFailure, HookId, HookSettings, Input, Inputs,
    JobDone, LookId, Moment, Next, OnTerminate, ProbeResult, Probed, ReadFailure, ReadId, Reading,
    Refusal, Report, Request, Seen, ServiceManager, Settings, Settlement, Shortage, Signal,
    TakenIn, Totals, Wait,
};

/// What happens to an operator, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// The first comment.
    pub(crate) title: String,
    pub(crate) settings: Settings,
    pub(crate) stand_in: Option<Reading<String>>,
    /// Whether each look is answered by a line.
    pub(crate) looks_are_scripted: bool,
    pub(crate) lines: Vec<Line>,
}

/// One input, or only a timeout where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) words: String,
    pub(crate) input: Option<Input<String>>,
}

type Parsed<T> = Result<T, String>;

pub(crate) fn parse(script: &str) -> Parsed<Script> {
    let mut parsed = Script {
        title: String::new(),
        settings: Settings::default(),
        stand_in: None,
        looks_are_scripted: false,
        lines: Vec::new(),
    };
    let mut now = Timestamp::ZERO;
    for (index, line) in script.lines().enumerate() {
        let (line, comment) = line.split_once('#').unwrap_or((line, ""));
        if parsed.title.is_empty() {
            comment.trim().clone_into(&mut parsed.title);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((first, rest)) = words.split_first() else {
            continue;
        };
        let in_line = |problem: String| format!("line {}: {problem}", index + 1);
        if *first == "settings" {
            rest.iter()
                .try_for_each(|word| setting(&mut parsed, word))
                .map_err(in_line)?;
            continue;
        }
        let at = match first.strip_prefix('+') {
            Some(span) => now.after(time(span).map_err(in_line)?),
            None => Timestamp::new(time(first).map_err(in_line)?),
        };
        if at < now {
            return Err(in_line(format!("`{first}` is before the line above")));
        }
        now = at;
        let words = rest.join(" ");
        let input = input(&words).map_err(in_line)?;
        parsed.lines.push(Line { at, words, input });
    }
    Ok(parsed)
}

fn setting(script: &mut Script, word: &str) -> Parsed<()> {
    match word.split_once('=') {
        Some(("on_terminate", "drain")) => script.settings.on_terminate = OnTerminate::Drain,
        Some(("on_terminate", "stop")) => script.settings.on_terminate = OnTerminate::Stop,
        Some(("cold", "yes")) => script.settings.no_cold_restart = None,
        Some(("cold", "no")) => script.settings.no_cold_restart = Some("not for this proxy"),
        Some(("looks", "scripted")) => script.looks_are_scripted = true,
        Some(("probation", span)) => script.settings.probation = Some(time(span)?),
        Some(("files", "wait")) => script.settings.files = Some(FileWait::default()),
        Some(("files", limit)) => {
            let limit = Some(time(limit)?);
            script.settings.files = Some(FileWait { limit });
        }
        Some(("hooks", "all")) => {
            script.settings.hooks = HookSettings::new(Moment::ALL, Duration::from_secs(10));
        }
        Some(("examine", "nothing")) => script.settings.nothing_to_examine = true,
        Some(("manager", "yes")) => {
            script.settings.service_manager = Some(ServiceManager::default());
        }
        Some(("manager", span)) => {
            script.settings.service_manager = Some(ServiceManager {
                alive_every: Some(time(span)?),
            });
        }
        Some(("applies", kept @ ("kept" | "nothing"))) => {
            let kept = kept == "kept";
            script.settings.applies = Applies::FromClients { kept };
        }
        Some(("failures", count)) => {
            script.settings.evidence.failures = count.parse().map_err(|_| "`failures=N`")?;
        }
        Some(("rise", percent)) => {
            let percent: u16 = percent.parse().map_err(|_| "`rise=PERCENT`")?;
            script.settings.evidence.max_error_rise = ErrorRise::from_hundredths(percent * 100);
        }
        Some(("stand_in", name)) => {
            script.stand_in = Some(Reading {
                config: name.to_owned(),
                inputs: Inputs::default(),
            });
        }
        _ => {
            return Err(format!(
                "`{word}` is none of `on_terminate=drain|stop`, `cold=yes|no`, `looks=scripted`, \
                 `probation=TIME`, `examine=nothing`, `manager=yes|TIME`, `failures=N`, `rise=PERCENT`, \
                 `files=wait|TIME`, `applies=kept|nothing` and \
                 `stand_in=NAME`"
            ));
        }
    }
    Ok(())
}

/// `200ms`, `5s`, `2m` or `0`.
fn time(word: &str) -> Parsed<Duration> {
    let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = word.strip_prefix(digits).unwrap_or_default();
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "" if digits == "0" => 0,
        _ => {
            return Err(format!(
                "`{word}` is not a time; write for example `200ms`, `5s` or `0`"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{word}` is not a time"))?;
    Ok(Duration::from_millis(number.saturating_mul(millis)))
}

fn input(line: &str) -> Parsed<Option<Input<String>>> {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let input = match kind {
        "wait" => None,
        "changed" => Some(Input::FilesChanged),
        "files" => Some(Input::FilesFound(match next(&mut words)? {
            "there" => Vec::new(),
            "missing" => words.by_ref().map(missing).collect(),
            other => return unknown(other),
        })),
        "kept" => Some(Input::Kept {
            text: AskId(number(next(&mut words)?)?),
            result: match next(&mut words)? {
                "ok" => Ok(()),
                "failed" => Err(Report::new("no space left on the device")),
                other => return unknown(other),
            },
        }),
        "job" => Some(Input::JobDone(match next(&mut words)? {
            "process" => JobDone::ProcessEnded(77),
            "file" => JobDone::FileAppeared,
            other => return unknown(other),
        })),
        "hook" => Some(Input::HookDone {
            hook: HookId(number(next(&mut words)?)?),
            result: match next(&mut words)? {
                "ok" => Ok(()),
                result @ ("failed" | "short") => Err(HookFailure {
                    why: "exited with code 1: no".to_owned(),
                    shortage: result == "short",
                }),
                other => return unknown(other),
            },
        }),
        "broken" => Some(Input::Broken("out of range".to_owned())),
        "signal" => Some(Input::Signal(signal(next(&mut words)?)?)),
        "ask" => Some(Input::Asked {
            ask: AskId(number(next(&mut words)?)?),
            request: request(&mut words)?,
        }),
        "gone" => Some(Input::AskGone(AskId(number(next(&mut words)?)?))),
        "read" => Some(read(&mut words)?),
        "taken" => Some(Input::TakenIn {
            change: ChangeId(number(next(&mut words)?)?),
            result: match next(&mut words)? {
                "changed" => TakenIn::Changed,
                "unchanged" => TakenIn::Unchanged,
                "denied" => TakenIn::Denied,
                other => return unknown(other),
            },
        }),
        "settled" => Some(Input::Settled {
            change: ChangeId(number(next(&mut words)?)?),
            result: match next(&mut words)?.split_once(':') {
                Some(("live", epoch)) => Settlement::Live(self::epoch(epoch)?),
                Some(("given_up", epoch)) => Settlement::GivenUp {
                    epoch: self::epoch(epoch)?,
                    report: Some(Report {
                        message: "no such cluster".to_owned(),
                        lines: vec!["critical: no such cluster".to_owned()],
                    }),
                },
                _ => match line.rsplit(' ').next() {
                    Some("replaced") => Settlement::Replaced,
                    Some("stayed") => Settlement::NotRestarted,
                    Some("ended") => Settlement::Ended,
                    other => return unknown(other.unwrap_or_default()),
                },
            },
        }),
        "agent" => Some(Input::AgentChanged(agent(&mut words)?)),
        "released" => Some(Input::Released {
            epoch: epoch(next(&mut words)?)?,
            connections: words.next().map(number).transpose()?,
        }),
        "called" => Some(Input::CallDone {
            call: CallId(number(next(&mut words)?)?),
            result: match next(&mut words)? {
                "ok" => Ok(words.next().map(epoch).transpose()?),
                "failed" => Err(Refusal::Failed(Report::new("admin does not answer"))),
                "unsupported" => Err(Refusal::NotSupported(Report::new("not for this proxy"))),
                other => return unknown(other),
            },
        }),
        "clients" => Some(Input::ClientsWatched {
            ask: AskId(number(next(&mut words)?)?),
            result: match next(&mut words)? {
                "gone" => Clients::Gone,
                "unknown" => Clients::Unknown(vec!["a pipe of epoch 0".to_owned()]),
                other => return unknown(other),
            },
        }),
        "examined" => Some(Input::Examined {
            examination: ExaminationId(number(next(&mut words)?)?),
            seen: seen(&mut words)?,
        }),
        "looked" => Some(Input::Looked {
            look: LookId(number(next(&mut words)?)?),
            listens: words.by_ref().map(listens).collect::<Parsed<_>>()?,
        }),
        "ended" => Some(Input::AgentEnded(match next(&mut words)? {
            "drained" => Ok(Outcome::Drained),
            "skipped" => Ok(Outcome::DrainSkipped),
            "killed" => Ok(Outcome::Killed),
            "gave_up" => Ok(Outcome::GaveUp {
                epoch: Epoch::ZERO,
                why: GaveUp::BudgetSpent,
            }),
            "panicked" => Err("index out of bounds".to_owned()),
            other => return unknown(other),
        })),
        other => return unknown(other),
    };
    match words.next() {
        None => Ok(input),
        Some(word) => unknown(word),
    }
}

fn missing(name: &str) -> String {
    format!("`{name}` does not exist")
}

fn unknown<T>(word: &str) -> Parsed<T> {
    Err(format!("`{word}` is not known here"))
}

fn next<'a>(words: &mut SplitWhitespace<'a>) -> Parsed<&'a str> {
    words.next().ok_or_else(|| "a word is missing".to_owned())
}

fn number(word: &str) -> Parsed<u64> {
    word.parse()
        .map_err(|_| format!("`{word}` is not a number"))
}

fn epoch(word: &str) -> Parsed<Epoch> {
    let number = word
        .parse()
        .map_err(|_| format!("`{word}` is not an epoch"))?;
    Ok(Epoch::new(number))
}

/// `E=yes`, `E=no` or `E=unknown`.
fn listens(word: &str) -> Parsed<(Epoch, Option<bool>)> {
    let (epoch, listens) = word.split_once('=').ok_or("write `E=yes|no|unknown`")?;
    let listens = match listens {
        "yes" => Some(true),
        "no" => Some(false),
        "unknown" => None,
        other => return unknown(other),
    };
    Ok((self::epoch(epoch)?, listens))
}

/// What a look at what serves has shown.
fn seen(words: &mut SplitWhitespace<'_>) -> Parsed<Seen> {
    let mut seen = Seen {
        proxy: match next(words)? {
            "ok" => Some(Examination::default()),
            "silent" => Some(Examination {
                silent: Some("connection refused".to_owned()),
                ..Examination::default()
            }),
            "hung" => None,
            other => return unknown(other),
        },
        probes: Vec::new(),
    };
    let names = |list: &str| Some(list.split(',').map(str::to_owned).collect());
    for word in words {
        let (what, value) = word.split_once('=').ok_or("write `WHAT=VALUE`")?;
        if what == "probes" {
            seen.probes = value
                .split(',')
                .enumerate()
                .map(probed)
                .collect::<Parsed<_>>()?;
            continue;
        }
        let proxy = seen
            .proxy
            .as_mut()
            .ok_or("it hung, and has shown nothing")?;
        match what {
            "missing" => proxy.missing = names(value),
            "warming" => proxy.warming = names(value),
            "requests" => {
                let (all, failed) = value.split_once('/').ok_or("write `requests=ALL/FAILED`")?;
                let (all, failed) = (number(all)?, number(failed)?);
                proxy.requests = Some(Totals { all, failed });
            }
            other => return unknown(other),
        }
    }
    Ok(seen)
}

fn probed((index, result): (usize, &str)) -> Parsed<Probed> {
    Ok(Probed {
        name: format!("--verify check-{index}"),
        result: match result {
            "pass" => ProbeResult::Passed,
            "fail" => ProbeResult::Failed("exited with code 1: not there".to_owned()),
            "unknown" => ProbeResult::Unknown("no process can be made".to_owned()),
            other => return unknown(other),
        },
    })
}

fn signal(word: &str) -> Parsed<Signal> {
    Ok(match word {
        "TERM" => Signal::Terminate,
        "INT" => Signal::Interrupt,
        "QUIT" => Signal::Quit,
        "HUP" => Signal::HangUp,
        "USR1" => Signal::User1,
        "USR2" => Signal::User2,
        other => return unknown(other),
    })
}

fn request(words: &mut SplitWhitespace<'_>) -> Parsed<Request> {
    let kind = next(words)?;
    let (mut wait, mut now, mut wish) = (Wait::No, false, Next::Renew);
    let mut through_probation = false;
    let mut condition = None;
    while let Some(word) = words.next() {
        match word {
            "ready" => condition = Some(Condition::Ready),
            "live" => condition = Some(Condition::Live),
            "current" => condition = Some(Condition::Current),
            "--wait" => wait = Wait::Unlimited,
            "--timeout" => wait = Wait::AtMost(time(next(words)?)?),
            "--now" => now = true,
            "--through-probation" => through_probation = true,
            "--cold" => wish = Next::Cold,
            "--if-changed" => wish = Next::IfDifferent,
            other => return unknown(other),
        }
    }
    Ok(match kind {
        "status" => Request::Status,
        "who" => Request::Who,
        "undrain" => Request::Undrain,
        "await" => Request::Await {
            condition: condition.ok_or("`await ready|live|current`")?,
            wait: match wait {
                Wait::No => Wait::Unlimited,
                wait @ (Wait::Unlimited | Wait::AtMost(_)) => wait,
            },
        },
        "drain" => Request::Drain { wait },
        "stop" => Request::Stop { now, wait },
        "apply" => Request::Apply {
            wait,
            through_probation,
        },
        "reload" => Request::Reload {
            next: wish,
            hurry: now,
            wait,
            through_probation,
        },
        other => return unknown(other),
    })
}

fn read(words: &mut SplitWhitespace<'_>) -> Parsed<Input<String>> {
    let read = ReadId(number(next(words)?)?);
    let failure = |message, shortage| {
        Err(ReadFailure {
            report: Report::new(message),
            shortage,
        })
    };
    let result = match next(words)? {
        "ok" => {
            let config = next(words)?.to_owned();
            let mut inputs = Inputs::default();
            if let Some(word) = words.next() {
                let digest = word.strip_prefix("inputs=").ok_or("write `inputs=N`")?;
                inputs.0[0] = digest
                    .parse()
                    .map_err(|_| format!("`{digest}` is not a digest"))?;
            }
            Ok(Reading { config, inputs })
        }
        "failed" => failure("envoy.yaml: no such field", false),
        "short" => failure("too many open files", true),
        other => return unknown(other),
    };
    Ok(Input::ReadDone { read, result })
}

fn agent(words: &mut SplitWhitespace<'_>) -> Parsed<AgentView> {
    let mut view = AgentView::default();
    for word in words {
        if let Some((epoch, state)) = word.split_once('=') {
            let (state, started) = match state.split_once('@') {
                Some((state, started)) => (state, Timestamp::new(time(started)?)),
                None => (state, Timestamp::ZERO),
            };
            let name = state.trim_end_matches(['*', '!', '?', '-']);
            view.epochs.push(EpochView {
                epoch: self::epoch(epoch)?,
                state: match name {
                    "starting" => EpochState::Starting,
                    "live" => EpochState::Live,
                    "draining" => EpochState::Draining,
                    "aborting" => EpochState::Aborting(Abort::Graceful),
                    other => return unknown(other),
                },
                desired: state.contains('*'),
                released: state.contains('!'),
                started,
                on_probation: state.contains('?'),
                unfit: state.contains('-'),
            });
            continue;
        }
        match word.split_once(':') {
            Some(("live", epoch)) => view.standing = Standing::Live(self::epoch(epoch)?),
            Some(("starting", epoch)) => {
                view.standing = Standing::Pending(Held::Starting(self::epoch(epoch)?));
            }
            Some(("cap", running)) => {
                let running = running.parse().map_err(|_| "`cap:N`".to_owned())?;
                view.standing = Standing::Pending(Held::Cap { running });
            }
            Some(("given_up", epoch)) => view.standing = Standing::GivenUp(self::epoch(epoch)?),
            Some(("short", epoch)) => {
                view.shortage = Some(Shortage {
                    epoch: self::epoch(epoch)?,
                    what: "processes".to_owned(),
                });
            }
            _ => match word {
                "nothing" => {}
                "retry" => view.standing = Standing::Pending(Held::Retry(Timestamp::ZERO)),
                "interval" => {
                    view.standing = Standing::Pending(Held::Interval(Timestamp::ZERO));
                }
                "stayed" => view.standing = Standing::NotRestarted,
                "ending" => view.standing = Standing::Ending,
                "draining" => {
                    view.phase = Phase::Draining {
                        until: None,
                        epoch: None,
                    };
                }
                "stopping" => view.phase = Phase::Stopping(Outcome::DrainSkipped),
                other => return unknown(other),
            },
        }
    }
    Ok(view)
}
