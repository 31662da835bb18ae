//! Many changes in a row: how many children they lead to, and how long it takes until one has read the last change.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use crate::clock;
use crate::figures::Unit;
use crate::place::{Change, Layout};
use crate::record::Record;
use crate::subjects::{LIMIT, Running, Subject};

/// The name of the measure.
pub(crate) const NAME: &str = "bursts";

/// Changes in a row, and the pause between two of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    /// Its name in figures.
    pub(crate) name: &'static str,
    changes: [u32; 2],
    repetitions: [u32; 2],
    pause: Duration,
}

/// Those of a full and of a quick run.
pub(crate) const BURSTS: [Burst; 3] = [
    Burst {
        name: "30 at once",
        changes: [30, 30],
        repetitions: [10, 1],
        pause: Duration::ZERO,
    },
    Burst {
        name: "30, each 20 ms after the other",
        changes: [30, 10],
        repetitions: [5, 1],
        pause: Duration::from_millis(20),
    },
    Burst {
        name: "1,000 at once",
        changes: [1_000, 100],
        repetitions: [5, 1],
        pause: Duration::ZERO,
    },
];

/// What is measured.
pub(crate) const CHILDREN: &str = "children";
pub(crate) const CURRENT: &str = "until current";

/// The full name of one of them.
pub(crate) fn what(burst: &Burst, kind: &str) -> String {
    format!("{}: {kind}", burst.name)
}

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    for (index, burst) in BURSTS.iter().enumerate() {
        let ([full, quick], [rounds, few]) = (burst.changes, burst.repetitions);
        let changes = bench.choose(full, quick);
        for round in 0..bench.choose(rounds, few) {
            for subject in [Subject::Handover, Subject::Bare] {
                let name = subject.name();
                let directory = bench.directory.join(format!("{name}-{index}-{round}"));
                match one_burst(bench, subject, directory, changes, burst.pause) {
                    Ok((children, current)) => {
                        record.add(&what(burst, CHILDREN), name, Unit::Count, children);
                        record.add(&what(burst, CURRENT), name, Unit::Milliseconds, current);
                    }
                    Err(error) => {
                        let reason = format!("{error:#}");
                        record.unknown(&what(burst, CHILDREN), name, Unit::Count, &reason);
                        record.unknown(&what(burst, CURRENT), name, Unit::Milliseconds, &reason);
                    }
                }
            }
            record.save()?;
        }
    }
    Ok(())
}

/// How many children there were, and the time from the last change to the child that has read it, in milliseconds.
fn one_burst(
    bench: &Bench,
    subject: Subject,
    directory: std::path::PathBuf,
    changes: u32,
    pause: Duration,
) -> Result<(f64, f64)> {
    let mut running = Running::start(subject, &bench.tools, directory, Layout::Plain)?;
    // A supervisor that has just started may still look at its files for the first time.
    thread::sleep(Duration::from_millis(200));
    let mut last = clock::now();
    let (mut children, mut current) = (0_u32, None);
    for number in 0..changes {
        if number > 0 {
            thread::sleep(pause);
        }
        last = running.place.change(Change::Rename)?;
        // The pipe of the stamps must not become full, or a child's stamp is lost.
        while let Some(stamp) = running.place.stamp_now()? {
            children += 1;
            running.note(stamp);
        }
    }
    let wanted = running.place.version();
    let end = Instant::now() + LIMIT;
    if running.newest().config == wanted {
        current = Some(running.newest().at);
    }
    // Bare loops start children that have read the last change while older changes are still in their queue, so
    // children are counted until no further one comes.
    loop {
        let wait = if current.is_some() {
            Duration::from_millis(500)
        } else {
            LIMIT
        };
        let Ok(stamp) = running.place.stamp(wait) else {
            break;
        };
        children += 1;
        if current.is_none() && stamp.config == wanted {
            current = Some(stamp.at);
        }
        running.note(stamp);
        ensure!(
            Instant::now() < end,
            "children were still started after {LIMIT:?}"
        );
    }
    let Some(current) = current else {
        anyhow::bail!("no child has read the last of {changes} changes in {LIMIT:?}");
    };
    Ok((f64::from(children), clock::milliseconds(last, current)))
}
