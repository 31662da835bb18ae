//! `handover status --watch`: the status on a terminal, as it changes.
//!
//! `story` makes the lines from a status, `fit` shares the screen out, `draw` puts the lines there, and this file asks,
//! listens to the keys, and gives the terminal back as it was.

mod draw;
mod fit;
mod story;

use std::future::poll_fn;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use handover_process::Signal;
use handover_supervisor::control::Client;
use handover_supervisor::control::wire::{self, Status};
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{decoded, done, socket_of, unanswered};
use crate::cli::control::TargetArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use draw::{Paint, Seen, draw};

/// How often the instance is asked, and the ages are drawn again.
const TICK: Duration = Duration::from_secs(1);
/// How often the thread that reads the keys looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(250);
/// Without an answer for so long, what is shown is called old.
const OLD: Duration = Duration::from_secs(5);

/// Shows the status until a key or a signal ends it.
pub(super) async fn watch(target: &TargetArgs) -> Result<ExitCode, Fatal> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Fatal::usage(
            "--watch draws on a terminal, and standard input or output is none: leave --watch out, or use --json",
        ));
    }
    // An instance that cannot be asked is an error before anything is drawn. A second instance, which starts while
    // this one is watched, does not make it ambiguous.
    let socket = socket_of(target)?;
    let first = ask(&socket).await?;
    let mut ends = Ends::listen();
    let mut answers = answers(socket);
    let mut keys = keys();
    let mut screen = Screen::open().or_exit(ExitCode::OS)?;
    let paint = Paint {
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let mut seen = Seen {
        status: first,
        age: Duration::ZERO,
        lost: None,
    };
    let (mut since, mut tick) = (Instant::now(), interval(TICK));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seen.age = since.elapsed();
        if seen.age > OLD && seen.lost.is_none() {
            seen.lost = Some("it does not answer".to_owned());
        }
        let drawn = screen.0.draw(|frame| draw(frame, &seen, paint));
        drawn.or_exit(ExitCode::OS)?;
        tokio::select! {
            key = keys.recv() => match key {
                // The thread that reads the keys ends only after an error.
                Some(Ok(Key::End)) | None => return Ok(ExitCode::CLEAN),
                Some(Ok(Key::Redraw)) => {}
                Some(Err(error)) => return Err(Fatal::new(ExitCode::OS, error)),
            },
            Some(answer) = answers.recv() => match answer {
                Ok(status) => {
                    (seen.status, seen.lost) = (status, None);
                    since = Instant::now();
                }
                Err(why) => seen.lost = Some(why),
            },
            end = ends.next() => return Ok(ExitCode::of_signal(end)),
            _ = tick.tick() => {}
        }
    }
}

/// The signals that end a process unless it handles them. The terminal is given back first.
struct Ends(Vec<(tokio::signal::unix::Signal, Signal)>);

impl Ends {
    fn listen() -> Self {
        let ends = [
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::quit(), Signal::QUIT),
            (SignalKind::user_defined1(), Signal::USR1),
            (SignalKind::user_defined2(), Signal::USR2),
        ];
        // Without a handler, a signal ends the process as ever.
        let handled = ends.map(|(kind, end)| signal(kind).ok().map(|signal| (signal, end)));
        Self(handled.into_iter().flatten().collect())
    }

    /// Waits for one of them. Cancel safe: none is lost.
    async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, end) in &mut self.0 {
                if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return Poll::Ready(*end);
                }
            }
            Poll::Pending
        })
        .await
    }
}

async fn ask(socket: &Path) -> Result<Status, Fatal> {
    let answer = Client::new(socket).get(wire::STATUS).await;
    decoded(&done(answer.map_err(unanswered)?)?)
}

/// Asks again and again, for as long as somebody listens. An instance that has ended may come back.
fn answers(socket: PathBuf) -> mpsc::Receiver<Result<Status, String>> {
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            sleep(TICK).await;
            let answer = ask(&socket).await.map_err(|error| error.to_string());
            if sender.send(answer).await.is_err() {
                return;
            }
        }
    });
    answers
}

/// What a key, or another event of the terminal, asks for.
enum Key {
    End,
    Redraw,
}

/// Reads the keys in a thread of its own, as that blocks.
fn keys() -> mpsc::Receiver<io::Result<Key>> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = match event::poll(LOOK) {
                Ok(false) => continue,
                Ok(true) => event::read().map(|event| key(&event)),
                Err(error) => Err(error),
            };
            let is_last = read.is_err();
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    keys
}

fn key(event: &Event) -> Key {
    let Some(key) = event.as_key_event() else {
        return Key::Redraw;
    };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    let is_pressed = key.kind == KeyEventKind::Press;
    let interrupts = is_control && key.code == KeyCode::Char('c');
    let quits = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    match is_pressed && (interrupts || quits) {
        true => Key::End,
        false => Key::Redraw,
    }
}

/// The terminal while it is drawn on. When it is dropped, the terminal is as it was; so it is after a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_| give_back())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone need not be given back. What can be given back is, whatever else fails.
    let _gone = disable_raw_mode();
    let _gone = execute!(io::stdout(), LeaveAlternateScreen, Show);
}
