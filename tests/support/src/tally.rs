//! The books of a running load: written by its clients, read by the test.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::report::{ClientKind, Failure, FailureKind, KEPT_FAILURES, Latency, Report};

/// The counts of a load that still runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests that succeeded.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Successes by the value of the header `x-config`, for answers that have it.
    pub by_config: BTreeMap<String, u64>,
}

impl Progress {
    /// Successful answers that carried `x-config: config`.
    #[must_use]
    pub fn ok_from(&self, config: &str) -> u64 {
        self.by_config.get(config).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(crate) struct Tally {
    start: Instant,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    report: Report,
    micros: BTreeMap<ClientKind, Vec<u32>>,
    last_success: Instant,
    /// When the load was told to stop: later successes end no gap.
    end: Option<Instant>,
}

impl Tally {
    pub(crate) fn start() -> Self {
        let start = Instant::now();
        let books = Books {
            report: Report::default(),
            micros: BTreeMap::new(),
            last_success: start,
            end: None,
        };
        Self {
            start,
            books: Mutex::new(books),
        }
    }

    pub(crate) fn succeeded(&self, client: ClientKind, took: Duration, config: Option<&str>) {
        let mut guard = self.lock();
        let books = &mut *guard;
        let report = &mut books.report;
        report.requests += 1;
        *report.ok_by_kind.entry(client).or_default() += 1;
        if let Some(config) = config {
            match report.by_config.get_mut(config) {
                Some(count) => *count += 1,
                None => {
                    report.by_config.insert(config.to_owned(), 1);
                }
            }
        }
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        books.micros.entry(client).or_default().push(micros);
        books.close_gap(Instant::now());
    }

    pub(crate) fn failed(
        &self,
        client: ClientKind,
        kind: FailureKind,
        detail: String,
        retried: bool,
    ) {
        let report = &mut self.lock().report;
        report.requests += 1;
        report.failed += 1;
        *report.failed_by.entry((client, kind)).or_default() += 1;
        if report.failures.len() < KEPT_FAILURES {
            let at = self.start.elapsed();
            let mark = report.marks.last().map(|(_, name)| name.clone());
            report.failures.push(Failure {
                at,
                client,
                kind,
                detail,
                retried,
                mark,
            });
        }
    }

    pub(crate) fn raced_with_idle_close(&self) {
        self.lock().report.idle_close_races += 1;
    }

    pub(crate) fn closed_while_idle(&self) {
        self.lock().report.idle_closes += 1;
    }

    pub(crate) fn closed_as_announced(&self) {
        self.lock().report.announced_closes += 1;
    }

    pub(crate) fn mark(&self, name: String) {
        let at = self.start.elapsed();
        self.lock().report.marks.push((at, name));
    }

    pub(crate) fn progress(&self) -> Progress {
        let report = &self.lock().report;
        Progress {
            ok: report.ok(),
            failed: report.failed,
            by_config: report.by_config.clone(),
        }
    }

    /// The load stops here: what its last requests do is counted, but is no gap.
    pub(crate) fn freeze_clock(&self) {
        let now = Instant::now();
        let mut books = self.lock();
        books.close_gap(now);
        books.end = Some(now);
        books.report.ran_for = now - self.start;
    }

    pub(crate) fn report(&self) -> Report {
        let books = self.lock();
        let latency = books
            .micros
            .iter()
            .map(|(kind, micros)| (*kind, Latency::of(micros.clone())));
        Report {
            latency: latency.collect(),
            ..books.report.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn close_gap(&mut self, now: Instant) {
        if self.end.is_none() {
            let gap = now.duration_since(self.last_success);
            self.report.longest_gap = self.report.longest_gap.max(gap);
            self.last_success = now;
        }
    }
}
