//! What a load saw: counts, failures with their time and kind, latencies and the longest gap.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Failures kept in full; all are counted.
pub const KEPT_FAILURES: usize = 50;

/// How a client of the load uses connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKind {
    /// A connection for each request.
    NewConnection,
    /// One connection for as many requests as the server allows.
    KeepAlive,
    /// Requests that take long, each on a connection of its own.
    Slow,
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewConnection => "new-connection",
            Self::KeepAlive => "keep-alive",
            Self::Slow => "slow",
        })
    }
}

/// What became of a request that got no complete answer with a status of 200 to 299.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// Nothing listens there.
    ConnectRefused,
    /// The connection was not established in time.
    ConnectTimeout,
    /// Any other reason for which there was no connection.
    ConnectFailed,
    /// The peer reset the connection before the first byte of the response.
    Reset,
    /// The peer closed the connection before the first byte of the response.
    ClosedBeforeResponse,
    /// The response broke off in its head or its body.
    PartialResponse,
    /// The response was not complete in time.
    Timeout,
    /// The bytes were not an HTTP/1.1 response, or more than one.
    Malformed,
    /// A complete response with a status that is not 200 to 299.
    Status(u16),
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectRefused => f.write_str("connection refused"),
            Self::ConnectTimeout => f.write_str("connect timed out"),
            Self::ConnectFailed => f.write_str("connect failed"),
            Self::Reset => f.write_str("reset before the response"),
            Self::ClosedBeforeResponse => f.write_str("closed before the response"),
            Self::PartialResponse => f.write_str("response broken off"),
            Self::Timeout => f.write_str("timed out"),
            Self::Malformed => f.write_str("malformed response"),
            Self::Status(code) => write!(f, "status {code}"),
        }
    }
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it failed, since the load's start.
    pub at: Duration,
    /// The kind of client it happened to.
    pub client: ClientKind,
    /// What happened.
    pub kind: FailureKind,
    /// What the socket or the parser said.
    pub detail: String,
    /// Whether this was the one retry after an [idle close race](Report::idle_close_races).
    pub retried: bool,
    /// The last mark set before.
    pub mark: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            client,
            kind,
            detail,
            retried,
            mark,
        } = self;
        let seconds = at.as_secs_f64();
        let retried = if *retried { ", on its retry" } else { "" };
        write!(
            f,
            "{seconds:8.3} s  {client} client{retried}: {kind} ({detail})"
        )?;
        match mark {
            Some(mark) => write!(f, ", after {mark:?}"),
            None => Ok(()),
        }
    }
}

/// Times from the first byte written to the last byte read, a retry included, of the requests that
/// succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half of the requests took at most this long.
    pub p50: Duration,
    /// 99 of 100 requests took at most this long.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Latency {
    /// From microseconds in any order; zeros when there is none.
    pub(crate) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        // The smallest value that at least `percent` of all do not exceed.
        let at = |percent: usize| {
            let rank = (micros.len() * percent).div_ceil(100);
            let value = micros
                .get(rank.saturating_sub(1))
                .copied()
                .unwrap_or_default();
            Duration::from_micros(value.into())
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

/// The result of a load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests that ended, well or not. A retry does not count again.
    pub requests: u64,
    /// Requests without a complete 2xx answer.
    pub failed: u64,
    /// The first [`KEPT_FAILURES`] of them.
    pub failures: Vec<Failure>,
    /// All of them, by client and kind.
    pub failed_by: BTreeMap<(ClientKind, FailureKind), u64>,
    /// Successes by kind of client.
    pub ok_by_kind: BTreeMap<ClientKind, u64>,
    /// Successes by the value of the header `x-config`, for answers that have it.
    pub by_config: BTreeMap<String, u64>,
    /// Requests written on a reused connection that the server ended without one byte of answer.
    /// The server may have closed the idle connection as the request was on its way, so a client
    /// may repeat such a request if it is idempotent (RFC 9112, section 9.3.1). The load repeats
    /// it once, on a new connection; it is a failure only when that fails too.
    pub idle_close_races: u64,
    /// Keep-alive connections that the server closed while they were idle, which loses nothing.
    pub idle_closes: u64,
    /// Keep-alive connections that the server announced to close, by `connection: close`.
    pub announced_closes: u64,
    /// How long requests took, by kind of client.
    pub latency: BTreeMap<ClientKind, Latency>,
    /// The longest time without any request succeeding, from the load's start to the call of its
    /// stop.
    pub longest_gap: Duration,
    /// The marks, with the time since the load's start.
    pub marks: Vec<(Duration, String)>,
    /// From the load's start to the call of its stop.
    pub ran_for: Duration,
}

impl Report {
    /// Requests that succeeded.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.requests - self.failed
    }

    /// Successful answers that carried `x-config: config`.
    #[must_use]
    pub fn ok_from(&self, config: &str) -> u64 {
        self.by_config.get(config).copied().unwrap_or_default()
    }

    /// Failures of one kind, over all clients.
    #[must_use]
    pub fn failed_with(&self, kind: FailureKind) -> u64 {
        self.failed_by
            .iter()
            .filter(|((_, of), _)| *of == kind)
            .map(|(_, count)| count)
            .sum()
    }

    /// Asserts that requests were made and none failed. Idle close races are allowed: assert that
    /// [`Report::idle_close_races`] is 0 where they are not.
    ///
    /// # Panics
    ///
    /// With the whole report, when a request failed, or when there was none at all.
    #[track_caller]
    pub fn assert_no_loss(&self) {
        assert!(
            self.requests > 0,
            "the load made no request, which proves nothing\n{self}"
        );
        assert!(
            self.failed == 0,
            "{} of {} requests failed\n{self}",
            self.failed,
            self.requests
        );
    }

    /// Asserts that requests were made and that none failed but by a refused connection, which is
    /// what clients must see once the server has stopped listening on purpose.
    ///
    /// # Panics
    ///
    /// With the whole report, when a request failed in another way, or when none succeeded.
    #[track_caller]
    pub fn assert_nothing_cut(&self) {
        assert!(
            self.ok() > 0,
            "no request succeeded, which proves nothing\n{self}"
        );
        let cut = self.failed - self.failed_with(FailureKind::ConnectRefused);
        assert!(
            cut == 0,
            "{cut} of {} requests were cut\n{self}",
            self.requests
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests in {:.3} s, {} failed, longest gap {:?}; {} idle close races, {} idle closes, {} announced closes",
            self.requests,
            self.ran_for.as_secs_f64(),
            self.failed,
            self.longest_gap,
            self.idle_close_races,
            self.idle_closes,
            self.announced_closes,
        )?;
        for (kind, count) in &self.ok_by_kind {
            let Latency { p50, p99, max } = self.latency.get(kind).copied().unwrap_or_default();
            writeln!(
                f,
                "  ok: {count} {kind}, p50 {p50:?}, p99 {p99:?}, max {max:?}"
            )?;
        }
        for (config, count) in &self.by_config {
            writeln!(f, "  served by {config:?}: {count}")?;
        }
        for ((client, kind), count) in &self.failed_by {
            writeln!(f, "  failed: {count} {client}, {kind}")?;
        }
        for (at, mark) in &self.marks {
            writeln!(f, "  mark at {:8.3} s: {mark:?}", at.as_secs_f64())?;
        }
        for failure in &self.failures {
            writeln!(f, "  {failure}")?;
        }
        if self.failed > KEPT_FAILURES as u64 {
            writeln!(
                f,
                "  ... only the first {KEPT_FAILURES} failures are listed"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let latency = Latency::of((1..=200).rev().collect());
        let [p50, p99, max] = [100, 198, 200].map(Duration::from_micros);
        assert_eq!(latency, Latency { p50, p99, max });
        let [one] = [7].map(Duration::from_micros);
        assert_eq!(
            Latency::of(vec![7]),
            Latency {
                p50: one,
                p99: one,
                max: one
            }
        );
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }

    #[test]
    #[should_panic(expected = "made no request")]
    fn a_load_without_requests_proves_nothing() {
        Report::default().assert_no_loss();
    }

    #[test]
    #[should_panic(expected = "0.250 s  slow client: response broken off (1 of 5), after \"mark\"")]
    fn the_message_of_a_loss_names_each_failure() {
        let failure = Failure {
            at: Duration::from_millis(250),
            client: ClientKind::Slow,
            kind: FailureKind::PartialResponse,
            detail: "1 of 5".to_owned(),
            retried: false,
            mark: Some("mark".to_owned()),
        };
        Report {
            requests: 1,
            failed: 1,
            failures: vec![failure],
            ..Report::default()
        }
        .assert_no_loss();
    }

    #[test]
    fn refused_connections_alone_cut_nothing() {
        let failed_by =
            BTreeMap::from([((ClientKind::NewConnection, FailureKind::ConnectRefused), 3)]);
        Report {
            requests: 5,
            failed: 3,
            failed_by,
            ..Report::default()
        }
        .assert_nothing_cut();
    }

    #[test]
    #[should_panic(expected = "1 of 5 requests were cut")]
    fn a_reset_beside_refused_connections_is_a_cut() {
        let failed_by = BTreeMap::from([
            ((ClientKind::NewConnection, FailureKind::ConnectRefused), 2),
            ((ClientKind::KeepAlive, FailureKind::Reset), 1),
        ]);
        Report {
            requests: 5,
            failed: 3,
            failed_by,
            ..Report::default()
        }
        .assert_nothing_cut();
    }
}
