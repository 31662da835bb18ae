//! Statistics, and the connections in them.
//!
//! A statistic that is not there is unknown, not zero: `stats_matcher` may leave any out. And a name
//! decides nothing that its owner may choose: a listener may be called `admin`, `web.worker_0` or
//! `envoy_internal_web` and be one of clients all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Exclude;
use crate::bootstrap::Listener;
use crate::gate;
use crate::text::one_line;

/// Matches the gauges of open connections per listener, and per worker of a listener, and the number
/// of listeners.
pub(super) const ACTIVE: &str =
    r"^(listener\..*\.downstream_cx_active|listener_manager\.total_listeners_active)$";

/// How the names of internal listeners begin that have no `stat_prefix`.
pub(super) const INTERNAL: &str = "envoy_internal_";

/// Open connections from clients on one listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
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

/// The listeners with open connections, without those that do not count. `listeners` are those of the
/// configuration, as far as it tells, `internal` the names of internal listeners beside them. `has_gate`
/// tells of a gate that the statistics leave out.
///
/// # Errors
///
/// Whose connections the statistics do not tell.
pub(super) fn active(
    stats: &[(String, u64)],
    exclude: &Exclude,
    listeners: &[Listener],
    internal: &BTreeSet<String>,
    has_gate: bool,
) -> Result<Vec<ListenerConnections>, String> {
    let gauges = gauges(stats);
    let (inside, outside): (Vec<_>, Vec<_>) = listeners.iter().partition(|it| it.is_internal());
    let mut configured = BTreeSet::new();
    configured.extend(outside.iter().filter_map(|it| it.stat_name()));
    let mut internal = internal.clone();
    internal.extend(inside.iter().map(|it| match it.stat_prefix.is_empty() {
        true => format!("{INTERNAL}{}", it.name.replace(':', "_")),
        false => it.stat_prefix.replace(':', "_"),
    }));
    let missing = configured
        .iter()
        .find(|name| !gauges.contains_key(name.as_str()) && !exclude.means_in_statistics(name));
    if let Some(name) = missing {
        return Err(format!("listener {name}"));
    }
    let has_gate = has_gate || gauges.contains_key(gate::NAME);
    let mut active = Vec::new();
    let mut known = 0;
    for (name, count) in &gauges {
        if *name == gate::NAME {
            continue;
        }
        if is_part(name, &gauges) && !configured.contains(*name) {
            continue;
        }
        // Only the admin listener is served by the main thread, and it has this name.
        let main_thread = gauges.get(format!("{name}.main_thread").as_str());
        if *name == "admin" && !configured.contains(*name) {
            match main_thread {
                None => continue,
                Some(own) if count == own => continue,
                Some(_) => {}
            }
        } else if *name == "admin" && main_thread.is_none() {
            return Err("listener admin apart from those of the admin endpoint".to_owned());
        }
        known += 1;
        let count = count.saturating_sub(main_thread.copied().unwrap_or_default());
        let is_internal = internal.contains(*name) && !configured.contains(*name);
        if count > 0 && !is_internal && !exclude.means_in_statistics(name) {
            active.push(ListenerConnections {
                listener: (*name).to_owned(),
                active: count,
            });
        }
    }
    let total = stats
        .iter()
        .find(|(name, _)| name == "listener_manager.total_listeners_active")
        .map(|(_, total)| total.saturating_sub(u64::from(has_gate)));
    // Listeners with one name have one gauge.
    let shared = outside.len().saturating_sub(configured.len());
    let known = u64::try_from(known + shared).unwrap_or(u64::MAX);
    let told = if known == 0 { 1 } else { known };
    match total {
        Some(total) if total > known => Err(format!("{} of {total} listeners", total - known)),
        None if told > known => Err("any listener".to_owned()),
        Some(_) | None => Ok(active),
    }
}

/// The names in the statistics of the internal listeners of a `/listeners?format=json` page.
pub(super) fn internal(page: &[u8]) -> Result<BTreeSet<String>, String> {
    let page: serde_json::Value =
        serde_json::from_slice(page).map_err(|error| one_line(&error.to_string()))?;
    let statuses = page.get("listener_statuses").and_then(|it| it.as_array());
    let names = statuses.into_iter().flatten().filter_map(|status| {
        let address = status.get("local_address")?.get("envoy_internal_address")?;
        let name = address.get("server_listener_name")?.as_str()?;
        Some(format!("{INTERNAL}{}", name.replace(':', "_")))
    });
    let mut internal = BTreeSet::new();
    internal.extend(names);
    Ok(internal)
}

/// The gauges of open connections, by what stands for the listener in their names.
fn gauges(stats: &[(String, u64)]) -> BTreeMap<&str, u64> {
    let mut gauges = BTreeMap::new();
    gauges.extend(stats.iter().filter_map(|(stat, count)| {
        let name = stat.strip_prefix("listener.")?;
        Some((name.strip_suffix(".downstream_cx_active")?, *count))
    }));
    gauges
}

/// Whether the name is that of a listener's worker, or of its main thread: `NAME.worker_3` where there
/// is a NAME. A listener of such a name has workers of its own.
fn is_part(name: &str, gauges: &BTreeMap<&str, u64>) -> bool {
    let Some((whole, part)) = name.rsplit_once('.') else {
        return false;
    };
    let is_worker = part
        .strip_prefix("worker_")
        .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let own_parts = format!("{name}.");
    let has_parts = gauges
        .range(own_parts.as_str()..)
        .next()
        .is_some_and(|(other, _)| other.starts_with(&own_parts));
    (is_worker || part == "main_thread") && gauges.contains_key(whole) && !has_parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{Bootstrap, Format};

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

    fn shown(
        page: &str,
        exclude: &Exclude,
        listeners: &str,
        internal: &[&str],
    ) -> Result<Vec<String>, String> {
        let stats = parse(page.as_bytes()).unwrap();
        let text = format!(
            "{{admin: {{address: {{pipe: {{path: /a}}}}}}, static_resources: {{listeners: [{listeners}]}}}}"
        );
        let listeners = Bootstrap::parse(text.as_bytes(), Format::Yaml)
            .unwrap()
            .listeners;
        let internal = internal.iter().map(ToString::to_string).collect();
        let active = active(&stats, exclude, &listeners, &internal, false)?;
        Ok(active.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_connections_of_clients_count_and_each_once() {
        let exclude = Exclude {
            ports: [15021].into(),
            listeners: ["probes".parse().unwrap()].into(),
            ..Exclude::default()
        };
        assert_eq!(
            shown(PAGE, &exclude, "{name: main, internal_listener: {}}", &[]).unwrap(),
            [
                "3 connections on listener 127.0.0.1_19922",
                "1 connection on listener [__1]_19923",
                // Not a part of another listener, so a listener of that very name.
                "6 connections on listener x.worker_1",
            ]
        );
    }

    #[test]
    fn a_gauge_that_is_missing_is_not_zero() {
        let none = Exclude::default();
        let web = "{name: web, stat_prefix: web, address: {socket_address: {address: 0.0.0.0, port_value: 80}}}";
        for page in [
            "",
            "server.live: 1\n",
            "listener.admin.downstream_cx_active: 1\n",
            "listener.other.downstream_cx_active: 0\n",
            "listener.web.worker_0.downstream_cx_active: 0\n",
        ] {
            assert_eq!(shown(page, &none, web, &[]).unwrap_err(), "listener web");
        }
        assert_eq!(shown("", &none, "", &[]).unwrap_err(), "any listener");
        // Of two listeners that came by LDS one is told.
        let page = "listener.other.downstream_cx_active: 0\n\
                    listener_manager.total_listeners_active: 2\n";
        let error = shown(page, &none, "", &[]).unwrap_err();
        assert_eq!(error, "1 of 2 listeners");
        // Nobody is missed where there is no listener, or where it does not count.
        let page = "listener_manager.total_listeners_active: 0\n";
        assert_eq!(shown(page, &none, "", &[]).unwrap(), [""; 0]);
        let exclude = Exclude {
            listeners: ["web".parse().unwrap()].into(),
            ..none
        };
        let page = "listener.other.downstream_cx_active: 0\n";
        assert_eq!(shown(page, &exclude, web, &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn the_admin_endpoint_is_no_listener_and_listeners_with_one_name_have_one_gauge() {
        let none = Exclude::default();
        let admin = "listener.admin.downstream_cx_active: 1\n";
        let own = format!("{admin}listener.admin.main_thread.downstream_cx_active: 1\n");
        let total = |count| format!("listener_manager.total_listeners_active: {count}\n");
        let error = shown(&format!("{own}{}", total(1)), &none, "", &[]).unwrap_err();
        assert_eq!(error, "1 of 1 listeners");
        let page = format!("{admin}listener.web.downstream_cx_active: 0\n");
        assert_eq!(shown(&page, &none, "", &[]).unwrap(), [""; 0]);
        let web = |port| {
            format!(
                "{{name: w{port}, stat_prefix: web, address: {{socket_address: {{address: 0.0.0.0, \
                 port_value: {port}}}}}}}"
            )
        };
        let both = format!("{}, {}", web(80), web(81));
        let page = format!("listener.web.downstream_cx_active: 0\n{}", total(2));
        assert_eq!(shown(&page, &none, &both, &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn the_gate_is_no_listener_of_clients_whether_the_statistics_have_it_or_not() {
        let active = |page: &str, has_gate| {
            let stats = parse(page.as_bytes()).unwrap();
            let none = Exclude::default();
            active(&stats, &none, &[], &BTreeSet::new(), has_gate).map(|active| active.len())
        };
        let web = "listener.web.downstream_cx_active: 1\n";
        let gate = "listener.handover_gate.downstream_cx_active: 0\n\
                    listener.handover_gate.worker_0.downstream_cx_active: 0\n";
        let total = |count| format!("listener_manager.total_listeners_active: {count}\n");
        for (page, has_gate, seen) in [
            (format!("{web}{gate}{}", total(2)), false, Ok(1)),
            (
                format!("{web}{gate}{}", total(3)),
                false,
                Err("1 of 2 listeners"),
            ),
            (format!("{web}{}", total(2)), false, Err("1 of 2 listeners")),
            (format!("{web}{}", total(2)), true, Ok(1)),
            (format!("{gate}{}", total(1)), false, Ok(0)),
            (gate.to_owned(), false, Err("any listener")),
            (String::new(), true, Err("any listener")),
        ] {
            assert_eq!(
                active(&page, has_gate),
                seen.map_err(str::to_owned),
                "{page}"
            );
        }
    }

    #[test]
    fn a_listener_of_clients_counts_whatever_its_name() {
        let none = Exclude::default();
        let page = "\
listener.admin.downstream_cx_active: 3
listener.admin.main_thread.downstream_cx_active: 1
listener.admin.worker_0.downstream_cx_active: 2
listener.envoy_internal_web.downstream_cx_active: 4
listener.web.downstream_cx_active: 0
listener.web.worker_0.downstream_cx_active: 5
listener.web.worker_0.worker_0.downstream_cx_active: 5
listener.web.worker_x.downstream_cx_active: 6
";
        let all = [
            "2 connections on listener admin",
            "4 connections on listener envoy_internal_web",
            "5 connections on listener web.worker_0",
            "6 connections on listener web.worker_x",
        ];
        assert_eq!(shown(page, &none, "", &[]).unwrap(), all);
        let shown_with = |internal| shown(page, &none, "", internal).unwrap();
        assert_eq!(shown_with(&["envoy_internal_web"]).len(), 3);
        // Without the part of the main thread it is not known whose they are.
        let page = "listener.admin.downstream_cx_active: 1\n";
        let listener = "{name: x, stat_prefix: admin, address: {pipe: {path: /x}}}";
        shown(page, &none, listener, &[]).unwrap_err();
    }

    #[test]
    fn internal_listeners_are_told_by_their_address() {
        let page = br#"{"listener_statuses": [
            {"name": "a", "local_address": {"envoy_internal_address": {"server_listener_name": "a:1"}}},
            {"name": "envoy_internal_b", "local_address": {"socket_address": {"address": "::"}}}
        ]}"#;
        assert_eq!(
            internal(page).unwrap(),
            ["envoy_internal_a_1".to_owned()].into()
        );
        assert_eq!(internal(b"{}").unwrap(), BTreeSet::new());
        internal(b"<html>").unwrap_err();
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
            let _read = parse(text.as_bytes()).map(|stats| active(&stats, &Exclude::default(), &[], &BTreeSet::new(), false));
            let _refused = parse(&bytes).is_err();
        }
    }
}
