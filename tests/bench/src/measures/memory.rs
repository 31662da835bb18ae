//! How much memory and how many descriptors a supervisor has: at its start, and after many hand-overs.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use crate::figures::Unit;
use crate::place::Layout;
use crate::proc;
use crate::record::Record;
use crate::subjects::{Running, Subject};

/// The name of the measure.
pub(crate) const NAME: &str = "memory";

/// What is measured.
pub(crate) const RSS: &str = "RSS";
pub(crate) const PSS: &str = "PSS";
pub(crate) const DESCRIPTORS: &str = "descriptors";

/// When it is measured: after so many hand-overs of a full and of a quick run.
const MOMENTS: [(&str, [u32; 2]); 3] = [
    (AT_START, [0, 0]),
    (AFTER_50, [50, 5]),
    (AFTER_1000, [1_000, 20]),
];
pub(crate) const AT_START: &str = "at the start";
pub(crate) const AFTER_50: &str = "after 50";
pub(crate) const AFTER_1000: &str = "after 1,000";

/// The full name of a thing at a moment.
pub(crate) fn what(thing: &str, moment: &str) -> String {
    format!("{thing} {moment}")
}

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    for round in 0..bench.choose(3, 1) {
        let mut running = Vec::new();
        for subject in Subject::IN_MEMORY {
            let directory = bench.directory.join(format!("{}-{round}", subject.name()));
            match Running::start(subject, &bench.tools, directory, Layout::Plain) {
                Ok(one) => running.push(one),
                Err(error) => unknown(record, subject, &MOMENTS.map(first), &format!("{error:#}")),
            }
        }
        // What a supervisor does after it has started its child belongs to its start.
        thread::sleep(Duration::from_millis(500));
        for one in &mut running {
            if let Err(error) = of_one(bench, one, record) {
                unknown(
                    record,
                    one.subject,
                    &MOMENTS.map(first),
                    &format!("{error:#}"),
                );
            }
            record.save()?;
        }
    }
    Ok(())
}

fn of_one(bench: &Bench, one: &mut Running, record: &mut Record) -> Result<()> {
    let mut done = 0;
    for (moment, [full, quick]) in MOMENTS {
        let wanted = bench.choose(full, quick);
        if wanted > 0
            && let Some(reason) = one.subject.must_pause()
        {
            unknown(record, one.subject, &[AFTER_50, AFTER_1000], reason);
            return Ok(());
        }
        while done < wanted {
            let number = done + 1;
            let replaced = one.replace().and_then(|_| one.settle());
            replaced.with_context(|| format!("at hand-over {number}"))?;
            done = number;
        }
        let pid = one.process.pid();
        let memory = proc::memory(pid)?;
        let name = one.subject.name();
        record.add(&what(RSS, moment), name, Unit::Bytes, memory.rss);
        record.add(&what(PSS, moment), name, Unit::Bytes, memory.pss);
        let descriptors = proc::descriptors(pid)?;
        record.add(&what(DESCRIPTORS, moment), name, Unit::Count, descriptors);
    }
    Ok(())
}

fn unknown(record: &mut Record, subject: Subject, moments: &[&str], reason: &str) {
    for moment in moments {
        for (thing, unit) in [
            (RSS, Unit::Bytes),
            (PSS, Unit::Bytes),
            (DESCRIPTORS, Unit::Count),
        ] {
            record.unknown(&what(thing, moment), subject.name(), unit, reason);
        }
    }
}

fn first<A, B>(pair: (A, B)) -> A {
    pair.0
}
