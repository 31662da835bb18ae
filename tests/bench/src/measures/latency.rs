//! How long it takes from a cause to the child's first instruction: the start of the supervisor, a signal, a changed
//! file, the death of a child.
//!
//! In each round every supervisor is measured once for each cause, in an order that changes from round to round, so
//! that a busy moment of the machine does not hit the same one each time.

use std::thread;

use anyhow::Result;

use super::Bench;
use crate::figures::Unit;
use crate::place::{Change, Layout};
use crate::record::Record;
use crate::subjects::{Running, SETTLED, Subject};

/// What is measured.
pub(crate) const START: &str = "start";
pub(crate) const HUP: &str = "HUP";
pub(crate) const RENAME: &str = "rename";
pub(crate) const IN_PLACE: &str = "in-place write";
pub(crate) const SWAP: &str = "ConfigMap swap";
pub(crate) const KILL: &str = "kill -9";

/// Why a supervisor has no time for a changed file.
const WATCHES_NOTHING: &str = "it watches no files";

/// The name of the measure.
pub(crate) const NAME: &str = "latency";

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let rounds = bench.choose(20, 1);
    for round in 0..rounds {
        one_round(bench, record, round);
        record.save()?;
    }
    Ok(())
}

fn one_round(bench: &Bench, record: &mut Record, round: u32) {
    let unit = Unit::Milliseconds;
    let mut order = Subject::ALL;
    let turn = usize::try_from(round).unwrap_or_default() % order.len();
    order.rotate_left(turn);

    let mut running = Vec::new();
    for subject in order {
        let directory = bench.directory.join(format!("{}-{round}", subject.name()));
        match Running::start(subject, &bench.tools, directory, Layout::Plain) {
            Ok(one) => {
                record.add(START, subject.name(), unit, one.start_time());
                running.push(one);
            }
            Err(error) => {
                let reason = format!("{error:#}");
                for what in [START, HUP, RENAME, IN_PLACE, SWAP, KILL] {
                    record.unknown(what, subject.name(), unit, &reason);
                }
            }
        }
    }
    let mut swapped = Vec::new();
    for subject in order.into_iter().filter(|subject| subject.watches()) {
        let directory = bench
            .directory
            .join(format!("{}-{round}-swap", subject.name()));
        match Running::start(subject, &bench.tools, directory, Layout::ConfigMap) {
            Ok(one) => swapped.push(one),
            Err(error) => record.unknown(SWAP, subject.name(), unit, &format!("{error:#}")),
        }
    }
    thread::sleep(SETTLED);

    for one in &mut running {
        let took = one.replace().and_then(|took| one.settle().map(|()| took));
        record.add_or_say_why(HUP, one.subject.name(), unit, took);
    }
    for (what, change) in [(RENAME, Change::Rename), (IN_PLACE, Change::InPlace)] {
        for one in &mut running {
            change_of(one, what, change, record);
        }
    }
    for one in &mut swapped {
        change_of(one, SWAP, Change::Swap, record);
    }
    for one in running.iter().filter(|one| !one.subject.watches()) {
        record.unknown(SWAP, one.subject.name(), unit, WATCHES_NOTHING);
    }
    drop(swapped);
    thread::sleep(SETTLED);

    for one in &mut running {
        match one.subject.never_restarts() {
            Some(reason) => record.unknown(KILL, one.subject.name(), unit, reason),
            None => {
                let took = one.kill_child();
                record.add_or_say_why(KILL, one.subject.name(), unit, took);
            }
        }
    }
}

fn change_of(one: &mut Running, what: &str, change: Change, record: &mut Record) {
    let (unit, name) = (Unit::Milliseconds, one.subject.name());
    if !one.subject.watches() {
        return record.unknown(what, name, unit, WATCHES_NOTHING);
    }
    let took = one
        .change(change)
        .and_then(|took| one.settle().map(|()| took));
    record.add_or_say_why(what, name, unit, took);
}
