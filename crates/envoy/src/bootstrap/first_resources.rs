//! Lets an Envoy wait for its first resources for as long as they take.
//!
//! Envoy waits `initial_fetch_timeout` (15 s unless set) for each kind of resource that it fetches,
//! then goes on without: it is live with no listener, or with one that resets every handshake. An
//! epoch that replaces another one does better to go on initialising, because the other one serves
//! meanwhile. With a timeout of 0 it does.
//!
//! The text is changed at the places where that matters, and nowhere else: comments, order, anchors
//! and spelling stay as they are. Then the result is read again and compared with the original.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;

use granit_parser::Event;
use serde::de::IgnoredAny;

use super::events::{Events, Problem};
use super::{BootstrapError, Format};

mod find;

use find::{Edit, Kind};

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Why the timeouts of a configuration are left as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirstResourcesError {
    /// The configuration is not read, and so not changed either.
    #[error("the configuration cannot be read")]
    Unreadable(#[source] BootstrapError),
    /// A source is written in a way in which its timeout cannot be set.
    #[error("initial_fetch_timeout cannot be set at line {line}, column {column}: {what}")]
    Shape {
        /// What stands in the way.
        what: &'static str,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// Something else would be changed as well.
    #[error("setting initial_fetch_timeout would change something else in the configuration")]
    Changed,
}

impl From<Problem> for FirstResourcesError {
    fn from(problem: Problem) -> Self {
        Self::Unreadable(problem.into())
    }
}

/// Returns the configuration with `initial_fetch_timeout: 0s` in each of its configuration sources,
/// and otherwise byte for byte as it was.
///
/// A configuration source is a mapping that has a specifier (`ads`, `self`, `path`,
/// `path_config_source`, `api_config_source`), holds fields of a `ConfigSource` only, and stands
/// where Envoy fetches resources from: `lds_config`, `cds_config`, `eds_config`, `sds_config`,
/// `config_source` and their like, in either spelling. What is free for users to fill (metadata, a
/// `google.protobuf.Struct`) is left alone.
///
/// Certificates by `ads` keep their timeout if the configuration also fetches listeners or clusters. A
/// fetched listener may name the same certificate, and Envoy has one subscription for both only as long as
/// both sources are written alike. The second subscription would get nothing.
///
/// It blocks for as long as reading the configuration several times takes, so call it where that
/// does no harm. It stops soon after another thread has set `cancelled`.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use handover_envoy::bootstrap::{Format, wait_for_first_resources};
///
/// let text = "dynamic_resources:\n  lds_config:\n    ads: {} # from the mesh\n";
/// let never = AtomicBool::new(false);
/// let waits = wait_for_first_resources(text.as_bytes(), Format::Yaml, &never)?;
/// assert_eq!(
///     std::str::from_utf8(&waits)?,
///     "dynamic_resources:\n  lds_config:\n    initial_fetch_timeout: \"0s\"\n    ads: {} # from the mesh\n"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`FirstResourcesError`] where the text cannot be changed without doubt. The caller may go on with
/// the original, which waits as long as it says.
pub fn wait_for_first_resources<'a>(
    content: &'a [u8],
    format: Format,
    cancelled: &AtomicBool,
) -> Result<Cow<'a, [u8]>, FirstResourcesError> {
    if format == Format::Protobuf {
        return Err(FirstResourcesError::Unreadable(BootstrapError::Protobuf));
    }
    let text = std::str::from_utf8(content)
        .map_err(|error| FirstResourcesError::Unreadable(BootstrapError::NotText(error)))?;
    let (mark, text) = match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (BYTE_ORDER_MARK, rest),
        None => ("", text),
    };
    let edits = find::edits(text, cancelled)?;
    if edits.is_empty() {
        return Ok(Cow::Borrowed(content));
    }
    let changed = apply(mark, text, &edits).ok_or(FirstResourcesError::Changed)?;
    let result = changed.get(mark.len()..).unwrap_or_default();
    if !differs_only_in(&edits, text, result, cancelled)?
        || (format == Format::Json && serde_json::from_str::<IgnoredAny>(result).is_err())
    {
        return Err(FirstResourcesError::Changed);
    }
    Ok(Cow::Owned(changed.into_bytes()))
}

/// The text with the edits, or `None` where one is out of place.
fn apply(mark: &str, text: &str, edits: &[Edit]) -> Option<String> {
    let more: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut result = String::with_capacity(mark.len() + text.len() + more);
    result.push_str(mark);
    let mut done = 0;
    for edit in edits {
        result.push_str(text.get(done..edit.at.start)?);
        result.push_str(&edit.text);
        done = edit.at.end;
    }
    result.push_str(text.get(done..)?);
    Some(result)
}

/// Whether both texts have the same events, but for what the edits are about.
fn differs_only_in(
    edits: &[Edit],
    original: &str,
    result: &str,
    cancelled: &AtomicBool,
) -> Result<bool, Problem> {
    let mut before = Events::new(original, cancelled);
    let mut after = Events::new(result, cancelled);
    let mut edits = edits.iter().peekable();
    let scalar = |event: Option<&Event<'_>>, expected: &str| {
        event
            .and_then(Event::scalar)
            .is_some_and(|(text, _)| text == expected)
    };
    for index in 0.. {
        let old = before.next()?.map(|(event, _)| event);
        // A fault of the result is none of the document's.
        let mut next = || match after.next() {
            Ok(next) => Ok(next.map(|(event, _)| event)),
            Err(Problem::Cancelled) => Err(Problem::Cancelled),
            Err(Problem::Wrong { .. }) => Ok(None),
        };
        let new = next()?;
        let edit = edits.next_if(|edit| edit.index == index);
        let same = match edit.map(|edit| edit.kind) {
            None => old == new,
            Some(Kind::Insert) => {
                old == new
                    && scalar(next()?.as_ref(), find::TIMEOUT)
                    && scalar(next()?.as_ref(), find::FOREVER)
            }
            Some(Kind::Replace) => {
                let anchor = |event: &Option<Event<'_>>| event.as_ref().and_then(Event::anchor_id);
                let alias = old.as_ref().is_some_and(Event::is_alias);
                scalar(new.as_ref(), find::FOREVER) && (alias || anchor(&old) == anchor(&new))
            }
        };
        if !same {
            return Ok(false);
        }
        if old.is_none() {
            break;
        }
    }
    Ok(edits.next().is_none())
}

#[cfg(test)]
mod tests;
