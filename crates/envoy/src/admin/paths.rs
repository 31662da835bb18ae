//! Which paths of the admin endpoint Handover asks for: a configuration may refuse some
//! (`admin.allow_paths`).

use super::client::{percent_encoded, stats_query};
use super::{certificates, evidence, listeners, stats};
use crate::bootstrap::AdminPaths;

/// The path without which an epoch cannot be seen live.
const NEEDED: &str = "/server_info";

/// The others, each with what is done otherwise where it is refused.
const USED: [(&str, &str); 9] = [
    (
        "/healthcheck/fail",
        "a stop does not make health checks fail and counts connections from outside, and \
         `handover drain` is refused",
    ),
    ("/healthcheck/ok", "`handover undrain` is refused"),
    (
        "/drain_listeners",
        "a stop keeps new connections away from outside and counts the open ones there",
    ),
    (
        "/stats",
        "a stop counts connections from outside, a probation sees neither failed requests nor resources \
         that have not come nor clusters that are missing, and a new epoch takes over without the routes, \
         certificates and clusters that the control plane has not sent",
    ),
    (
        "/listeners",
        "a probation does not see that an epoch lacks listeners, and a new epoch takes over without those \
         that the control plane has not sent",
    ),
    (
        "/init_dump",
        "a late start is explained without what the epoch waits for, and a probation does not see \
         that a listener is warming",
    ),
    (
        "/config_dump",
        "a missing listener is reported without Envoy's reason, and a new epoch takes over without a \
         certificate that Envoy has refused",
    ),
    (
        "/certs",
        "a new epoch takes over without a certificate that Envoy has refused",
    ),
    (
        "/ready",
        "`handover drain` and `handover undrain` are refused",
    ),
];

/// What a configuration refuses of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Whether the path is refused without which nothing can be run.
    pub(crate) needed: Option<&'static str>,
    /// The others.
    used: Vec<(&'static str, &'static str)>,
}

impl Refused {
    /// Judges by the list of a configuration. What only Envoy can judge counts as allowed.
    pub(crate) fn by(paths: &AdminPaths) -> Self {
        let refuses = |path: &str| {
            // Envoy compares the path together with its query.
            let query = |query: String| format!("{path}{query}");
            let asked = match path {
                "/stats" => vec![
                    query(format!("?filter={}", percent_encoded(stats::ACTIVE))),
                    query(stats_query("Counters", true, evidence::REQUESTS)),
                    query(stats_query("TextReadouts", false, evidence::VERSIONS)),
                    query(stats_query("Gauges", true, evidence::MANAGERS)),
                    query(stats_query("Gauges", true, evidence::MANAGERS_AND_VERSIONS)),
                    query(stats_query("Counters", true, certificates::COUNTERS)),
                    query(stats_query("Gauges", true, certificates::TRIED)),
                ],
                "/config_dump" => vec![
                    query(listeners::REFUSED.to_owned()),
                    query(certificates::SECRETS.to_owned()),
                ],
                "/listeners" => vec![query("?format=json".to_owned())],
                _ => vec![path.to_owned()],
            };
            let mut asked = asked.iter();
            asked.any(|asked| paths.allows(asked) == Some(false))
        };
        Self {
            needed: refuses(NEEDED).then_some(NEEDED),
            used: USED.into_iter().filter(|(path, _)| refuses(path)).collect(),
        }
    }

    /// Returns what is done otherwise because of paths that are refused, for people.
    pub(crate) fn otherwise(&self) -> Option<String> {
        let each = self.used.iter();
        let each: Vec<_> = each
            .map(|(path, otherwise)| format!("without {path} {otherwise}"))
            .collect();
        (!each.is_empty()).then(|| {
            format!(
                "admin.allow_paths refuses paths that Handover asks for: {}",
                each.join("; ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{Bootstrap, Format};

    fn refused(list: &str) -> Refused {
        let text = format!("admin: {{allow_paths: {list}, address: {{pipe: {{path: /a}}}}}}");
        let bootstrap = Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap();
        Refused::by(&bootstrap.admin_paths)
    }

    #[test]
    fn what_is_needed_is_told_from_what_makes_a_drain_worse() {
        assert_eq!(refused("[]"), Refused::default());
        assert_eq!(refused("[{prefix: /}]").otherwise(), None);
        assert_eq!(
            refused("[{safe_regex: {regex: '/.*'}}]"),
            Refused::default()
        );
        let drains_worse = refused(
            "[{exact: /server_info}, {prefix: /healthcheck}, {prefix: /dr}, {prefix: /listeners}, {prefix: /c}]",
        );
        assert_eq!(drains_worse.needed, None);
        assert_eq!(
            drains_worse.otherwise().unwrap(),
            "admin.allow_paths refuses paths that Handover asks for: without /stats a stop counts \
             connections from outside, a probation sees neither failed requests nor resources that have \
             not come nor clusters that are missing, and a new epoch takes over without the routes, \
             certificates and clusters that the control plane has not sent; without /init_dump a late start is explained without what the epoch waits \
             for, and a probation does not see that a listener is warming; without /ready `handover \
             drain` and `handover undrain` are refused"
        );
        let without_c = refused("[{safe_regex: {regex: '/[^c].*'}}, {exact: /config_dump}]");
        assert_eq!(
            without_c.otherwise().unwrap(),
            "admin.allow_paths refuses paths that Handover asks for: without /config_dump a missing listener is \
             reported without Envoy's reason, and a new epoch takes over without a certificate that Envoy has \
             refused; without /certs a new epoch takes over without a certificate that Envoy has refused"
        );
        assert_eq!(refused("[{prefix: /stats}]").needed, Some("/server_info"));
        // An exact path allows no query.
        let without_query =
            refused("[{safe_regex: {regex: '/[^s].*'}}, {prefix: /se}, {exact: /stats}]");
        assert_eq!(without_query.needed, None);
        assert!(
            without_query
                .otherwise()
                .unwrap()
                .contains("without /stats")
        );
        assert_eq!(refused("[{custom: {}}]"), Refused::default());
        let without_query = refused("[{safe_regex: {regex: '/[^l].*'}}, {exact: /listeners}]");
        assert_eq!(
            without_query.otherwise().unwrap(),
            "admin.allow_paths refuses paths that Handover asks for: without /listeners a probation \
             does not see that an epoch lacks listeners, and a new epoch takes over without those that \
             the control plane has not sent"
        );
    }
}
