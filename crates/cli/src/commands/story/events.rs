//! `handover events`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use handover_supervisor::control::wire::{self, Code, Event, Events, EventsRequest};
use handover_supervisor::control::{Answered, Client};
use handover_supervisor::events::{Entry, KeptEvents};
use handover_supervisor::recorder::Note;
use serde_json::json;

use super::{Instance, instance, unavailable};
use crate::cli::story::EventsArgs;
use crate::commands::control::{decoded, plain, refused, unanswered};
use crate::commands::print;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

/// How long one answer is waited for with --follow. Then the next one is asked for.
const WAIT: Duration = Duration::from_secs(30);

pub(crate) async fn events(args: &EventsArgs) -> Result<ExitCode, Fatal> {
    let page = Page { json: args.json };
    // A directory that is named may be of another instance than the one that runs.
    let (socket, state_dir) = match (&args.state_dir.state_dir, args.follow) {
        (Some(dir), false) => (None, Some(dir.clone())),
        (Some(_) | None, _) => {
            let Instance { socket, state_dir } = instance(&args.target, &args.state_dir).await?;
            (Some(socket), state_dir)
        }
    };
    let mut followed = Followed::default();
    let mut held = Vec::new();
    if let Some(socket) = &socket {
        // Before what is kept is read, so that nothing is in neither.
        while held.len() < MOST {
            let answer = followed.ask(socket, Duration::ZERO).await?;
            let is_all = answer.events.is_empty();
            held.extend(answer.events);
            if is_all {
                break;
            }
        }
    }
    if let Some(dir) = &state_dir {
        page.print_kept(dir, socket.is_some(), &held)?;
    }
    for event in &held {
        page.print_event(event)?;
    }
    match socket {
        Some(socket) if args.follow => follow(&page, &socket, state_dir.as_deref(), followed).await,
        Some(_) | None => Ok(ExitCode::CLEAN),
    }
}

/// No instance holds more events. One that makes them faster than they are read is no reason to go on for ever.
const MOST: usize = 4096;

/// Prints what happens until the instance ends.
async fn follow(
    page: &Page,
    socket: &Path,
    state_dir: Option<&Path>,
    mut followed: Followed,
) -> Result<ExitCode, Fatal> {
    loop {
        let answer = match followed.ask(socket, WAIT).await {
            Ok(answer) => answer,
            // It went between two questions.
            Err(_) if followed.is_ending => {
                if let Some(dir) = state_dir {
                    page.print_rest(dir, followed.last.as_deref())?;
                }
                return Ok(ExitCode::CLEAN);
            }
            Err(why) => return Err(why),
        };
        match answer.missed {
            Some(0) => {}
            Some(missed) => page.print_missed(missed)?,
            // What listens there is another run, of which everything is news.
            None => page.print_other_run()?,
        }
        for event in &answer.events {
            page.print_event(event)?;
        }
        if answer.ended {
            return Ok(ExitCode::CLEAN);
        }
    }
}

/// How far the events of an instance were read.
#[derive(Default)]
struct Followed {
    last: Option<String>,
    /// Whether the instance was ending at the last event that told of it.
    is_ending: bool,
}

impl Followed {
    async fn ask(&mut self, socket: &Path, wait: Duration) -> Result<Events, Fatal> {
        let request = EventsRequest {
            after: self.last.clone(),
            wait: !wait.is_zero(),
            timeout_ms: (!wait.is_zero())
                .then(|| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        let answered = Client::new(socket).post(wire::EVENTS, &request, wait).await;
        let answer: Events = match answered.map_err(unanswered)? {
            Answered::Done(answer) => decoded(&answer)?,
            Answered::Refused(refusal) if refusal.code == Code::NotFound => {
                return Err(unavailable(format!(
                    "the instance at {} is an older handover, which keeps no events",
                    socket.display()
                )));
            }
            Answered::Refused(refusal) => return Err(refused(&refusal)),
        };
        for event in &answer.events {
            self.last = Some(event.id.clone());
            if let Some(health) = &event.health {
                self.is_ending = health == "TERMINATING";
            }
        }
        Ok(answer)
    }
}

/// How events are printed.
struct Page {
    json: bool,
}

impl Page {
    fn print_event(&self, event: &Event) -> Result<(), Fatal> {
        if self.json {
            return print(serde_json::to_string(event).unwrap_or_default());
        }
        let Event {
            at,
            event: word,
            text,
            ..
        } = event;
        let health = event.health.as_deref().unwrap_or_default();
        let gap = if health.is_empty() { "" } else { ": " };
        let line = format!("{at}  {word:<16}  {health}{gap}{text}");
        print(plain(line.trim_end()))?;
        match &event.detail {
            Some(detail) => print(format_args!("    {}", plain(detail))),
            None => Ok(()),
        }
    }

    /// Prints what is kept in a state directory, but for what an instance has told already.
    fn print_kept(&self, dir: &Path, runs: bool, told: &[Event]) -> Result<(), Fatal> {
        let kept = KeptEvents::read(dir);
        if kept.entries.is_empty() && kept.problems.is_empty() && !runs {
            return Err(unavailable(format!(
                "no events are kept in {}: `run` and `exec` keep them with --state-dir, unless --record is no",
                dir.display()
            )));
        }
        for problem in &kept.problems {
            // Not among the objects that a program reads.
            match self.json {
                true => print(json!({ "problem": problem }))?,
                false => print(format_args!("not read: {}", plain(problem)))?,
            }
        }
        let mut known = BTreeSet::new();
        known.extend(told.iter().map(|event| event.id.as_str()));
        for entry in &kept.entries {
            match entry {
                Entry::Event(event) if known.contains(event.id.as_str()) => {}
                Entry::Event(event) => self.print_event(event)?,
                Entry::Note(note) => self.print_note(note)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Prints what follows an event in a state directory.
    fn print_rest(&self, dir: &Path, last: Option<&str>) -> Result<(), Fatal> {
        let kept = KeptEvents::read(dir);
        let mut entries = kept.entries.iter();
        let is_last =
            |entry: &Entry| matches!(entry, Entry::Event(event) if Some(event.id.as_str()) == last);
        if !entries.any(is_last) {
            return Ok(());
        }
        for entry in entries {
            match entry {
                Entry::Event(event) => self.print_event(event)?,
                Entry::Note(note) => self.print_note(note)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn print_note(&self, note: &Note) -> Result<(), Fatal> {
        if self.json {
            return match note {
                Note::Begin(begin) => print(
                    json!({ "begin": { "at": begin.at, "pid": begin.pid, "continues": begin.continues } }),
                ),
                note @ (Note::Dropped(_) | Note::End { .. } | _) => {
                    print(serde_json::to_string(note).unwrap_or_default())
                }
            };
        }
        match note {
            Note::Begin(begin) if begin.continues => Ok(()),
            Note::Begin(begin) => print(plain(&format!(
                "{}  -- handover starts, as process {}",
                begin.at, begin.pid
            ))),
            Note::End { at } => print(plain(&format!("{at}  -- handover has ended"))),
            Note::Dropped(number) => print(format_args!("-- {number} events could not be kept")),
            _ => Ok(()),
        }
    }

    fn print_missed(&self, missed: u64) -> Result<(), Fatal> {
        match self.json {
            true => print(json!({ "missed": missed })),
            false => print(format_args!(
                "-- {missed} events came faster than they were read"
            )),
        }
    }

    fn print_other_run(&self) -> Result<(), Fatal> {
        match self.json {
            true => print(json!({ "missed": null })),
            false => print("-- handover was started again"),
        }
    }
}
