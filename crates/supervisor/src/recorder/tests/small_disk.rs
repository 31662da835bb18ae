//! A recording beside configurations on a small disk.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_files::PrivateDir;

use super::super::files::{Files, LIMITS, NEW, OLD, RECORDING};
use super::super::format::{Begin, Who};
use super::super::lines::LastLines;
use super::super::read::Recording;
use super::super::room::{Gauge, Room};
use super::super::tape::{Recorded, Tape};
use super::super::writer::Writer;
use super::{World, replayed, steps};

const TOTAL: u64 = 64_000;
const RESERVE: u64 = TOTAL / 4;

/// A disk of [`TOTAL`] bytes, on which others have so many.
struct Disk {
    dir: tempfile::TempDir,
    others: Arc<AtomicU64>,
    written: u64,
}

impl Disk {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            others: Arc::default(),
            written: 0,
        }
    }

    fn writer(&self) -> Writer {
        let (path, others) = (self.dir.path().to_owned(), Arc::clone(&self.others));
        let gauge = Gauge::new(move |_| {
            let taken = ours(&path) + others.load(Ordering::Relaxed);
            let free = TOTAL.saturating_sub(taken);
            Some(Room { total: TOTAL, free })
        });
        let begin = Begin {
            at: "now".to_owned(),
            continues: false,
            pid: 1,
            about: serde_json::Value::Null,
        };
        let dir = PrivateDir::create(self.dir.path()).unwrap();
        let (files, _) = Files::open(dir, &RECORDING, begin, LIMITS, gauge).unwrap();
        Writer::start(files, None, LastLines::default(), Duration::ZERO).unwrap()
    }

    /// Records so many steps of both machines, and returns the fewest bytes that were there after each one, once
    /// half of the room was used.
    fn record(&mut self, writer: &Writer, count: usize, most: u64) -> u64 {
        let tape = Arc::new(Mutex::new(Tape::new(writer.clone(), LIMITS, 0, 0)));
        let recorded = |who| Recorded::new(&tape, who);
        let mut world = World::with(recorded(Who::Agent), recorded(Who::Operator));
        let (mut fewest, mut has_grown) = (u64::MAX, false);
        for (what, number) in steps(count) {
            world.step(what, number);
            writer.wait_until_idle();
            let ours = ours(self.dir.path());
            assert!(ours <= most, "{ours} of {most}");
            has_grown |= ours >= most / 2;
            if has_grown {
                fewest = fewest.min(ours);
            }
        }
        fewest
    }

    /// Writes so many records of 100 bytes, and checks after each one what is left.
    fn write(&mut self, writer: &Writer, records: u64, most: u64) {
        for _ in 0..records {
            writer.line(format!("{:099}\n", self.written)).unwrap();
            writer.wait_until_idle();
            self.written += 1;
            let ours = ours(self.dir.path());
            assert!(ours <= most, "{ours} of {most}");
        }
    }

    /// Where a new file had to begin, the record before it is lost.
    fn has_the_newest(&self) {
        let text = self.text();
        let newest = [1, 2].map(|back| format!("{:099}\n", self.written - back));
        assert!(newest.iter().any(|newest| text.contains(newest)), "{text}");
    }

    fn text(&self) -> String {
        let text = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        text(OLD) + &text(NEW)
    }
}

fn ours(dir: &Path) -> u64 {
    let length = |name| fs::metadata(dir.join(name)).map_or(0, |file| file.len());
    length(NEW) + length(OLD)
}

#[test]
fn a_recording_leaves_a_quarter_of_a_small_disk_to_others_and_begins_anew() {
    let mut disk = Disk::new();
    let writer = disk.writer();
    disk.write(&writer, 2_000, TOTAL - RESERVE);
    disk.has_the_newest();
    assert!(disk.text().matches("continues\":true").count() > 0);

    // Others need more of it.
    disk.others.store(40_000, Ordering::Relaxed);
    disk.write(&writer, 1, TOTAL);
    disk.write(&writer, 1_000, TOTAL - RESERVE - 40_000);
    disk.has_the_newest();

    // A later run finds it so.
    drop(writer);
    let writer = disk.writer();
    disk.write(&writer, 100, TOTAL - RESERVE - 40_000);
}

/// Without the older file everything would be gone each time the disk is full, and nothing could be replayed from before
/// that moment.
#[test]
fn on_a_small_disk_the_older_half_of_the_recording_is_kept_and_replayed() {
    let mut disk = Disk::new();
    let writer = disk.writer();
    let most = TOTAL - RESERVE;
    let fewest = disk.record(&writer, 4_000, most);
    assert!(fewest >= most / 4, "{fewest} of {most}");
    let recording = Recording::read(disk.dir.path()).unwrap();
    assert_eq!((recording.parts.len(), &*recording.problems), (2, &[][..]));
    let (sum, heard) = replayed(&recording);
    assert_eq!(
        (sum.differences, heard.missing),
        (0, 0),
        "{:?}",
        heard.differences
    );
    assert_eq!(sum.left_out, 0, "{sum:?}");
}

#[test]
fn what_is_recorded_is_not_given_back_for_nothing() {
    let mut disk = Disk::new();
    let writer = disk.writer();
    disk.write(&writer, 100, TOTAL - RESERVE);
    let before = ours(disk.dir.path());
    disk.others.store(TOTAL, Ordering::Relaxed);
    disk.write(&writer, 10, before);
    assert_eq!(ours(disk.dir.path()), before);
    // There is room again: it goes on, and says what is missing.
    disk.others.store(0, Ordering::Relaxed);
    disk.write(&writer, 1, TOTAL);
    assert!(disk.text().contains("{\"dropped\":10}"), "{}", disk.text());
}

#[test]
fn a_run_that_begins_on_a_full_disk_records_once_there_is_room() {
    let mut disk = Disk::new();
    disk.others.store(TOTAL - RESERVE, Ordering::Relaxed);
    let writer = disk.writer();
    let before = ours(disk.dir.path());
    disk.write(&writer, 10, before);
    disk.others.store(0, Ordering::Relaxed);
    disk.write(&writer, 1, TOTAL);
    assert!(disk.text().contains("{\"dropped\":10}"), "{}", disk.text());
}
