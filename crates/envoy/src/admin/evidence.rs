//! Which statistics tell whether an epoch can do its work, and what they say.
//!
//! Envoy walks over all statistics for each question, on its main thread. A question about one kind
//! of them, and about those only that were ever set, costs a fraction of that.

use std::collections::BTreeMap;

use super::ClusterStates;
use crate::gate;

/// The counters of requests and of those that failed, and how many clusters were removed.
///
/// `upstream_cx_connect_fail` is not among them. It also counts connections that Envoy makes for itself,
/// to its control plane or for health checks, and attempts after which a retry has succeeded. A failed
/// HTTP request is counted as 5xx, and a TCP connection without an upstream as
/// `connect_attempts_exceeded` or `no_route`.
pub(super) const REQUESTS: &str = concat!(
    r"^(http\..*\.downstream_rq_(completed|5xx)",
    r"|http\.admin\.(rq_total|rq_direct_response|rq_redirect|no_route)",
    r"|tcp\..*\.downstream_cx_(total|no_route)",
    r"|cluster\..*\.upstream_cx_connect_attempts_exceeded",
    r"|cluster_manager\.cluster_removed)$"
);

/// Names like those counters have, to ask a `stats_matcher` about.
const REQUESTS_LIKE: [&str; 4] = [
    "http.ingress.downstream_rq_completed",
    "http.ingress.downstream_rq_5xx",
    "tcp.ingress.downstream_cx_total",
    "cluster.backend.upstream_cx_connect_attempts_exceeded",
];

/// The versions of all resources that are fetched, as texts: empty until the first ones have come.
pub(super) const VERSIONS: &str = r"\.version_text$";

/// Names like those versions have, as texts and as gauges.
const VERSIONS_LIKE: [&str; 8] = [
    "listener_manager.lds.version_text",
    "cluster_manager.cds.version_text",
    "sds.certificate.version_text",
    "http.ingress.rds.routes.version_text",
    "listener_manager.lds.version",
    "cluster_manager.cds.version",
    "sds.certificate.version",
    "http.ingress.rds.routes.version",
];

/// How many listeners and clusters there are, the state of each cluster, and for how long Envoy ran when it
/// last added up the statistics of its parent.
pub(super) const MANAGERS: &str = r"^(listener_manager\.total_listeners_warming|cluster_manager\.(active|warming)_clusters|cluster\..*\.warming_state|server\.uptime)$";

/// The same and the versions of all resources that are fetched, as numbers.
pub(super) const MANAGERS_AND_VERSIONS: &str = r"^(listener_manager\.total_listeners_warming|cluster_manager\.(active|warming)_clusters|cluster\..*\.warming_state|server\.uptime|.*\.version)$";

/// Names like those have by which clusters are compared.
const CLUSTERS_LIKE: [&str; 3] = [
    "cluster.backend.warming_state",
    "cluster_manager.cluster_removed",
    "server.uptime",
];

/// Names like those have by which a refused certificate is noticed.
const REFUSALS_LIKE: [&str; 3] = [
    "sds.certificate.update_rejected",
    "listener.0.0.0.0_443.server_ssl_socket_factory.ssl_context_update_by_sds",
    "listener.0.0.0.0_443.ssl.certificate.certificate.expiration_unix_time_seconds",
];

/// What listeners that are fetched are called as a whole.
pub(crate) const LISTENERS: &str = "listeners (LDS)";

/// What clusters that are fetched are called as a whole.
pub(crate) const CLUSTERS: &str = "clusters (CDS)";

/// How the words for a secret begin.
const SECRET: &str = "secret ";

/// The end of the name of a version.
const VERSION_TEXT: &str = ".version_text";

/// A statistic that says something about requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestCounter {
    /// Requests that were answered, or connections through a TCP proxy.
    All,
    /// HTTP requests answered with 5xx, or connections of a TCP proxy that found no upstream.
    Failed,
    /// It also counts what is asked of the admin endpoint.
    Mixed,
}

impl RequestCounter {
    /// Returns what a statistic of this name counts, if that has to do with requests of clients.
    pub(crate) fn of(name: &str) -> Option<Self> {
        if gate::has_statistic(name) {
            return None;
        }
        let own = name.strip_prefix("http.admin.");
        if let Some(name) = own.filter(|counter| !counter.contains('.')) {
            // The admin endpoint has no router. Where one has counted, clients have the same prefix.
            return ["rq_total", "rq_direct_response", "rq_redirect", "no_route"]
                .contains(&name)
                .then_some(Self::Mixed);
        }
        let (kind, _) = name.split_once('.')?;
        let (_, counter) = name.rsplit_once('.')?;
        match (kind, counter) {
            ("http", "downstream_rq_completed") | ("tcp", "downstream_cx_total") => Some(Self::All),
            ("http", "downstream_rq_5xx")
            | ("tcp", "downstream_cx_no_route")
            | ("cluster", "upstream_cx_connect_attempts_exceeded") => Some(Self::Failed),
            _ => None,
        }
    }
}

/// How much of the evidence in the statistics a configuration keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Whether all counters of requests are kept.
    pub(crate) requests: bool,
    /// Whether all versions of resources are kept.
    pub(crate) versions: bool,
    /// Whether the states of all clusters are kept.
    pub(crate) clusters: bool,
    /// Whether the refusals of all certificates are kept.
    pub(crate) refusals: bool,
}

impl Kept {
    /// Returns what a probation or a gate does not see, for people, if there is anything.
    pub(crate) fn limits(self) -> Option<String> {
        let requests =
            "the counters of requests, so a probation does not see that more of them fail";
        let versions = "the versions of resources, so a probation does not see that a certificate or \
                        a route has not come, and a new epoch takes over without it";
        let clusters = "the states of clusters, so a probation does not see that a cluster is missing, \
                        and a new epoch takes over without it";
        let refusals = "the refusals of certificates, so a new epoch takes over without a certificate that \
                        Envoy has refused";
        let limits: Vec<&str> = [
            (self.requests, requests),
            (self.versions, versions),
            (self.clusters, clusters),
            (self.refusals, refusals),
        ]
        .into_iter()
        .filter_map(|(kept, limit)| (!kept).then_some(limit))
        .collect();
        (!limits.is_empty()).then(|| format!("stats_matcher leaves out {}", limits.join(", and ")))
    }

    /// Judges by `stats_matcher`. What only Envoy can judge counts as left out.
    pub(crate) fn by(stats: &crate::bootstrap::StatsMatcher) -> Self {
        let all = |names: &[&str]| names.iter().all(|name| stats.keeps(name) == Some(true));
        Self {
            requests: all(&REQUESTS_LIKE),
            versions: all(&VERSIONS_LIKE),
            clusters: all(&CLUSTERS_LIKE),
            refusals: all(&REFUSALS_LIKE),
        }
    }
}

/// What an Envoy fetches, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// What has come.
    pub(crate) received: Vec<String>,
    /// What has not come so far.
    pub(crate) awaited: Vec<String>,
    /// The gauges of listeners and clusters that were ever set.
    pub(crate) gauges: BTreeMap<String, u64>,
    /// The clusters.
    pub(crate) clusters: ClusterStates,
    /// Whether some clusters are fetched when a request needs them. They are neither received nor awaited:
    /// an epoch has none of them before such a request.
    pub(crate) on_demand: bool,
}

impl Fetched {
    /// Returns whether a certificate, or another secret, has come.
    pub(crate) fn has_secrets(&self) -> bool {
        let mut received = self.received.iter();
        received.any(|name| name.starts_with(SECRET))
    }

    /// Returns how many clusters are warming.
    pub(crate) fn warming_clusters(&self) -> u64 {
        let warming = self.gauges.get("cluster_manager.warming_clusters");
        warming.copied().unwrap_or_default()
    }
}

/// Tells what has come by the versions in `texts`. A control plane may leave the version empty, so the
/// `gauges` decide then: the number is unset or 0 until resources have come.
pub(super) fn fetched(texts: &[(String, String)], mut gauges: BTreeMap<String, u64>) -> Fetched {
    let mut fetched = Fetched {
        clusters: ClusterStates::take_from(&mut gauges),
        ..Fetched::default()
    };
    for (name, text) in texts {
        let Some(name) = name.strip_suffix(VERSION_TEXT) else {
            continue;
        };
        if gate::has_statistic(name) {
            continue;
        }
        if name.starts_with("cluster_manager.odcds") {
            fetched.on_demand = true;
            continue;
        }
        let number = gauges.get(&format!("{name}.version"));
        let has_come = !text.is_empty() || number.is_some_and(|number| *number != 0);
        match has_come {
            true => fetched.received.push(subscription(name)),
            false => fetched.awaited.push(subscription(name)),
        }
    }
    fetched.gauges = gauges;
    fetched
}

/// Returns what is fetched, for people, by the name in the statistics.
pub(super) fn subscription(name: &str) -> String {
    let part = |prefix: &str, middle: &str| {
        let rest = name.strip_prefix(prefix)?;
        let (_, resource) = rest.split_once(middle)?;
        Some(resource.to_owned())
    };
    if name == "listener_manager.lds" {
        LISTENERS.to_owned()
    } else if name == "cluster_manager.cds" {
        CLUSTERS.to_owned()
    } else if let Some(secret) = name.strip_prefix("sds.") {
        format!("{SECRET}{secret} (SDS)")
    } else if let Some(routes) = part("http.", ".rds.") {
        format!("routes {routes} (RDS)")
    } else if let Some(routes) = part("http.", ".scoped_rds.") {
        format!("scoped routes {routes} (SRDS)")
    } else if let Some(cluster) = name.strip_prefix("cluster.") {
        format!("endpoints of cluster {cluster} (EDS)")
    } else {
        name.to_owned()
    }
}

/// Reads the texts of a statistics page: lines of the form `name: "text"`. Others are left out: a text
/// may have more than one line.
pub(super) fn texts(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let page = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let texts = page.lines().filter_map(|line| {
        let (name, text) = line.split_once(": ")?;
        let text = text.strip_prefix('"')?;
        let text = text.strip_suffix('"').unwrap_or(text);
        Some((name.to_owned(), text.to_owned()))
    });
    Ok(texts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{Bootstrap, Format};

    #[test]
    fn requests_are_told_from_what_envoy_asks_for_itself() {
        use RequestCounter::{All, Failed, Mixed};
        for (name, counts) in [
            ("http.in.downstream_rq_completed", Some(All)),
            ("http.a.b.downstream_rq_completed", Some(All)),
            ("http.in.downstream_rq_5xx", Some(Failed)),
            ("tcp.in.downstream_cx_total", Some(All)),
            ("tcp.in.downstream_cx_no_route", Some(Failed)),
            (
                "cluster.x.upstream_cx_connect_attempts_exceeded",
                Some(Failed),
            ),
            ("http.admin.downstream_rq_completed", None),
            ("http.admin.downstream_rq_5xx", None),
            ("http.admin.rq_total", Some(Mixed)),
            ("http.admin.x.downstream_rq_completed", Some(All)),
            ("http.in.rq_total", None),
            ("cluster.xds.upstream_cx_connect_fail", None),
            ("listener.x.http.in.downstream_rq_completed", None),
            ("http.handover_gate.downstream_rq_5xx", None),
            (
                "cluster.handover_gate.upstream_cx_connect_attempts_exceeded",
                None,
            ),
            ("http.", None),
            ("", None),
        ] {
            assert_eq!(RequestCounter::of(name), counts, "{name}");
        }
    }

    #[test]
    fn what_has_not_come_is_named_in_the_words_of_its_source() {
        let page = "\
cluster.api.version_text: \"\"
cluster_manager.cds.version_text: \"\"
http.a.b.rds.routes:1.version_text: \"\"
http.a.scoped_rds.s.version_text: \"\"
http.handover_gate.rds.handover_gate.version_text: \"\"
listener_manager.lds.version_text: \"\"
runtime.x.version_text: \"\"
sds.cert.version_text: \"\"
sds.empty.version_text: \"\"
sds.zero.version_text: \"\"
sds.there.version_text: \"7\"
sds.lines.version_text: \"7
8\"
";
        let texts = texts(page.as_bytes()).unwrap();
        assert_eq!(texts.len(), 12);
        let gauges = [("sds.empty.version", 5), ("sds.zero.version", 0)];
        let gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
        let fetched = fetched(&texts, gauges);
        assert_eq!(
            fetched.received,
            [
                "secret empty (SDS)",
                "secret there (SDS)",
                "secret lines (SDS)"
            ]
        );
        assert_eq!(
            fetched.awaited,
            [
                "endpoints of cluster api (EDS)",
                "clusters (CDS)",
                "routes routes:1 (RDS)",
                "scoped routes s (SRDS)",
                "listeners (LDS)",
                "runtime.x",
                "secret cert (SDS)",
                "secret zero (SDS)",
            ]
        );
    }

    #[test]
    fn clusters_on_demand_are_neither_received_nor_awaited() {
        for text in ["", "7"] {
            let texts = [(
                "cluster_manager.odcds.version_text".to_owned(),
                text.to_owned(),
            )];
            let fetched = fetched(&texts, BTreeMap::new());
            let on_demand = Fetched {
                on_demand: true,
                ..Fetched::default()
            };
            assert_eq!(fetched, on_demand, "{text}");
        }
    }

    #[test]
    fn a_matcher_keeps_the_evidence_or_not() {
        let kept = |matcher: &str| {
            let text = format!(
                "{{admin: {{address: {{pipe: {{path: /a}}}}}}, stats_config: {{stats_matcher: {matcher}}}}}"
            );
            let bootstrap = Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap();
            let Kept {
                requests,
                versions,
                clusters,
                refusals,
            } = Kept::by(&bootstrap.stats);
            (requests, versions, clusters, refusals)
        };
        assert_eq!(kept("null"), (true, true, true, true));
        assert_eq!(kept("{reject_all: true}"), (false, false, false, false));
        assert_eq!(
            kept("{exclusion_list: {patterns: [{prefix: http.}]}}"),
            (false, false, true, true)
        );
        assert_eq!(
            kept("{exclusion_list: {patterns: [{suffix: downstream_rq_5xx}]}}"),
            (false, true, true, true)
        );
        assert_eq!(
            kept("{inclusion_list: {patterns: [{contains: version}]}}"),
            (false, true, false, false)
        );
        assert_eq!(
            kept("{inclusion_list: {patterns: [{custom: {}}]}}"),
            (false, false, false, false)
        );
        for left_out in ["warming_state", "cluster_removed", "uptime"] {
            let matcher = format!("{{exclusion_list: {{patterns: [{{suffix: {left_out}}}]}}}}");
            assert_eq!(kept(&matcher), (true, true, false, true), "{left_out}");
        }
        for left_out in ["update_rejected", "by_sds", "unix_time_seconds"] {
            let matcher = format!("{{exclusion_list: {{patterns: [{{suffix: {left_out}}}]}}}}");
            assert_eq!(kept(&matcher), (true, true, true, false), "{left_out}");
        }
    }

    #[test]
    fn what_is_left_out_is_told_with_what_follows() {
        let limits = |requests, versions, clusters| {
            Kept {
                requests,
                versions,
                clusters,
                refusals: true,
            }
            .limits()
        };
        assert_eq!(limits(true, true, true), None);
        let refusals = Kept {
            requests: true,
            versions: true,
            clusters: true,
            refusals: false,
        };
        assert_eq!(
            refusals.limits().unwrap(),
            "stats_matcher leaves out the refusals of certificates, so a new epoch takes over without a \
             certificate that Envoy has refused"
        );
        assert_eq!(
            limits(true, true, false).unwrap(),
            "stats_matcher leaves out the states of clusters, so a probation does not see that a \
             cluster is missing, and a new epoch takes over without it"
        );
        assert_eq!(
            limits(true, false, true).unwrap(),
            "stats_matcher leaves out the versions of resources, so a probation does not see that a \
             certificate or a route has not come, and a new epoch takes over without it"
        );
        assert_eq!(
            limits(false, false, true).unwrap(),
            "stats_matcher leaves out the counters of requests, so a probation does not see that more \
             of them fail, and the versions of resources, so a probation does not see that a \
             certificate or a route has not come, and a new epoch takes over without it"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(
            text in r#"((http|tcp|sds|\.|rds|version_text|: |"|\n|[a-z ]){0,30})"#,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let _named = texts(text.as_bytes()).map(|texts| fetched(&texts, BTreeMap::new()));
            let _counted = RequestCounter::of(&text);
            let _read = texts(&bytes);
        }
    }

    #[test]
    fn secrets_and_clusters_are_told_from_other_resources() {
        let texts = |names: &[&str]| -> Vec<_> {
            let texts = names.iter();
            texts
                .map(|name| (format!("{name}.version_text"), "1".to_owned()))
                .collect()
        };
        let without = fetched(&texts(&["cluster_manager.cds"]), BTreeMap::new());
        assert!(!without.has_secrets());
        assert_eq!(without.clusters, ClusterStates::default());
        let gauges = BTreeMap::from([("cluster.a.warming_state".to_owned(), 1)]);
        let with = fetched(&texts(&["cluster_manager.cds", "sds.a"]), gauges);
        assert!(with.has_secrets());
        assert_eq!(with.clusters.warming, ["a".to_owned()].into());
    }
}
