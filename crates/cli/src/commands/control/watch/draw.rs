//! What is on the screen. Nothing here waits or asks: a status, its age and a size give the picture.

use std::iter::repeat_n;
use std::time::{Duration, SystemTime};

use handover_supervisor::control::wire::{Epoch, EpochHistory, EpochState, Stage, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};

use super::fit::{FRAME, Heights, SCALE, Wanted, fit, wrapped};
use super::story::{
    self, Tone, age, clock, end_tone, happened, lasted, outcome, stage_name, stage_tone, time,
    verdict,
};
use crate::commands::control::table::{configuration, megabytes, plain, short};

/// How many epochs the time line shows.
const EPOCHS: usize = 8;
/// The columns of the time line beside its bars, and the fewest of the bars.
const NAME: u16 = 9;
const OUTCOME: usize = 30;
const BARS: u16 = 20;

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
    let desired = desired(status);
    let (screen, width) = (frame.area(), frame.area().width);
    let inner = width.saturating_sub(2);
    let begins = begins(status, now);
    let all = story::shown(&status.history, begins, EPOCHS);
    let wanted = Wanted {
        head: lines(&top, width),
        epochs: count(all.len()),
        running: count(status.epochs.len().max(1) + 1),
        desired: lines(&desired, inner),
    };
    let heights = fit(screen.height, wanted);
    let most = heights.line.saturating_sub(FRAME + SCALE);
    let shown = story::shown(&status.history, begins, usize::from(most));
    let rows = line_of_time(status, &shown, begins, now, paint, inner);
    let [foot, head, line, running, wanted, rest] = areas(screen, heights);
    let keys = format!(
        "q ends. As of {} UTC, which all times are.",
        clock(answered, now)
    );
    frame.render_widget(Line::from(keys), foot);
    frame.render_widget(Paragraph::new(top).wrap(Wrap { trim: true }), head);
    frame.render_widget(
        Paragraph::new(rows).block(Block::bordered().title(" Epochs ")),
        line,
    );
    table(frame, running, status, paint);
    let desired = Paragraph::new(desired).wrap(Wrap { trim: true });
    frame.render_widget(desired.block(Block::bordered().title(" Desired ")), wanted);
    let events = happened(status).into_iter().map(|happened| {
        let at = Span::from(clock(happened.at, now) + "  ");
        Line::from_iter([at, Span::styled(happened.text, paint.tone(happened.tone))])
    });
    let events = Paragraph::new(events.collect::<Vec<_>>());
    frame.render_widget(
        events.block(Block::bordered().title(" What has happened ")),
        rest,
    );
}

/// Where each part is: the foot, and the others from above.
fn areas(screen: Rect, heights: Heights) -> [Rect; 6] {
    let parts = [
        heights.head,
        heights.line,
        heights.running,
        heights.desired,
        heights.happened,
    ];
    let [rest, foot] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(heights.foot)]).areas(screen);
    let parts = Layout::vertical(parts.map(Constraint::Length)).flex(Flex::Start);
    let [head, line, running, desired, happened] = parts.areas(rest);
    [foot, head, line, running, desired, happened]
}

fn count(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

/// How many lines these are once they are wrapped.
fn lines(lines: &[Line<'_>], width: u16) -> u16 {
    let wrapped = lines.iter().map(|line| wrapped(line, width));
    wrapped.fold(0, u16::saturating_add)
}

fn top(seen: &Seen, answered: SystemTime, now: SystemTime, paint: Paint) -> Vec<Line<'static>> {
    let status = &seen.status;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    if let Some(why) = &seen.lost {
        let text = format!(
            "No answer since {} UTC: {}. What is shown here is from then.",
            clock(answered, now),
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

/// When the time line begins.
fn begins(status: &Status, now: SystemTime) -> SystemTime {
    let span = story::span(&status.history, now);
    now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A row for each of these epochs, the times, and the key of the signs.
fn line_of_time(
    status: &Status,
    shown: &[&EpochHistory],
    begins: SystemTime,
    now: SystemTime,
    paint: Paint,
    width: u16,
) -> Vec<Line<'static>> {
    let outcomes: Vec<_> = shown.iter().map(|epoch| fate(status, epoch)).collect();
    let longest = outcomes
        .iter()
        .map(|(text, _)| Span::from(text).width() + 1);
    let longest = count(longest.max().unwrap_or(0).max(OUTCOME));
    let room = width.saturating_sub(NAME);
    let columns = room.saturating_sub(longest).max(BARS.min(room));
    let outcome = usize::from(room.saturating_sub(columns).saturating_sub(1));
    let mut lines: Vec<_> = shown
        .iter()
        .zip(outcomes)
        .map(|(epoch, (text, tone))| {
            let mut row = row(epoch, begins, now, usize::from(columns), paint);
            let text = format!(" {}", cut(text, outcome));
            row.push_span(Span::styled(text, paint.tone(tone)));
            row
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::from("none was started yet"));
    }
    let from = clock(begins, now);
    let gap = usize::from(columns).saturating_sub(from.len() + 3);
    let pad = " ".repeat(usize::from(NAME));
    lines.push(Line::from(format!("{pad}{from}{}now", " ".repeat(gap))));
    let key = ": starting  = probation  █ live  ░ draining  - being ended  ! unfit  ✕ failed";
    lines.push(Line::from(key));
    lines
}

/// A text that shows that it has been cut.
fn cut(text: String, width: usize) -> String {
    if Span::from(&text).width() <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// What an epoch is, or how it has ended.
fn fate(status: &Status, epoch: &EpochHistory) -> (String, Tone) {
    let last = match (&epoch.end, epoch.stages.last()) {
        (Some(end), _) => return (outcome(end), end_tone(end)),
        (None, Some(last)) => last.stage,
        (None, None) => return (String::new(), Tone::Plain),
    };
    let mut running = status.epochs.iter().rev();
    let running = running.find(|running| running.epoch == epoch.epoch);
    let clients = running.and_then(|running| running.active_connections);
    let clients = clients.map(|count| format!(", connections: {count}"));
    let text = stage_name(last).to_owned() + &clients.unwrap_or_default();
    (text, stage_tone(last))
}

fn row(
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
    let name = format!(
        "{:<width$}",
        format!("epoch {}", epoch.epoch),
        width = usize::from(NAME)
    );
    let bars = cells
        .into_iter()
        .map(|(sign, tone)| Span::styled(sign.to_string(), paint.tone(tone)));
    Line::from_iter([Span::from(name)].into_iter().chain(bars))
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

/// A column of the table of what runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Epoch,
    State,
    Pid,
    Age,
    Connections,
    Memory,
    Configuration,
}

impl Column {
    /// As they stand beside each other.
    const ALL: [Self; 7] = [
        Self::Epoch,
        Self::State,
        Self::Pid,
        Self::Age,
        Self::Connections,
        Self::Memory,
        Self::Configuration,
    ];
    /// What a narrow screen leaves out first comes last.
    const BY_WEIGHT: [Self; 7] = [
        Self::Epoch,
        Self::State,
        Self::Connections,
        Self::Age,
        Self::Configuration,
        Self::Pid,
        Self::Memory,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::State => "state",
            Self::Pid => "pid",
            Self::Age => "age",
            Self::Connections => "connections",
            Self::Memory => "memory",
            Self::Configuration => "configuration",
        }
    }

    /// The longest that is usual.
    fn width(self) -> u16 {
        match self {
            Self::Epoch => 6,
            Self::Pid => 7,
            Self::Memory => 10,
            Self::State | Self::Age | Self::Connections => 11,
            Self::Configuration => 13,
        }
    }

    /// Those that can be shown whole. A text that is cut would look like another one.
    fn within(width: u16) -> Vec<Self> {
        let mut left = width.saturating_add(1);
        let fits = Self::BY_WEIGHT.into_iter().take_while(|column| {
            let rest = left.checked_sub(column.width() + 1);
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        let fits: Vec<_> = fits.collect();
        let mut all = Self::ALL.to_vec();
        all.retain(|column| fits.contains(column));
        all
    }

    fn cell(self, epoch: &Epoch, paint: Paint) -> Line<'static> {
        let unknown = || "unknown".to_owned();
        let text = match self {
            Self::Epoch => epoch.epoch.to_string(),
            Self::State => {
                let (state, tone) = match epoch.state {
                    EpochState::Starting => ("starting", Tone::Warning),
                    EpochState::Live => ("live", Tone::Good),
                    EpochState::Draining => ("draining", Tone::Plain),
                    EpochState::Aborting => ("being ended", Tone::Plain),
                };
                return Line::styled(state, paint.tone(tone));
            }
            Self::Pid => epoch.pid.map_or_else(unknown, |pid| pid.to_string()),
            Self::Age => lasted(Duration::from_secs(epoch.age_seconds)),
            Self::Connections => {
                let connections = epoch.active_connections;
                connections.map_or_else(unknown, |count| count.to_string())
            }
            Self::Memory => epoch.rss_bytes.map_or_else(unknown, megabytes),
            Self::Configuration => {
                let hash = epoch.config_hash.as_deref();
                hash.map_or_else(unknown, |hash| plain(short(hash)))
            }
        };
        Line::from(text)
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, status: &Status, paint: Paint) {
    let columns = Column::within(area.width.saturating_sub(2));
    let rows = status.epochs.iter().rev().map(|epoch| {
        let cells = columns.iter().map(|column| column.cell(epoch, paint));
        Row::new(cells)
    });
    let widths = columns
        .iter()
        .map(|column| Constraint::Length(column.width()));
    let names = columns.iter().map(|column| column.name());
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
pub(super) mod tests;
