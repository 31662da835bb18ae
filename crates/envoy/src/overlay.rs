//! Merges overlays over a configuration, so that a file of somebody else stays as it is.
//!
//! Envoy merges its `--config-yaml` over its `-c`, and these rules give the same result:
//!
//! | the overlay has | what it is merged over has | result |
//! | --- | --- | --- |
//! | a mapping | a mapping | merged, field by field |
//! | a list | a list | the entries of the overlay come after the others |
//! | a scalar | a scalar | that of the overlay |
//! | anything | nothing, or null | that of the overlay |
//! | a mapping with `@type` | a mapping | that of the overlay: a typed configuration is one value |
//! | null | anything | nothing: the field is removed |
//! | anything else | another kind | an error that names the field |
//!
//! There are four differences. Envoy cannot remove a field, so it cannot replace a list. Of the members
//! of a `oneof` it keeps the one that was set last, which is not known here: null removes the other.
//! Envoy passes over `0`, `false` and `""` for most fields, because
//! Protobuf does not tell them from a field that is absent; here they count, also as a part of a time. And a value of a map, such as
//! `metadata`, is merged in depth, while Envoy replaces it.
//!
//! A field is the same in both spellings, `static_resources` and `staticResources`, except within
//! `metadata` and its like, whose keys are the user's own.
//!
//! The result is YAML, without comments and aliases. A tag (`!!str`) is refused, since it would be lost.

mod document;
mod merge;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::bootstrap::{BootstrapError, Format, MAX_BYTES};

pub use self::document::MAX_MERGED_NODES;

/// A text that takes part in a merge.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    path: &'a Path,
    content: &'a [u8],
    format: Format,
}

impl<'a> Layer<'a> {
    /// Makes a layer of this text. `path` is the file that errors name.
    #[must_use]
    pub fn new(path: &'a Path, content: &'a [u8], format: Format) -> Self {
        Self {
            path,
            content,
            format,
        }
    }
}

/// Without the text, which may hold secrets.
impl std::fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer")
            .field("path", &self.path)
            .field("bytes", &self.content.len())
            .field("format", &self.format)
            .finish()
    }
}

/// Why files cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// An overlay cannot be read.
    #[error("cannot read the overlay {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// An overlay has nothing in it. It may be written at this moment.
    #[error(
        "the overlay {} is empty: write {{}} into it if nothing is to be merged", path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what can be merged.
    #[error("cannot merge {}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BootstrapError,
    },
    /// A field is of another kind than the one that it would be merged over.
    #[error(
        "cannot merge the overlay {}: {field} at line {line}, column {column} is {found}, and is merged over \
         {expected}: write {expected} there, or remove the field with null in an overlay before", path.display()
    )]
    Kind {
        /// The overlay.
        path: PathBuf,
        /// The field, with dots between its names.
        field: String,
        /// Its line in the overlay, from 1.
        line: usize,
        /// Its column in the overlay, from 1.
        column: usize,
        /// What the overlay has there.
        found: &'static str,
        /// What it would be merged over.
        expected: &'static str,
    },
    /// The result is larger than a configuration may be.
    #[error("{} with its overlays is larger than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file under the overlays.
        path: PathBuf,
    },
}

/// Returns the configuration with the overlays merged over it, one after the other, as YAML.
///
/// It takes as long as reading all of them does, and needs memory for all of them: some hundred bytes for
/// each node. It stops soon after another thread has set `cancelled`.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use handover_envoy::bootstrap::Format;
/// use handover_envoy::overlay::{Layer, merge};
///
/// let vendor = Layer::new("/etc/envoy.yaml".as_ref(), b"node: {id: a, cluster: c}", Format::Yaml);
/// let ours = Layer::new("/etc/ours.json".as_ref(), br#"{"node": {"id": "b"}}"#, Format::Json);
/// let merged = merge(vendor, &[ours], &AtomicBool::new(false))?;
/// assert_eq!(std::str::from_utf8(&merged)?, "node:\n  id: \"b\"\n  cluster: c\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`OverlayError`] names the file, and the field or its line.
pub fn merge(
    base: Layer<'_>,
    overlays: &[Layer<'_>],
    cancelled: &AtomicBool,
) -> Result<Vec<u8>, OverlayError> {
    let mut merged = document::read(&base, cancelled).map_err(|source| OverlayError::Unusable {
        path: base.path.to_owned(),
        source,
    })?;
    for overlay in overlays {
        let path = || overlay.path.to_owned();
        let document = document::read(overlay, cancelled).map_err(|source| {
            if matches!(source, BootstrapError::Empty) {
                return OverlayError::Empty { path: path() };
            }
            OverlayError::Unusable {
                path: path(),
                source,
            }
        })?;
        merge::over(&mut merged, &document).map_err(|mismatch| OverlayError::Kind {
            path: path(),
            field: mismatch.field,
            line: mismatch.at.0,
            column: mismatch.at.1,
            found: mismatch.found,
            expected: mismatch.expected,
        })?;
    }
    write::text(&merged, MAX_BYTES).ok_or_else(|| OverlayError::TooLarge {
        path: base.path.to_owned(),
    })
}

#[cfg(test)]
mod tests;
