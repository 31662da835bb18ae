//! When Envoy closes an interval of its statistics, and what that means for a hand-over.
//!
//! A child takes over what its parent has counted since the end of the parent's last interval. An interval ends
//! every five seconds, at a moment that nobody sees. So what a parent has told at its last look may be counted
//! again by the child. With `stats_flush_on_admin`, an interval ends when Envoy is asked for its statistics, and
//! at no other time: then the child takes over just what has come since the last look.

/// When Envoy closes an interval of its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// When it is asked, because Handover sets that.
    WhenAskedByUs,
    /// When it is asked, because the configuration sets that.
    WhenAsked,
    /// In intervals: the configuration sets them, or sends statistics to somebody in them.
    InIntervals,
}

impl Flush {
    /// Reads from a configuration what is set. It looks for the names of the fields as keys, which no other
    /// message of Envoy has.
    pub(crate) fn of(content: &[u8]) -> Self {
        let has = |names: [&str; 2]| {
            let mut lines = content.split(|byte| *byte == b'\n').map(without_comment);
            lines.any(|line| names.iter().any(|name| has_key(line, name.as_bytes())))
        };
        if has(["stats_flush_on_admin", "statsFlushOnAdmin"]) {
            Self::WhenAsked
        } else if has(["stats_flush_interval", "statsFlushInterval"])
            || has(["stats_sinks", "statsSinks"])
        {
            Self::InIntervals
        } else {
            Self::WhenAskedByUs
        }
    }

    /// Returns whether a look at the statistics closes the interval.
    pub(crate) fn is_when_asked(self) -> bool {
        self != Self::InIntervals
    }

    /// Returns what is merged into the configuration, beside what else is.
    pub(crate) fn overlay(self, other: Option<&str>) -> Option<String> {
        if self != Self::WhenAskedByUs {
            return other.map(str::to_owned);
        }
        let own = r#"{"stats_flush_on_admin":true"#;
        Some(match other.and_then(|other| other.strip_prefix('{')) {
            Some(rest) => format!("{own},{rest}"),
            None => format!("{own}}}"),
        })
    }
}

/// A line of YAML without its comment. JSON has none.
fn without_comment(line: &[u8]) -> &[u8] {
    let mut before = b' ';
    let comment = line.iter().position(|byte| {
        let begins = *byte == b'#' && before.is_ascii_whitespace();
        before = *byte;
        begins
    });
    comment.and_then(|at| line.get(..at)).unwrap_or(line)
}

/// Whether the name is followed by a colon, with or without quotes.
fn has_key(line: &[u8], name: &[u8]) -> bool {
    let places = line.windows(name.len()).enumerate();
    let mut places = places.filter(|(_, place)| *place == name);
    places.any(|(at, _)| {
        let after = line
            .get(at.saturating_add(name.len())..)
            .unwrap_or_default();
        let is_whole = at
            .checked_sub(1)
            .and_then(|at| line.get(at))
            .is_none_or(|before| {
                !before.is_ascii_alphanumeric() && *before != b'_' && *before != b'.'
            });
        let after = match after.first() {
            Some(b'"' | b'\'') => after.get(1..).unwrap_or_default(),
            _ => after,
        };
        is_whole && after.trim_ascii_start().first() == Some(&b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_says_is_left_as_it_is() {
        for (content, flush) in [
            ("admin: {}", Flush::WhenAskedByUs),
            ("stats_flush_on_admin: true", Flush::WhenAsked),
            ("{\"statsFlushOnAdmin\": true}", Flush::WhenAsked),
            ("stats_flush_interval: 1s", Flush::InIntervals),
            ("{\"statsFlushInterval\": \"1s\"}", Flush::InIntervals),
            ("stats_sinks: [{name: a}]", Flush::InIntervals),
            ("{\"statsSinks\": []}", Flush::InIntervals),
            ("admin: {}\n'stats_sinks' : []", Flush::InIntervals),
            ("{admin: {}, stats_flush_interval: 1s}", Flush::InIntervals),
            // Neither a comment nor a value sets anything.
            ("# stats_flush_interval: 1s", Flush::WhenAskedByUs),
            ("admin: {} # stats_sinks: []", Flush::WhenAskedByUs),
            ("- name: stats_sinks", Flush::WhenAskedByUs),
            ("my_stats_sinks: 1", Flush::WhenAskedByUs),
        ] {
            assert_eq!(Flush::of(content.as_bytes()), flush, "{content}");
        }
    }

    #[test]
    fn it_is_merged_beside_the_gate() {
        let gate = crate::gate::overlay("/run/gate.sock".as_ref());
        let both = Flush::WhenAskedByUs.overlay(gate.as_deref()).unwrap();
        let both: serde_json::Value = serde_json::from_str(&both).unwrap();
        assert_eq!(both["stats_flush_on_admin"], true);
        assert!(both["static_resources"]["listeners"].is_array());
        let alone = Flush::WhenAskedByUs.overlay(None);
        assert_eq!(alone.as_deref(), Some(r#"{"stats_flush_on_admin":true}"#));
        for left in [Flush::WhenAsked, Flush::InIntervals] {
            assert_eq!(left.overlay(gate.as_deref()), gate);
            assert_eq!(left.overlay(None), None);
        }
    }
}
