//! Which paths the admin endpoint answers.

/// The paths that the admin endpoint answers: `admin.allow_paths`.
///
/// Envoy answers every other path with 403. A configuration without the list allows every path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminPaths(Vec<PathMatcher>);

/// One entry of `admin.allow_paths`, or one pattern of a [`StatsMatcher`](super::StatsMatcher): a
/// `StringMatcher` of Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathMatcher {
    /// What the path is compared with.
    pub pattern: PathPattern,
    /// Whether upper and lower case are the same (ASCII).
    pub ignore_case: bool,
}

/// What a path is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathPattern {
    /// The whole path.
    Exact(String),
    /// The beginning of the path.
    Prefix(String),
    /// The end of the path.
    Suffix(String),
    /// Any part of the path.
    Contains(String),
    /// A regular expression for the whole path, in the syntax of RE2.
    Regex(String),
    /// A matcher that this crate does not know.
    Unknown,
}

impl AdminPaths {
    pub(super) fn new(matchers: Vec<PathMatcher>) -> Self {
        Self(matchers)
    }

    /// Returns the entries of the list, in the order of the configuration. An empty list allows
    /// every path.
    #[must_use]
    pub fn matchers(&self) -> &[PathMatcher] {
        &self.0
    }

    /// Tells whether the admin endpoint answers this path, such as `/server_info`.
    ///
    /// `None` where only an unknown matcher, or a regular expression in a syntax that RE2 alone knows,
    /// could allow the path: then nobody but Envoy knows.
    ///
    /// ```
    /// use handover_envoy::bootstrap::{Bootstrap, Format};
    ///
    /// let bootstrap = Bootstrap::parse(
    ///     b"
    /// admin:
    ///   allow_paths: [{exact: /ready}, {prefix: /stats}]
    ///   address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
    /// ",
    ///     Format::Yaml,
    /// )?;
    /// assert_eq!(bootstrap.admin_paths.allows("/stats/prometheus"), Some(true));
    /// assert_eq!(bootstrap.admin_paths.allows("/server_info"), Some(false));
    /// # Ok::<(), handover_envoy::bootstrap::BootstrapError>(())
    /// ```
    #[must_use]
    pub fn allows(&self, path: &str) -> Option<bool> {
        if self.0.is_empty() {
            return Some(true);
        }
        let mut verdict = Some(false);
        for matcher in &self.0 {
            match matcher.matches(path) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => verdict = None,
            }
        }
        verdict
    }
}

impl PathMatcher {
    /// Compares a path, or returns `None` where the pattern is unknown.
    pub(super) fn matches(&self, path: &str) -> Option<bool> {
        let folded = |text: &str| {
            if self.ignore_case {
                text.to_ascii_lowercase()
            } else {
                text.to_owned()
            }
        };
        // Envoy lets `ignore_case` be where the pattern is a regular expression.
        if let PathPattern::Regex(regex) = &self.pattern {
            let whole = format!("^(?:{regex})$");
            return Some(regex_lite::Regex::new(&whole).ok()?.is_match(path));
        }
        let path = folded(path);
        match &self.pattern {
            PathPattern::Exact(exact) => Some(path == folded(exact)),
            PathPattern::Prefix(prefix) => Some(path.starts_with(&folded(prefix))),
            PathPattern::Suffix(suffix) => Some(path.ends_with(&folded(suffix))),
            PathPattern::Contains(part) => Some(path.contains(&folded(part))),
            PathPattern::Regex(_) | PathPattern::Unknown => None,
        }
    }
}
