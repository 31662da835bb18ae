//! `handover status --watch` on a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::control::Place;
use crate::support::{eventually, exec_server, handover, output_of, replace, stderr};

const RESTORED: &str = "\x1b[?1049l";

/// A command on a terminal of its own.
struct Watched {
    child: Child,
    keyboard: File,
    terminal: OwnedFd,
    before: Termios,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Watched {
    fn start(place: &Place, variables: &[(&str, &str)]) -> Self {
        Self::of(&[&place.flag("web.sock")], variables)
    }

    fn of(words: &[&str], variables: &[(&str, &str)]) -> Self {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = open(&*name, flags, Mode::empty()).unwrap();
        size(&terminal, 100, 40);
        let before = tcgetattr(&terminal).unwrap();
        let ours = handover(["status", "--watch"]);
        // The terminal becomes the one that controls the command, as it is for a person.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(ours.get_program())
            .args(ours.get_args());
        command.args(words).env_remove("HANDOVER_SOCKET");
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.envs(variables.iter().copied());
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, into) = (
            File::from(keyboard.try_clone().unwrap()),
            Arc::clone(&written),
        );
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // At the end of the terminal it fails.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self {
            child,
            keyboard: File::from(keyboard),
            terminal,
            before,
            written,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// What is on the screen: each character is where the cursor was put.
    fn screen(&self) -> String {
        let mut cells = vec![vec![' '; 200]; 100];
        let (mut row, mut column) = (0, 0);
        let text = self.text();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\x1b' => {
                    let mut sequence = String::new();
                    for next in characters.by_ref() {
                        sequence.push(next);
                        if next.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    let sequence = sequence.trim_start_matches('[');
                    if let Some(place) = sequence.strip_suffix('H') {
                        let (y, x) = place.split_once(';').unwrap_or(("1", "1"));
                        let from_one = |text: &str| text.parse::<usize>().unwrap_or(1).max(1) - 1;
                        (row, column) = (from_one(y), from_one(x));
                    } else if sequence.ends_with('J') {
                        cells.iter_mut().for_each(|line| line.fill(' '));
                    }
                }
                '\r' => column = 0,
                '\n' => row += 1,
                other => {
                    if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                        *cell = other;
                    }
                    column += 1;
                }
            }
        }
        let lines = cells
            .into_iter()
            .map(|line| line.into_iter().collect::<String>());
        lines
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    /// Whether any text is in a colour.
    fn has_colours(&self) -> bool {
        let text = self.text();
        let mut sequences = text.split("\x1b[").skip(1);
        sequences.any(|rest| {
            let style = rest.split_once('m');
            let style = style.map_or("", |(style, _)| style);
            let is_style = style.chars().all(|c| c.is_ascii_digit() || c == ';');
            is_style
                && (style.contains("38;5;")
                    || style.starts_with('3') && style.len() == 2 && style != "39")
        })
    }

    fn shows(&self, words: &str) {
        eventually(&format!("{words:?} on the screen"), || {
            self.screen().contains(words).then_some(())
        });
    }

    fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Waits for its end, after which the terminal is as it was.
    fn ends(&mut self, code: i32) {
        let status = eventually("the end of --watch", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{}", self.text());
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        eventually("the old screen and its cursor", || {
            let text = self.text();
            (text.contains(RESTORED) && text.contains("\x1b[?25h")).then_some(())
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn size(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn the_status_is_drawn_as_it_changes_and_the_terminal_is_given_back() {
    let place = Place::new();
    let (server, _) = place.server("web", &[]);
    server.says("epoch 0 is live");
    let mut watched = Watched::start(&place, &[]);
    watched.shows("Ready. Epoch 0 serves what is desired.");
    watched.shows("Epoch 0 has served since ");
    replace(&place.path("server.conf"), "two");
    watched.shows("Ready. Epoch 1 serves what is desired.");
    watched.shows("epoch 0 has ended: handed over");
    assert!(watched.has_colours(), "no colour");
    // A smaller terminal is drawn on at once.
    let before = watched.text().len();
    size(&watched.terminal, 60, 20);
    eventually("a smaller screen", || {
        (watched.text().len() > before).then_some(())
    });
    watched.types(b"q");
    watched.ends(0);
}

#[test]
fn an_instance_that_is_gone_is_told_and_without_colour_there_is_none() {
    let place = Place::new();
    let (mut server, _) = place.server("web", &[]);
    server.says("epoch 0 is live");
    let mut watched = Watched::start(&place, &[("NO_COLOR", "1")]);
    watched.shows("Ready. Epoch 0 serves what is desired.");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
    watched.shows("No answer since ");
    assert!(!watched.has_colours(), "{:?}", watched.text());
    watched.types(b"\x03");
    watched.ends(0);
}

#[test]
fn without_a_terminal_or_an_instance_nothing_is_drawn() {
    let output = output_of(["status", "--watch"]);
    assert_eq!(output.status.code(), Some(64));
    let told = stderr(&output);
    assert!(told.contains("leave --watch out, or use --json"), "{told}");
    let place = Place::new();
    let mut watched = Watched::start(&place, &[]);
    let status = eventually("the end of --watch", || watched.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(69));
    assert!(!watched.text().contains(RESTORED), "{}", watched.text());
}

#[test]
fn a_signal_gives_the_terminal_back_as_well() {
    let place = Place::new();
    let (server, _) = place.server("web", &[]);
    server.says("epoch 0 is live");
    for (signal, code) in [
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::QUIT, 131),
        (Signal::USR1, 138),
        (Signal::USR2, 140),
    ] {
        let mut watched = Watched::start(&place, &[]);
        watched.shows("Ready. Epoch 0 serves what is desired.");
        // `setsid` has become the command, as it leads no group of processes.
        let pid = Pid::from_child(&watched.child);
        kill_process(pid, signal).unwrap();
        watched.ends(code);
    }
}

/// Without a name the only instance is asked. It stays the one that is watched when another one starts.
#[test]
fn another_instance_does_not_disturb_the_one_that_is_watched() {
    let place = Place::new();
    let directory = format!("--lock-dir={}", place.path(".").display());
    let start = |name: &str| {
        let server = exec_server(&[&place.flag(&format!("{name}.sock"))], &[]);
        server.says("epoch 0 is live");
        server
    };
    let _first = start("first");
    let mut watched = Watched::of(&[&directory], &[]);
    watched.shows("Ready. Epoch 0 serves what is desired.");
    let _second = start("second");
    place
        .ask(&["status"])
        .is(69, "several instances are running");
    // At least one answer has come since: the time that it is from is drawn again.
    let as_of = || {
        let screen = watched.screen();
        let (_, rest) = screen.split_once("As of ")?;
        Some(rest.chars().take("10:00:00".len()).collect::<String>())
    };
    for _ in 0..2 {
        let before = eventually("a time", as_of);
        eventually("a newer answer", || as_of().filter(|time| *time != before));
    }
    assert!(
        !watched.screen().contains("No answer since"),
        "{}",
        watched.screen()
    );
    watched.types(b"q");
    watched.ends(0);
}
