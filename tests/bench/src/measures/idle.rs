//! What a supervisor does while nothing happens.

use std::thread;

use anyhow::{Result, ensure};

use super::Bench;
use super::envoys::{self, Supervised};
use crate::figures::Unit;
use crate::place::Layout;
use crate::proc::{self, Activity};
use crate::record::Record;
use crate::started::Started;
use crate::subjects::{Running, SETTLED, Subject};

/// The name of the measure.
pub(crate) const NAME: &str = "idle";

/// What is measured, both over the whole time.
pub(crate) const WAKEUPS: &str = "wakeups";
pub(crate) const PROCESSOR: &str = "processor time";

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let mut running = Vec::new();
    for subject in Subject::ALL {
        let directory = bench.directory.join(subject.name());
        match Running::start(subject, &bench.tools, directory, Layout::Plain) {
            Ok(one) => running.push(one),
            Err(error) => unknown(record, subject.name(), &format!("{error:#}")),
        }
    }
    let supervised = Supervised::start(bench, "idle");
    if let Err(error) = &supervised {
        unknown(record, envoys::HANDOVER, &format!("{error:#}"));
    }
    // Its health is asked for often in the first seconds, and what it does after that goes on forever.
    thread::sleep(if bench.quick {
        SETTLED
    } else {
        envoys::PROBATION
    });

    let subjects = running.iter().map(|one| (one.subject.name(), &one.process));
    let with_envoy = supervised.as_ref().ok();
    let subjects = subjects.chain(with_envoy.map(|one| (envoys::HANDOVER, &one.process)));
    let before: Vec<_> = subjects
        .map(|(name, process)| (name, process, proc::activity(process.pid())))
        .collect();
    thread::sleep(bench.time(30_000, 1_000));
    for (name, process, before) in before {
        match before.and_then(|before| since(process, before)) {
            Ok(activity) => {
                record.add(WAKEUPS, name, Unit::Count, activity.waits);
                let microseconds = activity.on_processor / 1_000.0;
                record.add(PROCESSOR, name, Unit::Microseconds, microseconds);
            }
            Err(error) => unknown(record, name, &format!("{error:#}")),
        }
    }
    record.save()
}

fn since(process: &Started, before: Activity) -> Result<Activity> {
    ensure!(!process.has_ended(), "it has ended{}", process.last_words());
    let after = proc::activity(process.pid())?;
    // A thread that has ended meanwhile takes its counts with it.
    ensure!(
        after.waits >= before.waits && after.on_processor >= before.on_processor,
        "one of its threads has ended meanwhile, so what it did is not known"
    );
    Ok(Activity {
        waits: after.waits - before.waits,
        on_processor: after.on_processor - before.on_processor,
    })
}

fn unknown(record: &mut Record, name: &str, reason: &str) {
    record.unknown(WAKEUPS, name, Unit::Count, reason);
    record.unknown(PROCESSOR, name, Unit::Microseconds, reason);
}
