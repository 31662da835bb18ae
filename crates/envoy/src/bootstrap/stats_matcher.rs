//! Which statistics an Envoy keeps.

use super::{PathMatcher, path_matcher, shape};
use crate::admin::Kept;

/// Which statistics Envoy keeps: `stats_config.stats_matcher`.
///
/// Envoy never makes a statistic that is left out, so nobody can ask for it. A configuration without
/// a matcher keeps all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatsMatcher {
    /// Every statistic is kept.
    #[default]
    All,
    /// No statistic is kept (`reject_all`).
    None,
    /// The statistics that one of these matches are left out (`exclusion_list`).
    Except(Vec<PathMatcher>),
    /// Only the statistics that one of these matches are kept (`inclusion_list`).
    Only(Vec<PathMatcher>),
}

impl StatsMatcher {
    pub(super) fn of(config: shape::StatsConfig) -> Self {
        let matcher = config.stats_matcher.unwrap_or_default();
        let patterns = |list: shape::ListMatcher| {
            let patterns = list.patterns.unwrap_or_default().into_iter();
            patterns
                .map(|pattern| path_matcher(pattern.unwrap_or_default()))
                .collect()
        };
        if let Some(shape::Flag(rejects)) = matcher.reject_all {
            return if rejects { Self::None } else { Self::All };
        }
        let except = matcher.exclusion_list.map(patterns).map(Self::Except);
        except
            .or_else(|| matcher.inclusion_list.map(patterns).map(Self::Only))
            .unwrap_or_default()
    }

    /// Returns what Handover does not see of an epoch on probation, because statistics are left out: a
    /// sentence for people. What only Envoy can judge counts as left out.
    #[must_use]
    pub fn hidden_evidence(&self) -> Option<String> {
        Kept::by(self).limits()
    }

    /// Returns whether Envoy keeps the statistic of this name, or `None` where only Envoy knows.
    ///
    /// ```
    /// use handover_envoy::bootstrap::{Bootstrap, Format};
    ///
    /// let bootstrap = Bootstrap::parse(
    ///     b"
    /// admin: {address: {pipe: {path: /run/admin.sock}}}
    /// stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: cluster.}]}}}
    /// ",
    ///     Format::Yaml,
    /// )?;
    /// let gauge = "listener.0.0.0.0_8080.downstream_cx_active";
    /// assert_eq!(bootstrap.stats.keeps(gauge), Some(false));
    /// # Ok::<(), handover_envoy::bootstrap::BootstrapError>(())
    /// ```
    #[must_use]
    pub fn keeps(&self, name: &str) -> Option<bool> {
        match self {
            Self::All => Some(true),
            Self::None => Some(false),
            Self::Except(patterns) => any_matches(patterns, name).map(|matched| !matched),
            Self::Only(patterns) => any_matches(patterns, name),
        }
    }
}

fn any_matches(patterns: &[PathMatcher], name: &str) -> Option<bool> {
    let mut verdict = Some(false);
    for pattern in patterns {
        match pattern.matches(name) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => verdict = None,
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use crate::bootstrap::{Bootstrap, Format};

    const GAUGE: &str = "listener.0.0.0.0_80.downstream_cx_active";

    fn keeps(matcher: &str) -> Option<bool> {
        let text = format!(
            "{{\"admin\": {{\"address\": {{\"pipe\": {{\"path\": \"/a\"}}}}}}, \
              \"stats_config\": {{\"stats_matcher\": {matcher}}}}}"
        );
        let verdicts = [Format::Json, Format::Yaml].map(|format| {
            let bootstrap = Bootstrap::parse(text.as_bytes(), format).unwrap();
            bootstrap.stats.keeps(GAUGE)
        });
        assert_eq!(verdicts[0], verdicts[1], "{matcher}");
        verdicts[0]
    }

    #[test]
    fn a_gauge_is_kept_unless_the_matcher_leaves_it_out() {
        for (matcher, kept) in [
            ("null", Some(true)),
            ("{}", Some(true)),
            (r#"{"reject_all": false}"#, Some(true)),
            (r#"{"rejectAll": "true"}"#, Some(false)),
            (
                r#"{"exclusion_list": {"patterns": [{"prefix": "listener."}]}}"#,
                Some(false),
            ),
            (
                r#"{"exclusionList": {"patterns": [{"prefix": "cluster."}]}}"#,
                Some(true),
            ),
            (
                r#"{"inclusion_list": {"patterns": [{"suffix": "_active"}]}}"#,
                Some(true),
            ),
            (r#"{"inclusion_list": {"patterns": []}}"#, Some(false)),
            (
                r#"{"inclusionList": {"patterns": [{"safe_regex": {"regex": "server\\..*"}}]}}"#,
                Some(false),
            ),
            (
                r#"{"inclusion_list": {"patterns": [{"custom": {}}]}}"#,
                None,
            ),
        ] {
            assert_eq!(keeps(matcher), kept, "{matcher}");
        }
    }

    #[test]
    fn what_handover_does_not_see_is_named() {
        use super::StatsMatcher;

        assert_eq!(StatsMatcher::All.hidden_evidence(), None);
        let hidden = StatsMatcher::None.hidden_evidence().unwrap();
        assert!(hidden.starts_with("stats_matcher leaves out "), "{hidden}");
    }
}
