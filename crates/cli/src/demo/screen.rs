//! What is seen while the demonstration runs: a line for each thing that happens and, on a
//! terminal, a line below that moves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::{Epoch, EpochState, Event, Exit, Purpose};
use handover_tokio::Status;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;

use super::report::{EventCounts, grouped};
use super::tally::Tally;
use crate::logging::Writer;

/// How often the moving line is drawn: as fast as a person can read.
const TICK: Duration = Duration::from_millis(100);

/// Goes to the beginning of the line and empties it.
const CLEAR: &str = "\r\x1b[2K";

/// Shows what happens, and keeps count of it.
pub(crate) struct Screen {
    writer: Writer,
    moving: bool,
    started: Instant,
    tally: Arc<Tally>,
    happened: watch::Sender<EventCounts>,
}

impl Screen {
    pub(crate) fn new(writer: Writer, moving: bool, tally: Arc<Tally>) -> Self {
        Self {
            writer,
            moving,
            started: Instant::now(),
            tally,
            happened: watch::Sender::default(),
        }
    }

    /// What has happened so far.
    pub(crate) fn happened(&self) -> watch::Receiver<EventCounts> {
        self.happened.subscribe()
    }

    /// Writes a line with the time.
    pub(crate) fn say(&self, text: &str) {
        let time = self.started.elapsed().as_secs_f64();
        self.print(&format!("{time:6.2} s  {text}\n"));
    }

    /// Writes a text as it is.
    pub(crate) fn print(&self, text: &str) {
        let clear = if self.moving { CLEAR } else { "" };
        self.writer.line(format!("{clear}{text}").into_bytes());
    }

    /// Waits until everything is written, but not for ever.
    pub(crate) fn flush(&self) {
        self.writer.flush(Duration::from_secs(1));
    }

    /// Shows what happens until the agent has ended.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut events: broadcast::Receiver<Event>,
        status: watch::Receiver<Status>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut drains = BTreeSet::new();
        let mut earlier = 0;
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(event) => self.show(&event, &status.borrow(), &mut drains),
                    Err(RecvError::Lagged(missed)) => self.say(&format!("... {missed} events missed")),
                    Err(RecvError::Closed) => return,
                },
                // The handle that is kept elsewhere holds the events open.
                () = closed(&status) => return,
                _ = tick.tick(), if self.moving => {
                    let requests = self.tally.sums().requests;
                    let per_tick = requests.saturating_sub(earlier);
                    earlier = requests;
                    self.draw(&status.borrow(), per_tick);
                }
            }
        }
    }

    fn show(&self, event: &Event, status: &Status, drains: &mut BTreeSet<Epoch>) {
        if let Event::Started {
            epoch,
            purpose: Purpose::Drain,
        } = event
        {
            drains.insert(*epoch);
        }
        if let Event::Exited { epoch, .. } = event
            && drains.remove(epoch)
        {
            // That was no process.
            return;
        }
        if let Some(sentence) = sentence(event, status) {
            self.say(&sentence);
        }
        self.happened.send_modify(|happened| count(happened, event));
    }

    fn draw(&self, status: &Status, requests_per_tick: usize) {
        let epochs = status.epochs.iter().map(|info| {
            let state = match info.state {
                EpochState::Starting => "starts",
                EpochState::Live => "serves",
                EpochState::Draining => "finishes",
                EpochState::Aborting(_) => "is stopped",
            };
            format!("epoch {} {state}", info.epoch)
        });
        let epochs: Vec<String> = epochs.collect();
        let sums = self.tally.sums();
        let ticks_per_second = 1000 / TICK.as_millis().max(1);
        let per_second =
            requests_per_tick.saturating_mul(usize::try_from(ticks_per_second).unwrap_or(1));
        let line = format!(
            "          {} requests, {} lost, {}/s | {}",
            grouped(sums.requests),
            grouped(sums.failed),
            grouped(per_second),
            epochs.join(", ")
        );
        // A line that wraps could not be taken back. It is ASCII, so each byte is a column.
        self.print(line.get(..columns()).unwrap_or(&line));
    }
}

/// How many columns of the terminal a line may fill.
fn columns() -> usize {
    // What does not tell its width is taken for the narrowest in use.
    let width = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(80, |size| size.ws_col);
    usize::from(width).saturating_sub(1)
}

/// Waits until the agent has ended.
async fn closed(status: &watch::Receiver<Status>) {
    let mut status = status.clone();
    while status.changed().await.is_ok() {}
}

fn count(happened: &mut EventCounts, event: &Event) {
    match event {
        Event::Started {
            purpose: Purpose::Desired | Purpose::Fallback,
            ..
        } => happened.started += 1,
        Event::Superseded { .. } => happened.hand_overs += 1,
        Event::Live { .. } => happened.live += 1,
        Event::Exited {
            exit: Exit::Failed(_),
            ..
        } => happened.failed += 1,
        Event::GaveUp { .. } => happened.given_up += 1,
        Event::Started { .. }
        | Event::StoppedServing { .. }
        | Event::WokeLate { .. }
        | Event::StartTimedOut { .. }
        | Event::GivesWay { .. }
        | Event::Exited { .. }
        | Event::RetryScheduled { .. }
        | Event::BudgetRefilled { .. }
        | Event::Restarting
        | Event::Held(_)
        | Event::FallbackLost { .. }
        | Event::NotRestarted { .. }
        | Event::Draining { .. }
        | Event::DrainTimedOut
        | _ => {}
    }
}

fn sentence(event: &Event, status: &Status) -> Option<String> {
    Some(match event {
        Event::Started {
            purpose: Purpose::Drain,
            ..
        }
        | Event::BudgetRefilled { .. } => return None,
        Event::Started { epoch, .. } => format!("epoch {epoch} starts"),
        Event::Live { epoch, after } => {
            format!("epoch {epoch} is live after {} ms", after.as_millis())
        }
        Event::Superseded { epoch, by } => {
            format!("epoch {epoch} finishes what it has, epoch {by} serves")
        }
        Event::StoppedServing { epoch } => format!("epoch {epoch} does not listen any more"),
        Event::WokeLate { .. } => {
            "this process was paused; what happened meanwhile is read first".to_owned()
        }
        Event::GivesWay { epoch, .. } => {
            format!("epoch {epoch} gives way to a newer configuration")
        }
        Event::StartTimedOut { epoch } => format!("epoch {epoch} was not live in time"),
        Event::Exited {
            epoch,
            exit: Exit::Failed(_),
            ..
        } => {
            let failure = status.last_failure.as_ref();
            let reason = failure.filter(|failure| failure.epoch == *epoch);
            let reason =
                reason.map_or_else(String::new, |reason| format!(": {}", reason.message()));
            format!("epoch {epoch} failed{reason}")
        }
        Event::Exited { epoch, .. } => format!("epoch {epoch} has ended"),
        Event::RetryScheduled {
            delay,
            retries_left,
            ..
        } => {
            let delay = delay.as_millis();
            format!("the next try comes in {delay} ms; tries left after it: {retries_left}")
        }
        Event::GaveUp { why, holding, .. } => {
            let then = if *holding {
                "the older epoch serves on"
            } else {
                "nothing serves"
            };
            format!("gave up this configuration: {why}; {then}")
        }
        Event::Draining { .. } => "the end: everything is drained".to_owned(),
        Event::DrainTimedOut => "the drain took too long and is cut".to_owned(),
        Event::Restarting => "a cold restart: everything ends, then begins again".to_owned(),
        Event::Held(held) => format!("the next change waits: {held}"),
        Event::FallbackLost { .. } => "the last good configuration fails too".to_owned(),
        Event::NotRestarted { epoch } => format!("epoch {epoch} ended and is not started again"),
        Event::ProbationPassed { .. } | Event::Unfit { .. } | Event::BeyondCap { .. } | _ => {
            return None;
        }
    })
}
