//! Texts that are matched: paths of the admin endpoint, and names of statistics.

use regex_lite::Regex;
use serde_json::Value;

use super::{ConfigError, each, text};

/// A `StringMatcher`.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl Pattern {
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let given = |field| value.get(field).is_some().then(|| text(value, field));
        let regex = value.get("safe_regex").map(|regex| text(regex, "regex"));
        if let Some(regex) = regex {
            // Envoy matches the whole text.
            let whole = Regex::new(&format!("^(?:{regex})$"));
            return whole
                .map(Self::Regex)
                .map_err(|error| ConfigError(format!("Invalid regex '{regex}': {error}")));
        }
        let plain = [
            given("exact").map(Self::Exact),
            given("prefix").map(Self::Prefix),
            given("suffix").map(Self::Suffix),
            given("contains").map(Self::Contains),
        ];
        plain.into_iter().flatten().next().ok_or_else(|| {
            ConfigError(
                "Proto constraint validation failed (StringMatcherValidationError.MatchPattern: value is \
                 required)"
                    .to_owned(),
            )
        })
    }

    /// Returns whether a text is meant.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Which statistics exist.
#[derive(Clone, Debug, Default)]
pub(crate) enum StatsMatcher {
    #[default]
    All,
    None,
    Only(Vec<Pattern>),
    AllBut(Vec<Pattern>),
}

impl StatsMatcher {
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let list = |list: &Value| {
            each(list, "patterns")
                .map(Pattern::read)
                .collect::<Result<_, _>>()
        };
        if value.get("reject_all").and_then(Value::as_bool) == Some(true) {
            return Ok(Self::None);
        }
        if let Some(inclusion) = value.get("inclusion_list") {
            return list(inclusion).map(Self::Only);
        }
        match value.get("exclusion_list") {
            Some(exclusion) => list(exclusion).map(Self::AllBut),
            None => Ok(Self::All),
        }
    }

    /// Returns whether a statistic exists.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
            Self::AllBut(patterns) => !patterns.iter().any(|pattern| pattern.matches(name)),
        }
    }
}
