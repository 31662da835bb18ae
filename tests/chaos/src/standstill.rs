//! Tells a machine that stands still from a supervisor whose loop is blocked while the machine runs.
//!
//! A thread of the chaos sleeps for a short time, again and again, and writes down when it woke late: it has
//! nothing else to do, so only the machine can have kept it. The supervisor logs how late its loop was.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the thread sleeps.
const TICK: Duration = Duration::from_millis(50);

/// By how much it must be late for that to be written down.
const LATE: Duration = Duration::from_millis(50);

/// A pause of the supervisor that needs a reason. The fake waits two seconds for an answer that a real
/// Envoy awaits for ten, so such a pause has no row in the tables.
pub const STANDSTILL: Duration = Duration::from_secs(1);

/// How the supervisor tells of a pause.
const PAUSED: [&str; 2] = [
    "a deadline was missed by ",
    " ms, so this process was paused",
];

/// A span of time, counted from the begin of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
}

impl Span {
    /// Returns its length.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }

    fn overlap(&self, other: &Self) -> Duration {
        let to = self.to.min(other.to);
        to.saturating_sub(self.from.max(other.from))
    }

    fn overlap_with(&self, others: &[Self]) -> Duration {
        others.iter().map(|other| self.overlap(other)).sum()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|at| at.as_millis());
        write!(f, "from {from} ms to {to} ms")
    }
}

/// Why the loop of the supervisor stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was not for long.
    Short,
    /// The chaos has stopped it, or taken its memory.
    Made,
    /// The machine stood still as well.
    Machine,
    /// It was blocked while the machine ran.
    Blocked,
}

/// Returns the pause that a line of the supervisor's log tells, which was written at this time.
#[must_use]
pub fn pause_in(line: &str, at: Duration) -> Option<Span> {
    let (_, rest) = line.split_once(PAUSED[0])?;
    let (millis, _) = rest.split_once(PAUSED[1])?;
    let length = Duration::from_millis(millis.parse().ok()?);
    let from = at.saturating_sub(length);
    Some(Span { from, to: at })
}

/// What a pause of the supervisor was judged to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Its reason.
    pub reason: Reason,
    /// How long it was.
    pub length: Duration,
    /// How much of it the clock of the machine has seen.
    pub seen: Duration,
}

/// Judges a pause of the supervisor by what the machine did meanwhile, and by what was made. Half of the
/// pause must have its reason: a machine under load lets no two threads run at the same moments.
#[must_use]
pub fn judge(pause: &Span, machine: &[Span], made: &[Span]) -> Judgement {
    let length = pause.length();
    let made = pause.overlap_with(made);
    let seen = pause.overlap_with(machine);
    let reason = if length < STANDSTILL {
        Reason::Short
    } else if made * 2 >= length {
        Reason::Made
    } else if (made + seen) * 2 >= length {
        Reason::Machine
    } else {
        Reason::Blocked
    };
    Judgement {
        reason,
        length,
        seen,
    }
}

/// The thread, and what it has written down.
#[derive(Debug)]
pub(crate) struct MachineClock {
    stalls: Arc<Mutex<Vec<Span>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MachineClock {
    /// Starts the thread. Times count from this moment.
    pub(crate) fn start(begin: Instant) -> io::Result<Self> {
        let stalls = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (stalls_of_thread, is_over_of_thread) = (Arc::clone(&stalls), Arc::clone(&is_over));
        let thread = thread::Builder::new()
            .name("machine-clock".to_owned())
            .spawn(move || {
                while !is_over_of_thread.load(Ordering::Relaxed) {
                    let from = begin.elapsed() + TICK;
                    thread::sleep(TICK);
                    let to = begin.elapsed();
                    if to >= from + LATE {
                        lock(&stalls_of_thread).push(Span { from, to });
                    }
                }
            })?;
        Ok(Self {
            stalls,
            is_over,
            thread: Some(thread),
        })
    }

    /// Returns when the machine stood still.
    pub(crate) fn stalls(&self) -> Vec<Span> {
        lock(&self.stalls).clone()
    }
}

impl Drop for MachineClock {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing that could panic.
            let _ended = thread.join();
        }
    }
}

fn lock(stalls: &Mutex<Vec<Span>>) -> MutexGuard<'_, Vec<Span>> {
    stalls.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn span(from: u64, to: u64) -> Span {
        Span {
            from: Duration::from_millis(from),
            to: Duration::from_millis(to),
        }
    }

    #[test]
    fn only_what_the_machine_saw_too_or_the_chaos_has_made_excuses_a_pause() {
        let pause = span(10_000, 12_000);
        let rows: [(&str, Span, &[Span], &[Span]); 8] = [
            ("nothing else stood still", pause, &[], &[]),
            ("a pause of 0.9 s", span(10_000, 10_900), &[], &[]),
            (
                "the machine stood still",
                pause,
                &[span(9_900, 12_100)],
                &[],
            ),
            (
                "the machine stood still in parts",
                pause,
                &[span(10_000, 10_400), span(10_500, 11_200)],
                &[],
            ),
            (
                "the machine was late once",
                pause,
                &[span(10_000, 10_300)],
                &[],
            ),
            (
                "the machine stood still before",
                pause,
                &[span(7_000, 9_990)],
                &[],
            ),
            ("it was stopped", pause, &[], &[span(9_000, 11_900)]),
            (
                "it was stopped, and the machine stood still",
                pause,
                &[span(10_600, 11_200)],
                &[span(10_000, 10_600)],
            ),
        ];
        let told = rows.map(|(what, pause, machine, made)| {
            let judged = judge(&pause, machine, made);
            let [seen, length] = [judged.seen, judged.length].map(|time| time.as_millis());
            format!("{what}: {:?}, {seen} of {length} ms seen", judged.reason)
        });
        insta::assert_snapshot!(told.join("\n"), @r"
        nothing else stood still: Blocked, 0 of 2000 ms seen
        a pause of 0.9 s: Short, 0 of 900 ms seen
        the machine stood still: Machine, 2000 of 2000 ms seen
        the machine stood still in parts: Machine, 1100 of 2000 ms seen
        the machine was late once: Blocked, 300 of 2000 ms seen
        the machine stood still before: Blocked, 0 of 2000 ms seen
        it was stopped: Made, 0 of 2000 ms seen
        it was stopped, and the machine stood still: Machine, 600 of 2000 ms seen
        ");
    }

    #[test]
    fn a_line_of_the_log_tells_when_the_pause_was() {
        let at = Duration::from_millis(5_000);
        let line =
            "WARN a deadline was missed by 1200 ms, so this process was paused; what happened";
        assert_eq!(pause_in(line, at), Some(span(3_800, 5_000)));
        for other in [
            "epoch 1 is live",
            "a deadline was missed by x ms, so this process was paused",
        ] {
            assert_eq!(pause_in(other, at), None);
        }
    }

    #[test]
    fn the_clock_notes_no_standstill_of_a_machine_that_runs() {
        let clock = MachineClock::start(Instant::now()).unwrap();
        thread::sleep(TICK * 4);
        let stalls = clock.stalls();
        // A loaded machine may be late, and then what is noted lies in the time of the test.
        assert!(
            stalls
                .iter()
                .all(|stall| stall.length() >= LATE && stall.from >= TICK)
        );
    }
}
