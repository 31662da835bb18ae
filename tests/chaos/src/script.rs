//! The driver of the fakes: it gives each process its faults, and writes down what the process reaches.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use handover_fake_envoy::{Fault, Kind, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::life::Life;
use crate::step::Which;

/// Where a process waits until its step is written down.
const STEPS: [Step; 10] = [
    Step::Start,
    Step::Bound,
    Step::FlagSet,
    Step::Config,
    Step::Admin,
    Step::Listeners,
    Step::Live,
    Step::HandOver,
    Step::Drain,
    Step::End,
];

/// The lives of all processes, as they tell them over a Unix socket.
///
/// A process is held at its start until it has its faults. Its connection ends with it, so that what it
/// has told is all that it has reached.
#[derive(Debug)]
pub(crate) struct Script {
    books: Arc<Mutex<Books>>,
    start: Instant,
}

#[derive(Debug, Default)]
struct Books {
    lives: Vec<Life>,
    /// Stays with one process, whatever becomes of its number. In the order of `lives`.
    handles: Vec<Option<OwnedFd>>,
    /// For the next process that starts.
    armed: Vec<Fault>,
    /// What a process has not understood.
    problems: Vec<String>,
}

impl Script {
    /// Listens at a path.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let start = Instant::now();
        let books = Arc::new(Mutex::new(Books::default()));
        let of_thread = Arc::clone(&books);
        thread::Builder::new()
            .name("script".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    let books = Arc::clone(&of_thread);
                    // A process that gets no thread waits for ever, and the run fails by its limit.
                    let _thread =
                        thread::Builder::new().spawn(move || follow(&stream, &books, start));
                }
            })?;
        Ok(Self { books, start })
    }

    /// Returns the time since the begin of the run.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the moment from which all times count.
    pub(crate) const fn begin(&self) -> Instant {
        self.start
    }

    /// Gives a fault to the next process that starts.
    pub(crate) fn arm(&self, fault: Fault) {
        lock(&self.books).armed.push(fault);
    }

    /// Takes the faults back that no process has got.
    pub(crate) fn disarm(&self) {
        lock(&self.books).armed.clear();
    }

    /// Returns the lives of all processes.
    pub(crate) fn lives(&self) -> Vec<Life> {
        lock(&self.books).lives.clone()
    }

    /// Returns how many processes run.
    pub(crate) fn running(&self) -> usize {
        lock(&self.books)
            .lives
            .iter()
            .filter(|life| life.ended.is_none())
            .count()
    }

    /// Returns whether the end of each process that has ended is written down.
    pub(crate) fn has_heard_all(&self) -> bool {
        let books = lock(&self.books);
        let mut silent = books
            .lives
            .iter()
            .zip(&books.handles)
            .filter(|(life, _)| life.ended.is_none());
        // Without a handle nobody knows.
        silent.all(|(_, handle)| handle.as_ref().is_none_or(runs))
    }

    /// Returns what processes have not understood.
    pub(crate) fn problems(&self) -> Vec<String> {
        lock(&self.books).problems.clone()
    }

    /// Sends a signal to a process. A KILL is written down before. Without a process nothing happens.
    pub(crate) fn signal(&self, which: Which, signal: Signal) {
        let mut books = lock(&self.books);
        let mut running = books
            .lives
            .iter()
            .enumerate()
            .filter(|(_, life)| life.ended.is_none());
        let found = match which {
            Which::Newest => running.next_back(),
            Which::Oldest => running.next(),
        };
        if let Some(index) = found.map(|(index, _)| index) {
            self.signal_at(&mut books, index, signal);
        }
    }

    /// Continues every process.
    pub(crate) fn continue_all(&self) {
        let mut books = lock(&self.books);
        for index in 0..books.lives.len() {
            self.signal_at(&mut books, index, Signal::CONT);
        }
    }

    fn signal_at(&self, books: &mut Books, index: usize, signal: Signal) {
        if let (Some(life), Some(Some(handle))) =
            (books.lives.get_mut(index), books.handles.get(index))
        {
            if signal == Signal::KILL {
                life.killed.get_or_insert(self.start.elapsed());
            }
            // It may have ended by itself at any time.
            let _sent = pidfd_send_signal(handle, signal);
        }
    }
}

/// Writes down what one process tells, until it has ended.
fn follow(stream: &UnixStream, books: &Mutex<Books>, start: Instant) {
    let mut writer = stream;
    let mut lines = BufReader::new(stream).lines();
    let mut index = None;
    while let Some(Ok(line)) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let mut guard = lock(books);
        match (word, index) {
            ("hello", None) => {
                let (place, text) = guard.begin(rest, start.elapsed());
                index = Some(place);
                drop(guard);
                // One that has been killed meanwhile hears nothing.
                let _heard = writer.write_all(text.as_bytes());
            }
            ("paused", Some(index)) => {
                if let (Some(step), Some(life)) = (step_named(rest), guard.lives.get_mut(index)) {
                    life.steps.push((start.elapsed(), step));
                }
                drop(guard);
                let _heard = writer.write_all(b"go\n");
            }
            ("ok", _) => {}
            _ => guard
                .problems
                .push(format!("a process of the fake said {line:?}")),
        }
    }
    let mut guard = lock(books);
    if let Some(life) = index.and_then(|index| guard.lives.get_mut(index)) {
        life.ended = Some(start.elapsed());
    }
}

impl Books {
    /// Adds a life, and returns its place with the lines that the process is sent.
    fn begin(&mut self, hello: &str, at: Duration) -> (usize, String) {
        let number = |name: &str| {
            let mut words = hello.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.parse::<u32>().ok())
        };
        let pid = number("pid=").unwrap_or_default();
        let faults = std::mem::take(&mut self.armed);
        let mut text: String = faults
            .iter()
            .map(|fault| format!("fault {fault}\n"))
            .collect();
        // A process that waits at a step has told of it before anything goes wrong there.
        text.extend(STEPS.map(|step| format!("pause {step}\n")));
        text.push_str("go\n");
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let handle = raw.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        self.handles.push(handle);
        self.lives.push(Life {
            epoch: number("epoch=").unwrap_or_default(),
            pid,
            begun: at,
            faults,
            ..Life::default()
        });
        (self.lives.len() - 1, text)
    }
}

/// Returns whether a process has not ended.
fn runs(process: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    poll(&mut ended, Some(&Timespec::default())).is_ok_and(|count| count == 0)
}

/// Reads the name of a step, in the only place where the fake reads one.
fn step_named(name: &str) -> Option<Step> {
    let fault: Fault = format!("crash@{}", name.trim()).parse().ok()?;
    match fault.kind() {
        Kind::At(step, _) => Some(*step),
        Kind::Always(_) | _ => None,
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_gets_its_faults_and_its_steps_are_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        let script = Script::listen(&path).unwrap();
        script.arm("crash@live".parse().unwrap());
        let stream = UnixStream::connect(&path).unwrap();
        let hello = format!("hello pid={} epoch=3\n", std::process::id());
        (&stream).write_all(hello.as_bytes()).unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let mut hear =
            |count| -> Vec<_> { lines.by_ref().take(count).map(Result::unwrap).collect() };
        let heard = hear(STEPS.len() + 2);
        assert_eq!(heard.first().unwrap(), "fault crash@live");
        assert_eq!(heard.last().unwrap(), "go");
        (&stream).write_all(b"ok\npaused start\n").unwrap();
        assert_eq!(hear(1), ["go"]);
        (&stream).write_all(b"paused live\nerror what\n").unwrap();
        assert_eq!(hear(1), ["go"]);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        let limit = Duration::from_secs(10);
        handover_test_support::limit::eventually(limit, "the end of a life", || {
            (script.running() == 0 && !script.lives().is_empty()).then_some(())
        });
        let lives = script.lives();
        let life = lives.first().unwrap();
        assert_eq!(
            (life.epoch, life.pid, life.faults.len()),
            (3, std::process::id(), 1)
        );
        let steps: Vec<_> = life.steps.iter().map(|(_, step)| *step).collect();
        assert_eq!(steps, [Step::Start, Step::Live]);
        assert_eq!(
            script.problems(),
            ["a process of the fake said \"error what\""]
        );
    }

    #[test]
    fn an_end_is_heard_of_once_the_connection_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        let script = Script::listen(&path).unwrap();
        let mut process = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        let hello = format!("hello pid={} epoch=0\n", process.id());
        (&stream).write_all(hello.as_bytes()).unwrap();
        let limit = Duration::from_secs(10);
        let eventually = |what, is_so: &dyn Fn() -> bool| {
            handover_test_support::limit::eventually(limit, what, || is_so().then_some(()));
        };
        eventually("the begin of a life", &|| script.running() == 1);
        assert!(script.has_heard_all());
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(!script.has_heard_all());
        drop(stream);
        eventually("the end of a life", &|| script.has_heard_all());
        assert_eq!(script.running(), 0);
    }
}
