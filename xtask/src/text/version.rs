//! Comparing compiler versions as manifests write them.

use std::cmp::Ordering;

/// `major.minor[.patch]`; a missing part is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version([u64; 3]);

impl Version {
    /// Reads a version, or says with `None` that it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = [0; 3];
        let mut slots = parts.iter_mut();
        for word in text.split('.') {
            *slots.next()? = word.parse().ok()?;
        }
        Some(Self(parts))
    }
}

/// Whether `needed` is newer than `ours`.
pub(crate) fn newer(needed: Version, ours: Version) -> bool {
    needed.cmp(&ours) == Ordering::Greater
}

/// Whether `text` has `version` standing by itself: not as a part of a longer number.
pub(crate) fn mentions(text: &str, version: &str) -> bool {
    text.match_indices(version).any(|(at, found)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        let after = text
            .get(at + found.len()..)
            .and_then(|tail| tail.chars().next());
        !before.is_some_and(|c| c.is_ascii_digit() || c == '.')
            && !after.is_some_and(|c| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn parts_compare_as_numbers() {
        assert!(newer(version("1.100"), version("1.42")));
        assert!(newer(version("1.42.1"), version("1.42")));
        assert!(!newer(version("1.42.0"), version("1.42")));
        assert!(!newer(version("1.41.9"), version("1.42")));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "1.x", "1..2", "stable", "1.2.3.4", "1.85-nightly"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_longer_number_is_no_mention() {
        assert!(mentions("needs Rust 1.42 or newer", "1.42"));
        assert!(mentions("toolchain: 1.42.0", "1.42"));
        assert!(!mentions("in 11.42 ms", "1.42"));
        assert!(!mentions("at 1.423", "1.42"));
        assert!(!mentions("version 0.1.42", "1.42"));
    }
}
