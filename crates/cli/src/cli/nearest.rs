//! The name that was probably meant.

/// How alike two names are from which one is taken for the other, between 0 and 1. Two letters that changed
/// their places in a short name are above it, and names that only share a word are below.
const ALIKE: f64 = 0.8;

/// Returns the name that is most like this word, if one is alike at all.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&word, name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}
