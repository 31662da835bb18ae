//! What is on the screen. Nothing here waits or asks: a status, its age and a size give the picture.

use std::iter::repeat_n;
use std::time::{Duration, SystemTime};

use handover_supervisor::control::wire::{EpochHistory, EpochState, Stage, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};

use super::story::{
    self, Tone, age, clock, end_tone, happened, lasted, outcome, stage_name, stage_tone, time,
    verdict,
};
use crate::commands::control::table::{configuration, megabytes, plain, short};

/// How many epochs the time line shows.
const EPOCHS: usize = 8;
/// The columns of the time line beside its bars.
const NAME: u16 = 9;
const OUTCOME: u16 = 30;

/// What was seen of an instance.
pub(super) struct Seen {
    pub(super) status: Status,
    /// How old the status is.
    pub(super) age: Duration,
    /// Why there is no newer one, if the instance could not be asked.
    pub(super) lost: Option<String>,
}

/// How it is painted.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    fn tone(self, tone: Tone) -> Style {
        let color = match tone {
            Tone::Good => Color::Green,
            Tone::Warning => Color::Yellow,
            Tone::Bad => Color::Red,
            Tone::Plain => return Style::new(),
        };
        if self.colour {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, seen: &Seen, paint: Paint) {
    let status = &seen.status;
    let answered = time(&status.at).unwrap_or(SystemTime::UNIX_EPOCH);
    let now = answered.checked_add(seen.age).unwrap_or(answered);
    let top = top(seen, answered, now, paint);
    let rows = line_of_time(status, now, paint, frame.area().width.saturating_sub(2));
    let desired = desired(status);
    let [head, line, running, wanted, rest, foot] = Layout::vertical([
        Constraint::Length(height(&top, frame.area().width)),
        Constraint::Length(bordered(rows.len())),
        Constraint::Length(bordered(status.epochs.len().max(1) + 1)),
        Constraint::Length(bordered(desired.len())),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(top).wrap(Wrap { trim: true }), head);
    frame.render_widget(
        Paragraph::new(rows).block(Block::bordered().title(" Epochs ")),
        line,
    );
    table(frame, running, status, paint);
    frame.render_widget(
        Paragraph::new(desired).block(Block::bordered().title(" Desired ")),
        wanted,
    );
    let events = happened(status).into_iter().map(|happened| {
        let at = Span::from(clock(happened.at) + "  ");
        Line::from_iter([at, Span::styled(happened.text, paint.tone(happened.tone))])
    });
    let events = Paragraph::new(events.collect::<Vec<_>>());
    frame.render_widget(
        events.block(Block::bordered().title(" What has happened ")),
        rest,
    );
    let keys = format!(
        "q ends. As of {} UTC, which all times are.",
        clock(answered)
    );
    frame.render_widget(Line::from(keys), foot);
}

fn bordered(lines: usize) -> u16 {
    u16::try_from(lines.saturating_add(2)).unwrap_or(u16::MAX)
}

/// How high these lines are once they are wrapped. Words may make it one more.
fn height(lines: &[Line<'_>], width: u16) -> u16 {
    let width = usize::from(width).max(1);
    let heights = lines.iter().map(|line| {
        let (full, is_long) = (line.width().div_ceil(width).max(1), line.width() > width);
        full.saturating_add(usize::from(is_long))
    });
    u16::try_from(heights.sum::<usize>()).unwrap_or(u16::MAX)
}

fn top(seen: &Seen, answered: SystemTime, now: SystemTime, paint: Paint) -> Vec<Line<'static>> {
    let status = &seen.status;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    if let Some(why) = &seen.lost {
        let text = format!(
            "No answer since {} UTC: {}. What is shown here is from then.",
            clock(answered),
            plain(why)
        );
        let style = paint.tone(Tone::Bad).add_modifier(Modifier::REVERSED);
        lines.push(Line::styled(text, style));
    }
    let counters = &status.counters;
    let base_id = status.base_id.map(|id| format!(", base id {id}"));
    lines.push(Line::from_iter([
        Span::styled(plain(&status.name), bold),
        Span::from(format!(
            "  pid {}{}, up {}, handover {}, {} handed over, {} failed, {} retried",
            status.pid,
            base_id.unwrap_or_default(),
            lasted(Duration::from_secs(status.uptime_seconds)),
            plain(&status.version),
            counters.hand_overs,
            counters.failed,
            counters.retries,
        )),
    ]));
    let verdict = verdict(status, now);
    lines.push(Line::default());
    lines.push(Line::from_iter([
        Span::styled(verdict.word, paint.tone(verdict.tone).patch(bold)),
        Span::styled(format!(" {}", verdict.sentence), bold),
    ]));
    lines.extend(verdict.lines.into_iter().map(Line::from));
    lines.push(Line::default());
    lines
}

/// A row for each epoch, the times, and the key of the signs.
fn line_of_time(status: &Status, now: SystemTime, paint: Paint, width: u16) -> Vec<Line<'static>> {
    let columns = width.saturating_sub(NAME + OUTCOME).max(10);
    let span = story::span(&status.history, now);
    let begins = now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH);
    let is_within = |epoch: &&EpochHistory| {
        let end = epoch.end.as_ref().and_then(|end| time(&end.at));
        end.is_none_or(|end| end >= begins)
    };
    let within: Vec<_> = status.history.iter().filter(is_within).collect();
    let hidden = within.len().saturating_sub(EPOCHS);
    let shown = within.into_iter().skip(hidden);
    let mut lines: Vec<_> = shown
        .map(|epoch| row(status, epoch, begins, now, usize::from(columns), paint))
        .collect();
    if lines.is_empty() {
        lines.push(Line::from("none was started yet"));
    }
    let from = clock(begins);
    let gap = usize::from(columns).saturating_sub(from.len() + 3);
    let pad = " ".repeat(usize::from(NAME));
    lines.push(Line::from(format!("{pad}{from}{}now", " ".repeat(gap))));
    let key = ": starting  = probation  █ live  ░ draining  - being ended  ! unfit  ✕ failed";
    lines.push(Line::from(key));
    lines
}

fn row(
    status: &Status,
    epoch: &EpochHistory,
    begins: SystemTime,
    now: SystemTime,
    columns: usize,
    paint: Paint,
) -> Line<'static> {
    let whole = age(now, begins).as_secs_f64().max(f64::MIN_POSITIVE);
    let column = |at: SystemTime| {
        let share = age(at, begins).as_secs_f64() / whole;
        let all = u32::try_from(columns).unwrap_or(u32::MAX);
        let at = (share.clamp(0.0, 1.0) * f64::from(all)).floor();
        // It is whole, and between 0 and the number of columns.
        (0..columns)
            .take_while(|column| f64::from(u32::try_from(*column).unwrap_or(u32::MAX)) < at)
            .count()
    };
    let mut cells: Vec<(char, Tone)> = repeat_n((' ', Tone::Plain), columns).collect();
    let end = epoch.end.as_ref().and_then(|end| time(&end.at));
    let ends = epoch.stages.iter().skip(1).map(|since| time(&since.at));
    let ends = ends.chain([end]).map(|end| end.unwrap_or(now));
    for (since, end) in epoch.stages.iter().zip(ends) {
        let begin = time(&since.at).unwrap_or(begins);
        if end < begins {
            continue;
        }
        // What is shorter than a column is seen as well.
        let first = column(begin).min(columns.saturating_sub(1));
        let count = column(end).saturating_sub(first).max(1);
        let stage = (sign(since.stage), stage_tone(since.stage));
        cells
            .iter_mut()
            .skip(first)
            .take(count)
            .for_each(|cell| *cell = stage);
    }
    if let Some((end, at)) = epoch.end.as_ref().zip(end)
        && story::is_failure(end.result)
        && let Some(cell) = cells.get_mut(column(at).min(columns.saturating_sub(1)))
    {
        *cell = ('✕', Tone::Bad);
    }
    let (outcome, tone) = match (&epoch.end, epoch.stages.last()) {
        (Some(end), _) => (outcome(end), end_tone(end)),
        (None, Some(last)) => {
            let clients = status
                .epochs
                .iter()
                .rfind(|running| running.epoch == epoch.epoch);
            let clients = clients.and_then(|running| running.active_connections);
            let clients = clients.map(|count| format!(", connections: {count}"));
            let text = stage_name(last.stage).to_owned() + &clients.unwrap_or_default();
            (text, stage_tone(last.stage))
        }
        (None, None) => (String::new(), Tone::Plain),
    };
    let name = format!(
        "{:<width$}",
        format!("epoch {}", epoch.epoch),
        width = usize::from(NAME)
    );
    let bars = cells
        .into_iter()
        .map(|(sign, tone)| Span::styled(sign.to_string(), paint.tone(tone)));
    let outcome = Span::styled(format!(" {outcome}"), paint.tone(tone));
    Line::from_iter([Span::from(name)].into_iter().chain(bars).chain([outcome]))
}

/// Each stage has a sign, so that it is seen without colours.
fn sign(stage: Stage) -> char {
    match stage {
        Stage::Starting => ':',
        Stage::Probation => '=',
        Stage::Live => '█',
        Stage::Unfit => '!',
        Stage::Draining => '░',
        Stage::Aborting => '-',
        Stage::Other => '?',
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, status: &Status, paint: Paint) {
    let unknown = || "unknown".to_owned();
    let rows = status.epochs.iter().rev().map(|epoch| {
        let (state, tone) = match epoch.state {
            EpochState::Starting => ("starting", Tone::Warning),
            EpochState::Live => ("live", Tone::Good),
            EpochState::Draining => ("draining", Tone::Plain),
            EpochState::Aborting => ("being ended", Tone::Plain),
        };
        Row::new([
            Line::from(epoch.epoch.to_string()),
            Line::styled(state, paint.tone(tone)),
            Line::from(epoch.pid.map_or_else(unknown, |pid| pid.to_string())),
            Line::from(lasted(Duration::from_secs(epoch.age_seconds))),
            Line::from(
                epoch
                    .active_connections
                    .map_or_else(unknown, |count| count.to_string()),
            ),
            Line::from(epoch.rss_bytes.map_or_else(unknown, megabytes)),
            Line::from(
                epoch
                    .config_hash
                    .as_deref()
                    .map_or_else(unknown, |hash| plain(short(hash))),
            ),
        ])
    });
    let widths = [6, 12, 9, 13, 12, 10, 14].map(Constraint::Length);
    let names = [
        "epoch",
        "state",
        "pid",
        "age",
        "connections",
        "memory",
        "configuration",
    ];
    let table = Table::new(rows, widths).header(Row::new(names));
    frame.render_widget(table.block(Block::bordered().title(" Running ")), area);
}

fn desired(status: &Status) -> Vec<Line<'static>> {
    let mut lines = vec![format!(
        "configuration  {}",
        plain(&configuration(&status.desired))
    )];
    lines.push(match &status.current {
        Some(current) if *current == status.desired => "serves         the same".to_owned(),
        Some(current) => format!("serves         {}", plain(&configuration(current))),
        None => "serves         nothing".to_owned(),
    });
    if let Some(left) = status.retries_left {
        lines.push(format!("retries left   {left}"));
    }
    if let Some(probation) = &status.probation {
        let (epoch, left) = (probation.epoch, probation.seconds_left);
        lines.push(format!("probation      epoch {epoch}, {left} s left"));
    }
    lines.into_iter().map(Line::from).collect()
}

#[cfg(test)]
mod tests;
