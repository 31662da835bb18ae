//! Statistics, and the connections in them.

use std::collections::BTreeSet;
use std::fmt;

use super::Exclude;
use crate::text::one_line;

/// Matches the gauges of open connections per listener, and per worker of a listener.
pub(super) const ACTIVE: &str = r"^listener\..*\.downstream_cx_active$";

/// Open connections from clients on one listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerConnections {
    /// The listener's name in the statistics.
    pub listener: String,
    /// How many connections are open.
    pub active: u64,
}

impl fmt::Display for ListenerConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.active == 1 { "" } else { "s" };
        write!(
            f,
            "{} connection{s} on listener {}",
            self.active, self.listener
        )
    }
}

/// Reads a statistics page in its text form. Every line is `name: value`; values that are no whole
/// number (histograms, text) are left out.
pub(super) fn parse(body: &[u8]) -> Result<Vec<(String, u64)>, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let mut stats = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once(": ")
            .ok_or_else(|| format!("{:?} is no statistic", one_line(line)))?;
        if let Ok(value) = value.parse() {
            stats.push((name.to_owned(), value));
        }
    }
    Ok(stats)
}

/// The listeners with open connections, without those that do not count.
pub(super) fn active(stats: &[(String, u64)], exclude: &Exclude) -> Vec<ListenerConnections> {
    let listener = |stat: &str| -> Option<String> {
        let name = stat.strip_prefix("listener.")?;
        Some(name.strip_suffix(".downstream_cx_active")?.to_owned())
    };
    let names: BTreeSet<String> = stats
        .iter()
        .filter_map(|(stat, _)| listener(stat))
        .collect();
    let mut active: Vec<_> = stats
        .iter()
        .filter(|(_, count)| *count > 0)
        .filter_map(|(stat, count)| Some((listener(stat)?, *count)))
        .filter(|(name, _)| {
            // "NAME.worker_3" and "NAME.main_thread" are parts of NAME.
            let part = name.rsplit_once('.').is_some_and(|(whole, part)| {
                (part.starts_with("worker_") || part == "main_thread") && names.contains(whole)
            });
            !part
                && name != "admin"
                && !name.starts_with("envoy_internal_")
                && !exclude.means_in_statistics(name)
        })
        .map(|(listener, active)| ListenerConnections { listener, active })
        .collect();
    active.sort();
    active
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
http.in.downstream_cx_active: 9
listener.127.0.0.1_19922.downstream_cx_active: 3
listener.127.0.0.1_19922.worker_0.downstream_cx_active: 1
listener.127.0.0.1_19922.worker_1.downstream_cx_active: 2
listener.[__1]_19923.downstream_cx_active: 1
listener.[__1]_19923.worker_0.downstream_cx_active: 1
listener.0.0.0.0_15021.downstream_cx_active: 4
listener.probes.downstream_cx_active: 5
listener.idle.downstream_cx_active: 0
listener.x.worker_1.downstream_cx_active: 6
listener.envoy_internal_main.downstream_cx_active: 7
listener.admin.downstream_cx_active: 8
listener.admin.main_thread.downstream_cx_active: 8
listener.h.length_ms: No recorded values
";

    #[test]
    fn only_connections_of_clients_count_and_each_once() {
        let stats = parse(PAGE.as_bytes()).unwrap();
        let exclude = Exclude {
            ports: [15021].into(),
            listeners: ["probes".parse().unwrap()].into(),
        };
        let shown: Vec<_> = active(&stats, &exclude)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "3 connections on listener 127.0.0.1_19922",
                "1 connection on listener [__1]_19923",
                // Not a part of another listener, so a listener of that very name.
                "6 connections on listener x.worker_1",
            ]
        );
    }

    #[test]
    fn what_is_no_statistics_page_is_refused() {
        assert!(parse(b"<html>").is_err());
        assert!(parse(b"\xff").is_err());
        assert_eq!(
            parse(b"a: 1\nb: text\nc: 18446744073709551616\n").unwrap(),
            [("a".to_owned(), 1)]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(
            text in r#"((listener|http|admin|downstream_cx_active|[.:0-9a-z ]|18446744073709551615|\n){0,30})"#,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let _read = parse(text.as_bytes()).map(|stats| active(&stats, &Exclude::default()));
            let _refused = parse(&bytes).is_err();
        }
    }
}
