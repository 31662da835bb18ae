//! A transcript as a table: what came in, what came out, and what is true then.

use handover_core::Epoch;
use handover_supervisor::operator::{
    Call, Condition, EndedBy, Ending, Event, Fault, JobDone, Notification, Operator, Output,
    Probation, Progress, Reception, Refusal, Released, Reply, WaitedFor,
};

use crate::run::Step;

pub(crate) fn draw(title: &str, steps: &[Step]) -> String {
    let head = ["time", "input", "outputs", "then"].map(|word| vec![word.to_owned()]);
    let mut rows = vec![head];
    rows.extend(steps.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().flat_map(|row| row[column].iter());
        cells.map(|line| line.chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    rows.insert(1, widths.map(|width| vec!["-".repeat(width)]));
    let mut drawn = format!("{title}\n");
    for row in &rows {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let cells = row.iter().zip(widths).map(|(cell, width)| {
                let text = cell.get(line).map(String::as_str).unwrap_or_default();
                format!("{text:width$}")
            });
            let cells: Vec<String> = cells.collect();
            drawn.push_str(cells.join("  ").trim_end());
            drawn.push('\n');
        }
    }
    drawn
}

fn row(step: &Step) -> [Vec<String>; 4] {
    let mut input = vec![step.words.clone()];
    if let Reception::Ignored(why) = step.reception {
        input.push(format!("ignored: {why}"));
    }
    [
        vec![step.at.to_string()],
        input,
        step.outputs.iter().flat_map(output).collect(),
        state(&step.operator),
    ]
}

fn state(operator: &Operator<String>) -> Vec<String> {
    let overview = operator.overview();
    let mut words = Vec::new();
    if operator.ending().is_some() {
        words.push("finished".to_owned());
    } else if let Some(urgency) = overview.urgency {
        words.push(format!("ending: {urgency}"));
    } else if operator.is_ending() {
        words.push("ending".to_owned());
    }
    if overview.ready {
        words.push("ready".to_owned());
    }
    if let Some(missing) = overview.awaited {
        words.push(format!("awaits {} files", missing.len()));
    }
    if overview.awaits_configuration {
        words.push("awaits a configuration".to_owned());
    }
    if let Some(desired) = overview.desired {
        let stands_in = if overview.stands_in {
            " (stand-in)"
        } else {
            ""
        };
        words.push(format!("wants {desired}{stands_in}"));
    }
    if overview.problem.is_some() {
        words.push("a problem".to_owned());
    }
    if let Some(read) = operator.reading() {
        words.push(format!("reads {}", read.0));
    }
    if let Some(change) = operator.changing() {
        words.push(format!("changes {}", change.0));
    }
    if let Some(probation) = overview.probation {
        words.push(format!("{} on probation", probation.epoch));
    }
    if let Some(unfit) = overview.unfit {
        words.push(format!("{} unfit", unfit.epoch));
    }
    let calls: Vec<String> = operator.calls().map(|call| call.0.to_string()).collect();
    if !calls.is_empty() {
        words.push(format!("calls {}", calls.join(", ")));
    }
    let mut lines = vec![words.join(", ")];
    lines.extend(operator.asks().map(|(ask, for_what)| {
        let what = match for_what {
            WaitedFor::Read => "the read",
            WaitedFor::Live => "its change",
            WaitedFor::Probation => "the end of its probation",
            WaitedFor::Keep => "its being kept",
            WaitedFor::Proxy => "the proxy",
            WaitedFor::Look => "the look",
            WaitedFor::Clients => "the clients",
            WaitedFor::Condition(Condition::Ready) => "an epoch that is ready",
            WaitedFor::Condition(Condition::Live) => "an epoch that is live",
            WaitedFor::Condition(Condition::Current) => "the desired one",
            WaitedFor::End => "the end",
        };
        format!("ask {ask} waits for {what}")
    }));
    if let Some(deadline) = operator.poll_timeout() {
        lines.push(format!("{}: {}", deadline.at, deadline.reason));
    }
    lines
}

fn output(output: &Output<String>) -> Vec<String> {
    let line = match output {
        Output::Read { read, look, text } => {
            let text = text.map(|text| format!(" of what ask {text} gave"));
            let look = if *look { " after a look" } else { "" };
            format!("READ {}{}{look}", read.0, text.unwrap_or_default())
        }
        Output::Keep(text) => format!("KEEP what ask {text} gave"),
        Output::LookForFiles => "LOOK FOR FILES".to_owned(),
        Output::ForgetFiles => "FORGET FILES".to_owned(),
        Output::CancelRead(read) => format!("CANCEL READ {}", read.0),
        Output::Apply { change, config } => format!("APPLY {config} as change {}", change.0),
        Output::Renew { change, config } => format!("RENEW {config} as change {}", change.0),
        Output::Restart { change, config } => format!("RESTART {config} as change {}", change.0),
        Output::Terminate(urgency) => format!("TERMINATE: {urgency}"),
        Output::Release(epoch) => format!("RELEASE {epoch}"),
        Output::Call { call, what } => format!("CALL {}: {}", call.0, called(*what)),
        Output::WatchClients {
            ask,
            unless_unknown,
        } => {
            let unless = if *unless_unknown {
                ", if they can be seen"
            } else {
                ""
            };
            format!("WATCH CLIENTS for {ask}{unless}")
        }
        Output::Examine {
            examination,
            epoch,
            probes,
        } => {
            let probes = if *probes { " with the probes" } else { "" };
            format!("EXAMINE {}: epoch {epoch}{probes}", examination.0)
        }
        Output::CancelExamine(examination) => format!("CANCEL EXAMINE {}", examination.0),
        Output::Unfit { epoch, evidence } => {
            return std::iter::once(format!("UNFIT {epoch}:"))
                .chain(wrapped(evidence))
                .collect();
        }
        Output::RunHook { hook, call } => {
            let epoch = call.epoch.map(|epoch| format!(" of epoch {epoch}"));
            let reason = call.reason.as_ref().map(|reason| format!(": {reason}"));
            let (epoch, reason) = (epoch.unwrap_or_default(), reason.unwrap_or_default());
            format!("HOOK {}: {}{epoch}{reason}", hook.0, call.moment)
        }
        Output::Look(look) => format!("LOOK {}", look.0),
        Output::Forward(signal) => format!("FORWARD {signal}"),
        Output::Answer { ask, answer } => match answer {
            Ok(reply) => format!("ANSWER {ask}: {}", replied(reply)),
            Err(refusal) => format!("REFUSE {ask}: {}", refused(refusal)),
        },
        Output::Notify(Notification::Status(summary)) => format!("STATUS {summary}"),
        Output::Notify(Notification::MoreTime(time)) => format!("MORE TIME: {time:?}"),
        Output::Notify(notification) => format!("NOTIFY {}", in_capitals(*notification)),
        Output::Event(event) => format!("· {}", told(event)),
        Output::Finish(ending) => format!("FINISH: {}", finished(ending)),
    };
    vec![line]
}

/// A long sentence, in lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().unwrap();
        if !last.is_empty() && last.len() + word.len() > 44 {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.iter().map(|line| format!("  {line}")).collect()
}

fn in_capitals(notification: Notification) -> &'static str {
    match notification {
        Notification::Ready => "READY",
        Notification::Reloading => "RELOADING",
        Notification::Stopping => "STOPPING",
        Notification::Status(_) => "STATUS",
        Notification::Alive => "ALIVE",
        Notification::MoreTime(_) => "MORE TIME",
    }
}

fn called(what: Call) -> &'static str {
    if crate::check::is_drain(what) {
        "drain"
    } else {
        "undrain"
    }
}

fn replied(reply: &Reply<String>) -> String {
    let at = |epoch: &Option<Epoch>| match epoch {
        Some(epoch) => format!("epoch {epoch}"),
        None => "no epoch".to_owned(),
    };
    match reply {
        Reply::Status(overview) => {
            let desired = overview.desired.as_deref().unwrap_or("nothing");
            let problem = overview.problem.as_deref().unwrap_or("no problem");
            let ready = if overview.ready { "ready" } else { "not ready" };
            let probation = overview.probation.map(|probation| {
                let Probation { epoch, until } = probation;
                format!(", {epoch} on probation until {until}")
            });
            let unfit = overview.unfit.as_ref();
            let unfit = unfit.map(|unfit| format!(", {} unfit", unfit.epoch));
            let (probation, unfit) = (probation.unwrap_or_default(), unfit.unwrap_or_default());
            format!("{ready}, wants {desired}, {problem}{probation}{unfit}")
        }
        Reply::Who => "may look".to_owned(),
        Reply::Reloaded {
            progress,
            changed,
            released,
        } => {
            let progress = match progress {
                Progress::Asked => "asked".to_owned(),
                Progress::Unchanged => "unchanged".to_owned(),
                Progress::Live(epoch) => format!("live with {epoch}"),
            };
            let changed = if *changed { "changed" } else { "not changed" };
            let released = released.iter().map(release).collect::<Vec<_>>().join("");
            format!("{progress}, {changed}{released}")
        }
        Reply::Applied {
            epoch,
            started,
            kept,
        } => {
            let started = if *started { "" } else { "unchanged, " };
            let kept = if *kept { "kept" } else { "not kept yet" };
            format!("{started}live with {epoch}, {kept}")
        }
        Reply::Draining(epoch) => format!("draining, {}", at(epoch)),
        Reply::Drained(epoch) => format!("drained, {}", at(epoch)),
        Reply::Undrained(epoch) => format!("undrained, {}", at(epoch)),
        Reply::Reached(epoch) => format!("so it is, with {epoch}"),
        Reply::Ending(urgency) => format!("ending: {urgency}"),
        Reply::Ended(ending) => format!("ended: {}", finished(ending)),
    }
}

fn release(released: &Released) -> String {
    match released.connections {
        Some(connections) => format!(", {} released with {connections}", released.epoch),
        None => format!(", {} released", released.epoch),
    }
}

fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotSupported(report) => format!("not supported: {report}"),
        Refusal::Ending => "everything is ending".to_owned(),
        Refusal::NotRead(report) => format!("not read: {report}"),
        Refusal::GivenUp { epoch, report } => {
            let report = report.as_ref().map(ToString::to_string);
            format!("given up after {epoch}: {}", report.unwrap_or_default())
        }
        Refusal::Replaced => "replaced".to_owned(),
        Refusal::NotRestarted => "ended cleanly".to_owned(),
        Refusal::NotTaken => "taken from files only".to_owned(),
        Refusal::NotKept(report) => format!("live, not kept: {report}"),
        Refusal::Failed(report) => format!("failed: {report}"),
        Refusal::ClientsUnknown(lines) => format!("cannot be seen: {}", lines.join(", ")),
        Refusal::TimedOut { limit, waited_for } => {
            format!("{limit:?} have passed, waited for {waited_for:?}")
        }
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Ending { urgency, by } => {
            let by = match by {
                EndedBy::Signal(signal) => signal.to_string(),
                EndedBy::Ask(ask) => format!("ask {ask}"),
                EndedBy::FirstRead => "the first read".to_owned(),
                EndedBy::Job(JobDone::ProcessEnded(pid)) => format!("the end of process {pid}"),
                EndedBy::Job(JobDone::FileAppeared) => "a file".to_owned(),
                EndedBy::FilesLimit => "the limit of files".to_owned(),
                EndedBy::Panic => "a panic".to_owned(),
            };
            format!("ending by {by}: {urgency}")
        }
        Event::NextIsDue(signal) => format!("the next epoch is due by {signal}"),
        Event::NotRead(failure) => format!("not read: {}", failure.report),
        Event::NotTakenIn(change) => format!("change {} not taken in", change.0),
        Event::Unchanged(change) => format!("change {} is none", change.0),
        Event::Short(what) => format!("too few {what}"),
        Event::TriesAgain(what) => format!("tries again: {what:?}"),
        Event::Called { what, refusal } => match refusal {
            None => format!("{} done", called(*what)),
            Some(refusal) => format!("{} {}", called(*what), refused(refusal)),
        },
        Event::ProbeUnknown { probe, why } => format!("{probe} not tried: {why}"),
        Event::HookFailed { moment, why } => format!("hook {moment} failed: {why}"),
        Event::AwaitsFiles(missing) => format!("awaits: {}", missing.join(", ")),
        Event::FilesAreThere => "the files are there".to_owned(),
        Event::AwaitsConfiguration => "awaits a configuration".to_owned(),
        Event::DrainTooLate => "too late for a drain".to_owned(),
        other => format!("{other:?}"),
    }
}

fn finished(ending: &Ending) -> String {
    let mut words = match &ending.agent {
        Ok(outcome) => outcome.to_string(),
        Err(message) => format!("the agent panicked: {message}"),
    };
    match &ending.fault {
        None => {}
        Some(Fault::NotRead(failure)) => {
            words.push_str(&format!(", not read: {}", failure.report));
        }
        Some(Fault::FilesMissing(missing)) => {
            words.push_str(&format!(", not there: {}", missing.join(", ")));
        }
        Some(Fault::Panic(message)) => words.push_str(&format!(", a panic: {message}")),
    }
    if let Some(signal) = ending.signal {
        words.push_str(&format!(", last signal {signal}"));
    }
    if ending.drain_unwanted {
        words.push_str(", no drain wanted");
    }
    words
}
