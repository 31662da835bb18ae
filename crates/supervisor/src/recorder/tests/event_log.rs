//! The log of events begins a new file in time, and never exceeds its limits.

use std::time::Duration;

use super::super::lines::LastLines;
use super::super::{Limits, Writer};
use super::Disk;
use crate::events::{EventLog, Events};
use crate::operator::Event;

/// How many events are in the file after each of some events of one length, as the length gives the limits.
fn held(events: usize, limits: impl FnOnce(u64) -> Limits) -> Vec<usize> {
    let disk = Disk::default();
    let writer = Writer::start(disk.clone(), None, LastLines::default(), Duration::ZERO).unwrap();
    let without_limit = Limits {
        records: u64::MAX,
        bytes: u64::MAX,
        hard: u64::MAX,
    };
    let begin = |limits| {
        let log = EventLog::new(writer.clone(), limits, (0, 0));
        Events::new(Some(log))
    };
    let write = |log: &Events| {
        log.operator(&Event::FilesAreThere);
        writer.wait_until_idle();
        let written = &disk.0.lock().unwrap().written;
        (
            written.iter().filter(|byte| **byte == b'\n').count(),
            written.len(),
        )
    };
    let (_, length) = write(&begin(without_limit));
    writer.rotate().unwrap();
    let log = begin(limits(u64::try_from(length).unwrap()));
    (0..events).map(|_| write(&log).0).collect()
}

#[test]
fn a_new_file_begins_after_so_many_events() {
    let limits = |_| Limits {
        records: 3,
        bytes: u64::MAX,
        hard: u64::MAX,
    };
    assert_eq!(held(7, limits), [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn a_new_file_begins_after_so_many_bytes() {
    let limits = |length| Limits {
        records: u64::MAX,
        bytes: 2 * length,
        hard: u64::MAX,
    };
    assert_eq!(held(5, limits), [1, 2, 1, 2, 1]);
}

#[test]
fn no_file_is_longer_than_its_hard_limit() {
    let limits = |length| Limits {
        records: u64::MAX,
        bytes: u64::MAX,
        hard: 2 * length,
    };
    assert_eq!(held(4, limits), [1, 2, 2, 2]);
}

#[test]
fn a_log_has_an_end_and_shows_no_event() {
    let disk = Disk::default();
    let writer = Writer::start(disk, None, LastLines::default(), Duration::ZERO).unwrap();
    let limits = Limits {
        records: 1,
        bytes: 1,
        hard: 1,
    };
    let log = EventLog::new(writer, limits, (0, 0));
    assert!(log.end().is_some_and(|end| end.blocking_recv().is_ok()));
    assert_eq!(format!("{log:?}"), "EventLog { .. }");
}
