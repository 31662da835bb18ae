//! Looks again and again at the thread on which the supervisor's loop runs: when the loop was blocked, this tells by what.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::standstill::Span;

/// Between two looks: a pause that matters has ten of them.
const LOOK: Duration = Duration::from_millis(100);

/// What the thread did at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When, counted from the begin of the run.
    pub at: Duration,
    /// The state that the kernel tells: `R` runs or could run, `S` sleeps, `D` waits for a device, `T` is stopped.
    pub state: char,
    /// The place in the kernel where it waits; empty if it does not, or if only root is told.
    pub place: String,
    /// How long it could have run until now and had no processor.
    pub starved: Duration,
    /// For how many of its pages it has waited for a disk until now.
    pub page_faults: u64,
}

/// What the thread did in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// How long it could have run and had no processor.
    pub starved: Duration,
    /// For how many of its pages it has waited for a disk.
    pub page_faults: u64,
    /// How often it was seen in a state, with the place in the kernel.
    pub seen: BTreeMap<String, u64>,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starved = self.starved.as_millis();
        let faults = self.page_faults;
        write!(
            f,
            "it waited {starved} ms for a processor and {faults} times for a page on a disk; seen: "
        )?;
        let seen = self.seen.iter();
        let seen: Vec<_> = seen
            .map(|(what, count)| format!("{count} x {what}"))
            .collect();
        match seen.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&seen.join(", ")),
        }
    }
}

/// Returns what the thread did in a span. The looks are in their order.
#[must_use]
pub fn doing(span: &Span, looks: &[Look]) -> Doing {
    let before = looks.iter().rev().find(|look| look.at <= span.from);
    let within = || {
        let begun = looks.iter().skip_while(|look| look.at <= span.from);
        begun.take_while(|look| look.at <= span.to)
    };
    let after = looks.iter().find(|look| look.at >= span.to);
    let (Some(first), Some(last)) = (
        before.or_else(|| within().next()),
        after.or_else(|| within().last()),
    ) else {
        return Doing::default();
    };
    let mut seen = BTreeMap::new();
    for look in within() {
        let what = format!("{} {}", look.state, look.place);
        *seen.entry(what.trim_end().to_owned()).or_default() += 1;
    }
    Doing {
        starved: last.starved.saturating_sub(first.starved),
        page_faults: last.page_faults.saturating_sub(first.page_faults),
        seen,
    }
}

/// Reads what the kernel tells of a thread.
fn look(at: Duration, stat: &str, schedstat: &str, place: &str) -> Option<Look> {
    // The name of the program may have any character but ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.chars().next()?;
    let page_faults = words.nth(8)?.parse().ok()?;
    let starved = schedstat.split_whitespace().nth(1)?.parse().ok()?;
    Some(Look {
        at,
        state,
        place: place.trim().trim_matches('0').to_owned(),
        starved: Duration::from_nanos(starved),
        page_faults,
    })
}

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct LoopWatch {
    looks: Arc<Mutex<Vec<Look>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LoopWatch {
    /// Looks at the first thread of a process, on which the loop runs.
    pub(crate) fn start(pid: u32, begin: Instant) -> io::Result<Self> {
        let (looks, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (looks_of_thread, is_over_of_thread) = (Arc::clone(&looks), Arc::clone(&is_over));
        let task = PathBuf::from(format!("/proc/{pid}/task/{pid}"));
        let thread = thread::Builder::new()
            .name("loop-watch".to_owned())
            .spawn(move || {
                // What cannot be read is empty: the process has ended, or the kernel does not tell.
                let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
                while !is_over_of_thread.load(Ordering::Relaxed) {
                    let [stat, schedstat, place] = ["stat", "schedstat", "wchan"].map(read);
                    let seen = look(begin.elapsed(), &stat, &schedstat, &place);
                    lock(&looks_of_thread).extend(seen);
                    thread::sleep(LOOK);
                }
            })?;
        Ok(Self {
            looks,
            is_over,
            thread: Some(thread),
        })
    }

    /// Returns what the thread of the loop did in a span.
    pub(crate) fn doing(&self, span: &Span) -> Doing {
        doing(span, &lock(&self.looks))
    }
}

impl Drop for LoopWatch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing that could panic.
            let _ended = thread.join();
        }
    }
}

fn lock(looks: &Mutex<Vec<Look>>) -> MutexGuard<'_, Vec<Look>> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_the_kernel_tells_of_a_thread_is_read() {
        let stat = "7 (a) name) D 1 7 7 0 -1 4194560 4000 0 31 0 5 2 0 0 20 0 9 0 100";
        let read = look(ms(5), stat, "900000000 1500000 77\n", "folio_wait_bit\n").unwrap();
        assert_eq!((read.state, read.page_faults), ('D', 31));
        assert_eq!(
            (read.starved, &*read.place),
            (Duration::from_micros(1_500), "folio_wait_bit")
        );
        assert_eq!(look(ms(5), stat, "1 2 3", "0").unwrap().place, "");
        for (stat, schedstat) in [("", "1 2 3"), (stat, ""), ("7 (a) D", "1 2 3")] {
            assert_eq!(look(ms(5), stat, schedstat, ""), None);
        }
    }

    #[test]
    fn this_thread_is_seen_to_sleep() {
        let watch = LoopWatch::start(std::process::id(), Instant::now()).unwrap();
        let limit = Duration::from_secs(10);
        handover_test_support::limit::eventually(limit, "a look", || {
            (!lock(&watch.looks).is_empty()).then_some(())
        });
        assert!(
            lock(&watch.looks)
                .iter()
                .all(|look| "RSD".contains(look.state))
        );
    }

    #[test]
    fn a_pause_is_told_with_what_the_thread_did_in_it() {
        let looks: Vec<_> = [
            (100, 'S', "do_epoll_wait", 5, 0),
            (200, 'D', "folio_wait_bit", 6, 3),
            (300, 'D', "folio_wait_bit", 7, 20),
            (400, 'R', "", 107, 20),
            (500, 'S', "do_epoll_wait", 107, 20),
        ]
        .map(|(at, state, place, starved, page_faults)| Look {
            at: ms(at),
            state,
            place: place.to_owned(),
            starved: ms(starved),
            page_faults,
        })
        .into();
        let told = |from, to| {
            let span = Span {
                from: ms(from),
                to: ms(to),
            };
            doing(&span, &looks).to_string()
        };
        insta::assert_snapshot!([told(150, 450), told(450, 900), told(0, 90)].join("\n"), @r"
        it waited 102 ms for a processor and 20 times for a page on a disk; seen: 2 x D folio_wait_bit, 1 x R
        it waited 0 ms for a processor and 0 times for a page on a disk; seen: 1 x S do_epoll_wait
        it waited 0 ms for a processor and 0 times for a page on a disk; seen: nothing
        ");
    }
}
