//! What clients notice of a hand-over: requests at a fixed rate through a real Envoy to an upstream, while nothing
//! happens, while Handover replaces Envoy, and while a bare hot restart does.
//!
//! Requests begin at fixed times, whether or not earlier ones were answered, and each counts from the time at which it
//! was due. So a stall of the server or of the client is part of the time of every request that it delays.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use handover_test_support::paced::{Paced, Protocol, Report};

use super::Bench;
use super::envoys::{self, ALONE, BARE, BOTH, HANDOVER, Supervised, Unsupervised, VALIDATED};
use crate::figures::{Unit, quantile};
use crate::record::Record;

/// The name of the measure.
pub(crate) const NAME: &str = "load";

/// Requests each second.
pub(crate) const RATE: u32 = 1_000;

/// What is measured for each protocol.
pub(crate) const P50: &str = "p50";
pub(crate) const P99: &str = "p99";
pub(crate) const P999: &str = "p99.9";
pub(crate) const REQUESTS: &str = "requests";
pub(crate) const LOST: &str = "lost";

/// The protocols, with their names in figures.
pub(crate) const PROTOCOLS: [(&str, Protocol); 2] =
    [("HTTP/1.1", Protocol::Http1), ("HTTP/2", Protocol::Http2)];

/// The full name of a thing of a protocol.
pub(crate) fn what(protocol: &str, thing: &str) -> String {
    format!("{protocol} {thing}")
}

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let mut supervised = Supervised::start(bench, "load")?;
    let mut unsupervised = Unsupervised::start(bench, "load")?;
    for _ in 0..bench.choose(6, 1) {
        for (name, protocol) in PROTOCOLS {
            let alone = under_load(bench, &mut supervised, protocol, |_| Ok(()))?;
            add(record, name, ALONE, &alone);
            let handed_over = under_load(bench, &mut supervised, protocol, |one| {
                one.change().map(drop)
            })?;
            add(record, name, HANDOVER, &handed_over);
            envoys::settle(&supervised, &mut unsupervised)?;
            let restarted = under_load(bench, &mut unsupervised, protocol, |one| {
                one.change().map(drop)
            })?;
            add(record, name, BARE, &restarted);
            envoys::settle(&supervised, &mut unsupervised)?;
            let validated = under_load(bench, &mut unsupervised, protocol, |one| {
                one.change_validated().map(drop)
            })?;
            add(record, name, VALIDATED, &validated);
            envoys::settle(&supervised, &mut unsupervised)?;
            record.save()?;
        }
    }
    Ok(())
}

/// Where a load goes to.
trait Target {
    fn site(&self) -> &envoys::Site;
}

impl Target for Supervised {
    fn site(&self) -> &envoys::Site {
        &self.site
    }
}

impl Target for Unsupervised {
    fn site(&self) -> &envoys::Site {
        &self.site
    }
}

/// The requests that were due in the time that a hand-over takes, from the cause to the end of the old Envoy. The
/// cause comes after the connections are there.
fn under_load<T: Target>(
    bench: &Bench,
    target: &mut T,
    protocol: Protocol,
    cause: impl FnOnce(&mut T) -> Result<()>,
) -> Result<Report> {
    let load = Paced::start(target.site().listener(), protocol, RATE);
    thread::sleep(bench.time(1_000, 300));
    let begun = Instant::now();
    cause(target)?;
    let length = BOTH + Duration::from_millis(500);
    thread::sleep(length.saturating_sub(begun.elapsed()));
    Ok(load.stop().due_within(begun, length))
}

fn add(record: &mut Record, protocol: &str, subject: &str, report: &Report) {
    let mut times: Vec<f64> = report
        .times()
        .map(|time| time.as_secs_f64() * 1_000.0)
        .collect();
    times.sort_by(f64::total_cmp);
    for (name, part) in [(P50, 500), (P99, 990), (P999, 999)] {
        let name = what(protocol, name);
        match quantile(&times, part, 1_000) {
            Some(time) => record.add(&name, subject, Unit::Milliseconds, time),
            None => record.unknown(
                &name,
                subject,
                Unit::Milliseconds,
                "no request was answered",
            ),
        }
    }
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let requests = times.len() + report.lost().len();
    record.add(
        &what(protocol, REQUESTS),
        subject,
        Unit::Count,
        count(requests),
    );
    record.add(
        &what(protocol, LOST),
        subject,
        Unit::Count,
        count(report.lost().len()),
    );
    let mut reasons = BTreeMap::new();
    for reason in report.lost() {
        *reasons.entry(reason).or_insert(0_u32) += 1;
    }
    for (reason, times) in reasons {
        let who = format!("{protocol}, {subject}");
        crate::say(&format!("{who}: {times} requests were lost: {reason}"));
    }
}
