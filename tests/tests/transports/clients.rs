//! Clients of any transport, which note what goes on and how it ends.
//!
//! A [`Wire`] is a connection or a session. A client of the kind [`Keep`] keeps its wires for as long as it
//! can, and a client of the kind [`Ask`] opens one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use handover_test_support::limit::poll;

/// Between two exchanges of one client.
const PAUSE: Duration = Duration::from_millis(10);

/// How long an exchange may be silent. A busy machine needs a part of it.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// A connection or a session of a client.
pub(crate) trait Wire: Send {
    /// Sends something and waits for its answer, or for the next part of a stream.
    fn exchange(&mut self) -> Result<(), End>;
}

/// Opens a wire. The first exchange has not taken place.
pub(crate) type Open = Arc<dyn Fn() -> io::Result<Box<dyn Wire>> + Send + Sync>;

/// How a wire ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The last answer was complete, and said that the connection ends.
    Announced(&'static str),
    /// The peer closed in order, without an announcement.
    Closed,
    /// The peer reset it.
    Reset,
    /// No answer within [`SILENCE`].
    Silent,
    /// Something else came.
    Other(String),
}

impl From<io::Error> for End {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the kinds of I/O error are an open list"
    )]
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Closed,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced(how) => write!(f, "announced by {how}"),
            Self::Closed => f.write_str("closed"),
            Self::Reset => f.write_str("reset"),
            Self::Silent => f.write_str("silence"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// What a client does with its wires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// Opens so many wires at the start and uses each until it ends.
    Keep(usize),
    /// Uses a wire until its end is announced, and opens the next one then.
    Renew,
    /// Opens a wire for each exchange.
    Each,
}

/// What happened, and when.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Exchanged,
    /// No wire could be opened.
    NotOpened(ErrorKind),
    Ended(End),
}

/// Clients of one transport, each on a thread of its own.
pub(crate) struct Clients {
    pub(crate) name: &'static str,
    habit: Habit,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(name: &'static str, habit: Habit, open: &Open) -> Self {
        let mut clients = Self {
            name,
            habit,
            events: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let count = match habit {
            Habit::Keep(count) => count,
            Habit::Renew | Habit::Each => 2,
        };
        for _ in 0..count {
            let client = Client {
                open: Arc::clone(open),
                events: Arc::clone(&clients.events),
                stop: Arc::clone(&clients.stop),
            };
            clients.threads.push(thread::spawn(move || match habit {
                Habit::Keep(_) => client.keep(),
                Habit::Renew => client.ask(false),
                Habit::Each => client.ask(true),
            }));
        }
        clients
    }

    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Whether each wire is used until its end, and none is opened after it.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self.habit, Habit::Keep(_))
    }

    fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// What was noted last.
    pub(crate) fn last(&self) -> Option<What> {
        lock(&self.events).last().map(|event| event.what.clone())
    }

    /// How many exchanges there were.
    pub(crate) fn exchanged(&self) -> usize {
        let events = self.events();
        let good = events.iter().filter(|event| event.what == What::Exchanged);
        good.count()
    }

    /// How many wires have ended.
    pub(crate) fn ended(&self) -> usize {
        let events = self.events();
        let ended = events
            .iter()
            .filter(|event| !matches!(event.what, What::Exchanged));
        ended.count()
    }

    /// Ends the clients, and returns all that they have noted. One that still waits for an answer that
    /// does not come is left to itself.
    pub(crate) fn stop(mut self) -> Noted {
        self.stop.store(true, Ordering::Relaxed);
        let _all = poll(Duration::from_secs(1), || {
            let mut threads = self.threads.iter();
            threads.all(JoinHandle::is_finished).then_some(())
        });
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            thread.join().expect("a client does not panic");
        }
        Noted {
            name: self.name,
            events: self.events(),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // A failing test does not wait for clients; their wires end with the servers.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(events: &Mutex<Vec<Event>>) -> MutexGuard<'_, Vec<Event>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    open: Open,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn note(&self, what: What) {
        let at = Instant::now();
        lock(&self.events).push(Event { at, what });
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn open(&self) -> Option<Box<dyn Wire>> {
        match (self.open)() {
            Ok(wire) => Some(wire),
            Err(error) => {
                self.note(What::NotOpened(error.kind()));
                None
            }
        }
    }

    fn keep(&self) {
        let Some(mut wire) = self.open() else {
            return;
        };
        while !self.is_stopped() {
            match wire.exchange() {
                Ok(()) => self.note(What::Exchanged),
                Err(end) => return self.note(What::Ended(end)),
            }
            thread::sleep(PAUSE);
        }
    }

    fn ask(&self, each: bool) {
        let mut kept = None;
        while !self.is_stopped() {
            thread::sleep(PAUSE);
            let Some(mut wire) = kept.take().or_else(|| self.open()) else {
                continue;
            };
            match wire.exchange() {
                Ok(()) => {
                    self.note(What::Exchanged);
                    kept = (!each).then_some(wire);
                }
                Err(end) => {
                    if matches!(end, End::Announced(_)) {
                        self.note(What::Exchanged);
                    }
                    self.note(What::Ended(end));
                }
            }
        }
    }
}

/// All that the clients of one transport have noted.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) name: &'static str,
    pub(crate) events: Vec<Event>,
}

impl Noted {
    /// What was noted from one moment to another.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> impl Iterator<Item = &Event> {
        let within = move |event: &&Event| event.at >= from && event.at < to;
        self.events.iter().filter(within)
    }

    /// How many exchanges succeeded in that time.
    pub(crate) fn exchanged(&self, from: Instant, to: Instant) -> usize {
        let events = self.between(from, to);
        events.filter(|event| event.what == What::Exchanged).count()
    }

    /// The longest time between two exchanges.
    pub(crate) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let events = self.between(from, to);
        let good = events.filter(|event| event.what == What::Exchanged);
        let times: Vec<Instant> = good.map(|event| event.at).collect();
        let gaps = times.windows(2).map(|pair| match pair {
            [one, next] => next.saturating_duration_since(*one),
            _ => Duration::ZERO,
        });
        gaps.max().unwrap_or_default()
    }

    /// The ends that were no success and not announced, in words, each with its number.
    pub(crate) fn lost(&self, from: Instant, to: Instant) -> BTreeMap<String, usize> {
        let mut lost = BTreeMap::new();
        for event in self.between(from, to) {
            let text = match &event.what {
                What::Exchanged | What::Ended(End::Announced(_)) => continue,
                What::NotOpened(kind) => format!("not opened: {kind:?}"),
                What::Ended(end) => end.to_string(),
            };
            *lost.entry(text).or_default() += 1;
        }
        lost
    }

    /// The ends of wires in that time.
    pub(crate) fn ends(&self, from: Instant, to: Instant) -> Vec<(Instant, End)> {
        let end = |event: &Event| match &event.what {
            What::Ended(end) => Some((event.at, end.clone())),
            What::Exchanged | What::NotOpened(_) => None,
        };
        self.between(from, to).filter_map(end).collect()
    }
}
